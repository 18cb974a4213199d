//! Reading any tar: ustar, GNU, PAX and the old form before them.
//!
//! Header layout and entry types are those of `tar-core`. The state machine is our own: its
//! parser adds up sizes that an archive claims without a check, takes negative times for an
//! error, and does not count the map of a sparse file as part of the size that PAX gives.

use std::io::{self, Read};

use tar_core::{EntryType, HEADER_SIZE, Header};

use crate::Timestamp;

use super::extension::{Extension, MAX_EXTENSION_BYTES, MAX_RAW_PATH, name};
use super::header;
use super::sparse::{MAX_SEGMENTS, MapReader, Segment, segments};

/// The most extension entries before one entry.
pub const MAX_EXTENSIONS: usize = 16;

/// One block.
type Block = [u8; HEADER_SIZE];

/// What a tar entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Of the whole file with its holes, in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// As stored.
        target: Vec<u8>,
    },
    /// One more name of an earlier entry.
    HardLink {
        /// The name of that entry as stored.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One entry of a tar, as it is stored: nothing about it is safe to use as a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// The name, all extensions applied.
    pub raw_path: Vec<u8>,
    /// What it is.
    pub kind: TarKind,
    /// Permission bits and maybe file type bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// The extended attributes (`SCHILY.xattr.*`), each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where a sparse file has data; [`LayerReader::content`] fills in the zeros.
    pub sparse: Option<Vec<Segment>>,
}

/// Why a tar cannot be read further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed.
    #[error("reading a tar archive at byte {position}: {source}")]
    Io {
        /// Bytes read so far.
        position: u64,
        /// The cause.
        source: io::Error,
    },
    /// The input ends inside an entry.
    #[error("reading a tar archive: it ends early, at byte {position}")]
    Truncated {
        /// Where it ends.
        position: u64,
    },
    /// Something that no tar has, or more of it than is accepted.
    #[error("reading a tar archive: {reason} in the entry at byte {position}")]
    Malformed {
        /// Where the entry's header starts.
        position: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry type that has no meaning in a layer.
    #[error("reading a tar archive: unknown entry type {kind:?} at byte {position}")]
    UnknownType {
        /// Where the entry's header starts.
        position: u64,
        /// The type byte.
        kind: char,
    },
}

/// Reads a tar entry by entry, with one pass over the input and without reading ahead.
///
/// Blocks of 512 bytes are read one by one: give it a buffered reader.
pub struct LayerReader<R: Read> {
    inner: R,
    position: u64,
    global: Extension,
    /// Stored bytes of the current entry that are not read yet.
    stored: u64,
    /// What fills its last block.
    padding: u64,
    /// The current entry's size, and where the next content byte is.
    size: u64,
    offset: u64,
    /// Where it has data; none: everywhere.
    segments: Option<Vec<Segment>>,
    segment: usize,
    done: bool,
}

impl<R: Read> LayerReader<R> {
    /// A reader of the tar that `inner` gives.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            position: 0,
            global: Extension::default(),
            stored: 0,
            padding: 0,
            size: 0,
            offset: 0,
            segments: None,
            segment: 0,
            done: false,
        }
    }

    /// How many bytes of the archive were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The input, behind what was read. After the last entry that is behind the two zero blocks:
    /// who wants the digest of the whole stream reads on to its end.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; what is left of the current one's content is skipped. None after two zero
    /// blocks, whatever follows them, and where the input ends between two entries.
    ///
    /// # Errors
    /// See [`ReadError`]. After an error there are no more entries.
    #[allow(clippy::should_implement_trait)] // An iterator could not lend its content.
    pub fn next(&mut self) -> Result<Option<TarEntry>, ReadError> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let entry = self.skip_rest().and_then(|()| self.read_entry())?;
        self.done = entry.is_none();
        Ok(entry)
    }

    /// The content of the current entry, from where it was read last; holes are zeros. Empty for
    /// everything but regular files.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    fn skip_rest(&mut self) -> Result<(), ReadError> {
        let left = self.stored + self.padding;
        self.clear_content();
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink());
        let skipped =
            skipped.map_err(|source| ReadError::Io { position: self.position, source })?;
        self.position += skipped;
        if skipped < left {
            return Err(ReadError::Truncated { position: self.position });
        }
        Ok(())
    }

    fn clear_content(&mut self) {
        (self.stored, self.padding, self.size, self.offset, self.segment) = (0, 0, 0, 0, 0);
        self.segments = None;
    }

    fn read_entry(&mut self) -> Result<Option<TarEntry>, ReadError> {
        let mut extension = None;
        // A global header may change between the extensions of one entry and the entry.
        let mut long_name = None;
        let mut long_link = None;
        let mut budget = MAX_EXTENSION_BYTES;
        for _ in 0..=MAX_EXTENSIONS {
            let start = self.position;
            let fail = |reason| ReadError::Malformed { position: start, reason };
            let Some(block) = self.header_block()? else {
                let pending = extension.is_some() || long_name.is_some() || long_link.is_some();
                return if pending { Err(fail("extensions without an entry")) } else { Ok(None) };
            };
            let head = Header::from_bytes(&block);
            match head.entry_type() {
                EntryType::XHeader | EntryType::Other(b'X') => {
                    let data = self.extension_data(head, &mut budget, start)?;
                    let global = &self.global;
                    let into = extension.get_or_insert_with(|| global.clone());
                    into.apply(&data, false).map_err(fail)?;
                }
                EntryType::XGlobalHeader => {
                    let data = self.extension_data(head, &mut budget, start)?;
                    self.global.apply(&data, true).map_err(fail)?;
                }
                EntryType::GnuLongName => {
                    let data = self.extension_data(head, &mut budget, start)?;
                    long_name = name(header::text(&data)).map_err(fail)?;
                }
                EntryType::GnuLongLink => {
                    let data = self.extension_data(head, &mut budget, start)?;
                    long_link = name(header::text(&data)).map_err(fail)?;
                }
                // The label of a volume.
                EntryType::Other(b'V') => {
                    self.extension_data(head, &mut budget, start)?;
                }
                _ => {
                    let mut extension = extension.unwrap_or_else(|| self.global.clone());
                    extension.path = extension.path.or(long_name);
                    extension.link = extension.link.or(long_link);
                    return self.entry(&block, extension, start).map(Some);
                }
            }
        }
        Err(ReadError::Malformed { position: self.position, reason: "too many extensions" })
    }

    /// The next header block with a right checksum; none at the end.
    fn header_block(&mut self) -> Result<Option<Block>, ReadError> {
        let start = self.position;
        let Some(block) = self.block_or_end()? else { return Ok(None) };
        if block.iter().all(|b| *b == 0) {
            return match self.block_or_end()? {
                None => Ok(None),
                Some(second) if second.iter().all(|b| *b == 0) => Ok(None),
                Some(_) => Err(ReadError::Malformed {
                    position: start,
                    reason: "a single zero block instead of two",
                }),
            };
        }
        if !header::checksum_holds(&block) {
            return Err(ReadError::Malformed { position: start, reason: "wrong checksum" });
        }
        Ok(Some(block))
    }

    /// The data of an extension entry, as long as there is budget.
    fn extension_data(
        &mut self,
        head: &Header,
        budget: &mut u64,
        position: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let fail = |reason| ReadError::Malformed { position, reason };
        let size = header::number(&head.as_ustar().size).and_then(|n| u64::try_from(n).ok());
        let size = size.ok_or_else(|| fail("malformed size"))?;
        *budget = budget.checked_sub(size).ok_or_else(|| fail("too long an extended header"))?;
        let mut data = vec![0; size.next_multiple_of(HEADER_SIZE as u64) as usize];
        self.fill(&mut data)?;
        data.truncate(size as usize);
        Ok(data)
    }

    /// Puts header and extensions together and makes the content ready.
    fn entry(
        &mut self,
        block: &Block,
        extension: Extension,
        position: u64,
    ) -> Result<TarEntry, ReadError> {
        let fail = |reason| ReadError::Malformed { position, reason };
        let head = Header::from_bytes(block);
        let fields = head.as_ustar();
        let number = |field: &[u8], what| header::number(field).ok_or_else(|| fail(what));
        let own_size = number(&fields.size, "malformed size")?;
        let stored = match extension.size {
            Some(size) => size,
            None => u64::try_from(own_size).map_err(|_| fail("negative size"))?,
        };
        let uid = extension.uid.map_or_else(|| number(&fields.uid, "malformed uid"), Ok)?;
        let gid = extension.gid.map_or_else(|| number(&fields.gid, "malformed gid"), Ok)?;
        let mtime = match extension.mtime {
            Some(time) => time,
            None => Timestamp::from_seconds(number(&fields.mtime, "malformed time")?),
        };
        let mode = number(&fields.mode, "malformed mode")?;
        let sparse_name = extension.sparse.name.clone();
        let raw_path = sparse_name.or(extension.path.clone()).unwrap_or_else(|| header::name(head));
        let link =
            extension.link.clone().unwrap_or_else(|| header::text(&fields.linkname).to_vec());
        let kind = match head.entry_type() {
            EntryType::Regular if fields.typeflag == [0] && raw_path.ends_with(b"/") => {
                TarKind::Directory
            }
            EntryType::Regular | EntryType::Continuous => {
                let size = self.prepare(stored, &extension, position)?;
                TarKind::File { size }
            }
            EntryType::GnuSparse => {
                TarKind::File { size: self.prepare_gnu_sparse(block, stored, position)? }
            }
            EntryType::Link => TarKind::HardLink { target: link },
            EntryType::Symlink => TarKind::Symlink { target: link },
            EntryType::Directory => TarKind::Directory,
            EntryType::Fifo => TarKind::Fifo,
            EntryType::Char | EntryType::Block => {
                device(head).ok_or_else(|| fail("device number"))?
            }
            // A directory of an incremental GNU archive has a list of names as its content.
            EntryType::Other(b'D') => {
                self.set_stored(stored).ok_or_else(|| fail("malformed size"))?;
                TarKind::Directory
            }
            other => {
                return Err(ReadError::UnknownType { position, kind: char::from(other.to_byte()) });
            }
        };
        Ok(TarEntry {
            raw_path,
            kind,
            mode: mode as u32,
            uid: id(uid).ok_or_else(|| fail("owner out of range"))?,
            gid: id(gid).ok_or_else(|| fail("group out of range"))?,
            mtime,
            xattrs: extension.xattrs,
            sparse: self.segments.clone(),
        })
    }

    /// Notes how much of the stream belongs to the current entry.
    fn set_stored(&mut self, stored: u64) -> Option<()> {
        let whole = stored.checked_next_multiple_of(HEADER_SIZE as u64)?;
        (self.stored, self.padding) = (stored, whole - stored);
        Some(())
    }

    /// Makes the content of a regular file ready; returns its size.
    fn prepare(
        &mut self,
        stored: u64,
        extension: &Extension,
        position: u64,
    ) -> Result<u64, ReadError> {
        let fail = |reason| ReadError::Malformed { position, reason };
        self.set_stored(stored).ok_or_else(|| fail("malformed size"))?;
        let sparse = &extension.sparse;
        let map = match (sparse.major, sparse.minor, &sparse.map) {
            (Some(1), Some(0), _) => Some(self.read_map(position)?),
            (_, _, Some(map)) if map.len().is_multiple_of(2) => Some(pairs(map)),
            (_, _, Some(_)) => return Err(fail("malformed sparse map")),
            _ => None,
        };
        self.size = stored;
        if let Some(map) = map {
            self.size = sparse.real_size.ok_or_else(|| fail("sparse file without a size"))?;
            self.segments = Some(segments(map, self.size, self.stored).map_err(fail)?);
        }
        Ok(self.size)
    }

    /// Reads a sparse map that is part of the stored data.
    fn read_map(&mut self, position: u64) -> Result<Vec<(u64, u64)>, ReadError> {
        let fail = |reason| ReadError::Malformed { position, reason };
        let mut map = MapReader::default();
        loop {
            if self.stored < HEADER_SIZE as u64 {
                return Err(fail("malformed sparse map"));
            }
            let mut block = [0; HEADER_SIZE];
            self.fill(&mut block)?;
            self.stored -= HEADER_SIZE as u64;
            if map.block(&block).map_err(fail)? {
                return Ok(map.pairs().collect());
            }
        }
    }

    /// Makes the content of an old GNU sparse file ready; returns its size.
    fn prepare_gnu_sparse(
        &mut self,
        block: &Block,
        stored: u64,
        position: u64,
    ) -> Result<u64, ReadError> {
        let fail = |reason| ReadError::Malformed { position, reason };
        let bad = || fail("malformed sparse map");
        let header::GnuSparse { mut map, size, mut more } =
            header::gnu_sparse(block).ok_or_else(bad)?;
        while more {
            let mut block = [0; HEADER_SIZE];
            self.fill(&mut block)?;
            let (next, again) = header::gnu_sparse_more(&block).ok_or_else(bad)?;
            // Empty blocks would make the chain endless at no cost in descriptors.
            if next.is_empty() || map.len() > MAX_SEGMENTS {
                return Err(bad());
            }
            map.extend(next);
            more = again;
        }
        let unsigned = |n: i64| u64::try_from(n).map_err(|_| bad());
        let map: Result<Vec<_>, _> =
            map.into_iter().map(|(at, len)| Ok((unsigned(at)?, unsigned(len)?))).collect();
        self.size = unsigned(size)?;
        self.segments = Some(segments(map?, self.size, stored).map_err(fail)?);
        self.set_stored(stored).ok_or_else(bad)?;
        Ok(self.size)
    }

    /// The next block; none if the input ends before it.
    fn block_or_end(&mut self) -> Result<Option<Block>, ReadError> {
        let mut block = [0; HEADER_SIZE];
        let mut filled = 0;
        while filled < HEADER_SIZE {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ReadError::Truncated { position: self.position }),
                Ok(got) => {
                    filled += got;
                    self.position += got as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { position: self.position, source }),
            }
        }
        Ok(Some(block))
    }

    /// Reads exactly as much as `out` holds.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), ReadError> {
        let position = self.position;
        self.inner.read_exact(out).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Truncated { position },
            _ => ReadError::Io { position, source },
        })?;
        self.position += out.len() as u64;
        Ok(())
    }
}

/// The content of one entry.
pub struct Content<'a, R: Read> {
    reader: &'a mut LayerReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        let left = reader.size - reader.offset;
        let mut want = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        if let Some(segments) = &reader.segments {
            while segments.get(reader.segment).is_some_and(|s| s.offset + s.length <= reader.offset)
            {
                reader.segment += 1;
            }
            let next = segments.get(reader.segment).map_or(reader.size, |s| s.offset);
            if next > reader.offset {
                want = want.min(usize::try_from(next - reader.offset).unwrap_or(usize::MAX));
                out[..want].fill(0);
                reader.offset += want as u64;
                return Ok(want);
            }
            let end = segments.get(reader.segment).map_or(0, |s| s.offset + s.length);
            want = want.min(usize::try_from(end - reader.offset).unwrap_or(usize::MAX));
        }
        let got = reader.inner.read(&mut out[..want])?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the tar archive ends early, at byte {}", reader.position),
            ));
        }
        reader.position += got as u64;
        reader.stored -= got as u64;
        reader.offset += got as u64;
        Ok(got)
    }
}

/// An owner or group. Old archives write -2 for "nobody".
fn id(number: i64) -> Option<u32> {
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(|n| n as u32))
}

fn device(head: &Header) -> Option<TarKind> {
    let part = |field: &[u8]| u32::try_from(header::number(field)?).ok();
    let (major, minor) = (part(&head.as_ustar().dev_major)?, part(&head.as_ustar().dev_minor)?);
    Some(match head.entry_type() {
        EntryType::Char => TarKind::CharDevice { major, minor },
        _ => TarKind::BlockDevice { major, minor },
    })
}

fn pairs(map: &[u64]) -> Vec<(u64, u64)> {
    map.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

// A name that a header alone gives is short.
const _: () = assert!(MAX_RAW_PATH > 100 + 155);
