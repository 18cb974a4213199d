//! The registry client, made from the environment.

use std::fs;
use std::io;
use std::path::PathBuf;

use registry::{ClientConfig, Credentials, ProxyConfig, TrustRoots};

use crate::environment::{Certificates, Environment};

/// Files of one SSL_CERT_DIR that are read at most.
const MAX_CERTIFICATES: usize = 4096;

/// How registries are reached.
///
/// # Errors
/// If a directory of SSL_CERT_DIR cannot be read.
pub fn config(environment: &Environment) -> io::Result<ClientConfig> {
    let proxies = &environment.proxies;
    Ok(ClientConfig {
        credentials: match &environment.docker_config {
            Some(dir) => Credentials::from_docker_config(dir),
            None => Credentials::none(),
        },
        roots: roots(&environment.certificates)?,
        proxy: ProxyConfig {
            http: proxies.http().map(str::to_owned),
            https: proxies.https().map(str::to_owned),
            no_proxy: proxies.no_proxy.clone(),
        },
        ..ClientConfig::default()
    })
}

fn roots(certificates: &Certificates) -> io::Result<TrustRoots> {
    let mut files: Vec<PathBuf> = certificates.file.iter().cloned().collect();
    for dir in &certificates.directories {
        let name = |e| io::Error::new(io::Error::kind(&e), format!("{}: {e}", dir.display()));
        for entry in fs::read_dir(dir).map_err(name)?.take(MAX_CERTIFICATES) {
            let path = entry.map_err(name)?.path();
            let pem = path.extension().is_some_and(|e| e == "pem" || e == "crt");
            if pem && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let given = certificates.file.is_some() || !certificates.directories.is_empty();
    Ok(if given { TrustRoots::Files(files) } else { TrustRoots::System })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.pem", "b.crt", "notes.txt"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let given = |file: Option<&str>, directories: Vec<PathBuf>| {
            roots(&Certificates { file: file.map(PathBuf::from), directories })
        };
        assert!(matches!(given(None, Vec::new()).unwrap(), TrustRoots::System));
        let Ok(TrustRoots::Files(files)) = given(Some("/x"), vec![dir.path().to_owned()]) else {
            panic!()
        };
        assert_eq!(files.len(), 3);
        assert!(given(None, vec!["/nowhere/at/all".into()]).is_err());
    }
}
