//! What a COPY or ADD selects: from paths and wildcards to the exact entries, and their digest.

use graph::pattern::{self, Glob};
use oci::layer::{Entry, LayerManifest, Node, TreePath};

use super::source::{Keep, SourceError, SourceTree, resolve};

/// One thing that is copied: a file, or a directory with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The position of the path or wildcard that selected it.
    pub argument: usize,
    /// The path that it gets inside a directory: its own name, or with `--parents` the path from
    /// the pivot.
    pub name: TreePath,
    /// Where it is in the source, links followed.
    pub source: TreePath,
    /// What it is.
    pub kind: Kind,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One entry that is no directory, with its path in the source.
    Single(Entry),
    /// The contents of a directory; paths relative to it, links rewritten to stay inside.
    Contents(Vec<Entry>),
    /// Entries that are recreated with their parents below the destination (`--parents`); paths
    /// relative to the pivot.
    Tree(Vec<Entry>),
}

/// What is asked for.
pub struct Request<'a> {
    /// The paths and wildcards, in order.
    pub paths: &'a [String],
    /// `--exclude`.
    pub exclude: &'a [String],
    /// `--parents`.
    pub parents: bool,
    /// What the tree is called in errors, such as "the build context".
    pub tree: &'a str,
}

/// Finds everything that `request` selects, in order.
///
/// # Errors
/// If a path without wildcards is not there, a pattern is invalid, or the tree cannot be read.
pub fn select(tree: &dyn SourceTree, request: &Request<'_>) -> Result<Vec<Selected>, SourceError> {
    let exclude = Exclude::new(request.exclude)?;
    let mut out = Vec::new();
    for (argument, path) in request.paths.iter().enumerate() {
        let first = out.len();
        if request.parents {
            out.extend(select_with_parents(tree, path, &exclude, request.tree)?);
        } else if pattern::is_wildcard(path) {
            for found in expand(tree, path)? {
                if exclude.leaves_out_named(&found) {
                    continue;
                }
                match select_one(tree, &found, &exclude) {
                    // It was there: what is not is where the link leads.
                    Ok(None) => return Err(dangling(&found, request.tree)),
                    other => out.extend(other?),
                }
            }
        } else {
            let clean = clean(path)?;
            match select_one(tree, &clean, &exclude)? {
                Some(selected) => out.push(selected),
                None => return Err(not_found(tree, path, &clean, request.tree)),
            }
        }
        out[first..].iter_mut().for_each(|s: &mut Selected| s.argument = argument);
    }
    Ok(out)
}

/// Selects one path, taken as it stands: a file, or a directory with its contents. Links are
/// followed inside `tree`, which is called `name` in errors.
///
/// # Errors
/// If it is not there, or the tree cannot be read.
pub fn select_path(tree: &dyn SourceTree, path: &str, name: &str) -> Result<Selected, SourceError> {
    let clean = clean(path)?;
    let selected = select_one(tree, &clean, &Exclude(Vec::new()))?;
    selected.ok_or_else(|| not_found(tree, path, &clean, name))
}

/// The digest of a selection: names, kinds, modes, owners, contents, links; never times, nor the
/// metadata of a directory of which only the contents are copied.
pub fn digest(selection: &[Selected]) -> String {
    let mut hasher = blake3::Hasher::new();
    for selected in selection {
        let name = selected.name.as_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        let (tag, entries) = match &selected.kind {
            Kind::Single(entry) => (1u8, vec![entry.clone()]),
            Kind::Contents(entries) => (2, entries.clone()),
            Kind::Tree(entries) => (3, entries.clone()),
        };
        hasher.update(&[tag]);
        let entries = entries.into_iter().map(|mut e| {
            if tag == 1 {
                // Where a single file stands is not what it is.
                e.path = TreePath::clean(b"file").unwrap_or_default();
            }
            e
        });
        hasher.update(&LayerManifest::new(entries.collect()).diff_digest());
    }
    hasher.finalize().to_hex().to_string()
}

/// A link that a wildcard matched and that leads nowhere.
fn dangling(link: &TreePath, tree: &str) -> SourceError {
    SourceError::NotFound {
        path: link.to_string(),
        tree: tree.to_owned(),
        reason: Some("it is a symbolic link that leads nowhere".to_owned()),
        near: None,
    }
}

fn not_found(tree: &dyn SourceTree, path: &str, clean: &TreePath, name: &str) -> SourceError {
    let reason = tree.why_missing(clean);
    let near = if reason.is_none() { near(tree, clean) } else { None };
    let near = near.map(|near| if path.starts_with('/') { format!("/{near}") } else { near });
    SourceError::NotFound { path: path.to_owned(), tree: name.to_owned(), reason, near }
}

/// A path that is there and differs from `missing` in one component, which was mistyped perhaps.
fn near(tree: &dyn SourceTree, missing: &TreePath) -> Option<String> {
    let mut dir = TreePath::root();
    let mut components = missing.components();
    let mistyped = components.find(|name| match dir.child(name) {
        Ok(next) if matches!(tree.entry(&next), Ok(Some(_))) => {
            dir = next;
            false
        }
        _ => true,
    })?;
    let entries = tree.list(&dir).ok()?;
    let names = entries.iter().filter_map(|e| std::str::from_utf8(e.path.file_name()?).ok());
    let name = graph::nearest(std::str::from_utf8(mistyped).ok()?, names)?;
    let rest =
        components.try_fold(dir.child(name.as_bytes()).ok()?, |path, c| path.child(c)).ok()?;
    tree.entry(&rest).ok()??;
    Some(rest.to_string().trim_start_matches('/').to_owned())
}

fn clean(path: &str) -> Result<TreePath, SourceError> {
    TreePath::clean(path.as_bytes())
        .map_err(|e| SourceError::Read { path: path.to_owned(), source: Box::new(e) })
}

/// One path without wildcards; links are followed, at its end too.
fn select_one(
    tree: &dyn SourceTree,
    path: &TreePath,
    exclude: &Exclude,
) -> Result<Option<Selected>, SourceError> {
    let Some((source, entry)) = resolve(tree, path, true)? else { return Ok(None) };
    let kind = match entry {
        Some(entry) if !matches!(entry.node, Node::Directory { .. }) => {
            Kind::Single(tree.hashed(entry)?)
        }
        _ => {
            let entries =
                tree.walk(&source, &|relative, directory| exclude.keep(relative, directory))?;
            Kind::Contents(relocate(&source, entries))
        }
    };
    let name = path.file_name().map(TreePath::clean).and_then(Result::ok).unwrap_or_default();
    Ok(Some(Selected { argument: 0, name, source, kind }))
}

/// Makes the paths of entries below `source` relative to it.
fn relocate(source: &TreePath, entries: Vec<Entry>) -> Vec<Entry> {
    let relative = |path: &TreePath| path.strip_prefix(source).unwrap_or_default();
    let mut entries = entries;
    for entry in &mut entries {
        entry.path = relative(&entry.path);
        if let Node::HardLink { target } = &mut entry.node {
            *target = relative(target);
        }
    }
    entries
}

/// The paths that a wildcard matches, sorted. The part before the first wildcard follows
/// symbolic links, the part after it does not (fsutil: `copy.ResolveWildcards`).
fn expand(tree: &dyn SourceTree, path: &str) -> Result<Vec<TreePath>, SourceError> {
    let cleaned = clean(path)?;
    let text = String::from_utf8_lossy(cleaned.as_bytes());
    let components: Vec<&str> = text.split('/').collect();
    let fixed = components.iter().take_while(|c| !pattern::is_wildcard(c)).count();
    let prefix = clean(&components[..fixed].join("/"))?;
    let Some((start, entry)) = resolve(tree, &prefix, true)? else { return Ok(Vec::new()) };
    if entry.as_ref().is_some_and(|e| !matches!(e.node, Node::Directory { .. })) {
        return Ok(Vec::new());
    }
    let mut level = vec![start];
    for (at, component) in components.iter().enumerate().skip(fixed) {
        let glob = Glob::new(component)
            .map_err(|source| SourceError::Pattern { pattern: path.to_owned(), source })?;
        let last = at + 1 == components.len();
        let mut next = Vec::new();
        for dir in &level {
            for entry in tree.list(dir)? {
                let name = entry.path.file_name().unwrap_or_default();
                let enter = last || matches!(entry.node, Node::Directory { .. });
                if enter && glob.matches(name) {
                    next.push(entry.path);
                }
            }
        }
        level = next;
    }
    Ok(level)
}

/// `--parents`: what is before `/./` is dropped, the rest is recreated; `**` spans directories in
/// the rest. Only a path without wildcards has to be there.
fn select_with_parents(
    tree: &dyn SourceTree,
    path: &str,
    exclude: &Exclude,
    tree_name: &str,
) -> Result<Vec<Selected>, SourceError> {
    let (pivot, rest) = match path.split_once("/./") {
        Some((pivot, rest)) => (pivot, rest),
        None => ("", path),
    };
    let rest = clean(rest)?;
    if pattern::is_wildcard(pivot) {
        let mut found = Vec::new();
        for pivot in expand(tree, pivot)? {
            match resolve(tree, &pivot, true)? {
                None => return Err(dangling(&pivot, tree_name)),
                Some((source, None | Some(Entry { node: Node::Directory { .. }, .. }))) => {
                    found.push(select_below(tree, source, &rest, path, exclude)?);
                }
                Some(_) => {}
            }
        }
        return Ok(found);
    }
    let pivot = clean(pivot)?;
    let Some((source, _)) = resolve(tree, &pivot, true)? else {
        return Err(not_found(tree, path, &pivot, tree_name));
    };
    if !pattern::is_wildcard(&String::from_utf8_lossy(rest.as_bytes())) {
        let full = source.join(&rest).map_err(|e| SourceError::read(&rest, e))?;
        if resolve(tree, &full, false)?.is_none() {
            return Err(not_found(tree, path, &full, tree_name));
        }
    }
    Ok(vec![select_below(tree, source, &rest, path, exclude)?])
}

/// What of the directory `source` is at `rest` or matches it, with the directories on the way.
/// The instruction says `path`.
fn select_below(
    tree: &dyn SourceTree,
    source: TreePath,
    rest: &TreePath,
    path: &str,
    exclude: &Exclude,
) -> Result<Selected, SourceError> {
    let text = String::from_utf8_lossy(rest.as_bytes()).into_owned();
    let wildcard = pattern::is_wildcard(&text);
    let glob = Glob::with_double_star(&text)
        .map_err(|source| SourceError::Pattern { pattern: path.to_owned(), source })?;
    let matches = |relative: &TreePath| {
        rest.is_root()
            || if wildcard { glob.matches(relative.as_bytes()) } else { *relative == *rest }
    };
    let entries = tree.walk(&source, &|relative, directory| {
        if exclude.keep(relative, directory) == Keep::No {
            return Keep::No;
        }
        match (self_and_parents(relative).any(|p| matches(&p)), directory) {
            (true, _) => Keep::Yes,
            // A plain path is followed down its own parents only.
            (false, true) if wildcard || rest.starts_with(relative) => Keep::IfSomethingBelow,
            (false, _) => Keep::No,
        }
    })?;
    let entries = relocate(&source, entries);
    Ok(Selected { argument: 0, name: TreePath::root(), source, kind: Kind::Tree(entries) })
}

/// A path and every directory above it, less the root.
fn self_and_parents(path: &TreePath) -> impl Iterator<Item = TreePath> {
    let not_root = |p: &TreePath| !p.is_root();
    std::iter::successors(Some(path.clone()).filter(not_root), move |p| p.parent().filter(not_root))
}

/// `--exclude`: patterns relative to each source directory, the last match wins.
struct Exclude(Vec<(Glob, bool)>);

impl Exclude {
    fn new(patterns: &[String]) -> Result<Self, SourceError> {
        let compile = |text: &String| {
            let (negated, pattern) = match text.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, text.as_str()),
            };
            let cleaned = clean(pattern)?;
            let glob = Glob::with_double_star(&String::from_utf8_lossy(cleaned.as_bytes()))
                .map_err(|source| SourceError::Pattern { pattern: text.clone(), source })?;
            Ok((glob, negated))
        };
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    fn keep(&self, relative: &TreePath, directory: bool) -> Keep {
        if self.0.is_empty() {
            return Keep::Yes;
        }
        let mut out = false;
        for (glob, negated) in &self.0 {
            // A pattern matches the path or any directory above it.
            if self_and_parents(relative).any(|p| glob.matches(p.as_bytes())) {
                out = !negated;
            }
        }
        match out {
            false => Keep::Yes,
            true if directory && self.0.iter().any(|(_, negated)| *negated) => {
                Keep::IfSomethingBelow
            }
            true => Keep::No,
        }
    }

    /// Whether a path that a wildcard named is left out itself.
    fn leaves_out_named(&self, path: &TreePath) -> bool {
        let name = path.file_name().map(TreePath::clean).and_then(Result::ok);
        name.is_some_and(|name| self.keep(&name, false) == Keep::No)
    }
}
