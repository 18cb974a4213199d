//! What is written where: directory trees stand in for the hierarchies of both versions. They
//! show what a kernel would be told, not what it would do; files appear as they are written.

use super::*;

const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
28 25 0:25 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
nonsense
";

fn everything() -> GroupLimits {
    GroupLimits {
        memory: Some(1 << 20),
        swap: Some(Swap::Total(3 << 20)),
        cpu: Some(CpuQuota { quota_micros: 50_000, period_micros: 100_000 }),
        cpu_shares: Some(1024),
        cpus: Some("0-1".parse().unwrap()),
        mems: Some("0".parse().unwrap()),
        pids: Some(20),
    }
}

#[test]
fn hybrid_hosts() {
    let groups = "5:cpu,cpuacct:/user/a\n4:memory:/\n1:name=systemd:/x\n0::/user.slice/s.scope\n";
    let found = Hierarchies::parse(HYBRID, groups);
    assert_eq!(found.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
    assert_eq!(found.cpu.as_deref(), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
    assert_eq!(found.cpuset.as_deref(), Some(Path::new("/sys/fs/cgroup/cpuset")));
    assert_eq!(found.pids, None);
    let own: Vec<&str> = found.own.iter().map(|it| it.group.to_str().unwrap()).collect();
    let unified = "/sys/fs/cgroup/unified/user.slice/s.scope";
    assert_eq!(own, ["/sys/fs/cgroup/cpu,cpuacct/user/a", "/sys/fs/cgroup/memory/", unified]);
}

#[test]
fn own_groups_in_containers() {
    let own = |root: &str, groups: &str| {
        let mounts = format!("29 25 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let found = Hierarchies::parse(&mounts, groups).own;
        found.into_iter().next().map(|it| it.group.to_str().unwrap().to_owned())
    };
    assert_eq!(own("/", "0::/\n").as_deref(), Some("/sys/fs/cgroup/"));
    assert_eq!(own("/docker/1", "0::/docker/1/x\n").as_deref(), Some("/sys/fs/cgroup/x"));
    // Another part of the hierarchy is mounted, or one above that of our namespace.
    assert_eq!(own("/docker/1", "0::/docker/2\n"), None);
    assert_eq!(own("/", "0::/../other\n"), None);
    assert_eq!(own("/", "5:memory:/x\n"), None);
}

#[test]
fn unified_writes() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::write(root.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
    fs::write(root.join("cpuset.cpus.effective"), "0-3\n").unwrap();
    let all = Hierarchies { unified: Some(root.into()), ..Hierarchies::default() };
    let group = all.create(&Parent::default(), "lease-1", &everything()).unwrap();
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    for (file, value) in [
        ("memory.max", "1048576"),
        ("memory.swap.max", "2097152"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "20"),
    ] {
        assert_eq!(read(&format!("drydock/lease-1/{file}")), value, "{file}");
    }
    assert_eq!(read("drydock/cgroup.subtree_control"), "+pids", "the last one of four");
    group.add(77).unwrap();
    assert_eq!(read("drydock/lease-1/cgroup.procs"), "77");
    fs::write(root.join("drydock/lease-1/memory.events"), "oom 2\noom_kill 1\n").unwrap();
    fs::write(root.join("drydock/lease-1/memory.peak"), "1048000\n").unwrap();
    assert_eq!((group.oom_kills(), group.peak_memory()), (1, Some(1_048_000)));
    assert!(all.create(&Parent::default(), "a/b", &everything()).is_err());
}

#[test]
fn unified_parents_of_choice() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    fs::write(root.join("cgroup.controllers"), "memory pids\n").unwrap();
    // Switched on already: nobody writes that again, they may not be allowed to.
    fs::write(root.join("cgroup.subtree_control"), "pids memory\n").unwrap();
    let all = Hierarchies { unified: Some(root.into()), ..Hierarchies::default() };
    let parent = Parent::new("/ci/../jobs/7").unwrap();
    let limits = GroupLimits { pids: Some(9), ..GroupLimits::default() };
    let group = all.create(&parent, "lease-1", &limits).unwrap();
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    assert_eq!(read("cgroup.subtree_control"), "pids memory\n");
    assert_eq!(read("jobs/cgroup.subtree_control"), "+pids");
    assert_eq!(read("jobs/7/cgroup.subtree_control"), "+pids");
    assert_eq!(read("jobs/7/lease-1/pids.max"), "9");
    assert_eq!(group.peak_memory(), None);
    let bare = all.create(&parent, "lease-2", &GroupLimits::default()).unwrap();
    assert!(root.join("jobs/7/lease-2").is_dir());
    bare.remove();
    assert!(!root.join("jobs/7/lease-2").exists());
    all.sweep("leas");
    assert!(root.join("jobs/7/lease-1").is_dir(), "another owner's");
    fs::remove_file(root.join("jobs/7/lease-1/pids.max")).unwrap();
    all.sweep("lease");
    // In a real hierarchy the files go with the directory.
    assert!(root.join("jobs/7/lease-1/cgroup.kill").is_file());
}

#[test]
fn version_1_writes() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    let at = |name: &str| {
        fs::create_dir_all(root.join(name)).unwrap();
        Some(root.join(name))
    };
    let all = Hierarchies {
        unified: None,
        own: Vec::new(),
        memory: at("memory"),
        cpu: at("cpu,cpuset"),
        cpuset: at("cpu,cpuset"),
        pids: at("pids"),
    };
    fs::write(root.join("cpu,cpuset/cpuset.cpus"), "0-3\n").unwrap();
    fs::write(root.join("cpu,cpuset/cpuset.mems"), "0\n").unwrap();
    let limits = GroupLimits { mems: None, ..everything() };
    all.create(&Parent::default(), "lease-1", &limits).unwrap();
    for (file, value) in [
        ("memory/drydock/lease-1/memory.limit_in_bytes", "1048576"),
        ("memory/drydock/lease-1/memory.memsw.limit_in_bytes", "3145728"),
        ("cpu,cpuset/drydock/lease-1/cpu.cfs_quota_us", "50000"),
        ("cpu,cpuset/drydock/lease-1/cpu.cfs_period_us", "100000"),
        ("cpu,cpuset/drydock/lease-1/cpu.shares", "1024"),
        ("cpu,cpuset/drydock/cpuset.cpus", "0-3"),
        ("cpu,cpuset/drydock/cpuset.mems", "0"),
        ("cpu,cpuset/drydock/lease-1/cpuset.cpus", "0-1"),
        ("cpu,cpuset/drydock/lease-1/cpuset.mems", "0"),
        ("pids/drydock/lease-1/pids.max", "20"),
    ] {
        assert_eq!(fs::read_to_string(root.join(file)).unwrap(), value, "{file}");
    }
    let too_many = GroupLimits { cpus: Some("2-4".parse().unwrap()), ..GroupLimits::default() };
    let error = all.create(&Parent::default(), "lease-2", &too_many).unwrap_err().to_string();
    assert!(error.contains("processors 2-4") && error.contains("offers 0-3"), "{error}");
    assert!(!root.join("cpu,cpuset/drydock/lease-2").exists());
}

#[test]
fn a_limit_without_a_controller_is_an_error() {
    let refused = |all: &Hierarchies, limits: &GroupLimits| {
        all.create(&Parent::default(), "x", limits).unwrap_err().to_string()
    };
    let limits = GroupLimits { pids: Some(1), ..GroupLimits::default() };
    let text = refused(&Hierarchies::default(), &limits);
    assert!(text.contains("number of processes") && text.contains("\"pids\""), "{text}");
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("cgroup.controllers"), "cpuset\n").unwrap();
    fs::write(temp.path().join("cpuset.cpus.effective"), "0\n").unwrap();
    let unified = Hierarchies { unified: Some(temp.path().into()), ..Hierarchies::default() };
    assert_eq!(refused(&unified, &limits), text);
    let limits = GroupLimits { cpus: Some("1".parse().unwrap()), ..GroupLimits::default() };
    // The file tells what the parent has; the tree has none of its own there.
    fs::create_dir(temp.path().join("drydock")).unwrap();
    fs::write(temp.path().join("drydock/cpuset.cpus.effective"), "0\n").unwrap();
    let text = refused(&unified, &limits);
    assert!(text.contains("processors 1 cannot be given"), "{text}");
    assert!(!temp.path().join("drydock/x").exists());
}

/// In a directory tree, which has none of the files that every group has.
#[test]
fn groups_in_a_group_go_first() {
    let temp = tempfile::tempdir().unwrap();
    let group = temp.path().join("group");
    std::fs::create_dir_all(group.join("of/a/step")).unwrap();
    remove_dir(&group);
    assert!(!group.exists());
}

/// A tree stands for a delegated scope of version 2: where the builder sits, and what it is told to
/// hand down. That a kernel takes it is not shown.
#[test]
fn the_builder_steps_aside_in_its_own_group() {
    let temp = tempfile::tempdir().unwrap();
    let top = temp.path();
    let scope = top.join("user.slice/run.scope");
    fs::create_dir_all(&scope).unwrap();
    for (file, text) in [
        ("cgroup.controllers", "memory pids\n"),
        ("cgroup.subtree_control", "\n"),
        ("cgroup.type", "domain\n"),
        ("cgroup.procs", &format!("1\n{}\n", std::process::id())),
    ] {
        fs::write(scope.join(file), text).unwrap();
    }
    // Whoever runs this may write everywhere, but not to a top that is not there.
    let top = top.join("top");
    let own = vec![Own { top: top.clone(), group: scope.clone() }];
    let all = Hierarchies { unified: Some(top.clone()), own, ..Hierarchies::default() };
    let limits = GroupLimits { pids: Some(9), ..GroupLimits::default() };
    all.create(&Parent::default(), "lease-1", &limits).unwrap();
    let read = |file: &str| fs::read_to_string(scope.join(file)).unwrap();
    assert_eq!(read("drydock-builder/cgroup.procs"), std::process::id().to_string());
    assert_eq!(read("cgroup.subtree_control"), "+pids");
    assert_eq!(read("drydock/cgroup.subtree_control"), "+pids");
    assert_eq!(read("drydock/lease-1/pids.max"), "9");
    let without = Hierarchies { unified: Some(top), ..Hierarchies::default() };
    let error = without.create(&Parent::default(), "lease-2", &limits).unwrap_err().to_string();
    assert!(error.contains("systemd-run --user --scope -p Delegate=yes drydock build"), "{error}");
    let v1 = Hierarchies { pids: without.unified, ..Hierarchies::default() };
    let error = v1.create(&Parent::default(), "lease-2", &limits).unwrap_err().to_string();
    assert!(error.contains("not delegated by itself"), "{error}");
}
