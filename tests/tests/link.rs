//! `COPY --link` and `ADD --link`: layers that are the same whatever is below them.

use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::image_view::ImageView;
use tests::progress::End;
use tests::tree::Tree;
use tests::{require_root, skip};

/// A context with a few files.
fn context(dockerfile: &str) -> Context {
    Context::new(dockerfile)
        .file("a", "A")
        .file("b", "B")
        .file("d/x", "x")
        .file("d/sub/y", "y")
        .settle()
}

fn built(drydock: &Drydock, dockerfile: &str) -> (ImageView, Output) {
    drydock.build(&context(dockerfile)).image_and_output()
}

/// A base with one file for all its programs: quick to be copied.
const SMALL: &str = "FROM busybox AS full\nFROM scratch\nCOPY --from=full /bin/busybox /bin/busybox\n\
                     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// Two with nothing but the image `small` in their stores; one keeps snapshots as it does on this
/// host, the other one as plain copies.
fn both() -> [Drydock; 2] {
    let copies = Drydock::new();
    copies.command("images").ok();
    let kind = copies.state().join("snapshots-v1/kind");
    assert!(kind.exists(), "it is remembered there");
    std::fs::write(kind, "copy").unwrap();
    let both = [Drydock::new(), copies];
    for drydock in &both {
        drydock.build(&Context::new(SMALL)).args(["-t", "small"]).ok();
    }
    both
}

/// The names of the steps that were run, those that put a linked copy in its place included.
fn ran(output: &Output) -> Vec<String> {
    let done = output.steps().into_iter().filter(|s| s.end == End::Done);
    done.map(|s| s.name)
        .filter(|n| n.starts_with('[') && !n.contains("] FROM ") && !n.contains("internal"))
        .collect()
}

fn diff_ids(image: &ImageView) -> Vec<oci::Digest> {
    image.layers.iter().map(|l| l.diff_id).collect()
}

#[test]
fn privileged_the_layer_is_the_same_on_every_base() {
    require_root!();
    let drydock = Drydock::new();
    let link = "COPY --link --chown=1:2 a d /x/";
    let (one, _) = built(&drydock, &format!("FROM busybox\n{link}\nRUN cat /x/a > /out\n"));
    let blobs = drydock.blobs();
    let second = format!("FROM busybox\nRUN mkdir -m 700 /x && echo r > /x/r\nENV E=1\n{link}\n");
    let (two, output) = built(&drydock, &second);
    assert!(output.cached("] COPY --link"), "{output}");
    let (last, at) = (two.layers.last().unwrap(), &one.layers[1]);
    assert_eq!(at.diff_id, last.diff_id);
    assert_eq!(at.descriptor, last.descriptor);
    let copied = |image: &ImageView| {
        let history = image.config["history"].as_array().unwrap().clone();
        let mut entries = history.into_iter();
        let is_copy = |by: &str| by.starts_with("COPY ");
        let entry = entries.find(|h| h["created_by"].as_str().is_some_and(is_copy)).unwrap();
        entry["created"].clone()
    };
    assert_eq!(copied(&one), copied(&two), "the layer was made then");
    assert_eq!(copied(&two), two.config["created"]);
    // The layer was not compressed again.
    let digest = at.descriptor["digest"].as_str().unwrap().replace("sha256:", "");
    let blob = |blobs: &[(std::path::PathBuf, std::time::SystemTime)]| {
        blobs.iter().find(|(path, _)| path.ends_with(&digest)).cloned().unwrap()
    };
    assert_eq!(blob(&blobs), blob(&drydock.blobs()));
    assert_eq!(at.names(), ["x", "x/a", "x/sub", "x/sub/y", "x/x"]);
    assert_eq!(one.root.line("x"), "d 755 1:2");
    assert_eq!(one.root.line("x/a"), "f 644 1:2 \"A\"");
    assert_eq!(two.root.line("x"), "d 755 1:2", "it was 0700 and of root");
    assert_eq!(two.root.below("x"), ["a", "r", "sub", "sub/y", "x"]);
    // With another state directory only times can differ, and those are rewritten.
    let fixed = |dockerfile: &str, drydock: &Drydock| {
        let run = drydock.build(&context(dockerfile)).env("SOURCE_DATE_EPOCH", "1000");
        let dest = drydock.place("fixed.tar");
        let to = format!("type=oci,rewrite-timestamp=true,dest={}", dest.display());
        run.args(["-o", &to]).ok();
        ImageView::archive(&dest).layers.last().unwrap().diff_id
    };
    let base = format!("FROM busybox\n{link}\n");
    assert_eq!(fixed(&base, &Drydock::new()), fixed(&second, &Drydock::new()));
}

#[test]
fn privileged_a_copy_without_link_does_not_take_its_place() {
    require_root!();
    let drydock = Drydock::new();
    let text = |flag: &str| format!("FROM busybox\nCOPY {flag} a /x/\nRUN cat /x/a > /out\n");
    let (plain, _) = built(&drydock, &text(""));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let (linked, _) = built(&drydock, &text("--link"));
    let (other, _) = built(&drydock, "FROM busybox\nRUN touch /t\nCOPY --link a /x/\n");
    assert_eq!(linked.layers[1].diff_id, other.layers[2].diff_id);
    // The same files, made at different times.
    assert_eq!(plain.root.differences(&linked.root), Vec::<String>::new());
    assert_ne!(plain.layers[1].diff_id, linked.layers[1].diff_id);
}

#[test]
fn privileged_what_is_below_may_change() {
    require_root!();
    let drydock = Drydock::new();
    let text = |base: &str| {
        format!(
            "FROM busybox\nRUN echo {base} > /base\nCOPY --link a /x/\nCOPY --link b /x/\nRUN cat /base /x/* > /all\n"
        )
    };
    let (one, output) = built(&drydock, &text("one"));
    assert_eq!(ran(&output).len(), 6, "{output}");
    assert_eq!(one.text("all"), "one\nAB");
    let (again, output) = built(&drydock, &text("one"));
    assert_eq!(ran(&output), Vec::<String>::new(), "{output}");
    assert_eq!(one.manifest_digest, again.manifest_digest);
    let (two, output) = built(&drydock, &text("two"));
    assert_eq!(two.text("all"), "two\nAB");
    let copies = output.steps().into_iter().filter(|s| s.name.contains("] COPY --link"));
    assert!(
        copies.clone().count() == 2 && copies.clone().all(|s| s.end == End::Cached),
        "{output}"
    );
    assert_eq!(output.executed().len(), 2, "the first RUN and the last: {output}");
    assert_eq!(diff_ids(&one)[2..4], diff_ids(&two)[2..4]);
    // Only the copy that changed is done again; the other layer stays what it is.
    let context = context(&text("two"));
    context.write("a", "changed");
    let (three, output) = drydock.build(&context).image_and_output();
    assert!(output.step("] COPY --link a").end == End::Done, "{output}");
    assert!(output.cached("] COPY --link b"), "{output}");
    assert_eq!(three.text("all"), "two\nchangedB");
    assert_eq!(three.layers[3].diff_id, two.layers[3].diff_id);
    // To copy again and get the same is to have the same.
    let output = drydock.build(&context).arg("--no-cache").image_and_output();
    assert_eq!(output.0.layers[2].diff_id, three.layers[2].diff_id, "{}", output.1);
}

/// What is below the copies, and what is done on top of them.
const BELOW: &str = "FROM small\nRUN mkdir -m 700 /priv && echo p > /priv/p && chown 5:6 /priv \
                     && mkdir /real && echo r > /real/r && ln -s real /link && ln -s link /twice \
                     && mkdir -p /dir/deep && echo f > /file && ln -s nowhere /broken\n";

fn check_replaced(image: &ImageView) {
    let root = &image.root;
    assert_eq!(root.line("priv"), "d 755 0:0");
    assert_eq!(root.below("priv"), ["a", "p"]);
    assert_eq!((root.line("link"), root.below("link")), ("d 755 0:0".into(), vec!["a", "sub"]));
    assert_eq!(root.below("real"), ["r"], "nothing went through the link");
    assert_eq!(root.line("twice"), "l 0:0 -> link");
    assert_eq!(root.line("dir"), "f 644 0:0 \"A\"");
    assert_eq!(root.below("file"), ["a"]);
    assert_eq!(root.below("broken"), ["a"]);
}

const ABOVE: &str = "COPY --link a /priv/\nCOPY --link a /link/\nCOPY --link d/sub/y /link/sub\n\
                     COPY --link a /dir\nCOPY --link a /file/\nCOPY --link a /broken/\n";

#[test]
fn privileged_a_linked_copy_replaces_what_it_does_not_see() {
    require_root!();
    for drydock in both() {
        let (image, _) = built(&drydock, &format!("{BELOW}{ABOVE}"));
        check_replaced(&image);
        // A step on top sees the same, and removes what is really there.
        let after = "RUN test -d /link && test ! -L /link && test -f /dir && test $(cat /twice/a) = A\n\
                 RUN rm -r /link /dir /priv/p /file/a && rmdir /file && mkdir /dir && touch /dir/n\n";
        let (image, _) = built(&drydock, &format!("{BELOW}{ABOVE}{after}"));
        let mut names = image.layers.last().unwrap().names();
        names.sort();
        assert_eq!(names, [".wh.file", ".wh.link", "dir", "dir/n", "priv", "priv/.wh.p"]);
        assert!(!image.root.has("link") && !image.root.has("file"));
        assert_eq!(image.root.below("dir"), ["n"]);
        assert_eq!(image.root.below("real"), ["r"]);
    }
}

#[test]
fn privileged_every_output_shows_the_same() {
    require_root!();
    for drydock in both() {
        let context = context(&format!(
            "{BELOW}{ABOVE}RUN rm -r /link && echo l > /link\nCOPY --link a /priv/\n"
        ));
        let image = drydock.build(&context).image();
        let dest = drydock.place("tree");
        drydock.build(&context).args(["-o", dest.to_str().unwrap()]).ok();
        let local = Tree::of_directory(&dest, false);
        assert_eq!(local.paths(), image.root.paths());
        for path in ["dir", "file", "file/a", "link", "priv/a", "priv", "twice", "broken/a"] {
            assert_eq!(local.line(path), image.root.line(path));
        }
        let tar = drydock.place("tree.tar");
        drydock.build(&context).args(["-o", &format!("type=tar,dest={}", tar.display())]).ok();
        let tar = Tree::of_tar(&std::fs::read(&tar).unwrap());
        // Which of the base's hard links comes first is for each archive to say.
        let lines = |tree: &Tree| -> Vec<String> {
            tree.paths().iter().map(|path| format!("{path} {}", tree.line(path))).collect()
        };
        assert_eq!(lines(&tar), lines(&image.root));
        // From the store, as a base, and by another process's unpacking of the archive.
        drydock.build(&context).args(["-t", "app"]).ok();
        let on_top = Context::new("FROM app\nRUN cat /link /priv/a /dir > /seen\n");
        assert_eq!(drydock.bare_build(&on_top).image().text("seen"), "l\nAA");
        let archive = drydock.place("app.tar");
        let to = format!("type=oci,dest={}", archive.display());
        drydock.build(&context).args(["-t", "app", "-o", &to]).ok();
        let other = Drydock::new();
        other.command("load").arg("-i").arg(&archive).ok();
        assert_eq!(other.bare_build(&on_top).image().text("seen"), "l\nAA");
    }
}

#[test]
fn privileged_owners_of_linked_copies_are_numbers() {
    require_root!();
    let drydock = Drydock::new();
    let (image, _) = built(
        &drydock,
        "FROM busybox\nCOPY --link --chown=1:2 a /x/\nCOPY --link --chown=7 b /y\n",
    );
    assert_eq!(image.root.line("x/a"), "f 644 1:2 \"A\"");
    assert_eq!(image.root.line("y"), "f 644 7:7 \"B\"");
    let text = "FROM busybox\nCOPY --link --chown=app a /x/\n";
    let output = drydock.build(&context(text)).fails();
    let words = ["--link", "numbers", "--chown", "apart from the image"];
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{output}");
    // A group that is not known there is as if none were named, as in BuildKit; but it is told.
    let (image, output) = built(&drydock, "FROM busybox\nCOPY --link --chown=1:appg a /x/\n");
    assert_eq!(image.root.line("x/a"), "f 644 1:1 \"A\"");
    assert!(output.stderr.contains("no group \"appg\" in the image"), "{output}");
    // With a mode it is an ordinary copy (as in BuildKit): the image's names are known then.
    let text = "FROM busybox\nRUN ln -s tmp /l\nCOPY --link --chmod=600 --chown=app a /l/\n";
    let (image, _) = built(&drydock, text);
    assert_eq!(image.root.line("tmp/a"), "f 600 1000:1001 \"A\"");
}

#[test]
fn privileged_linked_copies_of_every_source() {
    require_root!();
    for drydock in both() {
        let text = "FROM small AS build\nRUN echo made > /made && ln /made /too && chown 3:4 /made\n\
                FROM small\nWORKDIR /w\nCOPY --link --from=build /made /too out/\n\
                COPY --link <<EOF /doc\ntext\nEOF\nADD --link d sub/\nCOPY --link d/sub d /both/\n\
                COPY --link --from=build /bin/busybox /made /s/\nRUN ls /w/out > /list\n\
                    WORKDIR /dot\nENV EMPTY=\nCOPY --link a .\nCOPY --link b $EMPTY\n";
        let (image, _) = built(&drydock, text);
        assert_eq!(image.root.line("w/out/made"), "f 644 3:4 \"made\\n\"");
        assert_eq!(image.text("doc"), "text\n");
        assert_eq!(image.root.below("w/sub"), ["sub", "sub/y", "x"]);
        assert_eq!(image.root.below("both"), ["sub", "sub/y", "x", "y"]);
        assert_eq!(image.root.below("dot"), ["a", "b"]);
        assert_eq!(image.text("list"), "made\ntoo\n");
        // On nothing it is a copy like any other.
        let (linked, _) = built(&drydock, "FROM scratch\nCOPY --link a /x/\nCOPY --link b /x/\n");
        assert_eq!(linked.root.paths(), ["x", "x/a", "x/b"]);
        let (plain, output) = built(&drydock, "FROM scratch\nCOPY a /x/\nCOPY b /x/\n");
        assert_eq!(linked.root.differences(&plain.root), Vec::<String>::new());
        assert_eq!(linked.layers[0].diff_id, plain.layers[0].diff_id, "{output}");
    }
}

#[test]
fn privileged_one_layer_many_times() {
    require_root!();
    for drydock in both() {
        let text = "FROM small\nCOPY --link d /x/\nRUN rm -r /x/sub && echo n > /x/x\nCOPY --link d /x/\n\
                COPY --link d /x/\nRUN cat /x/x /x/sub/y > /out && rm /x/x\n";
        let (image, _) = built(&drydock, text);
        assert_eq!(image.text("out"), "xy");
        assert_eq!(image.root.below("x"), ["sub", "sub/y"]);
        let ids = diff_ids(&image);
        assert!(ids[2] == ids[4] && ids[4] == ids[5] && ids.len() == 7);
        assert_eq!(image.layers[6].names(), ["out", "x", "x/.wh.x"]);
    }
}

/// The sizes and ids that `du` tells, by snapshot.
fn snapshots(drydock: &Drydock) -> usize {
    let names = std::fs::read_dir(drydock.state().join("snapshots-v1")).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == 16).count()
}

#[test]
fn privileged_pruning_keeps_the_layers_of_images() {
    require_root!();
    for drydock in both() {
        let before = snapshots(&drydock);
        let text = |base: &str| format!("FROM small\nRUN echo {base} > /base\nCOPY --link d /x/\n");
        drydock.build(&context(&text("one"))).args(["-t", "one"]).ok();
        built(&drydock, &text("two"));
        // Of each image a step and a linked copy; the copy itself.
        assert_eq!(snapshots(&drydock), before + 5);
        drydock.command("prune").args(["-a", "-f"]).ok();
        assert_eq!(snapshots(&drydock), 2 + 3, "what the images have and use");
        let seen = "FROM one\nRUN cat /base /x/x /x/sub/y > /seen\n";
        assert_eq!(drydock.bare_build(&Context::new(seen)).image().text("seen"), "one\nxy");
        // The copy is known still.
        let (_, output) = built(&drydock, &text("three"));
        assert!(output.cached("] COPY --link"), "{output}");
        drydock.command("rmi").args(["one"]).ok();
        drydock.command("prune").args(["-a", "-f"]).ok();
        assert_eq!(snapshots(&drydock), 2);
        let (image, _) = built(&drydock, &text("one"));
        assert_eq!(image.text("x/x"), "x");
    }
}

#[test]
fn privileged_a_lost_layer_is_made_again() {
    require_root!();
    let drydock = Drydock::new();
    let text = "FROM busybox\nRUN echo > /base\nCOPY --link d /x/\nRUN cat /x/x > /out\n";
    built(&drydock, text);
    let dir = drydock.state().join("snapshots-v1");
    let has_file = |id: &std::path::Path| id.join("fs/x/sub/y").exists();
    let names = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
    let Some(layer) = names.into_iter().find(|path| has_file(path)) else {
        skip::say("a lost layer", "snapshots are not stored as layers here");
        return;
    };
    std::fs::remove_dir_all(layer).unwrap();
    let (image, output) = built(&drydock, text);
    assert_eq!((image.text("out"), image.text("x/sub/y")), ("x".into(), "y".into()));
    assert!(output.cached("RUN echo") && !output.cached("] COPY --link"), "{output}");
    drydock.command("prune").args(["-a", "-f"]).ok();
    assert_eq!(snapshots(&drydock), 0);
}

#[test]
fn privileged_killed_builds_lose_no_linked_copy() {
    require_root!();
    let mut text = "FROM small\nRUN echo > /base\n".to_owned();
    for n in 0..6 {
        text.push_str(&format!("COPY --link d /x{n}/\nRUN echo {n} > /x{n}/x\n"));
    }
    for drydock in both() {
        let context = context(&text);
        for n in [2, 5] {
            let mut running = drydock.build(&context).start();
            running.wait_for(&format!("RUN echo {n} > /x{n}/x\n"));
            running.kill();
            let killed = running.finish();
            let done: Vec<String> = ran(&killed);
            let output = drydock.build(&context).ok();
            let again = ran(&output);
            assert!(done.iter().all(|step| !again.contains(step)), "{killed}\n{output}");
            let image = drydock.build(&context).image();
            assert_eq!(image.text(&format!("x{n}/x")), format!("{n}\n"));
            assert_eq!(image.text(&format!("x{n}/sub/y")), "y");
            drydock.command("prune").args(["-a", "-f"]).ok();
            assert_eq!(snapshots(&drydock), 2);
        }
    }
}
