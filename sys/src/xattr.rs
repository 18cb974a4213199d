//! Extended attributes of entries that are named relative to a directory descriptor.
//!
//! Linux has no `getxattrat` before 6.13, and `fgetxattr` refuses `O_PATH` descriptors. A path
//! through `/proc/self/fd` serves both: its magic link leads to exactly the open file, and with
//! the `l…` calls a last component is never followed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::fs::{XattrFlags, getxattr, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// File capabilities, the one attribute that container layers carry.
pub const CAPABILITY: &str = "security.capability";

/// The longest attribute value that Linux stores, in bytes (`XATTR_SIZE_MAX`).
pub const MAX_VALUE: usize = 65536;

/// The longest list of attribute names that Linux returns, in bytes (`XATTR_LIST_MAX`).
pub const MAX_LIST: usize = 65536;

/// The path of an open file (any kind of descriptor, `O_PATH` included) that follows to it. By
/// reference: the path means something only as long as the descriptor is open.
pub fn descriptor_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// The path of the entry `name` of an open directory.
fn entry_path(dir: &impl AsFd, name: &OsStr) -> PathBuf {
    let mut bytes = descriptor_path(dir).into_os_string().into_vec();
    bytes.push(b'/');
    bytes.extend_from_slice(name.as_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Names of the attributes of `name` in the directory `dir`, a symbolic link itself included.
/// Empty where the file system has none.
///
/// # Errors
/// Those of `llistxattr`.
pub fn list_at(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<Vec<u8>>> {
    list_with(|buf| llistxattr(entry_path(&dir, name), buf))
}

/// Names of the attributes of an open file; the descriptor may be `O_PATH`.
///
/// # Errors
/// Those of `listxattr`.
pub fn list(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    list_with(|buf| rustix::fs::listxattr(descriptor_path(&fd), buf))
}

fn list_with(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<Vec<u8>>> {
    // Most files have no attribute or one: a small buffer answers with one call.
    let mut small = [0u8; 512];
    let split = |bytes: &[u8]| {
        bytes.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect()
    };
    match call(&mut small) {
        Ok(len) => Ok(split(&small[..len])),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; MAX_LIST];
            let len = call(&mut large)?;
            Ok(split(&large[..len]))
        }
        Err(error) => Err(error.into()),
    }
}

/// The value of one attribute of `name` in the directory `dir`; none where there is none.
///
/// # Errors
/// Those of `lgetxattr`.
pub fn get_at(dir: impl AsFd, name: &OsStr, attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    get_with(|buf| lgetxattr(entry_path(&dir, name), attribute, buf))
}

/// The value of one attribute of an open file; the descriptor may be `O_PATH`.
///
/// # Errors
/// Those of `getxattr`.
pub fn get(fd: impl AsFd, attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    get_with(|buf| getxattr(descriptor_path(&fd), attribute, buf))
}

fn get_with(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut small = [0u8; 256];
    match call(&mut small) {
        Ok(len) => Ok(Some(small[..len].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; MAX_VALUE];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(Some(large))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sets one attribute of `name` in the directory `dir`, replacing an older value.
///
/// # Errors
/// Those of `lsetxattr`.
pub fn set_at(dir: impl AsFd, name: &OsStr, attribute: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(lsetxattr(entry_path(&dir, name), attribute, value, XattrFlags::empty())?)
}

/// Sets one attribute of an open file; the descriptor may be `O_PATH`.
///
/// # Errors
/// Those of `setxattr`.
pub fn set(fd: impl AsFd, attribute: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::setxattr(descriptor_path(&fd), attribute, value, XattrFlags::empty())?)
}

/// Removes one attribute of `name` in the directory `dir`; that it is not there is no error.
///
/// # Errors
/// Those of `lremovexattr`.
pub fn remove_at(dir: impl AsFd, name: &OsStr, attribute: &[u8]) -> io::Result<()> {
    match lremovexattr(entry_path(&dir, name), attribute) {
        Err(Errno::NODATA) => Ok(()),
        other => Ok(other?),
    }
}

/// Removes one attribute of an open file; that it is not there is no error.
///
/// # Errors
/// Those of `removexattr`.
pub fn remove(fd: impl AsFd, attribute: &[u8]) -> io::Result<()> {
    match rustix::fs::removexattr(descriptor_path(&fd), attribute) {
        Err(Errno::NODATA) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_attributes_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"x").unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let name = OsStr::new("f");
        if let Err(error) = set_at(&fd, name, b"user.drydock", b"1") {
            println!("skipped: no user attributes here: {error}");
            return;
        }
        set_at(&fd, name, b"user.drydock", &[7; 3000]).unwrap();
        assert_eq!(list_at(&fd, name).unwrap(), [b"user.drydock".to_vec()]);
        assert_eq!(get_at(&fd, name, b"user.drydock").unwrap(), Some(vec![7; 3000]));
        assert_eq!(get_at(&fd, name, b"user.other").unwrap(), None);
        remove_at(&fd, name, b"user.drydock").unwrap();
        remove_at(&fd, name, b"user.drydock").unwrap();
        assert!(list_at(&fd, name).unwrap().is_empty());
    }

    #[test]
    fn a_path_descriptor_of_a_link_means_the_link() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("l")).unwrap();
        let fd = rustix::fs::open(
            dir.path().join("l"),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        // Links can't have user attributes: EPERM shows that the file behind it was not reached.
        assert!(set(&fd, b"user.drydock", b"1").is_err());
        assert_eq!(get(&fd, b"user.drydock").unwrap(), None);
    }
}
