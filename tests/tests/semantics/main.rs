//! What Dockerfiles mean: a table of small ones, each with all that its image has beyond the base
//! image. The expectations are BuildKit's: most were compared with what one of its releases made
//! of the same lines. What that release does not know (here-documents, `--exclude`, `--parents`,
//! symbolic modes, pattern operators, `--start-interval`) is by its documentation.
//!
//! A case's text starts after `FROM busybox` unless it has a FROM of its own. What is expected is
//! one line for each key of the config that differs (`Key: JSON`, `Key: -` for one that is gone),
//! each history entry (`> text`, `>> text` for one with a layer) and each path (`path: kind mode
//! owner content`, ` = path` for one more name of a file, `path: -` for one that is gone).

mod changes;
mod config;
mod corners;
mod files;
mod language;

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;
use tests::base_image::{TarBuilder, gzip};
use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;

/// A name, a Dockerfile, and what its image has.
type Case = (&'static str, &'static str, &'static str);

/// A few of everything.
fn sample(dockerfile: &str) -> Context {
    let tar = TarBuilder::new()
        .raw("td", tar::EntryType::Directory, 0o700, (5, 6), b"", "")
        .raw("td/f", tar::EntryType::Regular, 0o4755, (7, 8), b"tf", "")
        .symlink("td/l", "f")
        .raw("top", tar::EntryType::Regular, 0o644, (3, 0), b"top", "")
        .finish();
    let escape = TarBuilder::new().file("../up", 0o644, "up").symlink("l", "/").finish();
    Context::new(dockerfile)
        .file("a", "A")
        .file("b", "B")
        .file("suid", "s")
        .mode("suid", 0o6755)
        .file("dir/f", "F")
        .file("dir/sub/g", "G")
        .file("dir/.hidden", "H")
        .symlink("dir/lnk", "f")
        .mode("dir/sub", 0o700)
        .mode("dir", 0o750)
        .file("d2/f", "F2")
        .file("d2/sub/k", "K")
        .mode("d2/sub", 0o711)
        .symlink("lnk", "a")
        .symlink("dlnk", "dir")
        .symlink("up", "/../../b")
        .file("sp ace", "S")
        .file("g[1].txt", "g1")
        .file("w1.txt", "w1")
        .file("w2.txt", "w2")
        .file("w10.md", "w10")
        .file("hl/one", "same")
        .hard_link("hl/two", "hl/one")
        .file("t.dat", &tar)
        .file("t.tgz", gzip(&tar))
        .file("escape.tar", escape)
        .file("empty.tar", "")
}

/// All that `image` has and `base` has not.
fn beyond(image: &ImageView, base: &ImageView) -> String {
    let mut text = String::new();
    let of = |view: &ImageView, key: &str| view.runtime(key).clone();
    let configs = [&image.config["config"], &base.config["config"]];
    let keys: BTreeSet<&String> =
        configs.iter().filter_map(|c| c.as_object()).flat_map(|c| c.keys()).collect();
    for key in keys {
        let (here, there) = (of(image, key), of(base, key));
        let _ = match here {
            Value::Null if !there.is_null() => writeln!(text, "{key}: -"),
            here if here != there => writeln!(text, "{key}: {here}"),
            _ => Ok(()),
        };
    }
    if let Some(author) = image.config["author"].as_str() {
        let _ = writeln!(text, "author: {author}");
    }
    let below = base.config["history"].as_array().map_or(0, Vec::len);
    for entry in image.config["history"].as_array().into_iter().flatten().skip(below) {
        let mark = if entry["empty_layer"] == true { ">" } else { ">>" };
        let _ = writeln!(text, "{mark} {}", entry["created_by"].as_str().unwrap_or_default());
        assert_eq!(entry["comment"], "buildkit.dockerfile.v0");
    }
    let paths: BTreeSet<&str> = image.root.paths().into_iter().chain(base.root.paths()).collect();
    for path in paths {
        let (here, there) = (image.root.line(path), base.root.line(path));
        if here != there {
            let link = image.root.get(path).and_then(|e| e.linked_to.as_ref());
            let link = link.map(|first| format!(" = {first}")).unwrap_or_default();
            let _ = writeln!(text, "{path}: {here}{link}");
        }
    }
    text
}

fn whole(dockerfile: &str) -> String {
    let own = dockerfile.lines().any(|l| l.to_ascii_uppercase().starts_with("FROM "));
    if own { dockerfile.to_owned() } else { format!("FROM busybox\n{dockerfile}") }
}

/// Builds every case, and tells of all that differ.
fn check(cases: &[Case]) {
    let drydock = Drydock::new();
    let busybox = drydock.image_of("FROM busybox\n");
    let scratch = drydock.image_of("FROM scratch\n");
    let mut wrong = String::new();
    for (name, dockerfile, want) in cases {
        let image = drydock.build(&sample(&whole(dockerfile))).image();
        let base = if image.root.has("bin/busybox") { &busybox } else { &scratch };
        let got = beyond(&image, base);
        if got.trim_end() != want.trim() {
            let _ = writeln!(wrong, "=== {name}\n{got}=== wanted\n{}\n===", want.trim());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
