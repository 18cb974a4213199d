//! What precedes an entry and speaks about it: PAX and GNU extension entries.

use crate::Timestamp;

use super::pax::{decimal, parse_time, records};

/// The most extension data that one entry may have, in bytes.
pub const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// The longest name or link target that is read, in bytes.
pub const MAX_RAW_PATH: usize = 1 << 14;

/// The values that override those of a header.
#[derive(Clone, Debug, Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// `GNU.sparse.*`.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn (formats 0.0 and 0.1).
    pub(super) map: Option<Vec<u64>>,
}

impl Extension {
    /// Takes over the records of an extended header. A record with an empty value takes back an
    /// earlier one (POSIX). Of a global header only what can be true of all entries counts: not
    /// names, sizes and sparse maps.
    pub(super) fn apply(&mut self, data: &[u8], global: bool) -> Result<(), &'static str> {
        for (key, value) in records(data).ok_or("malformed extended header")? {
            match key {
                b"uid" => self.uid = signed(value)?,
                b"gid" => self.gid = signed(value)?,
                b"mtime" if value.is_empty() => self.mtime = None,
                b"mtime" => self.mtime = Some(parse_time(value).ok_or("malformed time")?),
                _ if key.starts_with(b"SCHILY.xattr.") => {
                    let name = &key[b"SCHILY.xattr.".len()..];
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
                _ if global => {}
                b"path" => self.path = name(value)?,
                b"linkpath" => self.link = name(value)?,
                b"size" => self.size = unsigned(value)?,
                _ => self.sparse.apply(key, value)?,
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"GNU.sparse.major" => self.major = unsigned(value)?,
            b"GNU.sparse.minor" => self.minor = unsigned(value)?,
            b"GNU.sparse.name" => self.name = name(value)?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = unsigned(value)?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let map = self.map.get_or_insert_default();
                if map.len().is_multiple_of(2) != (key == b"GNU.sparse.offset") {
                    return Err("malformed sparse map");
                }
                map.push(decimal(value).ok_or("malformed sparse map")?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|b| *b == b',').filter(|n| !n.is_empty());
                let map: Option<Vec<u64>> = numbers.map(decimal).collect();
                self.map = Some(map.ok_or("malformed sparse map")?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A name or link target; none if it is empty.
pub(super) fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.len() > MAX_RAW_PATH {
        return Err("name too long");
    }
    if value.contains(&0) {
        return Err("name with a NUL byte");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn unsigned(value: &[u8]) -> Result<Option<u64>, &'static str> {
    match value {
        b"" => Ok(None),
        value => decimal(value).map(Some).ok_or("malformed number in an extended header"),
    }
}

fn signed(value: &[u8]) -> Result<Option<i64>, &'static str> {
    let (sign, digits) = value.strip_prefix(b"-").map_or((1, value), |digits| (-1, digits));
    let number = unsigned(digits)?.map(i64::try_from).transpose();
    Ok(number.map_err(|_| "number out of range in an extended header")?.map(|n| sign * n))
}
