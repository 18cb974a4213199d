//! Table-driven cases of causes.

use super::align::align;
use super::cause::{Cause, FileChange, FileWhat, sentence};
use super::compare::Case;
use super::note::{ImageNote, Note, Part};
use super::selection::{FileEntry, changes};

fn step(text: &str, key: &str, parts: &[(&str, &str, Option<usize>)]) -> Note {
    let parts = parts.iter().map(|(name, value, from)| Part {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
        from: *from,
        selection: *name == "content",
        path: None,
    });
    Note {
        kind: text.split(' ').next().unwrap_or_default().to_owned(),
        stage: "0".to_owned(),
        text: text.to_owned(),
        title: text.to_owned(),
        key: key.to_owned(),
        made: true,
        parts: parts.collect(),
        ..Note::default()
    }
}

fn base(digest: &str) -> Note {
    let image = ImageNote { name: "app:1".to_owned(), digest: digest.to_owned() };
    Note { image: Some(image), kind: "source".to_owned(), ..step("FROM app:1", "", &[]) }
}

/// Why the last of `new` runs.
fn causes(old: &[Note], new: &[Note]) -> Vec<Cause> {
    let files =
        |_: &Part, _: &Part| Some(vec![FileChange { path: "f".to_owned(), what: FileWhat::Added }]);
    let case = Case {
        new,
        old: Some(old),
        pairs: &align(old, new),
        forced: None,
        expired: None,
        evicted: None,
        files: &files,
    };
    case.causes(new.len() - 1)
}

#[test]
fn sentences() {
    let run = |text: &str, key: &str, root: &str| {
        step(text, key, &[("run", text, None), ("root", root, Some(0))])
    };
    let env = |name: &str, value: &str| {
        let name = format!("env {name}");
        step("RUN x", value, &[("run", "x", None), (&name, value, None)])
    };
    let lost = [step("RUN x", "k", &[])];
    let cases: Vec<(Vec<Note>, Vec<Note>, &str)> = vec![
        (lost.to_vec(), lost.to_vec(), "its result is no longer in the cache"),
        (
            vec![Note { made: false, ..lost[0].clone() }],
            lost.to_vec(),
            "it did not end well when it was run last",
        ),
        (
            vec![Note { key: String::new(), ..lost[0].clone() }],
            lost.to_vec(),
            "first build of this step",
        ),
        (
            vec![step("RUN x", "old", &[])],
            lost.to_vec(),
            "this version of drydock makes other keys",
        ),
        (
            vec![run("RUN a", "1", "r")],
            vec![run("RUN a", "1", "r"), run("RUN b", "2", "s")],
            "new instruction",
        ),
        (
            vec![base("sha256:1111"), run("RUN a", "1", "r")],
            vec![base("sha256:2222"), run("RUN a", "2", "s")],
            "the image app:1 changed (1111 → 2222)",
        ),
        (
            vec![base("sha256:1111"), run("RUN a", "1", "r")],
            vec![base("sha256:1111"), run("RUN b", "2", "r")],
            "the instruction changed: RUN a → RUN b",
        ),
        (vec![env("A", "1")], vec![env("A", "2")], "variable A changed (\"1\" → \"2\")"),
        (
            vec![env("A", "1")],
            vec![env("B", "2")],
            "variable B was added (\"2\"); variable A was removed (\"1\")",
        ),
        (vec![env("TOKEN", "1")], vec![env("TOKEN", "2")], "variable TOKEN changed (value hidden)"),
        (
            vec![step("RUN x", "1", &[("user", "", None)])],
            vec![step("RUN x", "2", &[("user", "app", None)])],
            "the user changed (\"\" → \"app\")",
        ),
        (
            vec![step("COPY f /", "1", &[("content", "a", None)])],
            vec![step("COPY f /", "2", &[("content", "b", None)])],
            "f was added",
        ),
    ];
    for (old, new, says) in cases {
        assert_eq!(sentence(&causes(&old, &new)), says);
    }
}

#[test]
fn inserted_and_removed_steps_shift_no_others() {
    let note = |text: &str| step(text, "k", &[]);
    let list = |texts: &[&str]| texts.iter().map(|t| note(t)).collect::<Vec<_>>();
    for (old, new, pairs) in [
        (&["RUN a", "RUN b"][..], &["RUN a", "RUN x", "RUN b"][..], &[Some(0), None, Some(1)][..]),
        (&["RUN a", "RUN x", "RUN b"], &["RUN a", "RUN b"], &[Some(0), Some(2)]),
        (&["RUN a", "RUN b"], &["RUN a", "RUN c"], &[Some(0), Some(1)]),
        (&["RUN a", "COPY b"], &["COPY b", "RUN a"], &[Some(1), Some(0)]),
        (&["RUN a", "COPY b"], &["RUN x", "COPY y"], &[Some(0), Some(1)]),
        (&[], &["RUN a"], &[None]),
        (&["RUN a", "RUN a"], &["RUN a"], &[Some(0)]),
        // A context stands where it is needed first.
        (
            &["RUN a", "source c", "RUN b"],
            &["RUN x", "source c", "COPY y", "RUN a", "RUN b"],
            &[None, Some(1), None, Some(0), Some(2)],
        ),
    ] {
        assert_eq!(align(&list(old), &list(new)), pairs, "{old:?} {new:?}");
    }
}

#[test]
fn files() {
    let file = |path: &str, kind: &str, mode: u32, value: &str| FileEntry {
        path: path.to_owned(),
        kind: kind.to_owned(),
        mode,
        uid: 0,
        gid: 0,
        value: value.to_owned(),
    };
    let old = [
        file("d", "directory", 0o755, ""),
        file("d/a", "file", 0o644, "1"),
        file("d/b", "file", 0o644, "2"),
        file("l", "link", 0o777, "x"),
        file("m", "file", 0o644, "3"),
        file("t", "file", 0o644, "4"),
    ];
    let mut owned = file("m", "file", 0o600, "3");
    let new = [
        file("e", "directory", 0o755, ""),
        file("e/a", "file", 0o644, "1"),
        file("l", "link", 0o777, "y"),
        owned.clone(),
        file("t", "directory", 0o755, ""),
    ];
    let said: Vec<String> = changes(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "the link l changed (\"x\" → \"y\")",
            "the mode of m changed (0644 → 0600)",
            "t was a file and is a directory",
            "d/a was renamed to e/a",
            "e was added",
            "d/b was removed",
            "d was removed",
        ]
    );
    assert_eq!(changes(&old, &old), []);
    owned.uid = 7;
    let said = changes(&new, &[owned])[0].to_string();
    assert_eq!(said, "the owner of m changed (0:0 → 7:0)");
}
