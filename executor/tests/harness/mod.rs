//! A root file system of busybox on an overlay, and an executor for it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use executor::{
    CancelToken, Devices, Dns, ExecError, Executor, ExecutorConfig, ExitStatus, Limits, Network,
    Outcome, Output, ProcessSpec, Security, Stream, Volume,
};
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};

const BUSYBOX: &str = "/bin/busybox";

/// Whether these tests can run here; says why not.
pub(crate) fn ready() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: running steps needs root");
        return false;
    }
    let list = Command::new(BUSYBOX).arg("--list").output();
    if !list.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: no {BUSYBOX} (package busybox-static)");
        return false;
    }
    if let Err(error) = Executor::probe() {
        eprintln!("skipped: {error}");
        return false;
    }
    true
}

/// Where fixtures stand: not on an overlay, which could not be an upper directory.
pub(crate) fn place() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

/// Output by stream.
#[derive(Default)]
pub(crate) struct Collector {
    pieces: Mutex<Vec<(Stream, Vec<u8>)>>,
}

impl Output for Collector {
    fn write(&self, stream: Stream, data: &[u8]) {
        self.pieces.lock().unwrap().push((stream, data.to_vec()));
    }
}

impl Collector {
    pub(crate) fn text(&self, wanted: Stream) -> String {
        let pieces = self.pieces.lock().unwrap();
        let bytes = pieces.iter().filter(|(stream, _)| *stream == wanted);
        String::from_utf8(bytes.flat_map(|(_, data)| data.clone()).collect()).unwrap()
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub outcome: Outcome,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        match self.outcome.status {
            ExitStatus::Code(code) => code,
            other => panic!("{other:?}: {}{}", self.out, self.err),
        }
    }
}

/// A root with its own upper directory.
pub(crate) struct Fixture {
    _temp: tempfile::TempDir,
    pub dir: PathBuf,
    pub executor: Executor,
}

impl Fixture {
    /// busybox with all its applets in /bin, /etc/passwd and /etc/group.
    pub(crate) fn new() -> Self {
        Self::new_in(&place())
    }

    /// The same, below a directory of the caller's.
    pub(crate) fn new_in(parent: &Path) -> Self {
        let it = Self::bare_in(parent);
        let lower = it.dir.join("lower");
        for dir in ["etc", "tmp", "root", "home/app"] {
            fs::create_dir_all(lower.join(dir)).unwrap();
        }
        fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
        )
        .unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\napp:x:1001:\nwheel:x:10:app\n").unwrap();
        it
    }

    /// Nothing but /bin.
    pub(crate) fn bare() -> Self {
        Self::bare_in(&place())
    }

    fn bare_in(parent: &Path) -> Self {
        let temp = tempfile::tempdir_in(parent).unwrap();
        let dir = temp.path().to_path_buf();
        for name in ["lower/bin", "upper", "work"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let bin = dir.join("lower/bin");
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        let list = Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(list).unwrap().lines().filter(|it| *it != "busybox") {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let config =
            ExecutorConfig { state: dir.join("state"), lease: "test-lease".into(), pasta: None };
        Self { _temp: temp, dir, executor: Executor::new(config).unwrap() }
    }

    pub(crate) fn lower(&self, path: &str) -> PathBuf {
        self.dir.join("lower").join(path)
    }

    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.dir.join("upper").join(path)
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ProcessSpec {
        ProcessSpec {
            rootfs: Mount {
                target: "/".into(),
                source: MountSource::Overlay(Overlay {
                    lowers: vec![self.dir.join("lower")],
                    upper: Some(Upper { dir: self.dir.join("upper"), work: self.dir.join("work") }),
                    user_xattr: false,
                    volatile: true,
                    redirects: false,
                }),
                flags: MountFlags::default(),
            },
            args: args.iter().map(|&it| it.to_owned()).collect(),
            env: vec![],
            cwd: "/".into(),
            user: String::new(),
            network: Network::Host,
            dns: Dns::default(),
            security: Security::Sandbox,
            hostname: "buildkitsandbox".into(),
            extra_hosts: vec![],
            mounts: vec![],
            files: vec![],
            devices: Devices::default(),
            limits: Limits::default(),
        }
    }

    pub(crate) fn shell(&self, script: &str) -> ProcessSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    pub(crate) fn try_run(&self, spec: &ProcessSpec) -> Result<Ran, ExecError> {
        // A work directory that was used with `volatile` refuses to be used again.
        let work = self.dir.join("work");
        fs::remove_dir_all(&work).unwrap();
        fs::create_dir(&work).unwrap();
        let output = Collector::default();
        let outcome = self.executor.run(spec, &output, &CancelToken::new())?;
        let (out, err) = (output.text(Stream::Stdout), output.text(Stream::Stderr));
        Ok(Ran { outcome, out, err })
    }

    pub(crate) fn run(&self, spec: &ProcessSpec) -> Ran {
        self.try_run(spec).unwrap()
    }

    /// Runs a script that must succeed; its output.
    pub(crate) fn sh(&self, script: &str) -> String {
        let ran = self.run(&self.shell(script));
        assert!(ran.outcome.status.success(), "{script}: {ran:?}");
        ran.out
    }

    /// All paths in the upper directory, sorted, without directories that were only copied up.
    pub(crate) fn changes(&self) -> Vec<String> {
        let upper = self.dir.join("upper");
        let mut found = Vec::new();
        let mut pending = vec![upper.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.strip_prefix(&upper).unwrap().to_str().unwrap().to_owned();
                let empty = fs::read_dir(&path).is_ok_and(|mut it| it.next().is_none());
                if !(empty && self.lower(&name).is_dir()) {
                    found.push(name);
                }
                if entry.file_type().unwrap().is_dir() {
                    pending.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// A bind mount of the host.
pub(crate) fn bind(source: &Path, target: &str) -> Volume {
    let mount = Mount {
        target: target.into(),
        source: MountSource::Bind { source: source.into(), recursive: false },
        flags: MountFlags::default(),
    };
    mount.into()
}

/// A tmpfs.
pub(crate) fn tmpfs(target: &str) -> Volume {
    let mount = Mount {
        target: target.into(),
        source: MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 },
        flags: MountFlags::DATA,
    };
    mount.into()
}
