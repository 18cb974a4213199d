//! What a hostile RUN step tries, as system calls of a program of its own: each try fails with the
//! error that is stated here, and the host is as before. As root, and as an ordinary user.
//! docs/design/escape.md says why each is expected.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oci::Digest;
use tests::base_image::BaseImage;
use tests::drydock::Drydock;
use tests::person::{Person, make};
use tests::{host, program, progress, require_programs, require_root};

/// The program that tries.
const SOURCE: &str = include_str!("escape/step.c");
/// In a file of the host that no build is given.
const SECRET: &str = "a-secret-of-the-host";

/// Refused by the filter of system calls, whatever the capabilities, or for want of one.
const REFUSED: &str = "mount-tmpfs mount-proc mount-bind mount-remount mount-shared mount-move \
    umount open_tree fsopen fspick fsmount move_mount mount_setattr pivot_root unshare-user \
    unshare-mount unshare-network clone-user setns init-attach init-seize init-vm-read \
    init-vm-write kcmp pidfd_getfd init_module finit_module delete_module kexec_load \
    kexec_file_load bpf perf_event_open userfaultfd io_uring_setup fanotify_init \
    open_by_handle_at swapon swapoff reboot settimeofday clock_settime adjtimex sethostname \
    setdomainname quotactl acct syslog vhangup set_mempolicy personality add_key request_key \
    keyctl-search vsock network-device realtime";

/// Tries with an answer of their own: as root, as an ordinary user (`=`: the same). A bar stands
/// between answers of different kernels and architectures.
const ANSWERS: &[(&str, &str, &str)] = &[
    ("clone3-user", "ENOSYS", "="),
    ("iopl", "EPERM|none", "="),
    ("ioperm", "EPERM|none", "="),
    ("priority", "EACCES", "="),
    // Our init is not dumpable.
    ("init-namespace", "EACCES", "="),
    ("init-mem", "EACCES", "="),
    ("init-root", "EACCES", "="),
    ("init-cwd", "EACCES", "="),
    ("init-fd", "EACCES", "="),
    ("init-environ", "EACCES", "="),
    ("init-maps", "EACCES", "="),
    ("init-exe", "EACCES", "="),
    // The kernel drops it: nothing of the output after it would be there otherwise.
    ("init-kill", "ok", "="),
    ("own-exe", "ETXTBSY", "="),
    ("write:/proc/sys/kernel/hostname", "EROFS", "EACCES"),
    ("write:/proc/sys/kernel/core_pattern", "EROFS", "EACCES"),
    ("write:/proc/sys/kernel/randomize_va_space", "EROFS", "EACCES"),
    ("write:/proc/sys/vm/overcommit_memory", "EROFS", "EACCES"),
    ("write:/proc/sysrq-trigger", "EROFS|ENOENT", "EACCES|ENOENT"),
    ("write:/proc/irq/default_smp_affinity", "EROFS|ENOENT", "EACCES|ENOENT"),
    ("write:/sys/kernel/mm/transparent_hugepage/enabled", "EROFS|ENOENT", "EACCES|ENOENT"),
    ("write:/sys/fs/cgroup/cgroup.procs", "EROFS|ENOENT", "EROFS|EACCES|ENOENT"),
    ("write:/sys/fs/cgroup/memory/release_agent", "EROFS|ENOENT", "EACCES|ENOENT"),
    ("sys-mkdir", "EROFS", "="),
    ("terminal", "ENXIO", "="),
    ("terminal-input", "ENOTTY", "="),
    ("immutable", "EPERM|ENOTTY|EOPNOTSUPP", "="),
    ("lower-mapped", "EPERM|ENOENT", "="),
    ("outside-directory", "ENOENT", "="),
    ("outside-dots", "ENOENT", "="),
    ("outside-kill", "ESRCH", "="),
    ("outside-attach", "ESRCH", "="),
    ("outside-process", "ENOENT", "="),
    ("outside-after-chroot", "ENOENT", "="),
    ("descriptors", "0,1,2", "="),
    ("processes", "1,2", "="),
    (
        "devices",
        "core,fd,full,mqueue,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero",
        "=",
    ),
    // Docker's fourteen.
    ("CapPrm", "00000000a80425fb", "="),
    ("CapEff", "00000000a80425fb", "="),
    ("CapBnd", "00000000a80425fb", "="),
    ("CapInh", "0000000000000000", "="),
    ("CapAmb", "0000000000000000", "="),
    ("Seccomp", "2", "="),
    // sudo and ping work in steps.
    ("NoNewPrivs", "0", "="),
];

/// Who builds.
enum Tier {
    Root(Drydock),
    User(Box<Person>),
}

/// What a build told.
struct Told {
    success: bool,
    text: String,
}

impl Told {
    /// What the step whose name contains `name` wrote.
    fn log(&self, name: &str) -> Vec<String> {
        assert!(self.success, "{}", self.text);
        let steps = progress::plain(&self.text);
        let mut found = steps.into_iter().filter(|it| it.name.contains(name));
        found.next().unwrap_or_else(|| panic!("no step {name}: {}", self.text)).log
    }

    /// The same as names and answers.
    fn answers(&self, name: &str) -> BTreeMap<String, String> {
        let log = self.log(name);
        let pairs = log.iter().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, answer)| (name.to_owned(), answer.to_owned())).collect()
    }
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

    /// A new context with the program in it, and files.
    fn context(&self, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = make(&self.place(name));
        let program = fs::read(program::compile("escape", SOURCE)).unwrap();
        let given = files.iter().map(|(name, text)| (*name, text.as_bytes()));
        let own = [("Dockerfile", dockerfile.as_bytes()), ("escape", &program[..])];
        for (file, content) in own.into_iter().chain(given) {
            fs::write(dir.join(file), content).unwrap();
            fs::set_permissions(dir.join(file), fs::Permissions::from_mode(0o644)).unwrap();
        }
        dir
    }

    /// Builds a context that is there.
    fn build(&self, name: &str, args: &[&str]) -> Told {
        match self {
            Self::Root(drydock) => {
                let base = format!("busybox=oci-layout://{}:latest", BaseImage::layout().display());
                let run = drydock.command("build").arg("--progress=plain").arg(self.place(name));
                let output = run.args(["--build-context", &base]).args(args).output();
                Told { success: output.status.success(), text: output.stderr }
            }
            Self::User(person) => {
                let output = person.build(name, args);
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                Told { success: output.status.success(), text }
            }
        }
    }

    /// A directory of the host that is open to all, with a file in it.
    fn outside(&self) -> PathBuf {
        let dir = make(&self.place("outside"));
        fs::write(dir.join("secret"), SECRET).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        dir
    }
}

/// What must not change.
#[derive(Debug, PartialEq, Eq)]
struct HostState {
    settings: Vec<Option<String>>,
    outside: BTreeMap<PathBuf, String>,
    mounts: Vec<String>,
}

impl HostState {
    fn of(tier: &Tier, outside: &Path) -> Self {
        let settings = [
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/domainname",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/vm/overcommit_memory",
            "/proc/swaps",
        ];
        Self {
            settings: settings.map(|it| fs::read_to_string(it).ok()).to_vec(),
            outside: tree(outside),
            mounts: host::mounts_below(tier.state()),
        }
    }
}

/// All below a directory: kind, mode, owner, time and content.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                pending.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
                "directory".to_owned()
            }
            kind if kind.is_file() => Digest::of(&fs::read(&path).unwrap()).to_string(),
            _ => String::new(),
        };
        let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
        let time = (meta.mtime(), meta.mtime_nsec());
        found.insert(path, format!("{mode:o} {uid}:{gid} {time:?} {content}"));
    }
    found
}

/// The layers of finished snapshots.
fn layers(state: &Path) -> BTreeMap<PathBuf, String> {
    let list = fs::read_dir(state.join("snapshots-v1")).unwrap().flatten();
    let roots = list.map(|it| it.path().join("fs")).filter(|it| it.is_dir());
    roots.flat_map(|it| tree(&it)).collect()
}

/// A process of the host that a step could do something to.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        let sleep = Command::new("sleep").arg("86413").stdin(Stdio::null()).spawn();
        Self(sleep.unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_as_root(case: impl FnOnce(&Tier)) {
    require_root!();
    require_programs!("gcc");
    case(&Tier::Root(Drydock::new()));
}

fn run_as_user(name: &str, case: impl FnOnce(&Tier)) {
    require_programs!("gcc");
    let Some(person) = Person::new(name, true) else { return };
    case(&Tier::User(Box::new(person)));
}

/// What is wrong with the answers of a run of everything.
fn unexpected(answers: &BTreeMap<String, String>, root: bool) -> Vec<String> {
    let mut expected: BTreeMap<&str, &str> = BTreeMap::new();
    expected.extend(REFUSED.split_whitespace().map(|name| (name, "EPERM")));
    for (name, of_root, of_user) in ANSWERS {
        expected.insert(name, if root || *of_user == "=" { of_root } else { of_user });
    }
    let mut wrong = Vec::new();
    let mut check = |name: &str, wanted: &str| {
        let got = answers.get(name).map_or("none", String::as_str);
        if !wanted.split('|').any(|it| it == got) {
            wrong.push(format!("{name}: {got}, not {wanted}"));
        }
    };
    expected.iter().for_each(|(name, wanted)| check(name, wanted));
    for name in answers.keys().filter(|it| !expected.contains_key(it.as_str())) {
        match name.split_once(':').map_or("", |(kind, _)| kind) {
            "masked" => check(name, "empty|ENOENT"),
            "fixed" => check(name, "yes"),
            "mknod" => check(name, if root { "ok" } else { "EPERM" }),
            "open" => check(name, if root { "EACCES" } else { "ENOENT" }),
            "namespace" => {}
            _ => check(name, "no such try"),
        }
    }
    wrong
}

/// Which namespaces of a step are the host's.
fn shared_namespaces(answers: &BTreeMap<String, String>) -> Vec<&'static str> {
    let mut kinds = vec!["mnt", "pid", "ipc", "uts", "cgroup", "net", "user"];
    kinds.retain(|kind| {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        answers[&format!("namespace:{kind}")] == own.to_str().unwrap()
    });
    kinds
}

fn everything(tier: &Tier) {
    let (outside, victim) = (tier.outside(), Victim::new());
    let head = "FROM busybox\nCOPY --chmod=755 escape /escape\n";
    tier.context("prepare", head, &[]);
    let prepared = tier.build("prepare", &[]);
    assert!(prepared.success, "{}", prepared.text);
    // The shell is process 2; it makes way for the program.
    let all = format!("exec /escape all {} {}", outside.display(), victim.0.id());
    let steps = format!("{head}RUN {all} # default\nRUN --network=none {all} # none\n");
    tier.context("context", &steps, &[]);
    let (before, lower) = (HostState::of(tier, &outside), layers(tier.state()));
    assert!(lower.len() > 100, "{}", lower.len());
    let told = tier.build("context", &[]);
    for (name, net) in [("# default", true), ("# none", false)] {
        let answers = told.answers(name);
        assert_eq!(unexpected(&answers, tier.is_root()), Vec::<String>::new(), "{name}");
        let mut shared = Vec::new();
        shared.extend(net.then_some("net"));
        shared.extend(tier.is_root().then_some("user"));
        assert_eq!(shared_namespaces(&answers), shared);
    }
    assert_eq!(before, HostState::of(tier, &outside));
    let after = layers(tier.state());
    let changed: Vec<_> =
        lower.iter().filter(|(path, was)| after.get(*path) != Some(was)).collect();
    assert!(changed.is_empty(), "lower layers have changed: {changed:?}");
    // What was written to them is in the layers of the step.
    let written = after.keys().filter(|it| !lower.contains_key(*it));
    assert!(written.into_iter().any(|it| it.ends_with("etc/group")), "{:?}", after.keys());
}

fn in_mounts(tier: &Tier) {
    let dir = tier.context(
        "context",
        "FROM busybox\nCOPY --chmod=755 escape /escape\n\
         RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=type=bind,target=/b,rw \
         for d in /c /t /b; do /escape nodes $d; done\n\
         RUN --mount=type=bind,target=/b exec /escape read-only /b\n",
        &[("kept", "kept")],
    );
    let before = tree(&dir);
    let told = tier.build("context", &[]);
    let answers = told.answers("type=cache");
    assert_eq!(answers.len(), 3 * 2 * 6, "{}", told.text);
    let (made, open) = if tier.is_root() { ("ok", "EACCES") } else { ("EPERM", "ENOENT") };
    for (name, answer) in answers {
        let wanted = if name.starts_with("mknod:") { made } else { open };
        assert_eq!(answer, wanted, "{name}");
    }
    let answers = told.answers("exec /escape read-only");
    assert_eq!(answers.len(), 10, "{}", told.text);
    for (name, answer) in answers {
        let wanted = if name == "bind-link" { "EXDEV" } else { "EROFS" };
        assert_eq!(answer, wanted, "{name}");
    }
    assert_eq!(before, tree(&dir), "the context is as it was");
}

/// Links that an image, a context or an earlier step planted lead nowhere but into the root.
fn planted_links(tier: &Tier) {
    let outside = tier.outside();
    let host = outside.display();
    let before = HostState::of(tier, &outside);
    let inside = format!(
        "FROM busybox\n\
         RUN ln -s {host} /abs && ln -s ../../../../../../../..{host} /dots && mkdir -p {host} \
         && ln -s /proc/self/root{host} /magic\n\
         RUN --mount=type=cache,target=/abs/c --mount=type=tmpfs,target=/dots/d \
         touch /abs/c/f /dots/d/f && ls {host}\n\
         COPY escape /abs/copied\nCOPY escape /dots/copied-too\nCOPY escape /magic/copied\n\
         WORKDIR /abs/work\nWORKDIR /dots/work-too\nRUN pwd -P && ls {host}\n"
    );
    tier.context("inside", &inside, &[]);
    let told = tier.build("inside", &[]);
    assert_eq!(told.log("RUN --mount"), ["c", "d"]);
    let log = told.log("RUN pwd");
    assert_eq!(log[0], format!("{host}/work-too"));
    assert_eq!(log[1..], ["copied", "copied-too", "work", "work-too"]);
    assert_eq!(before, HostState::of(tier, &outside));
    let planted = format!("FROM busybox AS s\nRUN ln -s {host} /l\nFROM busybox\n");
    let cache = "--mount=type=cache,id=c";
    let refused = [
        format!("{planted}RUN --mount=type=bind,from=s,source=/l,target=/b cat /b/secret\n"),
        format!("{planted}RUN --mount=type=bind,from=s,source=/l/secret,target=/b cat /b\n"),
        format!(
            "{planted}RUN --mount=type=bind,from=s,source=../../../../..{host},target=/b true\n"
        ),
        format!("{planted}COPY --from=s /l/secret /x\nRUN cat /x\n"),
        format!("{planted}COPY --from=s ../../../../../..{host}/secret /x\nRUN cat /x\n"),
        "FROM busybox\nCOPY link/secret /x\nRUN cat /x\n".into(),
        "FROM busybox\nRUN --mount=type=bind,source=link,target=/b cat /b/secret\n".into(),
        "FROM busybox\nRUN --mount=type=bind,source=file-link,target=/b cat /b\n".into(),
        format!(
            "FROM busybox\nRUN {cache},target=/c ln -sfn {host} /c/l\n\
             RUN {cache},source=l,target=/d cat /d/secret\n"
        ),
        format!("FROM busybox\nRUN {cache},target=/c ln -sfn {host} /c/l; cat /c/l/secret\n"),
        // CVE-2019-16884, CVE-2019-19921.
        "FROM busybox\nRUN --mount=type=tmpfs,target=/proc/self/attr true\n".into(),
        "FROM busybox\nRUN --mount=type=cache,target=/proc true\n".into(),
        "FROM busybox\nRUN --mount=type=tmpfs,target=/sys/kernel true\n".into(),
        "FROM busybox\nRUN ln -s /proc/self/attr /a\nRUN --mount=type=tmpfs,target=/a true\n"
            .into(),
    ];
    for (number, dockerfile) in refused.iter().enumerate() {
        let name = format!("refused-{number}");
        let dir = tier.context(&name, dockerfile, &[]);
        symlink(&outside, dir.join("link")).unwrap();
        symlink(outside.join("secret"), dir.join("file-link")).unwrap();
        let told = tier.build(&name, &[]);
        assert!(!told.success, "{dockerfile}{}", told.text);
        assert!(!told.text.contains(SECRET) && !told.text.contains("panicked"), "{}", told.text);
    }
    assert_eq!(before, HostState::of(tier, &outside));
}

/// CVE-2024-21626: a working directory that is a descriptor of the builder's.
fn working_directories(tier: &Tier) {
    let outside = tier.outside();
    let before = HostState::of(tier, &outside);
    for number in 3..12 {
        for link in [false, true] {
            let target = format!("/proc/self/fd/{number}");
            let (head, directory) = match link {
                false => (String::new(), target),
                true => (format!("RUN ln -s {target} /w\n"), "/w".into()),
            };
            let name = format!("fd-{number}-{link}");
            let dots = "../../../../../../../..";
            let read = format!("RUN cat {dots}{host}/secret\n", host = outside.display());
            let head = format!("FROM busybox\n{head}WORKDIR {directory}\n{read}");
            tier.context(&name, &head, &[]);
            let told = tier.build(&name, &[]);
            assert!(!told.success, "{head}{}", told.text);
            assert!(!told.text.contains(SECRET), "{head}{}", told.text);
        }
    }
    assert_eq!(before, HostState::of(tier, &outside));
}

/// A process that ignores signals, in a session of its own, ends with its step, before the layer
/// is taken.
fn survivors(tier: &Tier) {
    let salt = tier.place("salt");
    let dockerfile = format!(
        "FROM busybox\nCOPY --chmod=755 escape /escape\n\
         RUN /escape stay {salt} && while ! test -s /alive; do :; done\n\
         RUN wc -c < /alive; sleep 0.3; wc -c < /alive; ls /proc | grep -c ^[0-9]\n\
         RUN /escape stay {salt}; exit 3\n",
        salt = salt.display()
    );
    tier.context("context", &dockerfile, &[]);
    let told = tier.build("context", &[]);
    assert_eq!(host::processes_with(salt.to_str().unwrap()), Vec::<u32>::new());
    assert!(told.text.contains("exit code: 3"), "{}", told.text);
    let told = Told { success: true, ..told };
    let log = told.log("RUN wc");
    assert_eq!(log[0], log[1]);
    assert!(log[0].parse::<u64>().unwrap() > 0);
}

/// A step that forks without end stops at its limit, and all of it ends.
fn full_of_processes(tier: &Tier) {
    let salt = tier.place("salt");
    // A user's own limit counts the builder's threads as well; root has none.
    let limit = if tier.is_root() { "--resource=pids=40" } else { "--ulimit=nproc=400:400" };
    let most = if tier.is_root() { 40 } else { 400 };
    let dockerfile = format!(
        "FROM busybox\nCOPY --chmod=755 escape /escape\nRUN exec /escape fill 800 {}\n",
        salt.display()
    );
    tier.context("context", &dockerfile, &[]);
    let told = tier.build("context", &[limit]);
    let answers = told.answers("RUN exec");
    let (count, why) = answers["forked"].split_once(' ').unwrap();
    assert_eq!(why, "EAGAIN", "{}", told.text);
    let count: u32 = count.parse().unwrap();
    assert!((1..most).contains(&count), "{count}");
    assert_eq!(host::processes_with(salt.to_str().unwrap()), Vec::<u32>::new());
}

/// A step sees neither the processes nor the files of one that runs at the same time.
fn neighbours(tier: &Tier) {
    let wait = |file: &str| {
        format!("for i in $(seq 600); do test -e {file} && break; sleep 0.1; done; test -e {file}")
    };
    let dockerfile = format!(
        "FROM busybox AS a\n\
         RUN --mount=type=cache,id=n,target=/n echo mine > /tmp/of-a && grep ' / / ' \
         /proc/self/mountinfo > /n/mounts && touch /n/ready && {done} && cat /tmp/of-a\n\
         FROM busybox AS b\n\
         RUN --mount=type=cache,id=n,target=/n {ready} || exit 1; \
         upper=$(sed 's/.*upperdir=\\([^,]*\\).*/\\1/' /n/mounts); test -n \"$upper\" || exit 2; \
         echo ${{#upper}}; ls -d $upper {state} /proc/1/root$upper 2> /dev/null; \
         ls /proc | grep ^[0-9] | sort -n | head -2 | tail -1; kill -9 -1 2> /dev/null; touch /n/done; echo over\n\
         FROM busybox\nCOPY --from=a /tmp/of-a /\nCOPY --from=b /bin/true /b\n",
        done = wait("/n/done"),
        ready = wait("/n/ready"),
        state = tier.state().display(),
    );
    tier.context("context", &dockerfile, &[]);
    let told = tier.build("context", &["--jobs", "4"]);
    assert_eq!(told.log("echo mine"), ["mine"]);
    let log = told.log("kill -9 -1");
    assert!(log[0].parse::<usize>().unwrap() > 10, "{log:?}");
    assert_eq!(log[1..], ["2", "over"]);
}

/// A set-user-id program gives a user no more than a step of root has.
fn set_user_id(tier: &Tier) {
    tier.context(
        "context",
        "FROM busybox\nCOPY --chmod=755 escape /escape\nRUN cp /escape /suid && chmod 4755 /suid\n\
         USER app\nRUN exec /escape identity\nRUN exec /suid identity\n",
        &[],
    );
    let told = tier.build("context", &[]);
    for (step, effective) in
        [("exec /escape", "0000000000000000"), ("exec /suid", "00000000a80425fb")]
    {
        let answers = told.answers(step);
        assert_eq!(answers["CapEff"], effective, "{step}");
        assert_eq!(answers["CapBnd"], "00000000a80425fb", "{step}");
        assert_eq!(answers["CapAmb"], "0000000000000000", "{step}");
    }
}

/// Both tiers of a case.
macro_rules! tiers {
    ($($case:ident: $root:ident, $user:ident;)+) => {$(
        #[test]
        fn $root() {
            run_as_root($case);
        }

        #[test]
        fn $user() {
            run_as_user(stringify!($case), $case);
        }
    )+};
}

tiers! {
    everything: privileged_everything_as_root, privileged_everything_as_user;
    in_mounts: privileged_in_mounts_as_root, privileged_in_mounts_as_user;
    planted_links: privileged_planted_links_as_root, privileged_planted_links_as_user;
    working_directories: privileged_directories_as_root, privileged_directories_as_user;
    survivors: privileged_survivors_as_root, privileged_survivors_as_user;
    full_of_processes: privileged_full_as_root, privileged_full_as_user;
    neighbours: privileged_neighbours_as_root, privileged_neighbours_as_user;
    set_user_id: privileged_set_user_id_as_root, privileged_set_user_id_as_user;
}

/// Keyrings belong to no namespace: the builder's is not the step's, not even of one that may ask.
#[test]
fn privileged_keys_of_the_builder() {
    require_root!();
    require_programs!("gcc");
    let program = program::compile("escape", SOURCE);
    let own = Command::new(&program).arg("with-key").arg(&program).arg("search-key").output();
    if own.unwrap().stdout != b"keyctl-search ok\n" {
        return tests::skip::say("keys of the builder", "there are no keyrings");
    }
    let tier = Tier::Root(Drydock::new());
    let dir = tier.context(
        "context",
        "FROM busybox\nCOPY --chmod=755 escape /escape\nRUN exec /escape search-key\n\
         RUN --security=insecure exec /escape search-key\n",
        &[],
    );
    let Tier::Root(drydock) = &tier else { return };
    let base = format!("busybox=oci-layout://{}:latest", BaseImage::layout().display());
    let run = drydock.command("build").arg("--progress=plain").arg(dir);
    let run = run.args(["--build-context", &base, "--allow", "security.insecure"]);
    let output = run.wrapped([program.to_str().unwrap(), "with-key"]).ok();
    let told = Told { success: true, text: output.stderr };
    assert_eq!(told.answers("RUN exec")["keyctl-search"], "EPERM");
    assert_eq!(told.answers("RUN --security")["keyctl-search"], "ENOKEY");
}

/// A file that nobody may change or remove, left behind by a step that could make one.
#[test]
fn privileged_immutable_files_do_not_stay() {
    require_root!();
    require_programs!("gcc");
    let tier = Tier::Root(Drydock::new());
    tier.context(
        "context",
        "FROM busybox\nCOPY --chmod=755 escape /escape\n\
         RUN --security=insecure --mount=type=cache,target=/c mkdir /d && /escape immutable /d/f; \
         /escape immutable /etc/group; /escape immutable /c/f\n\
         RUN --security=insecure /escape immutable /late; exit 3\n",
        &[],
    );
    let told = tier.build("context", &["--allow", "security.insecure"]);
    assert!(told.text.contains("exit code: 3"), "{}", told.text);
    let Tier::Root(drydock) = &tier else { return };
    let output = drydock.command("prune").args(["-a", "-f"]).ok();
    assert!(!output.stderr.contains("cannot delete"), "{output}");
    let left = fs::read_dir(drydock.state().join("trash")).into_iter().flatten().flatten();
    assert_eq!(left.count(), 0);
    let left = layers(drydock.state());
    assert!(!left.keys().any(|it| it.ends_with("group") || it.ends_with("late")), "{left:?}");
}
