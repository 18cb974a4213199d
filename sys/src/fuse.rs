//! Detached mounts of the program fuse-overlayfs: an overlay where the kernel's is not to be had.
//!
//! The file system is made with `fsopen(2)` around a descriptor of `/dev/fuse`, and the program is
//! told to serve that descriptor (libfuse: a mount point `/dev/fd/N`). So there is nothing to
//! unmount: when the last user of the mount is gone, however it ended, the kernel ends the
//! connection, and the program with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::detached::FsContext;
use crate::mount::{MountError, MountFlags, Overlay, c_string};

/// Where programs ask the kernel for a connection.
const DEVICE: &str = "/dev/fuse";

/// How long the program may take to end after its mount is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// An overlay served by a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseOverlay {
    /// The program, absolute.
    pub program: PathBuf,
    /// A directory that the others are below: their names are shortened by it.
    pub base: PathBuf,
    /// The directories. Marks are always in `user.*` attributes.
    pub overlay: Overlay,
}

impl FuseOverlay {
    /// A detached mount. The program holds a lock of the upper directory until it has written
    /// everything, see [`at_rest`].
    pub(crate) fn open(&self, flags: MountFlags) -> Result<OwnedFd, MountError> {
        let failed = |step| move |source: io::Error| MountError::Fuse { step, source };
        let options = self.options().map_err(failed("name the directories"))?;
        let lock = match &self.overlay.upper {
            Some(upper) => Some(at_rest(&upper.dir).map_err(failed("lock the upper directory"))?),
            None => None,
        };
        let device = rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open /dev/fuse")(errno.into()))?;
        let context = FsContext::begin("fuse")?;
        let number = device.as_raw_fd().to_string();
        context.string(c"source", c"fuse-overlayfs")?;
        context.string(c"fd", &c_string(number.as_ref())?)?;
        context.string(c"rootmode", c"40000")?;
        context.string(c"user_id", c"0")?;
        context.string(c"group_id", c"0")?;
        context.flag(c"allow_other")?;
        context.flag(c"default_permissions")?;
        let mount = context.finish(flags)?;
        let mut command = Command::new(&self.program);
        command
            .args(["-f", "-o"])
            .arg(options)
            .arg(format!("/dev/fd/{number}"))
            .current_dir(&self.base)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C is for the builder: it ends its steps, and they the program.
            .process_group(0);
        inherit(&mut command, device.as_raw_fd());
        if let Some(lock) = &lock {
            inherit(&mut command, lock.as_raw_fd());
        }
        let mut child = command.spawn().map_err(failed("start the program"))?;
        // Nobody else waits for it. When the builder ends first, it is init's.
        std::thread::spawn(move || child.wait());
        Ok(mount)
    }

    fn options(&self) -> io::Result<OsString> {
        let mut options = OsString::from("lowerdir=");
        for (position, lower) in self.overlay.lowers.iter().enumerate() {
            options.push(if position == 0 { "" } else { ":" });
            options.push(self.short(lower)?);
        }
        if let Some(upper) = &self.overlay.upper {
            options.push(",upperdir=");
            options.push(self.short(&upper.dir)?);
            options.push(",workdir=");
            options.push(self.short(&upper.work)?);
        }
        if self.overlay.volatile {
            options.push(",volatile");
        }
        Ok(options)
    }

    /// A name without what separates options.
    fn short<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let short = path.strip_prefix(&self.base).unwrap_or(path);
        match short.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte)) {
            true => Err(io::Error::other(format!("{} has one of , : \\", short.display()))),
            false => Ok(short),
        }
    }
}

/// Waits until no program serves an overlay with this upper directory any more, and so all is in
/// it that was written; keeps others from beginning while what is returned is open.
///
/// # Errors
/// The directory can't be opened, or something still uses the mount after a long while.
pub fn at_rest(upper: &Path) -> io::Result<OwnedFd> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(upper, directory, Mode::empty())?;
    let began = Instant::now();
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(Errno::WOULDBLOCK) if began.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("its overlay is still in use"));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Lets the program have a descriptor under its number.
fn inherit(command: &mut Command, fd: i32) {
    // SAFETY: between fork and exec there is one call that is safe after a fork, on a descriptor
    // that the caller keeps open until the program was started.
    unsafe {
        command.pre_exec(move || {
            fcntl_setfd(BorrowedFd::borrow_raw(fd), FdFlags::empty()).map_err(io::Error::from)
        });
    }
}
