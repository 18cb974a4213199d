//! URLs of repositories: what they mean, what is refused, and that they can be written again.

use proptest::prelude::*;

use super::{GitSource, Mtime, Remote};

fn parse(text: &str) -> GitSource {
    GitSource::parse(text).unwrap().unwrap_or_else(|| panic!("{text} is no repository"))
}

/// Repository, ref and directory of a URL.
fn parts(text: &str) -> (String, String, String) {
    let source = parse(text);
    let or_empty = Option::unwrap_or_default;
    (source.remote, or_empty(source.reference), or_empty(source.subdir))
}

#[test]
fn repositories_refs_and_directories() {
    for (text, remote, reference, subdir) in [
        ("https://h/foo.git", "https://h/foo.git", "", ""),
        ("HTTPS://h:8/foo.git", "https://h:8/foo.git", "", ""),
        ("https://h/foo.git#", "https://h/foo.git", "", ""),
        ("https://h/foo.git#deadbeef", "https://h/foo.git", "deadbeef", ""),
        ("https://h/foo.git#release/1.2", "https://h/foo.git", "release/1.2", ""),
        ("https://h/foo.git#a/b:c/d", "https://h/foo.git", "a/b", "c/d"),
        ("https://h/foo.git#:dir", "https://h/foo.git", "", "dir"),
        ("https://h/foo.git#a%2Fb:c%20d", "https://h/foo.git", "a/b", "c d"),
        ("https://u:p@h/foo.git#x", "https://u:p@h/foo.git", "x", ""),
        ("git://h/foo", "git://h/foo", "", ""),
        ("ssh://git@h:22/foo#v1:d", "ssh://git@h:22/foo", "v1", "d"),
        ("git@h:o/r", "git@h:o/r", "", ""),
        ("me.too@h:o/r.git?subdir=/d#v1", "me.too@h:o/r.git", "v1", "d"),
        ("git@h:o/r#a%b", "git@h:o/r", "a%b", ""),
        ("https://h/r.git?ref=v1&subdir=/d/", "https://h/r.git", "v1", "d"),
        ("https://h/r.git?ref=v1&subdir=d#v1:d", "https://h/r.git", "v1", "d"),
        ("https://h/r.git?tag=v1", "https://h/r.git", "refs/tags/v1", ""),
        ("https://h/r.git?branch=v1", "https://h/r.git", "refs/heads/v1", ""),
        ("https://h/r.git?checksum=ABCDEF1", "https://h/r.git", "abcdef1", ""),
        ("https://h/r.git#x:a/./b/../c//", "https://h/r.git", "x", "a/c"),
        ("https://h/r.git#x:/", "https://h/r.git", "x", ""),
        ("https://h/r.git?&ref=a%2Bb", "https://h/r.git", "a+b", ""),
    ] {
        let want = (remote.to_owned(), reference.to_owned(), subdir.to_owned());
        assert_eq!(parts(text), want, "{text}");
    }
}

#[test]
fn what_is_no_repository() {
    for text in [
        "",
        ".git",
        "./.git",
        "../a@b:c/.git",
        "dir/file",
        "a:b",
        "C:\\x",
        "https://h/",
        "https://h.git",
        "https://h/foo",
        "https://h/foo.git/",
        "https://h/foo.git.bar",
        "http://h/d.git:#branch",
        "https://h/foo?x=.git",
        "github.com/o/r",
        "custom.xyz/o/r.git",
        "file:///srv/r.git",
        "ftp://h/r.git",
        "ext::sh -c x",
    ] {
        assert_eq!(GitSource::parse(text), Ok(None), "{text}");
    }
}

#[test]
fn the_short_name_of_a_context() {
    for (text, remote, reference) in [
        ("github.com/o/r", "https://github.com/o/r.git", None),
        ("github.com/o/r.git#v1", "https://github.com/o/r.git", Some("v1")),
        ("github.com/o/r/?tag=v1", "https://github.com/o/r.git", Some("refs/tags/v1")),
        ("git://h/r", "git://h/r", None),
    ] {
        let source = GitSource::parse_context(text).unwrap().unwrap();
        assert_eq!((source.remote.as_str(), source.reference.as_deref()), (remote, reference));
    }
    assert_eq!(GitSource::parse_context("dir"), Ok(None));
}

#[test]
fn options() {
    let query = "checksum=0123456789&keep-git-dir=1&submodules=false&mtime=commit&fetch-by-commit";
    let source = parse(&format!("https://h/r.git?{query}#main"));
    assert_eq!(source.checksum.as_deref(), Some("0123456789"));
    assert!(source.keep_git_dir && !source.submodules && source.fetch_by_commit);
    assert_eq!((source.mtime, source.reference.as_deref()), (Mtime::Commit, Some("main")));
    let plain = parse("https://h/r.git");
    assert!(!plain.keep_git_dir && plain.submodules && !plain.fetch_by_commit);
    assert_eq!(plain.mtime, Mtime::Checkout);
}

#[test]
fn what_is_refused() {
    for (text, reason) in [
        ("https://h/r.git?invalid=1", "unknown key \"invalid\": it is one of ref, tag"),
        ("https://h/r.git?sub-dir=1", "unknown key \"sub-dir\": did you mean \"subdir\"?"),
        ("https://h/r.git?Ref=1", "did you mean \"ref\"?"),
        ("https://h/r.git?ref=a&ref=a", "ref stands there twice"),
        ("https://h/r.git?commit=0123456&checksum=0123456", "checksum stands there twice"),
        ("https://h/r.git?ref=a#b", "ref (\"a\") conflicts with the fragment (\"b\")"),
        ("https://h/r.git?tag=a#a", "tag (\"a\") conflicts with the fragment (\"a\")"),
        ("https://h/r.git?ref=a&tag=a", "tag (\"a\") conflicts with ref (\"a\")"),
        ("https://h/r.git?tag=a&ref=refs/tags/a", "conflicts with tag"),
        ("https://h/r.git?tag=a&branch=a", "conflicts with tag (\"refs/tags/a\")"),
        ("https://h/r.git?subdir=a#:b", "subdir (\"a\") conflicts with the fragment"),
        ("https://h/r.git?ref=", "ref has no value"),
        ("https://h/r.git?mtime=now", "neither checkout nor commit"),
        ("https://h/r.git?submodules=maybe", "neither true nor false"),
        ("https://h/r.git?checksum=xyz", "no commit"),
        ("https://h/r.git?checksum=abc", "at least its first 7 digits"),
        ("https://h/r.git#x:../y", "outside of the repository"),
        ("https://h/r.git#x:a/../../y", "outside of the repository"),
        ("https://h/r.git#-x", "cannot be the name"),
        ("https://h/r.git#a..b", "cannot be the name"),
        ("https://h/r.git#v*", "cannot be the name"),
        ("https://h/r.git#a@{1}", "cannot be the name"),
        ("https://h/r.git#%zz", "two hexadecimal digits"),
        ("https://h/r.git#a%0ab", "cannot be the name"),
        ("https://h/r.git#:a%0ab", "control character"),
        ("https://h/r r.git", "%20 for a space"),
        ("https:///r.git", "names no host"),
        ("git://h", "names no repository"),
        ("git://h/", "names no repository"),
        ("git@h:", "names no repository"),
        ("ssh://-oProxyCommand=x/y", "begin with \"-\""),
        ("-o@h:x", "begin with \"-\""),
        ("git@h:-x", "begin with \"-\""),
    ] {
        let error = GitSource::parse(text).expect_err(text);
        assert!(error.reason.contains(reason), "{text}: {error}");
    }
}

#[test]
fn passwords_are_not_shown() {
    for (text, shown) in [
        ("https://me:secret@h/r.git#x", "https://me:xxxxx@h/r.git#x"),
        ("https://secret@h/r.git", "https://xxxxx@h/r.git"),
        ("https://me:sec@ret@h/r.git", "https://me:xxxxx@h/r.git"),
        ("ssh://git:secret@h/r", "ssh://git:xxxxx@h/r"),
        ("ssh://git@h/r", "ssh://git@h/r"),
    ] {
        assert_eq!(parse(text).to_string(), shown);
    }
    let error = GitSource::parse("https://me:secret@h/r.git?x=1").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = GitSource::parse("https://me:secret@/r.git").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(parse("https://me:secret@h/r.git").public_remote(), "https://h/r.git");
    assert_eq!(parse("ssh://git:secret@h/r").public_remote(), "ssh://git@h/r");
    let remote = Remote::parse("https://me:secret@h/r.git").unwrap().unwrap();
    assert!(!format!("{remote:?}").contains("secret"));
}

#[test]
fn urls_of_submodules() {
    for (remote, url, want) in [
        ("https://u:p@h/o/r.git", "../s.git", Ok("https://u:p@h/o/s.git")),
        ("https://h/o/r.git/", "./s", Ok("https://h/o/r.git/s")),
        ("https://h/o/r.git", "../../x/./s.git/", Ok("https://h/x/./s.git")),
        ("git@h:o/r.git", "../s.git", Ok("git@h:o/s.git")),
        ("git@h:o/r.git", "../../s.git", Ok("git@h:s.git")),
        ("https://h/o/r.git", "https://other/s", Ok("https://other/s")),
        ("https://h/r.git", "../../../s", Err("above the root")),
        ("https://h/r.git", "/srv/s", Err("no http, https, ssh or git URL")),
        ("https://h/r.git", "file:///srv/s", Err("no http, https, ssh or git URL")),
        ("https://h/r.git", "ext::sh -c x", Err("no http, https, ssh or git URL")),
        ("https://h/r.git", "-u./x", Err("no http, https, ssh or git URL")),
        ("https://h/r.git", "ssh://-x/y", Err("begin with")),
        ("git@h:r.git", "../-x", Err("begin with")),
    ] {
        let remote = Remote::parse(remote).unwrap().unwrap();
        match (remote.submodule(url), want) {
            (Ok(got), Ok(want)) => assert_eq!(got.to_string(), want),
            (Err(got), Err(want)) => assert!(got.contains(want), "{url}: {got}"),
            (got, _) => panic!("{url}: {got:?}"),
        }
    }
}

proptest! {
    #[test]
    fn anything_is_read_without_a_panic(text in "\\PC{0,40}", tail in "[#?&=%:@a-c/.-]{0,30}") {
        for text in [text.clone(), format!("https://h/r.git{text}"), format!("git@h:{text}{tail}"),
            format!("git://{text}{tail}"), format!("github.com/{tail}")] {
            if let Ok(Some(source)) = GitSource::parse_context(&text) {
                let shown = source.to_string();
                if !shown.contains("xxxxx") {
                    prop_assert_eq!(GitSource::parse(&shown), Ok(Some(source)), "{}", shown);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again(
        remote in "(https://h:1/a/b[.]git|git@h:a/b|ssh://u@h/a|git://h/~a)",
        reference in proptest::option::of("[a-zA-Z0-9_%#+&=é]{1,8}(/[a-z]{1,3})?"),
        subdir in proptest::option::of("[a-zA-Z0-9:%#?+&= é-]{1,8}(/[a-z]{1,3})?"),
        checksum in proptest::option::of("[0-9a-f]{7,64}"),
        switches: (bool, bool, bool, bool),
    ) {
        let mut source = GitSource::parse(&remote).unwrap().unwrap();
        source.reference = reference.or_else(|| checksum.clone());
        source.subdir = subdir;
        source.checksum = checksum;
        (source.keep_git_dir, source.submodules, source.fetch_by_commit, _) = switches;
        source.mtime = if switches.3 { Mtime::Commit } else { Mtime::Checkout };
        prop_assert_eq!(GitSource::parse(&source.to_string()), Ok(Some(source.clone())));
    }
}
