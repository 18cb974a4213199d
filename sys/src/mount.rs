//! Mounts as data, and the detached mounts made from them.
//!
//! A [`Mount`] says what should appear where; [`Mount::open`] makes it without a place in any
//! directory tree (`fsmount`, `open_tree`). Such a mount can be read and written through its
//! descriptor at once, is attached with [`crate::detached::attach`], and is gone when its last
//! descriptor is closed: a killed process leaves no mount behind.

use std::ffi::{CString, OsStr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::detached::{self, FsContext, Propagation};
use crate::fuse::FuseOverlay;
use crate::overlay;
pub use crate::overlay::{MAX_LOWERS, appends_layers};

/// One mount of a file system plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it belongs: absolute, inside the root file system; `/` for the root itself.
    pub target: PathBuf,
    /// What is mounted.
    pub source: MountSource,
    /// Restrictions of this mount.
    pub flags: MountFlags,
}

/// Restrictions of a mount (`mount_setattr(2)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Nothing can be written through this mount.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities are ignored.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Programs cannot be executed.
    pub noexec: bool,
}

impl MountFlags {
    /// nosuid, nodev and noexec: what a mount of data wants.
    pub const DATA: Self = Self { read_only: false, nosuid: true, nodev: true, noexec: true };

    /// The same flags, and read-only.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Whether no restriction is asked for.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// Layers on top of each other.
    Overlay(Overlay),
    /// The same, by a program.
    FuseOverlay(FuseOverlay),
    /// A file or directory of the host; symbolic links in `source` are followed.
    Bind {
        /// An absolute path of the host.
        source: PathBuf,
        /// Also the mounts below `source`.
        recursive: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Bytes; `None` leaves the kernel's default (half of the memory).
        size: Option<u64>,
        /// Mode of its root directory.
        mode: u32,
    },
    /// Processes of the pid namespace of whoever opens it.
    Proc,
    /// Devices and network of the network namespace of whoever opens it.
    Sysfs,
    /// A private instance of pseudo terminals.
    Devpts,
    /// POSIX message queues of the ipc namespace of whoever opens it.
    Mqueue,
    /// The unified (v2) control group hierarchy of the cgroup namespace of whoever opens it.
    Cgroup,
}

/// An overlay of directories. Its dialect is fixed: `index` and `metacopy` are off, and so is
/// `redirect_dir` unless [`Self::redirects`] says otherwise, so that an upper directory can be read
/// as a diff without knowing its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Lower directories, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// Where changes go; `None` makes the overlay read-only.
    pub upper: Option<Upper>,
    /// Keep overlay's marks in `user.*` attributes (needed inside a user namespace).
    pub user_xattr: bool,
    /// Skip syncing of the upper directory; after a crash its content is worthless.
    pub volatile: bool,
    /// Directories of lower layers can be renamed: the new one in the upper directory names the old
    /// one in its attribute `trusted.overlay.redirect` (`redirect_dir=on`). Otherwise renaming one
    /// fails with `EXDEV`. Not with [`Self::user_xattr`]: the kernel refuses both together.
    pub redirects: bool,
}

/// The writable part of an [`Overlay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upper {
    /// Receives the changes.
    pub dir: PathBuf,
    /// An empty directory on the same file system.
    pub work: PathBuf,
}

impl Overlay {
    /// Makes the mount, detached, on top of the directory that `lowest` is open on: a detached mount
    /// may be that since Linux 6.15. If that is an overlay too, files in it have other device
    /// numbers than what is above them.
    ///
    /// # Errors
    /// The step that failed, also on kernels that cannot do this.
    pub fn open_on(
        &self,
        lowest: BorrowedFd<'_>,
        flags: MountFlags,
    ) -> Result<OwnedFd, MountError> {
        overlay::open_by_appending(self, Some(lowest), flags)
    }
}

/// A mount step that failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `fsopen(2)`: the kernel lacks the file system, or the caller may not mount.
    #[error("cannot begin a {fs} mount: {errno}")]
    Begin {
        /// File system type.
        fs: &'static str,
        /// Cause.
        errno: Errno,
    },
    /// `fsconfig(2)` refused an option.
    #[error("cannot set {option} of a {fs} mount: {errno}{log}")]
    Configure {
        /// File system type.
        fs: &'static str,
        /// The option and its value.
        option: String,
        /// Cause.
        errno: Errno,
        /// The kernel's own explanation, or nothing.
        log: String,
    },
    /// The file system could not be made from its options.
    #[error("cannot create a {fs} file system ({options}): {errno}{log}")]
    Create {
        /// File system type.
        fs: &'static str,
        /// The options, shortened.
        options: String,
        /// Cause.
        errno: Errno,
        /// The kernel's own explanation, or nothing.
        log: String,
    },
    /// `fsmount(2)` failed.
    #[error("cannot make a mount of a new {fs} file system: {errno}")]
    Detach {
        /// File system type.
        fs: &'static str,
        /// Cause.
        errno: Errno,
    },
    /// `open_tree(2)` failed.
    #[error("cannot bind {}: {errno}", path.display())]
    OpenTree {
        /// What was to be bound.
        path: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// `mount_setattr(2)` failed.
    #[error("cannot restrict the mount of {}: {errno}", path.display())]
    SetAttributes {
        /// What is mounted.
        path: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// `move_mount(2)` failed.
    #[error("cannot attach a mount at {}: {errno}", target.display())]
    Attach {
        /// Where.
        target: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// A directory of an overlay cannot be opened.
    #[error("cannot open the overlay directory {}: {errno}", path.display())]
    OpenLayer {
        /// Which.
        path: PathBuf,
        /// Cause.
        errno: Errno,
    },
    /// The private mount namespace for `mount(2)` was refused.
    #[error("cannot prepare a private mount namespace ({step}): {errno}")]
    Namespace {
        /// Which call.
        step: &'static str,
        /// Cause.
        errno: Errno,
    },
    /// More layers than two overlays take, one in the other.
    #[error("an overlay of {layers} layers: the kernel takes at most {most}")]
    TooManyLowers {
        /// How many.
        layers: usize,
        /// How many there may be.
        most: usize,
    },
    /// More layers than one page of options can name.
    #[error("an overlay of {layers} layers needs {bytes} bytes of options; this kernel takes 4095")]
    TooManyLayers {
        /// How many.
        layers: usize,
        /// Their options.
        bytes: usize,
    },
    /// The program fuse-overlayfs cannot serve an overlay.
    #[error("cannot mount with fuse-overlayfs: cannot {step}: {source}")]
    Fuse {
        /// Which call.
        step: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// Neither lower directories nor an upper one.
    #[error("an overlay without any directory")]
    EmptyOverlay,
    /// A path or option with a NUL byte.
    #[error("a NUL byte in {what:?}")]
    Nul {
        /// The string.
        what: String,
    },
}

impl Mount {
    /// Makes the mount, detached: the descriptor is a directory for `*at` calls (a file, for a
    /// bind of a file) and the mount is gone when it is closed unless it was attached meanwhile.
    ///
    /// `Proc`, `Sysfs`, `Mqueue` and `Cgroup` show the namespaces of the calling thread.
    ///
    /// # Errors
    /// The step that failed, see [`MountError`].
    pub fn open(&self) -> Result<OwnedFd, MountError> {
        match &self.source {
            MountSource::Overlay(it) => overlay::open(it, self.flags),
            MountSource::FuseOverlay(it) => it.open(self.flags),
            MountSource::Bind { source, recursive } => bind(source, *recursive, self.flags),
            MountSource::Tmpfs { size, mode } => {
                let context = FsContext::begin("tmpfs")?;
                context.string(c"mode", &number(&format!("{mode:o}"))?)?;
                if let Some(bytes) = size {
                    context.string(c"size", &number(&bytes.to_string())?)?;
                }
                context.finish(self.flags)
            }
            MountSource::Proc => FsContext::begin("proc")?.finish(self.flags),
            MountSource::Sysfs => FsContext::begin("sysfs")?.finish(self.flags),
            MountSource::Mqueue => FsContext::begin("mqueue")?.finish(self.flags),
            MountSource::Cgroup => FsContext::begin("cgroup2")?.finish(self.flags),
            MountSource::Devpts => {
                let context = FsContext::begin("devpts")?;
                context.string(c"mode", c"0620")?;
                context.string(c"ptmxmode", c"0666")?;
                // Group 5 is `tty` wherever glibc's grantpt was ever used.
                if crate::userns::Ids::of_process().has_group(5) {
                    context.string(c"gid", c"5")?;
                }
                context.finish(self.flags)
            }
        }
    }
}

/// A detached bind mount, private (nothing propagates) and restricted.
pub(crate) fn bind(
    source: &Path,
    recursive: bool,
    flags: MountFlags,
) -> Result<OwnedFd, MountError> {
    let fd = detached::clone_tree(source, recursive)?;
    detached::set_attr(&fd, source, recursive, flags, Propagation::Private)?;
    Ok(fd)
}

pub(crate) fn c_string(text: &OsStr) -> Result<CString, MountError> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(text.as_bytes())
        .map_err(|_| MountError::Nul { what: text.to_string_lossy().into_owned() })
}

fn number(text: &str) -> Result<CString, MountError> {
    c_string(OsStr::new(text))
}
