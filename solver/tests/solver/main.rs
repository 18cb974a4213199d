//! The solver as its users see it, with a worker and a store that live in memory.

mod fake;
mod joining;
mod lost;
mod order;
mod random;
mod resting;
mod sharing;
mod stopping;
