//! HTTPS with certificates of one's own, against `openssl s_server` behind an HTTPS proxy.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::config;
use registry::{Client, Credentials, ErrorKind, ProxyConfig, RegistryError, TrustRoots};

/// A name that stands in no name server: only the proxy knows where it is.
const HOST: &str = "registry.test";
/// Tells a child process of the tests where the proxy is.
const CHILD: &str = "REGISTRY_TEST_PROXY";

fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate for [`HOST`], signed by a new authority `NAME-ca.pem`.
fn certificates(dir: &Path, name: &str) {
    let (ca, key) = (format!("{name}-ca.pem"), format!("{name}-ca.key"));
    openssl(
        dir,
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test ca",
            "-keyout",
            &key,
            "-out",
            &ca,
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ],
    );
    openssl(
        dir,
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=registry.test",
            "-addext",
            "subjectAltName=DNS:registry.test",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-CA",
            &ca,
            "-CAkey",
            &key,
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.pem"),
        ],
    );
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the files in `dir`, each a whole answer, over TLS.
fn serve(dir: &Path, name: &str) -> Server {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let mut child = Command::new("openssl")
        .current_dir(dir)
        .args(["s_server", "-accept", "127.0.0.1:0", "-HTTP", "-cert", &certificate, "-key", &key])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.find_map(|l| l.ok().filter(|l| l.starts_with("ACCEPT"))).unwrap();
    // Its pipe stays open, or it would die of writing to it.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, address: line.split(' ').nth(1).unwrap().to_owned() }
}

/// A CONNECT proxy that leads everywhere to `target`; returns its address and what it was asked.
fn connect_proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, log) = (target.clone(), log.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        return;
                    }
                }
                log.lock().unwrap().push(head);
                let server = TcpStream::connect(target).unwrap();
                let mut client = client;
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let mut server = server;
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = reader.read(&mut buffer) {
                    if server.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                // The server takes the next connection only when this one has ended.
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, asked)
}

#[test]
fn trust_comes_from_the_files_given() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir, "good");
    certificates(dir, "other");
    let manifest = r#"{"schemaVersion":2,"manifests":[]}"#;
    std::fs::create_dir_all(dir.join("v2/a/manifests")).unwrap();
    let answer = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{manifest}",
        oci::media_type::OCI_INDEX,
        manifest.len()
    );
    std::fs::write(dir.join("v2/a/manifests/b"), answer).unwrap();
    let server = serve(dir, "good");
    let (proxy, asked) = connect_proxy(server.address.clone());
    let ask = |roots: &[&str], host: &str, insecure: bool| -> Result<_, RegistryError> {
        let mut config = config(Credentials::none());
        config.roots = TrustRoots::Files(roots.iter().map(|r| dir.join(r)).collect());
        config.proxy =
            ProxyConfig { https: Some(format!("http://me:pass@{proxy}")), ..Default::default() };
        config.retry.attempts = 1;
        let client = Client::new(config);
        if insecure {
            client.allow_insecure(&format!("{HOST}/other").parse().unwrap());
        }
        client.resolve(&format!("{host}/a:b").parse().unwrap())
    };
    let resolve = |roots: &[&str], host: &str| ask(roots, host, false);
    let found = resolve(&["good-ca.pem"], HOST).unwrap();
    assert_eq!(found.bytes, manifest.as_bytes());
    {
        let asked = asked.lock().unwrap();
        assert!(asked[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[0].contains("Proxy-Authorization: Basic bWU6cGFzcw=="), "{asked:?}");
    }
    resolve(&["other-ca.pem", "good-ca.pem"], HOST).unwrap();
    let error = resolve(&["other-ca.pem"], HOST).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Tls { .. }), "{error}");
    let error = resolve(&["good-ca.pem"], "elsewhere.test").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Tls { .. }), "{error}");
    // Nobody looks at the certificate of a registry that needs none, and at those of others still.
    ask(&["other-ca.pem"], HOST, true).unwrap();
    let error = ask(&["other-ca.pem"], "elsewhere.test", true).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Tls { .. }), "{error}");
    // The system trusts neither, unless it is told that its store is another file.
    let child = |store: Option<&str>| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "with_the_systems_store"]).env(CHILD, &proxy);
        child.envs(store.map(|s| ("SSL_CERT_FILE", dir.join(s)))).env_remove("SSL_CERT_DIR");
        child.output().unwrap().status.success()
    };
    assert!(child(Some("good-ca.pem")));
    assert!(!child(Some("other-ca.pem")));
    assert!(!child(None));
}

/// Run by the test above in a process of its own, because the store's place is the environment's.
#[test]
fn with_the_systems_store() {
    let Ok(proxy) = std::env::var(CHILD) else { return };
    let mut config = config(Credentials::none());
    config.proxy = ProxyConfig { https: Some(proxy), ..Default::default() };
    Client::new(config).resolve(&format!("{HOST}/a:b").parse().unwrap()).unwrap();
}
