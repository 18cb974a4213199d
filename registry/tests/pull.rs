//! Resolving and fetching from a real registry, undisturbed and through every fault.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Notes, Sink, World, client, config, world, world_with};
use oci::{Descriptor, Digest, media_type};
use registry::{Client, Credentials, ErrorKind, RegistryError, RetryPolicy, Silent};
use tests::proxy::{ALWAYS, Access, Fault, Kind};

fn fetch(world: &World, sink: &mut Sink, notes: &Notes) -> Result<(), RegistryError> {
    client().blob(&world.app(), world.layer(), sink, notes, &|| false)
}

#[test]
fn resolves_and_fetches() {
    let Some(world) = world(Access::Open) else { return };
    let client = client();
    let found = client.resolve(&world.app()).unwrap();
    assert_eq!(found.descriptor, world.image.manifest);
    assert_eq!(found.bytes, world.image.manifest_bytes);
    assert_eq!(client.head(&world.app()).unwrap().unwrap(), world.image.manifest);
    let pinned = world.app().with_digest(world.image.manifest.digest);
    assert_eq!(client.resolve(&pinned).unwrap(), found);
    assert!(world.proxy.seen().last().unwrap().target.contains("sha256:"));
    let bytes = client.manifest(&world.app(), &world.image.manifest).unwrap();
    assert_eq!(bytes, found.bytes);
    let mut config = Vec::new();
    client.blob(&world.app(), &world.image.config, &mut config, &Silent, &|| false).unwrap();
    assert_eq!(config, b"{}");
    let (mut sink, notes) = (Sink::default(), Notes::default());
    fetch(&world, &mut sink, &notes).unwrap();
    assert_eq!(sink.data, world.layer);
    assert_eq!(notes.bytes.lock().unwrap().last(), Some(&(world.layer.len() as u64)));
    assert_eq!(notes.retries(), 0);
}

#[test]
fn straight_to_the_registry_with_kept_connections() {
    let Some(world) = world(Access::Open) else { return };
    let name = format!("{}/library/app:v1", world.server.address()).parse().unwrap();
    let client = client();
    for _ in 0..20 {
        let found = client.resolve(&name).unwrap();
        let mut layer = Vec::new();
        client.blob(&name, world.layer(), &mut layer, &Silent, &|| false).unwrap();
        assert_eq!(
            (found.descriptor.digest, layer),
            (world.image.manifest.digest, world.layer.clone())
        );
    }
}

#[test]
fn says_what_is_not_there() {
    let Some(world) = world(Access::Open) else { return };
    let error = client().resolve(&world.name("library/app:v2")).unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::NotFound(a) if a.has("MANIFEST_UNKNOWN")), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("resolve 127.0.0.1:") && text.contains("library/app:v2"), "{text}");
    let missing = Descriptor::of(media_type::OCI_LAYER, b"missing");
    let mut sink = Sink::default();
    let error = client().blob(&world.app(), &missing, &mut sink, &Silent, &|| false).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound(_)), "{error}");
    assert_eq!(world.proxy.count(Kind::Any), 2, "404 is not tried again");
}

#[test]
fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/a:b", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = client().resolve(&name).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Network { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[test]
fn wrong_manifests_are_refused() {
    let Some(world) = world(Access::Open) else { return };
    let client = client();
    let app = world.app();
    for fault in [Fault::Corrupt(5), Fault::WrongDigestHeader] {
        world.proxy.inject(Kind::ManifestGet, 1, fault);
        let error = client.resolve(&app).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::DigestMismatch { .. }), "{error}");
    }
    world.proxy.inject(Kind::ManifestGet, 1, Fault::NoDigestHeader);
    assert_eq!(client.resolve(&app).unwrap().descriptor, world.image.manifest);
    // Pinned: what the registry declares does not matter.
    world.proxy.inject(Kind::ManifestGet, 1, Fault::NoDigestHeader);
    world.proxy.inject(Kind::ManifestGet, 1, Fault::Corrupt(5));
    let pinned = app.with_digest(world.image.manifest.digest);
    client.resolve(&pinned).unwrap();
    let error = client.resolve(&pinned).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::DigestMismatch { .. }), "{error}");
    for fault in [Fault::Extend(5 << 20), Fault::ExtendSilently(5 << 20)] {
        world.proxy.inject(Kind::ManifestGet, 1, fault);
        let error = client.resolve(&app).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::TooLarge { .. }), "{error}");
    }
    let mut wrong = world.image.manifest.clone();
    wrong.size += 1;
    let error = client.manifest(&app, &wrong).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::SizeMismatch { .. }), "{error}");
    wrong.size = 1 << 40;
    let error = client.manifest(&app, &wrong).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::TooLarge { .. }), "{error}");
}

#[test]
fn tries_again() {
    let Some(world) = world(Access::Open) else { return };
    let heard = std::sync::Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let client = client().on_retry(move |what, error, attempt| {
        assert!(what.starts_with("resolve 127.0.0.1") && !error.is_empty() && attempt > 0);
        count.fetch_add(1, Ordering::SeqCst);
    });
    for fault in [
        Fault::Status(500, None),
        Fault::Status(503, Some(0)),
        Fault::Status(429, Some(0)),
        Fault::Hangup,
    ] {
        world.proxy.forget();
        world.proxy.inject(Kind::ManifestGet, 3, fault.clone());
        client.resolve(&world.app()).unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(world.proxy.count(Kind::ManifestGet), 4, "{fault:?}");
    }
    assert_eq!(heard.load(Ordering::SeqCst), 12);
    world.proxy.inject(Kind::ManifestGet, 1, Fault::DropAfter(10));
    client.resolve(&world.app()).unwrap();
    world.proxy.inject(Kind::ManifestGet, 1, Fault::StallAfter(10));
    client.resolve(&world.app()).unwrap();
}

#[test]
fn gives_up() {
    let Some(world) = world(Access::Open) else { return };
    for (status, requests) in [(503, 4), (429, 4), (400, 1), (403, 1), (404, 1)] {
        world.proxy.heal();
        world.proxy.forget();
        world.proxy.inject(Kind::ManifestGet, ALWAYS, Fault::Status(status, None));
        let error = client().resolve(&world.app()).unwrap_err();
        assert_eq!(world.proxy.count(Kind::ManifestGet), requests, "{error}");
        assert!(error.to_string().contains("UNAVAILABLE: injected"), "{error}");
    }
    world.proxy.heal();
    world.proxy.forget();
    // An hour is longer than anybody wants to wait.
    world.proxy.inject(Kind::ManifestGet, ALWAYS, Fault::Status(429, Some(3600)));
    let error = client().resolve(&world.app()).unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::RateLimited(a) if a.retry_after.is_some()), "{error}");
    assert_eq!(world.proxy.count(Kind::ManifestGet), 1);
}

#[test]
fn resumes_a_dropped_connection() {
    let Some(world) = world(Access::Open) else { return };
    for fault in [Fault::DropAfter(100_000), Fault::StallAfter(100_000)] {
        world.proxy.forget();
        world.proxy.inject(Kind::BlobGet, 1, fault);
        let (mut sink, notes) = (Sink::default(), Notes::default());
        fetch(&world, &mut sink, &notes).unwrap();
        assert_eq!((sink.data == world.layer, sink.restarts, notes.retries()), (true, 0, 1));
        let seen = world.proxy.seen();
        assert_eq!(seen[0].header("range"), None);
        assert_eq!(seen[1].header("range"), Some("bytes=100000-"));
    }
}

#[test]
fn long_way_in_small_steps() {
    let Some(world) = world_with(Access::Open, 7 << 20) else { return };
    // Each connection brings more than what counts as progress: more drops than attempts are fine.
    world.proxy.inject(Kind::BlobGet, 6, Fault::DropAfter((1 << 20) + 1));
    let (mut sink, notes) = (Sink::default(), Notes::default());
    fetch(&world, &mut sink, &notes).unwrap();
    assert_eq!((sink.data == world.layer, notes.retries()), (true, 6));
    // Small pieces do not count, or it would never end.
    world.proxy.forget();
    world.proxy.inject(Kind::BlobGet, ALWAYS, Fault::DropAfter(1000));
    let (mut sink, notes) = (Sink::default(), Notes::default());
    let error = fetch(&world, &mut sink, &notes).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Network { .. }), "{error}");
    assert_eq!((sink.data.len(), world.proxy.count(Kind::BlobGet)), (4000, 4));
}

#[test]
fn resumes_an_earlier_run() {
    let Some(world) = world(Access::Open) else { return };
    let mut sink = Sink { data: world.layer[..123_456].to_vec(), restarts: 0 };
    fetch(&world, &mut sink, &Notes::default()).unwrap();
    assert!(sink.data == world.layer && sink.restarts == 0);
    assert_eq!(world.proxy.seen()[0].header("range"), Some("bytes=123456-"));
    // Everything is there: nothing is asked for.
    world.proxy.forget();
    fetch(&world, &mut sink, &Notes::default()).unwrap();
    assert_eq!(world.proxy.count(Kind::Any), 0);
    // What is there is rubbish, or too much: it is thrown away.
    for rubbish in [vec![0; 1000], vec![0; world.layer.len()], vec![0; world.layer.len() + 1]] {
        let mut sink = Sink { data: rubbish, restarts: 0 };
        fetch(&world, &mut sink, &Notes::default()).unwrap();
        assert!(sink.data == world.layer && sink.restarts == 1);
    }
}

#[test]
fn servers_without_ranges() {
    let Some(world) = world(Access::Open) else { return };
    for fault in [Fault::IgnoreRange, Fault::WrongRange, Fault::Status(416, None)] {
        world.proxy.heal();
        world.proxy.inject(Kind::BlobGet, 1, Fault::DropAfter(50_000));
        world.proxy.inject(Kind::BlobGet, 1, fault.clone());
        let mut sink = Sink::default();
        fetch(&world, &mut sink, &Notes::default()).unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert!(sink.data == world.layer && sink.restarts == 1, "{fault:?}");
    }
}

#[test]
fn wrong_blobs_are_refused() {
    let Some(world) = world(Access::Open) else { return };
    let length = world.layer.len();
    world.proxy.inject(Kind::BlobGet, 1, Fault::Corrupt(77));
    let error = fetch(&world, &mut Sink::default(), &Notes::default()).unwrap_err();
    assert!(
        matches!(error.kind, ErrorKind::DigestMismatch { expected, .. } if expected == world.layer().digest),
        "{error}"
    );
    for fault in [Fault::Truncate(length - 1), Fault::Extend(1), Fault::Extend(10 << 20)] {
        world.proxy.inject(Kind::BlobGet, 1, fault);
        let mut sink = Sink::default();
        let error = fetch(&world, &mut sink, &Notes::default()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::SizeMismatch { .. }), "{error}");
        assert_eq!(sink.data.len(), 0, "the size was announced");
    }
    world.proxy.inject(Kind::BlobGet, 1, Fault::ExtendSilently(10 << 20));
    let mut sink = Sink::default();
    let error = fetch(&world, &mut sink, &Notes::default()).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::SizeMismatch { more: true, .. }), "{error}");
    assert!(sink.data.len() <= length);
    // The descriptor lies about the size, or names content that is something else.
    for size in [0, 1, length as u64 - 1, length as u64 + 1] {
        let lie = Descriptor::new(media_type::OCI_LAYER, world.layer().digest, size);
        let error =
            client().blob(&world.app(), &lie, &mut Vec::new(), &Silent, &|| false).unwrap_err();
        let wrong =
            matches!(error.kind, ErrorKind::SizeMismatch { .. } | ErrorKind::DigestMismatch { .. });
        assert!(wrong, "{error}");
    }
}

#[test]
fn an_empty_blob_needs_no_request() {
    let Some(world) = world(Access::Open) else { return };
    let empty = Descriptor::new(media_type::OCI_LAYER, Digest::of(b""), 0);
    client().blob(&world.app(), &empty, &mut Vec::new(), &Silent, &|| false).unwrap();
    assert_eq!(world.proxy.count(Kind::Any), 0);
}

#[test]
fn a_slow_line_is_no_dead_line() {
    let Some(world) = world_with(Access::Open, 20_000) else { return };
    // Longer in all than the idle timeout, but never silent for as long.
    world.proxy.inject(Kind::BlobGet, 1, Fault::Trickle(1000, Duration::from_millis(125)));
    let (mut sink, notes) = (Sink::default(), Notes::default());
    fetch(&world, &mut sink, &notes).unwrap();
    assert_eq!((sink.data == world.layer, notes.retries()), (true, 0));
}

#[test]
fn a_trickle_is_a_dead_line() {
    let Some(world) = world_with(Access::Open, 20_000) else { return };
    // Never silent for as long as the idle timeout: it would take more than five hours.
    world.proxy.inject(Kind::BlobGet, 1, Fault::Trickle(1, Duration::from_secs(1)));
    let (mut sink, notes) = (Sink::default(), Notes::default());
    fetch(&world, &mut sink, &notes).unwrap();
    assert_eq!((sink.data == world.layer, notes.retries()), (true, 1));
}

#[test]
fn cancel_and_shutdown() {
    let Some(world) = world(Access::Open) else { return };
    let stop = AtomicBool::new(false);
    struct StopAt<'a>(&'a AtomicBool);
    impl registry::Progress for StopAt<'_> {
        fn bytes(&self, done: u64, _: u64) {
            if done > 10_000 {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        fn retrying(&self, _: &str, _: &str, _: u32) {}
    }
    let mut sink = Sink::default();
    let error = client()
        .blob(&world.app(), world.layer(), &mut sink, &StopAt(&stop), &|| {
            stop.load(Ordering::SeqCst)
        })
        .unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Cancelled), "{error}");
    assert!(sink.data.len() < world.layer.len());
    // A pause between attempts hears it too, and a silent server delays only until the shutdown.
    for fault in [Fault::Status(503, Some(50)), Fault::StallAfter(10)] {
        world.proxy.heal();
        world.proxy.inject(Kind::Any, ALWAYS, fault);
        let mut config = config(Credentials::none());
        config.timeouts.idle = Duration::from_secs(50);
        let client = Client::new(config);
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                client.shutdown();
            });
            let error = client.resolve(&world.app()).unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Cancelled), "{error}");
        });
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn at_most_so_many_at_once() {
    let Some(world) = world_with(Access::Open, 8_000) else { return };
    world.proxy.inject(Kind::BlobGet, ALWAYS, Fault::Trickle(1000, Duration::from_millis(15)));
    let mut config = config(Credentials::none());
    config.per_host = 2;
    let client = Client::new(config);
    let (busy, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    struct Count<'a>(&'a AtomicUsize, &'a AtomicUsize);
    impl registry::Progress for Count<'_> {
        fn bytes(&self, done: u64, total: u64) {
            if done < total && done <= 1000 {
                let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
                self.1.fetch_max(now, Ordering::SeqCst);
            } else if done == total {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        fn retrying(&self, _: &str, _: &str, _: u32) {}
    }
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let progress = Count(&busy, &most);
                let mut layer = Vec::new();
                client.blob(&world.app(), world.layer(), &mut layer, &progress, &|| false).unwrap();
            });
        }
    });
    assert_eq!(world.proxy.count(Kind::BlobGet), 6);
    assert!(most.load(Ordering::SeqCst) <= 2);
}

#[test]
fn clients_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Client>();
    shared::<RegistryError>();
    assert_eq!(RetryPolicy::default().attempts, 4);
}
