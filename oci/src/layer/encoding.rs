//! The stored form of a manifest.
//!
//! Magic, version, a BLAKE3 checksum of the rest, the number of entries, the entries. Numbers are
//! LEB128; a path is the number of bytes it shares with the one before it and what follows. The
//! checksum finds damage; it is no proof of origin, so decoding trusts nothing.

use crate::Timestamp;

use super::path::common_bytes;
use super::{ContentHash, Entry, LayerManifest, Metadata, Node, TreePath};

/// The first bytes: a name and the version of the form.
const MAGIC: &[u8; 8] = b"DDLAYER\x01";
/// The bytes of the checksum.
const CHECKSUM: usize = 16;
/// The shortest encoding of an entry, in bytes: it bounds what a claimed count can reserve.
const MIN_ENTRY: usize = 9;
/// The most bytes that all paths of one manifest may have together. Shared prefixes make long
/// paths cheap to write, so this bounds what a small input can ask for.
pub const MAX_PATH_BYTES: usize = 1 << 29;

const OPAQUE: u8 = 0x10;
const CAPABILITY: u8 = 0x20;

/// Why bytes are no stored manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestDecodeError {
    /// Not a manifest, or of another version.
    #[error("decoding a layer manifest: not of a known version")]
    Version,
    /// Damaged.
    #[error("decoding a layer manifest: wrong checksum")]
    Checksum,
    /// It says something that no manifest says.
    #[error("decoding a layer manifest: {reason} at entry {entry}")]
    Malformed {
        /// The number of the entry, from 0.
        entry: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

impl LayerManifest {
    /// The stored form, times included. Equal manifests have equal forms.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.len() * 64);
        put(&mut body, self.len() as u64);
        let mut last: &[u8] = b"";
        for entry in self.entries() {
            let path = entry.path.as_bytes();
            let shared = common_bytes(last, path);
            put(&mut body, shared as u64);
            put_bytes(&mut body, &path[shared..]);
            put_entry(&mut body, entry);
            last = path;
        }
        let mut out = Vec::with_capacity(MAGIC.len() + CHECKSUM + body.len());
        out.extend(MAGIC);
        out.extend(checksum(&body));
        out.extend(body);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// For all other bytes.
    pub fn decode(raw: &[u8]) -> Result<Self, ManifestDecodeError> {
        let rest = raw.strip_prefix(MAGIC).ok_or(ManifestDecodeError::Version)?;
        let (sum, body) = rest.split_at_checked(CHECKSUM).ok_or(ManifestDecodeError::Checksum)?;
        if sum != checksum(body) {
            return Err(ManifestDecodeError::Checksum);
        }
        decode_body(body)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&blake3::hash(body).as_bytes()[..CHECKSUM]);
    sum
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let kind = match &entry.node {
        Node::Directory { opaque: false } => 1,
        Node::Directory { opaque: true } => 1 | OPAQUE,
        Node::File { .. } => 2,
        Node::Symlink { .. } => 3,
        Node::HardLink { .. } => 4,
        Node::CharDevice { .. } => 5,
        Node::BlockDevice { .. } => 6,
        Node::Fifo => 7,
        Node::Whiteout => 8,
    };
    let meta = &entry.meta;
    out.push(kind | if meta.capability.is_some() { CAPABILITY } else { 0 });
    put(out, meta.mode.into());
    put(out, meta.uid.into());
    put(out, meta.gid.into());
    // Zigzag: the sign goes to the lowest bit.
    put(out, ((meta.mtime.seconds << 1) ^ (meta.mtime.seconds >> 63)) as u64);
    put(out, meta.mtime.nanos.into());
    if let Some(capability) = &meta.capability {
        put_bytes(out, capability);
    }
    match &entry.node {
        Node::File { size, content } => {
            put(out, *size);
            out.extend(content.0);
        }
        Node::Symlink { target } => put_bytes(out, target),
        Node::HardLink { target } => put_bytes(out, target.as_bytes()),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            put(out, (*major).into());
            put(out, (*minor).into());
        }
        Node::Directory { .. } | Node::Fifo | Node::Whiteout => {}
    }
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

type Step<T> = Result<T, &'static str>;

impl<'a> Input<'a> {
    fn number(&mut self) -> Step<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("early end")?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err("number out of range");
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("number out of range")
    }

    fn small(&mut self) -> Step<u32> {
        u32::try_from(self.number()?).map_err(|_| "number out of range")
    }

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| "early end")?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or("early end")?;
        self.0 = rest;
        Ok(taken)
    }

    fn bytes(&mut self) -> Step<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }
}

fn decode_body(body: &[u8]) -> Result<LayerManifest, ManifestDecodeError> {
    let fail = |entry| move |reason| ManifestDecodeError::Malformed { entry, reason };
    let mut input = Input(body);
    let count = input.number().map_err(fail(0))?;
    let room = input.0.len() / MIN_ENTRY;
    if count > room as u64 {
        return Err(fail(0)("more entries than bytes"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count as usize);
    let mut path_bytes = 0usize;
    for at in 0..count {
        let last = entries.last().map(|e| &e.path);
        let entry = take_entry(&mut input, last).map_err(fail(at))?;
        if last.is_some_and(|last| *last >= entry.path) {
            return Err(fail(at)("path out of order"));
        }
        path_bytes += entry.path.as_bytes().len();
        if path_bytes > MAX_PATH_BYTES {
            return Err(fail(at)("too long paths"));
        }
        entries.push(entry);
    }
    if !input.0.is_empty() {
        return Err(fail(count)("bytes after the last entry"));
    }
    Ok(LayerManifest::from_sorted(entries))
}

fn take_entry(input: &mut Input<'_>, last: Option<&TreePath>) -> Step<Entry> {
    let shared = input.number()?;
    let last = last.map_or(&b""[..], TreePath::as_bytes);
    let shared = usize::try_from(shared).ok().and_then(|n| last.get(..n));
    let shared = shared.ok_or("path shares too much")?;
    let path = [shared, input.bytes()?].concat();
    let path = TreePath::new(&path).map_err(|_| "malformed path")?;
    if path.is_root() {
        return Err("entry for the root");
    }
    let kind = input.take(1)?[0];
    let (mode, uid, gid) = (input.small()?, input.small()?, input.small()?);
    let seconds = input.number()?;
    let seconds = (seconds >> 1) as i64 ^ -((seconds & 1) as i64);
    let nanos = input.small()?;
    if nanos >= 1_000_000_000 {
        return Err("malformed time");
    }
    let capability = match kind & CAPABILITY {
        0 => None,
        _ => Some(input.bytes()?.into()),
    };
    let meta = Metadata { mode, uid, gid, mtime: Timestamp { seconds, nanos }, capability };
    let node = take_node(input, kind & !CAPABILITY)?;
    Ok(Entry { path, node, meta })
}

fn take_node(input: &mut Input<'_>, kind: u8) -> Step<Node> {
    const OPAQUE_DIRECTORY: u8 = 1 | OPAQUE;
    Ok(match kind {
        1 | OPAQUE_DIRECTORY => Node::Directory { opaque: kind == OPAQUE_DIRECTORY },
        2 => {
            let size = input.number()?;
            let content = input.take(32)?.try_into().map_err(|_| "early end")?;
            Node::File { size, content: ContentHash(content) }
        }
        3 => Node::Symlink { target: input.bytes()?.into() },
        4 => {
            let target = TreePath::new(input.bytes()?).map_err(|_| "malformed link target")?;
            Node::HardLink { target }
        }
        5 => Node::CharDevice { major: input.small()?, minor: input.small()? },
        6 => Node::BlockDevice { major: input.small()?, minor: input.small()? },
        7 => Node::Fifo,
        8 => Node::Whiteout,
        _ => return Err("unknown kind"),
    })
}
