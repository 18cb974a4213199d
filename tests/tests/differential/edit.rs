//! Changes of a context and its Dockerfile, at random.

use tests::random::Random;

use super::files::{BUNDLE, FIXED, Files, LINK, MOVING, Node, archive};
use super::line::{CONFIGS, HIDDEN, Line};
use super::stages::Stages;

/// A context and what is built of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) files: Files,
    /// The files of a named context.
    pub(crate) extra: Files,
    pub(crate) stages: Stages,
    /// Modes of files are those that git keeps.
    pub(crate) git: bool,
    /// Whether what is ignored is listed beside the Dockerfile, not in the context.
    pub(crate) beside: bool,
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
    /// A name becomes a file, a directory, an empty one, a link or nothing.
    Flip,
    /// A directory with nothing in it comes or goes.
    Empty,
    /// An archive holds something else.
    Archive,
    /// A directory is renamed with all that is in it.
    Directory,
    Ignore,
    /// The list of what is ignored stands elsewhere.
    IgnoreFile,
    Argument,
    Order,
    Base,
    /// Another base image: other files, or only another environment.
    Image,
    /// Another name for the same one.
    Alias,
    Insert,
    Drop,
    Swap,
    Alter,
    Target,
    /// How modes are read.
    Modes,
    /// Another file at the web server.
    Web,
    Name,
    Comment,
    /// Another secret.
    Secret,
    /// Another cache behind the same mount.
    Cache,
    /// The same bytes in another inode.
    Again,
    /// Another time.
    Touch,
    Back,
    /// What was changed last is changed back.
    Revert,
    /// Nothing but that a stage is to be built again.
    Filter,
    /// That the results of one are too old.
    Age,
    /// That all is to be built again.
    Fresh,
}

/// Those that bring something new come more often than others.
const EDITS: [Edit; 42] = [
    Edit::Content,
    Edit::Mode,
    Edit::DirectoryMode,
    Edit::Rename,
    Edit::Remove,
    Edit::Symlink,
    Edit::HardLink,
    Edit::Flip,
    Edit::Empty,
    Edit::Archive,
    Edit::Directory,
    Edit::Ignore,
    Edit::IgnoreFile,
    Edit::Argument,
    Edit::Order,
    Edit::Base,
    Edit::Image,
    Edit::Alias,
    Edit::Insert,
    Edit::Insert,
    Edit::Insert,
    Edit::Insert,
    Edit::Drop,
    Edit::Swap,
    Edit::Alter,
    Edit::Alter,
    Edit::Alter,
    Edit::Target,
    Edit::Modes,
    Edit::Web,
    Edit::Name,
    Edit::Comment,
    Edit::Secret,
    Edit::Cache,
    Edit::Again,
    Edit::Touch,
    Edit::Back,
    Edit::Revert,
    Edit::Revert,
    Edit::Filter,
    Edit::Age,
    Edit::Fresh,
];

/// Names that come and go; `a` and the directories stay.
const NAMES: [&str; 8] =
    ["a2", "b.txt", "n.txt", "sub/c", "sub/d", "sub/in/f", "deep/er/e", "deep/g"];
const LINKS: [&str; 3] = ["l1", "sub/l2", "deep/l3"];
const TARGETS: [&str; 5] = ["a", "sub/c", "..", "missing", "/etc/passwd"];
/// What the link that is always there leads to.
const WAYS: [&str; 2] = ["a", "sub"];
/// What is of another kind again and again, and what is in it.
const FLIP: [&str; 2] = ["flip", "flip/x"];
const EMPTY: [&str; 3] = ["void", "sub/void", "deep/er/void"];
const RULES: [&str; 14] = [
    "*.txt",
    "sub/d",
    "sub/in",
    "deep",
    "!deep/er/e",
    "l1",
    "**/void",
    "flip/x",
    "!b.txt",
    "sub/*",
    "!sub/in/f",
    "d*/er",
    "/a2",
    "!**/c",
];
/// What is always there, whatever is ignored.
const SOURCES: [&[&str]; 6] = [&["."], &["a"], &["a", "sub"], &["a*"], &["sub"], &[LINK]];
const PLACES: [&str; 3] = [".", "a", "sub"];
/// How many lines a stage may have.
const LINES: usize = 6;
const FLAGS: [&str; 8] = [
    "",
    "",
    " --chown=1000",
    " --chmod=640",
    " --exclude=sub/d",
    " --parents",
    " --chown=app:appg --chmod=go-rwx",
    " --exclude=**/*.txt --exclude=in",
];
const FROM_FLAGS: [&str; 5] = ["", "", " --chown=app:appg", " --chmod=u+s", " --exclude=c1"];
const TAR_FLAGS: [&str; 4] = ["", " --chown=1000", " --link", " --unpack=false"];
const WEB_FLAGS: [&str; 4] = ["", " --chmod=600", " --chown=app", " --link"];
const IDS: [&str; 2] = ["warm", "cold"];
const SECRETS: [&str; 4] = ["", ",env=S", ",required=true", ",target=/tmp/s,mode=0444"];
const SHELLS: [&str; 2] = [r#"["/bin/sh", "-c"]"#, r#"["/bin/sh", "+e", "-c"]"#];
/// What a RUN does; its number is `%`.
const CHANGES: [&str; 10] = [
    "rm -rf /w/c0",
    "rm -rf /w/c0; mkdir -p /w/c0; echo % > /w/c0/x",
    "mv /w/c0 /w/m%",
    "mv /w/c0 /w/c1",
    "rm -rf /home /var; mkdir -p /var/new",
    "chmod 4711 /w/o0",
    "cp -a /w/c0 /w/k%",
    "touch -d 2001-01-01 /w/o0 /w",
    "echo r > /w/new; mv /w/new /w/o0",
    "rm -rf /w/c0; ln -s /tmp /w/c0",
];

fn one_of<T: Copy>(random: &mut Random, list: &[T]) -> T {
    list[random.below(list.len() as u64) as usize]
}

/// The name of a file that is there.
fn present(files: &Files, random: &mut Random, all: bool) -> Option<&'static str> {
    let there = files.names.iter().filter(|(_, node)| matches!(node, Node::File(_)));
    let names: Vec<&str> =
        there.map(|(name, _)| *name).filter(|n| all || !FIXED.contains(n)).collect();
    (!names.is_empty()).then(|| one_of(random, &names))
}

fn edit_files(files: &mut Files, edit: Edit, random: &mut Random) {
    let (name, file) = (one_of(random, &NAMES), present(files, random, edit != Edit::Rename));
    let free = !files.names.contains_key(name);
    match edit {
        Edit::Content if free => files.add(name, format!("{}\n", random.below(3))),
        Edit::Content | Edit::Mode => {
            let Some(Node::File(number)) = file.map(|f| files.names[f].clone()) else { return };
            let Some(inode) = files.inodes.get_mut(&number) else { return };
            match edit {
                Edit::Mode => inode.mode = one_of(random, &[0o644, 0o600, 0o755, 0o4755, 0o654]),
                // Of one length: only times can tell.
                _ => inode.content = format!("{}\n", random.below(4)),
            }
        }
        Edit::DirectoryMode => files.dir_mode = one_of(random, &[0o755, 0o700, 0o1777]),
        Edit::Rename if free => {
            if let Some(node) = file.and_then(|file| files.names.remove(file)) {
                files.names.insert(name, node);
            }
        }
        Edit::Rename | Edit::Remove => {
            if let Some(file) = file.filter(|file| !FIXED.contains(file)) {
                files.names.remove(file);
            }
        }
        Edit::HardLink => {
            if let Some(node) = file.map(|f| files.names[f].clone())
                && (free || file != Some(name))
            {
                files.names.insert(name, node);
            }
        }
        Edit::Symlink => link(files, random),
        Edit::Flip => flip(files, random),
        Edit::Empty => toggle(files, one_of(random, &EMPTY)),
        Edit::Archive => files.add(BUNDLE, archive(random.below(3))),
        Edit::Directory => rename(files),
        _ => {
            let rule = one_of(random, &RULES);
            match files.ignore.iter().position(|it| *it == rule) {
                Some(at) => drop(files.ignore.remove(at)),
                None => files.ignore.push(rule),
            }
        }
    }
}

/// Makes a symbolic link, or another of one.
fn link(files: &mut Files, random: &mut Random) {
    let link = one_of(random, &LINKS);
    match random.below(4) {
        0 => drop(files.names.remove(link)),
        1 => drop(files.names.insert(LINK, Node::Link(one_of(random, &WAYS)))),
        _ => drop(files.names.insert(link, Node::Link(one_of(random, &TARGETS)))),
    }
}

/// Makes a name be of another kind.
fn flip(files: &mut Files, random: &mut Random) {
    let [name, inside] = FLIP;
    files.names.remove(inside);
    files.names.remove(name);
    match random.below(5) {
        0 => files.add(name, "flipped\n".to_owned()),
        1 => drop(files.names.insert(name, Node::Link("sub"))),
        kind @ 2..4 => {
            files.names.insert(name, Node::Dir);
            if kind == 2 {
                files.add(inside, "inside\n".to_owned());
            }
        }
        _ => {}
    }
}

/// Gives a directory its other name.
fn rename(files: &mut Files) {
    let [one, two] = MOVING;
    let (from, to) = if files.names.contains_key(one[0]) { (one, two) } else { (two, one) };
    for (from, to) in from.into_iter().zip(to) {
        let node = files.names.remove(from);
        files.names.extend(node.map(|node| (to, node)));
    }
}

fn toggle(files: &mut Files, dir: &'static str) {
    if files.names.remove(dir).is_none() {
        files.names.insert(dir, Node::Dir);
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let [files, extra] = [Files::new(), Files::new()];
        Self { files, extra, stages: Stages::new(), git: false, beside: true, next: 10 }
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
            | Edit::Flip
            | Edit::Empty
            | Edit::Archive
            | Edit::Directory
            | Edit::Ignore => {
                let extra = random.below(4) == 0;
                edit_files(if extra { &mut self.extra } else { &mut self.files }, edit, random);
            }
            Edit::Modes => self.git ^= true,
            Edit::IgnoreFile => self.beside ^= true,
            Edit::Again
            | Edit::Touch
            | Edit::Back
            | Edit::Revert
            | Edit::Filter
            | Edit::Age
            | Edit::Fresh => {}
            _ => self.edit_stages(edit, random),
        }
        edit
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
                let arg = one_of(random, &["A", "B", "G"]);
                if random.below(4) == 0 {
                    stages.args.remove(arg);
                } else {
                    stages.args.insert(arg, random.below(3));
                }
            }
            Edit::Order => stages.swapped ^= true,
            Edit::Base => stages.base = one_of(random, &[None, Some(0), Some(1)]),
            Edit::Image => stages.image = random.below(4) as usize,
            Edit::Alias => stages.alias ^= true,
            Edit::Web => stages.page = random.below(3),
            Edit::Target => stages.target = one_of(random, &[0, 1, 2, 2]),
            Edit::Secret => stages.secret = random.below(3),
            Edit::Cache => {
                for line in stages.stages.iter_mut().flat_map(|stage| &mut stage.lines) {
                    if let Line::Cache { id, .. } | Line::Seeded { id, .. } = line {
                        *id = one_of(random, &IDS);
                    }
                }
            }
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
                    1 => Line::Bind { number: 0, source, extra: random.below(3) == 0 },
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
        // Only the last one may have what other stages made, and may rest on them.
        let kinds = if stage == 2 { 31 } else { 27 };
        let link = random.below(2) == 0;
        let below = random.below(3);
        match random.below(kinds) {
            0 => Line::Arg(one_of(random, &["A", "B", "G", "TARGETARCH"])),
            1 => Line::Env(one_of(random, &["E", "F", HIDDEN]), below),
            2 => Line::User(one_of(random, &["app", "root"])),
            3 => Line::Workdir(one_of(random, &["/w/w", "/srv/x"])),
            4..=7 => Line::Copy {
                add: random.below(3) == 0,
                link,
                extra: random.below(4) == 0,
                flag: one_of(random, &FLAGS),
                sources: one_of(random, &SOURCES),
                dest: one_of(random, &["/w/c0/", "/w/c1/", "/other/"]),
            },
            8 => Line::Sum(number),
            9 => {
                Line::Bind { number, source: one_of(random, &PLACES), extra: random.below(3) == 0 }
            }
            10 => Line::Same { number, source: one_of(random, &PLACES) },
            11 => Line::Move(number),
            12 => Line::Secret { number, how: one_of(random, &SECRETS) },
            13 => Line::Cache { number, id: one_of(random, &IDS) },
            14 => Line::Script(number),
            15 => Line::Here { text: below, quoted: link },
            16 => Line::Label(below),
            17 => Line::Empty(number),
            18 => Line::Scratch { number, source: one_of(random, &PLACES) },
            19 => Line::Memory(number),
            20 => Line::Image { number, copy: link },
            21 | 22 => Line::Change { number, what: one_of(random, &CHANGES) },
            23 => Line::Tar(one_of(random, &TAR_FLAGS)),
            24 => Line::Web(one_of(random, &WEB_FLAGS)),
            25 => Line::Shell(one_of(random, &SHELLS)),
            26 if stage != 2 && link => Line::OnBuild(number),
            26 => Line::Config(one_of(random, &CONFIGS), below),
            27 => Line::From { number, stage: random.below(2) as usize, whole: link },
            28 => {
                let stage = random.below(2) as usize;
                Line::Seeded { number, id: one_of(random, &IDS), stage }
            }
            _ => {
                let (stage, whole) = (random.below(2) as usize, random.below(2) == 0);
                Line::CopyFrom { stage, whole, link, flag: one_of(random, &FROM_FLAGS) }
            }
        }
    }
}
