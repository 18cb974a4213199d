//! Ends: of processes, of the builder, of what was asked to stop.

mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use executor::{CancelToken, ExecError, ExitStatus};
use harness::{Collector, Fixture, ready};
use sys::cgroup::{GroupLimits, Hierarchies, Parent};
use sys::mount::MountSource;

/// Tells the helper below where to run.
const HOLD: &str = "DRYDOCK_TEST_HOLD";
/// Tells it how long its step's processes sleep, which is also how they are found.
const HELD: &str = "DRYDOCK_TEST_HELD";

/// How long processes sleep, in seconds, that are counted: no other test's do.
fn marker(number: u32) -> String {
    format!("8640{number}.{}", std::process::id())
}

/// Processes on this machine with `marker` among their arguments.
fn processes(marker: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|it| fs::read(it.path().join("cmdline")).ok())
        .filter(|line| line.split(|&byte| byte == 0).any(|arg| arg == marker.as_bytes()))
        .count()
}

/// How long something may take that does not depend on us alone.
const PATIENCE: Duration = Duration::from_secs(120);

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn privileged_background_processes_end_with_the_step() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let marker = marker(1);
    it.sh(&format!("sleep {marker} & (setsid sleep {marker} &) ; echo started"));
    assert_eq!(processes(&marker), 0);
}

#[test]
fn privileged_orphans_are_reaped() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    // However long that takes: what nobody reaps stays for good.
    let text = it.sh("for i in 1 2 3 4; do (true &); done; n=0; \
         while ps -o stat | grep -q Z && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.1; done; \
         ps -o stat | grep -c Z || true");
    assert_eq!(text, "0\n");
}

#[test]
fn privileged_cancel_kills_quickly() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let marker = marker(2);
    let token = CancelToken::new();
    let spec = it.shell(&format!("trap '' TERM INT; sleep {marker} & sleep {marker}"));
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the step runs", || processes(&marker) == 2);
            token.cancel();
        });
        it.executor.run(&spec, &Collector::default(), &token).unwrap_err()
    });
    assert!(matches!(error, ExecError::Cancelled), "{error}");
    assert_eq!(processes(&marker), 0);
    assert_eq!(it.changes(), ["dev", "proc", "sys"].map(str::to_owned).to_vec());
    let again = it.executor.run(&spec, &Collector::default(), &token);
    assert!(matches!(again, Err(ExecError::Cancelled)));
}

#[test]
fn privileged_parallel_runs() {
    if !ready() {
        return;
    }
    let fixtures: Vec<_> = (0..4).map(|_| Fixture::new()).collect();
    std::thread::scope(|scope| {
        for (number, it) in fixtures.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(it.sh(&format!("echo {number}")), format!("{number}\n"));
                }
            });
        }
    });
}

/// Not a test of its own: the builder of the next one.
#[test]
fn hold() {
    let Some(dir) = std::env::var_os(HOLD) else { return };
    let it = Fixture::new_in(Path::new(&dir));
    let marker = std::env::var(HELD).unwrap();
    it.sh(&format!("trap '' TERM HUP; sleep {marker} & setsid sleep {marker} & wait"));
}

#[test]
fn privileged_a_killed_builder_takes_its_steps_along() {
    if !ready() {
        return;
    }
    // The builder cannot remove its fixture.
    let dir = tempfile::tempdir_in(harness::place()).unwrap();
    let mounts = || {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines().filter(|it| it.contains(dir.path().to_str().unwrap())).count()
    };
    let held = marker(3);
    let mut builder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold"])
        .env(HOLD, dir.path())
        .env(HELD, &held)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the step runs", || processes(&held) == 2);
    builder.kill().unwrap();
    builder.wait().unwrap();
    eventually("the step has ended", || processes(&held) == 0);
    assert_eq!(mounts(), 0);
}

fn memory_controller() -> bool {
    let found = Hierarchies::detect().unwrap();
    let unified = found.unified.as_ref().is_some_and(|it| {
        let list = fs::read_to_string(it.join("cgroup.controllers")).unwrap_or_default();
        list.split_whitespace().any(|it| it == "memory")
    });
    let there = found.memory.as_deref().is_some_and(Path::exists) || unified;
    if !there {
        eprintln!("skipped: no memory controller");
    }
    there
}

#[test]
fn privileged_memory_limit() {
    if !ready() || !memory_controller() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.shell("head -c 200000000 /dev/zero | tail -c 150000000 | wc -c");
    spec.limits.group.memory = Some(32 << 20);
    let ran = it.run(&spec);
    // The pipeline's last command succeeds or fails depending on who was killed.
    if let ExitStatus::OutOfMemory { peak, limit } = ran.outcome.status {
        assert_eq!(limit, 32 << 20);
        assert!(peak > 16 << 20);
    }
    let mut spec = it.spec(&["tail", "-c", "150000000", "/dev/zero"]);
    spec.limits.group.memory = Some(32 << 20);
    let ran = it.run(&spec);
    assert!(matches!(ran.outcome.status, ExitStatus::OutOfMemory { .. }), "{ran:?}");
    assert!(ran.outcome.peak_memory.is_some_and(|it| it > 16 << 20));
    let mut spec = it.spec(&["true"]);
    spec.limits.group.memory = Some(64 << 20);
    spec.limits.group.cpu =
        Some(executor::CpuQuota { quota_micros: 50_000, period_micros: 100_000 });
    assert_eq!(it.run(&spec).code(), 0);
    let found = Hierarchies::detect().unwrap();
    for root in [found.unified, found.memory, found.cpu].into_iter().flatten() {
        let left = fs::read_dir(root.join("drydock")).into_iter().flatten().flatten();
        let ours = left.filter(|it| it.file_name().to_str().unwrap().starts_with("test-lease-"));
        assert_eq!(ours.count(), 0, "{}", root.display());
    }
}

#[test]
fn privileged_sweep_of_a_dead_builder() {
    if !ready() || !memory_controller() {
        return;
    }
    let it = Fixture::new();
    let found = Hierarchies::detect().unwrap();
    let limits = GroupLimits { memory: Some(64 << 20), ..GroupLimits::default() };
    let parent = Parent::default();
    let mut sleeper = Command::new("/bin/busybox").args(["sleep", "86404"]).spawn().unwrap();
    let group = found.create(&parent, "dead-lease-7", &limits).unwrap();
    group.add(sleeper.id().cast_signed()).unwrap();
    let other = found.create(&parent, "dead-leased-8", &limits).unwrap();
    let waiter = std::thread::spawn(move || sleeper.wait());
    it.executor.sweep("dead-lease");
    assert!(!waiter.join().unwrap().unwrap().success());
    assert!(
        found.create(&parent, "dead-leased-8", &limits).is_err(),
        "another lease's group stays"
    );
    other.remove();
    found.create(&parent, "dead-lease-7", &limits).unwrap().remove();
}

#[test]
#[ignore = "a measurement, not a test"]
fn privileged_time_of_a_run() {
    let it = Fixture::new();
    let spec = it.spec(&["true"]);
    it.run(&spec);
    let mut spec = spec;
    let MountSource::Overlay(overlay) = &mut spec.rootfs.source else { panic!() };
    overlay.volatile = false;
    it.run(&spec);
    let output = Collector::default();
    let token = CancelToken::new();
    let start = Instant::now();
    for _ in 0..200 {
        it.executor.run(&spec, &output, &token).unwrap();
    }
    println!("{:?} a run", start.elapsed() / 200);
}
