//! What a client is made from. Everything is handed in: nothing here is read from the environment.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Credentials, ProxyConfig, RetryPolicy};

/// Blob requests to one registry at the same time, as BuildKit has it. Manifests and tokens do not
/// count, so that they never wait behind layers.
const BLOBS_PER_HOST: usize = 4;
/// How long a connection (with TLS and a proxy's greeting) may take to come up.
const CONNECT: Duration = Duration::from_secs(30);
/// How long nothing may arrive or be taken before a connection counts as dead.
const IDLE: Duration = Duration::from_secs(60);

/// Which certificates are trusted for HTTPS.
#[derive(Clone, Debug, Default)]
pub enum TrustRoots {
    /// The system's trust store.
    #[default]
    System,
    /// Only the certificates in these PEM files (what `SSL_CERT_FILE` asks for).
    Files(Vec<PathBuf>),
}

/// The two clocks of a connection. There is no limit on the whole of a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection is up.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: CONNECT, idle: IDLE }
    }
}

/// What a [`Client`](crate::Client) is made from.
pub struct ClientConfig {
    /// Where user names, passwords and tokens come from.
    pub credentials: Credentials,
    /// Which certificates are trusted.
    pub roots: TrustRoots,
    /// Proxies, and which hosts are reached without one.
    pub proxy: ProxyConfig,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// How often and when a failed request is made again.
    pub retry: RetryPolicy,
    /// Blob requests to one registry at the same time; 0 counts as 1.
    pub per_host: usize,
    /// When a connection counts as dead.
    pub timeouts: Timeouts,
}

impl Default for ClientConfig {
    /// Anonymous, direct, with the system's trust store.
    fn default() -> Self {
        Self {
            credentials: Credentials::none(),
            roots: TrustRoots::System,
            proxy: ProxyConfig::default(),
            user_agent: concat!("drydock/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: RetryPolicy::default(),
            per_host: BLOBS_PER_HOST,
            timeouts: Timeouts::default(),
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("roots", &self.roots)
            .field("proxy", &self.proxy)
            .field("retry", &self.retry)
            .field("per_host", &self.per_host)
            .finish_non_exhaustive()
    }
}
