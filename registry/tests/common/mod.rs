//! What the tests of the client share: a registry, a proxy before it, and an image in it.
#![allow(dead_code, unreachable_pub)] // Each test file uses its own part.

use std::io::{self, Read};
use std::sync::Mutex;
use std::time::Duration;

use oci::{Descriptor, Reference, media_type};
use registry::{BlobSink, Client, ClientConfig, Credentials, Progress, RetryPolicy, Timeouts};
use tests::proxy::{Access, FaultProxy};
use tests::registry_server::{RegistryServer, Seeded};

/// A registry with the image `library/app:v1`, and a proxy before it.
pub struct World {
    pub proxy: FaultProxy,
    pub server: RegistryServer,
    pub image: Seeded,
    pub layer: Vec<u8>,
}

/// Starts everything; none, with the reason, where the registry is not installed.
pub fn world(access: Access) -> Option<World> {
    world_with(access, 300_000)
}

/// As [`world`], with a layer of `size` bytes.
pub fn world_with(access: Access, size: usize) -> Option<World> {
    if !RegistryServer::available() {
        eprintln!("skipped: docker-registry is not installed");
        return None;
    }
    let server = RegistryServer::start().unwrap();
    let layer = noise(size);
    let image =
        server.seed("library/app", "v1", b"{}", &[(media_type::OCI_LAYER, &layer)]).unwrap();
    let proxy = FaultProxy::start(server.address(), access).unwrap();
    Some(World { proxy, server, image, layer })
}

/// Bytes that look like nothing in particular.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

impl World {
    /// `rest` on the proxy.
    pub fn name(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.proxy.address()).parse().unwrap()
    }

    /// The image on the proxy.
    pub fn app(&self) -> Reference {
        self.name("library/app:v1")
    }

    /// The image's layer.
    pub fn layer(&self) -> &Descriptor {
        &self.image.layers[0]
    }
}

/// A configuration with short pauses.
pub fn config(credentials: Credentials) -> ClientConfig {
    ClientConfig {
        credentials,
        retry: RetryPolicy { base: Duration::from_millis(5), ..RetryPolicy::default() },
        timeouts: Timeouts { idle: Duration::from_secs(2), ..Timeouts::default() },
        ..ClientConfig::default()
    }
}

/// A client without credentials.
pub fn client() -> Client {
    Client::new(config(Credentials::none()))
}

/// Writes down what it is told.
#[derive(Default)]
pub struct Notes {
    pub bytes: Mutex<Vec<u64>>,
    pub retries: Mutex<Vec<String>>,
}

impl Progress for Notes {
    fn bytes(&self, done: u64, total: u64) {
        assert!(done <= total || total == 0);
        self.bytes.lock().unwrap().push(done);
    }

    fn retrying(&self, what: &str, error: &str, attempt: u32) {
        self.retries.lock().unwrap().push(format!("{what}: {error} ({attempt})"));
    }
}

impl Notes {
    pub fn retries(&self) -> usize {
        self.retries.lock().unwrap().len()
    }
}

/// A sink that counts how often it was started over.
#[derive(Default)]
pub struct Sink {
    pub data: Vec<u8>,
    pub restarts: usize,
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        self.data.len() as u64
    }

    fn existing(&self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(self.data.clone())))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.data.clear();
        self.restarts += 1;
        Ok(())
    }
}
