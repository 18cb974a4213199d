//! SIGKILL at any moment: the next build goes on, with a right image, and with every step whose
//! end was shown.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::host;
use tests::progress::{self, End};
use tests::random::Random;
use tests::require_root;

/// How often the builder is killed in `make test`; `DRYDOCK_TORTURE=N` does it N times as often.
const MOMENTS: u32 = 20;

/// How long what ends by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Quick steps of every kind in two branches, with fresh keys for each `SALT`.
fn sample() -> Context {
    Context::new(
        "FROM busybox AS left\nARG SALT\nRUN mkdir /l && echo 1 > /l/1 # $SALT\nCOPY a /l/a\nRUN cat /l/a > /l/2\nRUN rm /l/1; ln /l/2 /l/3\n\
         FROM busybox AS right\nARG SALT\nWORKDIR /r\nCOPY d .\nRUN ls > list\nRUN rm -r sub && mkdir sub && touch sub/new\nRUN chmod 700 /r\n\
         FROM left\nARG SALT\nCOPY --link --from=right /r /r\nRUN cat /r/list /l/2 > /all\nRUN tar cf /t.tar /l /r && rm /t.tar\n",
    )
    .file("a", "A")
    .file("d/one", "1")
    .file("d/sub/two", "2")
    .settle()
}

fn salted(drydock: &Drydock, context: &Context, salt: u32) -> tests::drydock::Run {
    drydock.build(context).arg(format!("--build-arg=SALT={salt}"))
}

#[test]
fn privileged_killed_at_random_moments() {
    require_root!();
    let mut random = Random::announced("crash");
    let context = sample();
    let undisturbed = Drydock::new();
    let want = salted(&undisturbed, &context, 0).image();
    let drydock = Drydock::new();
    salted(&drydock, &context, 0).ok();
    let begun = Instant::now();
    salted(&undisturbed, &context, u32::MAX).image();
    let whole = begun.elapsed();
    let dest = drydock.place("killed.tar");
    let (mut shown, mut killed) = (0, 0);
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let moments = MOMENTS.saturating_mul(factor);
    for round in 1..=moments {
        let delay = Duration::from_micros(random.below(whole.as_micros() as u64 * 6 / 5));
        let mut running = salted(&drydock, &context, round)
            .arg("-o")
            .arg(format!("type=oci,dest={}", dest.display()))
            .start();
        std::thread::sleep(delay);
        running.kill();
        let output = running.finish();
        killed += u32::from(output.status.code().is_none());
        let done: BTreeSet<String> = progress::plain(&output.stderr)
            .into_iter()
            .filter(|s| s.end == End::Done && tests::drydock::is_instruction(&s.name))
            .map(|s| s.name)
            .collect();
        shown += done.len();
        if output.status.code().is_none() && dest.exists() {
            // All of it or nothing.
            let image = tests::image_view::ImageView::archive(&dest);
            assert_eq!(image.root.differences(&want.root), Vec::<String>::new());
        }
        let _ = std::fs::remove_file(&dest);

        let (image, next) = salted(&drydock, &context, round).image_and_output();
        for complaint in ["WARN", "ERROR", "warning", "corrupt"] {
            assert!(!next.stderr.contains(complaint), "round {round}: {next}");
        }
        let differences = want.root.differences(&image.root);
        assert!(differences.is_empty(), "round {round}, killed after {delay:?}: {differences:?}");
        assert_eq!(want.runtime("Env"), image.runtime("Env"));
        let again: Vec<String> = next.executed().into_iter().filter(|s| done.contains(s)).collect();
        assert!(
            again.is_empty(),
            "round {round}, killed after {delay:?}: run again: {again:?}\n{output}\n{next}"
        );
        if round % 50 == 0 {
            drydock.command("prune").arg("-f").ok();
        }
    }
    eprintln!("{killed} of {moments} builds were killed, {shown} steps had been shown as done");
    assert!(host::wait_until(PATIENCE, || host::users_of(drydock.state()).is_empty()));
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    check_nothing_piles_up(&drydock);
}

/// What killed builds left half done goes away at the next start.
fn check_nothing_piles_up(drydock: &Drydock) {
    for (bucket, most) in [("trash", 0), ("leases", 1), ("done", 0), ("inflight", 0)] {
        let dir = drydock.state().join(bucket);
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let left: Vec<String> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            // Half-written files of the killed go when they are old enough.
            .filter(|name| !name.starts_with(".tmp"))
            .collect();
        assert!(left.len() <= most, "left behind in {bucket}: {left:?}");
    }
}

#[test]
fn privileged_interrupted_at_random_moments() {
    require_root!();
    let mut random = Random::announced("interrupts");
    let context = sample();
    let drydock = Drydock::new();
    let begun = Instant::now();
    let want = salted(&drydock, &context, 0).image();
    let whole = begun.elapsed();
    let dest = drydock.place("interrupted.tar");
    for round in 1..=20 {
        let to = format!("type=oci,dest={}", dest.display());
        let mut running = salted(&drydock, &context, round).args(["-o", &to]).start();
        std::thread::sleep(Duration::from_micros(random.below(whole.as_micros() as u64)));
        let signal = if round % 2 == 0 { Signal::INT } else { Signal::TERM };
        running.signal(signal);
        let output = running.finish();
        // Before its handler is there, a signal does what it always does.
        let plain = output.status.signal() == Some(signal.as_raw());
        assert!(plain || matches!(output.status.code(), Some(0 | 1)), "round {round}: {output}");
        assert_eq!(output.status.success(), dest.exists(), "round {round}: {output}");
        assert!(host::users_of(drydock.state()).is_empty(), "round {round}: {output}");
        assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
        let _ = std::fs::remove_file(&dest);
        let image = salted(&drydock, &context, round).image();
        assert_eq!(want.root.differences(&image.root), Vec::<String>::new(), "round {round}");
    }
    check_nothing_piles_up(&drydock);
}

#[test]
fn privileged_a_killed_builder_takes_its_processes_along() {
    require_root!();
    let drydock = Drydock::new();
    // Nobody else on this machine sleeps for just so long.
    let marker = format!("9943.{}", std::process::id());
    let context = Context::new(&format!(
        "FROM busybox\nRUN trap '' HUP INT TERM; echo it-is-running; (setsid sleep {marker} &); sleep {marker}\n",
    ));
    let mut running = drydock.build(&context).start();
    running.wait_for("it-is-running");
    running.kill();
    running.finish();
    assert!(host::wait_until(PATIENCE, || host::processes_with(&marker).is_empty()));
    assert!(host::wait_until(PATIENCE, || host::users_of(drydock.state()).is_empty()));
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    drydock.build(&Context::new("FROM busybox\nRUN true\n")).ok();
}

#[test]
fn privileged_a_killed_pull_is_done_again() {
    require_root!();
    let drydock = Drydock::new();
    let mut random = Random::announced("crash while unpacking");
    let context = Context::new("FROM busybox\nRUN ls -l /bin/busybox\n");
    for _ in 0..8 {
        let mut running = drydock.build(&context).start();
        std::thread::sleep(Duration::from_micros(random.below(120_000)));
        running.kill();
        running.finish();
    }
    let image = drydock.build(&context).image();
    let want = Drydock::new().build(&context).image();
    assert_eq!(want.root.differences(&image.root), Vec::<String>::new());
}
