//! File trees: what a tar holds, layers on top of each other, and how two trees differ.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use tar::EntryType;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with its content.
    File(Arc<Vec<u8>>),
    /// A symbolic link with its target.
    Symlink(String),
    /// A character device.
    Char(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// One more name of another entry; only in tars, a [`Tree`] has what it stands for.
    HardLink(String),
}

/// An entry of a tar or tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As stored.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970, as a decimal number with its fraction.
    pub mtime: String,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// In a tree: the entry whose other name this is.
    pub linked_to: Option<String>,
}

impl Entry {
    /// Everything but the time, in one line: `f 644 0:0 "text"`.
    pub fn summary(&self) -> String {
        let what = match &self.kind {
            Kind::Directory => "d".to_owned(),
            Kind::File(_) => "f".to_owned(),
            Kind::Symlink(target) => return format!("l {}:{} -> {target}", self.uid, self.gid),
            Kind::Char(a, b) => format!("c({a},{b})"),
            Kind::Block(a, b) => format!("b({a},{b})"),
            Kind::Fifo => "p".to_owned(),
            Kind::HardLink(target) => return format!("h -> {target}"),
        };
        let mut line = format!("{what} {:o} {}:{}", self.mode, self.uid, self.gid);
        if let Kind::File(content) = &self.kind {
            match std::str::from_utf8(content) {
                Ok(text) if text.len() <= 60 => line.push_str(&format!(" {text:?}")),
                _ => line.push_str(&format!(" {} {}", content.len(), oci::Digest::of(content))),
            }
        }
        if !self.xattrs.is_empty() {
            line.push_str(&format!(" {:?}", self.xattrs));
        }
        line
    }

    /// Whole seconds of the time of last change.
    pub fn seconds(&self) -> i64 {
        self.mtime.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

/// A file system, by path without a slash at either end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Entry>);

impl Tree {
    /// The files of a plain tar.
    ///
    /// # Panics
    /// If it is not one.
    pub fn of_tar(bytes: &[u8]) -> Self {
        let mut tree = Self::default();
        tree.apply(&entries(bytes));
        tree
    }

    /// What is below a directory. Owners are left out where `owners` is false.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn of_directory(dir: &Path, owners: bool) -> Self {
        let mut tree = Self::default();
        tree.add_directory(dir, "", owners);
        tree
    }

    fn add_directory(&mut self, dir: &Path, prefix: &str, owners: bool) {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        for item in std::fs::read_dir(dir).unwrap() {
            let item = item.unwrap();
            let meta = item.metadata().unwrap();
            let path = format!("{prefix}{}", item.file_name().to_str().unwrap());
            let kind = if meta.is_dir() {
                self.add_directory(&item.path(), &format!("{path}/"), owners);
                Kind::Directory
            } else if meta.is_symlink() {
                let target = std::fs::read_link(item.path()).unwrap();
                Kind::Symlink(target.to_str().unwrap().to_owned())
            } else if meta.file_type().is_fifo() {
                Kind::Fifo
            } else {
                Kind::File(Arc::new(std::fs::read(item.path()).unwrap()))
            };
            let (uid, gid) = if owners { (meta.uid(), meta.gid()) } else { (0, 0) };
            let entry = Entry {
                name: path.clone(),
                kind,
                mode: meta.mode() & 0o7777,
                uid: uid.into(),
                gid: gid.into(),
                mtime: meta.mtime().to_string(),
                xattrs: BTreeMap::new(),
                linked_to: None,
            };
            self.0.insert(path, entry);
        }
    }

    /// Puts a layer on top (OCI image-spec, layer.md: whiteouts hide what lower layers have,
    /// wherever in the layer they stand).
    ///
    /// # Panics
    /// If the layer is not one.
    pub fn apply(&mut self, layer: &[Entry]) {
        for entry in layer {
            let path = clean(&entry.name);
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.remove_below(parent);
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let hidden = if parent.is_empty() {
                    hidden.to_owned()
                } else {
                    format!("{parent}/{hidden}")
                };
                self.remove(&hidden);
            }
        }
        for entry in layer {
            let path = clean(&entry.name);
            if path.is_empty() || path.rsplit('/').next().is_some_and(|n| n.starts_with(".wh.")) {
                continue;
            }
            let mut entry = entry.clone();
            if let Kind::HardLink(target) = &entry.kind {
                let target = clean(target);
                let found = self.0.get(&target);
                let found = found.unwrap_or_else(|| panic!("{path} links to {target}: not there"));
                let linked_to = found.linked_to.clone().or(Some(target));
                entry = Entry { linked_to, ..found.clone() };
            }
            let before = self.0.get(&path);
            if entry.kind != Kind::Directory || before.is_some_and(|b| b.kind != Kind::Directory) {
                self.remove(&path);
            }
            entry.name.clone_from(&path);
            self.0.insert(path, entry);
        }
    }

    fn remove(&mut self, path: &str) {
        self.0.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.0.retain(|p, _| !(path.is_empty() || p.starts_with(&prefix)));
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// Whether something is there.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// The content of a file.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn content(&self, path: &str) -> &[u8] {
        match self.0.get(path).map(|e| &e.kind) {
            Some(Kind::File(content)) => content,
            Some(other) => panic!("{path} is no file: {other:?}"),
            None => panic!("{path} is not there; there are: {:?}", self.paths()),
        }
    }

    /// The summary of an entry; `-` if nothing is there.
    pub fn line(&self, path: &str) -> String {
        self.0.get(path).map_or_else(|| "-".to_owned(), Entry::summary)
    }

    /// All paths, in order.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The paths below a directory, in order, without its own.
    pub fn below(&self, dir: &str) -> Vec<&str> {
        let prefix = format!("{dir}/");
        self.0.keys().filter_map(|p| p.strip_prefix(&prefix)).collect()
    }

    /// How `other` differs, times left out; a line for each path. Empty if they are the same.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let paths: std::collections::BTreeSet<&String> =
            self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            let (here, there) = (self.0.get(path), other.0.get(path));
            let same = match (here, there) {
                (Some(a), Some(b)) => {
                    let kinds = a.kind == b.kind && a.xattrs == b.xattrs;
                    let links = a.linked_to == b.linked_to;
                    kinds && links && (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid)
                }
                _ => false,
            };
            if !same {
                lines.push(format!("{path}: {} | {}", self.line(path), other.line(path)));
            }
        }
        lines
    }
}

/// All entries of a tar, in order.
///
/// # Panics
/// If it is not one.
pub fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(Cursor::new(tar));
    let mut entries = Vec::new();
    for entry in archive.entries().unwrap() {
        entries.push(entry_of(&mut entry.unwrap()));
    }
    entries
}

fn entry_of(entry: &mut tar::Entry<'_, Cursor<&[u8]>>) -> Entry {
    let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
    let link = entry.link_name_bytes().map(|l| String::from_utf8(l.into_owned()).unwrap());
    let mut mtime = entry.header().mtime().unwrap().to_string();
    let mut owner = (entry.header().uid().unwrap_or(0), entry.header().gid().unwrap_or(0));
    let mut xattrs = BTreeMap::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        let value = extension.value_bytes();
        let text = || String::from_utf8_lossy(value).into_owned();
        match extension.key().unwrap() {
            "mtime" => mtime = text(),
            "uid" => owner.0 = text().parse().unwrap(),
            "gid" => owner.1 = text().parse().unwrap(),
            key => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(name.to_owned(), value.to_vec());
                }
            }
        }
    }
    let header = entry.header().clone();
    let device = || {
        let number = |n: std::io::Result<Option<u32>>| n.unwrap().unwrap_or(0);
        (number(header.device_major()), number(header.device_minor()))
    };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link.unwrap()),
        EntryType::Link => Kind::HardLink(link.unwrap()),
        EntryType::Char => Kind::Char(device().0, device().1),
        EntryType::Block => Kind::Block(device().0, device().1),
        EntryType::Fifo => Kind::Fifo,
        _ => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            Kind::File(Arc::new(content))
        }
    };
    let mode = header.mode().unwrap() & 0o7777;
    Entry { name, kind, mode, uid: owner.0, gid: owner.1, mtime, xattrs, linked_to: None }
}

/// A name without slashes at its ends and without dots.
fn clean(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    assert!(!parts.contains(&".."), "{name} leaves the root");
    parts.join("/")
}
