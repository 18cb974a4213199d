//! The ordered half of unpacking: what a layer leaves to the layers below it. Pure.
//!
//! - A directory that the layer has no entry for, only something in it, has the metadata it has
//!   below (BuildKit: `TestParentDirectoryPermission`); what is in it belongs behind the symbolic
//!   link that is there below, if one is (as when `bin/x` meets `bin -> usr/bin`).
//! - A hard link to a file below is a copy of it; several links to one file stay one file.
//! - In the lowest layer nothing can be gone.

use std::collections::{BTreeSet, HashMap};

use oci::layer::{Metadata, Node, Tree, TreePath};

use crate::staging::{Inode, Name, OnTheWay, Staging, Step, implied, resolve};
use crate::{Error, Result};

/// How often links that were moved behind links are looked at again.
const MAX_ROUNDS: usize = 40;

/// Puts an unpacked layer onto `tree`; returns what is to be done in its directory. The
/// metadata of directories has to be set after that: of all, since steps change their times.
///
/// # Errors
/// [`Error::Link`] for a hard link to nothing.
pub(crate) fn settle(staging: &mut Staging, tree: &Tree) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    hide_root(staging, tree, &mut steps);
    relocate(staging, tree, &mut steps)?;
    join_links(staging, tree, &mut steps)?;
    inherit(staging, tree);
    if tree.layers().is_empty() {
        drop_marks(staging, &mut steps);
    }
    Ok(steps)
}

/// Whether an ancestor of `path` in the layer hides what is below.
fn hidden(staging: &Staging, path: &TreePath) -> bool {
    let mut at = path.parent();
    while let Some(dir) = at.filter(|dir| !dir.is_root()) {
        match staging.names.get(&dir) {
            Some(Name::Directory { opaque: false, .. }) | None => {}
            Some(_) => return true,
        }
        at = dir.parent();
    }
    false
}

/// What is below at `path`, as seen through the layer: the layer's own entry is not regarded.
fn below<'a>(
    staging: &Staging,
    tree: &'a Tree,
    path: &TreePath,
) -> Option<(usize, &'a oci::layer::Entry)> {
    let found = tree.entry_with_layer(path)?;
    (!hidden(staging, path)).then_some(found)
}

/// A lookup in the layer and what is below it.
fn on_the_way(staging: &Staging, tree: &Tree, path: &TreePath) -> OnTheWay {
    let own = match staging.names.get(path) {
        // No more than a stand-in for what is below.
        Some(Name::Directory { meta: None, opaque: false }) | None => None,
        Some(_) => Some(staging.symlink(path)),
    };
    let target = own.unwrap_or_else(|| match &below(staging, tree, path)?.1.node {
        Node::Symlink { target } => Some(&target[..]),
        _ => None,
    });
    target.map_or(OnTheWay::Other, |target| OnTheWay::Symlink(target.into()))
}

/// An opaque root: everything below that the layer does not have is gone.
fn hide_root(staging: &mut Staging, tree: &Tree, steps: &mut Vec<Step>) {
    if !staging.opaque_root {
        return;
    }
    for entry in tree.children(&TreePath::root()) {
        match staging.names.get_mut(&entry.path) {
            None => {
                staging.names.insert(entry.path.clone(), Name::Whiteout);
                steps.push(Step::Whiteout(entry.path.clone()));
            }
            Some(Name::Directory { opaque, .. }) => {
                *opaque = true;
                steps.push(Step::Opaque(entry.path.clone()));
            }
            Some(_) => {}
        }
    }
}

/// Moves what is in stand-in directories to where the links below lead.
fn relocate(staging: &mut Staging, tree: &Tree, steps: &mut Vec<Step>) -> Result<()> {
    if tree.layers().is_empty() {
        return Ok(());
    }
    // A round removes the stand-ins that cover links, and makes none that does: where links lead
    // is resolved. Only what was moved itself can need another round.
    for _ in 0..MAX_ROUNDS {
        let covered = covered_links(staging, tree);
        if covered.is_empty() {
            break;
        }
        for (from, to) in covered {
            let inside = staging.names.range(from.clone()..).skip(1);
            let inside = inside.take_while(|(path, _)| path.starts_with(&from));
            let moved: Vec<(TreePath, Name)> =
                inside.map(|(path, name)| (path.clone(), name.clone())).collect();
            staging.make_directories(&to, steps)?;
            for (path, name) in moved {
                let Some(rest) = path.strip_prefix(&from) else { continue };
                move_name(staging, &path, name, to.join(&rest)?, steps);
            }
            staging.clear(&from, steps);
        }
    }
    Ok(())
}

/// The stand-in directories that cover a symbolic link below, and where those lead.
fn covered_links(staging: &Staging, tree: &Tree) -> Vec<(TreePath, TreePath)> {
    let covered = staging.names.iter().filter_map(|(path, name)| {
        if !matches!(name, Name::Directory { meta: None, opaque: false }) {
            return None;
        }
        let (_, entry) = below(staging, tree, path)?;
        if !matches!(entry.node, Node::Symlink { .. }) {
            return None;
        }
        // A link that leads nowhere is replaced by the directory.
        let to = resolve(path, &|path| on_the_way(staging, tree, path)).ok()?;
        (!to.is_root() && !to.starts_with(path)).then(|| (path.clone(), to))
    });
    covered.collect()
}

fn move_name(
    staging: &mut Staging,
    from: &TreePath,
    name: Name,
    to: TreePath,
    steps: &mut Vec<Step>,
) {
    if let Name::Directory { meta, opaque } = name {
        if !matches!(staging.names.get(&to), Some(Name::Directory { .. })) {
            staging.clear(&to, steps);
            steps.push(Step::Mkdir(to.clone()));
            staging.names.insert(to.clone(), Name::Directory { meta: None, opaque: false });
        }
        if let Some(Name::Directory { meta: there, opaque: hides }) = staging.names.get_mut(&to) {
            *there = meta.or(there.take());
            if opaque && !*hides {
                *hides = true;
                steps.push(Step::Opaque(to));
            }
        }
        return;
    }
    if name == Name::Whiteout && staging.names.contains_key(&to) {
        return;
    }
    staging.clear(&to, steps);
    match name {
        Name::Whiteout => steps.push(Step::Whiteout(to.clone())),
        // On disk there is nothing yet.
        Name::Link { .. } => {}
        _ => steps.push(Step::Move { from: from.clone(), to: to.clone() }),
    }
    staging.names.insert(to, name);
}

/// Gives every link that waits for its target a file.
fn join_links(staging: &mut Staging, tree: &Tree, steps: &mut Vec<Step>) -> Result<()> {
    let mut waiting: Vec<(TreePath, TreePath)> = staging.links().collect();
    let mut adopted = HashMap::new();
    // A link may wait for another one: each round has to get somewhere.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut still = Vec::new();
        for (path, target) in waiting {
            if !join_link(staging, tree, (&path, &target), &mut adopted, steps)? {
                still.push((path, target));
            }
        }
        if still.len() == before {
            let (path, target) = still.swap_remove(0);
            return Err(Error::Link { path, target, reason: "it does not exist" });
        }
        waiting = still;
    }
    Ok(())
}

/// Whether the link has a file now. `adopted`: the first name here of each file from below.
fn join_link(
    staging: &mut Staging,
    tree: &Tree,
    (path, target): (&TreePath, &TreePath),
    adopted: &mut HashMap<TreePath, TreePath>,
    steps: &mut Vec<Step>,
) -> Result<bool> {
    let fail = |reason| Error::Link { path: path.clone(), target: target.clone(), reason };
    let parent = target.parent().unwrap_or_default();
    let parent = resolve(&parent, &|path| on_the_way(staging, tree, path))?;
    let mut existing = parent.child(target.file_name().unwrap_or_default())?;
    match staging.names.get(&existing) {
        Some(Name::Link { .. }) => return Ok(false),
        Some(Name::Directory { .. }) => return Err(fail("a directory has one name")),
        Some(Name::Inode(_)) => {}
        Some(Name::Whiteout) | None => {
            if let Some(first) = adopted.get(&existing) {
                existing = first.clone();
            }
        }
    }
    if let Some(Name::Inode(inode)) = staging.names.get(&existing) {
        let name = Name::Inode(*inode);
        steps.push(Step::Link { existing, path: path.clone() });
        staging.names.insert(path.clone(), name);
        return Ok(true);
    }
    let Some((layer, entry)) = below(staging, tree, &existing) else { return Ok(false) };
    let data = tree.content_of(layer, entry).ok_or_else(|| fail("its content is missing"))?;
    if data.is_directory() {
        return Err(fail("a directory has one name"));
    }
    let name = Name::Inode(staging.inodes.len());
    staging.inodes.push(Inode { node: data.node.clone(), meta: data.meta.clone() });
    steps.push(Step::CopyUp { layer, source: data.path.clone(), to: path.clone() });
    staging.names.insert(path.clone(), name);
    adopted.insert(existing, path.clone());
    Ok(true)
}

/// Gives stand-in directories the metadata that they have below. They are no part of the layer
/// then, unless they hide something.
fn inherit(staging: &mut Staging, tree: &Tree) {
    let stand_ins: Vec<(TreePath, Option<Metadata>)> = staging
        .names
        .iter()
        .filter(|(_, name)| matches!(name, Name::Directory { meta: None, .. }))
        .map(|(path, _)| {
            let found = below(staging, tree, path).map(|(_, entry)| entry);
            let found = found.filter(|entry| entry.is_directory());
            (path.clone(), found.map(|entry| entry.meta.clone()))
        })
        .collect();
    for (path, inherited) in stand_ins {
        if let Some(Name::Directory { meta, opaque }) = staging.names.get_mut(&path) {
            if inherited.is_some() && !*opaque {
                staging.silent.insert(path);
            }
            *meta = Some(inherited.unwrap_or_else(implied));
        }
    }
}

/// Takes off whiteouts and opaque marks.
fn drop_marks(staging: &mut Staging, steps: &mut Vec<Step>) {
    let mut gone = BTreeSet::new();
    for (path, name) in &mut staging.names {
        match name {
            Name::Whiteout => {
                steps.push(Step::Remove(path.clone()));
                gone.insert(path.clone());
            }
            Name::Directory { opaque: opaque @ true, .. } => {
                *opaque = false;
                steps.push(Step::Transparent(path.clone()));
            }
            _ => {}
        }
    }
    staging.names.retain(|path, _| !gone.contains(path));
}

#[cfg(test)]
mod tests;
