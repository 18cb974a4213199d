//! The command line of Drydock: the only place that prints, reads the environment and exits.
//!
//! [`main`] does everything; the modules are pure where they can be: arguments to a request,
//! events to views, errors to text.

pub mod agents;
pub mod args;
pub mod client;
pub mod commands;
pub mod console;
pub mod contexts;
pub mod environment;
pub mod errors;
pub mod listing;
pub mod masks;
pub mod open_files;
pub mod outputs;
pub mod progress;
pub mod proxies;
pub mod records;
pub mod request;
pub mod rootless;
pub mod secrets;
pub mod settings;
pub mod signals;
pub mod table;
pub mod version;
