//! What many steps leave behind: a hundred at once, a thousand in a row, some that fail and some
//! that are stopped. Mounts, processes, control groups, namespaces, descriptors, keyrings and files
//! are counted before, meanwhile and after; what was counted is printed. `DRYDOCK_TORTURE=N` does N
//! times as many in a row.
//!
//! Others may build on this machine at the same time: what belongs to a case is found by its state
//! directory, by its own parent of control groups, and by descent from its builder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::base_image::BaseImage;
use tests::drydock::Drydock;
use tests::person::{Person, make};
use tests::{binary, host, require_root};

/// How long what ends by itself may take: a stopped builder, keyrings that the kernel collects.
const PATIENCE: Duration = Duration::from_secs(60);
/// Steps of a build in a row, and such builds.
const ROW: u32 = 250;
const BUILDS: u32 = 4;
/// Steps at once.
const AT_ONCE: u32 = 100;
/// What a builder may hold more of at one moment than at another.
const FLUCTUATION: usize = 60;

/// Who builds, with what.
enum Tier {
    Root(Drydock),
    User(Box<Person>),
}

impl Tier {
    fn is_root(&self) -> bool {
        matches!(self, Self::Root(_))
    }

    fn place(&self, name: &str) -> PathBuf {
        match self {
            Self::Root(drydock) => drydock.place(name),
            Self::User(person) => person.place(name),
        }
    }

    fn state(&self) -> &Path {
        match self {
            Self::Root(drydock) => drydock.state(),
            Self::User(person) => &person.state,
        }
    }

    /// The parent of the groups of this case's steps: a user has none.
    fn group_parent(&self) -> String {
        format!(
            "drydock-test-leaks-{}",
            self.place("").display().to_string().replace(['/', '.'], "-")
        )
    }

    /// Starts the build of a Dockerfile; its output goes to the file `told`.
    fn start(&self, dockerfile: &str, args: &[&str]) -> Child {
        let dir = self.place("context");
        if !dir.exists() {
            make(&dir);
            let tmp = make(&self.place("tmp"));
            fs::set_permissions(tmp, fs::Permissions::from_mode(0o1777)).unwrap();
            fs::write(self.place("secret"), "s").unwrap();
            fs::set_permissions(self.place("secret"), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
        fs::write(dir.join("f"), "f").unwrap();
        let (mut command, base) = match self {
            Self::Root(drydock) => {
                let mut command = Command::new(binary::drydock());
                command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
                command.env("HOME", drydock.home()).env("DRYDOCK_ROOT", drydock.state());
                (command, BaseImage::layout().to_owned())
            }
            Self::User(person) => (person.command(), person.place("base")),
        };
        let secret = format!("id=s,src={}", self.place("secret").display());
        command.args(["build", "--progress=plain", "--secret", &secret]).arg(&dir);
        command
            .arg("--build-context")
            .arg(format!("busybox=oci-layout://{}:latest", base.display()));
        if self.is_root() {
            command.args([
                "--resource=pids=300",
                &format!("--cgroup-parent=/{}", self.group_parent()),
            ]);
        }
        let told = fs::File::create(self.place("told")).unwrap();
        command.args(args).env("TMPDIR", self.place("tmp")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(told).spawn().unwrap()
    }

    /// How many steps of a round have begun: each puts a file into a cache mount.
    fn began(&self, round: usize) -> usize {
        let mounts = self.state().join("mounts-v1");
        let copies = entries(&mounts).map(|it| mounts.join(it).join("0"));
        let files = copies.flat_map(|it| entries(&it).collect::<Vec<_>>());
        files.filter(|it| it.starts_with(&format!("{round}-"))).count()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.place("told")).unwrap()
    }

    /// Runs a build to its end, looking at it all the time.
    fn watched(&self, dockerfile: &str, args: &[&str]) -> (bool, Watch) {
        let mut child = self.start(dockerfile, args);
        let mut watch = Watch::default();
        loop {
            watch.look(child.id());
            if let Some(status) = child.try_wait().unwrap() {
                return (status.success(), watch);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the machine still has of this case's builds, by kind.
    fn left(&self) -> BTreeMap<&'static str, Vec<String>> {
        let state = self.state().to_str().unwrap();
        let mut left: BTreeMap<_, Vec<String>> = BTreeMap::new();
        left.insert("processes", host::users_of(self.state()).iter().map(u32::to_string).collect());
        left.insert("mounts", mounts_of(state));
        left.insert("control groups", groups_below(&self.group_parent()));
        let mut files = Vec::new();
        for bucket in ["trash", "leases", "done", "inflight", "run/root", "run/private"] {
            files.extend(entries(&self.state().join(bucket)).map(|it| format!("{bucket}/{it}")));
        }
        files.extend(
            entries(&self.state().join("run")).filter(|it| it != "root" && it != "private"),
        );
        files.extend(
            entries(&self.state().join("snapshots-v1")).filter(|it| it.ends_with(".active")),
        );
        files.extend(entries(&self.place("tmp")));
        left.insert("files", files);
        left
    }

    /// Nothing is left, and says how much that was.
    fn assert_nothing_left(&self, what: &str, keyrings: usize) {
        let mut left = BTreeMap::new();
        let gone = host::wait_until(PATIENCE, || {
            left = self.left();
            left.values().all(Vec::is_empty)
        });
        assert!(gone, "{what}: {left:?}\n{}", self.told());
        let mut now = 0;
        let kept = host::wait_until(PATIENCE, || {
            now = self.keyrings();
            // The first user's keyrings are everybody's.
            now <= keyrings + if self.is_root() { FLUCTUATION } else { 0 }
        });
        assert!(kept, "{what}: {now} session keyrings, before {keyrings}");
        let counts: String = left.iter().fold(String::new(), |mut text, (kind, list)| {
            let _ = write!(text, ", {kind} {}", list.len());
            text
        });
        println!("{what}: left{counts}; session keyrings before {keyrings}, after {now}");
    }

    /// Session keyrings of this user (keyrings(7), proc_keys(5)).
    fn keyrings(&self) -> usize {
        let table = fs::read_to_string("/proc/keys").unwrap_or_default();
        let uid = match self {
            Self::Root(_) => 0,
            Self::User(person) => fs::metadata(person.place("home")).unwrap().uid(),
        };
        let of_user = |line: &&str| line.split_whitespace().nth(5) == Some(&uid.to_string());
        table.lines().filter(of_user).filter(|line| line.contains("keyring   _ses")).count()
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        let top = Path::new("/sys/fs/cgroup");
        let parent = self.group_parent();
        for dir in entries(top).map(|it| top.join(it)).chain([top.to_owned()]) {
            let _ = fs::remove_dir(dir.join(&parent));
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let list = fs::read_dir(dir).into_iter().flatten().flatten();
    list.map(|it| it.file_name().to_string_lossy().into_owned())
}

/// Mounts of any process's namespace that have to do with the state directory.
fn mounts_of(state: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for pid in entries(Path::new("/proc")).filter_map(|it| it.parse::<u32>().ok()) {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if seen.insert(namespace) {
            let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            found.extend(table.lines().filter(|line| line.contains(state)).map(str::to_owned));
        }
    }
    found
}

/// Groups below a parent, in every hierarchy.
fn groups_below(parent: &str) -> Vec<String> {
    let top = Path::new("/sys/fs/cgroup");
    let parents = entries(top).map(|it| top.join(it)).chain([top.to_owned()]);
    let parents = parents.map(|it| it.join(parent));
    let below = parents.flat_map(|dir| entries(&dir).map(move |it| dir.join(it)));
    below.filter(|it| it.is_dir()).map(|it| it.display().to_string()).collect()
}

/// What a builder held while it ran.
#[derive(Default)]
struct Watch {
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    descriptors: usize,
    threads: usize,
    processes: usize,
    namespaces: usize,
}

impl Watch {
    fn look(&mut self, pid: u32) {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let mut family = BTreeSet::new();
        descendants(pid, &mut family);
        let mut namespaces = BTreeSet::new();
        for member in &family {
            for kind in ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"] {
                namespaces.extend(fs::read_link(format!("/proc/{member}/ns/{kind}")));
            }
        }
        let sample = Sample {
            descriptors: entries(&proc.join("fd")).count(),
            threads: entries(&proc.join("task")).count(),
            processes: family.len(),
            namespaces: namespaces.len(),
        };
        if sample.descriptors > 0 {
            self.samples.push(sample);
        }
    }

    fn most(samples: &[Sample]) -> Sample {
        samples.iter().fold(Sample::default(), |most, it| Sample {
            descriptors: most.descriptors.max(it.descriptors),
            threads: most.threads.max(it.threads),
            processes: most.processes.max(it.processes),
            namespaces: most.namespaces.max(it.namespaces),
        })
    }

    /// The builder held no more in the last part of its life than in the first.
    fn assert_steady(&self, what: &str) {
        assert!(self.samples.len() >= 10, "{what}: {} samples", self.samples.len());
        let parts = self.samples.chunks(self.samples.len().div_ceil(4)).map(Self::most);
        let parts: Vec<Sample> = parts.collect();
        let line = |name: &str, of: fn(&Sample) -> usize| {
            let counts: Vec<usize> = parts.iter().map(of).collect();
            println!("{what}: {name}, at most, in four parts: {counts:?}");
            let (first, last) = (counts[0].max(counts[1]), counts[counts.len() - 1]);
            assert!(last <= first + FLUCTUATION, "{what}: {name} grow: {counts:?}");
        };
        line("descriptors", |it| it.descriptors);
        line("threads", |it| it.threads);
        line("processes", |it| it.processes);
        line("namespaces", |it| it.namespaces);
    }
}

fn descendants(pid: u32, found: &mut BTreeSet<u32>) {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    for task in entries(&tasks) {
        let children = fs::read_to_string(tasks.join(task).join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|it| it.parse().ok()) {
            if found.insert(child) {
                descendants(child, found);
            }
        }
    }
}

/// Steps with every kind of mount and network, which leave processes behind if nobody ends them.
fn row(build: u32) -> String {
    let mut text = "FROM busybox\n".to_owned();
    for number in 0..ROW {
        let options = match number % 10 {
            1 => "--mount=type=cache,target=/c ",
            2 => "--mount=type=tmpfs,target=/deep/t ",
            3 => "--mount=type=secret,id=s --mount=type=secret,id=s,env=S ",
            4 => "--mount=type=bind,target=/b ",
            5 => "--mount=type=bind,from=busybox,target=/b,rw ",
            6 => "--network=none ",
            _ => "",
        };
        let _ = match number % 10 {
            7 => writeln!(text, "RUN sleep 1000 & echo {build} {number} > /n"),
            _ => writeln!(text, "RUN {options}[\"/bin/true\", \"{build}-{number}\"]"),
        };
    }
    text
}

fn in_a_row(tier: &Tier) {
    let factor = std::env::var("DRYDOCK_TORTURE").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let keyrings = tier.keyrings();
    for number in 0..BUILDS * factor {
        let (success, watch) = tier.watched(&row(number), &[]);
        assert!(success, "{}", tier.told());
        let ran = tier.told().matches(" DONE ").count();
        assert!(ran >= ROW as usize, "{ran} steps\n{}", tier.told());
        let what = format!("build {number}, {ROW} steps in a row");
        watch.assert_steady(&what);
        tier.assert_nothing_left(&what, keyrings);
    }
}

fn at_once(tier: &Tier) {
    let keyrings = tier.keyrings();
    let mut text = String::new();
    for number in 0..AT_ONCE {
        // Each goes on when all are there: they do run at once.
        let _ = writeln!(
            text,
            "FROM busybox AS s{number}\n\
             RUN --mount=type=cache,id=all,target=/all --mount=type=tmpfs,target=/t \
             --mount=type=secret,id=s touch /all/{number}; \
             for i in $(seq 500); do set -- /all/*; test $# -ge {AT_ONCE} && break; sleep 0.2; done; \
             sleep 1000 & test $# -ge {AT_ONCE} && echo {number} > /n{number}"
        );
    }
    text.push_str("FROM busybox\n");
    for number in 0..AT_ONCE {
        let _ = writeln!(text, "COPY --from=s{number} /n{number} /");
    }
    let (success, watch) = tier.watched(&text, &["--jobs", &AT_ONCE.to_string()]);
    assert!(success, "{}", tier.told());
    let most = Watch::most(&watch.samples);
    println!(
        "{AT_ONCE} steps at once: at most {} descriptors, {} threads, {} processes, {} namespaces",
        most.descriptors, most.threads, most.processes, most.namespaces
    );
    assert!(most.processes >= AT_ONCE as usize, "the counting sees the steps");
    tier.assert_nothing_left(&format!("{AT_ONCE} steps at once"), keyrings);
}

/// Twenty steps that fail beside each other, or that are stopped, by everything that stops them.
fn cut_off(tier: &Tier) {
    let keyrings = tier.keyrings();
    let all = |command: &str, round: usize| {
        let stages = (0..20).fold(String::new(), |mut text, number| {
            let _ = writeln!(
                text,
                "FROM busybox AS s{number}\nRUN --mount=type=cache,id=c,target=/c \
                 --mount=type=tmpfs,target=/new/t --mount=type=bind,target=/b \
                 --mount=type=secret,id=s touch /c/{round}-{number}; sleep 1000 & {command}"
            );
            text
        });
        let copies = (0..20).map(|it| format!("COPY --from=s{it} /bin/true /t{it}\n"));
        format!("{stages}FROM busybox\n{}", copies.collect::<String>())
    };
    let mut round = 0;
    for command in ["exit 3", "kill -9 $$", "exec /missing", "wait"] {
        let signals: &[Option<Signal>] = match command {
            "wait" => {
                &[Some(Signal::INT), Some(Signal::TERM), Some(Signal::HUP), Some(Signal::KILL)]
            }
            _ => &[None],
        };
        for signal in signals {
            let what = format!("20 steps that {command}, signal {signal:?}");
            round += 1;
            let mut child = tier.start(&all(command, round), &["--jobs", "20"]);
            if let Some(signal) = signal {
                let began = || tier.began(round) >= 20;
                assert!(host::wait_until(PATIENCE, began), "{}", tier.told());
                let _ = kill_process(Pid::from_child(&child), *signal);
            }
            assert!(!child.wait().unwrap().success(), "{}", tier.told());
            if *signal == Some(Signal::KILL) {
                // A killed builder cleans nothing up; the next one does.
                let over = || host::users_of(tier.state()).is_empty();
                assert!(host::wait_until(PATIENCE, over), "{:?}", host::users_of(tier.state()));
                let (success, _) = tier.watched("FROM busybox\nRUN true\n", &[]);
                assert!(success, "{}", tier.told());
            }
            tier.assert_nothing_left(&what, keyrings);
        }
    }
}

fn run_as_root(case: impl FnOnce(&Tier)) {
    require_root!();
    case(&Tier::Root(Drydock::new()));
}

fn run_as_user(name: &str, case: impl FnOnce(&Tier)) {
    let Some(person) = Person::new(name, true) else { return };
    case(&Tier::User(Box::new(person)));
}

#[test]
fn privileged_in_a_row_as_root() {
    run_as_root(in_a_row);
}

#[test]
fn privileged_in_a_row_as_user() {
    run_as_user("in a row", in_a_row);
}

#[test]
fn privileged_at_once_as_root() {
    run_as_root(at_once);
}

#[test]
fn privileged_at_once_as_user() {
    run_as_user("at once", at_once);
}

#[test]
fn privileged_cut_off_as_root() {
    run_as_root(cut_off);
}

#[test]
fn privileged_cut_off_as_user() {
    run_as_user("cut off", cut_off);
}
