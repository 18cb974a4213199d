//! Which commit a name means today.

use graph::GitSource;
use solver::Stream;

use super::access::Access;
use super::command::{Call, Git, REMOTE};
use super::error::GitError;
use super::store::Store;

/// What names the default branch.
const HEAD: &str = "HEAD";
/// Where the names of branches begin.
pub(super) const HEADS: &str = "refs/heads/";
/// Where the names of tags begin.
pub(super) const TAGS: &str = "refs/tags/";
/// What an annotated tag's commit has behind the tag's name in a listing.
const PEELED: &str = "^{}";
/// The fewest digits that git takes for a commit.
const MIN_SHORT: usize = 4;

/// What a source means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The commit.
    pub(super) commit: String,
    /// The ref that led to it, in full.
    pub(super) name: Option<String>,
    /// The annotated tag, if that ref is one.
    pub(super) tag: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Advertised {
    object: String,
    name: String,
}

/// Whether `text` is a whole commit: 40 digits, or 64 in a repository of SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Finds out what `source` means. A whole commit needs no network.
pub(super) fn resolve(
    git: Git<'_>,
    store: Store<'_>,
    access: &Access<'_>,
    source: &GitSource,
) -> Result<Resolved, GitError> {
    let reference = source.reference.as_deref().filter(|r| *r != HEAD);
    let bare = |commit: &str| Resolved { commit: commit.to_owned(), name: None, tag: None };
    let checksum = source.checksum.as_deref();
    let resolved = match (reference, checksum) {
        (Some(reference), _) if is_commit(reference) => bare(reference),
        (_, Some(checksum)) if source.fetch_by_commit && is_commit(checksum) => bare(checksum),
        _ if source.fetch_by_commit => {
            return Err(GitError::FetchByCommit { remote: access.url() });
        }
        (None, _) => default_branch(git, access)?,
        (Some(reference), _) => named(git, store, access, reference)?,
    };
    let ids = [Some(&resolved.commit), resolved.tag.as_ref()];
    if let Some(expected) = checksum
        && !ids.iter().flatten().any(|id| id.starts_with(expected))
    {
        let ids: Vec<&str> = ids.iter().flatten().map(|id| id.as_str()).collect();
        return Err(GitError::Checksum {
            remote: access.url(),
            reference: reference.unwrap_or("the default branch").to_owned(),
            expected: expected.to_owned(),
            actual: ids.join(", tagged as "),
        });
    }
    let name = resolved.name.as_deref().unwrap_or_default();
    let line = format!("{} {name}\n", resolved.commit);
    git.context.log(Stream::Stdout, line.trim_start().as_bytes());
    Ok(resolved)
}

/// Asks the server for refs.
fn list(git: Git<'_>, access: &Access<'_>, patterns: &[String]) -> Result<String, GitError> {
    let url = access.url();
    let mut args = vec!["ls-remote", "--symref", "--", &url];
    args.extend(patterns.iter().map(String::as_str));
    let call = Call::new(format!("list the refs of {url}"), args).over(REMOTE, access.config());
    let output = git.run(&call)?;
    String::from_utf8(output).map_err(|e| GitError::Answer {
        what: call.what,
        answer: String::from_utf8_lossy(&e.into_bytes()).into_owned(),
    })
}

/// The lines of a listing, without that of what `HEAD` is a name of.
fn lines(listing: &str) -> Vec<Advertised> {
    let split = |line: &str| {
        let (object, name) = line.split_once('\t')?;
        let (object, name) = (object.to_owned(), name.to_owned());
        is_commit(&object).then_some(Advertised { object, name })
    };
    listing.lines().filter_map(split).collect()
}

fn default_branch(git: Git<'_>, access: &Access<'_>) -> Result<Resolved, GitError> {
    let listing = list(git, access, &[HEAD.to_owned()])?;
    let refs = lines(&listing);
    let Some(head) = refs.iter().find(|r| r.name == HEAD) else {
        return Err(GitError::Empty { remote: access.url() });
    };
    let mut symbolic = listing.lines().filter_map(|line| {
        let (target, name) = line.strip_prefix("ref: ")?.split_once('\t')?;
        (name == HEAD && target.starts_with(HEADS)).then(|| target.to_owned())
    });
    Ok(Resolved { commit: head.object.clone(), name: symbolic.next(), tag: None })
}

fn named(
    git: Git<'_>,
    store: Store<'_>,
    access: &Access<'_>,
    reference: &str,
) -> Result<Resolved, GitError> {
    let names = candidates(reference);
    let patterns: Vec<String> =
        names.iter().flat_map(|name| [name.clone(), format!("{name}{PEELED}")]).collect();
    if let Some(resolved) = pick(&names, &lines(&list(git, access, &patterns)?)) {
        return Ok(resolved);
    }
    let fail = || GitError::NoRef { remote: access.url(), reference: reference.to_owned() };
    if reference.len() < MIN_SHORT || !is_lower_hex(&reference.to_ascii_lowercase()) {
        return Err(fail());
    }
    let head = default_branch(git, access)?;
    let commit = store.short(git, access, reference, head.commit.len())?.ok_or_else(fail)?;
    Ok(Resolved { commit, name: None, tag: None })
}

/// The full names that `reference` may be short for, the first that exists counts (BuildKit:
/// `source/git`, `resolveMetadata`; as in git, a branch comes before a tag).
fn candidates(reference: &str) -> Vec<String> {
    let full = format!("refs/{}", reference.strip_prefix("refs/").unwrap_or(reference));
    let branch = format!("{HEADS}{}", reference.strip_prefix(HEADS).unwrap_or(reference));
    let tag = format!("{TAGS}{}", reference.strip_prefix(TAGS).unwrap_or(reference));
    let mut names = vec![full];
    for name in [branch, tag] {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn pick(names: &[String], refs: &[Advertised]) -> Option<Resolved> {
    let object = |name: &str| refs.iter().find(|r| r.name == name).map(|r| r.object.clone());
    names.iter().find_map(|name| {
        let own = object(name)?;
        Some(match object(&format!("{name}{PEELED}")) {
            Some(commit) => Resolved { commit, name: Some(name.clone()), tag: Some(own) },
            None => Resolved { commit: own, name: Some(name.clone()), tag: None },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_comes_before_a_tag() {
        let [a, b, c] = ["a", "b", "c"].map(|c| c.repeat(40));
        let listing = format!(
            "{a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\nref: refs/heads/x\tHEAD\nwarning: x\n"
        );
        let mut refs = lines(&listing);
        assert_eq!(refs.len(), 2);
        let names = candidates("v1");
        assert_eq!(names, ["refs/v1", "refs/heads/v1", "refs/tags/v1"]);
        let tagged = pick(&names, &refs).unwrap();
        assert_eq!((tagged.commit, tagged.tag), (b, Some(a)));
        refs.push(Advertised { object: c.clone(), name: "refs/heads/v1".to_owned() });
        let branch = pick(&names, &refs).unwrap();
        assert_eq!((branch.commit, branch.tag), (c, None));
        assert_eq!(branch.name.as_deref(), Some("refs/heads/v1"));
        assert_eq!(pick(&candidates("v2"), &refs), None);
        let full = candidates("refs/tags/v1");
        assert_eq!(full[0], "refs/tags/v1");
        assert!(pick(&full, &refs).unwrap().tag.is_some());
        assert_eq!(candidates("pull/1/head")[0], "refs/pull/1/head");
    }

    #[test]
    fn whole_commits() {
        assert!(is_commit(&"0a".repeat(20)) && is_commit(&"0a".repeat(32)));
        for text in ["", "abc", &"0A".repeat(20), &"0g".repeat(20), &"0".repeat(41)] {
            assert!(!is_commit(text), "{text}");
        }
    }
}
