//! The rules of an ignore file, and what they say of paths.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use graph::ignore::{IgnoreList, IgnoreMatcher, IgnoreState, Verdict};
use graph::pattern::Glob;

use crate::commands::dockerfile::IgnoreFile;
use crate::commands::failure::Failure;

/// The rules of one context.
pub(super) struct Rules {
    context: PathBuf,
    list: IgnoreList,
    lines: Vec<String>,
    matcher: IgnoreMatcher,
    globs: Vec<Option<Glob>>,
}

/// What is decided about one path.
pub(super) struct Decision {
    /// As the context has it; `.` for the context itself.
    pub(super) path: Vec<u8>,
    /// Whether it is there.
    pub(super) exists: bool,
    /// Whether it is a directory.
    pub(super) directory: bool,
    /// Whether it is left out.
    pub(super) excluded: bool,
    /// The line that decides; none where no rule matches.
    pub(super) line: Option<Line>,
    /// The parent that the line matches, where it does not match the path itself.
    pub(super) parent: Option<Vec<u8>>,
    /// The first path below an excluded directory that is brought back, with the line that does.
    pub(super) brought_back: Option<(Vec<u8>, Line)>,
}

/// A line of the ignore file.
#[derive(Clone)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u32,
    /// Its text.
    pub(super) text: String,
}

/// A file or a directory on the way through the context.
struct Found {
    path: Vec<u8>,
    directory: bool,
}

impl Rules {
    pub(super) fn new(context: &Path, file: IgnoreFile) -> Self {
        let IgnoreFile { list, lines } = file;
        let globs = list.rules.iter().map(|r| Glob::with_double_star(&r.pattern).ok()).collect();
        Self { context: context.to_owned(), matcher: list.matcher(), list, lines, globs }
    }

    /// The file's name; none where there is no file.
    pub(super) fn name(&self) -> Option<&str> {
        Some(self.list.name.as_str()).filter(|name| !name.is_empty())
    }

    /// Decides about one path.
    ///
    /// # Errors
    /// If the context cannot be read.
    pub(super) fn decide(&self, path: &str) -> Result<Decision, Failure> {
        let found = match fs::symlink_metadata(self.context.join(path)) {
            Ok(meta) => Some(meta.is_dir()),
            Err(e) if missing(&e) => None,
            Err(e) => return Err(self.unreadable(path.as_bytes(), &e)),
        };
        let path = path.as_bytes().to_vec();
        let verdict = match path.as_slice() {
            // No rule is asked about the context itself.
            b"." => Verdict { excluded: false, rule: None },
            path => self.matcher.decide_alone(path),
        };
        let mut decision = self.decision(path, found == Some(true), verdict);
        decision.exists = found.is_some();
        self.look_below(&mut decision)?;
        Ok(decision)
    }

    /// Decides about every path of the context, by name.
    ///
    /// # Errors
    /// If the context cannot be read.
    pub(super) fn decide_all(&self) -> Result<Vec<Decision>, Failure> {
        let mut decisions = Vec::new();
        let mut open: Vec<(Vec<u8>, IgnoreState)> = vec![(Vec::new(), self.matcher.root())];
        while let Some((dir, state)) = open.pop() {
            for Found { path, directory } in self.list(&dir)? {
                let (verdict, below) = self.matcher.decide(&path, &state);
                let mut decision = self.decision(path.clone(), directory, verdict);
                self.look_below(&mut decision)?;
                decisions.push(decision);
                if directory {
                    open.push((path, below));
                }
            }
        }
        decisions.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(decisions)
    }

    fn decision(&self, path: Vec<u8>, directory: bool, verdict: Verdict) -> Decision {
        let line = verdict.rule.map(|rule| self.line(rule));
        let parent = verdict.rule.and_then(|rule| self.matched_parent(rule, &path));
        Decision {
            path,
            exists: true,
            directory,
            excluded: verdict.excluded,
            line,
            parent,
            brought_back: None,
        }
    }

    fn line(&self, rule: usize) -> Line {
        let number = self.list.rules[rule].line;
        let text = self.lines.get(number as usize - 1).map_or("", String::as_str);
        Line { number, text: text.trim_start_matches('\u{feff}').trim().to_owned() }
    }

    /// The parent of `path` that a rule matches: then it need not match the path.
    fn matched_parent(&self, rule: usize, path: &[u8]) -> Option<Vec<u8>> {
        let glob = self.globs[rule].as_ref()?;
        let slashes = path.iter().enumerate().filter(|(_, b)| **b == b'/');
        let mut parents = slashes.map(|(at, _)| &path[..at]);
        parents.find(|parent| glob.matches(parent)).map(<[u8]>::to_vec)
    }

    /// Finds out whether something below an excluded directory is part of the context.
    fn look_below(&self, decision: &mut Decision) -> Result<(), Failure> {
        if !decision.excluded || !decision.directory {
            return Ok(());
        }
        let mut open = vec![decision.path.clone()];
        while let Some(dir) = open.pop() {
            if !self.matcher.may_reinclude_below(&dir) {
                continue;
            }
            let mut below = Vec::new();
            for Found { path, directory } in self.list(&dir)? {
                let verdict = self.matcher.decide_alone(&path);
                if let Verdict { excluded: false, rule: Some(rule) } = verdict {
                    decision.brought_back = Some((path, self.line(rule)));
                    return Ok(());
                }
                if directory {
                    below.push(path);
                }
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// The entries of a directory, by name.
    fn list(&self, dir: &[u8]) -> Result<Vec<Found>, Failure> {
        let at = self.context.join(std::ffi::OsStr::from_bytes(dir));
        let read = || -> io::Result<Vec<Found>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&at)? {
                let entry = entry?;
                let mut path = dir.to_vec();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(entry.file_name().into_vec());
                found.push(Found { path, directory: entry.file_type()?.is_dir() });
            }
            found.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(found)
        };
        read().map_err(|e| self.unreadable(dir, &e))
    }

    fn unreadable(&self, path: &[u8], error: &io::Error) -> Failure {
        let path = self.context.join(std::ffi::OsStr::from_bytes(path));
        Failure::error(format!("cannot read {}: {error}", path.display()))
    }
}

fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
