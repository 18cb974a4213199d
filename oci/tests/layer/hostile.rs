//! Bytes that nobody meant: no panic, no endless loop, no memory for what is only claimed.

use std::io::Read;

use oci::layer::*;
use proptest::prelude::*;
use tar_core::{EntryType, Header};

use crate::make::*;

/// Reads all of it, and of each content a part.
fn exhaust(raw: &[u8]) {
    let mut reader = LayerReader::new(raw);
    let mut builder = ManifestBuilder::new();
    while let Ok(Some(entry)) = reader.next() {
        let mut content = Vec::new();
        let _ = reader.content().take(5000).read_to_end(&mut content);
        if let Ok(item) = to_layer_entry(&entry, Some(hash(&content))) {
            builder.push(item);
        }
    }
    let manifest = builder.finish(&Tree::default());
    assert_eq!(LayerManifest::decode(&manifest.encode()), Ok(manifest));
}

/// An archive with everything in it.
fn rich() -> Vec<u8> {
    let mut contents = Contents::default();
    let mut odd = contents.file(&"n".repeat(120), b"x");
    odd.meta.uid = 3_000_000_000;
    odd.meta.capability = Some(vec![2; 20].into());
    let m = layer(vec![
        opaque("d"),
        contents.file("d/f", &[b'c'; 1500]),
        link("e", "d/f"),
        symlink("s", &"t".repeat(150)),
        entry("c", Node::CharDevice { major: 1, minor: 3 }, 0o666),
        gone("g"),
        odd,
    ]);
    let mut raw = contents.write(&m, WriteOptions::default());
    raw.truncate(raw.len() - 1024);
    let mut sparse = Header::new_gnu();
    sparse.set_path(b"sparse").unwrap();
    sparse.set_entry_type(EntryType::GnuSparse);
    sparse.set_size(3).unwrap();
    let gnu = sparse.as_gnu_mut();
    gnu.sparse[0].set_offset(10);
    gnu.sparse[0].set_length(3);
    gnu.isextended = [1];
    gnu.set_real_size(100);
    sparse.set_checksum();
    raw.extend(sparse.as_bytes());
    let mut more = [0; 512];
    more[..24].copy_from_slice(b"00000000144\x0000000000000\0");
    raw.extend(more);
    raw.extend([1; 512]);
    raw.extend([0; 1024]);
    raw
}

/// Makes every header's checksum right again, so that changes get past it.
fn seal(raw: &mut [u8]) {
    for block in raw.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            let mut header = *Header::from_bytes(block);
            header.set_checksum();
            *block = *header.as_bytes();
        }
    }
}

#[test]
fn the_sample_itself_is_sound() {
    let entries = read_entries(&rich()).unwrap();
    let (sparse, content) = entries.last().unwrap();
    assert_eq!(sparse.kind, TarKind::File { size: 100 });
    assert_eq!((content.len(), &content[9..14]), (100, &b"\0\x01\x01\x01\0"[..]));
    assert_eq!(entries.len(), 9);
}

#[test]
fn sparse_chains_without_descriptors_end() {
    let mut raw = rich();
    let at = raw.len() - 1024 - 512 - 512;
    raw[at..at + 512].fill(0);
    raw[at + 504] = 1;
    assert!(read_entries(&raw).is_err());
}

#[test]
fn every_cut_is_survived() {
    let raw = rich();
    for cut in (0..raw.len()).step_by(7) {
        exhaust(&raw[..cut]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut raw = rich();
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        seal(&mut raw);
        if shorten {
            raw.truncate(cut.index(raw.len()));
        }
        exhaust(&raw);
    }

    #[test]
    fn noise_never_panics(mut raw in prop::collection::vec(any::<u8>(), 0..4096)) {
        exhaust(&raw);
        for at in (0..raw.len().saturating_sub(512)).step_by(512) {
            raw[at + 257..at + 262].copy_from_slice(b"ustar");
        }
        seal(&mut raw);
        exhaust(&raw);
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz] {
            let input = std::io::Cursor::new(raw.clone());
            let _ = std::io::copy(&mut decoder(compression, Box::new(input)).take(1 << 16), &mut std::io::sink());
        }
        let _ = is_tar(&raw);
        let _ = normalise_capability(&raw);
    }
}
