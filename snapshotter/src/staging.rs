//! What a layer's tar makes of an empty directory: a small file system in memory, which says
//! for each entry what to do on disk. Pure.
//!
//! Entries come in any order and may replace each other (the later one wins). Names lead through
//! symbolic links that the same layer made, inside the root; the paths in the steps are already
//! free of links. Links into lower layers are looked at later, see [`crate::settle`].

use std::collections::{BTreeMap, BTreeSet};

use oci::layer::{Entry, LayerManifest, Metadata, Node, TreePath};

use crate::{Error, Result};

/// How many symbolic links are followed for one path, as in Linux.
const MAX_SYMLINKS: usize = 40;

/// The names and files of a layer that is being unpacked.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    pub(crate) names: BTreeMap<TreePath, Name>,
    pub(crate) inodes: Vec<Inode>,
    /// Of the layers below nothing is seen.
    pub(crate) opaque_root: bool,
    /// Directories that are on disk as they are below, and not in the layer.
    pub(crate) silent: BTreeSet<TreePath>,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A directory; without metadata if it was made only because something is in it.
    Directory { meta: Option<Metadata>, opaque: bool },
    /// The file of this index.
    Inode(usize),
    /// A hard link to something that is not in this layer so far. Not on disk.
    Link { target: TreePath },
    /// The lower layers' entry is gone.
    Whiteout,
}

/// Everything but a directory.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) node: Node,
    pub(crate) meta: Metadata,
}

/// What to do on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Remove it with all that is in it.
    Remove(TreePath),
    /// Make a directory.
    Mkdir(TreePath),
    /// Mark a directory as hiding what is below.
    Opaque(TreePath),
    /// Take that mark off.
    Transparent(TreePath),
    /// Put a whiteout there.
    Whiteout(TreePath),
    /// Give a file a further name.
    Link { existing: TreePath, path: TreePath },
    /// Move something to where nothing is.
    Move { from: TreePath, to: TreePath },
    /// Copy the file `source` of the layer with this index in the tree.
    CopyUp { layer: usize, source: TreePath, to: TreePath },
}

/// What a lookup on the way of a path finds.
pub(crate) enum OnTheWay {
    /// A symbolic link with this text.
    Symlink(Box<[u8]>),
    /// Anything else, or nothing.
    Other,
}

/// The metadata of a directory that no layer has an entry for. Owner and time are zero, so that
/// a layer means the same wherever it is unpacked.
pub(crate) fn implied() -> Metadata {
    Metadata { mode: 0o755, ..Metadata::default() }
}

/// Follows the links on the way to `path`, its last component included. What does not exist is
/// passed through.
///
/// # Errors
/// Too many links, or a path that gets too long.
pub(crate) fn resolve(path: &TreePath, lookup: &dyn Fn(&TreePath) -> OnTheWay) -> Result<TreePath> {
    let components = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|b| *b == b'/').rev();
        parts.filter(|c| !matches!(*c, b"" | b".")).map(<[u8]>::to_vec).collect()
    };
    let mut todo = components(path.as_bytes());
    let mut at = TreePath::root();
    let mut links = 0;
    while let Some(component) = todo.pop() {
        if component == b".." {
            at = at.parent().unwrap_or_default();
            continue;
        }
        let next = at.child(&component)?;
        match lookup(&next) {
            OnTheWay::Other => at = next,
            OnTheWay::Symlink(target) => {
                links += 1;
                if links > MAX_SYMLINKS {
                    let reason = "too many symbolic links on the way";
                    return Err(Error::Refused { path: path.clone(), reason });
                }
                if target.first() == Some(&b'/') {
                    at = TreePath::root();
                }
                todo.extend(components(&target));
            }
        }
    }
    Ok(at)
}

impl Staging {
    fn on_the_way(&self, path: &TreePath) -> OnTheWay {
        match self.symlink(path) {
            Some(target) => OnTheWay::Symlink(target.into()),
            None => OnTheWay::Other,
        }
    }

    /// The text of the symbolic link at `path`.
    pub(crate) fn symlink(&self, path: &TreePath) -> Option<&[u8]> {
        match self.names.get(path)? {
            Name::Inode(inode) => match &self.inodes[*inode].node {
                Node::Symlink { target } => Some(target),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where the entry of this name belongs: the links on the way followed, not the last one.
    /// None for the root.
    fn place(&self, path: &TreePath) -> Result<Option<TreePath>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let parent = resolve(&parent, &|path| self.on_the_way(path))?;
        Ok(Some(parent.child(name)?))
    }

    /// Makes every directory on the way to `path`, and itself, that is not there; what is in the
    /// way is replaced. `path` is free of links.
    pub(crate) fn make_directories(
        &mut self,
        path: &TreePath,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let mut at = TreePath::root();
        for component in path.components() {
            at = at.child(component)?;
            if !matches!(self.names.get(&at), Some(Name::Directory { .. })) {
                self.put_directory(&at, None, steps);
            }
        }
        Ok(())
    }

    /// A new directory in place of what is not one. What the layer had there before, a whiteout
    /// or a file, did away with the lower directory of that name.
    fn put_directory(&mut self, path: &TreePath, meta: Option<Metadata>, steps: &mut Vec<Step>) {
        let opaque = self.names.contains_key(path);
        self.clear(path, steps);
        steps.push(Step::Mkdir(path.clone()));
        if opaque {
            steps.push(Step::Opaque(path.clone()));
        }
        let meta = if opaque { Some(meta.unwrap_or_else(implied)) } else { meta };
        self.names.insert(path.clone(), Name::Directory { meta, opaque });
    }

    /// Takes `path` and all below it away.
    pub(crate) fn clear(&mut self, path: &TreePath, steps: &mut Vec<Step>) {
        let Some(name) = self.names.get(path) else { return };
        if !matches!(name, Name::Link { .. }) {
            steps.push(Step::Remove(path.clone()));
        }
        let below = self.names.range(path.clone()..).take_while(|(p, _)| p.starts_with(path));
        let below: Vec<TreePath> = below.map(|(p, _)| p.clone()).collect();
        for path in below {
            self.names.remove(&path);
        }
    }

    /// Room for an entry that is not a directory, at the path returned; none for the root.
    fn room(&mut self, path: &TreePath, steps: &mut Vec<Step>) -> Result<Option<TreePath>> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        self.make_directories(&place.parent().unwrap_or_default(), steps)?;
        self.clear(&place, steps);
        Ok(Some(place))
    }

    /// A directory with metadata; an entry for the root is passed over.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn directory(&mut self, path: &TreePath, meta: Metadata) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let Some(place) = self.place(path)? else { return Ok(steps) };
        self.make_directories(&place.parent().unwrap_or_default(), &mut steps)?;
        match self.names.get_mut(&place) {
            Some(Name::Directory { meta: old, .. }) => *old = Some(meta),
            _ => self.put_directory(&place, Some(meta), &mut steps),
        }
        Ok(steps)
    }

    /// A file, link or node: where it goes, and its index. None for the root.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn other(
        &mut self,
        path: &TreePath,
        node: Node,
        meta: Metadata,
        steps: &mut Vec<Step>,
    ) -> Result<Option<(TreePath, usize)>> {
        let Some(place) = self.room(path, steps)? else { return Ok(None) };
        let inode = self.inodes.len();
        self.inodes.push(Inode { node, meta });
        self.names.insert(place.clone(), Name::Inode(inode));
        Ok(Some((place, inode)))
    }

    /// A hard link.
    ///
    /// # Errors
    /// As [`resolve`]; [`Error::Link`] if it leads to a directory or to what it replaces.
    pub(crate) fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let fail = |reason| Error::Link { path: path.clone(), target: target.clone(), reason };
        let existing = self.place(target)?.ok_or_else(|| fail("a directory has one name"))?;
        if self.place(path)?.as_ref() == Some(&existing) {
            return match self.names.get(&existing) {
                Some(Name::Inode(_)) => Ok(steps),
                _ => Err(fail("it is itself")),
            };
        }
        let Some(place) = self.room(path, &mut steps)? else { return Ok(steps) };
        let name = match self.names.get(&existing) {
            Some(Name::Inode(inode)) => {
                steps.push(Step::Link { existing, path: place.clone() });
                Name::Inode(*inode)
            }
            Some(Name::Directory { .. }) => return Err(fail("a directory has one name")),
            _ if existing.starts_with(&place) => return Err(fail("the link replaces it")),
            Some(Name::Link { .. } | Name::Whiteout) | None => Name::Link { target: existing },
        };
        self.names.insert(place, name);
        Ok(steps)
    }

    /// What lower layers have at `path` is gone.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn whiteout(&mut self, path: &TreePath) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let Some(place) = self.place(path)? else { return Ok(steps) };
        match self.names.get_mut(&place) {
            // It hides the lower directory, not this one (OCI image-spec, layer.md: entries "can
            // only be hidden by whiteout files in subsequent layers").
            Some(Name::Directory { opaque, meta }) => {
                *opaque = true;
                meta.get_or_insert_with(implied);
                steps.push(Step::Opaque(place));
            }
            // Of the same layer: it takes the place of the lower one anyway.
            Some(_) => {}
            None => {
                self.make_directories(&place.parent().unwrap_or_default(), &mut steps)?;
                steps.push(Step::Whiteout(place.clone()));
                self.names.insert(place, Name::Whiteout);
            }
        }
        Ok(steps)
    }

    /// What lower layers have in the directory `path` is gone, whatever comes before or after.
    ///
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn opaque(&mut self, path: &TreePath) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let place = resolve(path, &|path| self.on_the_way(path))?;
        if place.is_root() {
            // No mark for that on disk: see `settle`.
            self.opaque_root = true;
            return Ok(steps);
        }
        self.make_directories(&place, &mut steps)?;
        if let Some(Name::Directory { opaque, .. }) = self.names.get_mut(&place)
            && !*opaque
        {
            *opaque = true;
            steps.push(Step::Opaque(place));
        }
        Ok(steps)
    }

    /// The directories whose metadata is known.
    pub(crate) fn explicit_directories(&self) -> impl Iterator<Item = (&TreePath, &Metadata)> {
        self.names.iter().filter_map(|(path, name)| match name {
            Name::Directory { meta: Some(meta), .. } => Some((path, meta)),
            _ => None,
        })
    }

    /// The links that wait for their target, and what they name.
    pub(crate) fn links(&self) -> impl Iterator<Item = (TreePath, TreePath)> {
        self.names.iter().filter_map(|(path, name)| match name {
            Name::Link { target } => Some((path.clone(), target.clone())),
            _ => None,
        })
    }

    /// The layer. Every directory has metadata by now, and every link leads somewhere.
    pub(crate) fn manifest(&self) -> LayerManifest {
        let mut first: Vec<Option<&TreePath>> = vec![None; self.inodes.len()];
        let mut entries = Vec::with_capacity(self.names.len());
        for (path, name) in &self.names {
            let (node, meta) = match name {
                Name::Directory { .. } if self.silent.contains(path) => continue,
                Name::Directory { meta, opaque } => {
                    (Node::Directory { opaque: *opaque }, meta.clone().unwrap_or_default())
                }
                Name::Inode(inode) => {
                    let Inode { node, meta } = &self.inodes[*inode];
                    // Only of files it matters that they are the same.
                    let target = first[*inode].filter(|_| matches!(node, Node::File { .. }));
                    first[*inode].get_or_insert(path);
                    let link = target.map(|target| Node::HardLink { target: target.clone() });
                    (link.unwrap_or_else(|| node.clone()), meta.clone())
                }
                Name::Link { target } => {
                    (Node::HardLink { target: target.clone() }, Metadata::default())
                }
                Name::Whiteout => (Node::Whiteout, Metadata::default()),
            };
            entries.push(Entry { path: path.clone(), node, meta });
        }
        LayerManifest::new(entries)
    }
}

#[cfg(test)]
mod tests;
