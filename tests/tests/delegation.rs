//! Limits of steps of users who may not make control groups at the top of a hierarchy, but in one
//! that was given to them. For real where the hierarchies are of version 1; where a kernel has only
//! version 2 these cases say that they did not run, and `sys/src/cgroup/tests.rs` shows with a
//! directory tree what it would be told.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tests::host::wait_until;
use tests::person::{Person, fails, ok};
use tests::skip;

/// The hierarchy of version 1 with a controller.
fn hierarchy(case: &str, controller: &str) -> Option<PathBuf> {
    let dir = Path::new("/sys/fs/cgroup").join(controller);
    // Those of version 2 have no file of tasks.
    if dir.join("tasks").exists() && !dir.join("cgroup.controllers").exists() {
        return Some(dir);
    }
    skip::say(case, &format!("no hierarchy of version 1 has the controller {controller}"));
    None
}

/// A group that root made for a user; removed at the end with what is in it.
struct Given(PathBuf);

impl Given {
    fn new(hierarchy: &Path, person: &Person) -> Self {
        let group = hierarchy.join(format!("given-to-{}", person.name));
        fs::create_dir(&group).unwrap();
        let home = fs::metadata(person.place("home")).unwrap();
        let (uid, gid) = {
            use std::os::unix::fs::MetadataExt;
            (home.uid(), home.gid())
        };
        for entry in fs::read_dir(&group).unwrap().flatten() {
            // The limits stay root's.
            if ["cgroup.procs", "tasks"].iter().any(|it| entry.file_name() == *it) {
                chown(entry.path(), Some(uid), Some(gid)).unwrap();
            }
        }
        chown(&group, Some(uid), Some(gid)).unwrap();
        Self(group)
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap();
    }

    /// Groups of steps that are still there.
    fn left(&self) -> Vec<PathBuf> {
        let groups = |dir: &Path| -> Vec<PathBuf> {
            let all = fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
            all.filter(|it| it.is_dir()).collect()
        };
        groups(&self.0.join("drydock"))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let gone = wait_until(Duration::from_secs(60), || {
            let _ = fs::remove_dir(self.0.join("drydock"));
            fs::remove_dir(&self.0).is_ok()
        });
        if !gone {
            eprintln!("the group {} could not be removed", self.0.display());
        }
    }
}

/// Builds as this user, started in these groups as a service manager would start it.
fn build(person: &Person, groups: &[&Given], dockerfile: &str, args: &[&str]) -> Output {
    let context = person.place("context");
    let _ = fs::remove_dir_all(&context);
    person.context("context", dockerfile, &[]);
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    let enter = "for group; do [ \"$group\" = -- ] && break; echo $$ > \"$group/cgroup.procs\" || exit 9; shift; done; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", enter, "sh"]).args(groups.iter().map(|it| &it.0)).arg("--");
    command
        .args(["setpriv", "--reuid", &person.name, "--regid", &person.gid.to_string()])
        .args(["--init-groups", "--"])
        .arg(person.place("drydock"))
        .args(["build", "--progress=plain", "--build-context", &base])
        .arg(&context)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", person.place("home"))
        .current_dir(person.place("home"))
        .output()
        .unwrap()
}

#[test]
fn privileged_a_group_of_ones_own_gives_limits() {
    let Some(memory) = hierarchy("delegation", "memory") else { return };
    let Some(pids) = hierarchy("delegation", "pids") else { return };
    let Some(person) = Person::new("delegation", true) else { return };
    let groups = [Given::new(&memory, &person), Given::new(&pids, &person)];
    let all: Vec<&Given> = groups.iter().collect();
    let greedy = "FROM busybox\nRUN tail /dev/zero\n";
    let told = fails(&build(&person, &all, greedy, &["--memory=32m", "--memory-swap=32m"]));
    assert!(told.contains("RUN tail /dev/zero"), "{told}");
    assert!(told.contains("cannot allocate memory (its processes used "), "{told}");
    assert!(told.contains("the limit is 32MiB)"), "{told}");
    let many = "FROM busybox\nRUN for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait; echo all\n";
    let told = build(&person, &all, many, &["--resource=pids=5"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("can't fork"), "{told}");
    let many = many.replace("600", "0.5");
    ok(&build(&person, &all, &many, &["--resource=pids=50", "--memory=256m", "--no-cache"]));
    for group in &groups {
        assert_eq!(group.left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn privileged_a_parent_of_ones_own() {
    let Some(memory) = hierarchy("delegation", "memory") else { return };
    let Some(person) = Person::new("delegation", true) else { return };
    let given = Given::new(&memory, &person);
    given.set("memory.limit_in_bytes", "33554432");
    if given.0.join("memory.memsw.limit_in_bytes").exists() {
        given.set("memory.memsw.limit_in_bytes", "33554432");
    }
    let name = format!("/{}", given.0.file_name().unwrap().to_str().unwrap());
    let greedy = "FROM busybox\nRUN tail /dev/zero\n";
    let parent = format!("--cgroup-parent={name}");
    let told = fails(&build(&person, &[], greedy, &[&parent]));
    assert!(told.contains("cannot allocate memory (its processes used "), "{told}");
    let limit = format!("the limit of the control group {name}, 32MiB, was reached)");
    assert!(told.contains(&limit), "{told}");
}

#[test]
fn privileged_without_a_group_it_says_how_to_get_one() {
    let Some(memory) = hierarchy("delegation", "memory") else { return };
    let Some(person) = Person::new("delegation", true) else { return };
    let dockerfile = "FROM busybox\nRUN echo never-printed\n";
    let told = fails(&build(&person, &[], dockerfile, &["--memory=64m"]));
    assert!(told.contains("memory cannot be limited: this user may make control groups"), "{told}");
    assert!(told.contains(memory.to_str().unwrap()), "{told}");
    assert!(told.contains("have root make a group in the hierarchy"), "{told}");
    assert!(!told.contains("DONE never-printed"), "{told}");
    let told =
        fails(&build(&person, &[], dockerfile, &["--cgroup-parent=/nobodys/x", "--memory=64m"]));
    assert!(told.contains("/nobodys/x"), "{told}");
    // Nothing was asked for: nothing is missing.
    ok(&build(&person, &[], dockerfile, &[]));
}
