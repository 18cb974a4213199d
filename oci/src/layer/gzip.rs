//! gzip on all cores, with the same bytes on any number of them.
//!
//! The input is cut into blocks of one size, each becomes a member of its own, and a gzip stream
//! is any number of members (RFC 1952, section 2.2). So the bytes depend on the content and the
//! level and on nothing else. Headers have neither time nor name.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use libdeflater::{CompressionLvl, Compressor};

/// The bytes of a block before it is compressed. A part of what a level of an encoder version
/// means: another size gives other bytes.
pub const BLOCK_SIZE: usize = 1 << 20;
/// The level that is used if none is asked for.
pub const DEFAULT_GZIP_LEVEL: i32 = 5;
/// The highest level of libdeflate; gzip's own end at 9.
pub const MAX_GZIP_LEVEL: i32 = 12;
/// The version of libdeflate that is linked. Another one may give other bytes.
pub(super) const LIBDEFLATE_VERSION: &str = "1.26.1";

/// A writer into gzip. [`Self::finish`] must be called: without it the last block is missing.
pub struct GzipEncoder<W: Write> {
    out: W,
    level: i32,
    block: Vec<u8>,
    /// Blocks under way, the first to be written first.
    queue: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    /// How many of them there may be.
    depth: usize,
    started: bool,
}

impl<W: Write> GzipEncoder<W> {
    /// An encoder at `level`, 0 (stored) to 12; others count as the nearest of these.
    pub fn new(out: W, level: i32) -> Self {
        // On a thread of the pool waiting for the pool could wait for itself.
        let depth = match rayon::current_thread_index() {
            Some(_) => 0,
            None => rayon::current_num_threads() * 2,
        };
        let level = level.clamp(0, MAX_GZIP_LEVEL);
        Self { out, level, block: Vec::new(), queue: VecDeque::new(), depth, started: false }
    }

    /// Writes what is still held back and returns the output, which is not flushed. No content
    /// at all gives one empty member.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() || !self.started {
            self.send()?;
        }
        while !self.queue.is_empty() {
            self.write_first()?;
        }
        Ok(self.out)
    }

    /// Hands the block over to be compressed.
    fn send(&mut self) -> io::Result<()> {
        self.started = true;
        if self.depth == 0 {
            let member = compress(&self.block, self.level)?;
            self.block.clear();
            return self.out.write_all(&member);
        }
        let block = std::mem::take(&mut self.block);
        let (sender, receiver) = sync_channel(1);
        let level = self.level;
        rayon::spawn(move || {
            // An encoder that was dropped does not wait for its blocks.
            let _ = sender.send(compress(&block, level));
        });
        self.queue.push_back(receiver);
        if self.queue.len() >= self.depth {
            self.write_first()?;
        }
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        let Some(first) = self.queue.pop_front() else { return Ok(()) };
        let member = first.recv().map_err(|_| io::Error::other("a gzip block was lost"))??;
        self.out.write_all(&member)
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.started && self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK_SIZE);
        }
        let taken = bytes.len().min(BLOCK_SIZE - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_SIZE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One member.
fn compress(block: &[u8], level: i32) -> io::Result<Vec<u8>> {
    thread_local! {
        /// A compressor is some hundred kilobytes of tables that are worth keeping.
        static KEPT: RefCell<Option<(i32, Compressor)>> = const { RefCell::new(None) };
    }
    let mut compressor = match KEPT.take() {
        Some((kept, compressor)) if kept == level => compressor,
        _ => {
            let level = CompressionLvl::new(level)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "gzip level"))?;
            Compressor::new(level)
        }
    };
    let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
    let size = compressor.gzip_compress(block, &mut member);
    KEPT.set(Some((level, compressor)));
    member.truncate(size.map_err(io::Error::other)?);
    Ok(member)
}
