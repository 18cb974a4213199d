//! What is left in the builder after many runs. One test only: it counts what belongs to the whole
//! process.

mod harness;

use std::fs;
use std::path::Path;

use executor::CancelToken;
use harness::{Collector, Fixture, ready};

/// Open descriptors of this process, mounts in its namespace that have to do with `dir` (others come
/// and go meanwhile), and its children.
fn count(dir: &Path) -> (usize, usize, String) {
    let dir = dir.to_str().unwrap();
    let fds = fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(dir)).count();
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
    let children = tasks.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    (fds, mounts, children.collect::<Vec<_>>().join(" ").trim().to_owned())
}

#[test]
fn privileged_nothing_leaks() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut limited = it.spec(&["true"]);
    limited.cwd = "/etc/passwd".into();
    it.sh("true");
    let before = count(&it.dir);
    for _ in 0..50 {
        it.sh("sleep 100 & echo one");
        assert!(it.try_run(&it.spec(&["missing"])).is_err());
        assert!(it.try_run(&limited).is_err());
        let token = CancelToken::new();
        token.cancel();
        assert!(it.executor.run(&limited, &Collector::default(), &token).is_err());
    }
    assert_eq!(count(&it.dir), before);
}
