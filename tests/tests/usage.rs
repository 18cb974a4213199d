//! `du` and `prune`: what takes how much, and making room, also beside builds.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::git_server::GitServer;
use tests::host::wait_until;
use tests::person::{Person, ok};
use tests::require_root;

/// How long something may take to come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Steps that leave what is hard to count: many names and files, holes, hard links, nothing at
/// all, a cache mount, layers that others have.
const KINDS: &str = "FROM busybox AS one\n\
    RUN mkdir -p /many && cd /many && for n in $(seq 100); do echo $n > $n; mkdir d$n; done\n\
    RUN cd /many && for n in $(seq 1 2 100); do rm $n; ln $((n + 1)) l$n; done\n\
    RUN dd if=/dev/zero of=/hole bs=1 count=1 seek=8M && head -c 3000000 /dev/urandom > /full\n\
    RUN rm /full && chmod 700 /many && ln -s many /link\n\
    RUN --mount=type=cache,target=/root/.cache,sharing=locked,commit=on-success \
        head -c 700000 /dev/urandom > /root/.cache/x && ln /root/.cache/x /root/.cache/y\n\
    RUN --mount=type=cache,target=/c,id=shared echo > /c/small\n\
    RUN true\n\
    COPY a d /copied/\n\
    FROM busybox\n\
    COPY --link --from=one /many /m\n\
    COPY --from=one /copied /c\n";

/// A base with one file for all its programs: quick to be copied, where each program of the usual one
/// is a file of its own then.
const SMALL: &str = "FROM busybox AS full\nFROM scratch\nCOPY --from=full /bin/busybox /bin/busybox\n\
                     RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

fn kinds() -> Context {
    kinds_on("busybox")
}

fn kinds_on(base: &str) -> Context {
    Context::new(&KINDS.replace("busybox", base))
        .file("a", "A")
        .file("d/x", "x")
        .file("d/sub/y", "y".repeat(70_000))
}

/// What du(1) says that a directory takes, in bytes.
fn du(dir: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(dir).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn usage(drydock: &Drydock, args: &[&str]) -> Vec<Value> {
    rows(&drydock.command("du").args(["--format", "json"]).args(args).ok().text())
}

fn sum(rows: &[Value]) -> u64 {
    rows.iter().map(|row| row["Size"].as_u64().unwrap()).sum()
}

/// Whether two numbers of bytes differ by at most one in a hundred.
fn near(one: u64, other: u64) -> bool {
    one.abs_diff(other) * 100 <= one.max(other)
}

/// Compares what the program says with what du(1) says; that.
fn compare(drydock: &Drydock, when: &str) -> u64 {
    let (said, there) = (sum(&usage(drydock, &[])), du(drydock.state()));
    assert!(near(said, there), "{when}: {said} said, {there} there");
    there
}

/// A number of bytes as it is shown: `1.20MB`.
fn bytes(text: &str) -> f64 {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = match &text[end..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{other}"),
    };
    text[..end].parse::<f64>().unwrap() * unit
}

fn total(output: &Output) -> f64 {
    let text = output.text();
    let line = text.lines().find_map(|line| line.strip_prefix("Total:")).expect("a total");
    bytes(line.trim())
}

/// Prunes, and checks that it says what du(1) says.
fn prune(drydock: &Drydock, args: &[&str]) -> Output {
    let before = du(drydock.state());
    let output = drydock.command("prune").arg("--force").args(args).ok();
    let fell = before.saturating_sub(du(drydock.state())) as f64;
    let said = total(&output);
    // Two digits after the point are shown.
    assert!(
        (said - fell).abs() <= fell.max(said) * 0.01,
        "{args:?}: said {said}, fell {fell}\n{output}"
    );
    output
}

/// A state directory as it would be here, and one with plain copies.
fn both() -> [Drydock; 2] {
    let copies = Drydock::new();
    copies.command("images").ok();
    std::fs::write(copies.state().join("snapshots-v1/kind"), "copy").unwrap();
    [Drydock::new(), copies]
}

#[test]
fn privileged_du_agrees_with_du() {
    require_root!();
    let server = GitServer::start();
    server.repository("r").write("f", &"f".repeat(5000)).commit("all");
    let kinds = kinds_on("small");
    for drydock in both() {
        compare(&drydock, "an empty one");
        drydock.build(&Context::new(SMALL)).args(["-t", "small"]).ok();
        drydock.build(&kinds).ok();
        compare(&drydock, "steps");
        let dest = format!("type=oci,dest={}", drydock.place("x.tar").display());
        drydock.build(&kinds).args(["-t", "app", "-o", &dest]).ok();
        compare(&drydock, "an image and its blobs");
        let lines = format!("FROM scratch\nADD {} /src\n", server.url("r"));
        drydock.build(&Context::new(&lines)).ok();
        compare(&drydock, "a git repository");
        drydock.build(&Context::new("FROM small\nRUN echo > /x; false\n")).fails();
        compare(&drydock, "a build that failed");
        let part = drydock.state().join(format!("inflight/blob-{}", "0".repeat(64)));
        std::fs::write(part, vec![1; 3_000_000]).unwrap();
        std::fs::write(drydock.state().join("trash/old"), vec![1; 3_000_000]).unwrap();
        compare(&drydock, "a part of a download, and trash");
        prune(&drydock, &[]);
        compare(&drydock, "what prune left");
        drydock.build(&kinds).args(["-t", "app"]).ok();
        prune(&drydock, &["--all"]);
        compare(&drydock, "what prune --all left of an image");
        drydock.command("rmi").args(["app", "small"]).ok();
        prune(&drydock, &["--all"]);
        let left = usage(&drydock, &[]);
        assert!(left.iter().all(|row| row["Type"] == "internal"), "{left:?}");
        assert!(left.iter().all(|row| row["Reclaimable"] == false), "{left:?}");
        compare(&drydock, "nothing");
    }
}

#[test]
fn privileged_du_agrees_with_du_for_ordinary_users() {
    let Some(person) = Person::new("du as an ordinary user", true) else { return };
    let dockerfile =
        format!("{KINDS}RUN chown -R 1000:33 /m && chmod 0 /m/1 /m/d2; chown 65534 /m\n");
    person.context("context", &dockerfile, &[("a", b"A"), ("d", b"file")]);
    let compare = |when: &str| {
        let output = person.run(["du", "--json"]);
        ok(&output);
        let rows = rows(&String::from_utf8(output.stdout).unwrap());
        let (said, there) = (sum(&rows), du(&person.state));
        assert!(near(said, there), "{when}: {said} said, {there} there");
    };
    ok(&person.build("context", &["-t", "app"]));
    compare("a build");
    ok(&person.run(["prune", "--force"]));
    compare("what prune left");
    ok(&person.run(["rmi", "app"]));
    ok(&person.run(["prune", "--force", "--all"]));
    compare("nothing");
}

#[test]
fn privileged_records_are_told_as_buildkit_does() {
    require_root!();
    let drydock = Drydock::new();
    drydock.build(&kinds()).args(["-t", "app:1"]).ok();
    let all = usage(&drydock, &[]);
    // As people are used to ask buildx for it.
    let template = drydock.command("du").args(["--format", "{{json .}}"]).ok().text();
    assert_eq!(rows(&template).len(), all.len());
    let find = |part: &str| {
        let says = |row: &&Value| row["Description"].as_str().unwrap().contains(part);
        all.iter().find(says).unwrap_or_else(|| panic!("{part}: {all:?}"))
    };
    let step = find("RUN true");
    assert_eq!((&step["Type"], &step["Mutable"]), (&"regular".into(), &false.into()));
    assert_eq!(step["Parents"].as_array().unwrap().len(), 1);
    assert!(find("pulled from ")["Shared"].as_bool().unwrap());
    let mount = find("cached mount /root/.cache from exec ");
    assert_eq!((&mount["Type"], &mount["Mutable"]), (&"exec.cachemount".into(), &true.into()));
    assert!(
        find("cached mount /c from exec ")["Description"]
            .as_str()
            .unwrap()
            .ends_with("with id \"shared\"")
    );
    assert_eq!(find("local source for context")["Type"], "source.local");
    assert_eq!(find("log of build")["Type"], "internal");
    let top =
        all.iter().find(|row| row["Images"][0] == "docker.io/library/app:1").expect("its image");
    assert!(top["Shared"].as_bool().unwrap() && !top["Reclaimable"].as_bool().unwrap());
    // The largest first.
    let sizes: Vec<u64> = all.iter().map(|row| row["Size"].as_u64().unwrap()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    let verbose = drydock.command("du").arg("-v").ok().text();
    assert!(drydock.command("du").args(["--format", "pretty"]).ok().text().starts_with("ID: "));
    for name in [
        "ID:",
        "Parent:",
        "Created at:",
        "Mutable:",
        "Reclaimable:",
        "Shared:",
        "Size:",
        "Description:",
        "Usage count:",
        "Last used:",
        "Type:",
    ] {
        assert!(verbose.lines().any(|line| line.starts_with(name)), "{name}: {verbose}");
    }
}

#[test]
fn privileged_tables_have_stars_and_sums() {
    require_root!();
    let drydock = Drydock::new();
    drydock.build(&kinds()).args(["-t", "app:1"]).ok();
    let all = usage(&drydock, &[]);
    let mount = all.iter().find(|row| row["Type"] == "exec.cachemount").unwrap();
    let top = all.iter().find(|row| row["Images"][0] == "docker.io/library/app:1").unwrap();
    // A star is for what is changed in place, and for what images share.
    let table = drydock.command("du").ok().text();
    let head: Vec<&str> = table
        .lines()
        .next()
        .unwrap()
        .split("   ")
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    assert_eq!(head, ["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]);
    let line = |row: &Value| {
        let id = row["ID"].as_str().unwrap();
        table.lines().find(|line| line.starts_with(id)).unwrap().to_owned()
    };
    assert!(line(mount).starts_with(&format!("{}* ", mount["ID"].as_str().unwrap())), "{table}");
    assert!(line(top).contains("B*  "), "{table}");
    let sums: Vec<&str> = table.lines().rev().take(4).collect();
    for (line, name) in sums.iter().rev().zip(["Shared:", "Private:", "Reclaimable:", "Total:"]) {
        assert!(line.starts_with(name), "{table}");
    }
    // Only some of it, and its sums.
    let mounts = usage(&drydock, &["--filter", "type=exec.cachemount"]);
    assert_eq!(mounts.len(), 2);
    let table = drydock
        .command("du")
        .args(["--filter", "type==exec.cachemount", "--filter", "description~=/root"])
        .ok();
    assert_eq!(table.text().lines().count(), 1 + 1 + 4, "{table}");
    assert!((total(&table) - sum(&mounts) as f64).abs() < 20_000.0);
    assert_eq!(usage(&drydock, &["--filter", "until=1h"]).len(), 0);
    assert_eq!(usage(&drydock, &["--filter", "inuse"]).len(), 0);
    let by_id = usage(&drydock, &["--filter", &format!("id={}", top["ID"].as_str().unwrap())]);
    assert_eq!(by_id, std::slice::from_ref(top));
}

#[test]
fn mistakes_in_filters_are_told() {
    let drydock = Drydock::new();
    for (command, args, part) in [
        ("du", &["--filter", "tpye==regular"][..], "did you mean \"type\"?"),
        ("du", &["--filter", "type==regualr"], "did you mean \"regular\"?"),
        ("prune", &["--filter", "id~=("], "is not a regular expression"),
        ("prune", &["--filter", "until=soon"], "such as 24h"),
        ("prune", &["--filter", "type=regular", "--filter", "type==internal"], "was given twice"),
        ("prune", &["--max-used-space", "lots"], "not a size"),
        ("du", &["--format", "xml"], "pretty"),
    ] {
        let output = drydock.command(command).args(args).fails();
        assert!(output.stderr.starts_with("ERROR: ") && output.stderr.contains(part), "{output}");
    }
    assert!(!drydock.state().exists(), "nothing was begun");
}

#[test]
fn privileged_the_tree_shows_what_hangs_on_what() {
    require_root!();
    let drydock = Drydock::new();
    let lines = |last: &str| {
        format!("FROM busybox\nRUN head -c 2000000 /dev/urandom > /one\nRUN echo {last} > /two\n")
    };
    drydock.build(&Context::new(&lines("a"))).args(["-t", "app:a"]).ok();
    drydock.build(&Context::new(&lines("b"))).args(["-t", "app:b"]).ok();
    drydock.build(&Context::new(&lines("c"))).ok();
    let text = drydock.command("du").arg("--tree").ok().text();
    let lines: Vec<&str> = text.lines().collect();
    let at = |part: &str| {
        lines
            .iter()
            .position(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {text}"))
    };
    let (base, one) = (at("pulled from "), at("RUN head"));
    let leaves = [at("RUN echo a"), at("RUN echo b"), at("RUN echo c")];
    assert!(base < one && leaves.iter().all(|leaf| *leaf > one), "{text}");
    assert!(
        lines[leaves[0]].ends_with("[app:a]") && lines[leaves[1]].ends_with("[app:b]"),
        "{text}"
    );
    assert!(lines[leaves[2]].contains(" true ") && lines[one].contains(" false "), "{text}");
    assert!(
        lines[one].contains("└ ")
            && leaves.iter().all(|l| lines[*l].contains("├ ") || lines[*l].contains("└ "))
    );
    assert!(lines[0].starts_with("Snapshots: ") && text.contains("\nInternal: "), "{text}");
    let nodes = rows(&drydock.command("du").args(["--tree", "--json"]).ok().text());
    let node = |part: &str| {
        nodes.iter().find(|n| n["Description"].as_str().unwrap().contains(part)).unwrap()
    };
    let number = |node: &Value, key: &str| node[key].as_u64().unwrap();
    let (one, base) = (node("RUN head"), node("pulled from "));
    let hang: u64 =
        ["a", "b", "c"].iter().map(|l| number(node(&format!("RUN echo {l}")), "Size")).sum();
    assert_eq!(number(one, "SizeWithChildren"), number(one, "Size") + hang);
    assert_eq!(
        number(base, "SizeWithChildren"),
        number(base, "Size") + number(one, "SizeWithChildren")
    );
    assert_eq!((number(base, "Depth"), number(one, "Depth")), (0, 1));
    let names = one["NeededBy"].as_array().unwrap();
    assert_eq!(names, &["docker.io/library/app:a", "docker.io/library/app:b"]);
    assert_eq!(sum(&nodes), sum(&usage(&drydock, &[])));
}

#[test]
fn privileged_prune_takes_what_the_filter_wants() {
    require_root!();
    let drydock = Drydock::new();
    drydock.build(&kinds()).ok();
    let count = |filter: &str| usage(&drydock, &["--filter", filter]).len();
    let output =
        prune(&drydock, &["--filter", "type==exec.cachemount", "--filter", "description~=/root"]);
    assert!(output.text().starts_with("ID "), "{output}");
    assert_eq!(output.text().lines().count(), 1 + 1 + 1, "{output}");
    assert_eq!(count("type==exec.cachemount"), 1);
    assert!(drydock.build(&kinds()).ok().executed().is_empty(), "the steps are there still");
    // What something needs stays, whatever a filter says.
    let before = count("type==regular");
    prune(&drydock, &["--filter", "description~=RUN mkdir"]);
    assert_eq!(count("type==regular"), before);
    prune(&drydock, &["--filter", "until=1h"]);
    assert_eq!(count("type==regular"), before);
    let output = prune(&drydock, &["--verbose", "--filter", "description~=COPY --from"]);
    assert!(
        output.text().contains("Description:   ") && output.text().contains("COPY --from"),
        "{output}"
    );
    let why = drydock.build(&kinds()).arg("--explain").ok();
    assert_eq!(why.executed().len(), 1, "{why}");
    let rule = "by drydock prune --filter 'description~=COPY --from'";
    assert!(why.stderr.contains(rule), "{why}");
    // Without --all, what is only for people stays, and base images.
    prune(&drydock, &[]);
    assert!(
        count("type==internal") > 4
            && count("description~=pulled") == 1
            && count("description~=log") > 0
    );
    assert_eq!(count("type==source.local") + count("type==exec.cachemount"), 0);
    prune(&drydock, &["-a"]);
    assert_eq!(count("description~=pulled") + count("description~=log"), 0);
}

#[test]
fn privileged_what_is_damaged_is_told_and_goes() {
    require_root!();
    let drydock = Drydock::new();
    let text = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /one\nRUN echo two > /two\n";
    drydock.build(&Context::new(text)).ok();
    let one = usage(&drydock, &["--filter", "description~=RUN head"]).remove(0);
    let meta = drydock.state().join("snapshots-v1").join(one["ID"].as_str().unwrap()).join("meta");
    std::fs::write(&meta, "noise").unwrap();
    compare(&drydock, "a damaged snapshot");
    let damaged = usage(&drydock, &["--filter", "description~=^damaged"]);
    assert_eq!(damaged.iter().map(|row| &row["ID"]).collect::<Vec<_>>(), [&one["ID"]]);
    prune(&drydock, &["--filter", "type==regular"]);
    assert!(!meta.exists(), "it went");
    let again = drydock.build(&Context::new(text)).ok();
    assert_eq!(again.executed().len(), 2, "{again}");
}

#[test]
fn privileged_prune_stops_at_a_size() {
    require_root!();
    let drydock = Drydock::new();
    let file = |n: u32| {
        Context::new(&format!("FROM scratch\nCOPY big /{n}\n"))
            .file("big", n.to_string().repeat(2_000_000))
    };
    for n in 1..=4 {
        drydock.build(&file(n)).ok();
    }
    let steps = || usage(&drydock, &["--filter", "description~=COPY"]).len();
    let all = du(drydock.state());
    let megabyte = 1 << 20;
    let limit = |bytes: u64| bytes.to_string();
    prune(&drydock, &["--max-used-space", &limit(all + megabyte)]);
    assert_eq!(steps(), 4);
    prune(&drydock, &["--max-used-space", &limit(all - megabyte)]);
    assert_eq!(steps(), 3, "one is enough");
    assert!(
        drydock.build(&file(4)).ok().executed().is_empty(),
        "the one that was used longest ago"
    );
    prune(
        &drydock,
        &["--max-used-space", "1m", "--reserved-space", &limit(du(drydock.state()) - megabyte)],
    );
    assert_eq!(steps(), 2, "so much stays in any case");
    prune(&drydock, &["--keep-storage", "1TB"]);
    prune(&drydock, &["--min-free-space", "0%"]);
    assert_eq!(steps(), 2);
    prune(
        &drydock,
        &["--min-free-space", "100%", "--reserved-space", &limit(du(drydock.state()) - megabyte)],
    );
    assert_eq!(steps(), 1);
    prune(&drydock, &["--min-free-space", "100%"]);
    assert_eq!(steps(), 0);
}

#[test]
fn privileged_what_a_running_build_needs_stays() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n\
         RUN --mount=type=cache,target=/c echo is-in; while ! test -e /c/go; do sleep 0.1; done\n\
         RUN cat /one /two > /three\n",
    );
    let dest = format!("type=oci,dest={}", drydock.place("x.tar").display());
    let mut running = drydock.build(&context).args(["-o", &dest]).start();
    running.wait_for("is-in\n");
    let used = drydock.command("du").args(["--json", "--filter", "inuse"]).output();
    let pruned = [&["-a"][..], &["-a", "--filter", "until=0s"], &["-a", "--max-used-space", "1"]]
        .map(|args| drydock.command("prune").arg("-f").args(args).output());
    // It ends before anything is checked: a build that waits would be left behind.
    let mounts = std::fs::read_dir(drydock.state().join("mounts-v1")).unwrap();
    mounts.for_each(|entry| std::fs::write(entry.unwrap().path().join("0/go"), "").unwrap());
    let output = running.finish();
    assert!(pruned.iter().all(|output| output.status.success()), "{}", pruned[0]);
    let used = rows(&used.text());
    for part in ["RUN echo one", "RUN echo two", "pulled from", "cached mount /c", "log of build"] {
        let says = |row: &Value| row["Description"].as_str().unwrap().contains(part);
        assert!(used.iter().any(says), "{part}: {used:?}");
    }
    assert!(used.iter().all(|row| row["Reclaimable"] == false), "{used:?}");
    assert!(output.status.success(), "{output}");
    let image = tests::image_view::ImageView::archive(&drydock.place("x.tar"));
    assert_eq!(image.text("three"), "one\ntwo\n");
    let again = drydock.build(&context).ok();
    assert!(again.executed().is_empty(), "nothing of it was lost: {again}");
}

#[test]
fn privileged_builds_and_prunes_in_loops() {
    require_root!();
    const BUILDS: usize = 6;
    let drydock = Drydock::new();
    let over = AtomicBool::new(false);
    let build = |builder: usize| {
        for n in 0..BUILDS {
            let text = format!(
                "FROM busybox AS one\nRUN echo {n} > /n && mkdir /d && echo d > /d/f\n\
                 RUN --mount=type=cache,target=/c echo {builder} >> /c/log; cp /n /d/n\n\
                 FROM busybox\nCOPY --from=one /d /d\nCOPY --link a /a\nRUN cat /d/n /a > /out\n"
            );
            let context = Context::new(&text).file("a", "A");
            let dest = drydock.place(&format!("{builder}-{n}.tar"));
            let to = format!("type=oci,dest={}", dest.display());
            let name = format!("app:{builder}");
            let output = drydock.build(&context).args(["-t", &name, "-o", &to]).output();
            assert!(output.status.success(), "{output}");
            let image = tests::image_view::ImageView::archive(&dest);
            assert_eq!(image.text("out"), format!("{n}\nA"));
            assert_eq!(image.text("d/f"), "d\n");
        }
    };
    let clear = |args: &[&[&str]]| {
        for args in args.iter().cycle() {
            if over.load(Ordering::SeqCst) {
                break;
            }
            drydock.command(args[0]).args(&args[1..]).ok();
        }
    };
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3).map(|b| scope.spawn(move || build(b))).collect();
        scope.spawn(|| clear(&[&["prune", "-af"], &["du", "--tree"], &["prune", "-f"]]));
        scope.spawn(|| clear(&[&["prune", "-af", "--max-used-space", "1m"], &["du"]]));
        let ended: Vec<_> = builders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        for result in ended {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    drydock.command("rmi").args(["app:0", "app:1", "app:2"]).ok();
    assert!(wait_until(PATIENCE, || {
        drydock.command("prune").args(["-af"]).ok();
        let left = usage(&drydock, &[]);
        left.iter().all(|row| row["Type"] == "internal")
    }));
    compare(&drydock, "after all of it");
}
