//! Signals, terminals that close and pipes that nobody reads: a build ends in a right way or goes on,
//! leaves nothing behind, and keeps nobody else from building.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::base_image::BaseImage;
use tests::context::Context;
use tests::drydock::{Drydock, Running};
use tests::image_view::ImageView;
use tests::random::Random;
use tests::{binary, host, require_programs, require_root};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a build says of a step that another one runs.
const ELSEWHERE: &str = "run by another build";
/// What a gated step tells when it has begun. Its name does not contain it.
const BEGAN: &str = "-is-42";

/// A step that says that it began, waits for the gate, and does `then`.
fn gated(name: &str, then: &str) -> String {
    format!(
        "RUN --mount=type=cache,id=gate,target=/gate echo {name}-is-$((6*7)) | tee /gate/{name}; \
         until [ -e /gate/go ]; do sleep 0.02; done; {then}\n"
    )
}

fn gate(drydock: &Drydock) -> Option<PathBuf> {
    let homes = fs::read_dir(drydock.state().join("mounts-v1")).ok()?.flatten();
    homes.map(|home| home.path().join("0")).next()
}

fn open_gate(drydock: &Drydock) {
    fs::write(gate(drydock).unwrap().join("go"), "").unwrap();
}

fn has_begun(drydock: &Drydock, name: &str) -> bool {
    gate(drydock).is_some_and(|gate| gate.join(name).exists())
}

fn output(drydock: &Drydock, number: usize) -> String {
    format!("type=oci,dest={}", drydock.place(&format!("{number}.tar")).display())
}

fn image(drydock: &Drydock, number: usize) -> ImageView {
    ImageView::archive(&drydock.place(&format!("{number}.tar")))
}

/// Nobody uses the state directory, nothing is mounted there, and no key is taken or wanted.
fn assert_nothing_left(drydock: &Drydock) {
    let over = host::wait_until(PATIENCE, || host::users_of(drydock.state()).is_empty());
    assert!(over, "{:?}", host::users_of(drydock.state()));
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    let of = |bucket: &str| fs::read_dir(drydock.state().join(bucket)).unwrap().flatten();
    let names = of("locks").chain(of("inflight")).map(|e| e.file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.len() >= 64).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn privileged_those_that_end_a_build_are_one_like_the_other() {
    require_root!();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let drydock = Drydock::new();
        let context = Context::new(&format!("FROM busybox\n{}", gated("s", "echo made > /x")));
        // Nobody else wants it.
        let mut build = drydock.build(&context).args(["-o", &output(&drydock, 0)]).start();
        build.wait_for(BEGAN);
        build.signal(signal);
        let told = build.finish();
        assert_eq!(told.status.code(), Some(1), "{signal:?}: {told}");
        assert!(told.stderr.contains("the build was cancelled"), "{signal:?}: {told}");
        assert!(!drydock.place("0.tar").exists());
        assert_nothing_left(&drydock);
        // Another build does: it goes on until the second one.
        let mut owner = drydock.build(&context).start();
        owner.wait_for(BEGAN);
        let mut other = drydock.build(&context).args(["-o", &output(&drydock, 1)]).start();
        other.wait_for(ELSEWHERE);
        owner.signal(signal);
        owner.wait_for("for another build (Ctrl-C again to stop)");
        owner.signal(signal);
        assert_eq!(owner.finish().status.code(), Some(130));
        open_gate(&drydock);
        let told = other.finish();
        assert!(told.status.success(), "{signal:?}: {told}");
        assert_eq!(image(&drydock, 1).text("x"), "made\n");
        assert_nothing_left(&drydock);
    }
}

#[test]
fn privileged_a_build_ends_with_its_terminal() {
    require_root!();
    require_programs!("script");
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "true")));
    let command = format!(
        "exec {} build --root {} --build-context busybox=oci-layout://{}:latest {}",
        binary::drydock().display(),
        drydock.state().display(),
        BaseImage::layout().display(),
        context.path().display()
    );
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &command, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
    let mut terminal = terminal.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(host::wait_until(PATIENCE, || has_begun(&drydock, "s")));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    assert_nothing_left(&drydock);
    // It is built by the next one.
    open_gate(&drydock);
    drydock.build(&context).ok();
}

#[test]
fn privileged_a_build_whose_output_nobody_reads_to_its_end_goes_on() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN seq 100000\nRUN seq 200000; echo made > /x\n");
    let first = ["sh", "-c", "\"$@\" 2>&1 | head -n 1", "sh"];
    let run = drydock.build(&context).args(["-o", &output(&drydock, 0)]);
    let told = run.wrapped(first).ok();
    assert_eq!(told.text().lines().count(), 1, "{told}");
    assert_eq!(image(&drydock, 0).text("x"), "made\n");
    assert_nothing_left(&drydock);
    // An archive that nobody reads to its end is an error, and nothing else.
    let script = "\"$@\" | head -c 1000 > /dev/null; true";
    let run = drydock.build(&context).args(["-o", "-"]).wrapped(["sh", "-c", script, "sh"]);
    let told = run.ok();
    assert!(told.stderr.contains("Broken pipe") && !told.stderr.contains("panicked"), "{told}");
    for command in [&["du"][..], &["images"], &["logs"]] {
        let run = drydock.command(command[0]).args(&command[1..]).wrapped(first);
        assert_eq!(run.ok().stderr, "");
    }
    assert_nothing_left(&drydock);
}

/// A build whose standard output and standard error are pipes that nobody reads until `file` is there.
fn unread(drydock: &Drydock, context: &Context, args: &[&str], file: &Path) -> Running {
    let waits = format!("until [ -e {} ]; do sleep 0.02; done; cat", file.display());
    let script = format!("{{ \"$@\" 2>&3 | ({waits} >/dev/null); }} 3>&1 | ({waits})");
    let run = drydock.build(context).args(args).env("BUILDKIT_STEP_LOG_MAX_SIZE", "-1");
    let run = run.env("BUILDKIT_STEP_LOG_MAX_SPEED", "-1");
    run.wrapped(["sh", "-c", &script, "sh"]).start()
}

#[test]
fn privileged_a_build_that_nobody_reads_keeps_nobody_from_building() {
    require_root!();
    let drydock = Drydock::new();
    let steps = "RUN seq 200000; echo made > /x\nRUN seq 300000; touch /gate/end";
    let steps = steps.replace("RUN ", "RUN --mount=type=cache,id=gate,target=/gate ");
    let context = Context::new(&format!("FROM busybox\n{steps}\n"));
    let (read, dest) = (drydock.place("read"), drydock.place("out"));
    let dest = dest.display().to_string();
    // What it tells is far more than a pipe holds; so is the archive.
    let first = unread(&drydock, &context, &["-o", &dest], &read);
    let second = unread(&drydock, &context, &["-o", "-"], &read);
    assert!(host::wait_until(PATIENCE, || has_begun(&drydock, "end")), "{}", first.stderr());
    drydock.build(&context).args(["-o", &dest, "-t", "app"]).ok();
    assert_eq!(fs::read_to_string(Path::new(&dest).join("x")).unwrap(), "made\n");
    for command in [&["du"][..], &["images"], &["prune", "-a", "-f"]] {
        drydock.command(command[0]).args(&command[1..]).ok();
    }
    drydock.build(&Context::new("FROM busybox\nRUN echo another\n")).args(["-o", &dest]).ok();
    fs::write(&read, "").unwrap();
    let told = [first, second].map(|build| {
        let told = build.finish();
        assert!(told.status.success() && !told.text().contains("ERROR"), "{told}");
        told.text()
    });
    // Who ran it told all of it.
    assert!(told.iter().any(|text| text.contains(" 300000\n")));
    assert_nothing_left(&drydock);
}

#[test]
fn privileged_a_stopped_build_delays_only_what_depends_on_it() {
    require_root!();
    let drydock = Drydock::new();
    let shared = gated("s", "echo made > /x");
    let alone = Context::new(&format!("FROM busybox\n{shared}"));
    let mut owner = drydock.build(&alone).args(["-o", &output(&drydock, 0)]).start();
    owner.wait_for(BEGAN);
    owner.signal(Signal::STOP);
    let both = Context::new(&format!(
        "FROM busybox AS a\n{shared}FROM busybox AS b\nRUN echo own{} | tee /y\n\
         FROM busybox\nCOPY --from=a /x /\nCOPY --from=b /y /\n",
        "-is-$((6*7))"
    ));
    let mut other = drydock.build(&both).args(["-o", &output(&drydock, 1), "--jobs", "1"]).start();
    other.wait_for(ELSEWHERE);
    other.wait_for("own-is-42");
    let mut gives_up = drydock.build(&both).start();
    gives_up.wait_for(ELSEWHERE);
    // Its processes run on, and who waits for them may give up.
    open_gate(&drydock);
    gives_up.signal(Signal::INT);
    assert_eq!(gives_up.finish().status.code(), Some(1));
    drydock.build(&Context::new("FROM busybox\nRUN echo another\n")).args(["-t", "app"]).ok();
    assert!(!owner.is_over() && !other.is_over());
    owner.signal(Signal::CONT);
    for (number, build) in [owner, other].into_iter().enumerate() {
        let told = build.finish();
        assert!(told.status.success(), "{told}");
        assert_eq!(image(&drydock, number).text("x"), "made\n");
    }
    assert_nothing_left(&drydock);
}

#[test]
fn privileged_who_keeps_a_lock_that_is_for_moments_is_named() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN true\n");
    drydock.build(&context).args(["-t", "one"]).ok();
    // As a builder would that was stopped while it named an image.
    let lock = fs::File::open(drydock.state().join("locks/images")).unwrap();
    lock.lock().unwrap();
    let mut build = drydock.build(&context).args(["-t", "two"]).start();
    let mut command = drydock.command("tag").args(["one", "three"]).start();
    let named = format!("waiting for process {}, which has locked ", std::process::id());
    build.wait_for(&named);
    command.wait_for(&named);
    assert!(!build.is_over() && !command.is_over());
    drop(lock);
    for told in [build.finish(), command.finish()] {
        assert!(told.status.success(), "{told}");
        assert_eq!(told.stderr.matches(&named).count(), 1, "{told}");
    }
    let images = drydock.command("images").ok().text();
    assert!(["one", "two", "three"].iter().all(|name| images.contains(name)), "{images}");
}

#[test]
fn privileged_builds_that_are_stopped_for_a_while_change_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let mut random = Random::announced("builds that are stopped");
    let context = |n: usize| {
        Context::new(&format!(
            "FROM busybox AS all\nRUN echo all > /all\nFROM all AS part\nRUN echo {part} > /part\n\
             FROM part\nCOPY --from=all /all /again\nRUN echo {n} > /own\n",
            part = n % 3
        ))
    };
    let start = |n| drydock.build(&context(n)).args(["-o", &output(&drydock, n)]).start();
    let mut builds: Vec<Running> = (0..12).map(start).collect();
    for build in builds.iter_mut().step_by(3) {
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        build.signal(Signal::STOP);
        std::thread::sleep(Duration::from_micros(random.below(300_000)));
        // Also one that was just about to end.
        let _ = kill_process(Pid::from_raw(build.id() as i32).unwrap(), Signal::CONT);
    }
    for (n, build) in builds.into_iter().enumerate() {
        let told = build.finish();
        assert!(told.status.success(), "{told}");
        for word in ["WARN", "ERROR", "panic"] {
            assert!(!told.stderr.contains(word), "{told}");
        }
        let image = image(&drydock, n);
        assert_eq!(
            (image.text("own"), image.text("part")),
            (format!("{n}\n"), format!("{}\n", n % 3))
        );
    }
    assert_nothing_left(&drydock);
}
