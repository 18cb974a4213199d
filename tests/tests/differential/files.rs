//! The files of a context, as the case has them in mind and on disk.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tests::base_image::TarBuilder;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Dir,
    Link(&'static str),
    /// The number of an inode: two names of one number are hard links.
    File(u64),
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) content: String,
    pub(crate) mode: u32,
}

/// What is at a name of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Its mode.
    Dir(u32),
    /// Its target.
    Link(String),
    File {
        mode: u32,
        content: String,
        /// The first name of its inode.
        group: String,
    },
}

/// What is selected of a context, by name.
pub(crate) type Entries = BTreeMap<String, What>;

/// All of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) names: BTreeMap<&'static str, Node>,
    pub(crate) inodes: BTreeMap<u64, Inode>,
    pub(crate) dir_mode: u32,
    pub(crate) ignore: Vec<&'static str>,
}

/// A link that is always there, and leads to something that is.
pub(crate) const LINK: &str = "way";
/// What stays: it is copied by name.
pub(crate) const FIXED: [&str; 2] = ["a", BUNDLE];
/// An archive.
pub(crate) const BUNDLE: &str = "bundle.tar";
/// A directory that goes by one of two names, and what is in it.
pub(crate) const MOVING: [[&str; 3]; 2] = [["mv1", "mv1/p", "mv1/q"], ["mv2", "mv2/p", "mv2/q"]];

/// The directory whose mode changes.
const MODAL: &str = "sub/in";

impl Files {
    pub(crate) fn new() -> Self {
        let mut files = Self {
            names: BTreeMap::new(),
            inodes: BTreeMap::new(),
            dir_mode: 0o755,
            ignore: Vec::new(),
        };
        for dir in ["sub", MODAL, "deep", "deep/er"] {
            files.names.insert(dir, Node::Dir);
        }
        files.names.insert(LINK, Node::Link("sub"));
        for (number, name) in ["a", "b.txt", "sub/c", "deep/er/e"].into_iter().enumerate() {
            files.names.insert(name, Node::File(number as u64));
            files.inodes.insert(number as u64, Inode { content: name.to_owned(), mode: 0o644 });
        }
        files.add(BUNDLE, archive(0));
        let [dir, p, q] = MOVING[0];
        files.names.insert(dir, Node::Dir);
        files.add(p, p.to_owned());
        files.add(q, q.to_owned());
        files
    }

    /// A new file's number.
    pub(crate) fn add(&mut self, name: &'static str, content: String) {
        let number = self.inodes.keys().next_back().map_or(0, |last| last + 1);
        self.inodes.insert(number, Inode { content, mode: 0o644 });
        self.names.insert(name, Node::File(number));
    }

    fn rule(&self, name: &str) -> bool {
        // What covers a directory covers what is in it.
        let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
        let names: Vec<Vec<&str>> = ends.map(|end| name[..end].split('/').collect()).collect();
        let covers = |rule: &str| {
            let rule: Vec<&str> = rule.trim_start_matches('/').split('/').collect();
            names.iter().any(|name| matches(&rule, name))
        };
        self.ignore.iter().fold(false, |ignored, rule| match rule.strip_prefix('!') {
            Some(rule) => ignored && !covers(rule),
            None => ignored || covers(rule),
        })
    }

    /// Whether a name is no part of the context. A directory is where something in it is.
    fn is_ignored(&self, name: &str) -> bool {
        let prefix = format!("{name}/");
        self.rule(name) && !self.names.keys().any(|n| n.starts_with(&prefix) && !self.rule(n))
    }

    /// What there is at these places (`.` is all); `git`: of modes, only what git keeps; `listed`: the
    /// list of what is ignored is a file in it.
    pub(crate) fn entries(&self, places: &[&str], git: bool, listed: bool) -> Entries {
        let places: Vec<&str> = places.iter().flat_map(|place| [*place, self.led(place)]).collect();
        let within = |name: &str| {
            places.iter().any(|place| match place.strip_suffix('*') {
                Some(start) => name.starts_with(start) && !name.contains('/'),
                None => *place == "." || name == *place || name.starts_with(&format!("{place}/")),
            })
        };
        let mut entries = Entries::new();
        let mut first: BTreeMap<u64, &str> = BTreeMap::new();
        for (name, node) in self.names.iter().filter(|(n, _)| within(n) && !self.is_ignored(n)) {
            let what = match node {
                Node::Dir if *name == MODAL && !git => What::Dir(self.dir_mode),
                Node::Dir => What::Dir(0o755),
                Node::Link(target) => What::Link((*target).to_owned()),
                Node::File(number) => {
                    let Inode { content, mode } = &self.inodes[number];
                    let mode = match (git, mode & 0o100 != 0) {
                        (false, _) => *mode,
                        (true, true) => 0o755,
                        (true, false) => 0o644,
                    };
                    let group = (*first.entry(*number).or_insert(name)).to_owned();
                    let content = oci::Digest::of(content.as_bytes()).hex().to_owned();
                    What::File { mode, content, group }
                }
            };
            entries.insert((*name).to_owned(), what);
        }
        if listed && places.contains(&".") {
            let (content, group) = (self.ignore.join("\n"), ".dockerignore".to_owned());
            entries.insert(group.clone(), What::File { mode: 0o644, content, group });
        }
        entries
    }

    /// Where a place leads that is a link; a place that is none leads to itself.
    fn led<'a>(&self, place: &'a str) -> &'a str {
        match self.names.get(place) {
            Some(Node::Link(target)) => target,
            _ => place,
        }
    }

    /// Gives the directory that goes by two names the one that it has here; what there is then.
    fn rename(&self, root: &Path, mut old: Self) -> Self {
        for [from, to] in [MOVING, [MOVING[1], MOVING[0]]] {
            let here = |dir: [&'static str; 3]| self.names.contains_key(dir[0]);
            if old.names.contains_key(from[0]) && here(to) && !here(from) {
                fs::rename(root.join(from[0]), root.join(to[0])).unwrap();
                for (from, to) in from.iter().zip(to) {
                    let node = old.names.remove(from);
                    old.names.extend(node.map(|node| (to, node)));
                }
            }
        }
        old
    }

    /// Makes a directory that is as `old` (or empty) be as this; what stays keeps its inode, as what
    /// is renamed does.
    pub(crate) fn write(&self, root: &Path, old: Option<&Self>) {
        let old = old.map(|old| self.rename(root, old.clone()));
        let old = old.as_ref();
        let kept = |name: &str| {
            old.is_some_and(|old| self.names.get(name) == old.names.get(name))
                && self.names.contains_key(name)
        };
        let mut placed: BTreeMap<u64, PathBuf> = BTreeMap::new();
        for (name, node) in self.names.iter().filter(|(name, _)| kept(name)) {
            if let Node::File(number) = node {
                placed.entry(*number).or_insert_with(|| root.join(name));
            }
        }
        let mut aside = Vec::new();
        for (name, node) in old.into_iter().flat_map(|old| old.names.iter().rev()) {
            let path = root.join(name);
            match node {
                _ if kept(name) => {}
                Node::Dir => fs::remove_dir(path).unwrap(),
                Node::File(number) if !placed.contains_key(number) => {
                    let place = root.join(format!(".aside{number}"));
                    fs::rename(path, &place).unwrap();
                    placed.insert(*number, place.clone());
                    aside.push(place);
                }
                _ => fs::remove_file(path).unwrap(),
            }
        }
        for (name, node) in self.names.iter().filter(|(name, _)| !kept(name)) {
            let path = root.join(name);
            match node {
                Node::Dir => {
                    fs::create_dir(&path).unwrap();
                    set_mode(&path, 0o755);
                }
                Node::Link(target) => symlink(target, &path).unwrap(),
                Node::File(number) => match placed.get(number) {
                    Some(other) => fs::hard_link(other, &path).unwrap(),
                    None => {
                        fs::write(&path, &self.inodes[number].content).unwrap();
                        set_mode(&path, self.inodes[number].mode);
                        placed.insert(*number, path);
                    }
                },
            }
        }
        for (number, path) in placed {
            let Some(now) = self.inodes.get(&number) else { continue };
            let before = old.and_then(|old| old.inodes.get(&number));
            if before.is_some_and(|before| before.content != now.content) {
                fs::write(&path, &now.content).unwrap();
            }
            if before.is_some_and(|before| before.mode != now.mode) {
                set_mode(&path, now.mode);
            }
        }
        aside.into_iter().for_each(|place| fs::remove_file(place).unwrap());
        set_mode(&root.join(MODAL), self.dir_mode);
    }
}

/// Whether a rule of an ignore file matches a name, both in parts.
fn matches(rule: &[&str], name: &[&str]) -> bool {
    match (rule, name) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([part, rule @ ..], [first, name @ ..]) => {
            let fits = match part.split_once('*') {
                None => part == first,
                Some((head, tail)) => {
                    let long = first.len() >= head.len() + tail.len();
                    long && first.starts_with(head) && first.ends_with(tail)
                }
            };
            fits && matches(rule, name)
        }
        _ => false,
    }
}

/// An archive, of a few.
pub(crate) fn archive(number: u64) -> String {
    let text = format!("{number}\n");
    let tar = TarBuilder::new().dir("d/", 0o755).file("d/f", 0o644, &text);
    let tar = match number {
        0 => tar,
        1 => tar.hard_link("d/g", "d/f").symlink("d/l", "f"),
        _ => tar.file("s", 0o4711, &text).dir("e/", 0o1777),
    };
    String::from_utf8(tar.finish()).expect("it has only ASCII")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
