//! Every kind of file of a state directory, what its damage may cost, and whether it is told.

use std::fs;
use std::path::{Path, PathBuf};

/// What is damaged, and what that may cost.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The files, below the state directory: `*` stands for any part of a name, `**` for all that is
    /// below.
    pub(crate) paths: &'static [&'static str],
    /// Words of the steps that may run again. Others must not.
    pub(crate) may_run: &'static [&'static str],
    /// Whether a line has to tell, even where nothing ran again.
    pub(crate) told: bool,
    /// Whether layers are written anew: else the blobs of all are there and nobody reads what
    /// they were made of.
    pub(crate) without_blobs: bool,
    /// Files of this kind that a killed process could have left.
    pub(crate) planted: &'static [(&'static str, &'static str)],
}

const KIND: Kind =
    Kind { name: "", paths: &[], may_run: &[], told: false, without_blobs: false, planted: &[] };

const ALL: &[&str] =
    &["first", "COPY a sub", "deep", "WORKDIR", "--from=made", "--link", "third", "ADD"];
/// The steps after the second one of the first stage, and what is copied from there.
const UPPER: &[&str] = &["deep", "--from=made", "third", "ADD"];

pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "format", paths: &["format"], told: true, ..KIND },
    Kind { name: "owner's ids", paths: &["ids"], ..KIND },
    Kind { name: "ledger", paths: &["ledger"], ..KIND },
    Kind { name: "generation", paths: &["generation"], ..KIND },
    Kind { name: "watermark", paths: &["watermark"], ..KIND },
    Kind {
        name: "kind of snapshots",
        paths: &["snapshots-v1/kind"],
        may_run: ALL,
        told: true,
        ..KIND
    },
    Kind {
        name: "records: CURRENT",
        paths: &["records-v1/CURRENT"],
        may_run: ALL,
        told: true,
        ..KIND
    },
    Kind { name: "records: MANIFEST", paths: &["records-v1/MANIFEST-*"], may_run: ALL, ..KIND },
    Kind { name: "records: tables", paths: &["records-v1/*.sst"], may_run: ALL, ..KIND },
    Kind { name: "records: log", paths: &["records-v1/*.log"], ..KIND },
    Kind {
        name: "records: others",
        paths: &["records-v1/OPTIONS-*", "records-v1/IDENTITY", "records-v1/LOCK"],
        ..KIND
    },
    Kind {
        name: "published record",
        paths: &["done/*"],
        told: true,
        planted: &[(
            "done/5555555555555555555555555555555555555555555555555555555555555555",
            "DDV1 and so on, which is long enough to be a frame",
        )],
        ..KIND
    },
    Kind { name: "blobs", paths: &["blobs-v1/sha256/*"], ..KIND },
    Kind { name: "image names", paths: &["images-v1/name-*"], told: true, ..KIND },
    Kind { name: "images without a name", paths: &["images-v1/none-*"], ..KIND },
    Kind { name: "pulled images", paths: &["images-v1/digest-*"], ..KIND },
    Kind { name: "context index", paths: &["context-v1/*"], told: true, ..KIND },
    Kind { name: "uses", paths: &["used/*"], ..KIND },
    Kind {
        name: "history",
        paths: &["history-v1/lines/*", "history-v1/selections/*", "history-v1/builds/*"],
        ..KIND
    },
    Kind { name: "what was evicted", paths: &["history-v1/evicted"], ..KIND },
    Kind { name: "build logs", paths: &["builds-v1/*/journal", "builds-v1/*/*.log"], ..KIND },
    Kind {
        name: "cache mount",
        paths: &[
            "mounts-v1/*/name",
            "mounts-v1/*/purpose",
            "mounts-v1/*/choice",
            "mounts-v1/*/*.lock",
        ],
        ..KIND
    },
    Kind { name: "content of a cache mount", paths: &["mounts-v1/*/0/**"], ..KIND },
    Kind {
        name: "git repository",
        paths: &["git-v1/*.lock", "git-v1/*.name", "git-v1/*/**"],
        ..KIND
    },
    Kind { name: "locks", paths: &["locks/*"], ..KIND },
    Kind {
        name: "lease",
        paths: &["leases/*"],
        planted: &[(
            "leases/0123456789abcdef",
            "+snapshot 0123456789abcdef\n+in-progress fedcba9876543210\n",
        )],
        ..KIND
    },
    Kind {
        name: "part of a download",
        paths: &["inflight/*"],
        planted: &[(
            "inflight/blob-7777777777777777777777777777777777777777777777777777777777777777",
            "a part",
        )],
        ..KIND
    },
    Kind {
        name: "trash",
        paths: &["trash/*"],
        planted: &[("trash/0123456789abcdef-0", "what was taken out of use")],
        ..KIND
    },
    Kind { name: "snapshot: size", paths: &["snapshots-v1/*/disk"], ..KIND },
    Kind {
        name: "snapshot: meta",
        paths: &["snapshots-v1/*/meta"],
        may_run: ALL,
        told: true,
        ..KIND
    },
    Kind { name: "snapshot: manifest", paths: &["snapshots-v1/*/manifest"], may_run: ALL, ..KIND },
    Kind {
        name: "snapshot: manifest, layers written",
        paths: &["snapshots-v1/*/manifest"],
        may_run: ALL,
        without_blobs: true,
        ..KIND
    },
    Kind {
        name: "snapshot: upper file",
        paths: &["snapshots-v1/*/fs/m/deep/file"],
        may_run: UPPER,
        without_blobs: true,
        ..KIND
    },
    Kind {
        name: "snapshot: file of the image",
        paths: &["snapshots-v1/*/fs/third"],
        may_run: &["third", "ADD"],
        told: true,
        without_blobs: true,
        ..KIND
    },
    Kind {
        name: "snapshot: linked file of the image",
        paths: &["snapshots-v1/*/fs/b"],
        may_run: &["--link", "third", "ADD"],
        told: true,
        without_blobs: true,
        ..KIND
    },
    Kind {
        name: "snapshot: copied file of the image",
        paths: &["snapshots-v1/*/fs/m/second"],
        may_run: &["deep", "--from=made", "--link", "third", "ADD"],
        without_blobs: true,
        ..KIND
    },
    Kind {
        name: "snapshot: any file",
        paths: &["snapshots-v1/*/fs/**"],
        may_run: ALL,
        without_blobs: true,
        ..KIND
    },
];

/// What nobody removes alone: a missing one is told as well.
pub(crate) const NEVER_ALONE: [&str; 1] = ["snapshot: meta"];

/// Of which there may be no file.
pub(crate) const MAY_BE_NONE: [&str; 2] = ["owner's ids", "pulled images"];

impl Kind {
    /// The files of this kind, after what is planted.
    pub(crate) fn files(&self, state: &Path) -> Vec<PathBuf> {
        for (path, text) in self.planted {
            fs::write(state.join(path), text).unwrap();
        }
        let mut files = below(state);
        files.retain(|path| self.covers(path.strip_prefix(state).unwrap()) && counts(path));
        files
    }

    /// Whether the file at `path`, below the state directory, is of this kind.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap_or("?")).collect();
        let fits = |pattern: &&str| {
            let parts: Vec<&str> = pattern.split('/').collect();
            match parts.split_last() {
                Some((&"**", dirs)) => {
                    names.len() > dirs.len() && dirs.iter().zip(&names).all(|(p, n)| is_like(p, n))
                }
                _ => {
                    names.len() == parts.len()
                        && parts.iter().zip(&names).all(|(p, n)| is_like(p, n))
                }
            }
        };
        self.paths.iter().any(fits)
    }
}

/// Whether a name fits a pattern with at most one `*`.
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Snapshots that were found damaged do not count any more.
fn counts(path: &Path) -> bool {
    let part = |path: &&Path| path.parent().is_some_and(|dir| dir.ends_with("snapshots-v1"));
    let snapshot = path.ancestors().find(part).filter(|dir| dir.is_dir());
    snapshot.is_none_or(|dir| dir.join("meta").exists())
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

/// All regular files and symbolic links, but for links and empty files of root file systems: those are
/// `drydock verify`'s.
pub(crate) fn below(dir: &Path) -> Vec<PathBuf> {
    let files = entries(dir).into_iter().flat_map(|path| {
        let meta = path.symlink_metadata().unwrap();
        let tree = path.iter().any(|name| name == "fs");
        match meta {
            meta if meta.is_dir() => below(&path),
            meta if meta.is_file() && (!tree || meta.len() > 0) => vec![path],
            meta if meta.is_symlink() && !tree => vec![path],
            _ => Vec::new(),
        }
    });
    files.collect()
}
