//! Launching a [`Program`]: clone3(2) into new namespaces with a pidfd, and the handle on the
//! child.
//!
//! The child stays in the image of its parent (no exec of an own binary), so there is no file of
//! ours that a container could overwrite through `/proc/1/exe` (CVE-2019-5736); it makes itself
//! undumpable, so that the memory, descriptors and environment it has from its parent are closed
//! to the payload. Two pipes connect it: the *lifeline*, whose end of file tells it that the
//! parent is gone, and the *report*, see [`crate::report`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::init;
use crate::prepared::Prepared;
use crate::program::{Namespaces, Program};
use crate::report::{self, Operation, Report, Usage};
use crate::signal::BlockAll;

/// Why a program could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A pipe could not be made.
    #[error("cannot make a pipe to the child: {errno}")]
    Pipe {
        /// Cause.
        errno: Errno,
    },
    /// `clone3(2)` was refused: no right to make namespaces, or too many processes.
    #[error("cannot clone a process into new namespaces ({namespaces}): {errno}")]
    Clone {
        /// Which were asked for.
        namespaces: String,
        /// Cause.
        errno: Errno,
    },
    /// The child could not be waited for.
    #[error("cannot wait for process {pid}: {errno}")]
    Wait {
        /// The child.
        pid: i32,
        /// Cause.
        errno: Errno,
    },
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The payload ran; its status and what it used.
    Ended(Usage),
    /// The payload never ran.
    Failed {
        /// What failed.
        operation: Operation,
        /// Cause.
        errno: Errno,
    },
    /// The child was killed before it could say anything.
    Killed,
}

/// A running child. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    report: OwnedFd,
    lifeline: Option<OwnedFd>,
    reaped: bool,
}

/// Clones a child that does what `program` says. The child's death signal is tied to the calling
/// *thread*: it must live as long as the child (prctl(2), PR_SET_PDEATHSIG).
///
/// # Errors
/// [`LaunchError`]; failures inside the child are an [`Ending`].
pub fn launch(program: &Program) -> Result<Child, LaunchError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|errno| LaunchError::Pipe { errno });
    let (report_read, report_write) = pipe()?;
    let (lifeline_read, lifeline_write) = pipe()?;
    let prepared = Prepared::new(program, report_write.as_fd(), lifeline_read.as_fd());
    let flags = flags(program.namespaces);
    // No handler of this process may run in the child.
    let blocked = BlockAll::new();
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid clone_args; without CLONE_VM the child has its own copy of
    // this stack and of all memory, and continues here with a result of 0.
    let result = unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = flags | libc::CLONE_PIDFD as u64;
        args.pidfd = (&raw mut pidfd) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    };
    if result == 0 {
        init::run(program, &prepared);
    }
    let outcome = crate::errno::check(result);
    drop(blocked);
    let pid = outcome
        .map_err(|errno| LaunchError::Clone { namespaces: names(program.namespaces), errno })?;
    // SAFETY: the kernel made this descriptor for us, close-on-exec, just now.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).unwrap_or(i32::MAX);
    Ok(Child { pid, pidfd, report: report_read, lifeline: Some(lifeline_write), reaped: false })
}

fn flags(namespaces: Namespaces) -> u64 {
    let Namespaces { mount, pid, ipc, uts, network, cgroup } = namespaces;
    [
        (mount, libc::CLONE_NEWNS),
        (pid, libc::CLONE_NEWPID),
        (ipc, libc::CLONE_NEWIPC),
        (uts, libc::CLONE_NEWUTS),
        (network, libc::CLONE_NEWNET),
        (cgroup, libc::CLONE_NEWCGROUP),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |all, (_, flag)| all | flag as u64)
}

fn names(namespaces: Namespaces) -> String {
    let Namespaces { mount, pid, ipc, uts, network, cgroup } = namespaces;
    [
        (mount, "mount"),
        (pid, "pid"),
        (ipc, "ipc"),
        (uts, "uts"),
        (network, "network"),
        (cgroup, "cgroup"),
    ]
    .into_iter()
    .filter_map(|(wanted, name)| wanted.then_some(name))
    .collect::<Vec<_>>()
    .join(", ")
}

impl Child {
    /// Its process id in this pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when the child has ended; its whole pid namespace is empty then.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Lets a child go on that stands at [`crate::program::Step::AwaitStart`].
    ///
    /// # Errors
    /// `EPIPE` when it has ended.
    pub fn start(&self) -> Result<(), Errno> {
        match &self.lifeline {
            Some(fd) => rustix::io::write(fd, b"s").map(drop),
            None => Err(Errno::PIPE),
        }
    }

    /// Kills the child and with it all processes of its pid namespace. Not an error when it has
    /// ended already.
    pub fn kill(&self) {
        // The only failure is ESRCH: it has ended.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until the child and all of its pid namespace have ended, and reaps it.
    ///
    /// # Errors
    /// [`LaunchError::Wait`].
    pub fn wait(mut self) -> Result<Ending, LaunchError> {
        self.reap()?;
        let mut bytes = [0; report::BYTES];
        let message = match rustix::io::read(&self.report, &mut bytes) {
            Ok(length) if length == bytes.len() => Report::decode(&bytes),
            _ => None,
        };
        Ok(match message {
            Some(Report::Ended(usage)) => Ending::Ended(usage),
            Some(Report::Failed { operation, errno }) => {
                Ending::Failed { operation, errno: Errno::from_raw_os_error(errno) }
            }
            None => Ending::Killed,
        })
    }

    fn reap(&mut self) -> Result<(), LaunchError> {
        loop {
            let found =
                rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
            match found {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(LaunchError::Wait { pid: self.pid, errno }),
                Ok(_) => break,
            }
        }
        self.reaped = true;
        // After reaping nobody holds the other end of the report: reading cannot block.
        self.lifeline = None;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            // Nothing can be done about a child that cannot be waited for.
            let _ = self.reap();
        }
    }
}

/// Waits for any of `fds` to become readable or hung up; true for those that did.
///
/// # Errors
/// poll(2)'s, `EINTR` excepted.
pub fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<std::time::Duration>,
) -> io::Result<[bool; N]> {
    let mut list = fds.map(|fd| libc::pollfd {
        // poll ignores negative descriptors.
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let millis = timeout.map_or(-1, |it| i32::try_from(it.as_millis()).unwrap_or(i32::MAX));
    loop {
        // SAFETY: the list is valid for its length, which is small.
        let result = unsafe { libc::poll(list.as_mut_ptr(), N as libc::nfds_t, millis) };
        if result >= 0 {
            return Ok(list.map(|it| it.revents != 0));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The process with this id, if it exists.
///
/// # Errors
/// `ESRCH` when there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
}
