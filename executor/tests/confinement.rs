//! What a process may not see or do.

mod harness;

use executor::Network;
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
