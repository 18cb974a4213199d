//! The file system plan of a run: what is mounted where, and the steps of the child.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::mount::{Mount, MountFlags, MountSource};
use sys::program::{FdIndex, Step};

use crate::devices::{self, Nodes};
use crate::error::ExecError;
use crate::host_devices;
use crate::nodes::{self, Nodes as NodeFiles};
use crate::private::{EMPTY, Part, PrivateFiles};
use crate::spec::{Network, NodeKind, ProcessSpec, Security, Volume};
use crate::stubs::{self, Stubs};
use crate::tree::{self, Tree, TreeError};

/// /dev/shm when no size is given (Docker's default).
const SHM_SIZE: u64 = 64 * 1024 * 1024;

/// What does not change between runs.
pub(crate) struct Host {
    /// An empty directory where the child attaches the new root, in its own namespace.
    pub(crate) root_at: CString,
    /// Another one, for the private files.
    pub(crate) private_at: CString,
    /// Whether the v2 hierarchy is all that the host has.
    pub(crate) unified_cgroups: bool,
    /// Whether this is another user namespace than the first one: no device can be made, and of
    /// the host's network no fresh /sys.
    pub(crate) user_namespace: bool,
    /// Paths to hide.
    pub(crate) masked: Vec<CString>,
    /// Paths to make read-only.
    pub(crate) read_only: Vec<CString>,
}

/// Steps and the descriptors that they use, and the stubs to remove in the end.
pub(crate) struct Plan {
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) steps: Vec<Step>,
    pub(crate) stdin: OwnedFd,
    pub(crate) stubs: Stubs,
}

/// Builder of a [`Plan`].
struct Planner<'a> {
    tree: Tree<'a>,
    fds: Vec<OwnedFd>,
    steps: Vec<Step>,
    stubs: Stubs,
}

/// The root file system among the descriptors.
pub(crate) const ROOT: FdIndex = FdIndex(0);
const PRIVATE: FdIndex = FdIndex(1);

/// Plans the file system of `spec` around a root that is open. The working directory is made
/// for `owner` (user and group id) when it is missing.
pub(crate) fn plan(
    host: &Host,
    spec: &ProcessSpec,
    root: BorrowedFd<'_>,
    files: PrivateFiles,
    owner: (u32, u32),
) -> Result<Plan, ExecError> {
    let PrivateFiles { mount: private, system, injected } = files;
    let failed = |errno| ExecError::Create { path: "/".into(), errno };
    let duplicate = rustix::io::fcntl_dupfd_cloexec(root, 0).map_err(failed)?;
    let mut planner = Planner {
        tree: Tree::new(root),
        fds: vec![duplicate, private],
        steps: vec![
            Step::PrivateMounts,
            Step::AttachHost { mount: ROOT, at: host.root_at.clone() },
            Step::AttachHost { mount: PRIVATE, at: host.private_at.clone() },
        ],
        stubs: Stubs::default(),
    };
    let stdin = planner.system(host, spec)?;
    planner.given(host, spec, owner)?;
    planner.parts(&system)?;
    for volume in volumes(spec) {
        planner.volume(host, &volume)?;
    }
    planner.parts(&injected)?;
    planner.directory(&spec.cwd, owner)?;
    planner.stubs.seal().map_err(failed)?;
    planner.steps.push(Step::Pivot);
    let Planner { fds, steps, stubs, .. } = planner;
    Ok(Plan { fds, steps, stdin, stubs })
}

/// The caller's mounts with those that devices need: by their depth, so that none hides another
/// (CDI: `pkg/cdi/container-edits.go`).
fn volumes(spec: &ProcessSpec) -> Vec<Volume> {
    let caller = spec.mounts.iter().map(|Volume { mount, part }| Volume {
        mount: without_devices(mount, spec.security),
        part: part.clone(),
    });
    let mut all: Vec<Volume> = caller.collect();
    if !spec.devices.mounts.is_empty() {
        all.extend(spec.devices.mounts.iter().cloned().map(Into::into));
        all.sort_by_key(|it| it.mount.target.components().count());
    }
    all
}

fn new_mount(fs: &CStr, target: &CStr, flags: MountFlags) -> Step {
    Step::MountNew { fs: fs.to_owned(), target: target.to_owned(), flags, optional: false }
}

impl Planner<'_> {
    /// /proc, /sys and /dev; the result is the null device.
    fn system(&mut self, host: &Host, spec: &ProcessSpec) -> Result<OwnedFd, ExecError> {
        // These three stay in the layer, as with BuildKit.
        for name in ["proc", "sys", "dev"] {
            self.lasting(name)?;
        }
        self.kernel(host, spec)?;
        let stdin = self.devices(host, spec.security)?;
        let shm_size = spec.limits.shm_size.unwrap_or(SHM_SIZE);
        for (target, source, flags) in [
            ("/dev/pts", MountSource::Devpts, MountFlags { nodev: false, ..MountFlags::DATA }),
            (
                "/dev/shm",
                MountSource::Tmpfs { size: Some(shm_size), mode: 0o1777 },
                MountFlags::DATA,
            ),
        ] {
            let fd = open(&Mount { target: target.into(), source, flags })?;
            self.attach(Path::new(target), fd)?;
        }
        self.steps.push(new_mount(c"mqueue", c"dev/mqueue", MountFlags::DATA));
        self.tree.add_kernel(Path::new("/dev/mqueue"));
        if spec.security == Security::Sandbox {
            self.hide(host);
        }
        Ok(stdin)
    }

    /// /dev; the result is the null device.
    fn devices(&mut self, host: &Host, security: Security) -> Result<OwnedFd, ExecError> {
        let nodes = if host.user_namespace { Nodes::Host } else { Nodes::Own };
        let all = security == Security::Insecure;
        let dev = devices::create(nodes)?;
        if all && nodes == Nodes::Own {
            host_devices::make(&dev)?;
        }
        let stdin = devices::open_null(nodes, &dev)?;
        if nodes == Nodes::Own && security == Security::Sandbox {
            self.own_nodes(host, dev)?;
            return Ok(stdin);
        }
        self.attach(Path::new("/dev"), dev)?;
        if nodes == Nodes::Host {
            let further = if all { host_devices::bound() } else { Vec::new() };
            for mount in devices::host_nodes().chain(further) {
                self.attach(&mount.target, open(&mount)?)?;
            }
        }
        Ok(stdin)
    }

    /// /dev with nodes of its own, each bound over itself: a node that the step makes there cannot
    /// be opened.
    fn own_nodes(&mut self, host: &Host, dev: OwnedFd) -> Result<(), ExecError> {
        let mount = FdIndex(self.fds.len());
        let part = |name: &str, target: String, flags| {
            let name = Path::new(name);
            let (name, target) = (relative(name)?, relative(Path::new(&target))?);
            Ok::<_, ExecError>(Step::AttachPart { mount, name, target, flags })
        };
        self.steps.push(Step::AttachHost { mount, at: host.private_at.clone() });
        let flags = MountFlags { nosuid: true, nodev: true, ..MountFlags::default() };
        self.steps.push(part("", "dev".to_owned(), flags)?);
        let flags = MountFlags { nosuid: true, noexec: true, ..MountFlags::default() };
        for name in devices::names() {
            self.steps.push(part(name, format!("dev/{name}"), flags)?);
        }
        let seen = rustix::io::fcntl_dupfd_cloexec(&dev, 0);
        let seen = seen.map_err(|errno| ExecError::Create { path: "/dev".into(), errno })?;
        self.tree.add(Path::new("/dev"), seen);
        self.fds.push(dev);
        Ok(())
    }

    /// The devices that this process is given, over what is there.
    fn given(
        &mut self,
        host: &Host,
        spec: &ProcessSpec,
        owner: (u32, u32),
    ) -> Result<(), ExecError> {
        if spec.devices.nodes.is_empty() {
            return Ok(());
        }
        let mut files = NodeFiles::new()?;
        for node in &spec.devices.nodes {
            if devices::is_standard(&node.path) {
                let reason = "every step has one of its own there".to_owned();
                return Err(ExecError::Device { path: node.path.clone(), reason });
            }
            absolute("device", &node.path)?;
            if host.user_namespace && node.kind != Some(NodeKind::Fifo) {
                let mount = nodes::of_host(node)?;
                self.attach(&mount.target, open(&mount)?)?;
            } else {
                files.add(&nodes::fill(node, owner)?)?;
            }
        }
        let mount = FdIndex(self.fds.len());
        self.steps.push(Step::AttachHost { mount, at: host.private_at.clone() });
        self.fds.push(files.mount);
        for (name, target) in files.list {
            let path = self.point(&target, false)?;
            let target = relative(&path)?;
            self.steps.push(Step::AttachPart { mount, name, target, flags: nodes::FLAGS });
        }
        Ok(())
    }

    /// Hides and protects parts of /proc and /sys.
    fn hide(&mut self, host: &Host) {
        // The null device hides files: after /dev, before anything of the caller's.
        self.steps.extend(host.masked.iter().map(|target| Step::Mask {
            target: target.clone(),
            null: c"dev/null".to_owned(),
            mount: PRIVATE,
            empty: EMPTY.to_owned(),
        }));
        self.steps
            .extend(host.read_only.iter().map(|target| Step::ReadOnly { target: target.clone() }));
    }

    fn kernel(&mut self, host: &Host, spec: &ProcessSpec) -> Result<(), ExecError> {
        let flags = match spec.security {
            Security::Sandbox => MountFlags::DATA.read_only(),
            Security::Insecure => MountFlags::DATA,
        };
        self.steps.push(new_mount(c"proc", c"proc", MountFlags::DATA));
        if host.user_namespace && spec.network == Network::Host {
            self.host_sysfs(flags)?;
        } else {
            self.steps.push(new_mount(c"sysfs", c"sys", flags));
        }
        if host.unified_cgroups {
            self.steps.push(Step::MountNew {
                fs: c"cgroup2".to_owned(),
                target: c"sys/fs/cgroup".to_owned(),
                flags,
                optional: true,
            });
        }
        self.tree.add_kernel(Path::new("/proc"));
        self.tree.add_kernel(Path::new("/sys"));
        Ok(())
    }

    /// The host's /sys, without its control groups. A fresh one is only given to whom the network
    /// namespace belongs.
    fn host_sysfs(&mut self, flags: MountFlags) -> Result<(), ExecError> {
        let sys = open(&Mount {
            target: "/sys".into(),
            // What is mounted below came from the first namespace, and cannot be left out.
            source: MountSource::Bind { source: "/sys".into(), recursive: true },
            flags,
        })?;
        let mount = FdIndex(self.fds.len());
        self.steps.push(Step::Attach { mount, target: c"sys".to_owned() });
        self.steps.push(Step::Mask {
            target: c"sys/fs/cgroup".to_owned(),
            null: c"dev/null".to_owned(),
            mount: PRIVATE,
            empty: EMPTY.to_owned(),
        });
        self.fds.push(sys);
        Ok(())
    }

    /// A directory of the root file system, made if it is missing; never a link, which would put
    /// /proc elsewhere (CVE-2019-19921).
    fn lasting(&mut self, name: &str) -> Result<(), ExecError> {
        let target = Path::new("/").join(name);
        let root = self.fds[ROOT.0].as_fd();
        let mode = Mode::from_raw_mode(0o755);
        let failed = |errno| ExecError::Create { path: target.clone(), errno };
        match rustix::fs::mkdirat(root, name, mode) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(root, name, flags, Mode::empty()).map_err(failed)?;
                rustix::fs::fchmod(&fd, mode).map_err(failed)
            }
            // A read-only root says so before it looks.
            Err(Errno::EXIST | Errno::ROFS) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(root, name, flags, Mode::empty()).map_err(failed)?;
                if tree::is_dir(&fd).map_err(failed)? {
                    Ok(())
                } else {
                    let reason = "it is not a directory in the root file system".into();
                    Err(ExecError::MountPoint { target, reason })
                }
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    fn volume(&mut self, host: &Host, volume: &Volume) -> Result<(), ExecError> {
        if volume.part.as_os_str().is_empty() {
            return self.mount(&volume.mount);
        }
        let target = &volume.mount.target;
        absolute("mount target", target)?;
        let whole = open(&volume.mount)?;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let missing = |errno| ExecError::Create { path: volume.part.clone(), errno };
        let part = rustix::fs::openat2(&whole, &volume.part, flags, Mode::empty(), how);
        let part = part.map_err(missing)?;
        let path = self.point(target, tree::is_dir(&part).map_err(missing)?)?;
        let mount = FdIndex(self.fds.len());
        // Not on the private files, but on their directory: any number of mounts may lie there,
        // and each is reached by its descriptor.
        self.steps.push(Step::AttachHost { mount, at: host.private_at.clone() });
        self.steps.push(Step::AttachPart {
            mount,
            name: relative(&volume.part)?,
            target: relative(&path)?,
            flags: volume.mount.flags,
        });
        self.tree.add(&path, part);
        self.fds.push(whole);
        Ok(())
    }

    fn mount(&mut self, mount: &Mount) -> Result<(), ExecError> {
        absolute("mount target", &mount.target)?;
        let fs = match &mount.source {
            MountSource::Proc => c"proc",
            MountSource::Sysfs => c"sysfs",
            MountSource::Mqueue => c"mqueue",
            MountSource::Cgroup => c"cgroup2",
            MountSource::Tmpfs { size, mode } => {
                let mode = self.mode_at(&mount.target).unwrap_or(*mode);
                let source = MountSource::Tmpfs { size: *size, mode };
                return self.attach(&mount.target, open(&Mount { source, ..mount.clone() })?);
            }
            _ => return self.attach(&mount.target, open(mount)?),
        };
        let path = self.point(&mount.target, true)?;
        self.steps.push(new_mount(fs, &relative(&path)?, mount.flags));
        self.tree.add_kernel(&path);
        Ok(())
    }

    /// The mode of the directory at `target`, which a tmpfs takes over (runc:
    /// libcontainer/rootfs_linux.go). Of what cannot be read, whoever attaches it tells.
    fn mode_at(&self, target: &Path) -> Option<u32> {
        let place = self.tree.resolve(target).ok()?;
        let there = place.is_dir && place.missing.is_empty();
        let stat = there.then(|| rustix::fs::fstat(&place.found))?.ok()?;
        Some(stat.st_mode & 0o7777)
    }

    /// Plans to attach an open mount, over a stub if there is nothing.
    fn attach(&mut self, target: &Path, mount: OwnedFd) -> Result<(), ExecError> {
        let failed = |errno| ExecError::Create { path: target.to_path_buf(), errno };
        let as_dir = tree::is_dir(&mount).map_err(failed)?;
        let path = self.point(target, as_dir)?;
        let step = Step::Attach { mount: FdIndex(self.fds.len()), target: relative(&path)? };
        self.steps.push(step);
        let seen = rustix::io::fcntl_dupfd_cloexec(&mount, 0).map_err(failed)?;
        self.tree.add(&path, seen);
        self.fds.push(mount);
        Ok(())
    }

    fn parts(&mut self, parts: &[Part]) -> Result<(), ExecError> {
        for part in parts {
            absolute("file", &part.target)?;
            let path = self.point(&part.target, false)?;
            self.steps.push(Step::AttachPart {
                mount: PRIVATE,
                name: part.name.clone(),
                target: relative(&path)?,
                flags: part.flags,
            });
        }
        Ok(())
    }

    /// Resolves a mount point and makes what is missing of it.
    fn point(&mut self, target: &Path, as_dir: bool) -> Result<PathBuf, ExecError> {
        let no = |reason: String| ExecError::MountPoint { target: target.to_path_buf(), reason };
        let place = self.tree.resolve(target).map_err(|error| no(error.to_string()))?;
        if place.path == Path::new("/") {
            return Err(no("it is the root itself".into()));
        }
        if place.missing.is_empty() && place.is_dir != as_dir {
            let (is, wants) = if as_dir { ("file", "directory") } else { ("directory", "file") };
            return Err(no(format!("a {is} stands there, and the mount is a {wants}")));
        }
        let path = place.path.clone();
        self.stubs
            .make(place, as_dir)
            .map_err(|errno| no(format!("it is missing and cannot be created: {errno}")))?;
        Ok(path)
    }

    /// Makes the working directory when it is missing. One that leads into a kernel file system
    /// is left to the process.
    fn directory(&mut self, cwd: &str, owner: (u32, u32)) -> Result<(), ExecError> {
        let failed = |errno| ExecError::Directory { path: cwd.to_owned(), errno };
        absolute("working directory", Path::new(cwd))?;
        match self.tree.resolve(Path::new(cwd)) {
            Ok(place) => stubs::make_lasting(place, owner.0, owner.1).map_err(failed),
            Err(TreeError::Kernel { .. }) => Ok(()),
            Err(TreeError::Failed { errno, .. }) => Err(failed(errno)),
        }
    }
}

/// The mount as a confined step gets it: it may make any device node, as in Docker, and open none
/// of those that it, or its image, made. Docker's means, a control group, is not everywhere.
pub(crate) fn without_devices(mount: &Mount, security: Security) -> Mount {
    let nodev = mount.flags.nodev || security == Security::Sandbox;
    Mount { flags: MountFlags { nodev, ..mount.flags }, ..mount.clone() }
}

fn open(mount: &Mount) -> Result<OwnedFd, ExecError> {
    mount.open().map_err(|source| ExecError::Mount { target: mount.target.clone(), source })
}

fn absolute(what: &'static str, path: &Path) -> Result<(), ExecError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(ExecError::Relative { what, path: path.to_string_lossy().into_owned() })
    }
}

fn relative(path: &Path) -> Result<CString, ExecError> {
    CString::new(tree::relative(path)).map_err(|_| ExecError::Unpassable {
        what: "path",
        value: path.to_string_lossy().into_owned(),
    })
}
