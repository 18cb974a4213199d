//! The files of a context, as the case has them in mind and on disk.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

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
        files
    }

    /// A new file's number.
    pub(crate) fn add(&mut self, name: &'static str, content: String) {
        let number = self.inodes.keys().next_back().map_or(0, |last| last + 1);
        self.inodes.insert(number, Inode { content, mode: 0o644 });
        self.names.insert(name, Node::File(number));
    }

    fn rule(&self, name: &str) -> bool {
        let below = |dir: &str| name == dir || name.starts_with(&format!("{dir}/"));
        let covers = |rule: &str| match (rule.strip_prefix("*."), rule.strip_prefix("**/")) {
            (Some(end), _) => !name.contains('/') && name.ends_with(&format!(".{end}")),
            (_, Some(last)) => name == last || name.ends_with(&format!("/{last}")),
            _ => below(rule),
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

    /// What there is at these places (`.` is all), so that two texts are equal only if the same
    /// is read there; `git`: of modes, only what git keeps.
    pub(crate) fn at(&self, places: &[&str], git: bool) -> String {
        let places: Vec<&str> = places.iter().flat_map(|place| [*place, self.led(place)]).collect();
        let within = |name: &str| {
            places.iter().any(|place| match place.strip_suffix('*') {
                Some(start) => name.starts_with(start) && !name.contains('/'),
                None => *place == "." || name == *place || name.starts_with(&format!("{place}/")),
            })
        };
        let mut text = String::new();
        let mut first: BTreeMap<u64, &str> = BTreeMap::new();
        for (name, node) in self.names.iter().filter(|(n, _)| within(n) && !self.is_ignored(n)) {
            let what = match node {
                Node::Dir if *name == MODAL && !git => format!("dir {:o}", self.dir_mode),
                Node::Dir => "dir".to_owned(),
                Node::Link(target) => format!("link {target}"),
                Node::File(number) => {
                    let Inode { content, mode } = &self.inodes[number];
                    let mode = match (git, mode & 0o100 != 0) {
                        (false, _) => *mode,
                        (true, true) => 0o755,
                        (true, false) => 0o644,
                    };
                    let group = first.entry(*number).or_insert(name);
                    format!("file {mode:o} {content:?} as {group}")
                }
            };
            text.push_str(&format!("{name}: {what}\n"));
        }
        text
    }

    /// Where a place leads that is a link; a place that is none leads to itself.
    fn led<'a>(&self, place: &'a str) -> &'a str {
        match self.names.get(place) {
            Some(Node::Link(target)) => target,
            _ => place,
        }
    }

    /// Makes a directory that is as `old` (or empty) be as this; what stays keeps its inode.
    pub(crate) fn write(&self, root: &Path, old: Option<&Self>) {
        let kept = |name: &str| {
            old.is_some_and(|old| self.names.get(name) == old.names.get(name))
                && self.names.contains_key(name)
        };
        for (name, node) in old.into_iter().flat_map(|old| old.names.iter().rev()) {
            if !kept(name) {
                let path = root.join(name);
                let gone =
                    if *node == Node::Dir { fs::remove_dir(path) } else { fs::remove_file(path) };
                gone.unwrap();
            }
        }
        let mut placed: BTreeMap<u64, &str> = BTreeMap::new();
        for (name, node) in self.names.iter().filter(|(name, _)| kept(name)) {
            if let Node::File(number) = node {
                placed.entry(*number).or_insert(name);
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
                    Some(other) => fs::hard_link(root.join(other), &path).unwrap(),
                    None => {
                        fs::write(&path, &self.inodes[number].content).unwrap();
                        set_mode(&path, self.inodes[number].mode);
                        placed.insert(*number, name);
                    }
                },
            }
        }
        for (number, name) in placed {
            let (now, path) = (&self.inodes[&number], root.join(name));
            let before = old.and_then(|old| old.inodes.get(&number));
            if before.is_some_and(|before| before.content != now.content) {
                fs::write(&path, &now.content).unwrap();
            }
            if before.is_some_and(|before| before.mode != now.mode) {
                set_mode(&path, now.mode);
            }
        }
        set_mode(&root.join(MODAL), self.dir_mode);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
