//! Detached mounts: making, restricting and attaching them (`fsopen(2)` and relatives).

use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

use crate::mount::{MountError, MountFlags};

/// Longest kernel message that is read from a file system context.
const LOG_BYTES: usize = 512;
/// How much of the options an error repeats.
const OPTIONS_SHOWN: usize = 200;

/// What becomes of mount events below a mount (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// As it was.
    Keep,
    /// None, in either direction.
    Private,
}

/// A file system under construction.
pub(crate) struct FsContext {
    fs: &'static str,
    fd: OwnedFd,
    options: RefCell<String>,
}

impl FsContext {
    pub(crate) fn begin(fs: &'static str) -> Result<Self, MountError> {
        let fd = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| MountError::Begin { fs, errno })?;
        Ok(Self { fs, fd, options: RefCell::default() })
    }

    pub(crate) fn string(&self, key: &CStr, value: &CStr) -> Result<(), MountError> {
        let option = format!("{}={}", key.to_string_lossy(), value.to_string_lossy());
        fsconfig_set_string(&self.fd, key, value)
            .map_err(|errno| self.refused(option.clone(), errno))?;
        self.note(&option);
        Ok(())
    }

    pub(crate) fn flag(&self, key: &CStr) -> Result<(), MountError> {
        let option = key.to_string_lossy().into_owned();
        fsconfig_set_flag(&self.fd, key).map_err(|errno| self.refused(option.clone(), errno))?;
        self.note(&option);
        Ok(())
    }

    pub(crate) fn descriptor(&self, key: &CStr, value: BorrowedFd<'_>) -> Result<(), MountError> {
        let option = format!("{}={}", key.to_string_lossy(), value.as_raw_fd());
        fsconfig_set_fd(&self.fd, key, value)
            .map_err(|errno| self.refused(option.clone(), errno))?;
        self.note(&option);
        Ok(())
    }

    pub(crate) fn finish(self, flags: MountFlags) -> Result<OwnedFd, MountError> {
        fsconfig_create(&self.fd).map_err(|errno| MountError::Create {
            fs: self.fs,
            options: self.options.borrow().clone(),
            errno,
            log: self.log(),
        })?;
        fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))
            .map_err(|errno| MountError::Detach { fs: self.fs, errno })
    }

    fn refused(&self, option: String, errno: Errno) -> MountError {
        MountError::Configure { fs: self.fs, option, errno, log: self.log() }
    }

    fn note(&self, option: &str) {
        let mut all = self.options.borrow_mut();
        if all.len() < OPTIONS_SHOWN {
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(option);
        } else if !all.ends_with('…') {
            all.push('…');
        }
    }

    /// The kernel explains refusals in messages that are read from the context, `e text\n`.
    fn log(&self) -> String {
        let mut buffer = [0_u8; LOG_BYTES];
        match rustix::io::read(&self.fd, &mut buffer[..]) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                format!(" ({})", text.trim_start_matches(['e', 'w', 'i']).trim())
            }
            Err(_) => String::new(),
        }
    }
}

/// The `MOUNT_ATTR_*` bits of `flags`.
pub(crate) fn attributes(flags: MountFlags) -> MountAttrFlags {
    let mut bits = MountAttrFlags::empty();
    bits.set(MountAttrFlags::MOUNT_ATTR_RDONLY, flags.read_only);
    bits.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.nosuid);
    bits.set(MountAttrFlags::MOUNT_ATTR_NODEV, flags.nodev);
    bits.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, flags.noexec);
    bits
}

/// A detached copy of what stands at `path` (symbolic links followed), with the mounts below it
/// when `recursive`.
///
/// # Errors
/// [`MountError::OpenTree`].
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd, MountError> {
    let mut how = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    how.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(CWD, path, how)
        .map_err(|errno| MountError::OpenTree { path: path.to_path_buf(), errno })
}

/// Adds the restrictions in `flags` to a mount, with those below it when `recursive`. Flags that
/// are not set in `flags` stay as they are. `shown` names the mount in an error.
///
/// # Errors
/// [`MountError::SetAttributes`].
pub fn set_attr(
    mount: impl AsFd,
    shown: &Path,
    recursive: bool,
    flags: MountFlags,
    propagation: Propagation,
) -> Result<(), MountError> {
    set_attr_raw(mount.as_fd(), recursive, flags, propagation)
        .map_err(|errno| MountError::SetAttributes { path: shown.to_path_buf(), errno })
}

/// `mount_setattr(2)` without allocation: also called between clone and exec.
pub(crate) fn set_attr_raw(
    mount: BorrowedFd<'_>,
    recursive: bool,
    flags: MountFlags,
    propagation: Propagation,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: u64::from(attributes(flags).bits()),
        attr_clr: 0,
        propagation: match propagation {
            Propagation::Keep => 0,
            Propagation::Private => libc::MS_PRIVATE,
        },
        userns_fd: 0,
    };
    let recurse = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path and the structure outlive the call; the size given is the
    // structure's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recurse,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    crate::errno::check(result).map(drop)
}

/// Attaches a detached mount at `target`, a path of the calling thread's mount namespace.
///
/// # Errors
/// [`MountError::Attach`].
pub fn attach(mount: impl AsFd, target: &Path) -> Result<(), MountError> {
    move_mount(mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|errno| MountError::Attach { target: target.to_path_buf(), errno })
}

/// Attaches a detached mount over what `place` is open on. Does not allocate.
pub(crate) fn attach_over(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(
        mount,
        c"",
        place,
        c"",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}
