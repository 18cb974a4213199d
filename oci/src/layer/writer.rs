//! The tar of a layer, in one form only: equal manifests and contents give equal bytes.
//!
//! Names have no leading `./` or `/`, directories end with a slash, the root has no entry, user
//! and group names are empty, and an extended header is there only where a ustar header cannot
//! say it: names over 100 bytes, ids over 2,097,151, sizes from 8 GiB, times with a fraction or
//! before 1970, file capabilities. The end is two zero blocks and no more.

use std::io::{self, Read, Write};

use tar_core::{EntryType, HEADER_SIZE, Header};

use crate::Timestamp;

use super::capability::CAPABILITY_XATTR;
use super::pax::{append_record, format_time};
use super::whiteout::{OPAQUE_NAME, WHITEOUT_PREFIX};
use super::{Entry, LayerManifest, Metadata, Node, TreePath};

/// The longest name and link name of a ustar header.
const NAME_FIELD: usize = 100;
/// What seven octal digits hold.
const MAX_SMALL_NUMBER: u64 = 0o7_777_777;
/// What eleven octal digits hold.
const MAX_LARGE_NUMBER: u64 = 0o77_777_777_777;
/// File content is copied in pieces of this size.
const COPY_BUFFER: usize = 1 << 17;

/// How a layer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Times newer than this are written as this (reproducible-builds.org, SOURCE_DATE_EPOCH).
    pub epoch: Option<Timestamp>,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file's content could not be had.
    #[error("writing a layer: reading {path}: {source}")]
    Read {
        /// Of the file.
        path: TreePath,
        /// From the reader.
        source: io::Error,
    },
    /// The file is not what the manifest says; it was changed meanwhile.
    #[error("writing a layer: {path} has {} its {expected} bytes", if *.longer { "more than" } else { "less than" })]
    SizeChanged {
        /// Of the file.
        path: TreePath,
        /// In bytes, from the manifest.
        expected: u64,
        /// Whether the reader gave more; otherwise it gave less.
        longer: bool,
    },
    /// A file whose name would be read as a whiteout.
    #[error("writing a layer: {path}: names that begin with .wh. mean a deletion in an image")]
    ReservedName {
        /// Of the file.
        path: TreePath,
    },
    /// A number that no tar header holds.
    #[error("writing a layer: {path}: device number {number} does not fit into a tar header")]
    DeviceNumber {
        /// Of the device.
        path: TreePath,
        /// Major or minor.
        number: u32,
    },
    /// The output failed.
    #[error("writing a layer: {0}")]
    Write(#[source] io::Error),
}

/// Writes the tar of `manifest` to `out`; `open` gives the content of a regular file.
///
/// # Errors
/// See [`WriteError`]. A file that is not as long as the manifest says is an error, never a
/// damaged archive; what was written up to then is of no use.
pub fn write_layer<W: Write>(
    manifest: &LayerManifest,
    open: &mut dyn FnMut(&Entry) -> io::Result<Box<dyn Read>>,
    options: &WriteOptions,
    out: W,
) -> Result<W, WriteError> {
    let mut writer = LayerWriter::new(out, *options);
    for entry in manifest.entries() {
        match entry.node {
            Node::File { .. } => {
                let mut content = open(entry)
                    .map_err(|source| WriteError::Read { path: entry.path.clone(), source })?;
                writer.append(entry, &mut content)?;
            }
            _ => writer.append(entry, &mut io::empty())?,
        }
    }
    writer.finish()
}

/// Writes a layer entry by entry. The caller keeps the order of the manifest.
pub struct LayerWriter<W: Write> {
    out: W,
    options: WriteOptions,
    buffer: Vec<u8>,
}

/// One header's worth of fields.
struct Fields<'a> {
    name: Vec<u8>,
    kind: EntryType,
    size: u64,
    link: &'a [u8],
    device: Option<(u32, u32)>,
}

impl<W: Write> LayerWriter<W> {
    /// A writer to `out`.
    pub fn new(out: W, options: WriteOptions) -> Self {
        Self { out, options, buffer: Vec::new() }
    }

    /// Writes one entry; an opaque directory is followed by its marker. `content` is read for
    /// regular files only, to its end.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), WriteError> {
        if let Node::Whiteout = entry.node {
            return self.append_marker(whiteout_name(&entry.path));
        }
        if entry.path.file_name().is_some_and(|n| n.starts_with(WHITEOUT_PREFIX)) {
            return Err(WriteError::ReservedName { path: entry.path.clone() });
        }
        let fields = fields(entry)?;
        self.append_header(&fields, &entry.meta)?;
        match &entry.node {
            Node::File { size, .. } => self.append_content(&entry.path, *size, content),
            Node::Directory { opaque: true } => {
                self.append_marker([entry.path.as_bytes(), b"/", OPAQUE_NAME].concat())
            }
            _ => Ok(()),
        }
    }

    /// Writes the end of the archive and returns the output, which is not flushed.
    ///
    /// # Errors
    /// If the output fails.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.put(&[0; 2 * HEADER_SIZE])?;
        Ok(self.out)
    }

    /// A whiteout or opaque marker: an empty file with nothing but its name.
    fn append_marker(&mut self, name: Vec<u8>) -> Result<(), WriteError> {
        let fields = Fields { name, kind: EntryType::Regular, size: 0, link: b"", device: None };
        self.append_header(&fields, &Metadata::default())
    }

    fn append_header(&mut self, fields: &Fields<'_>, meta: &Metadata) -> Result<(), WriteError> {
        let mtime = self.options.epoch.map_or(meta.mtime, |epoch| meta.mtime.min(epoch));
        let extended = extended_header(fields, meta, mtime);
        if !extended.is_empty() {
            let header = header(&Fields {
                name: extended_name(&fields.name),
                kind: EntryType::XHeader,
                size: extended.len() as u64,
                link: b"",
                device: None,
            });
            self.put(sealed(header).as_bytes())?;
            self.put(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        let mut header = header(fields);
        let field = header.as_ustar_mut();
        octal(&mut field.mode, (meta.mode & 0o7777).into());
        octal(&mut field.uid, small(meta.uid));
        octal(&mut field.gid, small(meta.gid));
        octal(&mut field.mtime, whole_seconds(mtime).unwrap_or(0));
        self.put(sealed(header).as_bytes())
    }

    fn append_content(
        &mut self,
        path: &TreePath,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), WriteError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(COPY_BUFFER, 0);
        let mut left = size;
        loop {
            // One byte more than is left shows a file that has grown.
            let want = usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1);
            let got = match content.read(&mut buffer[..want.min(COPY_BUFFER)]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Read { path: path.clone(), source }),
            };
            if got as u64 > left || (got == 0 && left > 0) {
                let longer = got > 0;
                return Err(WriteError::SizeChanged { path: path.clone(), expected: size, longer });
            }
            if got == 0 {
                break;
            }
            self.put(&buffer[..got])?;
            left -= got as u64;
        }
        self.buffer = buffer;
        self.pad(size)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(WriteError::Write)
    }

    fn pad(&mut self, size: u64) -> Result<(), WriteError> {
        let over = (size % HEADER_SIZE as u64) as usize;
        match over {
            0 => Ok(()),
            over => self.put(&[0; HEADER_SIZE][over..]),
        }
    }
}

/// What the header of `entry` says besides its metadata.
fn fields(entry: &Entry) -> Result<Fields<'_>, WriteError> {
    let mut name = entry.path.as_bytes().to_vec();
    let mut size = 0;
    let mut link: &[u8] = b"";
    let mut device = None;
    let kind = match &entry.node {
        Node::Directory { .. } => {
            name.push(b'/');
            EntryType::Directory
        }
        Node::File { size: bytes, .. } => {
            size = *bytes;
            EntryType::Regular
        }
        Node::Symlink { target } => {
            link = target;
            EntryType::Symlink
        }
        Node::HardLink { target } => {
            link = target.as_bytes();
            EntryType::Link
        }
        Node::CharDevice { major, minor } => {
            device = Some((*major, *minor));
            EntryType::Char
        }
        Node::BlockDevice { major, minor } => {
            device = Some((*major, *minor));
            EntryType::Block
        }
        Node::Fifo => EntryType::Fifo,
        Node::Whiteout => EntryType::Regular,
    };
    for number in device.into_iter().flat_map(|(major, minor)| [major, minor]) {
        if u64::from(number) > MAX_SMALL_NUMBER {
            return Err(WriteError::DeviceNumber { path: entry.path.clone(), number });
        }
    }
    Ok(Fields { name, kind, size, link, device })
}

/// The records that the ustar header cannot hold, sorted by key; empty if there are none.
fn extended_header(fields: &Fields<'_>, meta: &Metadata, mtime: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    if let (Some(value), EntryType::Regular) = (&meta.capability, fields.kind) {
        append_record(&mut out, &[b"SCHILY.xattr.", CAPABILITY_XATTR].concat(), value);
    }
    if u64::from(meta.gid) > MAX_SMALL_NUMBER {
        append_record(&mut out, b"gid", meta.gid.to_string().as_bytes());
    }
    if fields.link.len() > NAME_FIELD {
        append_record(&mut out, b"linkpath", fields.link);
    }
    if whole_seconds(mtime).is_none() {
        append_record(&mut out, b"mtime", format_time(mtime).as_bytes());
    }
    if fields.name.len() > NAME_FIELD {
        append_record(&mut out, b"path", &fields.name);
    }
    if fields.size > MAX_LARGE_NUMBER {
        append_record(&mut out, b"size", fields.size.to_string().as_bytes());
    }
    if u64::from(meta.uid) > MAX_SMALL_NUMBER {
        append_record(&mut out, b"uid", meta.uid.to_string().as_bytes());
    }
    out
}

/// A header with everything but metadata and checksum. What does not fit is in the extended
/// header; here it is cut, or zero.
fn header(fields: &Fields<'_>) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(fields.kind);
    let field = header.as_ustar_mut();
    let cut = |bytes: &[u8]| bytes.len().min(NAME_FIELD);
    field.name[..cut(&fields.name)].copy_from_slice(&fields.name[..cut(&fields.name)]);
    field.linkname[..cut(fields.link)].copy_from_slice(&fields.link[..cut(fields.link)]);
    octal(&mut field.mode, 0);
    octal(&mut field.uid, 0);
    octal(&mut field.gid, 0);
    octal(&mut field.mtime, 0);
    octal(&mut field.size, if fields.size > MAX_LARGE_NUMBER { 0 } else { fields.size });
    let (major, minor) = fields.device.unwrap_or_default();
    octal(&mut field.dev_major, major.into());
    octal(&mut field.dev_minor, minor.into());
    header
}

/// The same header with its checksum: six digits, NUL, space.
fn sealed(mut header: Header) -> Header {
    let sum = header.compute_checksum();
    let field = &mut header.as_ustar_mut().cksum;
    octal(&mut field[..7], sum);
    field[7] = b' ';
    header
}

/// The name of the extended header's own entry; only tools that know no PAX ever show it.
fn extended_name(name: &[u8]) -> Vec<u8> {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let base = trimmed.rsplit(|b| *b == b'/').next().unwrap_or(trimmed);
    let mut out = [b"PaxHeaders.0/", base].concat();
    out.truncate(NAME_FIELD);
    out
}

/// `dir/x` → `dir/.wh.x`.
fn whiteout_name(path: &TreePath) -> Vec<u8> {
    let raw = path.as_bytes();
    let start = raw.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    [&raw[..start], WHITEOUT_PREFIX, &raw[start..]].concat()
}

/// Whole seconds that a ustar header can hold.
fn whole_seconds(time: Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    (time.nanos == 0 && seconds <= MAX_LARGE_NUMBER).then_some(seconds)
}

/// An id, or zero where an extended header has it.
fn small(id: u32) -> u64 {
    if u64::from(id) > MAX_SMALL_NUMBER { 0 } else { id.into() }
}

/// Octal digits, leading zeros and a closing NUL. `value` fits.
fn octal(field: &mut [u8], mut value: u64) {
    let Some((end, digits)) = field.split_last_mut() else { return };
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}
