//! Changes of a context and its Dockerfile, at random.

use tests::random::Random;

use super::files::{Files, Node};
use super::stages::{Line, Stages};

/// A context and what is built of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) files: Files,
    pub(crate) stages: Stages,
    /// The number of the next line.
    next: u64,
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edit {
    Content,
    Mode,
    DirectoryMode,
    Rename,
    Remove,
    Symlink,
    HardLink,
    Ignore,
    Argument,
    Order,
    Base,
    Insert,
    Drop,
    Swap,
    Alter,
    Name,
    Comment,
    /// The same bytes in another inode.
    Again,
    /// Another time.
    Touch,
    Back,
}

const EDITS: [Edit; 20] = [
    Edit::Content,
    Edit::Mode,
    Edit::DirectoryMode,
    Edit::Rename,
    Edit::Remove,
    Edit::Symlink,
    Edit::HardLink,
    Edit::Ignore,
    Edit::Argument,
    Edit::Order,
    Edit::Base,
    Edit::Insert,
    Edit::Drop,
    Edit::Swap,
    Edit::Alter,
    Edit::Name,
    Edit::Comment,
    Edit::Again,
    Edit::Touch,
    Edit::Back,
];

/// Names that come and go; `a` and the directories stay.
const NAMES: [&str; 8] =
    ["a2", "b.txt", "n.txt", "sub/c", "sub/d", "sub/in/f", "deep/er/e", "deep/g"];
const LINKS: [&str; 3] = ["l1", "sub/l2", "deep/l3"];
const TARGETS: [&str; 5] = ["a", "sub/c", "..", "missing", "/etc/passwd"];
const RULES: [&str; 6] = ["*.txt", "sub/d", "sub/in", "deep", "!deep/er/e", "l1"];
/// What is always there, whatever is ignored.
const SOURCES: [&[&str]; 5] = [&["."], &["a"], &["a", "sub"], &["a*"], &["sub"]];
const PLACES: [&str; 3] = [".", "a", "sub"];
/// How many lines a stage may have.
const LINES: usize = 5;

fn one_of<T: Copy>(random: &mut Random, list: &[T]) -> T {
    list[random.below(list.len() as u64) as usize]
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { files: Files::new(), stages: Stages::new(), next: 10 }
    }

    /// Changes something; what kind of change it is. Some change nothing.
    pub(crate) fn edit(&mut self, random: &mut Random) -> Edit {
        let edit = one_of(random, &EDITS);
        match edit {
            Edit::Content
            | Edit::Mode
            | Edit::DirectoryMode
            | Edit::Rename
            | Edit::Remove
            | Edit::Symlink
            | Edit::HardLink
            | Edit::Ignore => self.edit_files(edit, random),
            Edit::Again | Edit::Touch | Edit::Back => {}
            _ => self.edit_stages(edit, random),
        }
        edit
    }

    /// The names of files that are there.
    fn present(&self, random: &mut Random, all: bool) -> Option<&'static str> {
        let there = self.files.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        let names: Vec<&str> = there.map(|(name, _)| *name).filter(|n| all || *n != "a").collect();
        (!names.is_empty()).then(|| one_of(random, &names))
    }

    fn edit_files(&mut self, edit: Edit, random: &mut Random) {
        let (name, file) = (one_of(random, &NAMES), self.present(random, edit != Edit::Rename));
        let free = !self.files.names.contains_key(name);
        match edit {
            Edit::Content if free => self.files.add(name, format!("{}\n", random.below(3))),
            Edit::Content | Edit::Mode => {
                let Some(Node::File(number)) = file.map(|f| self.files.names[f].clone()) else {
                    return;
                };
                let Some(inode) = self.files.inodes.get_mut(&number) else { return };
                match edit {
                    Edit::Mode => inode.mode = one_of(random, &[0o644, 0o600, 0o755, 0o4755]),
                    // Of one length: only times can tell.
                    _ => inode.content = format!("{}\n", random.below(4)),
                }
            }
            Edit::DirectoryMode => self.files.dir_mode = one_of(random, &[0o755, 0o700, 0o1777]),
            Edit::Rename if free => {
                if let Some(node) = file.and_then(|file| self.files.names.remove(file)) {
                    self.files.names.insert(name, node);
                }
            }
            Edit::Rename | Edit::Remove => {
                if file != Some("a") {
                    file.map(|file| self.files.names.remove(file));
                }
            }
            Edit::Symlink => {
                let link = one_of(random, &LINKS);
                if random.below(3) == 0 {
                    self.files.names.remove(link);
                } else {
                    self.files.names.insert(link, Node::Link(one_of(random, &TARGETS)));
                }
            }
            Edit::HardLink => {
                if let Some(node) = file.map(|f| self.files.names[f].clone())
                    && (free || file != Some(name))
                {
                    self.files.names.insert(name, node);
                }
            }
            _ => {
                let rule = one_of(random, &RULES);
                match self.files.ignore.iter().position(|it| *it == rule) {
                    Some(at) => drop(self.files.ignore.remove(at)),
                    None => self.files.ignore.push(rule),
                }
            }
        }
    }

    fn edit_stages(&mut self, edit: Edit, random: &mut Random) {
        let at = random.below(3) as usize;
        let line = self.line(random, at);
        let name = one_of(random, [&["one", "uno"], &["two", "due"], &["last", "app"]][at]);
        let stages = &mut self.stages;
        let lines = &mut stages.stages[at].lines;
        // The first line makes what other stages copy: it changes, and stays.
        let place = 1 + random.below(lines.len() as u64) as usize;
        match edit {
            Edit::Argument => {
                let arg = one_of(random, &["A", "B"]);
                if random.below(4) == 0 {
                    stages.args.remove(arg);
                } else {
                    stages.args.insert(arg, random.below(3));
                }
            }
            Edit::Order => stages.swapped ^= true,
            Edit::Base => stages.base = one_of(random, &[None, Some(0), Some(1)]),
            Edit::Insert if lines.len() < LINES => lines.insert(place, line),
            Edit::Insert | Edit::Drop => {
                if place < lines.len() {
                    lines.remove(place);
                }
            }
            Edit::Swap => {
                let other = 1 + random.below(lines.len() as u64) as usize;
                if place.max(other) < lines.len() {
                    lines.swap(place, other);
                }
            }
            Edit::Alter if place < lines.len() && random.below(2) == 0 => lines[place] = line,
            Edit::Alter => {
                let source = one_of(random, &PLACES);
                lines[0] = match random.below(3) {
                    0 => Line::Sum(0),
                    1 => Line::Bind { number: 0, source },
                    _ => Line::Same { number: 0, source },
                };
            }
            Edit::Comment => lines.insert(place, Line::Comment(random.number())),
            _ => stages.stages[at].name = name,
        }
        // Comments are many, and weigh nothing.
        let lines = &mut self.stages.stages[at].lines;
        if lines.len() > 2 * LINES {
            lines.retain(|line| !matches!(line, Line::Comment(_)));
        }
    }

    /// A new line for a stage.
    fn line(&mut self, random: &mut Random, stage: usize) -> Line {
        self.next += 1;
        let number = self.next;
        let kinds = if stage == 2 { 14 } else { 11 };
        let link = random.below(2) == 0;
        match random.below(kinds) {
            0 => Line::Arg(one_of(random, &["A", "B"])),
            1 => Line::Env(one_of(random, &["E", "F"]), random.below(3)),
            2 => Line::User(one_of(random, &["app", "root"])),
            3 => Line::Workdir(one_of(random, &["/w/w", "/srv/x"])),
            4..=6 => Line::Copy {
                add: random.below(3) == 0,
                link,
                flag: one_of(random, &["", " --chown=1000", " --chmod=640"]),
                sources: one_of(random, &SOURCES),
                dest: one_of(random, &["/w/c0/", "/w/c1/", "/other/"]),
            },
            7 => Line::Sum(number),
            8 => Line::Bind { number, source: one_of(random, &PLACES) },
            9 => Line::Same { number, source: one_of(random, &PLACES) },
            10 => Line::Move(number),
            11 => Line::From { number, stage: random.below(2) as usize, whole: link },
            _ => {
                let stage = random.below(2) as usize;
                Line::CopyFrom { stage, whole: random.below(2) == 0, link }
            }
        }
    }
}
