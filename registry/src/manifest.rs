//! Resolving names and fetching manifests.

use oci::manifest::MAX_MANIFEST;
use oci::{Descriptor, Digest, DigestError, Reference, media_type};
use ureq::http::{Method, header};

use crate::client::{Client, Session};
use crate::error::{ErrorKind, Operation, RegistryError};
use crate::scope::Scopes;
use crate::transport::{Payload, Reply, Request};

/// What is asked for: both families of manifests and indexes.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// The digest of a manifest, as the registry has it.
const DIGEST_HEADER: &str = "docker-content-digest";
/// What error lines call the document.
const WHAT: &str = "the manifest";

/// A manifest or index with its verified bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes that the digest is taken over.
    pub bytes: Vec<u8>,
}

impl Client {
    /// Fetches the manifest or index that `reference` means. Where it has a digest, that is what
    /// is asked for and the tag does not matter.
    ///
    /// # Errors
    /// If it is not there or may not be had, is larger than [`MAX_MANIFEST`], or does not match
    /// the digest that was asked for or that the registry itself declares.
    pub fn resolve(&self, reference: &Reference) -> Result<Fetched, RegistryError> {
        let session = self.session(reference, Scopes::pull(reference.path()));
        self.retrying(&format!("resolve {reference}"), || {
            session.get_manifest(&target(reference), reference.digest())
        })
        .map_err(|e| e.during(Operation::Resolve, reference))
    }

    /// The descriptor of what `reference` means, without fetching it, where the registry tells: to
    /// see whether a tag has moved. `None` if the registry does not say the digest.
    ///
    /// # Errors
    /// If it is not there or may not be had.
    pub fn head(&self, reference: &Reference) -> Result<Option<Descriptor>, RegistryError> {
        let session = self.session(reference, Scopes::pull(reference.path()));
        self.retrying(&format!("resolve {reference}"), || {
            session.head_manifest(&target(reference), reference.digest())
        })
        .map_err(|e| e.during(Operation::Resolve, reference))
    }

    /// Fetches the manifest that `descriptor` points to, from `reference`'s repository.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve), and if it does not have the descriptor's size.
    pub fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, RegistryError> {
        let session = self.session(reference, Scopes::pull(reference.path()));
        let object = format!("{} of {}", descriptor.digest, reference.repository());
        let fetch = || {
            if descriptor.size > MAX_MANIFEST {
                return Err(ErrorKind::TooLarge { what: WHAT, limit: MAX_MANIFEST });
            }
            let digest = descriptor.digest;
            let bytes = session.get_manifest(&digest.to_string(), Some(digest))?.bytes;
            let (expected, actual) = (descriptor.size, bytes.len() as u64);
            if expected != actual {
                return Err(ErrorKind::SizeMismatch { expected, actual, more: false });
            }
            Ok(bytes)
        };
        self.retrying(&format!("fetch manifest {object}"), fetch)
            .map_err(|e| e.during(Operation::FetchManifest, object))
    }

    /// Pushes a manifest or index under `reference`: its digest if it has one, else its tag. What
    /// it points to must be there already. Returns its digest.
    ///
    /// # Errors
    /// If the registry refuses it, or says that it got something else.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let session = self.session(reference, Scopes::push(reference.path()));
        let push = || {
            if let Some(expected) = reference.digest().filter(|d| *d != digest) {
                return Err(ErrorKind::DigestMismatch { expected, actual: digest });
            }
            let url = session.url(&format!("manifests/{}", target(reference)))?;
            let request = Request::new(Method::PUT, url, Payload::Bytes(bytes))
                .header(header::CONTENT_TYPE, media_type);
            let reply = session.expect(request, &[200, 201, 202, 204])?;
            match declared(&reply)? {
                Some(actual) if actual != digest => {
                    Err(ErrorKind::DigestMismatch { expected: digest, actual })
                }
                _ => Ok(digest),
            }
        };
        self.retrying(&format!("push manifest {reference}"), push)
            .map_err(|e| e.during(Operation::PushManifest, reference))
    }
}

impl Session<'_> {
    fn get_manifest(&self, target: &str, wanted: Option<Digest>) -> Result<Fetched, ErrorKind> {
        let request =
            Request::get(self.url(&format!("manifests/{target}"))?).header(header::ACCEPT, ACCEPT);
        let reply = self.expect(request, &[200])?;
        let declared = declared(&reply)?;
        let said = reply.text(header::CONTENT_TYPE);
        let bytes = reply.bytes(WHAT, MAX_MANIFEST)?;
        let actual = Digest::of(&bytes);
        for expected in [wanted, declared].into_iter().flatten() {
            if expected != actual {
                return Err(ErrorKind::DigestMismatch { expected, actual });
            }
        }
        let kind = media_type(said.as_deref(), &bytes);
        Ok(Fetched { descriptor: Descriptor::new(kind, actual, bytes.len() as u64), bytes })
    }

    fn head_manifest(
        &self,
        target: &str,
        wanted: Option<Digest>,
    ) -> Result<Option<Descriptor>, ErrorKind> {
        let url = self.url(&format!("manifests/{target}"))?;
        let request = Request::new(Method::HEAD, url, Payload::None).header(header::ACCEPT, ACCEPT);
        let reply = self.expect(request, &[200])?;
        let (Some(digest), Some(size)) = (declared(&reply)?, reply.length()) else {
            return Ok(None);
        };
        if let Some(expected) = wanted.filter(|w| *w != digest) {
            return Err(ErrorKind::DigestMismatch { expected, actual: digest });
        }
        let said = reply.text(header::CONTENT_TYPE);
        Ok(Some(Descriptor::new(media_type(said.as_deref(), b""), digest, size)))
    }
}

/// The last part of a manifest's URL.
fn target(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

/// The digest that the registry declares. One of another algorithm says nothing that can be
/// checked here.
fn declared(reply: &Reply) -> Result<Option<Digest>, ErrorKind> {
    let Some(text) = reply.text(DIGEST_HEADER).filter(|t| !t.trim().is_empty()) else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Algorithm(_)) => Ok(None),
        Err(e @ DigestError::Syntax(_)) => {
            Err(ErrorKind::Protocol(crate::error::clean(&e.to_string())))
        }
    }
}

/// The document's type: what the transport said if that is a type of manifest, else what the
/// document says itself.
fn media_type(said: Option<&str>, bytes: &[u8]) -> String {
    let said = said.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = [
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_LIST,
        media_type::DOCKER_MANIFEST,
    ];
    if known.contains(&said) {
        return said.to_owned();
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
    }
    serde_json::from_slice::<Probe>(bytes)
        .ok()
        .and_then(|p| p.media_type)
        .unwrap_or_else(|| said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let own = br#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
        for (said, bytes, expected) in [
            (
                Some("application/vnd.oci.image.index.v1+json; charset=x"),
                &own[..],
                media_type::OCI_INDEX,
            ),
            (Some("application/json"), own, media_type::OCI_MANIFEST),
            (None, own, media_type::OCI_MANIFEST),
            (Some("text/plain"), b"{}", "text/plain"),
            (None, b"nonsense", ""),
        ] {
            assert_eq!(media_type(said, bytes), expected);
        }
    }
}
