//! `RUN --mount=type=cache` between processes, and what failed and killed steps leave in one.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Run};
use tests::host::{mounts_below, wait_until};
use tests::person::{Person, fails, ok};
use tests::random::Random;
use tests::{require_root, skip};

/// How long something may take that does not depend on us alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step with these mounts; a salt makes it another one each time.
fn step(salt: &str, mounts: &[&str], script: &str) -> Context {
    let mounts: Vec<String> =
        mounts.iter().map(|mount| format!("--mount=type=cache,{mount}")).collect();
    Context::new(&format!("FROM busybox\nRUN {} : {salt}; {script}\n", mounts.join(" ")))
}

/// A mount by which we tell a step to go on.
const GATE: &str = "id=gate,target=/gate";
/// What a step does until then.
const WAIT: &str = "until [ -e /gate/go ]; do sleep 0.02; done";

/// Where the cache mount with this name is.
fn home(state: &Path, name: &str) -> PathBuf {
    let homes = fs::read_dir(state.join("mounts-v1")).unwrap().flatten();
    let mut homes = homes.map(|entry| entry.path());
    homes.find(|home| fs::read_to_string(home.join("name")).is_ok_and(|it| it == name)).unwrap()
}

/// What is in it besides locks and the name.
fn copies(state: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(home(state, name)).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.retain(|n| !["name", "purpose", "choice"].contains(&n.as_str()) && !n.ends_with(".lock"));
    names.sort();
    names
}

fn open_gate(state: &Path) {
    fs::write(home(state, "gate").join("0/go"), "").unwrap();
}

#[test]
fn privileged_locked_ones_are_for_one_process() {
    require_root!();
    for commit in ["always", "on-success"] {
        let drydock = Drydock::new();
        let mount = format!("target=/c,sharing=locked,commit={commit}");
        let first = step("1", &[&mount, GATE], &format!("echo 1 > /c/f; echo is-in; {WAIT}"));
        let mut first = drydock.build(&first).start();
        first.wait_for("is-in\n");
        let second = step("2", &[&mount], "echo got-$(cat /c/f)");
        let mut second = drydock.build(&second).start();
        second.wait_for("waiting for cache mount \"/c\", which is in use");
        assert!(!second.stderr().contains("got-1\n"));
        open_gate(drydock.state());
        assert!(first.finish().status.success());
        let second = second.finish();
        assert!(second.status.success() && second.stderr.contains("got-1\n"), "{second}");
        assert_eq!(copies(drydock.state(), "/c"), ["0"]);
    }
}

#[test]
fn privileged_private_ones_are_two_and_shared_ones_are_one() {
    require_root!();
    for commit in ["always", "on-success"] {
        let drydock = Drydock::new();
        let mount = format!("target=/c,sharing=private,commit={commit}");
        let first = step("1", &[&mount, GATE], &format!("echo 1 > /c/f; echo is-in; {WAIT}"));
        let mut first = drydock.build(&first).start();
        first.wait_for("is-in\n");
        // It ends while the first one is still at work.
        let second = step("2", &[&mount], "ls /c > /out; echo 2 > /c/f");
        assert_eq!(drydock.build(&second).image().text("out"), "", "{commit}");
        assert!(!first.is_over());
        open_gate(drydock.state());
        assert!(first.finish().status.success());
        assert_eq!(copies(drydock.state(), "/c"), ["0", "1"]);
        // The first one is the one that is used again.
        let third = step("3", &[&mount], "cp /c/f /out");
        assert_eq!(drydock.build(&third).image().text("out"), "1\n", "{commit}");
    }
    let drydock = Drydock::new();
    let first = step("1", &["target=/c"], "echo is-in; until [ -e /c/go ]; do sleep 0.02; done");
    let mut first = drydock.build(&first).start();
    first.wait_for("is-in\n");
    drydock.build(&step("2", &["target=/c"], "touch /c/go")).ok();
    assert!(first.finish().status.success());
    assert_eq!(copies(drydock.state(), "/c"), ["0"]);
}

/// The ways in which changes are kept apart.
const WAYS: [&str; 2] = ["overlay", "copy"];

/// A mount that keeps what succeeds.
const KEPT: &str = "target=/c,sharing=locked,commit=on-success";

/// Builds one step on a state directory whose snapshots are of this kind.
fn build(drydock: &Drydock, way: &str, salt: &str, script: &str) -> Run {
    drydock.build(&step(salt, &[KEPT], script)).args(["--snapshotter", way])
}

/// What is in the directory `/c` of the last build.
const LIST: &str = "cd /c; find . -type f | sort | while read f; do echo $f $(cat $f); done > /out";

#[test]
fn privileged_failed_steps_leave_nothing_and_others_everything() {
    require_root!();
    for way in WAYS {
        let drydock = Drydock::new();
        let first = "mkdir -p /c/d/e; echo 1 > /c/d/e/f; echo 1 > /c/g; ln /c/g /c/h";
        build(&drydock, way, "1", first).ok();
        let bad = "mv /c/d /c/moved; rm /c/g; echo 2 > /c/new; echo 2 >> /c/h; exit 3";
        let output = build(&drydock, way, "2", bad).fails();
        assert!(output.stderr.contains("exit code: 3"), "{output}");
        assert_eq!(copies(drydock.state(), "/c"), ["0"], "{way}");
        let image = build(&drydock, way, "3", LIST).image();
        assert_eq!(image.text("out"), "./d/e/f 1\n./g 1\n./h 1\n", "{way}");
        assert!(!image.root.has("c"));
        // The same step again, now with an end that succeeds.
        let good =
            "mv /c/d /c/moved && rm /c/g && echo 2 > /c/new && mkdir /c/d && echo 2 > /c/d/f";
        build(&drydock, way, "4", good).ok();
        let image = build(&drydock, way, "5", LIST).image();
        assert_eq!(image.text("out"), "./d/f 2\n./h 1\n./moved/e/f 1\n./new 2\n", "{way}");
        // Live, it is the same directory.
        let live = step("6", &["target=/c"], &format!("{LIST}; echo 3 > /c/live; false"));
        drydock.build(&live).args(["--snapshotter", way]).fails();
        let image = build(&drydock, way, "7", "cat /c/new /c/live > /out").image();
        assert_eq!(image.text("out"), "2\n3\n", "{way}");
        assert_eq!(copies(drydock.state(), "/c"), ["0"], "{way}");
        assert_eq!(mounts_below(drydock.state()), Vec::<String>::new());
    }
}

#[test]
fn privileged_killed_builders_leave_nothing() {
    require_root!();
    for way in WAYS {
        let drydock = Drydock::new();
        build(&drydock, way, "1", "echo 1 > /c/f").ok();
        let mut running = build(
            &drydock,
            way,
            "2",
            "echo 2 > /c/f; head -c 3000000 /dev/zero > /c/g; echo is-in; sleep 600",
        )
        .start();
        running.wait_for("is-in\n");
        // Its space is seen, and it is not taken away.
        let used = drydock.command("du").arg("--verbose").ok();
        let prune = drydock.command("prune").args(["--force", "--all"]).ok();
        assert!(used.text().contains("exec.cachemount"), "{used}");
        let parts = copies(drydock.state(), "/c");
        assert_eq!(parts, ["0", "0.step"], "{way}: {prune}");
        running.kill();
        running.finish();
        assert!(wait_until(PATIENCE, || tests::host::users_of(drydock.state()).is_empty()));
        let image = build(&drydock, way, "3", LIST).image();
        assert_eq!(image.text("out"), "./f 1\n", "{way}");
        assert_eq!(copies(drydock.state(), "/c"), ["0"], "{way}");
        assert_eq!(mounts_below(drydock.state()), Vec::<String>::new());
    }
}

/// How often a builder is killed.
const MOMENTS: u32 = 8;

#[test]
fn privileged_killed_at_random_moments_it_is_all_or_nothing() {
    require_root!();
    let mut random = Random::announced("killed transactions");
    for way in WAYS {
        let drydock = Drydock::new();
        // A tree that moves, and files that are all of one age.
        let script = |age: u32| {
            format!(
                "cd /c; old=$(ls -d t* 2> /dev/null); if [ \"$old\" ]; then mv $old t{age}; else mkdir -p t{age}/u; fi; \
                 for n in $(seq 60); do echo {age} > t{age}/u/$n; echo {age} > $n; done; echo is-written; true"
            )
        };
        build(&drydock, way, "0", &script(0)).ok();
        for age in 1..=MOMENTS {
            let mut running = build(&drydock, way, &age.to_string(), &script(age)).start();
            running.wait_for("is-written\n");
            std::thread::sleep(Duration::from_micros(random.below(60_000)));
            running.kill();
            running.finish();
            let check =
                "cd /c; { ls -d t*; cat t*/u/* [0-9]* | sort | uniq -c | sed 's/^ *//'; } > /out";
            let image = build(&drydock, way, &format!("check {age}"), check).image();
            let text = image.text("out").to_owned();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{way}, {age}: {text}");
            assert_eq!(lines[1], format!("120 {}", &lines[0][1..]), "{way}, {age}");
            assert_eq!(copies(drydock.state(), "/c"), ["0"], "{way}");
        }
    }
}

#[test]
fn privileged_fresh_ones_replace_the_old_when_they_succeed() {
    require_root!();
    for way in WAYS {
        let drydock = Drydock::new();
        build(&drydock, way, "1", "echo 1 > /c/old").ok();
        let output = build(&drydock, way, "2", "ls /c | wc -l; echo 2 > /c/new; false");
        let output = output.arg("--no-cache").fails();
        assert!(output.stderr.contains(" 0\n"), "it starts empty: {output}");
        let image = build(&drydock, way, "3", LIST).image();
        assert_eq!(image.text("out"), "./old 1\n", "{way}");
        build(&drydock, way, "4", "echo 4 > /c/new").arg("--no-cache").ok();
        let image = build(&drydock, way, "5", LIST).image();
        assert_eq!(image.text("out"), "./new 4\n", "{way}");
        assert_eq!(copies(drydock.state(), "/c"), ["0"], "{way}");
    }
}

#[test]
fn privileged_with_every_other_option() {
    require_root!();
    let drydock = Drydock::new();
    let text = |ending: &str| {
        format!(
            "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo seeded > /s/sub/f && chown -R 5:6 /s\n\
             FROM busybox\n\
             RUN --mount=type=cache,id=x,from=seed,source=/s,target=/q,sharing=private,commit=on-success \\\n\
                 cat /q/sub/f > /out; stat -c '%u:%g' /q /q/sub >> /out; echo more > /q/sub/g; {ending}\n\
             RUN --mount=type=cache,id=y,target=/y,mode=2750,uid=7,gid=8,sharing=locked,commit=on-success \\\n\
                 stat -c '%a %u:%g' /y >> /out; mkdir -p /y/d; echo y > /y/d/f\n\
             RUN --mount=type=cache,id=y,source=d,target=/d,sharing=locked,commit=On-Success cat /d/f >> /out; echo z > /d/f\n\
             RUN --mount=type=cache,id=y,ro,target=/y,sharing=locked,commit=on-success \\\n\
                 cat /y/d/f >> /out; (echo no > /y/d/f) 2> /dev/null || echo read-only >> /out; stat -c '%a %u:%g' /y >> /out\n\
             RUN --mount=type=cache,id=y,target=/a,sharing=locked,commit=on-success --mount=type=cache,id=y,target=/b \\\n\
                 --mount=type=cache,id=y,target=/c,ro echo both > /a/two; cat /b/two /c/two >> /out; echo b > /b/three\n\
             RUN --mount=type=cache,target=/n,sharing=locked,commit=on-success \\\n\
                 --mount=type=cache,target=/n/in,sharing=locked,commit=on-success echo n > /n/in/f; ls /n >> /out\n\
             RUN --mount=type=cache,target=/n,sharing=locked,commit=on-success --mount=type=cache,id=y,target=/y \\\n\
                 ls /n >> /out; cat /y/two /y/three >> /out\n"
        )
    };
    drydock.build(&Context::new(&text("false"))).fails();
    let image = drydock.build(&Context::new(&text("true"))).image();
    let want = "seeded\n5:6\n5:6\n2750 7:8\ny\nz\nread-only\n2750 7:8\nboth\nboth\nin\nboth\nb\n";
    assert_eq!(image.text("out"), want);
    for stub in ["q", "y", "d", "a", "b", "c", "n"] {
        assert!(!image.root.has(stub), "{stub} only held a mount");
    }
    let again = drydock.build(&Context::new(&text("true"))).ok();
    assert!(again.executed().is_empty(), "{again}");
    // When it is kept is in no key, as its sharing is not.
    let other = text("true")
        .replace(",commit=on-success", "")
        .replace(",commit=On-Success", "")
        .replace("sharing=locked", "sharing=shared");
    let again = drydock.build(&Context::new(&other)).ok();
    assert!(again.executed().is_empty(), "{again}");
}

#[test]
fn privileged_wrong_values_name_the_flag() {
    require_root!();
    let drydock = Drydock::new();
    let refused = |mount: &str| {
        let text = format!("FROM busybox\nRUN --mount={mount} true\n");
        drydock.build(&Context::new(&text)).fails().stderr
    };
    let told = refused("type=cache,target=/c,commit=on-success");
    assert!(told.contains("sharing=shared is the default"), "{told}");
    assert!(told.contains("add sharing=locked"), "{told}");
    assert!(told.contains("Dockerfile:2"), "{told}");
    let told = refused("type=cache,target=/c,sharing=shared,commit=on-success");
    let want = "commit=on-success needs a cache mount of its own, but it says sharing=shared";
    assert!(told.contains(want), "{told}");
    let told = refused("type=cache,target=/c,sharing=locked,commit=on-sucess");
    assert!(told.contains("did you mean \"on-success\"?"), "{told}");
    let told = refused("type=tmpfs,target=/c,commit=always");
    assert!(told.contains("\"commit\" is not allowed for mounts of type tmpfs"), "{told}");
    let told = refused("type=cache,target=/c,comit=always");
    assert!(told.contains("commit"), "{told}");
}

#[test]
fn privileged_an_ordinary_users_are_the_same() {
    let Some(person) = Person::new("transactions of cache mounts", true) else { return };
    let build = |salt: &str, script: &str| {
        let mount = format!("--mount=type=cache,{KEPT}");
        let text = format!("FROM busybox\nRUN {mount} : {salt}; {script}\n");
        let _ = fs::remove_dir_all(person.place("context"));
        person.context("context", &text, &[]);
        person.build("context", &[])
    };
    ok(&build(
        "1",
        "mkdir -p /c/d/e; echo 1 > /c/d/f; ln /c/d/f /c/g; chown 1000:1001 /c/g; chown 5 /c",
    ));
    let told = fails(&build("2", "mv /c/d /c/moved; echo 2 > /c/moved/f; rm /c/g; exit 3"));
    assert!(told.contains("exit code: 3"), "{told}");
    let told = ok(&build("3", "cat /c/d/f; stat -c 'of-%u:%g-%h' /c/g; stat -c 'root-%u' /c"));
    assert!(told.contains("of-1000:1001-2\n") && told.contains("root-5\n"), "{told}");
    // No program has to know that this is not one directory.
    ok(&build("4", "mv /c/d /c/moved && echo 4 > /c/moved/f"));
    let told = ok(&build("5", "ls /c; echo is-$(cat /c/g)"));
    assert!(told.contains("moved\n") && told.contains("is-4\n"), "{told}");
    assert_eq!(copies(&person.state, "/c"), ["0"]);
    assert_eq!(mounts_below(person.dir.path()), Vec::<String>::new());
}

#[test]
fn privileged_an_ordinary_users_are_locked_and_outlive_a_kill() {
    let Some(person) = Person::new("killed transactions of a user", true) else { return };
    let number = Cell::new(0);
    // Each in a context of its own: several run at once.
    let build = |mounts: &[&str], script: &str| {
        number.set(number.get() + 1);
        let name = format!("context-{}", number.get());
        let mounts: Vec<String> =
            mounts.iter().map(|mount| format!("--mount=type=cache,{mount}")).collect();
        let text = format!("FROM busybox\nRUN {} : {name}; {script}\n", mounts.join(" "));
        person.context(&name, &text, &[]);
        let told = fs::File::create(person.place(&name).join("told")).unwrap();
        let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
        let mut command = person.command();
        command.args(["build", "--progress=plain", "--build-context", &base]);
        command.arg(person.place(&name)).stderr(told);
        let told = person.place(&name).join("told");
        let told = move || fs::read_to_string(&told).unwrap();
        (command.spawn().unwrap(), told)
    };
    let end = |(mut child, told): (Child, _)| {
        let told: &dyn Fn() -> String = &told;
        assert!(child.wait().unwrap().success(), "{}", told());
        told()
    };
    let wait = |told: &dyn Fn() -> String, text: &str| {
        assert!(wait_until(PATIENCE, || told().contains(text)), "no {text:?}: {}", told());
    };
    end(build(&[KEPT], "echo 1 > /c/f"));
    let (mut child, told) = build(&[KEPT], "echo 2 > /c/f; echo is-in; sleep 600");
    wait(&told, "is-in\n");
    assert_eq!(copies(&person.state, "/c"), ["0", "0.step"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_until(PATIENCE, || tests::host::users_of(&person.state).is_empty()));
    let first = build(&[KEPT, GATE], &format!("echo got-$(cat /c/f); echo 3 > /c/f; {WAIT}"));
    wait(&first.1, "got-1\n");
    let second = build(&[KEPT], "echo got-$(cat /c/f)");
    wait(&second.1, "waiting for cache mount \"/c\", which is in use");
    open_gate(&person.state);
    end(first);
    assert!(end(second).contains("got-3\n"));
    assert_eq!(copies(&person.state, "/c"), ["0"]);
    assert_eq!(mounts_below(person.dir.path()), Vec::<String>::new());
}

/// A small file system that only those see who enter.
struct SmallDisk {
    dir: tempfile::TempDir,
    holder: Child,
}

impl SmallDisk {
    /// None, with a printed reason, where there is none to be had.
    fn new(case: &str) -> Option<Self> {
        for name in ["unshare", "nsenter"] {
            if skip::program(name).is_none() {
                skip::say(case, &format!("{name} is not installed"));
                return None;
            }
        }
        let dir = tests::temp::directory();
        let script = "mount -t tmpfs -o size=64m,mode=0755 none \"$0\" && echo made && exec cat";
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", script]).arg(dir.path());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        let made = holder.stdout.as_mut().unwrap().read_exact(&mut said).is_ok();
        let disk = Self { dir, holder };
        if !made {
            skip::say(case, "a tmpfs cannot be mounted here");
            return None;
        }
        Some(disk)
    }

    /// What runs a program there.
    fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.holder.id())]
    }

    /// A path there, as it is seen from here.
    fn seen(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn privileged_a_full_disk_changes_nothing() {
    require_root!();
    // What is mounted twice is copied.
    let twice = "id=/c,target=/again,sharing=locked";
    for mounts in [&[KEPT][..], &[KEPT, twice][..]] {
        let Some(disk) = SmallDisk::new("a full disk") else { return };
        let drydock = Drydock::at(&disk.dir.path().join("state"));
        let build = |context: &Context| drydock.build(context).wrapped(disk.enter());
        // Of the copy there is no room for a second one.
        let first = "echo 1 > /c/f; head -c 36000000 /dev/zero > /c/large";
        build(&step("1", &["target=/c"], first)).ok();
        let all = "echo 2 > /c/f; mkdir /c/d; cat /dev/zero > /c/rest; true";
        let told = build(&step("2", mounts, all)).fails().stderr;
        let what = match mounts {
            [_] => "cannot commit what the step changed in cache mount \"/c\"",
            _ => "cannot keep the changes of a step to cache mount \"/c\" apart",
        };
        assert!(told.contains(what) && told.contains("No space left"), "{told}");
        let image = build(&step("3", &["target=/c"], "cat /c/f > /out; ls /c >> /out")).image();
        assert_eq!(image.text("out"), "1\nf\nlarge\n", "{mounts:?}");
        assert_eq!(copies(&disk.seen(drydock.state()), "/c"), ["0"], "{mounts:?}");
    }
}
