//! The submodules of a commit.

use std::collections::BTreeMap;
use std::path::Path;

use super::command::{Call, Git};
use super::error::GitError;
use super::resolve::is_commit;

/// The file that tells of them.
const FILE: &str = ".gitmodules";
/// The mode of a submodule in a tree.
const SUBMODULE: &str = "160000";
/// The modes of regular files in a tree.
const FILES: [&str; 2] = ["100644", "100755"];

/// A submodule of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submodule {
    /// As `.gitmodules` calls it.
    pub(super) name: String,
    /// Where it is in the tree.
    pub(super) path: String,
    /// Where it comes from; relative ones to the remote.
    pub(super) url: String,
    /// Which commit of it.
    pub(super) commit: String,
}

/// What `.gitmodules` says of one.
#[derive(Debug, Default)]
struct Section {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

/// An entry of a tree.
struct Entry {
    mode: String,
    object: String,
    path: String,
}

/// The submodules of `commit` that have an entry in `.gitmodules` and in the tree.
pub(super) fn list(
    git: Git<'_>,
    remote: &str,
    repository: &Path,
    commit: &str,
) -> Result<Vec<Submodule>, GitError> {
    let what = format!("read the submodules of {remote}");
    let entries = |paths: &[&str]| -> Result<Vec<Entry>, GitError> {
        let mut args = vec!["--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--"];
        args.extend(paths);
        let output = git.run(&Call::new(what.clone(), args).on(repository))?;
        Ok(parse_tree(&String::from_utf8_lossy(&output)))
    };
    // A link would be read as what it leads to (CVE-2018-11235).
    if !entries(&[FILE])?.iter().any(|entry| FILES.contains(&entry.mode.as_str())) {
        return Ok(Vec::new());
    }
    let blob = format!("{commit}:{FILE}");
    let args = ["config", "--blob", &blob, "--null", "--list"];
    let output = git.run(&Call::new(what.clone(), args).on(repository))?;
    let mut submodules = Vec::new();
    for (name, section) in parse_sections(&String::from_utf8_lossy(&output)) {
        let Some(path) = section.path.filter(|p| !p.is_empty()) else { continue };
        // As `git submodule update` does.
        if section.update.as_deref() == Some("none") {
            continue;
        }
        let found = entries(&[&path])?;
        let entry = found.into_iter().find(|e| e.mode == SUBMODULE && e.path == path);
        let Some(entry) = entry.filter(|entry| is_commit(&entry.object)) else { continue };
        let Some(url) = section.url.filter(|u| !u.is_empty()) else {
            let reason = format!("{FILE} says none");
            let remote = remote.to_owned();
            return Err(GitError::Submodule { remote, path, url: String::new(), reason });
        };
        submodules.push(Submodule { name, path, url, commit: entry.object });
    }
    Ok(submodules)
}

/// `mode type object TAB path NUL`, as `git ls-tree -z` writes it.
fn parse_tree(text: &str) -> Vec<Entry> {
    let entry = |line: &str| {
        let (front, path) = line.split_once('\t')?;
        let mut words = front.split(' ');
        let (mode, object) = (words.next()?.to_owned(), words.nth(1)?.to_owned());
        Some(Entry { mode, object, path: path.to_owned() })
    };
    text.split('\0').filter_map(entry).collect()
}

/// `submodule.<name>.<key> LF value NUL`, as `git config --null --list` writes it. The last of
/// equal ones counts.
fn parse_sections(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    for line in text.split('\0') {
        let Some((key, value)) = line.split_once('\n') else { continue };
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|k| k.rsplit_once('.'))
        else {
            continue;
        };
        let section = sections.entry(name.to_owned()).or_default();
        let field = match key {
            "path" => &mut section.path,
            "url" => &mut section.url,
            "update" => &mut section.update,
            _ => continue,
        };
        *field = Some(value.to_owned());
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections() {
        let text = "submodule.a.b.path\nx\0submodule.a.b.url\n../u\0core.x\ny\0submodule.c.path\n\
                    p\0submodule.c.path\nq\0submodule.c.shallow\0";
        let got = parse_sections(text);
        assert_eq!(got["a.b"].path.as_deref(), Some("x"));
        assert_eq!(got["a.b"].url.as_deref(), Some("../u"));
        assert_eq!((got["c"].path.as_deref(), got["c"].url.as_deref()), (Some("q"), None));
    }

    #[test]
    fn entries() {
        let text = "160000 commit abc\tdir/with space\x00100644 blob def\t.gitmodules\0junk\0";
        let got = parse_tree(text);
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].mode.as_str(), got[0].path.as_str()), ("160000", "dir/with space"));
        assert_eq!(got[1].object, "def");
    }
}
