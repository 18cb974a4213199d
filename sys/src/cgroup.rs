//! Control groups: which hierarchies a host has (v1, v2, or both), and groups with limits in
//! them. Groups stand in a directory `drydock` at the top of their hierarchy unless another
//! [`Parent`] is chosen; who may not make any there but in the group that it is in itself makes them
//! there. Under v2 a process cannot hand controllers to children of the group that it sits in: it
//! moves aside.

mod exhausted;
mod freeze;
mod limits;
mod list;
mod name;
mod offer;
mod own;
mod v1;
mod v2;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use exhausted::Memory;
use limits::{Controller, Setting};
use own::{Mounted, Own};

pub use exhausted::Exhausted;
pub use freeze::Freezer;
pub use limits::{CpuQuota, GroupLimits, Swap};
pub use list::{ListError, NumberList};
pub use name::Parent;
pub use offer::{Offer, Version};

/// How often and in which distance the removal of a group is tried that still has members.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);
/// How far below the top a dead owner's groups are looked for.
const SWEEP_DEPTH: usize = 16;

/// A failed step with a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no hierarchy with this controller.
    #[error(
        "{what} cannot be limited: this host offers no control groups with the controller \
         {controller:?} (neither a hierarchy of version 1 nor in cgroup.controllers of version 2); \
         switch it on for this host or container, or leave the limit out"
    )]
    Missing {
        /// What was to be limited.
        what: &'static str,
        /// As in cgroups(7).
        controller: &'static str,
    },
    /// Processes sit in a group that should hand a controller down.
    #[error(
        "{what} cannot be limited: the control group {} cannot hand the controller {controller:?} \
         down, for processes sit in it; move them into a group below it, or choose another parent \
         without processes, or leave the limit out",
        path.display()
    )]
    Occupied {
        /// What was to be limited.
        what: &'static str,
        /// The group.
        path: PathBuf,
        /// As in cgroups(7).
        controller: &'static str,
    },
    /// Groups can be made neither at the top nor in the own group.
    #[error(
        "{what} cannot be limited: this user may make control groups neither in {} nor in the group \
         of this process, {}; {}; or leave the limit out",
        top.display(), group.display(), delegation(*unified)
    )]
    NotDelegated {
        /// What was to be limited.
        what: &'static str,
        /// The top of the hierarchy.
        top: PathBuf,
        /// The group that this process is in.
        group: PathBuf,
        /// Whether the hierarchy is of version 2.
        unified: bool,
    },
    /// A group could not be made.
    #[error("cannot create the control group {}: {source}{}", path.display(), advice(source))]
    Create {
        /// Its directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A value was refused.
    #[error(
        "{what} cannot be limited: cannot write {value:?} to {}: {source}{}",
        path.display(), advice(source)
    )]
    Write {
        /// What was to be limited.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Cause.
        source: io::Error,
    },
    /// The kernel has the controller, but not this file of it.
    #[error(
        "{what} cannot be limited: this kernel offers no {file} (swap is counted with the boot \
         parameter swapaccount=1); leave the limit out"
    )]
    NoFile {
        /// What was to be limited.
        what: &'static str,
        /// The file's name.
        file: &'static str,
    },
    /// Processors or memory nodes that are not there for groups.
    #[error("the {what} {wanted} cannot be given: this host offers {offered} to control groups")]
    NotOffered {
        /// `processors` or `memory nodes`.
        what: &'static str,
        /// As they were asked for.
        wanted: String,
        /// Those that are there.
        offered: String,
    },
    /// A process was not let into its group.
    #[error("cannot put a process into the control group {}: {source}{}", path.display(), advice(source))]
    Join {
        /// The group.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A name that is not a plain file name.
    #[error("{name:?} cannot name a control group")]
    Name {
        /// The name.
        name: String,
    },
    /// A path that names no group below the top.
    #[error("{path:?} cannot be the parent of control groups: {reason}")]
    Parent {
        /// The path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
}

/// How to get a group of one's own.
fn delegation(unified: bool) -> &'static str {
    if unified {
        "start the build in a group of its own: `systemd-run --user --scope -p Delegate=yes \
         drydock build …` (in a container: --privileged)"
    } else {
        "version 1 is not delegated by itself: have root make a group in the hierarchy, give it to \
         this user (`chown`), and start the build in it (in a container: --privileged)"
    }
}

/// What to do about a refusal.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; control groups must be writable for the builder (in a container: --privileged); \
             leave the limit out otherwise"
        }
        ErrorKind::InvalidInput => "; the kernel takes no such value",
        _ => "",
    }
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
    /// The v1 hierarchy of the cpuset controller.
    pub cpuset: Option<PathBuf>,
    /// The v1 hierarchy of the pids controller.
    pub pids: Option<PathBuf>,
    /// Where this process is in them.
    own: Vec<Own>,
}

/// One group, in each hierarchy that it needs.
#[derive(Debug, Default)]
pub struct Group {
    /// The top of each hierarchy, and the group in it.
    dirs: Vec<(PathBuf, PathBuf)>,
    /// Where memory is counted, if it is.
    memory: Option<Memory>,
}

impl Hierarchies {
    /// Those that this process sees.
    ///
    /// # Errors
    /// /proc/self/mountinfo or /proc/self/cgroup cannot be read.
    pub fn detect() -> io::Result<Self> {
        let read = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name));
        Ok(Self::parse(&read("mountinfo")?, &read("cgroup")?))
    }

    /// Those in the text of a mountinfo file (proc_pid_mountinfo(5)), and where in them a process is
    /// with this cgroup file (cgroups(7)).
    #[must_use]
    pub fn parse(mountinfo: &str, groups: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, fs)) = line.split_once(" - ") else { continue };
            let mut mount = mount.split(' ').skip(3);
            let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
            let own = |controller| Mounted { point, root, controller }.own(groups);
            let mut fs = fs.split(' ');
            let (kind, options) = (fs.next(), fs.nth(1).unwrap_or(""));
            match kind {
                Some("cgroup2") => {
                    found.unified = Some(point.into());
                    found.own.extend(own(None));
                }
                Some("cgroup") => {
                    for controller in Controller::ALL {
                        if options.split(',').any(|it| it == controller.name()) {
                            *found.slot(controller) = Some(point.into());
                            found.own.extend(own(Some(controller)));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn slot(&mut self, controller: Controller) -> &mut Option<PathBuf> {
        match controller {
            Controller::Memory => &mut self.memory,
            Controller::Cpu => &mut self.cpu,
            Controller::Cpuset => &mut self.cpuset,
            Controller::Pids => &mut self.pids,
        }
    }

    fn v1(&self, controller: Controller) -> Option<&Path> {
        match controller {
            Controller::Memory => self.memory.as_deref(),
            Controller::Cpu => self.cpu.as_deref(),
            Controller::Cpuset => self.cpuset.as_deref(),
            Controller::Pids => self.pids.as_deref(),
        }
    }

    /// Makes a group with limits in `parent`: in v1 hierarchies where the controller is there,
    /// else in v2. With a parent that was chosen it stands in every hierarchy, so that the limits
    /// of the parent count.
    ///
    /// # Errors
    /// [`CgroupError`]; no group is left behind but the parent.
    pub fn create(
        &self,
        parent: &Parent,
        name: &str,
        limits: &GroupLimits,
    ) -> Result<Group, CgroupError> {
        name::check(name)?;
        let mut group = Group::default();
        match self.fill(&mut group, parent, name, limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn fill(
        &self,
        group: &mut Group,
        parent: &Parent,
        name: &str,
        limits: &GroupLimits,
    ) -> Result<(), CgroupError> {
        for controller in Controller::ALL {
            let needed = limits.needs(controller);
            let v1 = self.v1(controller);
            if needed.is_none() && !(parent.is_chosen() && v1.is_some()) {
                continue;
            }
            let what = needed.unwrap_or("a step");
            let missing = CgroupError::Missing { what, controller: controller.name() };
            let top = v1.or(self.unified.as_deref()).ok_or(missing)?;
            let root = match self.base(top, parent, what, v1.is_none()) {
                // Nothing in it can count: it is not there.
                Err(_) if needed.is_none() => continue,
                base => base?,
            };
            let dir = if v1.is_some() {
                let dir = group.v1_dir(&root, parent, name, controller, limits)?;
                write_all(&dir, &v1::settings(controller, limits))?;
                dir
            } else {
                v2::hand_down(&root, parent, controller, what)?;
                let dir = group.dir(&root, parent, name)?;
                if controller == Controller::Cpuset {
                    v2::check_sets(&root.join(parent.path()), limits)?;
                }
                write_all(&dir, &v2::settings(controller, limits))?;
                dir
            };
            if controller == Controller::Memory {
                group.memory = Some(Memory::new(&dir, top, v1.is_none()));
            }
        }
        if let Some(top) = self.unified.as_deref().filter(|_| parent.is_chosen())
            && let Ok(root) = self.base(top, parent, "a step", true)
        {
            let dir = group.dir(&root, parent, name)?;
            if group.memory.is_none() && dir.join("memory.events").exists() {
                group.memory = Some(Memory::new(&dir, top, true));
            }
        }
        Ok(())
    }

    /// Where the parent's path begins in the hierarchy at `top`: there, if it was chosen or groups
    /// can be made there, else in the own group.
    fn base(
        &self,
        top: &Path,
        parent: &Parent,
        what: &'static str,
        unified: bool,
    ) -> Result<PathBuf, CgroupError> {
        let chosen = top.join(parent.path());
        let mut levels = chosen.ancestors().take_while(|it| it.starts_with(top));
        let there = levels.find(|it| it.exists()).unwrap_or(top);
        if own::is_ours(top, false) || own::is_ours(there, false) {
            return Ok(top.to_owned());
        }
        let own = self.own.iter().find(|it| it.top == top);
        let group = own.map_or_else(|| top.to_owned(), |it| it.group.clone());
        if parent.is_chosen() || !own::is_ours(&group, unified) {
            let group = if parent.is_chosen() { chosen } else { group };
            return Err(CgroupError::NotDelegated { what, top: top.to_owned(), group, unified });
        }
        Ok(group)
    }

    /// Removes all groups named `owner`, a dash and a number, wherever they stand, and kills what
    /// is still in them: for an owner that is known to be dead.
    pub fn sweep(&self, owner: &str) {
        let v1 = Controller::ALL.into_iter().filter_map(|it| self.v1(it));
        let mut roots: Vec<&Path> = self.unified.as_deref().into_iter().chain(v1).collect();
        roots.sort_unstable();
        roots.dedup();
        for root in roots {
            sweep_below(root, owner, SWEEP_DEPTH);
        }
    }
}

fn sweep_below(dir: &Path, owner: &str, depth: usize) {
    let Ok(list) = fs::read_dir(dir) else { return };
    for entry in list.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_str().is_some_and(|it| name::is_owned(it, owner)) {
            kill_members(&entry.path());
            remove_dir(&entry.path());
        } else if depth > 0 {
            sweep_below(&entry.path(), owner, depth - 1);
        }
    }
}

impl Group {
    /// The group's directory in the hierarchy at `root`; made if it is not there.
    fn dir(&mut self, root: &Path, parent: &Parent, name: &str) -> Result<PathBuf, CgroupError> {
        if let Some((_, dir)) = self.dirs.iter().find(|(it, _)| it == root) {
            return Ok(dir.clone());
        }
        parent.levels(root).iter().try_for_each(|level| make_dir(level))?;
        let path = root.join(parent.path()).join(name);
        fs::create_dir(&path)
            .map_err(|source| CgroupError::Create { path: path.clone(), source })?;
        self.dirs.push((root.into(), path.clone()));
        Ok(path)
    }

    fn v1_dir(
        &mut self,
        root: &Path,
        parent: &Parent,
        name: &str,
        controller: Controller,
        limits: &GroupLimits,
    ) -> Result<PathBuf, CgroupError> {
        let dir = self.dir(root, parent, name)?;
        if controller == Controller::Cpuset {
            parent.levels(root).iter().try_for_each(|level| v1::inherit(level))?;
            v1::check_sets(&root.join(parent.path()), limits)?;
            v1::inherit(&dir)?;
        }
        Ok(dir)
    }

    /// Puts a process and its future children into the group.
    ///
    /// # Errors
    /// [`CgroupError::Join`].
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        self.dirs.iter().try_for_each(|(_, dir)| {
            fs::write(dir.join("cgroup.procs"), pid.to_string())
                .map_err(|source| CgroupError::Join { path: dir.clone(), source })
        })
    }

    /// Largest use of memory so far in bytes, where memory is counted and the kernel tells
    /// (v2: `memory.peak`, Linux 5.19).
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        self.memory.as_ref()?.peak()
    }

    /// How many processes the kernel killed in the group because memory was used up: its own, that
    /// of a group above it, or the machine's.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.memory.as_ref().map_or(0, Memory::kills)
    }

    /// Whose memory was used up, after a process was killed for that.
    #[must_use]
    pub fn exhausted(&self) -> Exhausted {
        self.memory.as_ref().map_or(Exhausted::Machine, Memory::exhausted)
    }

    /// Removes the group; all of its processes must have ended. Its parent stays.
    pub fn remove(&self) {
        self.dirs.iter().for_each(|(_, dir)| remove_dir(dir));
    }
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

fn write_all(dir: &Path, settings: &[Setting]) -> Result<(), CgroupError> {
    // What depends on the kernel's configuration (swap accounting).
    let there = |it: &&Setting| !it.optional || dir.join(it.file).exists();
    settings.iter().filter(there).try_for_each(|it| write(dir, it))
}

fn write(dir: &Path, Setting { what, file, value, .. }: &Setting) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|source| match path.exists() {
        true => CgroupError::Write { what, path, value: value.clone(), source },
        false => CgroupError::NoFile { what, file },
    })
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

/// Removes a group with those that a step made in it, which it may if it is not confined. One
/// whose last process has just ended may stay busy for a moment.
fn remove_dir(dir: &Path) {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    for group in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_dir(&group.path());
    }
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
mod tests;
