//! Errors as people read them.

pub mod chain;
pub mod diagnostic;
pub mod excerpt;
pub mod hints;
pub mod recap;

pub use recap::Place;
