//! Blobs: nothing gets in that is not what it should be.

mod common;

use std::fs;
use std::io::{Read, Write};

use cache::CacheError;
use oci::{Descriptor, Digest};

const TYPE: &str = "application/octet-stream";

#[test]
fn only_the_expected_bytes_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let blobs = state.blobs();
    let expected = Descriptor::of(TYPE, b"hello");
    for wrong in [&b"hellO"[..], b"hell", b"hello!", b""] {
        let mut writer = blobs.writer(&expected).unwrap();
        writer.write_all(wrong).unwrap();
        assert!(matches!(writer.commit(&expected), Err(CacheError::BlobMismatch { .. })));
        assert!(!blobs.exists(&expected.digest));
        assert_eq!(fs::read_dir(dir.path().join("inflight")).unwrap().count(), 0);
    }
    let mut writer = blobs.writer(&expected).unwrap();
    writer.write_all(b"hello").unwrap();
    writer.commit(&expected).unwrap();
    assert!(blobs.exists(&expected.digest) && blobs.has(&expected));
    assert!(blobs.verify(&expected.digest).unwrap());
    let mut text = String::new();
    blobs.open(&expected.digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(blobs.list().unwrap()[0].size, 5);
    blobs.remove(&expected.digest).unwrap();
    blobs.remove(&expected.digest).unwrap();
    assert!(blobs.open(&expected.digest).unwrap().is_none());
}

#[test]
fn a_part_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let blobs = state.blobs();
    let expected = Descriptor::of(TYPE, b"hello world");
    let mut writer = blobs.writer(&expected).unwrap();
    writer.write_all(b"hello ").unwrap();
    // Somebody else gets a place of its own.
    let mut beside = blobs.writer(&expected).unwrap();
    assert_eq!(beside.position(), 0);
    beside.write_all(b"x").unwrap();
    drop(beside);
    drop(writer);
    let mut writer = blobs.writer(&expected).unwrap();
    assert_eq!(writer.position(), 6);
    writer.write_all(b"world").unwrap();
    writer.commit(&expected).unwrap();
    assert!(blobs.verify(&expected.digest).unwrap());

    let other = Descriptor::of(TYPE, b"abc");
    let mut writer = blobs.writer(&other).unwrap();
    writer.write_all(b"xy").unwrap();
    drop(writer);
    let mut writer = blobs.writer(&other).unwrap();
    assert_eq!(writer.position(), 2);
    writer.restart().unwrap();
    assert_eq!(writer.position(), 0);
    writer.write_all(b"abc").unwrap();
    writer.commit(&other).unwrap();
    assert!(blobs.verify(&other.digest).unwrap());
    assert_eq!(fs::read_dir(dir.path().join("inflight")).unwrap().count(), 0);
}

#[test]
fn a_part_that_is_too_long_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let expected = Descriptor::of(TYPE, b"abc");
    let part = dir.path().join(format!("inflight/blob-{}", expected.digest.hex()));
    fs::write(part, "far too long").unwrap();
    assert_eq!(state.blobs().writer(&expected).unwrap().position(), 0);
}

#[test]
fn damaged_blobs_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let blobs = state.blobs();
    let blob = blobs.put(TYPE, b"{\"a\":1}").unwrap();
    assert_eq!(blobs.read(&blob.digest, 100).unwrap().unwrap(), b"{\"a\":1}");
    assert_eq!(blobs.read(&blob.digest, 3).unwrap(), None);
    fs::write(blobs.path(&blob.digest), b"{\"a\":2}").unwrap();
    assert_eq!(blobs.read(&blob.digest, 100).unwrap(), None);
    assert!(!blobs.verify(&blob.digest).unwrap());
    fs::write(blobs.path(&blob.digest), b"{").unwrap();
    assert!(blobs.open_sized(&blob).unwrap().is_none() && !blobs.has(&blob));
    fs::write(blobs.path(&blob.digest), b"").unwrap();
    assert!(!blobs.exists(&blob.digest) && blobs.open(&blob.digest).unwrap().is_none());
    let empty = blobs.put(TYPE, b"").unwrap();
    assert!(blobs.exists(&empty.digest) && empty.digest == Digest::of(b""));
}

#[test]
fn a_blob_whose_digest_is_not_known_before() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let mut writer = state.blobs().create().unwrap();
    writer.write_all(b"compressed").unwrap();
    let descriptor = writer.finish(TYPE).unwrap();
    assert_eq!(descriptor, Descriptor::of(TYPE, b"compressed"));
    assert!(state.blobs().verify(&descriptor.digest).unwrap());
    drop(state.blobs().create().unwrap());
    assert_eq!(fs::read_dir(dir.path().join("inflight")).unwrap().count(), 0);
}

#[test]
fn a_damaged_blob_is_noticed_while_it_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let state = common::open(dir.path());
    let blobs = state.blobs();
    let blob = blobs.put(TYPE, b"hello").unwrap();
    let mut read = Vec::new();
    blobs.open_verified(&blob).unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, b"hello");
    fs::write(blobs.path(&blob.digest), "hellO").unwrap();
    let mut reader = blobs.open_verified(&blob).unwrap().unwrap();
    assert_eq!(reader.read(&mut []).unwrap(), 0, "this is not the end");
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(!blobs.exists(&blob.digest), "it is made or fetched again");
    assert!(blobs.open_verified(&blob).unwrap().is_none());
}
