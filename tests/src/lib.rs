//! The harness of the end-to-end cases: it drives the `drydock` binary as a process, against real
//! servers on loopback, and looks at what comes out with code of its own.
//!
//! Nothing here shares code with what it tests but [`oci`]'s plain types: an image is read by
//! [`image_view`], not by the crates that wrote it.

pub mod base_image;
pub mod binary;
pub mod context;
pub mod disk;
pub mod drydock;
pub mod faults;
pub mod git_server;
pub mod host;
pub mod http;
pub mod http_server;
pub mod image_view;
pub mod lan;
pub mod person;
pub mod program;
pub mod progress;
pub mod proxy;
pub mod random;
pub mod registry_server;
pub mod skip;
pub mod temp;
pub mod token_server;
pub mod tree;
