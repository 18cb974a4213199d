//! RUN: what a process sees, what it may do, and what is left when it ends.

use std::time::Duration;

use rustix::process::Signal;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::host;
use tests::require_root;

/// How long something may take that does not depend on us alone.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(lines: &str) -> tests::image_view::ImageView {
    Drydock::new().image_of(&format!("FROM busybox\n{lines}\n"))
}

#[test]
fn privileged_users_homes_and_groups() {
    require_root!();
    let image = run("RUN mkdir -m 777 /o\nRUN id > /o/root; echo $HOME >> /o/root\n\
         USER app\nRUN id > /o/app; echo $HOME >> /o/app\n\
         USER 1000\nRUN id > /o/number; echo $HOME >> /o/number\n\
         USER app:users\nRUN id > /o/group; echo $HOME >> /o/group\n\
         USER 4242\nRUN id > /o/unknown; echo $HOME >> /o/unknown\n\
         USER 4242:4343\nRUN id > /o/both\n\
         USER root\nENV HOME=/own\nRUN echo $HOME > /o/env");
    assert!(image.text("o/root").starts_with("uid=0(root) gid=0(root)"));
    assert!(image.text("o/root").ends_with("/root\n"));
    assert_eq!(
        image.text("o/app"),
        "uid=1000(app) gid=1001(appg) groups=1001(appg),2000(extra)\n/home/app\n"
    );
    assert_eq!(image.text("o/number"), image.text("o/app"), "a number is looked up too");
    let group = image.text("o/group");
    assert!(
        group.starts_with("uid=1000(app) gid=100(users)") && !group.contains("2000"),
        "{group}"
    );
    assert_eq!(image.text("o/unknown").replace(" groups=0(root)", ""), "uid=4242 gid=0(root)\n/\n");
    assert!(image.text("o/both").starts_with("uid=4242 gid=4343"));
    assert_eq!(image.text("o/env"), "/own\n");
    assert_eq!(image.root.line("o/app").split(' ').nth(2), Some("1000:1001"));
}

#[test]
fn privileged_unknown_users_are_an_error() {
    require_root!();
    let drydock = Drydock::new();
    for (user, part) in [("ghost", "ghost"), ("app:ghosts", "ghosts")] {
        let context = Context::new(&format!("FROM busybox\nUSER {user}\nRUN true\n"));
        let output = drydock.build(&context).fails();
        assert!(output.stderr.contains(part), "{output}");
    }
}

#[test]
fn privileged_streams_and_terminals() {
    require_root!();
    let context = Context::new(
        "FROM busybox\nRUN cat; echo to-stdout; echo to-stderr >&2; test ! -t 0 && test ! -t 1 && echo no-terminal; \
         sleep 0.2; printf unfinished\n",
    );
    let drydock = Drydock::new();
    let output = drydock.build(&context).stdin("not for the step").ok();
    let mut log = output.step("RUN cat").log;
    // There is no order between two pipes.
    log.sort();
    assert_eq!(log, ["no-terminal", "to-stderr", "to-stdout", "unfinished"], "{output}");
}

#[test]
fn privileged_hosts_and_names_are_not_in_layers() {
    require_root!();
    let context = Context::new(
        "FROM busybox\nRUN cat /etc/hosts && hostname && cat /etc/resolv.conf > /dev/null && \
         ((echo x >> /etc/hosts) 2>/dev/null || echo read-only)\n\
         RUN echo mine > /tmp/own\n\
         FROM scratch\nCOPY --from=0 /tmp/own /own\n",
    );
    let drydock = Drydock::new();
    let (image, output) = drydock
        .build(&context)
        .args(["--target", "0", "--add-host", "db.example:10.1.2.3"])
        .image_and_output();
    let log = output.step("RUN cat /etc/hosts").log;
    assert!(log.iter().any(|l| l.contains("localhost")), "{log:?}");
    assert!(log.iter().any(|l| l.contains("10.1.2.3") && l.contains("db.example")), "{log:?}");
    assert!(log.contains(&"buildkitsandbox".to_owned()), "{log:?}");
    assert!(log.contains(&"read-only".to_owned()), "{log:?}");
    for layer in &image.layers[1..] {
        let names = layer.names();
        assert!(!names.iter().any(|n| n.starts_with("etc/") || n.starts_with("dev/")), "{names:?}");
    }
    assert!(!image.root.has("etc/hosts") && !image.root.has("etc/resolv.conf"));
}

#[test]
fn privileged_an_images_own_hosts_file_is_kept() {
    require_root!();
    let context =
        Context::new("FROM busybox\nCOPY hosts /etc/hosts\nRUN grep -c mine /etc/hosts || true\n")
            .file("hosts", "10.9.8.7 mine\n");
    let image = Drydock::new().build(&context).image();
    assert_eq!(image.text("etc/hosts"), "10.9.8.7 mine\n");
}

#[test]
fn privileged_scratch_images_have_no_stubs_but_three() {
    require_root!();
    let context = Context::new(
        "FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin/busybox /busybox\nRUN [\"/busybox\", \"touch\", \"/made\"]\n",
    );
    let image = Drydock::new().build(&context).image();
    assert_eq!(image.root.paths(), ["busybox", "dev", "made", "proc", "sys"]);
    assert!(["dev", "proc", "sys"].iter().all(|d| image.root.line(d) == "d 755 0:0"));
}

#[test]
fn privileged_no_network() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN ls /sys/class/net; ip addr show lo; ip route; ping -c 1 127.0.0.1\n",
    );
    let output = drydock.build(&context).args(["--network", "none"]).ok();
    let log = output.step("RUN ls").log.join("\n");
    assert!(log.contains("127.0.0.1/8"), "{log}");
    assert!(!log.contains("eth") && !log.contains("default via"), "{log}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Whoever gets through is let go at once.
    std::thread::spawn(move || drop(listener.accept()));
    let text = format!(
        "FROM busybox\nRUN --network=none ! nc -w 1 127.0.0.1 {port} < /dev/null\nRUN nc -w 5 127.0.0.1 {port} < /dev/null\n"
    );
    drydock.build(&Context::new(&text)).ok();
}

#[test]
fn privileged_background_processes_end_with_the_step() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN (while true; do date > /tick; sleep 0.01; done) & setsid sleep 7717.25 & \
         until [ -s /tick ]; do sleep 0.02; done; cp /tick /seen\n\
         RUN cp /tick /was; sleep 0.2; cmp /tick /was\n",
    );
    let image = drydock.build(&context).image();
    assert!(image.root.has("tick") && image.root.has("seen"));
    assert!(host::processes_with("7717.25").is_empty());
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    assert!(host::users_of(drydock.state()).is_empty());
}

#[test]
fn privileged_a_failing_step_says_how_and_shows_the_end_of_its_output() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN echo fine\nRUN echo some words; echo last words >&2; exit 7\nRUN echo never\n",
    );
    let dest = drydock.place("out.tar");
    let output =
        drydock.build(&context).arg("-o").arg(format!("type=oci,dest={}", dest.display())).fails();
    assert!(output.stderr.contains("did not complete successfully: exit code: 7"), "{output}");
    assert!(output.stderr.contains("Dockerfile:3"), "{output}");
    let recap = output.stderr.split("------").nth(1).unwrap_or_default();
    assert!(recap.contains("last words") && recap.contains("some words"), "{output}");
    assert!(
        !output.has_step("echo never") || output.executed().iter().all(|s| !s.contains("never"))
    );
    assert!(!dest.exists());
    let output = drydock.build(&context).args(["-q"]).fails();
    assert!(output.stdout.is_empty() && output.stderr.contains("last words"), "{output}");

    let context = Context::new("FROM busybox\nRUN kill -9 $$\n");
    let output = drydock.build(&context).fails();
    assert!(output.stderr.contains("137") || output.stderr.contains("signal 9"), "{output}");
    let context = Context::new("FROM busybox\nRUN [\"/no/such/program\"]\n");
    let output = drydock.build(&context).fails();
    assert!(output.stderr.contains("/no/such/program"), "{output}");
    let context = Context::new("FROM scratch\nRUN true\n");
    let output = drydock.build(&context).fails();
    assert!(output.stderr.contains("/bin/sh"), "{output}");
}

#[test]
fn privileged_proc_and_sys_are_guarded() {
    require_root!();
    let image = run(
        "RUN mkdir /o; (echo 1 > /proc/sys/kernel/printk) 2>/o/sys; (echo h > /proc/sysrq-trigger) 2>/o/sysrq; \
         (touch /sys/x) 2>/o/sysfs; head -c 1 /proc/kcore 2>/dev/null | wc -c > /o/kcore; ls /proc/1/fd > /o/fds; \
         cat /proc/self/status | grep -E 'CapEff|Seccomp:|NoNewPrivs' > /o/status; ls /proc | grep -c '^[0-9]' > /o/procs; \
         (mount -t tmpfs none /mnt) 2>/o/mount; ls /dev > /o/dev; mknod /o/null c 1 3; unshare -m true 2>/o/unshare; true",
    );
    for file in ["o/sys", "o/sysrq", "o/sysfs", "o/mount"] {
        assert!(!image.text(file).is_empty(), "{file} was allowed");
    }
    assert_eq!(image.text("o/kcore").trim(), "0");
    let status = image.text("o/status");
    // Docker's fourteen capabilities.
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t0"), "{status}");
    assert!(image.text("o/procs").trim().parse::<u32>().unwrap() < 10);
    let dev = image.text("o/dev");
    for name in ["full", "null", "random", "shm", "stdin", "tty", "urandom", "zero"] {
        assert!(dev.lines().any(|l| l == name), "/dev/{name}: {dev}");
    }
    assert!(
        !dev.lines()
            .any(|l| l.starts_with("vd") || l.starts_with("sd") || l == "kvm" || l == "mem"),
        "{dev}"
    );
}

#[test]
fn privileged_what_images_need_works() {
    require_root!();
    let image = run(
        "RUN echo x > /dev/null && head -c 4 /dev/urandom | wc -c > /r && echo shm > /dev/shm/x && df /dev/shm | tail -1 > /shm\n\
         RUN echo new:x:1234:1234::/:/bin/sh >> /etc/passwd && chown new /r && su new -c 'id -u' > /uid\n\
         RUN mkfifo /fifo && mknod /c c 1 5 && ln -s /r /s && ln /r /h && chmod 6755 /r && mkdir -m 1777 /t\n\
         RUN test ! -e /dev/shm/x && test -d /tmp && touch /run-was-here",
    );
    assert_eq!(image.text("r").trim(), "4");
    assert_eq!(image.text("uid"), "1234\n");
    assert!(image.root.line("r").starts_with("f 6755 1234:0"));
    assert!(image.root.line("c").starts_with("c(1,5)") && image.root.line("fifo").starts_with('p'));
    assert!(
        image.root.get("h").unwrap().linked_to.is_some()
            || image.root.get("r").unwrap().linked_to.is_some()
    );
    assert_eq!(image.root.line("t"), "d 1777 0:0");
}

#[test]
fn privileged_layers_say_exactly_what_changed() {
    require_root!();
    let drydock = Drydock::new();
    let image = drydock.image_of(
        "FROM busybox\nRUN mkdir -p /d/e /x && echo 1 > /d/e/f && echo 2 > /d/g && echo 3 > /keep && ln /keep /keep2\n\
         RUN rm -r /d/e && rm /d/g && touch /tmp/gone && rm /tmp/gone\n\
         RUN rm -r /d && mkdir /d && echo new > /d/only\n\
         RUN mv /keep /k && mv /k /keep && chown 0:0 /keep && chmod 644 /keep\n\
         RUN mv /x /y\n\
         RUN chmod 600 /keep2\n",
    );
    let names: Vec<Vec<&str>> =
        image.layers.iter().map(tests::image_view::LayerView::names).collect();
    assert_eq!(names[1], ["d", "d/e", "d/e/f", "d/g", "keep", "keep2", "x"]);
    // The directory that lost something is told, and one marker for a whole tree.
    let no_tmp: Vec<&str> = names[2].iter().copied().filter(|n| *n != "tmp").collect();
    assert_eq!(no_tmp, ["d", "d/.wh.e", "d/.wh.g"]);
    assert_eq!(names[3], ["d", "d/only"], "what was there before is gone already");
    assert_eq!(names[4], Vec::<&str>::new(), "touched, and the same as before");
    assert_eq!(names[5], [".wh.x", "y"]);
    assert_eq!(image.root.line("keep2"), "f 600 0:0 \"3\\n\"");
    for entry in &image.layers[2].entries {
        if entry.name.contains(".wh.") {
            assert_eq!(
                (entry.mode, entry.seconds(), entry.summary().contains("\"\"")),
                (0, 0, true)
            );
        }
    }
    for layer in &image.layers[1..] {
        for entry in &layer.entries {
            assert!(
                !entry.name.starts_with('/') && !entry.name.starts_with("./"),
                "{}",
                entry.name
            );
        }
        let mut sorted = layer.names();
        sorted.sort_unstable();
        assert_eq!(layer.names(), sorted, "layers are in order");
    }
}

#[test]
fn privileged_file_capabilities_survive() {
    require_root!();
    // setcap is not part of busybox: the attribute comes in an archive of another builder.
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o755);
    header.set_cksum();
    let value: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", value),
            ("SCHILY.xattr.user.x", b"1"),
        ])
        .unwrap();
    header.set_path("ping").unwrap();
    header.set_cksum();
    builder.append(&header, &b"p"[..]).unwrap();
    let tar = builder.into_inner().unwrap();
    let context = Context::new(
        "FROM scratch AS a\nADD caps.tar /\nFROM busybox\nCOPY --from=a --chown=1:1 /ping /ping\nRUN chmod 711 /ping && touch /x\n",
    )
    .file("caps.tar", tar);
    let image = Drydock::new().build(&context).image();
    let entry = image.root.get("ping").unwrap();
    assert_eq!(entry.xattrs.keys().collect::<Vec<_>>(), ["security.capability"]);
    assert_eq!(entry.xattrs["security.capability"], value);
    assert_eq!((entry.uid, entry.mode), (1, 0o711));
}

#[test]
fn privileged_an_interrupt_stops_everything() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS a\nRUN trap '' INT TERM; echo a-is-running; sleep 8831.5\n\
         FROM busybox AS b\nRUN echo b-is-running; (sleep 8831.5 &) ; sleep 8831.5\n\
         FROM scratch\nCOPY --from=a /x /x\nCOPY --from=b /x /y\n",
    );
    let dest = drydock.place("never.tar");
    let mut running = drydock
        .build(&context)
        .args(["--jobs", "2", "-o"])
        .arg(format!("type=oci,dest={}", dest.display()))
        .start();
    running.wait_for("a-is-running");
    running.wait_for("b-is-running");
    assert!(!host::processes_with("8831.5").is_empty());
    running.signal(Signal::INT);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("CANCELED"), "{output}");
    assert!(host::wait_until(PATIENCE, || host::processes_with("8831.5").is_empty()));
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
    assert!(host::users_of(drydock.state()).is_empty());
    assert!(!dest.exists());
    let again = Context::new("FROM busybox\nRUN true\n");
    drydock.build(&again).ok();
}

#[test]
fn privileged_a_second_interrupt_exits_at_once() {
    require_root!();
    let drydock = Drydock::new();
    let context =
        Context::new("FROM busybox\nRUN trap '' INT TERM; echo it-is-running; sleep 8832.5\n");
    let mut running = drydock.build(&context).start();
    running.wait_for("it-is-running");
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    let output = running.finish();
    assert!(matches!(output.status.code(), Some(130 | 1)), "{output}");
    assert!(host::wait_until(PATIENCE, || host::processes_with("8832.5").is_empty()));
    assert!(host::wait_until(PATIENCE, || host::mounts_below(drydock.state()).is_empty()));
    drydock.build(&Context::new("FROM busybox\nRUN true\n")).ok();
}

#[test]
fn privileged_proxies_reach_run_and_nothing_else() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM busybox\nRUN env | grep -i _proxy | sort\n");
    let build = |value: &str| {
        drydock.build(&context).args(["--build-arg", &format!("HTTP_PROXY={value}")]).ok()
    };
    let output = build("http://one.example");
    let log = output.step("RUN env").log;
    assert!(log.contains(&"HTTP_PROXY=http://one.example".to_owned()), "{log:?}");
    assert!(log.contains(&"http_proxy=http://one.example".to_owned()), "{log:?}");
    assert!(build("http://two.example").cached("RUN env"));
    let (image, _) = drydock
        .build(&context)
        .args(["--build-arg", "HTTP_PROXY=http://three.example"])
        .image_and_output();
    assert!(!image.config.to_string().contains("three.example"));
}

#[test]
fn privileged_a_step_with_much_output() {
    require_root!();
    let drydock = Drydock::new();
    let context =
        Context::new("FROM busybox\nRUN yes $(printf %0100d 0) | head -c 3000000; echo the-end\n");
    let size = |run: tests::drydock::Run, told: &str| {
        let output = run.arg("--no-cache").ok();
        let end = &output.stderr[output.stderr.len().saturating_sub(2000)..];
        assert!(output.stderr.contains(told), "{told}: {end}");
        output.stderr.len()
    };
    let fast = drydock.build(&context).env("BUILDKIT_STEP_LOG_MAX_SPEED", "-1");
    assert!(size(fast.clone(), "[output clipped, log limit 2MiB reached]") < 2_900_000);
    let slow = size(drydock.build(&context), "[output clipped, log limit 200KiB/s reached]");
    assert!(slow < 2_900_000);
    let all = fast.env("BUILDKIT_STEP_LOG_MAX_SIZE", "-1");
    assert!(size(all, "the-end") > 3_000_000);
}
