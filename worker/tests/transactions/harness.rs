//! A store of cache mounts, overlays on them, and what a directory looks like.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cache::mount::{CacheMount, Emptied, Method, Sharing, View, Wanted};
use cache::{Dialect, State};
use rustix::fs::{CWD, FileType, Mode};
use sys::mount::{Mount, MountFlags, MountSource, Overlay, Upper};
use sys::xattr;
use tempfile::TempDir;
use tests::random::Random;

/// A state directory.
pub(crate) struct Store {
    state: State,
    _dir: TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        let dir = tests::temp::directory();
        let dialect = Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 };
        Self { state: State::open(&dir.path().join("state"), &dialect).unwrap(), _dir: dir }
    }

    fn take(
        &self,
        name: &str,
        sharing: Sharing,
        fresh: bool,
        transaction: Option<Method<'_>>,
    ) -> CacheMount {
        let (fill, cancelled) = (|_: &Path| Ok(()), || true);
        let (fill, cancelled) = (&fill, &cancelled);
        let emptied = Emptied::default();
        let (shown, fresh) = (name, fresh.then_some(&emptied));
        let wanted = Wanted { name, shown, sharing, fresh, fill, cancelled, transaction };
        self.state.mounts().open(&wanted).unwrap().expect("nobody else uses it")
    }

    /// Takes a cache mount into use live.
    pub(crate) fn open(&self, name: &str, sharing: Sharing) -> CacheMount {
        self.take(name, sharing, false, None)
    }

    /// Begins a transaction.
    pub(crate) fn begin(&self, name: &str, sharing: Sharing, fresh: bool) -> CacheMount {
        self.take(name, sharing, fresh, Some(Method::Overlay))
    }

    /// Fills a cache mount.
    pub(crate) fn fill(&self, name: &str, fill: fn(&Path)) {
        fill(self.open(name, Sharing::Locked).path());
    }

    fn home(&self, name: &str) -> PathBuf {
        let stored = self.state.mounts().list().unwrap();
        let stored = stored.iter().find(|stored| stored.name == name).unwrap();
        stored.path.parent().unwrap().to_owned()
    }

    /// The first copy as it is on the disk, without taking it into use.
    pub(crate) fn committed(&self, name: &str) -> PathBuf {
        self.home(name).join("0")
    }

    /// What is beside the copies, besides locks and names.
    pub(crate) fn beside(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home(name)).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|n| !matches!(n.as_str(), "0" | "0.lock" | "choice" | "name")).collect()
    }

    /// How many directories a transaction that is not decided has renamed.
    pub(crate) fn redirects(&self, name: &str) -> usize {
        let upper = File::open(self.home(name).join("0.step/upper")).unwrap();
        let mut count = 0;
        sys::walk::walk(&upper, &mut |path, stat| {
            let parent = sys::walk::open_below(&upper, path.parent().unwrap_or(Path::new("")))?;
            let redirect = b"trusted.overlay.redirect";
            let name = path.file_name().unwrap_or_default();
            count += usize::from(xattr::get_at(&parent, name, redirect)?.is_some());
            Ok(stat.is_dir())
        })
        .unwrap();
        count
    }

    /// The attributes of overlays that are on entries of the first copy.
    pub(crate) fn marks(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let root = File::open(self.committed(name)).unwrap();
        let mut look = |path: &Path| {
            let parent = path.parent().unwrap_or(Path::new(""));
            let parent = sys::walk::open_below(&root, parent).unwrap();
            let name = path.file_name().unwrap_or(OsStr::new("."));
            for attribute in xattr::list_at(&parent, name).unwrap() {
                if attribute.starts_with(b"trusted.overlay.") {
                    let attribute = String::from_utf8_lossy(&attribute).into_owned();
                    found.push(format!("{} {attribute}", path.display()));
                }
            }
        };
        look(Path::new(""));
        sys::walk::walk(&root, &mut |path, _| {
            look(path);
            Ok(true)
        })
        .unwrap();
        found
    }
}

/// What a step sees, mounted nowhere.
pub(crate) struct Changes {
    fd: OwnedFd,
}

impl Changes {
    pub(crate) fn mount(mount: &CacheMount) -> Self {
        let source = match mount.view() {
            View::Directory(source) => MountSource::Bind { source, recursive: false },
            View::Overlay { lower, upper, work } => MountSource::Overlay(Overlay {
                lowers: vec![lower],
                upper: Some(Upper { dir: upper, work }),
                user_xattr: false,
                volatile: true,
                redirects: true,
            }),
        };
        let mount = Mount { target: "/".into(), source, flags: MountFlags::default() };
        Self { fd: mount.open().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        // With an ending, so that it is what the link leads to for every call.
        xattr::descriptor_path(&self.fd).join(".")
    }
}

/// Everything of an entry that a transaction keeps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    modified: (i64, i64),
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file.
    first: PathBuf,
}

/// What is below `root`, and the root.
pub(crate) fn view(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let fd = File::open(root).unwrap();
    let mut paths = vec![PathBuf::new()];
    sys::walk::walk(&fd, &mut |path, _| {
        paths.push(path.to_owned());
        Ok(true)
    })
    .unwrap();
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for path in paths {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = sys::walk::open_below(&fd, parent).unwrap();
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let names = xattr::list_at(&parent, name).unwrap();
        let attributes = names
            .into_iter()
            .filter(|name| !name.starts_with(b"trusted.overlay."))
            .map(|a| {
                let value = xattr::get_at(&parent, name, &a).unwrap().unwrap();
                (a, value)
            })
            .collect();
        let entry = Seen {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            device: meta.rdev(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            content: content(&full, &meta),
            attributes,
            first: match meta.is_dir() {
                true => path.clone(),
                false => first.entry(meta.ino()).or_insert_with(|| path.clone()).clone(),
            },
        };
        seen.insert(path, entry);
    }
    seen
}

fn content(path: &Path, meta: &fs::Metadata) -> Vec<u8> {
    if meta.is_symlink() {
        return fs::read_link(path).unwrap().into_os_string().into_encoded_bytes();
    }
    if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() }
}

/// The same without times.
pub(crate) fn contents(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>, PathBuf)> {
    let mut seen = view(root);
    // The one was made by us, the other one by a fixture.
    seen.remove(Path::new(""));
    seen.into_iter().map(|(path, seen)| (path, seen.mode, seen.content, seen.first)).collect()
}

/// Sets the time of the last change of a file or directory.
pub(crate) fn set_time(path: &Path, seconds: i64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// Makes a named pipe.
pub(crate) fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
}

/// Sets an attribute.
pub(crate) fn mark(path: &Path, name: &str, value: &str) {
    let fd = File::open(path).unwrap();
    xattr::set(&fd, name.as_bytes(), value.as_bytes()).unwrap();
}

/// Fills a directory with a few names.
pub(crate) fn some(dir: &Path) {
    for path in ["a/b/c", "a/c", "b/d", "c/a/b"] {
        fs::create_dir_all(dir.join(path)).unwrap();
        fs::write(dir.join(path).join("f"), path).unwrap();
    }
    fs::write(dir.join("a/f"), "f").unwrap();
}

/// A change with names of a few.
#[derive(Debug)]
pub(crate) enum Action {
    Write(PathBuf, u64),
    Append(PathBuf),
    Mkdir(PathBuf),
    Remove(PathBuf),
    RemoveAll(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Symlink(PathBuf),
    Mode(PathBuf, u32),
    Fifo(PathBuf),
}

impl Action {
    /// Any one. Directories are made and renamed most of all.
    pub(crate) fn random(random: &mut Random) -> Self {
        let path = path(random);
        match random.below(16) {
            0..3 => Self::Write(path, random.below(1000)),
            3 => Self::Append(path),
            4..7 => Self::Mkdir(path),
            7 => Self::Remove(path),
            8 => Self::RemoveAll(path),
            9..13 => Self::Rename(path, self::path(random)),
            13 => Self::Symlink(path),
            14 => Self::Mode(path, [0o755, 0o700, 0o640][random.below(3) as usize]),
            _ if random.below(2) == 0 => Self::Fifo(path),
            _ => Self::Link(path, self::path(random)),
        }
    }

    /// Whether it does the same on an overlay as on the plain directory `root`: what is done to a
    /// file with several names does not, as an overlay copies the one name up.
    pub(crate) fn is_defined(&self, root: &Path) -> bool {
        let several = |path: &PathBuf| {
            let meta = fs::symlink_metadata(root.join(path));
            meta.is_ok_and(|meta| !meta.is_dir() && meta.nlink() > 1)
        };
        let file = |path: &PathBuf| root.join(path).is_file() && !root.join(path).is_symlink();
        match self {
            Self::Append(path) | Self::Link(path, _) => file(path) && !several(path),
            Self::Rename(from, to) => !several(from) && !several(to),
            _ => true,
        }
    }

    /// Does it below `root`; the number of the error if that is refused.
    pub(crate) fn run(&self, root: &Path) -> Result<(), Option<i32>> {
        let at = |path: &PathBuf| root.join(path);
        let done = match self {
            // A new file: of one that has other names, an overlay copies the one name up.
            Self::Write(path, text) => {
                let _ = fs::remove_file(at(path));
                fs::write(at(path), text.to_string())
            }
            Self::Append(path) => {
                let file = File::options().append(true).open(at(path));
                file.and_then(|mut file| file.write_all(b"+"))
            }
            Self::Mkdir(path) => fs::create_dir(at(path)),
            Self::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir(at(path))),
            Self::RemoveAll(path) => match fs::symlink_metadata(at(path)) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(at(path)),
                _ => Ok(()),
            },
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Link(from, to) => fs::hard_link(at(from), at(to)),
            Self::Symlink(path) => std::os::unix::fs::symlink("a/b", at(path)),
            Self::Mode(path, mode) => match fs::symlink_metadata(at(path)) {
                Ok(meta) if meta.is_dir() || meta.file_type().is_fifo() => {
                    fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
                }
                _ => Ok(()),
            },
            Self::Fifo(path) => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(CWD, at(path), FileType::Fifo, mode, 0).map_err(Into::into)
            }
        };
        done.map_err(|error| error.raw_os_error())
    }
}

fn path(random: &mut Random) -> PathBuf {
    let names = ["a", "b", "c", "d"];
    // Rather shallow, so that changes meet.
    let depth = 1 + random.below(3).min(random.below(3));
    (0..depth).map(|_| names[random.below(4) as usize]).collect()
}
