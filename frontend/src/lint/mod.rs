//! The checks: what is doubtful in a Dockerfile that builds.
//!
//! The rules are BuildKit's (`frontend/dockerfile/linter`): their names, when they speak, and the
//! words that people search for. They are called where the facts are: by the grammar, by the plan
//! and by the lowering of instructions. A [`Setting`] decides afterwards which of the warnings
//! are told.

pub(crate) mod from;
pub(crate) mod ignored;
pub(crate) mod name;
pub(crate) mod note;
mod rule;
pub(crate) mod setting;
pub(crate) mod stage;
pub(crate) mod warning;

pub use rule::{RULES, Rule, rule};
pub(crate) use setting::Setting;
