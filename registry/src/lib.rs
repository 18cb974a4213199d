//! The registry client: resolve, fetch and push images over the OCI distribution protocol; and
//! files behind any other URL ([`Client::download`]).
//!
//! A [`Client`] is shared by all threads of a build. It knows where registries are (plain HTTP for
//! loopback, HTTPS for everything else), how to answer their challenges (basic, bearer tokens,
//! credential helpers), and when to try again. Bytes stream into a [`BlobSink`] and are digested
//! and counted as they pass: what the client calls fetched is what the descriptor describes.
//!
//! What it does not do: it stores nothing, reads no environment variable, and picks no platform;
//! paths reach it only as certificate files and as the directory of `config.json`.
//!
//! ```no_run
//! use registry::{Client, ClientConfig};
//! let client = Client::new(ClientConfig::default());
//! let reference = "busybox:latest".parse().unwrap();
//! let manifest = client.resolve(&reference)?;
//! println!("{} is {}", reference, manifest.descriptor.digest);
//! # Ok::<(), registry::RegistryError>(())
//! ```
//!
//! Source of the protocol: OCI distribution-spec, and the token documents of the `distribution`
//! project (docs/spec/auth).

mod auth;
mod challenge;
mod client;
mod config;
mod credentials;
mod date;
mod download;
mod endpoint;
mod error;
mod fetch;
mod filename;
mod insecure;
mod limiter;
mod manifest;
mod pace;
mod progress;
mod proxy;
mod push;
mod retry;
mod scope;
mod token;
mod transport;
mod url;

pub use client::Client;
pub use config::{ClientConfig, Timeouts, TrustRoots};
pub use credentials::{Credential, Credentials};
pub use download::{Download, Get, RemoteFile, authority, masked};
pub use error::{Answer, ApiError, ErrorKind, Operation, RegistryError};
pub use manifest::Fetched;
pub use progress::{BlobSink, Progress, Silent};
pub use proxy::ProxyConfig;
pub use push::Pushed;
pub use retry::RetryPolicy;
