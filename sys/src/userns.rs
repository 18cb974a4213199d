//! Entering a user namespace of one's own, with a range of ids or with one; and what ids the
//! present one has.
//!
//! Who makes a user namespace may map one id into it, its own. More are mapped by the programs
//! newuidmap(1) and newgidmap(1), which are set-user-id and know from subuid(5) and subgid(5)
//! what belongs to whom. They have to run outside of the namespace: each is a child that was
//! forked before, stands at a pipe until the namespace is there, and only then executes them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, getegid, geteuid, waitpid};
use rustix::thread::UnshareFlags;

use crate::init::exit;
use crate::mount::{Mount, MountError, MountFlags, MountSource};

/// The most of a program's complaint that is told, in bytes.
const COMPLAINT_BYTES: u64 = 4096;
/// The map of a process in no user namespace but the first one (user_namespaces(7)).
const INITIAL_MAP: [&str; 3] = ["0", "0", "4294967295"];
/// The status of a child that cannot execute its program.
const NOT_EXECUTED: i32 = 127;

/// A run of ids: `count` of them, from `inside` on in the namespace, from `outside` on outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first one in the namespace.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A program that maps ids, and what it is to map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapper {
    /// Where newuidmap or newgidmap is.
    pub program: PathBuf,
    /// The map.
    pub extents: Vec<Extent>,
}

/// Why a user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The children could not be made; this process is as before.
    #[error("cannot prepare a user namespace: {errno}")]
    Prepare {
        /// Cause.
        errno: Errno,
    },
    /// The kernel refused the namespace; this process is as before.
    #[error("cannot make a user namespace: {errno}")]
    Unshare {
        /// Cause.
        errno: Errno,
    },
    /// The ids were not mapped. This process is in a namespace where it is nobody, and can only
    /// end.
    #[error("{} did not map the ids: {complaint}", program.display())]
    Map {
        /// The program.
        program: PathBuf,
        /// What it said.
        complaint: String,
    },
    /// The only id was not mapped; this process can only end.
    #[error("cannot map the only id: cannot write {file}: {source}")]
    MapOne {
        /// The file below /proc.
        file: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// The namespace is there, but gives no rights; this process can only end.
    #[error("a user namespace can be made, but nothing can be mounted in it: {source}")]
    Powerless {
        /// Cause.
        source: MountError,
    },
}

/// Whether this process is in another user namespace than the first one: then device nodes cannot
/// be made and `trusted.*` attributes not be had, whoever it is.
#[must_use]
pub fn inside() -> bool {
    // Without /proc, or without user namespaces in the kernel, there is no other.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_initial(&map))
}

fn is_initial(map: &str) -> bool {
    map.split_ascii_whitespace().eq(INITIAL_MAP)
}

/// Moves this process into a new user namespace with these ids, and a mount namespace that
/// belongs to it; mounts made outside later still appear there. Its groups stay as they are: those
/// that are not mapped show as the overflow id, and count for access to files. To be called while
/// the process has one thread.
///
/// # Errors
/// [`EnterError`]; `EINVAL` in `Unshare` where there are more threads.
pub fn enter(users: &Mapper, groups: &Mapper) -> Result<(), EnterError> {
    let prepare = |errno| EnterError::Prepare { errno };
    let users = Helper::start(users).map_err(prepare)?;
    let groups = Helper::start(groups).map_err(prepare)?;
    crate::namespace::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|errno| EnterError::Unshare { errno })?;
    users.map()?;
    groups.map()?;
    try_rights()
}

/// As [`enter`], with no more than the user's own user and group id, which become 0: nobody else
/// needs to help with that. No process in it can change its supplementary groups (`setgroups`
/// has to be given up first, user_namespaces(7)).
///
/// # Errors
/// [`EnterError`].
pub fn enter_one() -> Result<(), EnterError> {
    // Outside of the namespace: inside they are nobody's until they are mapped.
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    crate::namespace::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
        .map_err(|errno| EnterError::Unshare { errno })?;
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        std::fs::write(file, text).map_err(|source| EnterError::MapOne { file, source })?;
    }
    try_rights()
}

/// AppArmor may let a namespace be made and take every right in it away.
fn try_rights() -> Result<(), EnterError> {
    let tmpfs = Mount {
        target: PathBuf::from("/"),
        source: MountSource::Tmpfs { size: None, mode: 0o755 },
        flags: MountFlags::DATA,
    };
    tmpfs.open().map(drop).map_err(|source| EnterError::Powerless { source })
}

/// The ids that there are in this process's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The map of user ids; what is outside is told in ids of the namespace around.
    pub users: Vec<Extent>,
    /// The map of group ids.
    pub groups: Vec<Extent>,
    /// Whether supplementary groups can be changed.
    pub may_set_groups: bool,
}

impl Ids {
    /// Those of this process; all of them where the kernel knows no user namespaces.
    #[must_use]
    pub fn of_process() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
        let map = |name| read(name).map_or_else(|_| vec![ALL], |text| extents(&text));
        Self {
            users: map("uid_map"),
            groups: map("gid_map"),
            may_set_groups: !read("setgroups").is_ok_and(|text| text.trim() == "deny"),
        }
    }

    /// Whether there is this user id.
    #[must_use]
    pub fn has_user(&self, id: u32) -> bool {
        self.users.iter().any(|extent| extent.has(id))
    }

    /// Whether there is this group id.
    #[must_use]
    pub fn has_group(&self, id: u32) -> bool {
        self.groups.iter().any(|extent| extent.has(id))
    }

    /// Whether there is one user and one group.
    #[must_use]
    pub fn is_one(&self) -> bool {
        [&self.users, &self.groups].iter().all(|map| map.iter().map(|it| it.count).eq([1]))
    }
}

const ALL: Extent = Extent { inside: 0, outside: 0, count: u32::MAX };

impl Extent {
    fn has(&self, id: u32) -> bool {
        id.checked_sub(self.inside).is_some_and(|at| at < self.count)
    }
}

/// The lines of a map file (user_namespaces(7)).
fn extents(text: &str) -> Vec<Extent> {
    let extent = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|it| it.parse().ok());
        Some(Extent {
            inside: numbers.next()??,
            outside: numbers.next()??,
            count: numbers.next()??,
        })
    };
    text.lines().filter_map(extent).collect()
}

/// Why an owner could not be given to a file: the kernel's `EINVAL` means an id that the user
/// namespace does not have.
#[must_use]
pub fn owner_error(uid: u32, gid: u32, errno: Errno) -> std::io::Error {
    if errno != Errno::INVAL {
        return errno.into();
    }
    let text = format!("the owner {uid}:{gid} is none of the ids that this build has");
    std::io::Error::new(std::io::ErrorKind::InvalidInput, text)
}

/// A child that waits for its word to execute a program. Dropping it ends it.
struct Helper {
    pid: Option<Pid>,
    /// Closing it without a word ends the child.
    gate: Option<OwnedFd>,
    /// What the program says.
    complaint: OwnedFd,
    program: PathBuf,
}

impl Helper {
    fn start(mapper: &Mapper) -> Result<Self, Errno> {
        let program = passable(&mapper.program)?;
        let args = arguments(mapper)?;
        let mut argv: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let (gate, gate_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (complaint, complaint_write) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the child has a copy of everything, and only makes system calls until it
        // executes its program or ends.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // Its own copy would keep the gate from ever closing.
            drop(gate_write);
            execute(&gate, &complaint_write, &program, &argv);
        }
        crate::errno::check(pid.into())?;
        let pid = Pid::from_raw(pid);
        Ok(Self { pid, gate: Some(gate_write), complaint, program: mapper.program.clone() })
    }

    /// Lets the program run, and waits for its end.
    fn map(mut self) -> Result<(), EnterError> {
        let program = self.program.clone();
        let failed = |complaint: String| EnterError::Map { program, complaint };
        let gate = self.gate.take().map(File::from);
        // If the child is gone, its status tells.
        let _ = gate.map(|mut gate| gate.write_all(b"m"));
        let mut text = Vec::new();
        if let Ok(complaint) = self.complaint.try_clone() {
            let _ = File::from(complaint).take(COMPLAINT_BYTES).read_to_end(&mut text);
        }
        if self.wait() == Some(0) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text).trim().replace('\n', "; ");
        Err(failed(if text.is_empty() { "it failed without a word".to_owned() } else { text }))
    }

    /// The status it exited with.
    fn wait(&mut self) -> Option<i32> {
        let pid = self.pid.take()?;
        loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                Ok(Some((_, status))) => return status.exit_status(),
                _ => return None,
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.gate.take());
        self.wait();
    }
}

/// What the program is called with: its name, this process, and three numbers for each extent.
fn arguments(mapper: &Mapper) -> Result<Vec<CString>, Errno> {
    let pid = std::process::id().to_string();
    let numbers = mapper.extents.iter().flat_map(|extent| {
        [extent.inside, extent.outside, extent.count].map(|number| number.to_string())
    });
    let text = std::iter::once(pid).chain(numbers);
    let first = std::iter::once(passable(&mapper.program));
    first.chain(text.map(|it| CString::new(it).map_err(|_| Errno::INVAL))).collect()
}

fn passable(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

/// The child's life. It gets no variables: a set-user-id program needs none.
fn execute(gate: &OwnedFd, complaint: &OwnedFd, program: &CStr, argv: &[*const libc::c_char]) -> ! {
    let mut word = [0];
    loop {
        match rustix::io::read(gate, &mut word) {
            Ok(1) => break,
            Err(Errno::INTR) => {}
            // The builder thought better of it, or is gone.
            _ => exit(0),
        }
    }
    let told = rustix::stdio::dup2_stdout(complaint).and(rustix::stdio::dup2_stderr(complaint));
    if told.is_err() {
        exit(NOT_EXECUTED);
    }
    let empty = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both vectors end with a null pointer, and their strings live in this copy of the
    // process.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), empty.as_ptr()) };
    let text: &[u8] = match crate::errno::last() {
        Errno::NOENT => b"it does not exist",
        Errno::ACCESS | Errno::PERM => b"it may not be executed",
        _ => b"it cannot be executed",
    };
    // SAFETY: the text is valid for its length. Raw, since the descriptor's owner is elsewhere.
    unsafe { libc::write(complaint.as_raw_fd(), text.as_ptr().cast(), text.len()) };
    exit(NOT_EXECUTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_has_all_ids() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("0 1000 1\n1 100000 65536\n"));
        assert!(!is_initial("0 0 65536\n"));
        assert!(!is_initial(""));
    }

    #[test]
    fn ids_of_a_namespace() {
        let ids = |users: &str, groups: &str| Ids {
            users: extents(users),
            groups: extents(groups),
            may_set_groups: true,
        };
        let many = ids("0 1000 1\n1 100000 65536\n", "0 1000 1\n5 7 8\nnonsense\n");
        assert!(many.has_user(0) && many.has_user(65536) && !many.has_user(65537));
        assert!(many.has_group(12) && !many.has_group(13) && !many.has_group(4));
        assert!(!many.is_one() && ids("0 7 1", "0 7 1").is_one());
        assert!(!ids("0 7 1", "0 7 2").is_one() && !ids("", "").is_one());
        assert!(Ids::of_process().has_user(0) || inside());
        let error = owner_error(5, 6, Errno::INVAL).to_string();
        assert!(error.contains("5:6"), "{error}");
        assert_eq!(owner_error(5, 6, Errno::PERM).raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn arguments_of_the_programs() {
        let extents = vec![
            Extent { inside: 0, outside: 1000, count: 1 },
            Extent { inside: 1, outside: 100_000, count: 65536 },
        ];
        let mapper = Mapper { program: "/usr/bin/newuidmap".into(), extents };
        let text: Vec<String> =
            arguments(&mapper).unwrap().into_iter().map(|arg| arg.into_string().unwrap()).collect();
        let pid = std::process::id().to_string();
        assert_eq!(text[2..], ["0", "1000", "1", "1", "100000", "65536"]);
        assert_eq!(text[..2], ["/usr/bin/newuidmap", &pid]);
    }

    #[test]
    fn a_child_without_a_word_ends() {
        let mapper = Mapper { program: "/bin/false".into(), extents: Vec::new() };
        let mut helper = Helper::start(&mapper).unwrap();
        drop(helper.gate.take());
        assert_eq!(helper.wait(), Some(0));
        let failed = Helper::start(&mapper).unwrap().map().unwrap_err().to_string();
        assert_eq!(failed, "/bin/false did not map the ids: it failed without a word");
        let mapper = Mapper { program: "/no/such".into(), extents: Vec::new() };
        let failed = Helper::start(&mapper).unwrap().map().unwrap_err().to_string();
        assert!(failed.ends_with("it does not exist"), "{failed}");
    }
}
