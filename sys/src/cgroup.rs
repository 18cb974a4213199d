//! Control groups: which hierarchies a host has (v1, v2, or both), and groups with limits in
//! them. All groups stand in a directory `drydock` at the top of their hierarchy: under v2 a
//! process cannot hand controllers to children of the group that it sits in itself.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory at the top of each hierarchy.
const PARENT: &str = "drydock";
/// How often and in which distance the removal of a group is tried that still has members.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// A failed step with a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no hierarchy with this controller.
    #[error("this host offers no writable control group with the {controller} controller")]
    Missing {
        /// `memory` or `cpu`.
        controller: &'static str,
    },
    /// A group could not be made.
    #[error("cannot create the control group {}: {source}", path.display())]
    Create {
        /// Its directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A value was refused.
    #[error("cannot write {value:?} to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Cause.
        source: io::Error,
    },
    /// A name that is not a plain file name.
    #[error("{name:?} cannot name a control group")]
    Name {
        /// The name.
        name: String,
    },
}

/// Limits of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes of memory; swap does not add to it.
    pub memory: Option<u64>,
    /// Processor time.
    pub cpu: Option<CpuQuota>,
}

/// Processor time in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuQuota {
    /// Microseconds that all processes together may run in a period.
    pub quota_micros: u64,
    /// Length of a period in microseconds (the kernel takes 1,000 to 1,000,000).
    pub period_micros: u64,
}

/// The mounted hierarchies of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// The v2 hierarchy.
    pub unified: Option<PathBuf>,
    /// The v1 hierarchy of the memory controller.
    pub memory: Option<PathBuf>,
    /// The v1 hierarchy of the cpu controller.
    pub cpu: Option<PathBuf>,
}

/// One group, in each hierarchy that it needs.
#[derive(Debug)]
pub struct Group {
    unified: Option<PathBuf>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
}

impl Hierarchies {
    /// Those that this process sees.
    ///
    /// # Errors
    /// /proc/self/mountinfo cannot be read.
    pub fn detect() -> io::Result<Self> {
        fs::read_to_string("/proc/self/mountinfo").map(|text| Self::parse(&text))
    }

    /// Those in the text of a mountinfo file (proc_pid_mountinfo(5)).
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4) else { continue };
            let mut fs = fs.split(' ');
            let (kind, options) = (fs.next(), fs.nth(1).unwrap_or(""));
            let has = |name| options.split(',').any(|it| it == name);
            match kind {
                Some("cgroup2") => found.unified = Some(point.into()),
                Some("cgroup") if has("memory") => found.memory = Some(point.into()),
                Some("cgroup") if has("cpu") => found.cpu = Some(point.into()),
                _ => {}
            }
        }
        found
    }

    /// Makes a group with limits: in v1 hierarchies where the controller is there, else in v2.
    ///
    /// # Errors
    /// [`CgroupError`]; nothing is left behind.
    pub fn create(&self, name: &str, limits: GroupLimits) -> Result<Group, CgroupError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0', '\n']) {
            return Err(CgroupError::Name { name: name.into() });
        }
        let mut group = Group { unified: None, memory: None, cpu: None };
        let result = self.fill(&mut group, name, limits);
        match result {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn fill(&self, group: &mut Group, name: &str, limits: GroupLimits) -> Result<(), CgroupError> {
        if let Some(bytes) = limits.memory {
            if let Some(root) = &self.memory {
                let dir = group.memory.insert(make(root, name)?);
                write(dir, "memory.limit_in_bytes", &bytes.to_string())?;
                write_if_there(dir, "memory.memsw.limit_in_bytes", &bytes.to_string())?;
            } else {
                let dir = self.unified_group(group, name, "memory")?;
                write(dir, "memory.max", &bytes.to_string())?;
                write_if_there(dir, "memory.swap.max", "0")?;
            }
        }
        if let Some(CpuQuota { quota_micros, period_micros }) = limits.cpu {
            if let Some(root) = &self.cpu {
                let dir = group.cpu.insert(make(root, name)?);
                write(dir, "cpu.cfs_period_us", &period_micros.to_string())?;
                write(dir, "cpu.cfs_quota_us", &quota_micros.to_string())?;
            } else {
                let dir = self.unified_group(group, name, "cpu")?;
                write(dir, "cpu.max", &format!("{quota_micros} {period_micros}"))?;
            }
        }
        Ok(())
    }

    fn unified_group<'a>(
        &self,
        group: &'a mut Group,
        name: &str,
        controller: &'static str,
    ) -> Result<&'a Path, CgroupError> {
        let missing = CgroupError::Missing { controller };
        let root = self.unified.as_ref().ok_or(missing)?;
        let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !offered.split_ascii_whitespace().any(|it| it == controller) {
            return Err(CgroupError::Missing { controller });
        }
        let enable = format!("+{controller}");
        write(root, "cgroup.subtree_control", &enable)?;
        let parent = root.join(PARENT);
        make_dir(&parent)?;
        write(&parent, "cgroup.subtree_control", &enable)?;
        if group.unified.is_none() {
            group.unified = Some(make(root, name)?);
        }
        group.unified.as_deref().ok_or(CgroupError::Missing { controller })
    }

    /// Removes all groups named `owner`, a dash and a number, and kills what is still in them:
    /// for an owner that is known to be dead.
    pub fn sweep(&self, owner: &str) {
        let owned = |name: &str| {
            let number = name.strip_prefix(owner).and_then(|it| it.strip_prefix('-'));
            number.is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()))
        };
        for root in [&self.unified, &self.memory, &self.cpu].into_iter().flatten() {
            let Ok(list) = fs::read_dir(root.join(PARENT)) else { continue };
            for entry in list.flatten() {
                if entry.file_name().to_str().is_some_and(owned) {
                    kill_members(&entry.path());
                    remove_dir(&entry.path());
                }
            }
        }
    }
}

impl Group {
    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified, &self.memory, &self.cpu].into_iter().flatten()
    }

    /// Puts a process and its future children into the group.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        self.dirs().try_for_each(|dir| write(dir, "cgroup.procs", &pid.to_string()))
    }

    /// Largest use of memory so far in bytes, where the memory controller is in use and tells
    /// (v2: `memory.peak`, Linux 5.19).
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let number =
            |dir: &Path, file| fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
        match (&self.memory, &self.unified) {
            (Some(dir), _) => number(dir, "memory.max_usage_in_bytes"),
            (None, Some(dir)) => number(dir, "memory.peak"),
            (None, None) => None,
        }
    }

    /// How many processes the kernel killed because the group's memory was used up.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let text = match (&self.memory, &self.unified) {
            (Some(dir), _) => fs::read_to_string(dir.join("memory.oom_control")),
            (None, Some(dir)) => fs::read_to_string(dir.join("memory.events")),
            (None, None) => return 0,
        };
        text.unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Removes the group; all of its processes must have ended.
    pub fn remove(&self) {
        self.dirs().for_each(|dir| remove_dir(dir));
    }
}

fn make(root: &Path, name: &str) -> Result<PathBuf, CgroupError> {
    let parent = root.join(PARENT);
    make_dir(&parent)?;
    let path = parent.join(name);
    fs::create_dir(&path).map_err(|source| CgroupError::Create { path: path.clone(), source })?;
    Ok(path)
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

fn write(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|source| CgroupError::Write {
        path,
        value: value.into(),
        source,
    })
}

/// For files that depend on the kernel's configuration (swap accounting).
fn write_if_there(dir: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    if dir.join(file).exists() { write(dir, file, value) } else { Ok(()) }
}

fn kill_members(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse().ok()) {
        if let Ok(fd) = crate::launch::pidfd_open(pid) {
            // ESRCH: it has ended meanwhile.
            let _ = rustix::process::pidfd_send_signal(fd, rustix::process::Signal::KILL);
        }
    }
}

/// A group whose last process has just ended may stay busy for a moment.
fn remove_dir(dir: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(REMOVE_PAUSE);
            }
            // Gone; or it stays until the sweep of the next start.
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
28 25 0:25 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
nonsense
";

    #[test]
    fn hybrid_hosts() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(found.cpu.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
    }

    /// A directory tree stands in for a v2 hierarchy: what is written, not what it does.
    #[test]
    fn unified_writes() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        fs::write(root.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        let all = Hierarchies { unified: Some(root.into()), ..Hierarchies::default() };
        let limits = GroupLimits {
            memory: Some(1 << 20),
            cpu: Some(CpuQuota { quota_micros: 50_000, period_micros: 100_000 }),
        };
        let group = all.create("lease-1", limits).unwrap();
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(read("drydock/lease-1/memory.max"), "1048576");
        assert_eq!(read("drydock/lease-1/cpu.max"), "50000 100000");
        assert_eq!(read("drydock/cgroup.subtree_control"), "+cpu");
        fs::write(root.join("drydock/lease-1/memory.events"), "oom 2\noom_kill 1\n").unwrap();
        assert_eq!(group.oom_kills(), 1);
        assert!(all.create("a/b", limits).is_err());
    }

    #[test]
    fn a_limit_without_a_controller_is_an_error() {
        let limits = GroupLimits { memory: Some(1), cpu: None };
        let error = Hierarchies::default().create("x", limits).unwrap_err();
        assert!(matches!(error, CgroupError::Missing { controller: "memory" }));
    }
}
