//! A real registry: Debian's `docker-registry` on an ephemeral loopback port.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci::{Descriptor, Digest, ImageManifest, media_type};
use tempfile::TempDir;

use crate::http;

/// The server's program.
const PROGRAM: &str = "docker-registry";
/// How long it may take until it listens.
const START: Duration = Duration::from_secs(30);

/// A running registry. Its process ends and its data goes when this is dropped.
pub struct RegistryServer {
    child: Child,
    address: String,
    dir: TempDir,
}

/// An image that was put into a registry.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// The manifest.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

impl RegistryServer {
    /// Whether the server is installed (package `docker-registry`). Tests that need it skip with a
    /// printed reason where it is not.
    pub fn available() -> bool {
        Command::new(PROGRAM)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }

    /// Starts a registry without any image, and waits until it listens.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub fn start() -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("config.json");
        // JSON is YAML. Port 0: the server says in its log which one it got.
        let text = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": dir.path().join("data")},
                "delete": {"enabled": true},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "only for tests"},
        });
        fs::write(&config, text.to_string())?;
        let log = dir.path().join("log");
        let output = fs::File::create(&log)?;
        let child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut server = Self { child, address: String::new(), dir };
        server.address = server.wait(&log)?;
        Ok(server)
    }

    fn wait(&mut self, log: &Path) -> io::Result<String> {
        let end = Instant::now() + START;
        loop {
            let text = fs::read_to_string(log)?;
            let told = text.split("listening on ").nth(1).and_then(|rest| rest.split('"').next());
            if let Some(address) = told
                && http::request(address, "GET", "/v2/", &[], b"").is_ok_and(|a| a.status() == 200)
            {
                return Ok(address.to_owned());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > end {
                return Err(io::Error::other(format!("{PROGRAM} did not come up:\n{text}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `127.0.0.1:PORT`, as in an image's name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the registry keeps its data.
    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Puts `bytes` into `repository`.
    ///
    /// # Errors
    /// If the registry refuses it.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let start = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.call("POST", &start, &[], b"", 202)?;
        let location = begun.header("location").ok_or(io::ErrorKind::InvalidData)?;
        let target = location.split_once(&self.address).map_or(location, |(_, target)| target);
        let join = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{join}digest={digest}");
        self.call("PUT", &target, &[("content-type", "application/octet-stream")], bytes, 201)?;
        Ok(digest)
    }

    /// Puts a manifest or index into `repository` under a tag or its digest.
    ///
    /// # Errors
    /// If the registry refuses it.
    pub fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<Digest> {
        let target = format!("/v2/{repository}/manifests/{name}");
        self.call("PUT", &target, &[("content-type", media_type)], bytes, 201)?;
        Ok(Digest::of(bytes))
    }

    /// The manifest or index under a tag or digest; none if it is not there.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    pub fn manifest(&self, repository: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
        let accept = [
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
        ]
        .join(", ");
        let target = format!("/v2/{repository}/manifests/{name}");
        let answer =
            http::request(&self.address, "GET", &target, &[("accept", accept.as_str())], b"")?;
        Ok((answer.status() == 200).then_some(answer.body))
    }

    /// The bytes of a blob; none if it is not there.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    pub fn blob(&self, repository: &str, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let target = format!("/v2/{repository}/blobs/{digest}");
        let answer = http::request(&self.address, "GET", &target, &[], b"")?;
        Ok((answer.status() == 200).then_some(answer.body))
    }

    /// Puts an image of one manifest into `repository:tag`: the bytes of its config and of its
    /// layers, each with its media type.
    ///
    /// # Errors
    /// If the registry refuses a part of it.
    pub fn seed(
        &self,
        repository: &str,
        tag: &str,
        config: &[u8],
        layers: &[(&str, &[u8])],
    ) -> io::Result<Seeded> {
        self.put_blob(repository, config)?;
        for (_, bytes) in layers {
            self.put_blob(repository, bytes)?;
        }
        let config = Descriptor::of(media_type::OCI_CONFIG, config);
        let layers: Vec<Descriptor> =
            layers.iter().map(|(kind, bytes)| Descriptor::of(*kind, bytes)).collect();
        let manifest_bytes = ImageManifest::new(config.clone(), layers.clone()).to_json();
        self.put_manifest(repository, tag, media_type::OCI_MANIFEST, &manifest_bytes)?;
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &manifest_bytes);
        Ok(Seeded { manifest, manifest_bytes, config, layers })
    }

    fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        wanted: u16,
    ) -> io::Result<http::Message> {
        let answer = http::request(&self.address, method, target, headers, body)?;
        if answer.status() != wanted {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(io::Error::other(format!("{method} {target}: {} {text}", answer.first)));
        }
        Ok(answer)
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
