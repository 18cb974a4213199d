//! What the holder of a key tells of its step, as bytes.
//!
//! A frame is 17 bytes (kind; seconds, i64; nanoseconds, u32; length, u32; all little endian) and
//! its data, as in the kept logs of builds. The last one may still be on its way.

use std::borrow::Cow;

use oci::Timestamp;
use solver::{News, Stream};

/// Bytes before the data.
const HEAD: usize = 17;
/// The most data of one frame, in bytes.
pub(crate) const MAX_DATA: usize = 1 << 20;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STARTED: u8 = 3;
const FAILED: u8 = 4;

/// The bytes of `news`: a frame, or several where there is much output. A failure that is too
/// long to be told is none: whoever follows finds out by itself.
pub(crate) fn encode(news: &News<'_>) -> Vec<u8> {
    let (kind, at, data) = match news {
        News::Started(at) => (STARTED, *at, &[][..]),
        News::Output { stream: Stream::Stdout, at, data } => (STDOUT, *at, &**data),
        News::Output { stream: Stream::Stderr, at, data } => (STDERR, *at, &**data),
        News::Failed { text, .. } if text.len() > MAX_DATA => return Vec::new(),
        News::Failed { at, text } => (FAILED, *at, text.as_bytes()),
    };
    let mut bytes = Vec::with_capacity(HEAD + data.len());
    if data.is_empty() && kind <= STDERR {
        return bytes;
    }
    let mut frame = |data: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&at.seconds.to_le_bytes());
        bytes.extend_from_slice(&at.nanos.to_le_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        bytes.extend_from_slice(data);
    };
    match data {
        [] => frame(data),
        _ => data.chunks(MAX_DATA).for_each(frame),
    }
    bytes
}

/// Frames out of pieces of bytes.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// Where what was not taken yet begins.
    from: usize,
    /// What came is no frame: nothing after it can be read.
    broken: bool,
}

impl Decoder {
    /// Takes more bytes.
    pub(crate) fn feed(&mut self, more: &[u8]) {
        if self.broken {
            return;
        }
        self.bytes.drain(..std::mem::take(&mut self.from));
        self.bytes.extend_from_slice(more);
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Option<News<'static>> {
        let rest = &self.bytes[self.from..];
        let (head, data) = rest.split_first_chunk::<HEAD>()?;
        let [kind, head @ ..] = head;
        let (seconds, head) = head.split_first_chunk::<8>()?;
        let (nanos, length) = head.split_first_chunk::<4>()?;
        let seconds = i64::from_le_bytes(*seconds);
        let nanos = u32::from_le_bytes(*nanos);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        if !(STDOUT..=FAILED).contains(kind) || length > MAX_DATA || nanos >= 1_000_000_000 {
            self.broken = true;
            self.bytes = Vec::new();
            self.from = 0;
            return None;
        }
        let data = data.get(..length)?;
        let at = Timestamp { seconds, nanos };
        let output = |stream| News::Output { stream, at, data: Cow::Owned(data.to_vec()) };
        let news = match *kind {
            STDOUT => output(Stream::Stdout),
            STDERR => output(Stream::Stderr),
            STARTED => News::Started(at),
            _ => News::Failed { at, text: Cow::Owned(String::from_utf8_lossy(data).into_owned()) },
        };
        self.from += HEAD + length;
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 7 }
    }

    fn samples() -> Vec<News<'static>> {
        let output = |stream, data: &[u8]| News::Output {
            stream,
            at: at(2),
            data: Cow::Owned(data.to_vec()),
        };
        vec![
            News::Started(at(1)),
            output(Stream::Stdout, b"one\n"),
            output(Stream::Stderr, b"\0\xff"),
            output(Stream::Stdout, &[b'x'; 3000]),
            News::Failed { at: at(3), text: Cow::Borrowed("why") },
        ]
    }

    #[test]
    fn whatever_the_pieces() {
        let bytes: Vec<u8> = samples().iter().flat_map(encode).collect();
        for size in [1, 2, 16, 17, 18, 1000, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                found.extend(std::iter::from_fn(|| decoder.next()));
            }
            assert_eq!(found, samples(), "{size}");
        }
    }

    #[test]
    fn much_output_is_several_frames() {
        let data = vec![b'y'; MAX_DATA * 2 + 1];
        let news = News::Output { stream: Stream::Stdout, at: at(1), data: Cow::Borrowed(&data) };
        let mut decoder = Decoder::default();
        decoder.feed(&encode(&news));
        let sizes: Vec<usize> = std::iter::from_fn(|| decoder.next())
            .map(|news| if let News::Output { data, .. } = news { data.len() } else { 0 })
            .collect();
        assert_eq!(sizes, [MAX_DATA, MAX_DATA, 1]);
        let none = News::Output { stream: Stream::Stdout, at: at(1), data: Cow::Borrowed(&[]) };
        assert!(encode(&none).is_empty());
    }

    #[test]
    fn what_is_no_frame_ends_it() {
        let mut decoder = Decoder::default();
        let mut bytes = encode(&News::Started(at(1)));
        bytes.extend([9; 40]);
        decoder.feed(&bytes);
        assert_eq!(decoder.next(), Some(News::Started(at(1))));
        assert_eq!(decoder.next(), None);
        decoder.feed(&encode(&News::Started(at(2))));
        assert_eq!(decoder.next(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_harmless(
            pieces in proptest::collection::vec(proptest::collection::vec(0u8..6, 0..64), 0..20)
        ) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                decoder.feed(&piece);
                while decoder.next().is_some() {}
            }
        }
    }
}
