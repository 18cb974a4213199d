//! The log of a step: frames of output, each with its stream and time.
//!
//! A frame is 17 bytes (stream 1 or 2; seconds, i64; nanoseconds, u32; length, u32; all little
//! endian) and its data. The last one may be cut off.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use oci::Timestamp;
use solver::Stream;

use crate::error::{At, CacheError};

/// Bytes before the data.
const HEAD: usize = 17;
/// The most data of one frame, in bytes.
pub(super) const MAX_DATA: usize = 1 << 20;

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of which stream.
    pub stream: Stream,
    /// When it was told.
    pub at: Timestamp,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The bytes of a frame; `data` is at most [`MAX_DATA`].
pub(super) fn encode(stream: Stream, at: Timestamp, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + data.len());
    bytes.push(match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    });
    bytes.extend_from_slice(&at.seconds.to_le_bytes());
    bytes.extend_from_slice(&at.nanos.to_le_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The frames of a log, one after the other.
#[derive(Debug)]
pub struct Frames {
    path: PathBuf,
    file: BufReader<File>,
}

impl Frames {
    pub(super) fn open(path: &Path) -> Result<Option<Self>, CacheError> {
        let file = super::open(path)?;
        Ok(file.map(|file| Self { path: path.to_owned(), file: BufReader::new(file) }))
    }

    /// The next frame. What is no frame, and what follows it, is left out: a build that was
    /// killed may have written half of one.
    fn read(&mut self) -> std::io::Result<Option<Frame>> {
        let mut head = [0; HEAD];
        if !whole(self.file.read_exact(&mut head))? {
            return Ok(None);
        }
        let (stream, seconds) = head.split_at(1);
        let (seconds, nanos) = seconds.split_at(8);
        let (nanos, length) = nanos.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (nanos, length) = (number(nanos), number(length) as usize);
        let stream = match stream {
            [1] => Stream::Stdout,
            [2] => Stream::Stderr,
            _ => return Ok(None),
        };
        if length > MAX_DATA || nanos >= 1_000_000_000 {
            return Ok(None);
        }
        let seconds = i64::from_le_bytes(seconds.try_into().unwrap_or_default());
        let mut data = vec![0; length];
        let at = Timestamp { seconds, nanos };
        Ok(whole(self.file.read_exact(&mut data))?.then_some(Frame { stream, at, data }))
    }
}

/// Whether something was there in full.
fn whole(read: std::io::Result<()>) -> std::io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, CacheError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().at("read", &self.path).transpose()
    }
}
