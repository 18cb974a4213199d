//! Caches that are written: by two at once, again, in place of others, and without secrets.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::proxy::Kind;
use tests::{require_programs, require_root};

use super::place::*;

/// Every file below a directory, with its time and its inode.
fn files(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::metadata(&path).unwrap();
        if meta.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path, (meta.modified().unwrap(), meta.ino()));
    }
    found
}

#[test]
fn privileged_an_unchanged_export_writes_nothing() {
    require_root!();
    require_programs!("docker-registry");
    let place = Place::new();
    let (machine, context) = (Drydock::new(), project());
    let dir = machine.place("cache");
    let registry = format!("type=registry,ref={},mode=max", place.name("cache:1"));
    let both = [to_dir(&dir, ",mode=max"), registry];
    let build = || {
        place.proxy.forget();
        machine.build(&context).args(["--cache-to", &both[0], "--cache-to", &both[1]]).ok()
    };
    build();
    let before = files(&dir);
    build();
    assert_eq!(files(&dir), before);
    let puts = [Kind::UploadStart, Kind::UploadPut, Kind::ManifestPut, Kind::BlobHead];
    assert_eq!(puts.map(|kind| place.proxy.count(kind)), [0; 4], "{:?}", place.proxy.seen());
    // One more step: what is there is not sent again.
    let longer = clone(&format!("{PROJECT}RUN --network=none echo more > /more\n"));
    place.proxy.forget();
    machine.build(&longer).args(["--cache-to", &both[1]]).ok();
    assert_eq!(place.proxy.count(Kind::UploadPut), 2, "a layer and the records");
    // Somebody cleared up by hand: it is whole again.
    let layer = Cache::open(&dir).layers()[0].clone();
    let path = dir.join(oci::layout::blob_path(&layer.digest));
    fs::remove_file(&path).unwrap();
    build();
    assert!(path.is_file());
}

#[test]
fn privileged_two_write_one_directory() {
    require_root!();
    let place = Drydock::new();
    let dir = place.place("cache");
    let context = |n: usize| {
        Context::new(&format!(
            "FROM busybox\nRUN --network=none echo same > /same\nRUN --network=none echo {n} > /n\n"
        ))
    };
    let machines: Vec<Drydock> = (0..4).map(|_| Drydock::new()).collect();
    let running: Vec<_> = machines
        .iter()
        .enumerate()
        .map(|(n, machine)| {
            let to = to_dir(&dir, &format!(",mode=max,tag=t{n}"));
            machine.build(&context(n)).args(["--cache-to", &to]).start()
        })
        .collect();
    for running in running {
        let output = running.finish();
        assert!(output.status.success(), "{output}");
        assert_no_complaint(&output);
    }
    for n in 0..4 {
        let (_machine, run) = fresh(&context(n), &format!("{},tag=t{n}", from_dir(&dir)));
        let (image, output) = run.image_and_output();
        assert_nothing_ran(&output);
        assert_eq!(image.text("n"), format!("{n}\n"));
    }
    let left = files(&dir).into_keys().filter(|it| it.to_string_lossy().contains(".tmp-"));
    assert_eq!(left.count(), 0);
}

#[test]
fn privileged_tags_digests_and_a_reset() {
    require_root!();
    let machine = Drydock::new();
    let dir = machine.place("cache");
    let context =
        |n: u32| Context::new(&format!("FROM busybox\nRUN --network=none echo {n} > /n\n"));
    let export = |n: u32, more: &str| {
        machine.build(&context(n)).args(["--cache-to", &to_dir(&dir, more)]).ok();
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
        index["manifests"].as_array().unwrap().clone()
    };
    let first = export(1, "");
    assert_eq!(first[0]["annotations"]["org.opencontainers.image.ref.name"], "latest");
    let both = export(2, ",tag=second");
    assert_eq!(both.len(), 2);
    let digest = first[0]["digest"].as_str().unwrap();
    for (n, which) in [(1, ""), (2, ",tag=second"), (1, &format!(",digest={digest}"))] {
        let (_machine, run) = fresh(&context(n), &format!("{}{which}", from_dir(&dir)));
        assert_nothing_ran(&run.ok());
    }
    // The tag goes on; what it named before stays, until somebody asks for a reset.
    assert_eq!(export(3, "").len(), 2);
    let (_machine, run) = fresh(&context(1), &format!("{},digest={digest}", from_dir(&dir)));
    assert!(!run.ok().stderr.contains("importing cache manifest from nothing"));
    assert_eq!(export(3, ",reset=true").len(), 1);
    let blobs = fs::read_dir(dir.join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 3, "manifest, records and one layer");
    let (_machine, run) = fresh(&context(3), &from_dir(&dir));
    assert_nothing_ran(&run.ok());
}

#[test]
fn privileged_a_directory_with_other_things_in_it() {
    require_root!();
    let (home, cache) = cache_of(&project(), ",mode=max");
    let pipe = |path: &Path| {
        fs::remove_file(path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
    };
    let layer = cache.path(&cache.layers()[0].digest);
    // Nobody ever writes into the pipes: who opens one waits for ever.
    for path in [cache.dir.join("index.json"), cache.dir.join("oci-layout"), layer.clone()] {
        pipe(&path);
        for more in [",mode=max", ",mode=max,reset=true"] {
            let to = to_dir(&cache.dir, more);
            assert_no_complaint(&home.build(&project()).args(["--cache-to", &to]).ok());
        }
        let (_machine, run) = fresh(&project(), &from_dir(&cache.dir));
        let (_, output) = run.image_and_output();
        assert_nothing_ran(&output);
    }
    fs::remove_file(&layer).unwrap();
    fs::create_dir(&layer).unwrap();
    let to = to_dir(&cache.dir, ",mode=max");
    let output = home.build(&project()).args(["--cache-to", &to]).ok();
    assert!(output.stderr.contains("the cache was not exported: cannot write"), "{output}");
}

#[test]
fn privileged_the_same_build_is_the_same_cache() {
    require_root!();
    let (machine, cache) = cache_of(&project(), ",mode=max");
    let again = machine.place("again");
    // Another folder, another user's clone, steps in another order.
    for jobs in ["1", "4"] {
        let to = to_dir(&again, ",mode=max");
        machine.build(&project()).args(["--jobs", jobs, "--cache-to", &to]).ok();
        assert_eq!(Cache::open(&again).manifest, cache.manifest);
        fs::remove_dir_all(&again).unwrap();
    }
}

#[test]
fn privileged_secrets_and_cache_mounts_are_not_in_it() {
    require_root!();
    let context = Context::new(
        "FROM busybox\nARG TOKEN\nRUN --network=none --mount=type=secret,id=s --mount=type=cache,target=/c \
         cat /run/secrets/s > /c/kept && echo in-mount >> /c/kept && echo fine > /fine\n",
    );
    let machine = Drydock::new();
    let (dir, secret) = (machine.place("cache"), machine.place("secret"));
    fs::write(&secret, "hunter2-hunter2").unwrap();
    machine
        .build(&context)
        .args(["--secret", &format!("id=s,src={}", secret.display())])
        .args(["--build-arg", "TOKEN=argument-of-mine"])
        .args(["--cache-to", &to_dir(&dir, ",mode=max")])
        .ok();
    for path in files(&dir).into_keys().filter(|path| path.is_file()) {
        let mut bytes = fs::read(&path).unwrap();
        let mut plain = Vec::new();
        if flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).is_ok() {
            bytes.extend(plain);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for word in ["hunter2", "in-mount", "argument-of-mine", "/home/", "e2e-"] {
            assert!(!text.contains(word), "{word} is in {}", path.display());
        }
    }
    let layer = &Cache::open(&dir).layers()[0];
    assert!(layer.size < 1000, "{layer:?}");
}

#[test]
fn privileged_own_records_stay() {
    require_root!();
    let random =
        Context::new("FROM busybox\nRUN --network=none cat /proc/sys/kernel/random/uuid > /id\n");
    let (_home, cache) = cache_of(&random, ",mode=max");
    let machine = Drydock::new();
    let own = machine.build(&random).image().text("id");
    let (image, output) =
        machine.build(&random).args(["--cache-from", &from_dir(&cache.dir)]).image_and_output();
    assert_nothing_ran(&output);
    assert_eq!(image.text("id"), own, "a record of its own comes first");
    let (machine, run) = fresh(&random, &from_dir(&cache.dir));
    let theirs = run.image().text("id");
    assert_ne!(theirs, own);
    // What runs again here is newer than what is there.
    let newer = machine.build(&random).arg("--no-cache").image().text("id");
    let run = machine.build(&random).args(["--cache-from", &from_dir(&cache.dir)]);
    assert_eq!(run.image().text("id"), newer);
}
