//! (under construction)

pub mod http;
pub mod proxy;
pub mod registry_server;
pub mod token_server;
