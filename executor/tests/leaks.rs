//! What is left in the builder after many runs. One test only: it counts what belongs to the whole
//! process.

mod harness;

use std::fs;

use executor::CancelToken;
use harness::{Collector, Fixture, ready};

/// Open descriptors, mounts and children of this process.
fn count() -> (usize, usize, String) {
    let fds = fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
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
    let before = count();
    for _ in 0..50 {
        it.sh("sleep 100 & echo one");
        assert!(it.try_run(&it.spec(&["missing"])).is_err());
        assert!(it.try_run(&limited).is_err());
        let token = CancelToken::new();
        token.cancel();
        assert!(it.executor.run(&limited, &Collector::default(), &token).is_err());
    }
    assert_eq!(count(), before);
}
