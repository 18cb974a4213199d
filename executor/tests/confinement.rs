//! What a process may not see or do.

mod harness;

use executor::{Network, Security};
use harness::{Fixture, ready};

#[test]
fn privileged_network_none_has_only_loopback() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.shell(
        "ls /sys/class/net; cat /sys/class/net/lo/flags; ping -c1 -W1 127.0.0.1 >/dev/null && echo up",
    );
    spec.network = Network::None;
    let ran = it.run(&spec);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("lo", "up"), "{ran:?}");
    let flags = u32::from_str_radix(lines[1].trim_start_matches("0x"), 16).unwrap();
    assert_eq!(flags & 1, 1, "IFF_UP");
    let host = std::fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(it.sh("ls /sys/class/net | wc -l").trim(), host.to_string());
}

#[test]
fn privileged_own_namespaces() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let links = it.sh("for n in mnt pid ipc uts cgroup net; do readlink /proc/self/ns/$n; done");
    let inside: Vec<_> = links.lines().collect();
    for (number, name) in ["mnt", "pid", "ipc", "uts", "cgroup", "net"].into_iter().enumerate() {
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(inside[number] == host.to_str().unwrap(), name == "net", "{name}");
    }
}

#[test]
fn privileged_masked_and_read_only_paths() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let text = it.sh("for f in kcore keys timer_list interrupts latency_stats sched_debug; do \
         [ -e /proc/$f ] && wc -c < /proc/$f; done; \
         for d in /proc/acpi /proc/scsi /sys/firmware; do [ -d $d ] && ls -A $d | wc -l; done; \
         true");
    assert!(text.lines().count() >= 3 && text.lines().all(|it| it.trim() == "0"), "{text}");
    let paths = ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/own"];
    for path in paths {
        // Not every kernel has every file.
        if path == "/proc/sysrq-trigger" && !std::path::Path::new(path).exists() {
            continue;
        }
        let ran = it.run(&it.shell(&format!("echo x > {path}")));
        assert!(ran.err.contains("Read-only file system"), "{path}: {}", ran.err);
    }
    let ran = it.run(&it.shell("mount -o remount,rw /proc/sys; umount /proc/kcore"));
    assert!(
        ran.err.matches("ermitted").count() + ran.err.matches("denied").count() >= 2,
        "{}",
        ran.err
    );
}

#[test]
fn privileged_refused_calls() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    for script in [
        "mount -t tmpfs none /tmp",
        "unshare -m true",
        "unshare -U true",
        "nsenter -t 1 -m true",
        "insmod /bin/busybox",
        "hostname other",
        "date -s 2020-01-01",
        "swapoff /x",
        "pivot_root / /tmp",
    ] {
        let ran = it.run(&it.shell(script));
        let refused = ran.err.contains("Operation not permitted")
            || ran.err.to_lowercase().contains("permission denied");
        assert!(refused, "{script}: {ran:?}");
    }
    assert_eq!(
        it.sh("chroot / true; mknod /tmp/n c 1 3; chown 5:5 /tmp/n; stat -c %u /tmp/n"),
        "5\n"
    );
}

#[test]
fn privileged_capabilities() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status";
    let sets = |user: &str| -> Vec<String> {
        let mut spec = it.shell(script);
        spec.user = user.into();
        let out = it.run(&spec).out;
        out.lines().map(|line| line.split_whitespace().last().unwrap().to_owned()).collect()
    };
    // Inheritable, permitted, effective, bounding, ambient; no_new_privs; filtering.
    let (none, all) = ("0000000000000000", "00000000a80425fb");
    assert_eq!(sets(""), [none, all, all, all, none, "0", "2"]);
    assert_eq!(sets("app"), [none, none, none, all, none, "0", "2"]);
}

#[test]
fn privileged_init_is_opaque() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let text = it.sh("tr '\\0' ' ' < /proc/1/cmdline; echo; cat /proc/1/comm; \
         grep -E '^(CapEff|Seccomp:)' /proc/1/status | awk '{print $2}'; echo $$");
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["drydock-init", "drydock-init", "00000000a80425fb", "2", "2"]);
    for path in ["environ", "maps", "mem", "exe", "root/", "fd/"] {
        let ran = it.run(&it.shell(&format!("ls -l /proc/1/{path} && cat /proc/1/{path}")));
        assert!(!ran.outcome.status.success(), "{path}: {ran:?}");
    }
    let ran = it.run(&it.shell("kill -9 1; kill -TERM 1; sleep 0.05; echo alive"));
    assert_eq!(ran.out, "alive\n");
}

#[test]
fn privileged_no_descriptors_leak_in() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    // Not close-on-exec, as a careless library would open it.
    let leaked = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let leaked = leaked.unwrap();
    assert_eq!(it.sh("ls /proc/self/fd | xargs"), "0 1 2 3\n", "3 is the listing's own");
    let mut spec = it.spec(&["true"]);
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    spec.cwd = format!("/proc/self/fd/{number}");
    assert!(it.try_run(&spec).is_err(), "CVE-2024-21626");
}

/// The value of a line of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|it| it.starts_with(name)).unwrap();
    line.split_whitespace().last().unwrap()
}

#[test]
fn privileged_insecure_has_what_the_builder_has() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let inside = |user: &str| {
        let mut spec = it.shell("cat /proc/self/status");
        spec.security = Security::Insecure;
        spec.user = user.into();
        it.run(&spec).out
    };
    let (root, app) = (inside(""), inside("app"));
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(field(&root, set), field(&own, "CapEff"), "{set}");
    }
    assert_eq!(field(&root, "CapInh"), "0000000000000000");
    assert_eq!(field(&app, "CapEff"), "0000000000000000");
    assert_eq!(field(&app, "CapBnd"), field(&own, "CapEff"));
    assert_eq!(field(&root, "Seccomp:"), field(&own, "Seccomp:"));
}

#[test]
fn privileged_insecure_mounts_and_writes_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let insecure = |script: &str| {
        let mut spec = it.shell(script);
        spec.security = Security::Insecure;
        let ran = it.run(&spec);
        assert!(ran.outcome.status.success(), "{script}: {ran:?}");
        ran.out
    };
    insecure("mkdir /m && mount -t tmpfs none /m && touch /m/x && mount --bind /m /tmp");
    insecure("hostname other && unshare -m true && test $(hostname) = other");
    // Its own namespace's, which is gone with it.
    insecure("f=/proc/sys/kernel/domainname; echo mine > $f && grep mine $f");
    let options = "awk '$5 == \"/sys\" || $5 == \"/proc/sys\" {print $5, $6}' /proc/self/mountinfo";
    assert!(insecure(options).starts_with("/sys rw"));
    assert!(it.sh(options).contains("/sys ro") && it.sh(options).contains("/proc/sys ro"));
    let masked = "grep -cE ' /(proc|sys/firmware)[^ ]* ' /proc/self/mountinfo";
    assert_eq!(insecure(masked), "1\n", "/proc itself");
    // A failed step, too.
    let mut spec = it.shell("mount -t tmpfs none /m; exit 3");
    spec.security = Security::Insecure;
    assert_eq!(it.run(&spec).code(), 3);
    // Others mount and unmount here too: only what stands below the fixture is ours.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(it.dir.to_str().unwrap()), "{mounts}");
    assert_eq!(it.changes(), ["dev", "m", "proc", "sys"], "nothing of what was mounted");
}

#[test]
fn privileged_insecure_has_the_hosts_devices() {
    if !ready() {
        return;
    }
    let it = Fixture::new();
    let mut spec = it.shell(
        "cd /dev; find . -type b -o -type c | sort; : > /dev/own; mknod /dev/more c 1 3; rm /dev/zero",
    );
    spec.security = Security::Insecure;
    let seen = it.run(&spec).out;
    for name in ["kmsg", "fuse", "loop-control", "net/tun", "null"] {
        if std::path::Path::new("/dev").join(name).exists() {
            assert!(seen.lines().any(|it| it == format!("./{name}")), "{name}: {seen}");
        }
    }
    assert!(!seen.contains("./console"), "{seen}");
    let dev = std::path::Path::new("/dev");
    assert!(!dev.join("own").exists() && !dev.join("more").exists() && dev.join("zero").exists());
    assert_eq!(
        it.sh("cd /dev; find . -maxdepth 1 -type b -o -maxdepth 1 -type c | sort | xargs"),
        "./full ./null ./random ./tty ./urandom ./zero\n"
    );
}
