//! `/etc/passwd` and `/etc/group` of a root file system (passwd(5), group(5)).
//!
//! Lines that do not parse are skipped, as libc does; a number that is none must not become 0.

use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Largest file that is read.
const FILE_BYTES: u64 = 10 * 1024 * 1024;
/// Largest id of a user or group; the others are negative for somebody.
pub const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passwd {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory; may be empty.
    pub home: String,
}

/// One line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Names of users in it.
    pub members: Vec<String>,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// It cannot be opened or read.
    #[error("cannot read {path}: {errno}")]
    Read {
        /// Which.
        path: &'static str,
        /// Cause.
        errno: Errno,
    },
    /// Larger than 10 MiB.
    #[error("{path} is larger than {FILE_BYTES} bytes")]
    TooLarge {
        /// Which.
        path: &'static str,
    },
    /// Not a regular file.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// Which.
        path: &'static str,
    },
}

/// The users in the text of a passwd file.
#[must_use]
pub fn parse_passwd(text: &[u8]) -> Vec<Passwd> {
    lines(text)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, rest @ ..] = &fields[..] else { return None };
            Some(Passwd {
                name: (*name).to_owned(),
                uid: id(uid)?,
                gid: id(gid)?,
                home: rest.get(1).map_or_else(String::new, |it| (*it).to_owned()),
            })
        })
        .collect()
}

/// The groups in the text of a group file.
#[must_use]
pub fn parse_group(text: &[u8]) -> Vec<Group> {
    lines(text)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, rest @ ..] = &fields[..] else { return None };
            let members = rest.first().map_or("", |it| it);
            Some(Group {
                name: (*name).to_owned(),
                gid: id(gid)?,
                members: members
                    .split(',')
                    .map(str::trim)
                    .filter(|it| !it.is_empty())
                    .map(str::to_owned)
                    .collect(),
            })
        })
        .collect()
}

/// The users of a root file system; none when it has no `/etc/passwd`.
///
/// # Errors
/// [`PasswdError`].
pub fn read_passwd(root: BorrowedFd<'_>) -> Result<Vec<Passwd>, PasswdError> {
    read(root, "/etc/passwd").map(|text| parse_passwd(&text))
}

/// The groups of a root file system; none when it has no `/etc/group`.
///
/// # Errors
/// [`PasswdError`].
pub fn read_group(root: BorrowedFd<'_>) -> Result<Vec<Group>, PasswdError> {
    read(root, "/etc/group").map(|text| parse_group(&text))
}

fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<Vec<u8>, PasswdError> {
    // O_NONBLOCK: a named pipe in this place must not stop the builder.
    let found = rustix::fs::openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    let failed = |errno| PasswdError::Read { path, errno };
    let fd = match found {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(PasswdError::NotAFile { path });
    }
    let mut text = Vec::new();
    std::fs::File::from(fd)
        .take(FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if text.len() as u64 > FILE_BYTES {
        return Err(PasswdError::TooLarge { path });
    }
    Ok(text)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|&byte| byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A plain decimal number in the range of ids.
pub(crate) fn id(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&id| id <= MAX_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_parse_are_skipped() {
        let users = parse_passwd(
            b"# comment\n\nroot:x:0:0:root:/root:/bin/sh\nbad:x:zero:0::/:\nneg:x:-1:5::/:\nshort\n\
              app:x:1000:1001::/home/app:/bin/sh\nbare:x:7:8\n\xff:x:1:1::/:\nbig:x:2147483648:1::/:\n",
        );
        let names: Vec<_> = users.iter().map(|it| (&it.name[..], it.uid, &it.home[..])).collect();
        assert_eq!(names, [("root", 0, "/root"), ("app", 1000, "/home/app"), ("bare", 7, "")]);
    }

    #[test]
    fn groups() {
        let groups = parse_group(b"root:x:0:\nwheel:x:10:root, app ,\nnone:x:5\nbad:x::a\n");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[1].members, ["root", "app"]);
        assert!(groups[2].members.is_empty());
    }
}
