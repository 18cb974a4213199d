//! Limits of RUN steps, through the binary: on this host's own control groups, whichever version
//! they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::{Drydock, Output};
use tests::{host, require_root, skip};

/// How long something may take that does not depend on us alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step of nine processes, that end before only where a limit ends them.
const MANY: &str = "RUN for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait; echo all";

/// The host's hierarchy with `controller`, where it can be used; says so if there is none.
fn hierarchy(controller: &str) -> Option<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let offers = |dir: &Path| {
        let text = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().any(|it| it == controller)
    };
    let v1 = top.join(controller);
    let found = [top.to_owned(), top.join("unified")].into_iter().find(|it| offers(it));
    let found = v1.join("cgroup.procs").exists().then_some(v1).or(found);
    if found.is_none() {
        skip::say("limits", &format!("no control groups with {controller}"));
    }
    found
}

/// Groups of steps: the lease's name, a dash and a number, below `parent`.
fn groups_below(parent: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|it| it.path());
    let parents = hierarchies.chain([top.to_owned()]).map(|it| it.join(parent));
    let groups = parents.flat_map(|it| fs::read_dir(it).into_iter().flatten().flatten());
    groups.filter(|it| it.path().is_dir()).map(|it| it.path()).collect()
}

fn build(drydock: &Drydock, run: &str, args: &[&str]) -> tests::drydock::Run {
    drydock.build(&Context::new(&format!("FROM busybox\n{run}\n"))).args(args)
}

/// A parent of groups for one case, so that what is left in it is the case's; removed at the end.
struct OwnParent(String);

impl OwnParent {
    fn new(case: &str) -> Self {
        Self(format!("drydock-test-{case}-{}", std::process::id()))
    }

    fn flag(&self) -> String {
        format!("--cgroup-parent=/{}", self.0)
    }

    fn assert_empty(&self) {
        assert_eq!(groups_below(&self.0), Vec::<PathBuf>::new());
    }
}

impl Drop for OwnParent {
    fn drop(&mut self) {
        let top = Path::new("/sys/fs/cgroup");
        let all = fs::read_dir(top).into_iter().flatten().flatten().map(|it| it.path());
        all.chain([top.to_owned()]).for_each(|it| drop(fs::remove_dir(it.join(&self.0))));
    }
}

fn log(output: &Output, step: &str) -> String {
    output.step(step).log.join("\n")
}

#[test]
fn privileged_a_greedy_step_is_killed_and_says_so() {
    require_root!();
    let Some(_) = hierarchy("memory") else { return };
    let drydock = Drydock::new();
    let parent = OwnParent::new("memory");
    let args = ["--memory=32m", "--memory-swap=32m", &parent.flag()];
    let output = build(&drydock, "RUN echo first\nRUN tail /dev/zero", &args).fails();
    let text = &output.stderr;
    assert!(text.contains("RUN tail /dev/zero"), "{output}");
    assert!(text.contains("cannot allocate memory (its processes used "), "{output}");
    assert!(text.contains("the limit is 32MiB)"), "{output}");
    parent.assert_empty();
    // Each step has the limit for itself: together they would be above it.
    let half = "dd if=/dev/zero of=/dev/null bs=20M count=1";
    let steps = format!(
        "FROM busybox AS a\nRUN {half} && touch /a\nFROM busybox\nRUN {half}; sleep 0.1\n\
                         COPY --from=a /a /a\n"
    );
    drydock.build(&Context::new(&steps)).args(args).ok();
    parent.assert_empty();
}

#[test]
fn privileged_limits_are_in_no_cache_key() {
    require_root!();
    let Some(_) = hierarchy("memory") else { return };
    let drydock = Drydock::new();
    let run = "RUN echo made";
    build(&drydock, run, &["--memory=64m"]).ok();
    for args in [&["--memory=128m"][..], &[], &["--ulimit=nofile=99", "--shm-size=1m"]] {
        let output = build(&drydock, run, args).ok();
        assert!(output.cached(run), "{args:?}: {output}");
    }
}

#[test]
fn privileged_the_number_of_processes() {
    require_root!();
    let Some(_) = hierarchy("pids") else { return };
    let drydock = Drydock::new();
    let parent = OwnParent::new("pids");
    let output = build(&drydock, MANY, &["--resource=pids=5", &parent.flag()]).output();
    let text = &output.stderr;
    assert!(text.contains("can't fork"), "{output}");
    parent.assert_empty();
    // One process is the step's own.
    let one = build(&drydock, "RUN [\"/bin/echo\", \"one\"]", &["--resource=pids=1"]).ok();
    assert_eq!(log(&one, "RUN [\"/bin/echo\""), "one");
    let enough = MANY.replace("600", "0.5");
    let enough = build(&drydock, &enough, &["--resource=pids=30"]).ok();
    assert_eq!(log(&enough, "RUN for"), "all");
}

#[test]
fn privileged_processors() {
    require_root!();
    let drydock = Drydock::new();
    if hierarchy("cpuset").is_some() {
        let run = "RUN grep -h _allowed_list /proc/self/status";
        let args = ["--cpuset-cpus=0", "--cpuset-mems=0"];
        let output = build(&drydock, run, &args).ok();
        let text = log(&output, "RUN grep");
        assert!(text.contains("Cpus_allowed_list:\t0\n"), "{text}");
        let output = build(&drydock, run, &["--cpuset-cpus=60000", "--no-cache"]).fails();
        assert!(output.stderr.contains("processors 60000 cannot be given"), "{output}");
        assert!(output.stderr.contains("this host offers 0"), "{output}");
    }
    if hierarchy("cpu").is_some() {
        let args = ["--resource=cpus=0.5", "--cpu-shares=512", "--no-cache"];
        let parent = OwnParent::new("cpu");
        // It ends when its values were read.
        let gate = "RUN --mount=type=cache,target=/gate echo is-''running; \
            until [ -e /gate/go ]; do sleep 0.05; done";
        let mut running = build(&drydock, gate, &args).arg(parent.flag()).start();
        running.wait_for("is-running");
        let values: Vec<String> = groups_below(&parent.0)
            .iter()
            .flat_map(|dir| ["cpu.cfs_quota_us", "cpu.shares", "cpu.max"].map(|it| dir.join(it)))
            .filter_map(|file| fs::read_to_string(file).ok())
            .map(|text| text.trim().to_owned())
            .collect();
        for mount in fs::read_dir(drydock.state().join("mounts-v1")).unwrap().flatten() {
            fs::write(mount.path().join("0/go"), "").unwrap();
        }
        let output = running.finish();
        assert!(output.status.success(), "{output}");
        parent.assert_empty();
        let wanted = [&["50000", "512"][..], &["50000 100000"]];
        let seen = |list: &&[&str]| list.iter().all(|it| values.iter().any(|v| v == it));
        assert!(wanted.iter().any(seen), "{values:?}");
    }
}

#[test]
fn privileged_shared_memory_and_resource_limits() {
    require_root!();
    let drydock = Drydock::new();
    let run = "RUN df -k /dev/shm | tail -n1 | awk '{print $2}'; ulimit -n; ulimit -Hn; ulimit -c";
    let args = ["--shm-size=3m", "--ulimit=nofile=100:200", "--ulimit", "core=0"];
    let output = build(&drydock, run, &args).ok();
    assert_eq!(log(&output, "RUN df"), "3072\n100\n200\n0");
    // More files than any kernel gives, whoever asks.
    let output = build(&drydock, run, &["--ulimit=nofile=99999999999", "--no-cache"]).fails();
    assert!(output.stderr.contains("nofile=99999999999:99999999999"), "{output}");
    assert!(output.stderr.contains("nr_open"), "{output}");
}

#[test]
fn privileged_what_cannot_be_raised_is_refused_before_the_first_step() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN echo never-printed\nRUN true\n");
    // Without the capability, and with a small hard limit of the builder's own.
    let run = drydock.build(&context).arg("--ulimit=nofile=5000:6000").wrapped([
        "setpriv",
        "--bounding-set=-sys_resource",
        "prlimit",
        "--nofile=1000:4000",
        "--",
    ]);
    tests::require_programs!("setpriv", "prlimit");
    let output = run.fails();
    let text = &output.stderr;
    assert!(text.contains("nofile=5000:6000"), "{output}");
    assert!(text.contains("hard limit is 4000") && text.contains("CAP_SYS_RESOURCE"), "{output}");
    assert!(!output.has_step("RUN echo"), "{output}");
}

#[test]
fn privileged_parents_of_choice() {
    require_root!();
    let Some(pids) = hierarchy("pids") else { return };
    if !pids.join("cgroup.procs").exists() || !pids.ends_with("pids") {
        return skip::say("limits", "the pids hierarchy is not one of version 1");
    }
    let parent = OwnParent::new("parent");
    fs::create_dir(pids.join(&parent.0)).unwrap();
    fs::write(pids.join(&parent.0).join("pids.max"), "4").unwrap();
    let drydock = Drydock::new();
    let flag = format!("--cgroup-parent=/x/../../{}/", parent.0);
    let output = build(&drydock, MANY, &[&flag]).output();
    let text = &output.stderr;
    assert!(text.contains("can't fork"), "the parent's limit counts: {output}");
    parent.assert_empty();
}

#[test]
fn privileged_memory_of_a_parent_that_is_used_up() {
    require_root!();
    let Some(memory) = hierarchy("memory") else { return };
    if !memory.join("memory.limit_in_bytes").exists() {
        return skip::say("limits", "the memory hierarchy is not one of version 1");
    }
    let parent = OwnParent::new("used-up");
    let dir = memory.join(&parent.0);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("memory.limit_in_bytes"), "33554432").unwrap();
    if dir.join("memory.memsw.limit_in_bytes").exists() {
        fs::write(dir.join("memory.memsw.limit_in_bytes"), "33554432").unwrap();
    }
    let drydock = Drydock::new();
    // With a limit of its own, too, which is not what is reached.
    for args in [&[][..], &["--memory=512m"]] {
        let run = build(&drydock, "RUN echo first\nRUN tail /dev/zero", args);
        let output = run.arg(parent.flag()).fails();
        let text = &output.stderr;
        assert!(text.contains("RUN tail /dev/zero"), "{output}");
        assert!(text.contains("cannot allocate memory (its processes used "), "{output}");
        let reached = format!("the limit of the control group /{}, 32MiB, was reached", parent.0);
        assert!(text.contains(&reached), "{output}");
    }
    parent.assert_empty();
}

#[test]
fn privileged_a_cancelled_step_leaves_no_group() {
    require_root!();
    let Some(_) = hierarchy("memory") else { return };
    let drydock = Drydock::new();
    let parent = OwnParent::new("cancel");
    let args = ["--memory=64m", &parent.flag()];
    let run = "RUN echo is-''running; (sleep 7719.5 &); sleep 7719.5";
    let mut running = build(&drydock, run, &args).start();
    running.wait_for("is-running");
    assert!(host::wait_until(PATIENCE, || !groups_below(&parent.0).is_empty()));
    running.signal(Signal::INT);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(host::processes_with("7719.5").is_empty());
    parent.assert_empty();
}

#[test]
fn privileged_a_killed_builders_groups_are_swept() {
    require_root!();
    let Some(_) = hierarchy("memory") else { return };
    let drydock = Drydock::new();
    let parent = OwnParent::new("killed");
    let args = ["--memory=64m", &parent.flag()];
    let mut running = build(&drydock, "RUN echo is-''running; sleep 7720.5", &args).start();
    running.wait_for("is-running");
    assert!(host::wait_until(PATIENCE, || !groups_below(&parent.0).is_empty()));
    running.signal(Signal::KILL);
    running.finish();
    build(&drydock, "RUN echo next", &[]).ok();
    parent.assert_empty();
}
