//! Round trips, equal bytes on any number of threads, other tools' streams.

use std::io::{self, Cursor, Read, Write};
use std::process::{Command, Stdio};

use oci::layer::*;

/// Neither constant nor random.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"drydock builds images\n"[(state >> 27) as usize % 22]
    })
    .take(size)
    .collect()
}

fn encode(compression: Compression, level: Option<i32>, raw: &[u8], step: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(compression, level, Vec::new()).unwrap();
    raw.chunks(step).for_each(|chunk| encoder.write_all(chunk).unwrap());
    encoder.finish().unwrap()
}

fn decode(raw: &[u8]) -> io::Result<Vec<u8>> {
    let compression = Compression::detect(raw);
    let mut out = Vec::new();
    decoder(compression, Box::new(Cursor::new(raw.to_vec()))).read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn round_trips() {
    for size in [0, 1, 1024, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 17] {
        let raw = sample(size);
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = encode(compression, None, &raw, 100_000);
            assert_eq!(Compression::detect(&packed), compression);
            assert!(decode(&packed).unwrap() == raw, "{compression} {size}");
        }
    }
    assert_eq!(encode(Compression::None, None, b"abc", 2), b"abc");
}

#[test]
fn bytes_do_not_depend_on_threads_or_writes() {
    let raw = sample(20 * BLOCK_SIZE + 5);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let want = encode(compression, None, &raw, raw.len());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| encode(compression, None, &raw, 77_777));
            assert!(got == want, "{compression} on {threads}");
        }
        assert!(encode(compression, None, &raw, 4096) == want, "{compression}");
    }
}

#[test]
fn an_empty_layer_stays_small() {
    let packed = encode(Compression::Gzip, None, &[0; 1024], 1024);
    assert!(packed.len() <= 32, "{}", packed.len());
    // No flags, no time (RFC 1952, section 2.3).
    assert_eq!(packed[3..8], [0; 5]);
}

#[test]
fn levels() {
    let raw = sample(300_000);
    for (compression, max) in
        [(Compression::Gzip, MAX_GZIP_LEVEL), (Compression::Zstd, MAX_ZSTD_LEVEL)]
    {
        for level in [0, 1, max] {
            assert!(decode(&encode(compression, Some(level), &raw, 5000)).unwrap() == raw);
        }
        for level in [-1, max + 1] {
            let error = Encoder::new(compression, Some(level), Vec::new()).err().unwrap();
            assert!(matches!(error, CompressionError::Level { .. }), "{error}");
        }
    }
    for compression in [Compression::Bzip2, Compression::Xz] {
        assert!(Encoder::new(compression, None, Vec::new()).is_err());
    }
}

#[test]
fn damaged_and_cut_streams_are_errors() {
    let raw = sample(200_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let packed = encode(compression, None, &raw, 5000);
        for cut in [packed.len() - 1, packed.len() / 2, 20] {
            assert!(decode(&packed[..cut]).is_err(), "{compression} {cut}");
        }
        let mut bad = packed.clone();
        let last = bad.len() - 2;
        bad[last] ^= 1;
        assert!(decode(&bad).is_err(), "{compression}");
    }
}

#[test]
fn identities_tell_encoders_apart() {
    let of = encoder_version;
    assert_eq!(of(Compression::Gzip, None), of(Compression::Gzip, Some(DEFAULT_GZIP_LEVEL)));
    assert_ne!(of(Compression::Gzip, Some(1)), of(Compression::Gzip, Some(2)));
    assert_ne!(of(Compression::Zstd, None), of(Compression::Gzip, None));
    // The version in the key is the one that is linked.
    let lock = include_str!("../../../Cargo.lock");
    let at = lock.find("name = \"libdeflate-sys\"").unwrap();
    let version = lock[at..].lines().nth(1).unwrap();
    let version = version.trim_start_matches("version = ").trim_matches('"');
    let plain = version.split('+').next().unwrap();
    assert!(of(Compression::Gzip, None).contains(&format!("libdeflate-{plain}:")), "{version}");
}

#[test]
fn a_failing_output_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut encoder = Encoder::new(compression, None, Full).unwrap();
        let written = encoder.write_all(&sample(1000));
        assert!(written.and_then(|()| encoder.finish().map(drop)).is_err());
    }
}

/// Runs a program of the host on `input`; none, with the reason printed, if it is not there.
fn through(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let spawned =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("skipped {program}: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    Some(output.stdout)
}

#[test]
fn other_tools_agree() {
    let raw = sample(2 * BLOCK_SIZE + 3);
    for (program, compression) in [
        ("gzip", Some(Compression::Gzip)),
        ("zstd", Some(Compression::Zstd)),
        ("bzip2", None),
        ("xz", None),
    ] {
        let Some(packed) = through(program, &["-c"], &raw) else { continue };
        // Two streams in a row are one.
        assert!(decode(&[&packed[..], &packed].concat()).unwrap() == raw.repeat(2), "{program}");
        if let Some(compression) = compression {
            let ours = encode(compression, None, &raw, 9999);
            assert!(through(program, &["-dc"], &ours).unwrap() == raw, "{program}");
        }
    }
}
