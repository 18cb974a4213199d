//! The ceiling of the cache (`--max-cache`), seen from outside: what the state directory takes while
//! builds write, who is held, who makes room, who fails. `DRYDOCK_TORTURE=N` does N times as much.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::context::Context;
use tests::disk::Disk;
use tests::drydock::{Drydock, Run};
use tests::git_server::GitServer;
use tests::host;
use tests::person::{Person, fails, ok};
use tests::{require_programs, require_root};

const MIB: u64 = 1 << 20;

/// What a slow step writes at once, and how long it sleeps after that: not more than 12.5 MiB a second.
const PIECE: u64 = 256 << 10;
const PAUSE_MILLIS: u64 = 20;

/// `small`, or so many times more.
fn times(small: u32) -> u32 {
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    small.saturating_mul(factor)
}

/// A command that writes so many MiB into `/<name>`, slowly; each name other bytes, which
/// compress well.
fn slowly(name: &str, mib: u64) -> String {
    let (pieces, micros) = (mib * MIB / PIECE, PAUSE_MILLIS * 1000);
    format!(
        "mkdir /{name} && i=0 && while [ $i -lt {pieces} ]; do yes {name}$i | head -c {PIECE} > \
         /{name}/$i && usleep {micros}; i=$((i+1)); done"
    )
}

/// What `/<name>/<piece>` has in it.
fn piece(name: &str, number: u64) -> Vec<u8> {
    let line = format!("{name}{number}\n").into_bytes();
    line.into_iter().cycle().take(PIECE as usize).collect()
}

fn writing(name: &str, mib: u64) -> Context {
    Context::new(&format!("FROM busybox\nRUN {}\n", slowly(name, mib)))
}

fn below(drydock: &Drydock, context: &Context, mib: u64) -> Run {
    drydock.build(context).arg(format!("--max-cache={mib}m"))
}

/// The most that a slow step writes in so many milliseconds.
fn in_millis(millis: u64) -> u64 {
    PIECE * (millis / PAUSE_MILLIS + 1)
}

/// What du(1) counts: blocks, each file once, also one that was moved meanwhile. What vanishes is
/// not counted.
fn du(root: &Path) -> u64 {
    let mut total = fs::symlink_metadata(root).map_or(0, |meta| meta.blocks() * 512);
    let (mut seen, mut open) = (HashSet::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            }
            if !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.blocks() * 512;
        }
    }
    total
}

/// Does `work`, and looks all the while what the state directory takes; the most that was seen, less
/// what two steps may have written during the look: what went before they did was seen, too.
fn sampled<T>(state: &Path, work: impl FnOnce() -> T) -> (T, u64) {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                let seen = du(state);
                let millis = began.elapsed().as_millis() as u64;
                most.fetch_max(seen.saturating_sub(2 * in_millis(millis)), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        work()
    });
    (done, most.into_inner())
}

/// What builds have reserved, and the largest excess over a reservation that any of them saw: in bytes,
/// and how many milliseconds nobody had looked.
fn ledger(state: &Path) -> (Vec<Value>, (u64, u64)) {
    let text = fs::read(state.join("ledger")).unwrap();
    let ledger: Value = serde_json::from_slice(&text).unwrap();
    let worst = |key: &str| ledger["worst"][key].as_u64().unwrap();
    (ledger["builds"].as_array().unwrap().clone(), (worst("bytes"), worst("millis")))
}

/// That what was seen is within the bound: what a step writes while nobody looks. How long that was
/// is what the builder itself wrote down, so a busy machine changes nothing.
fn within(case: &str, state: &Path, ceiling: u64, most: u64) {
    let (_, (worst, millis)) = ledger(state);
    let bound = in_millis(millis) + PIECE;
    let over = most.saturating_sub(ceiling * MIB);
    eprintln!(
        "{case}: at most {most} bytes below a ceiling of {}, {over} above it; the largest excess over a \
         reservation was {worst} bytes, {millis} ms after the look before",
        ceiling * MIB,
    );
    assert!(worst <= bound, "{case}: {worst} in {millis} ms, but no more than {bound} can be");
    // No more than two steps write at the same time here.
    assert!(over <= 2 * worst, "{case}: {most} bytes, {over} above the ceiling, excess {worst}");
}

fn unfinished(state: &Path) -> Vec<String> {
    let names = fs::read_dir(state.join("snapshots-v1")).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains('.')).collect()
}

#[test]
fn privileged_many_builds_stay_below() {
    require_root!();
    let drydock = Drydock::new();
    let ceiling = 40;
    let ((), most) = sampled(drydock.state(), || {
        for round in 0..times(3) {
            let runs: Vec<_> = (0..2)
                .map(|n| {
                    let (a, b) = (format!("a{round}x{n}"), format!("b{round}x{n}"));
                    let steps = format!("RUN {}\nRUN {}\n", slowly(&a, 5), slowly(&b, 3));
                    let context = Context::new(&format!("FROM busybox\n{steps}"));
                    below(&drydock, &context, ceiling).start()
                })
                .collect();
            for run in runs {
                let output = run.finish();
                assert!(output.status.success(), "{output}");
            }
        }
    });
    within("many builds", drydock.state(), ceiling, most);
    assert!(du(drydock.state()) <= ceiling * MIB);
    assert_eq!(ledger(drydock.state()).0, Vec::<Value>::new());
}

#[test]
fn privileged_old_results_make_room_for_a_step_that_is_held_meanwhile() {
    require_root!();
    let drydock = Drydock::new();
    let old = writing("old", 16);
    below(&drydock, &old, 32).ok();
    let new = writing("new", 18);
    let ((image, output), most) =
        sampled(drydock.state(), || below(&drydock, &new, 32).image_and_output());
    within("a step that is held", drydock.state(), 32, most);
    assert!(output.stderr.contains("at the ceiling of the cache (--max-cache 32m)"), "{output}");
    for number in 0..18 * MIB / PIECE {
        assert!(
            image.root.content(&format!("new/{number}")) == &piece("new", number)[..],
            "{number}"
        );
    }
    // What went is made again, and it is said why.
    let output = below(&drydock, &old, 32).arg("--explain").ok();
    assert!(!output.cached("RUN mkdir /old"), "{output}");
    assert!(output.stderr.contains("by --max-cache 32m"), "{output}");
}

#[test]
fn privileged_a_step_that_needs_more_fails_and_leaves_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let small = writing("small", 1);
    below(&drydock, &small, 24).args(["-t", "kept"]).ok();
    let before = du(drydock.state());
    let endless = writing("large", 64);
    let (output, most) = sampled(drydock.state(), || below(&drydock, &endless, 24).fails());
    within("a step that needs more", drydock.state(), 24, most);
    for part in [
        "the cache is full: this step wrote",
        "24MiB (--max-cache 24m)",
        "by images with a name",
        "by this build",
        "raise the ceiling",
    ] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    assert_eq!(unfinished(drydock.state()), Vec::<String>::new());
    assert_eq!(ledger(drydock.state()).0, Vec::<Value>::new());
    // The log of the failure stays.
    assert!(du(drydock.state()) < before + MIB);
    assert!(below(&drydock, &small, 24).ok().cached("RUN mkdir /small"));
    // What is known beforehand is not begun.
    let file = Context::new("FROM busybox\nCOPY big /\n").file("big", vec![7; 30 << 20]);
    let output = below(&drydock, &file, 24).fails();
    assert!(output.stderr.contains("the cache is full"), "{output}");
}

/// Stages of so many MiB each, one made on a small part of the other; of the first one and the last
/// one something is in the image.
fn stages(count: usize, mib: u64) -> Context {
    let mut text = String::new();
    for stage in 0..count {
        text.push_str(&format!("FROM busybox AS s{stage}\n"));
        if stage > 0 {
            text.push_str(&format!("COPY --from=s{} /told /told\n", stage - 1));
        }
        let name = format!("w{stage}");
        text.push_str(&format!("RUN {} && echo {stage} >> /told\n", slowly(&name, mib)));
    }
    let last = count - 1;
    text.push_str(&format!(
        "FROM busybox\nCOPY --from=s{last} /told /w{last}/3 /\nCOPY --from=s0 /w0/5 /\n"
    ));
    Context::new(&text)
}

#[test]
fn privileged_stages_that_nothing_needs_any_more_make_room() {
    require_root!();
    let drydock = Drydock::new();
    let (count, mib, ceiling) = (6, 5, 22);
    let context = stages(count, mib);
    let ((image, output), most) =
        sampled(drydock.state(), || below(&drydock, &context, ceiling).image_and_output());
    within("stages that are done with", drydock.state(), ceiling, most);
    assert!(output.stderr.contains("at the ceiling of the cache"), "{output}");
    let told: String = (0..count).map(|stage| format!("{stage}\n")).collect();
    assert_eq!(image.text("told"), told);
    assert!(image.root.content("3") == &piece("w5", 3)[..]);
    assert!(image.root.content("5") == &piece("w0", 5)[..]);
    // What is not there any more is made again, and the rest is not.
    let (again, _) = below(&drydock, &context, ceiling).image_and_output();
    assert_eq!(again.text("told"), told);
    // A cache with all results needs them all to the end.
    let drydock = Drydock::new();
    let cache = format!("type=local,mode=max,dest={}", drydock.place("cache").display());
    let output = below(&drydock, &context, ceiling).args(["--cache-to", &cache]).fails();
    assert!(output.stderr.contains("the cache is full: this step wrote"), "{output}");
    let written: u64 = count as u64 * mib;
    eprintln!("{count} stages wrote {written} MiB below a ceiling of {ceiling} MiB");
}

#[test]
fn privileged_a_burst_may_exceed_it_for_a_moment_only() {
    require_root!();
    let drydock = Drydock::new();
    let run = |command: &str| {
        let context = Context::new(&format!("FROM busybox\nRUN {command}\n"));
        below(&drydock, &context, 48)
    };
    let burst = "for i in 1 2 3 4 5 6; do head -c 33554432 /dev/zero > /burst$i || exit 1; done";
    let (output, most) = sampled(drydock.state(), || run(burst).fails());
    assert!(output.stderr.contains("the cache is full: this step wrote"), "{output}");
    let (builds, (worst, millis)) = ledger(drydock.state());
    let ceiling = 48 * MIB;
    eprintln!(
        "a burst: at most {most} bytes below a ceiling of {ceiling}; the largest excess over a \
         reservation was {worst} bytes, {millis} ms after the look before"
    );
    assert_eq!(builds, Vec::<Value>::new());
    assert_eq!(unfinished(drydock.state()), Vec::<String>::new());
    run("head -c 8388608 /dev/zero > /small").ok();
    assert!(du(drydock.state()) <= ceiling);
}

#[test]
fn privileged_what_a_step_leaves_in_a_cache_mount_counts() {
    require_root!();
    let drydock = Drydock::new();
    let fills = format!("FROM busybox\nRUN --mount=type=cache,target=/c {}\n", slowly("c/x", 64));
    let fills = Context::new(&fills);
    let (output, most) = sampled(drydock.state(), || below(&drydock, &fills, 24).fails());
    within("a cache mount", drydock.state(), 24, most);
    assert!(output.stderr.contains("the cache is full: this step wrote"), "{output}");
    // What is in the mount stays whole, or goes whole if the end of the build needed the room.
    let left = du(&drydock.state().join("mounts-v1"));
    assert!(!(MIB..=12 * MIB).contains(&left), "{left}");
    let (_, most) = sampled(drydock.state(), || below(&drydock, &writing("next", 14), 24).ok());
    within("after a cache mount", drydock.state(), 24, most);
    assert!(du(&drydock.state().join("mounts-v1")) < MIB);
}

#[test]
fn privileged_plain_copies_reserve_what_is_copied() {
    require_root!();
    let drydock = Drydock::new();
    // The base image has one program of hundreds of names, which plain copies make as many of.
    let context = Context::new("FROM busybox\nRUN true\n");
    let copy = |mib: u64| below(&drydock, &context, mib).arg("--snapshotter=copy");
    let (output, most) = sampled(drydock.state(), || copy(48).fails());
    assert!(output.stderr.contains("the cache is full: this step wrote"), "{output}");
    assert!(most <= 48 * MIB, "{most}");
    assert_eq!(unfinished(drydock.state()), Vec::<String>::new());
}

/// Text that hardly compresses, the same each time.
fn noise(mib: u64) -> String {
    let mut number = 1u64;
    let character = |_| {
        // Knuth, MMIX.
        number =
            number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (number >> 58) as u8)
    };
    (0..mib * MIB).map(character).collect()
}

#[test]
fn privileged_git_is_held_and_ended() {
    require_root!();
    let drydock = Drydock::new();
    let server = GitServer::start();
    server.repository("small").write("file", &noise(5)).commit("five");
    server.repository("large").write("file", &noise(24)).commit("large");
    let added =
        |url: String| Context::new(&format!("FROM scratch\nADD --keep-git-dir=true {url} /\n"));
    // What is there makes room for it, while it is held.
    below(&drydock, &writing("old", 18), 32).ok();
    let (image, most) =
        sampled(drydock.state(), || below(&drydock, &added(server.url("small")), 32).image());
    let told = |case: &str, most: u64, ceiling: u64| {
        let (builds, (worst, millis)) = ledger(drydock.state());
        eprintln!(
            "git that {case}: at most {most} bytes below a ceiling of {}; the largest excess over a \
             reservation was {worst} bytes, {millis} ms after the look before",
            ceiling * MIB
        );
        assert_eq!((builds, unfinished(drydock.state())), (Vec::new(), Vec::new()));
        assert!(du(drydock.state()) <= ceiling * MIB);
    };
    told("fits", most, 32);
    assert!(image.root.content("file") == noise(5).as_bytes());
    drydock.command("prune").args(["-a", "-f"]).ok();
    // What cannot fit is ended, and leaves nothing.
    // Also what is only fetched to find out which commit is meant.
    let large = server.url("large");
    for url in [large.clone(), format!("{large}#0123456")] {
        let (output, most) = sampled(drydock.state(), || below(&drydock, &added(url), 16).fails());
        told("does not fit", most, 16);
        assert!(output.stderr.contains("the cache is full: this step wrote"), "{output}");
    }
    below(&drydock, &added(large), 128).ok();
}

/// Two builds that both run and do not both fit: the first one holds what it wrote and sleeps.
fn contend(drydock: &Drydock) -> (tests::drydock::Running, tests::drydock::Running) {
    let first =
        format!("FROM busybox\nRUN {} && echo written-all && sleep 600\n", slowly("first", 12));
    let mut first = below(drydock, &Context::new(&first), 24).start();
    // In the text of the step, too: what it says comes after a time.
    first.wait_for(" written-all\n");
    let second = format!("FROM busybox\nRUN : second-marker; {}\n", slowly("second", 14));
    let mut second = below(drydock, &Context::new(&second), 24).start();
    second.wait_for("waiting for steps of other builds");
    (first, second)
}

#[test]
fn privileged_a_file_system_of_fixed_size_is_never_exceeded() {
    require_root!();
    require_programs!("mkfs.ext4", "mount", "umount");
    let size = 64;
    let Some(disk) = Disk::new(size) else {
        return eprintln!("SKIPPED a file system of fixed size: there are no loop devices");
    };
    let drydock = Drydock::at(&disk.root().join("state"));
    let capacity = || {
        let stat = rustix::fs::statvfs(disk.root()).unwrap();
        (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)
    };
    // Less fits than the ceiling allows: what is old goes before writing fails.
    let ((), most) = sampled(drydock.state(), || {
        for name in ["one", "two", "three", "four", "five"] {
            below(&drydock, &writing(name, 12), 5 * size).ok();
        }
    });
    let (whole, left) = capacity();
    eprintln!("five steps of 12 MiB on {whole} bytes: at most {most}, {left} are left");
    assert!(whole < size * MIB && most <= whole);
    assert!(below(&drydock, &writing("five", 12), size).ok().cached("RUN mkdir /five"));
    // What does not fit fails, by the ceiling or by the disk, and leaves nothing.
    let endless = "head -c 134217728 /dev/zero > /endless";
    let context = Context::new(&format!("FROM busybox\nRUN {endless}\n"));
    let (output, most) = sampled(drydock.state(), || below(&drydock, &context, size).fails());
    let told = ["the cache is full: this step wrote", "exit code: 1"];
    assert!(told.iter().any(|told| output.stderr.contains(told)), "{output}");
    let (whole, left) = capacity();
    eprintln!("an endless step on {whole} bytes: at most {most}, {left} are left");
    assert_eq!(unfinished(drydock.state()), Vec::<String>::new());
    assert!(most <= whole && du(drydock.state()) + left <= whole);
    below(&drydock, &writing("six", 12), 5 * size).ok();
}

#[test]
fn privileged_who_waits_for_a_stopped_builder_says_so() {
    require_root!();
    require_programs!("flock");
    let drydock = Drydock::new();
    below(&drydock, &writing("old", 1), 32).ok();
    // It stands for a builder that was stopped while it evicts.
    let lock = drydock.state().join("locks/ledger");
    let mut holder = std::process::Command::new("flock");
    holder.args(["--close", "--exclusive"]).arg(&lock).arg("cat");
    let mut holder = holder.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let file = fs::File::open(&lock).unwrap();
    let locked = || {
        use rustix::fs::{FlockOperation, flock};
        let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        flock(&file, FlockOperation::Unlock).unwrap();
        !free
    };
    assert!(host::wait_until(Duration::from_secs(60), locked));
    let pid = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let mut waits = below(&drydock, &writing("waits", 1), 32).start();
    let told =
        format!("which process {pid} has locked and is stopped: let it go on (`kill -CONT {pid}`");
    waits.wait_for(&told);
    let mut stops = below(&drydock, &writing("stops", 1), 32).start();
    stops.wait_for(&told);
    stops.signal(Signal::INT);
    assert!(!stops.finish().status.success());
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let output = waits.finish();
    assert!(output.status.success(), "{output}");
}

#[test]
fn privileged_who_is_held_ends_with_its_builder() {
    require_root!();
    let drydock = Drydock::new();
    for how in [Signal::KILL, Signal::INT] {
        let (mut first, mut second) = contend(&drydock);
        let steps = || host::processes_with(": second-marker; mkdir");
        let builder = second.id();
        assert!(steps().iter().any(|pid| *pid != builder));
        second.signal(how);
        let output = second.finish();
        assert!(!output.status.success(), "{output}");
        let gone = host::wait_until(Duration::from_secs(20), || steps().is_empty());
        assert!(gone, "{how:?}: {:?}", steps());
        // It has reserved nothing any more: this has room beside the first one, which runs still.
        let third = writing("third", 4);
        below(&drydock, &third, 24).ok();
        assert_eq!(ledger(drydock.state()).0.len(), 1);
        first.signal(Signal::INT);
        first.finish();
        drydock.command("prune").args(["-a", "-f"]).ok();
    }
    let frozen = |group: &std::path::PathBuf| {
        fs::read_to_string(group.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
            && !fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().is_empty()
    };
    assert!(!host::cgroups().iter().any(frozen));
}

#[test]
fn privileged_of_two_builds_that_do_not_fit_one_is_made() {
    require_root!();
    let drydock = Drydock::new();
    let contexts = ["one", "two"].map(|name| writing(name, 14));
    let (outputs, most) = sampled(drydock.state(), || {
        let runs = contexts.each_ref().map(|context| below(&drydock, context, 24).start());
        runs.map(tests::drydock::Running::finish)
    });
    within("two builds", drydock.state(), 24, most);
    assert!(outputs.iter().any(|output| output.status.success()), "{}{}", outputs[0], outputs[1]);
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert!(output.stderr.contains("the cache is full"), "{output}");
    }
    for (context, name) in contexts.iter().zip(["one", "two"]) {
        let image = below(&drydock, context, 24).image();
        assert!(image.root.content(&format!("{name}/3")) == &piece(name, 3)[..]);
    }
}

#[test]
fn privileged_what_others_evicted_is_made_again() {
    require_root!();
    let drydock = Drydock::new();
    let run = |worker: u32| {
        for round in 0..times(4) {
            // Of five, three have room.
            let name = format!("n{}", (2 * worker + round) % 5);
            let text = format!(
                "FROM busybox AS made\nRUN {}\nRUN cat /{name}/* | wc -c > /{name}/size\n\
                 FROM busybox\nCOPY --from=made /{name}/5 /{name}/size /\n",
                slowly(&name, 4)
            );
            let context = Context::new(&text);
            let dest = drydock.place(&format!("{worker}.tar"));
            let to = format!("type=oci,dest={}", dest.display());
            below(&drydock, &context, 20).args(["-o", &to]).ok();
            let image = tests::image_view::ImageView::archive(&dest);
            assert_eq!(image.text("size").trim(), (4 * MIB).to_string());
            assert!(image.root.content("5") == &piece(&name, 5)[..]);
        }
    };
    let ((), most) = sampled(drydock.state(), || {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..2).map(|worker| scope.spawn(move || run(worker))).collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
    });
    within("builds that evict each other's results", drydock.state(), 20, most);
    assert!(du(drydock.state()) <= 20 * MIB);
}

#[test]
fn privileged_an_ordinary_user_is_held_by_signals() {
    require_root!();
    let Some(person) = Person::new("a ceiling for an ordinary user", true) else { return };
    person.context("old", &format!("FROM busybox\nRUN {}\n", slowly("old", 14)), &[]);
    person.context("new", &format!("FROM busybox\nRUN {}\n", slowly("new", 16)), &[]);
    person.context("large", &format!("FROM busybox\nRUN {}\n", slowly("large", 64)), &[]);
    ok(&person.build("old", &["--max-cache=28m"]));
    let (told, most) = sampled(&person.state, || ok(&person.build("new", &["--max-cache=28m"])));
    within("an ordinary user", &person.state, 28, most);
    assert!(told.contains("at the ceiling of the cache"), "{told}");
    let told = fails(&person.build("large", &["--max-cache=28m"]));
    assert!(told.contains("the cache is full: this step wrote"), "{told}");
    assert_eq!(unfinished(&person.state), Vec::<String>::new());
}

#[test]
fn privileged_rules_of_the_state_directory() {
    require_root!();
    let drydock = Drydock::new();
    let context = writing("made", 2);
    let config = drydock.state().join("config.json");
    drydock.build(&context).ok();
    let lock = drydock.state().join("locks/policy");
    let touched = || fs::metadata(&lock).and_then(|meta| meta.modified()).ok();
    fs::write(
        &config,
        r#"{"gc": {"interval": "0s", "policy": [{"maxUsedSpace": "1MB", "all": true}]}}"#,
    )
    .unwrap();
    // What wrote nothing collects nothing.
    let before = touched();
    assert!(drydock.build(&context).ok().cached("RUN mkdir /made"));
    assert_eq!(touched(), before);
    let other = drydock.build(&writing("other", 1)).ok();
    assert!(other.stderr.contains("(gc rule 1 of config.json)"), "{other}");
    assert!(touched() > before && du(drydock.state()) < 2 * MIB);
    let again = drydock.build(&context).arg("--explain").ok();
    assert!(again.stderr.contains("gc rule 1 of config.json"), "{again}");
    // A ceiling in the file, the environment and the command line: the last one counts.
    fs::write(&config, r#"{"maxCache": "24m"}"#).unwrap();
    let large = writing("large", 40);
    let full = drydock.build(&large).fails();
    assert!(full.stderr.contains("(maxCache 24m in config.json)"), "{full}");
    let info = drydock.command("info").ok().text();
    assert!(info.contains("ceiling          24MiB (maxCache 24m in config.json)"), "{info}");
    let full = drydock.build(&large).env("DRYDOCK_MAX_CACHE", "28m").fails();
    assert!(full.stderr.contains("(DRYDOCK_MAX_CACHE=28m)"), "{full}");
    drydock.build(&large).env("DRYDOCK_MAX_CACHE", "28m").arg("--max-cache=0").ok();
    fs::write(&config, r#"{"maxCash": "24m"}"#).unwrap();
    let wrong = drydock.build(&context).fails();
    assert!(wrong.stderr.contains("unknown field `maxCash`"), "{wrong}");
}
