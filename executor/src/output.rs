//! Carrying a process's output to the caller.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Which stream a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Receives output as it comes; pieces end anywhere, also inside a character.
pub trait Output: Send + Sync {
    /// Takes a piece. The process stands still when this takes long.
    fn write(&self, stream: Stream, data: &[u8]);
}

/// Bytes taken at once: what a pipe holds by default.
const PIECE: usize = 64 * 1024;
/// How much is still read after the last process has ended. A pipe holds at most 1 MiB
/// (pipe-max-size); without a bound, a writer that got the pipe through a socket of the host's
/// network could keep the builder busy.
const LEFTOVER: usize = 2 * 1024 * 1024;

/// The reading end of one stream.
pub(crate) struct Reader {
    pub(crate) stream: Stream,
    /// `None` after its end.
    pub(crate) fd: Option<OwnedFd>,
}

/// Both readers, and a buffer for them.
pub(crate) struct Pump<'a> {
    pub(crate) readers: [Reader; 2],
    output: &'a dyn Output,
    buffer: Vec<u8>,
}

/// A stream: where the builder reads, where the process writes. The write end belongs to `uid`,
/// so that a process can open /dev/stdout again by name after it changed its user.
pub(crate) fn stream(stream: Stream, uid: u32) -> Result<(Reader, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&read, OFlags::NONBLOCK)?;
    if uid != 0 {
        rustix::fs::fchown(&write, Some(rustix::fs::Uid::from_raw(uid)), None)?;
    }
    Ok((Reader { stream, fd: Some(read) }, write))
}

impl<'a> Pump<'a> {
    pub(crate) fn new(readers: [Reader; 2], output: &'a dyn Output) -> Self {
        Self { readers, output, buffer: vec![0; PIECE] }
    }

    /// Hands on one piece of a stream that is readable; how much there was.
    pub(crate) fn pump(&mut self, index: usize) -> usize {
        let reader = &mut self.readers[index];
        let Some(fd) = &reader.fd else { return 0 };
        match rustix::io::read(fd.as_fd(), &mut self.buffer[..]) {
            Ok(0) => {
                reader.fd = None;
                0
            }
            Ok(length) => {
                self.output.write(reader.stream, &self.buffer[..length]);
                length
            }
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(_) => {
                reader.fd = None;
                0
            }
        }
    }

    /// Hands on what is left after the last process has ended.
    pub(crate) fn finish(&mut self) {
        for index in 0..self.readers.len() {
            let mut taken = 0;
            while taken < LEFTOVER {
                match self.pump(index) {
                    0 => break,
                    length => taken += length,
                }
            }
        }
    }
}
