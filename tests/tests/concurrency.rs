//! Steps that several builds want at the same time: they run once, what they tell reaches all, and
//! nobody waits for what is not wanted. `DRYDOCK_TORTURE=N` does more of it, and prints times.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::{Drydock, Run, Running};
use tests::image_view::ImageView;
use tests::progress::{Vertex, rawjson};
use tests::random::Random;
use tests::{host, require_root};

/// What a build says of a step that another one runs.
const ELSEWHERE: &str = "run by another build";
/// What it says when that came to nothing.
const AGAIN: &str = "the other build could not finish it: it is run again";
/// The cache mounts by which a step is counted, and told to go on.
const MOUNTS: &str =
    "--mount=type=cache,id=count,target=/count --mount=type=cache,id=gate,target=/gate";
/// Until then it waits.
const WAIT: &str = "until [ -e /gate/go ]; do sleep 0.02; done";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the cache mount with this name is.
fn mount(drydock: &Drydock, name: &str) -> Option<PathBuf> {
    let homes = fs::read_dir(drydock.state().join("mounts-v1")).ok()?.flatten();
    let mut homes = homes.map(|entry| entry.path());
    let home = homes.find(|h| fs::read_to_string(h.join("name")).is_ok_and(|it| it == name))?;
    Some(home.join("0"))
}

fn open_gate(drydock: &Drydock) {
    fs::write(mount(drydock, "gate").unwrap().join("go"), "").unwrap();
}

/// How often each step ran, by what it is counted as.
fn runs(drydock: &Drydock) -> BTreeMap<String, usize> {
    let file = mount(drydock, "count").map(|dir| dir.join("runs"));
    let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let mut runs = BTreeMap::new();
    text.lines().for_each(|line| *runs.entry(line.to_owned()).or_default() += 1);
    runs
}

/// What a gated step tells when it has begun. Its name does not contain it.
const BEGAN: &str = "-is-42";

/// A step that is counted as `name`, waits for the gate, and does `then`.
fn gated(name: &str, then: &str) -> String {
    format!("RUN {MOUNTS} echo {name} >> /count/runs; echo {name}-is-$((6*7)); {WAIT}; {then}\n")
}

/// A build that shows all of what its steps tell, as JSON.
fn told_whole(drydock: &Drydock, context: &Context) -> Run {
    let run = drydock.build(context).arg("--progress=rawjson");
    run.env("BUILDKIT_STEP_LOG_MAX_SIZE", "-1").env("BUILDKIT_STEP_LOG_MAX_SPEED", "-1")
}

fn vertex(stderr: &str, name: &str) -> Vertex {
    rawjson(stderr).into_iter().find(|v| v.name.contains(name)).expect(name)
}

fn output(drydock: &Drydock, number: usize) -> String {
    format!("type=oci,dest={}", drydock.place(&format!("{number}.tar")).display())
}

fn image(drydock: &Drydock, number: usize) -> ImageView {
    ImageView::archive(&drydock.place(&format!("{number}.tar")))
}

/// Files of keys and of those who want them.
fn left(drydock: &Drydock) -> Vec<String> {
    let of = |bucket: &str| fs::read_dir(drydock.state().join(bucket)).unwrap().flatten();
    let names = of("locks").chain(of("inflight")).map(|e| e.file_name().into_string().unwrap());
    names.filter(|name| name.len() >= 64).collect()
}

/// A build that runs a gated step, and `count` others that follow it.
fn followed(drydock: &Drydock, context: &Context, count: usize) -> (Running, Vec<Running>) {
    let mut owner = drydock.build(context).args(["-o", &output(drydock, 0)]).start();
    owner.wait_for(BEGAN);
    let start = |n| drydock.build(context).args(["-o", &output(drydock, n + 1)]).start();
    let mut others: Vec<Running> = (0..count).map(start).collect();
    others.iter_mut().for_each(|other| {
        other.wait_for(ELSEWHERE);
        other.wait_for(BEGAN);
    });
    (owner, others)
}

#[test]
fn privileged_what_a_step_tells_reaches_all_who_wait_for_it() {
    require_root!();
    let drydock = Drydock::new();
    // 1 MB, at full speed.
    let context =
        Context::new(&format!("FROM busybox\n{}", gated("s", "seq 1 160000; echo e >&2")));
    let mut owner = told_whole(&drydock, &context).start();
    assert!(host::wait_until(PATIENCE, || runs(&drydock).contains_key("s")));
    let mut others: Vec<Running> = (0..3).map(|_| told_whole(&drydock, &context).start()).collect();
    others.iter_mut().for_each(|other| other.wait_for(ELSEWHERE));
    assert!(!owner.is_over());
    open_gate(&drydock);
    let output = owner.finish();
    assert!(output.status.success(), "{}", output.status);
    let made = vertex(&output.stderr, "RUN");
    let lines: String = (1..=160_000).map(|n| format!("{n}\n")).collect();
    assert!(made.log == format!("s-is-42\n{lines}e\n") && lines.len() > 1_000_000);
    for other in others {
        let output = other.finish();
        assert!(output.status.success(), "{}", output.status);
        let seen = vertex(&output.stderr, "RUN");
        assert!(seen.log == made.log, "{} of {} bytes", seen.log.len(), made.log.len());
        assert_eq!((&seen.started, seen.cached), (&made.started, false));
        assert!(seen.completed > seen.started);
    }
    assert_eq!(runs(&drydock)["s"], 1);
    // They keep it, too.
    let builds = fs::read_dir(drydock.state().join("builds-v1")).unwrap().flatten();
    for build in builds {
        let id = build.file_name().into_string().unwrap();
        let kept = drydock.command("logs").args([&id, "RUN"]).ok().text();
        assert!(kept.contains(lines.trim_end()), "{id}: {} bytes", kept.len());
    }
    assert_eq!(left(&drydock), Vec::<String>::new());
}

#[test]
fn privileged_secrets_do_not_reach_others() {
    require_root!();
    let drydock = Drydock::new();
    let secret = "correct-horse-battery";
    let step = gated("s", "true").replace("RUN ", "RUN --mount=type=secret,id=k ");
    let step = step.replace("echo s-is", "cat /run/secrets/k; echo; echo s-is");
    let context = Context::new(&format!("FROM busybox\n{step}"));
    let with_secret = || drydock.build(&context).args(["--secret", "id=k,env=K"]).env("K", secret);
    let mut owner = with_secret().start();
    owner.wait_for(BEGAN);
    assert!(owner.stderr().contains(secret), "what people see on the screen is the step's affair");
    let mut other = with_secret().env("K", "another-one").start();
    other.wait_for(BEGAN);
    let holds = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    let locks = fs::read_dir(drydock.state().join("locks")).unwrap().flatten();
    let locks: Vec<PathBuf> = locks.map(|e| e.path()).collect();
    assert!(locks.iter().any(|lock| fs::read(lock).unwrap().windows(8).any(|w| w == b"s-is-42\n")));
    assert!(!locks.iter().any(|lock| holds(lock)));
    open_gate(&drydock);
    assert!(owner.finish().status.success());
    let output = other.finish();
    assert!(output.status.success() && output.stderr.contains(" ***"), "{output}");
    assert!(!output.stderr.contains(secret), "{output}");
}

#[test]
fn privileged_an_interrupted_build_finishes_what_another_wants() {
    require_root!();
    let drydock = Drydock::new();
    let step = gated("s", "echo made > /x");
    let context = Context::new(&format!("FROM busybox\n{step}RUN echo never-by-the-first\n"));
    let (mut owner, mut others) = followed(&drydock, &context, 1);
    owner.signal(Signal::INT);
    owner.wait_for("for another build (Ctrl-C again to stop)");
    open_gate(&drydock);
    let output = owner.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("cancelled") && !output.has_step("never-by"), "{output}");
    assert!(output.stderr.contains("finishing [2/3] RUN"), "{output}");
    let output = others.remove(0).finish();
    assert!(output.status.success() && !output.stderr.contains(AGAIN), "{output}");
    assert_eq!((runs(&drydock)["s"], image(&drydock, 1).text("x").as_str()), (1, "made\n"));
}

#[test]
fn privileged_nobody_who_waits_means_that_ctrl_c_stops_it() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "true")));
    let (mut owner, mut others) = followed(&drydock, &context, 2);
    // Those who wait end with their own builds, at once.
    others[0].signal(Signal::INT);
    let output = others.remove(0).finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    owner.signal(Signal::INT);
    owner.wait_for("Ctrl-C again to stop");
    assert!(!owner.is_over());
    others[0].signal(Signal::INT);
    for build in [others.remove(0), owner] {
        let output = build.finish();
        assert_eq!(output.status.code(), Some(1), "{output}");
    }
    assert_eq!(runs(&drydock)["s"], 1);
    assert_eq!(left(&drydock), Vec::<String>::new());
}

#[test]
fn privileged_after_a_second_ctrl_c_one_of_those_who_wait_runs_it() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "echo made > /x")));
    let (mut owner, others) = followed(&drydock, &context, 2);
    owner.signal(Signal::INT);
    owner.wait_for("Ctrl-C again to stop");
    owner.signal(Signal::INT);
    assert_eq!(owner.finish().status.code(), Some(130));
    one_takes_over(&drydock, others);
}

#[test]
fn privileged_of_a_killed_build_one_of_five_takes_over() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "echo made > /x")));
    let (mut owner, others) = followed(&drydock, &context, 5);
    owner.kill();
    owner.finish();
    one_takes_over(&drydock, others);
}

/// The owner of `s` is gone: one of `others` runs it again, which all say and follow.
fn one_takes_over(drydock: &Drydock, mut others: Vec<Running>) {
    for other in &mut others {
        other.wait_for(AGAIN);
        let again = |other: &Running| other.stderr().matches("s-is-42").count() > 1;
        assert!(host::wait_until(PATIENCE, || again(other)), "{}", other.stderr());
    }
    open_gate(drydock);
    for (n, other) in others.into_iter().enumerate() {
        let output = other.finish();
        assert!(output.status.success(), "{output}");
        assert_eq!(output.step("RUN").log.iter().filter(|line| **line == "s-is-42").count(), 2);
        assert_eq!(image(drydock, n + 1).text("x"), "made\n");
    }
    assert_eq!(runs(drydock)["s"], 2);
    assert_eq!(left(drydock), Vec::<String>::new());
}

#[test]
fn privileged_a_failure_counts_for_those_who_wait() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "echo why >&2; exit 7")));
    let (owner, others) = followed(&drydock, &context, 2);
    open_gate(&drydock);
    for build in others.into_iter().chain([owner]) {
        let output = build.finish();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(output.stderr.contains("did not complete successfully: exit code: 7"), "{output}");
        assert!(output.step("RUN").log.contains(&"why".to_owned()), "{output}");
    }
    assert_eq!(runs(&drydock)["s"], 1);
    // It is no result: the next build tries again.
    drydock.build(&context).fails();
    assert_eq!(runs(&drydock)["s"], 2);
}

#[test]
fn privileged_a_failure_for_want_of_what_another_has_does_not_count() {
    require_root!();
    let drydock = Drydock::new();
    // Limits and secrets are in no key.
    let text = "[ $(ulimit -n) = 4096 ] || exit 7";
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", text)));
    let limited = |n: u32| drydock.build(&context).arg(format!("--ulimit=nofile={n}:{n}"));
    let mut owner = limited(2048).start();
    owner.wait_for(BEGAN);
    let mut other = limited(4096).start();
    other.wait_for(BEGAN);
    open_gate(&drydock);
    let output = owner.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    let output = other.finish();
    assert!(output.status.success() && output.stderr.contains(AGAIN), "{output}");
    assert_eq!(runs(&drydock)["s"], 2);
}

#[test]
fn privileged_a_failed_build_finishes_what_another_wants() {
    require_root!();
    let drydock = Drydock::new();
    let shared = gated("s", "echo made > /x");
    let fails = "RUN --mount=type=cache,id=gate,target=/gate until [ -e /gate/fail ]; do sleep 0.02; done; exit 9\n";
    let both = Context::new(&format!(
        "FROM busybox AS a\n{shared}FROM busybox AS b\n{fails}FROM busybox\nCOPY --from=a /x /\nCOPY --from=b /x /y\n"
    ));
    let mut owner = drydock.build(&both).args(["--jobs", "2"]).start();
    owner.wait_for(BEGAN);
    let one = Context::new(&format!("FROM busybox\n{shared}"));
    let mut other = drydock.build(&one).args(["-o", &output(&drydock, 1)]).start();
    other.wait_for(BEGAN);
    fs::write(mount(&drydock, "gate").unwrap().join("fail"), "").unwrap();
    owner.wait_for("for another build (Ctrl-C to stop)");
    open_gate(&drydock);
    let output = owner.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("exit code: 9"), "{output}");
    let output = other.finish();
    assert!(output.status.success() && !output.stderr.contains(AGAIN), "{output}");
    assert_eq!((runs(&drydock)["s"], image(&drydock, 1).text("x").as_str()), (1, "made\n"));
}

#[test]
fn privileged_a_long_step_delays_nobody_else() {
    require_root!();
    let drydock = Drydock::new();
    let long = Context::new(&format!("FROM busybox\n{}", gated("long", "true")));
    let mut first = drydock.build(&long).start();
    first.wait_for(BEGAN);
    let other = Context::new("FROM busybox\nCOPY f /f\nRUN cat /f > /g\n").file("f", "F");
    let view = drydock.build(&other).image();
    assert_eq!(view.text("g"), "F");
    for command in [&["du"][..], &["images"], &["prune", "-f"]] {
        drydock.command(command[0]).args(&command[1..]).ok();
    }
    assert!(!first.is_over());
    open_gate(&drydock);
    assert!(first.finish().status.success());
}

#[test]
fn privileged_a_build_that_wants_it_fresh_does_not_take_an_older_run() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM busybox\n{}", gated("s", "true")));
    let mut first = drydock.build(&context).start();
    first.wait_for(BEGAN);
    let mut second = drydock.build(&context).arg("--no-cache").start();
    second.wait_for("CACHED");
    open_gate(&drydock);
    assert!(first.finish().status.success());
    // With --no-cache, cache mounts begin empty.
    second.wait_for(BEGAN);
    open_gate(&drydock);
    let output = second.finish();
    assert!(output.status.success() && !output.stderr.contains(ELSEWHERE), "{output}");
    assert_eq!(output.executed().len(), 1, "{output}");
}

#[test]
fn privileged_steps_that_wait_for_a_cache_mount_leave_their_job_slots_to_others() {
    require_root!();
    for jobs in ["1", "2"] {
        let drydock = Drydock::new();
        let lock = "--mount=type=cache,sharing=locked,id=lock,target=/lock";
        let step = gated("holds", "true").replace("RUN ", &format!("RUN {lock} "));
        let mut holder = drydock.build(&Context::new(&format!("FROM busybox\n{step}"))).start();
        holder.wait_for(BEGAN);
        let waits = |name| format!("FROM busybox AS {name}\nRUN {lock} echo {name} > /{name}\n");
        let all = ["a", "b", "c"].map(|name| format!("COPY --from={name} /{name} /\n")).concat();
        let context = Context::new(&format!(
            "{}{}FROM busybox AS c\nRUN echo free-is-$((6*7)) | tee /c\nFROM busybox\n{all}",
            waits("a"),
            waits("b")
        ));
        let run = drydock.build(&context).args(["--jobs", jobs, "-o", &output(&drydock, 1)]);
        let mut build = run.start();
        let waiting = |build: &Running| build.stderr().matches("waiting for cache mount").count();
        assert!(host::wait_until(PATIENCE, || waiting(&build) == 2), "{}", build.stderr());
        build.wait_for("free-is-42");
        assert!(!holder.is_over());
        open_gate(&drydock);
        assert!(holder.finish().status.success());
        let output = build.finish();
        assert!(output.status.success(), "{output}");
        let image = image(&drydock, 1);
        assert_eq!(["a", "b", "c"].map(|name| image.text(name)), ["a\n", "b\n", "free-is-42\n"]);
    }
}

/// Builds that share steps with each other, each of `work`.
struct Overlap {
    count: usize,
    work: String,
}

impl Overlap {
    /// Stages that two of `PARTS` builds have in common, one that all have, and one of its own.
    const PARTS: usize = 4;

    fn step(&self, name: &str, mounts: &str) -> String {
        format!(
            "RUN --mount=type=cache,id=count,target=/count {mounts} echo {name} >> /count/runs; {}; echo {name} > /{name}\n",
            self.work
        )
    }

    /// Where two builds want the same two mounts in the opposite order.
    fn locked(number: usize) -> String {
        let mount = |id: &str| format!("--mount=type=cache,sharing=locked,id={id},target=/{id}m");
        match number % 2 {
            0 => format!("{} {}", mount("one"), mount("two")),
            _ => format!("{} {}", mount("two"), mount("one")),
        }
    }

    fn context(&self, number: usize) -> Context {
        let (left, right) = (number % Self::PARTS, (number + 1) % Self::PARTS);
        let part = |n: usize| self.step(&format!("part{n}"), "");
        let locked = self.step(&format!("locked{}", number % 2), &Self::locked(number));
        Context::new(&format!(
            "FROM busybox AS all\n{}FROM all AS left\n{}FROM all AS right\n{}FROM all AS locked\n{locked}\
             FROM busybox\nCOPY --from=left /part{left} /\nCOPY --from=right /part{right} /\n\
             COPY --from=locked /locked{} /\nRUN echo {number} > /own\n",
            self.step("base", ""),
            part(left),
            part(right),
            number % 2,
        ))
    }

    /// The names of the steps that do the work.
    fn steps() -> Vec<String> {
        let parts = (0..Self::PARTS).map(|n| format!("part{n}"));
        let mut steps: Vec<String> =
            parts.chain(["base", "locked0", "locked1"].map(str::to_owned)).collect();
        steps.sort();
        steps
    }

    /// Starts all of them on one state directory.
    fn start(&self, drydock: &Drydock) -> Vec<Running> {
        let start = |n| {
            let run = drydock.build(&self.context(n)).args(["-o", &output(drydock, n)]);
            // Half of them with one job slot.
            if n % 4 < 2 { run.args(["--jobs", "1"]).start() } else { run.start() }
        };
        (0..self.count).map(start).collect()
    }

    /// Runs them to their end; how long that took.
    fn run(&self) -> Duration {
        let drydock = Drydock::new();
        let begun = Instant::now();
        for (n, build) in self.start(&drydock).into_iter().enumerate() {
            let output = build.finish();
            assert!(output.status.success(), "{output}");
            for word in ["WARN", "ERROR", "panic", AGAIN] {
                assert!(!output.stderr.contains(word), "{output}");
            }
            assert_eq!(image(&drydock, n).text("own"), format!("{n}\n"));
        }
        let took = begun.elapsed();
        let once: BTreeMap<String, usize> = Self::steps().into_iter().map(|s| (s, 1)).collect();
        assert_eq!(runs(&drydock), once);
        assert_eq!(left(&drydock), Vec::<String>::new());
        assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
        took
    }

    /// Runs them, and kills every eighth at a random moment, one with one job slot: so it leaves at most one
    /// step unfinished. Returns how many runs were lost.
    fn run_with_kills(&self, random: &mut Random) -> usize {
        let drydock = Drydock::new();
        let mut builds: Vec<Option<Running>> = self.start(&drydock).into_iter().map(Some).collect();
        let victims: Vec<usize> = (0..self.count).filter(|n| n % 8 == 1).collect();
        for victim in &victims {
            std::thread::sleep(Duration::from_micros(random.below(400_000)));
            let mut build = builds[*victim].take().expect("it is killed once");
            build.kill();
            build.finish();
        }
        for (n, build) in builds.into_iter().enumerate() {
            let Some(build) = build else { continue };
            let output = build.finish();
            assert!(output.status.success(), "{output}");
            assert_eq!(image(&drydock, n).text("own"), format!("{n}\n"));
        }
        let runs = runs(&drydock);
        assert_eq!(runs.keys().cloned().collect::<Vec<_>>(), Self::steps());
        let lost = runs.values().sum::<usize>() - runs.len();
        assert!(lost <= victims.len(), "{runs:?}");
        drydock.command("prune").args(["-a", "-f"]).ok();
        assert_eq!(left(&drydock), Vec::<String>::new());
        lost
    }
}

/// `small`, or so many times more.
fn times(small: usize) -> usize {
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    small.saturating_mul(factor)
}

#[test]
fn privileged_32_builds_of_overlapping_dockerfiles() {
    require_root!();
    for _ in 0..times(1).div_ceil(5) {
        let took = Overlap { count: 32, work: "true".to_owned() }.run();
        println!("32 builds that share 7 steps: {took:?}");
    }
}

#[test]
fn privileged_builds_of_which_some_are_killed() {
    require_root!();
    let mut random = Random::announced("builds of which some are killed");
    let work = "sleep 0.1".to_owned();
    let (rounds, overlap) = (times(1).div_ceil(2), Overlap { count: 32, work });
    let lost: usize = (0..rounds).map(|_| overlap.run_with_kills(&mut random)).sum();
    println!("{rounds} times 32 builds of which 4 were killed: {lost} steps ran again");
}

/// What the processor does in one step of [`privileged_the_time_of_many_builds`].
const WORK: &str = "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done";

#[test]
fn privileged_the_time_of_many_builds() {
    require_root!();
    if std::env::var_os("DRYDOCK_TORTURE").is_none() {
        return tests::skip::say("the time of many builds", "it is for DRYDOCK_TORTURE");
    }
    let drydock = Drydock::new();
    let alone = |what: &str| {
        let context = Context::new(&format!("FROM busybox\nRUN {what}\n"));
        drydock.build(&context).ok().elapsed
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for round in 0..times(1).div_ceil(10) {
        let none = alone(&format!("true # {round}"));
        let step = alone(&format!("{WORK} # {round}")).saturating_sub(none);
        let work = step * Overlap::steps().len() as u32;
        let took = Overlap { count: 32, work: WORK.to_owned() }.run();
        let ratio = took.as_secs_f64() / (work.as_secs_f64() / cores as f64);
        println!(
            "round {round}: 32 builds, work {work:?} on {cores} cores, took {took:?}: {ratio:.2} of the work / cores"
        );
    }
}

/// Seconds since midnight of a time as RFC 3339 writes it.
fn seconds(time: &str) -> f64 {
    let (_, clock) = time.trim_end_matches('Z').split_once('T').unwrap();
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

#[test]
fn privileged_the_time_of_handing_over() {
    require_root!();
    if std::env::var_os("DRYDOCK_TORTURE").is_none() {
        return tests::skip::say("the time of handing over", "it is for DRYDOCK_TORTURE");
    }
    let mut times: Vec<f64> = (0..times(1).clamp(5, 50))
        .map(|_| {
            let drydock = Drydock::new();
            let step = gated("s", "true");
            let mut owner = drydock.build(&Context::new(&format!("FROM busybox\n{step}"))).start();
            owner.wait_for(BEGAN);
            let context = Context::new(&format!("FROM busybox\n{step}RUN echo next\n"));
            let mut other = told_whole(&drydock, &context).start();
            other.wait_for(ELSEWHERE);
            open_gate(&drydock);
            let output = other.finish();
            let ended = vertex(&output.stderr, "[2/3] RUN").completed.unwrap();
            let next = vertex(&output.stderr, "[3/3] RUN").started.unwrap();
            assert!(owner.finish().status.success());
            (seconds(&next) - seconds(&ended)).rem_euclid(24.0 * 3600.0) * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "from the end of a step to the start of the next one in another build: {:.1} ms, at most {:.1} ms",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
