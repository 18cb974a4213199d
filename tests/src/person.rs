//! A user of this machine who is no root, made for a case.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::base_image::BaseImage;
use crate::host::wait_until;
use crate::image_view::ImageView;
use crate::skip;

/// How long another one may hold the lock of the user database.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user of this machine, made for a case, and a directory that both of us can use.
pub struct Person {
    /// The name of the user, and of the group.
    pub name: String,
    /// The number of the group.
    pub gid: u32,
    /// The directory: `home`, `base`, the binary `drydock`, contexts.
    pub dir: TempDir,
    /// Where the state is unless somebody says otherwise.
    pub state: PathBuf,
}

impl Person {
    /// None, with a printed reason, where users cannot be made or have no ranges.
    pub fn new(case: &str, ranges: bool) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !skip::is_root() {
            skip::say(case, "it makes users, which needs root");
            return None;
        }
        for name in ["useradd", "userdel", "setpriv", "newuidmap", "newgidmap"] {
            if skip::program(name).is_none() {
                skip::say(case, &format!("{name} is not installed"));
                return None;
            }
        }
        let dir = tempfile::Builder::new().prefix("e2e-").tempdir_in("/var/tmp").unwrap();
        open_up(dir.path());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("drydock-{}-{number}", std::process::id());
        let home = dir.path().join("home");
        let mut command = vec!["-M", "-d", home.to_str().unwrap(), "-s", "/bin/sh", "-U"];
        if !ranges {
            command.extend(["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]);
        }
        command.push(&name);
        let mut told = String::new();
        let made = wait_until(PATIENCE, || {
            let output = Command::new("useradd").args(&command).output().unwrap();
            told = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success()
        });
        if !made {
            skip::say(case, &format!("useradd failed: {told}"));
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
        let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|n| n.parse().unwrap()).collect();
        fs::create_dir(&home).unwrap();
        chown(&home, Some(ids[0]), Some(ids[1])).unwrap();
        BaseImage::get().write_layout(&make(&dir.path().join("base")));
        let binary = dir.path().join("drydock");
        fs::copy(crate::binary::drydock(), &binary).unwrap();
        fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).unwrap();
        let state = home.join(".local/share/drydock");
        Some(Self { name, gid: ids[1], dir, state })
    }

    /// A path in the directory.
    pub fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the binary as this user, who has no more in the environment than a new login.
    pub fn run<T: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = T>) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// The same, started by a program that root starts, and that executes its arguments.
    pub fn run_by<T: AsRef<std::ffi::OsStr>>(
        &self,
        by: &[&str],
        args: impl IntoIterator<Item = T>,
    ) -> Output {
        let words = by.iter().copied().chain(["setpriv"]);
        self.command_of(words).args(args).output().unwrap()
    }

    /// The command that [`Self::run`] runs, without arguments. The binary keeps its process id.
    pub fn command(&self) -> Command {
        self.command_of(["setpriv"])
    }

    fn command_of<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let home = self.place("home");
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .args(["--reuid", &self.name, "--regid", &self.gid.to_string(), "--init-groups", "--"])
            .arg(self.place("drydock"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .current_dir(&home);
        command
    }

    /// Builds the context `name` with what `args` say.
    pub fn build(&self, name: &str, args: &[&str]) -> Output {
        let base = format!("busybox=oci-layout://{}:latest", self.place("base").display());
        let context = self.place(name);
        let mut all = vec!["build", "--progress=plain", "--build-context", &base];
        all.push(context.to_str().unwrap());
        all.extend(args);
        self.run(all)
    }

    /// Builds an archive and reads it.
    pub fn image(&self, name: &str) -> (ImageView, String) {
        let dest = self.place("home").join("out.tar");
        let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
        let told = ok(&self.build(name, &["-o", &to]));
        let view = ImageView::archive(&dest);
        fs::remove_file(dest).unwrap();
        (view, told)
    }

    /// Writes a context with these files, which everybody may read.
    pub fn context(&self, name: &str, dockerfile: &str, files: &[(&str, &[u8])]) {
        let dir = make(&self.place(name));
        for (file, content) in [("Dockerfile", dockerfile.as_bytes())].iter().chain(files) {
            fs::write(dir.join(file), content).unwrap();
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let gone = wait_until(PATIENCE, || {
            let output = Command::new("userdel").arg(&self.name).output();
            output.is_ok_and(|output| output.status.success())
        });
        if !gone {
            eprintln!("the user {} could not be removed", self.name);
        }
    }
}

/// Makes a directory that everybody may enter.
pub fn make(dir: &Path) -> PathBuf {
    fs::create_dir(dir).unwrap();
    open_up(dir);
    dir.to_owned()
}

fn open_up(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Standard error of what has to have succeeded.
pub fn ok(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{told}", output.status);
    told
}

/// Standard error of what has to have failed.
pub fn fails(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    told
}
