//! The entries of selections, and how two lists of them differ. Pure.

use std::collections::{BTreeMap, HashMap};

use oci::layer::{Entry, Node, TreePath};
use serde::{Deserialize, Serialize};

use super::cause::{FileChange, FileWhat};
use crate::copy::{Kind, Selected};

/// Digits of a content's digest that are kept: enough to tell that it changed.
const DIGITS: usize = 32;

/// What is kept of one entry of a selection: what its digest is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// In its source.
    pub(crate) path: String,
    /// `file`, `directory`, `link`, …
    pub(crate) kind: String,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The digest of a file's content, the target of a link, the number of a device.
    pub(crate) value: String,
}

/// The entries that the digest of `selection` is made of.
pub(crate) fn entries_of(selection: &[Selected]) -> Vec<FileEntry> {
    let mut all = Vec::new();
    for selected in selection {
        match &selected.kind {
            Kind::Single(entry) => all.push(entry_of(&selected.source, entry)),
            Kind::Contents(entries) => {
                let path = |entry: &Entry| selected.source.join(&entry.path);
                all.extend(entries.iter().filter_map(|e| Some(entry_of(&path(e).ok()?, e))));
            }
            // Relative to the pivot, which is where the name of the selection begins.
            Kind::Tree(entries) => all.extend(entries.iter().map(|e| entry_of(&e.path, e))),
        }
    }
    all
}

fn entry_of(path: &TreePath, entry: &Entry) -> FileEntry {
    let (kind, value) = match &entry.node {
        Node::Directory { .. } => ("directory", String::new()),
        Node::File { content, .. } => {
            let hex = blake3::Hash::from_bytes(content.0).to_hex();
            ("file", hex[..DIGITS].to_owned())
        }
        Node::Symlink { target } => ("link", String::from_utf8_lossy(target).into_owned()),
        Node::HardLink { target } => ("hard link", target.to_string()),
        Node::CharDevice { major, minor } => ("character device", format!("{major}:{minor}")),
        Node::BlockDevice { major, minor } => ("block device", format!("{major}:{minor}")),
        Node::Fifo => ("pipe", String::new()),
        Node::Whiteout => ("whiteout", String::new()),
    };
    FileEntry {
        path: path.to_string().trim_start_matches('/').to_owned(),
        kind: kind.to_owned(),
        mode: entry.meta.mode,
        uid: entry.meta.uid,
        gid: entry.meta.gid,
        value,
    }
}

/// What changed from `old` to `new`: what people changed most likely first.
pub(super) fn changes(old: &[FileEntry], new: &[FileEntry]) -> Vec<FileChange> {
    let index = |all: &'_ [FileEntry]| -> BTreeMap<String, FileEntry> {
        all.iter().map(|e| (e.path.clone(), e.clone())).collect()
    };
    let (old, new) = (index(old), index(new));
    let mut found: Vec<FileChange> = Vec::new();
    let mut removed: Vec<&FileEntry> = Vec::new();
    for (path, before) in &old {
        match new.get(path) {
            Some(after) => {
                found.extend(
                    change(before, after).map(|what| FileChange { path: path.clone(), what }),
                );
            }
            None => removed.push(before),
        }
    }
    let mut added: Vec<&FileEntry> =
        new.values().filter(|entry| !old.contains_key(&entry.path)).collect();
    let mut rest = renamed(removed, &mut added, &mut found);
    // A directory is told only where nothing in it tells the same.
    let directories_last = |e: &&FileEntry| e.kind == "directory";
    rest.sort_by_key(directories_last);
    added.sort_by_key(directories_last);
    let told = |what: FileWhat| {
        move |e: &FileEntry| FileChange { path: e.path.clone(), what: what.clone() }
    };
    found.extend(added.into_iter().map(told(FileWhat::Added)));
    found.extend(rest.into_iter().map(told(FileWhat::Removed)));
    found
}

/// Finds the files of equal content under other names; what was removed for good is returned.
fn renamed<'a>(
    removed: Vec<&'a FileEntry>,
    added: &mut Vec<&FileEntry>,
    found: &mut Vec<FileChange>,
) -> Vec<&'a FileEntry> {
    let mut by_content: HashMap<(&str, &str), Vec<&FileEntry>> = HashMap::new();
    for entry in added.iter().rev().filter(|e| !e.value.is_empty()) {
        by_content.entry((&entry.kind, &entry.value)).or_default().push(entry);
    }
    let mut gone = Vec::new();
    let mut taken = std::collections::HashSet::new();
    for entry in removed {
        let key = (entry.kind.as_str(), entry.value.as_str());
        match by_content.get_mut(&key).and_then(Vec::pop) {
            Some(now) => {
                taken.insert(now.path.clone());
                let what = FileWhat::Renamed { new: now.path.clone() };
                found.push(FileChange { path: entry.path.clone(), what });
            }
            None => gone.push(entry),
        }
    }
    added.retain(|entry| !taken.contains(&entry.path));
    gone
}

/// The first thing that differs between two entries of one path.
fn change(old: &FileEntry, new: &FileEntry) -> Option<FileWhat> {
    let pair = |old: &dyn ToString, new: &dyn ToString| (old.to_string(), new.to_string());
    if old.kind != new.kind {
        let (old, new) = pair(&old.kind, &new.kind);
        return Some(FileWhat::Kind { old, new });
    }
    if old.value != new.value {
        let (before, after) = pair(&old.value, &new.value);
        return Some(match old.kind.as_str() {
            "file" => FileWhat::Content { old: before, new: after },
            _ => FileWhat::Target { old: before, new: after },
        });
    }
    if old.mode != new.mode {
        let octal = |mode: u32| format!("{mode:04o}");
        return Some(FileWhat::Mode { old: octal(old.mode), new: octal(new.mode) });
    }
    let owner = |e: &FileEntry| format!("{}:{}", e.uid, e.gid);
    (owner(old) != owner(new)).then(|| FileWhat::Owner { old: owner(old), new: owner(new) })
}
