//! Faults at every write: the builder is killed in place of each call by which it changes
//! something, or each of these calls fails. The next build goes on, with the right image and with
//! every step whose end was shown. `make test` takes a few of the calls, at equal distances;
//! `DRYDOCK_TORTURE` takes all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::faults::{Fault, Faults};
use tests::image_view::ImageView;
use tests::progress::{self, End};
use tests::{host, require_root};

/// How many calls of each kind of command `make test` takes.
const FEW: usize = 10;
/// No space left on device.
const ENOSPC: i32 = 28;
/// Input/output error.
const EIO: i32 = 5;

/// Steps of every kind, with fresh keys and equal layers for each `SALT`.
fn sample() -> Context {
    Context::new(
        "FROM busybox AS left\nARG SALT\nRUN mkdir /l && echo 1 > /l/1 # $SALT\nCOPY a /l/a\n\
         RUN --mount=type=cache,target=/k,sharing=locked,commit=on-success cat /l/a > /l/2 && echo x >> /k/x\n\
         FROM busybox\nARG SALT\nWORKDIR /w\nCOPY --link --from=left /l /r\nRUN rm /bin/true; cat /r/a /r/2 > /all\n",
    )
    .file("a", "A")
    .settle()
}

struct Bench {
    faults: Faults,
    context: Context,
    want: ImageView,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Calls that were there.
    calls: usize,
    /// Calls at which something happened.
    met: usize,
    /// Builds and other commands that ended by it.
    ended: usize,
    /// Steps that had been shown as done in them.
    shown: usize,
    kinds: BTreeMap<String, usize>,
}

impl Bench {
    fn new(case: &str) -> Option<Self> {
        let faults = Faults::new(case)?;
        let context = sample();
        let want = image(&Drydock::new(), &context, 0).0;
        Some(Self { faults, context, want, counts: Counts::default() })
    }

    /// The numbers of the calls to take, of those that `run` makes.
    fn chosen(&mut self, drydock: &Drydock, run: Run, part: usize) -> Vec<usize> {
        self.faults.meet(drydock, run, Fault::None).ok();
        let total = self.faults.met(drydock).len();
        assert!(total > FEW, "{total} calls");
        self.counts.calls += total;
        let take = if std::env::var_os("DRYDOCK_TORTURE").is_some() { total } else { FEW / part };
        (0..take).map(|n| 1 + n * total / take + total / take / 2).collect()
    }

    /// Runs with a fault, and notes what it met.
    fn meet(&mut self, drydock: &Drydock, run: Run, fault: Fault) -> (Output, String) {
        let output = self.faults.meet(drydock, run, fault).output();
        let met = self.faults.met(drydock);
        let what = format!("{fault:?}: {}", met.first().map_or("not reached", String::as_str));
        if let Some(kind) = met.first().and_then(|call| call.split(' ').next()) {
            self.counts.met += 1;
            *self.counts.kinds.entry(kind.to_owned()).or_default() += 1;
        }
        self.counts.ended += usize::from(!output.status.success());
        assert!(!output.stderr.contains("panicked"), "{what}: {output}");
        (output, what)
    }

    /// The build after a fault: calm, right, and with all that the one before had shown.
    fn next(&mut self, drydock: &Drydock, salt: usize, before: &Output, what: &str) {
        assert!(
            host::wait_until(Duration::from_secs(60), || host::users_of(drydock.state())
                .is_empty()),
            "{what}: something goes on"
        );
        let dead = entries(&drydock.state().join("leases"));
        let (image, next) = image(drydock, &self.context, salt);
        calm(&next, what);
        assert_eq!(self.want.root.differences(&image.root), Vec::<String>::new(), "{what}");
        let ids = |image: &ImageView| image.config["rootfs"].clone();
        assert_eq!(ids(&self.want), ids(&image), "{what}");
        assert_eq!(self.want.config["config"], image.config["config"], "{what}");
        let shown: BTreeSet<String> = progress::plain(&before.stderr)
            .into_iter()
            .filter(|s| s.end == End::Done && tests::drydock::is_instruction(&s.name))
            .map(|s| s.name)
            .collect();
        let again: Vec<String> =
            next.executed().into_iter().filter(|s| shown.contains(s)).collect();
        assert!(again.is_empty(), "{what}: run again: {again:?}\n{before}\n{next}");
        self.counts.shown += shown.len();
        nothing_is_left(drydock, &dead, what);
    }

    fn told(&self, drydock: &Drydock, case: &str) {
        drydock.command("prune").arg("-f").ok();
        let deleted = entries(&drydock.state().join("snapshots-v1"));
        assert!(!deleted.iter().any(|n| n.contains('.')), "{deleted:?}");
        eprintln!("{case}: {:?}", self.counts);
    }
}

/// Builds and stores the sample.
fn build(drydock: &Drydock, context: &Context, salt: usize) -> Run {
    let run = drydock.build(context).arg(format!("--build-arg=SALT={salt}")).args(["-t", "app"]);
    let to = format!("type=oci,rewrite-timestamp=true,dest={}", dest(drydock).display());
    run.args(["-o", &to]).env("SOURCE_DATE_EPOCH", "1600000000")
}

fn dest(drydock: &Drydock) -> PathBuf {
    drydock.place("image.tar")
}

/// The same, with the image that it made.
fn image(drydock: &Drydock, context: &Context, salt: usize) -> (ImageView, Output) {
    let output = build(drydock, context, salt).ok();
    let image = ImageView::archive(&dest(drydock));
    fs::remove_file(dest(drydock)).unwrap();
    (image, output)
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Says nothing that would make people worry.
fn calm(output: &Output, what: &str) {
    for word in ["WARN", "warning", "ERROR", "corrupt", "damaged", "panic"] {
        assert!(!output.stderr.contains(word), "{what}: {output}");
    }
}

/// What a killed build left half done went at the next start, or by its end.
fn nothing_is_left(drydock: &Drydock, dead: &[String], what: &str) {
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new(), "{what}");
    for bucket in ["trash", "leases", "done", "inflight"] {
        let mut left = entries(&drydock.state().join(bucket));
        // A temporary file may be another process's: it is only taken when it is a day old.
        left.retain(|name| !name.starts_with(".tmp"));
        assert_eq!(left, Vec::<String>::new(), "{what}: left in {bucket}");
    }
    let unfinished = entries(&drydock.state().join("snapshots-v1"));
    // What could not be deleted, rather than being cut off, waits for a collection.
    let half = |n: &String| n.ends_with(".active") || !dead.is_empty() && n.ends_with(".trash");
    assert!(!unfinished.iter().any(half), "{what}: {unfinished:?}");
    let groups = host::cgroups();
    let left = groups.iter().find(|g| dead.iter().any(|d| g.to_string_lossy().contains(d)));
    assert_eq!(left, None, "{what}");
}

#[test]
fn privileged_killed_at_writes_of_a_first_build() {
    require_root!();
    let Some(mut bench) = Bench::new("killed at writes of a first build") else { return };
    let (first, context) = (Drydock::new(), sample());
    for number in bench.chosen(&first, build(&first, &context, 1), 1) {
        let drydock = Drydock::new();
        let (killed, what) =
            bench.meet(&drydock, build(&drydock, &context, 1), Fault::Kill(number));
        bench.next(&drydock, 1, &killed, &what);
    }
    bench.told(&first, "killed at writes of a first build");
}

#[test]
fn privileged_killed_at_writes_of_a_build() {
    require_root!();
    let Some(mut bench) = Bench::new("killed at writes of a build") else { return };
    let (drydock, context) = (Drydock::new(), sample());
    build(&drydock, &context, 0).ok();
    for (round, number) in
        bench.chosen(&drydock, build(&drydock, &context, 1), 1).into_iter().enumerate()
    {
        let salt = round + 2;
        let (killed, what) =
            bench.meet(&drydock, build(&drydock, &context, salt), Fault::Kill(number));
        bench.next(&drydock, salt, &killed, &what);
        // What could not be deleted waits for that; else the next round would be blamed for it.
        let deleted = |name: &String| name.ends_with(".trash");
        if round % 20 == 19 || entries(&drydock.state().join("snapshots-v1")).iter().any(deleted) {
            drydock.command("prune").args(["-f"]).ok();
        }
    }
    bench.told(&drydock, "killed at writes of a build");
}

#[test]
fn privileged_killed_at_writes_of_other_commands() {
    require_root!();
    let Some(mut bench) = Bench::new("killed at writes of other commands") else { return };
    let (drydock, context) = (Drydock::new(), sample());
    let commands: [&[&str]; 4] =
        [&["prune", "-a", "-f"], &["tag", "app", "other"], &["rmi", "app"], &["prune", "-f"]];
    for command in commands {
        let run = || drydock.command(command[0]).args(&command[1..]);
        build(&drydock, &context, 0).ok();
        for number in bench.chosen(&drydock, run(), 2) {
            build(&drydock, &context, 0).ok();
            let (killed, what) = bench.meet(&drydock, run(), Fault::Kill(number));
            bench.next(&drydock, 0, &killed, &format!("{command:?}: {what}"));
            drydock.command("inspect").arg("app").ok();
            let du = drydock.command("du").ok();
            calm(&du, &what);
            let _ = drydock.command("rmi").arg("other").output();
        }
    }
    bench.told(&drydock, "killed at writes of other commands");
}

#[test]
fn privileged_writes_of_a_build_fail() {
    require_root!();
    let Some(mut bench) = Bench::new("writes of a build fail") else { return };
    let (drydock, context) = (Drydock::new(), sample());
    build(&drydock, &context, 0).ok();
    for (round, number) in
        bench.chosen(&drydock, build(&drydock, &context, 1), 1).into_iter().enumerate()
    {
        type MakeFault = fn(usize, i32) -> Fault;
        let kinds: [(MakeFault, i32, &str); 4] = [
            (Fault::Fails, ENOSPC, "No space left"),
            (Fault::Fails, EIO, "Input/output error"),
            (Fault::AllFail, ENOSPC, "No space left"),
            (Fault::AllFail, EIO, "Input/output error"),
        ];
        let (fault, error, text) = kinds[round % kinds.len()];
        let salt = round + 2;
        let dest = dest(&drydock);
        let _ = fs::remove_file(&dest);
        let run = build(&drydock, &context, salt);
        let (output, what) = bench.meet(&drydock, run, fault(number, error));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{what}: {output}");
        if output.status.success() {
            // What failed was not needed, or was done in another way.
            assert_eq!(
                ImageView::archive(&dest).root.differences(&bench.want.root),
                Vec::<String>::new()
            );
        } else {
            let inside = output.steps().iter().any(|s| matches!(s.end, End::Failed(_)));
            assert!(output.stderr.contains(text) || inside, "{what}: {output}");
            // Whole, as when something fails after it was written (the last sync), or not there.
            if dest.exists() {
                let image = ImageView::archive(&dest);
                let differences = image.root.differences(&bench.want.root);
                assert_eq!(differences, Vec::<String>::new(), "{what}: {output}");
                assert!(output.stderr.contains("exporting config"), "{what}: {output}");
            }
        }
        bench.next(&drydock, salt, &output, &what);
        // What could not be deleted waits for that; else the next round would be blamed for it.
        let deleted = |name: &String| name.ends_with(".trash");
        if round % 20 == 19 || entries(&drydock.state().join("snapshots-v1")).iter().any(deleted) {
            drydock.command("prune").args(["-f"]).ok();
        }
    }
    bench.told(&drydock, "writes of a build fail");
}
