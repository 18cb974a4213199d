//! A build context as a source of copies: a directory in place, less what its ignore list leaves
//! out.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use cache::{CacheError, Context, Everything, FileKind, State, Verdict};
use graph::ignore::{IgnoreList, IgnoreMatcher, IgnoreState};
use oci::layer::{ContentHash, Entry, Metadata, Node, TreePath};

use crate::copy::{Keep, SourceError, SourceTree, kept_by_git};
use crate::error::WorkerError;

/// How directories of this machine are read that are contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextOptions {
    /// What becomes of the modes of their files.
    pub modes: ContextModes,
    /// How far the times of files are trusted.
    pub trust: cache::context::Trust,
}

/// What becomes of the modes of a context's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextModes {
    /// They stay.
    #[default]
    Keep,
    /// Only what git keeps of them counts, whatever the umask of whoever made them: 0755 for
    /// directories and what its owner may execute, else 0644.
    Git,
}

impl ContextModes {
    /// The mode of a file or a directory.
    fn of(self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Git => kept_by_git(mode, directory),
        }
    }
}

/// An open build context.
pub struct ContextTree {
    context: Context,
    modes: ContextModes,
    rules: IgnoreList,
    matcher: IgnoreMatcher,
    /// Of directories only: files are many, and each is asked about once.
    states: RwLock<HashMap<TreePath, Arc<Decided>>>,
}

/// What the ignore list says of one directory.
struct Decided {
    excluded: bool,
    state: IgnoreState,
}

impl ContextTree {
    /// Opens the directory `path`.
    ///
    /// # Errors
    /// If it is no directory that can be read.
    pub fn open(
        state: &State,
        path: &Path,
        ignore: &IgnoreList,
        options: ContextOptions,
    ) -> Result<Self, WorkerError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| WorkerError::Context {
            path: path.to_owned(),
            source,
        };
        let matcher = ignore.matcher();
        let ContextOptions { modes, trust } = options;
        let context = state.contexts().open_with(path, trust).map_err(|e| fail(e.into()))?;
        let states = RwLock::default();
        Ok(Self { context, modes, rules: ignore.clone(), matcher, states })
    }

    /// Keeps what was learned of the files, so that the next build need not read them.
    ///
    /// # Errors
    /// If it cannot be written; the next build is slower then.
    pub fn save(&self) -> Result<(), CacheError> {
        self.context.save()
    }

    /// How many bytes and files of the context were read in this build.
    pub fn stats(&self) -> cache::context::ContextStats {
        self.context.stats()
    }

    fn decided(&self, dir: &TreePath) -> Arc<Decided> {
        let known = self.states.read().unwrap_or_else(PoisonError::into_inner).get(dir).cloned();
        if let Some(known) = known {
            return known;
        }
        let decided = Arc::new(match dir.parent() {
            None => Decided { excluded: false, state: self.matcher.root() },
            Some(parent) => {
                let above = self.decided(&parent);
                let (verdict, state) = self.matcher.decide(dir.as_bytes(), &above.state);
                Decided { excluded: verdict.excluded, state }
            }
        });
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.entry(dir.clone()).or_insert(decided).clone()
    }

    fn excluded(&self, path: &TreePath, directory: bool) -> bool {
        let Some(parent) = path.parent() else { return false };
        if self.rules.rules.is_empty() {
            return false;
        }
        if directory {
            return self.decided(path).excluded;
        }
        self.matcher.decide(path.as_bytes(), &self.decided(&parent).state).0.excluded
    }

    fn keep(&self, path: &TreePath, directory: bool) -> Keep {
        match self.excluded(path, directory) {
            false => Keep::Yes,
            true if directory && self.matcher.may_reinclude_below(path.as_bytes()) => {
                Keep::IfSomethingBelow
            }
            true => Keep::No,
        }
    }

    /// Links have no mode of their own; hard links that of their first name.
    fn set_mode(&self, entry: &mut Entry) {
        if !matches!(entry.node, Node::Symlink { .. }) {
            let directory = matches!(entry.node, Node::Directory { .. });
            entry.meta.mode = self.modes.of(entry.meta.mode, directory);
        }
    }

    /// Whether an excluded directory is there after all, for what is brought back below it.
    fn something_below(&self, dir: &TreePath) -> Result<bool, CacheError> {
        for (name, kind) in self.context.list(dir)? {
            let Ok(path) = dir.child(&name) else { continue };
            let directory = kind == FileKind::Directory;
            match self.keep(&path, directory) {
                Keep::Yes => return Ok(true),
                Keep::IfSomethingBelow if self.something_below(&path)? => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    fn is_there(&self, path: &TreePath, directory: bool) -> Result<bool, CacheError> {
        match self.keep(path, directory) {
            Keep::Yes => Ok(true),
            Keep::No => Ok(false),
            Keep::IfSomethingBelow => self.something_below(path),
        }
    }
}

impl SourceTree for ContextTree {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, SourceError> {
        let fail = |e: CacheError| SourceError::read(path, e);
        let Some(stat) = self.context.stat_entry(path).map_err(fail)? else { return Ok(None) };
        let directory = stat.kind == FileKind::Directory;
        if !self.is_there(path, directory).map_err(fail)? {
            return Ok(None);
        }
        let node = match stat.kind {
            FileKind::Directory => Node::Directory { opaque: false },
            FileKind::Symlink => {
                let target = self.context.read_link(path).map_err(fail)?;
                Node::Symlink { target: target.into() }
            }
            // Which special file it is comes out when it is hashed.
            _ => Node::File { size: stat.size, content: ContentHash([0; 32]) },
        };
        let mode = match stat.kind {
            FileKind::Symlink => stat.mode,
            _ => self.modes.of(stat.mode, directory),
        };
        let meta = Metadata { mode, mtime: stat.mtime, ..Metadata::default() };
        Ok(Some(Entry { path: path.clone(), node, meta }))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, SourceError> {
        let fail = |e: CacheError| SourceError::read(path, e);
        let mut entries = Vec::new();
        for (name, kind) in self.context.list(path).map_err(fail)? {
            let child = path.child(&name).map_err(|e| SourceError::read(path, e))?;
            let directory = kind == FileKind::Directory;
            if !self.is_there(&child, directory).map_err(fail)? {
                continue;
            }
            let node = match kind {
                FileKind::Directory => Node::Directory { opaque: false },
                FileKind::Symlink => Node::Symlink { target: Box::default() },
                _ => Node::File { size: 0, content: ContentHash([0; 32]) },
            };
            entries.push(Entry { path: child, node, meta: Metadata::default() });
        }
        Ok(entries)
    }

    fn walk(
        &self,
        path: &TreePath,
        keep: &(dyn Fn(&TreePath, bool) -> Keep + Sync),
    ) -> Result<Vec<Entry>, SourceError> {
        let selection = |at: &TreePath, directory: bool| {
            if at == path {
                return Verdict::Pass;
            }
            let relative = at.strip_prefix(path).unwrap_or_default();
            match (self.keep(at, directory), keep(&relative, directory)) {
                (Keep::No, _) | (_, Keep::No) => Verdict::Skip,
                (Keep::Yes, Keep::Yes) => Verdict::Take,
                _ => Verdict::Pass,
            }
        };
        let mut entries =
            self.context.walk(path, &selection).map_err(|e| SourceError::read(path, e))?;
        entries.retain(|e| e.path != *path);
        entries.iter_mut().for_each(|entry| self.set_mode(entry));
        Ok(entries)
    }

    fn hashed(&self, entry: Entry) -> Result<Entry, SourceError> {
        if !matches!(entry.node, Node::File { .. }) {
            return Ok(entry);
        }
        let found = self.context.walk(&entry.path, &Everything);
        let found = found.map_err(|e| SourceError::read(&entry.path, e))?;
        // Gone since it was looked at.
        let found = found.into_iter().next();
        let mut found = found.ok_or(SourceError::Changed { path: entry.path.to_string() })?;
        self.set_mode(&mut found);
        Ok(found)
    }

    fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        self.context.open_file(path).map_err(|e| SourceError::read(path, e))
    }

    fn has_owners(&self) -> bool {
        false
    }

    fn why_missing(&self, path: &TreePath) -> Option<String> {
        let rule = self.rules.rules.get(self.matcher.decide_alone(path.as_bytes()).rule?)?;
        let there = self.context.stat_entry(path).ok()??;
        let directory = there.kind == FileKind::Directory;
        (self.keep(path, directory) != Keep::Yes).then(|| {
            let file = match self.rules.name.as_str() {
                "" => "the ignore file",
                name => name,
            };
            let sign = if rule.negated { "!" } else { "" };
            let (line, pattern) = (rule.line, format!("{sign}{}", rule.pattern));
            format!("line {line} of {file}, pattern {pattern:?}, excludes it")
        })
    }
}
