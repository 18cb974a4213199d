//! Pushing to a real registry.

mod common;

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Notes, World, client, noise, world};
use oci::{Descriptor, Digest, ImageManifest, Reference, media_type};
use registry::{Client, ErrorKind, Pushed, RegistryError, Silent};
use tests::proxy::{ALWAYS, Access, Fault, FaultProxy, Kind};

fn push(
    client: &Client,
    name: &Reference,
    mount: Option<&Reference>,
    bytes: &[u8],
) -> Result<Pushed, RegistryError> {
    let descriptor = Descriptor::of(media_type::OCI_LAYER, bytes);
    let owned = bytes.to_vec();
    let open = move || Ok(Box::new(io::Cursor::new(owned.clone())) as Box<dyn Read + Send>);
    client.push_blob(name, &descriptor, mount, &open, &Silent, &|| false)
}

fn stored(world: &World, repository: &str, bytes: &[u8]) -> bool {
    world.server.blob(repository, Digest::of(bytes)).unwrap().as_deref() == Some(bytes)
}

#[test]
fn pushes_an_image() {
    let Some(world) = world(Access::Open) else { return };
    let (client, name) = (client(), world.name("team/new:v1"));
    let layer = noise(400_000);
    let (config, empty) = (b"{\"os\":\"linux\"}", b"");
    for blob in [&layer[..], config, empty] {
        assert_eq!(push(&client, &name, None, blob).unwrap(), Pushed::Uploaded);
        assert!(stored(&world, "team/new", blob));
        assert_eq!(push(&client, &name, None, blob).unwrap(), Pushed::Existed);
    }
    assert_eq!(world.proxy.count(Kind::UploadPut), 3);
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, config),
        vec![Descriptor::of(media_type::OCI_LAYER, &layer)],
    )
    .to_json();
    let digest = client.push_manifest(&name, media_type::OCI_MANIFEST, &manifest).unwrap();
    assert_eq!(digest, Digest::of(&manifest));
    assert_eq!(client.resolve(&name).unwrap().bytes, manifest);
    let pinned = name.with_digest(digest);
    assert_eq!(client.push_manifest(&pinned, media_type::OCI_MANIFEST, &manifest).unwrap(), digest);
    let error = client.push_manifest(&pinned, media_type::OCI_MANIFEST, b"{}").unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DigestMismatch { .. }), "{error}");
}

#[test]
fn mounts() {
    let Some(world) = world(Access::Open) else { return };
    let client = client();
    let from = world.app();
    let name = world.name("team/mounted:v1");
    assert_eq!(push(&client, &name, Some(&from), &world.layer).unwrap(), Pushed::Mounted);
    assert!(stored(&world, "team/mounted", &world.layer));
    assert_eq!(world.proxy.count(Kind::UploadPut), 0);
    // What the source does not have, what the registry does not mount, and another registry.
    let other = noise(1000);
    assert_eq!(push(&client, &name, Some(&from), &other).unwrap(), Pushed::Uploaded);
    world.proxy.inject(Kind::UploadStart, 1, Fault::IgnoreMount);
    let name = world.name("team/second:v1");
    assert_eq!(push(&client, &name, Some(&from), &world.layer).unwrap(), Pushed::Uploaded);
    world.proxy.inject(Kind::UploadStart, 1, Fault::Status(405, None));
    let name = world.name("team/third:v1");
    assert_eq!(push(&client, &name, Some(&from), &world.layer).unwrap(), Pushed::Uploaded);
    world.proxy.forget();
    let name = world.name("team/fourth:v1");
    let foreign: Reference = "example.com/library/app:v1".parse().unwrap();
    assert_eq!(push(&client, &name, Some(&foreign), &world.layer).unwrap(), Pushed::Uploaded);
    assert!(world.proxy.seen().iter().all(|s| !s.target.contains("mount=")));
}

#[test]
fn relative_locations() {
    let Some(world) = world(Access::Open) else { return };
    world.proxy.inject(Kind::UploadStart, 1, Fault::RelativeLocation);
    let bytes = noise(1000);
    assert_eq!(push(&client(), &world.name("a/b:c"), None, &bytes).unwrap(), Pushed::Uploaded);
    assert!(stored(&world, "a/b", &bytes));
    let put = world.proxy.seen().into_iter().find(|s| s.kind == Kind::UploadPut).unwrap();
    assert!(put.query.iter().any(|(n, _)| n == "_state"), "the query was kept");
}

#[test]
fn tries_again() {
    let Some(world) = world(Access::Open) else { return };
    let bytes = noise(50_000);
    let kinds = [Kind::BlobHead, Kind::UploadStart, Kind::UploadPut];
    for (i, kind) in kinds.into_iter().enumerate() {
        for (j, fault) in [Fault::Status(502, None), Fault::Hangup].into_iter().enumerate() {
            let repository = format!("again/r{i}{j}");
            let name = world.name(&format!("{repository}:x"));
            world.proxy.inject(kind, 3, fault.clone());
            let pushed = push(&client(), &name, None, &bytes);
            assert_eq!(pushed.unwrap_or_else(|e| panic!("{e}")), Pushed::Uploaded);
            assert!(stored(&world, &repository, &bytes), "{kind:?} {fault:?}");
        }
    }
    world.proxy.inject(Kind::UploadPut, ALWAYS, Fault::Status(503, None));
    let error = push(&client(), &world.name("again/never:x"), None, &bytes).unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::Status(a) if a.status == 503), "{error}");
    world.proxy.heal();
    world.proxy.inject(Kind::UploadPut, ALWAYS, Fault::Status(400, None));
    world.proxy.forget();
    push(&client(), &world.name("again/bad:x"), None, &bytes).unwrap_err();
    assert_eq!(world.proxy.count(Kind::UploadPut), 1);
    world.proxy.heal();
    world.proxy.inject(Kind::ManifestPut, 2, Fault::Status(500, None));
    let name = world.name("library/app:v3");
    let bytes = &world.image.manifest_bytes;
    client().push_manifest(&name, media_type::OCI_MANIFEST, bytes).unwrap();
}

#[test]
fn the_sources_faults_are_its_own() {
    let Some(world) = world(Access::Open) else { return };
    let name = world.name("source/x:y");
    let descriptor = Descriptor::of(media_type::OCI_LAYER, &noise(100_000));
    let opened = AtomicUsize::new(0);
    let refuse = || -> io::Result<Box<dyn Read + Send>> {
        opened.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::other("no such blob"))
    };
    let short = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(&b"short"[..])) };
    let push = |open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>, cancel: &dyn Fn() -> bool| {
        client().push_blob(&name, &descriptor, None, open, &Silent, cancel).unwrap_err()
    };
    let error = push(&refuse, &|| false);
    assert!(matches!(error.kind, ErrorKind::Source(_)), "{error}");
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    let error = push(&short, &|| false);
    assert!(error.to_string().contains("shorter than its descriptor"), "{error}");
    // The right size, but other bytes: the registry notices.
    let wrong = || -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::repeat(7))) };
    let error = push(&wrong, &|| false);
    assert!(matches!(&error.kind, ErrorKind::Status(a) if a.has("DIGEST_INVALID")), "{error}");
    let asked = AtomicUsize::new(0);
    let error = push(&wrong, &|| asked.fetch_add(1, Ordering::SeqCst) > 0);
    assert!(matches!(error.kind, ErrorKind::Cancelled), "{error}");
}

#[test]
fn storage_that_refuses_the_question() {
    let Some(world) = world(Access::Open) else { return };
    let storage = FaultProxy::start(world.server.address(), Access::Open).unwrap();
    storage.inject(Kind::BlobHead, ALWAYS, Fault::Status(403, None));
    let origin = format!("http://{}", storage.address());
    world.proxy.inject(Kind::BlobHead, ALWAYS, Fault::Redirect(origin));
    let name = world.name("behind/storage:x");
    assert_eq!(push(&client(), &name, None, &noise(1000)).unwrap(), Pushed::Uploaded);
    assert_eq!(storage.count(Kind::BlobHead), 1);
}

#[test]
fn tells_its_progress() {
    let Some(world) = world(Access::Open) else { return };
    let bytes = noise(500_000);
    let descriptor = Descriptor::of(media_type::OCI_LAYER, &bytes);
    let notes = Notes::default();
    world.proxy.inject(Kind::UploadPut, 1, Fault::Status(500, None));
    let open = || Ok(Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
    client()
        .push_blob(&world.name("a/progress:x"), &descriptor, None, &open, &notes, &|| false)
        .unwrap();
    assert_eq!(notes.retries(), 1);
    assert_eq!(notes.bytes.lock().unwrap().last(), Some(&500_000));
}
