//! The network of steps: the host's, none, and one of their own; names of hosts and name servers.

use std::fs;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::lan::{ADDRESS, ADDRESS_V6, Lan};
use tests::person::{self, Person};
use tests::{host, program, progress, require_programs, require_root};

/// What steps run besides the shell.
const SOURCE: &str = include_str!("network/step.c");
/// How long a process may take to come or go.
const PATIENCE: Duration = Duration::from_secs(60);
/// What [`Lan::names`] is to say in these cases.
const ANSWER: [u8; 4] = [203, 0, 113, 77];

fn step_program() -> PathBuf {
    program::compile("network-step", SOURCE)
}

/// A context with the program as `/step`.
fn context(steps: &str) -> Context {
    let program = fs::read(step_program()).unwrap();
    Context::new(&format!("FROM busybox\nCOPY --chmod=755 step /step\n{steps}"))
        .file("step", program)
}

/// A build inside the network of a case.
fn build(drydock: &Drydock, lan: &Lan, context: &Context) -> Run {
    drydock.build(context).wrapped(lan.enter())
}

fn log(output: &Output, step: &str) -> String {
    output.step(step).log.join("\n")
}

/// Mounts `content` over /etc/resolv.conf.
fn resolver(directory: &Path, content: &str) -> String {
    let file = directory.join("resolv.conf");
    fs::write(&file, content).unwrap();
    format!("mount --bind {} \"$(readlink -f /etc/resolv.conf)\"", file.display())
}

/// The step that sent it has had an answer to what it sent later.
fn nothing_came(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 16]).is_err(), "a frame reached the host's loopback");
}

#[test]
fn privileged_isolated_steps_reach_others_and_not_this_host() {
    require_programs!("gcc");
    let Some(lan) = Lan::with_pasta("isolated steps", "") else { return };
    let outside = lan.tcp(ADDRESS, "outside");
    let loopback = lan.tcp("127.0.0.1", "loopback");
    let outside_v6 = lan.v6.then(|| lan.tcp(ADDRESS_V6, "outside-v6"));
    let ((leak, four), (leak_v6, six)) = (lan.udp("127.0.0.1"), lan.udp("::1"));
    let out = lan.echo(ADDRESS);
    let name = format!("drydock-network-{}", std::process::id());
    let _abstract = lan.inside(|| {
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()
    });
    let v6 = outside_v6.as_ref().map_or_else(String::new, |server| {
        format!("echo six $(/step tcp {ADDRESS_V6} {} 8); ", server.port)
    });
    let context = context(&format!(
        "RUN echo four $(/step tcp {ADDRESS} {} 8); {v6}\
         for a in 127.0.0.1 10.0.2.2 10.0.2.3 10.0.2.100; do \
         /step tcp $a {} 1 && echo $a; done; ls /sys/class/net; \
         /step leak {} {} {out}; /step abstract {name}; \
         test -e /sys/class/net/out0 || echo own sys\n",
        outside.port,
        loopback.port,
        four.port(),
        six.port(),
    ));
    let drydock = Drydock::new();
    let output = build(&drydock, &lan, &context).arg("--network=isolated").ok();
    let mut want = vec!["four outside"];
    want.extend(lan.v6.then_some("six outside-v6"));
    want.extend(["no", "no", "no", "no", "eth0", "lo", "raw refused", "ping", "answered"]);
    want.extend(["abstract ECONNREFUSED", "own sys"]);
    assert_eq!(output.step("RUN echo four").log, want, "{output}");
    assert_eq!(loopback.seen(), 0);
    nothing_came(&leak);
    nothing_came(&leak_v6);
    lan.expect_empty();
}

#[test]
fn privileged_nobody_reaches_isolated_steps() {
    require_programs!("gcc");
    let Some(lan) = Lan::with_pasta("ports of isolated steps", "") else { return };
    let lan = Arc::new(lan);
    let found = Arc::new(Mutex::new(Vec::new()));
    let (inside, list) = (lan.clone(), found.clone());
    let asks = lan.serve(ADDRESS, move |stream| {
        let reached = ["127.0.0.1", ADDRESS]
            .map(|address| inside.inside(|| TcpStream::connect((address, 7777)).is_ok()));
        list.lock().unwrap().push(reached);
        let _ = stream.write_all(b"asked\n");
    });
    let context = context(&format!(
        "RUN nc -l -p 7777 < /dev/null & \
         while ! netstat -ltn | grep -q :7777; do sleep 0.1; done; /step tcp {ADDRESS} {} 8\n\
         RUN /step tcp 10.0.2.100 7777 1 || echo alone\n",
        asks.port
    ));
    let drydock = Drydock::new();
    let output = build(&drydock, &lan, &context).arg("--network=isolated").ok();
    assert_eq!(log(&output, "RUN nc -l"), "asked", "{output}");
    assert_eq!(log(&output, "RUN /step tcp"), "no\nalone", "{output}");
    let found = found.lock().unwrap();
    assert!(found.iter().all(|reached| *reached == [false, false]), "{found:?}");
}

#[test]
fn privileged_name_servers_of_the_command_line() {
    require_programs!("gcc");
    let Some(lan) = Lan::with_pasta("name servers", "") else { return };
    lan.names(ADDRESS, ANSWER);
    let context = context(
        "RUN cat /etc/resolv.conf; /step dns\n\
         RUN --network=none cat /etc/resolv.conf\n\
         RUN echo x > /etc/resolv.conf 2> /dev/null || echo read-only > /told\n",
    );
    let drydock = Drydock::new();
    let dns = ["--dns", ADDRESS, "--dns-search=a.test", "--dns-search=b.test", "--dns-opt=ndots:2"];
    let run = build(&drydock, &lan, &context).arg("--network=isolated");
    let (image, output) = run.clone().args(dns).image_and_output();
    let text = format!("search a.test b.test\nnameserver {ADDRESS}\noptions ndots:2\n");
    let first = log(&output, "RUN cat");
    assert!(first.contains(&text), "{first}");
    assert!(first.ends_with(&format!("{ADDRESS} says 203.0.113.77")), "{first}");
    assert!(log(&output, "RUN --network=none cat").contains(text.trim()), "{output}");
    assert_eq!(image.text("told"), "read-only\n");
    assert!(!image.root.has("etc/resolv.conf"));

    // They are in no key, but the network is.
    let output = run.args(["--dns=192.0.2.9", "--dns-search=."]).ok();
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    let output = build(&drydock, &lan, &context).args(dns).ok();
    assert!(log(&output, "RUN cat").ends_with("says 203.0.113.77"), "{output}");
    assert!(output.cached("RUN --network=none"), "{output}");
}

#[test]
fn privileged_name_servers_on_loopback_addresses() {
    require_programs!("gcc");
    let directory = tempfile::tempdir().unwrap();
    let mounts = resolver(directory.path(), "search lan\nnameserver 127.0.0.9\n");
    let Some(lan) = Lan::with_pasta("name servers on loopback", &mounts) else { return };
    lan.names("127.0.0.9", ANSWER);
    let context =
        context("RUN cat /etc/resolv.conf; /step dns\nRUN --network=none cat /etc/resolv.conf\n");
    let drydock = Drydock::new();
    let output = build(&drydock, &lan, &context).ok();
    assert_eq!(
        log(&output, "RUN cat"),
        "search lan\nnameserver 127.0.0.9\n127.0.0.9 says 203.0.113.77",
        "{output}"
    );
    let none = log(&output, "RUN --network=none cat");
    assert_eq!(none, "search lan\nnameserver 8.8.8.8\nnameserver 8.8.4.4", "{output}");
    let output = build(&drydock, &lan, &context).arg("--network=isolated").ok();
    assert_eq!(
        log(&output, "RUN cat"),
        "search lan\nnameserver 10.0.2.3\n10.0.2.3 says 203.0.113.77",
        "{output}"
    );
    let refused = build(&drydock, &lan, &context).args(["--network=isolated", "--dns=127.0.0.9"]);
    let refused = refused.fails();
    assert!(refused.stderr.contains("do not reach the loopback addresses"), "{refused}");
}

#[test]
fn privileged_names_of_hosts() {
    let Some(lan) = Lan::with_pasta("names of hosts", "") else { return };
    let context = Context::new("FROM busybox\nRUN tail -n +3 /etc/hosts\n");
    let drydock = Drydock::new();
    let hosts = |address: &str, network: &str| {
        let run = build(&drydock, &lan, &context).args(["--network", network]);
        let db = format!("--add-host=db:{address}");
        run.args([&db, "--add-host=db=[fd00::7]", "--add-host=here:host-gateway"]).ok()
    };
    let output = hosts("10.0.0.7", "default");
    assert_eq!(log(&output, "RUN tail"), "10.0.0.7\tdb\nfd00::7\tdb\n127.0.0.1\there");
    assert!(hosts("10.0.0.8", "default").cached("RUN tail"), "addresses are in no key");
    let output = hosts("10.0.0.7", "isolated");
    assert_eq!(log(&output, "RUN tail"), format!("10.0.0.7\tdb\nfd00::7\tdb\n{ADDRESS}\there"));
    let output = hosts("10.0.0.7", "none");
    assert_eq!(log(&output, "RUN tail"), "10.0.0.7\tdb\nfd00::7\tdb");
    for bad in ["--add-host=db", "--add-host=db:here", "--dns=here", "--dns-search=a b"] {
        let output = drydock.build(&context).arg(bad).output();
        assert!(!output.status.success(), "{bad}: {output}");
    }
}

/// A step that says that it runs, and then waits for long.
const WAITS: &str = "FROM busybox\nRUN echo it runs; sleep 1000\n";

#[test]
fn privileged_no_pasta_is_left() {
    let Some(lan) = Lan::with_pasta("the end of pasta", "") else { return };
    let drydock = Drydock::new();
    let isolated = |text: &str| {
        let context = Context::new(text);
        (build(&drydock, &lan, &context).arg("--network=isolated"), context)
    };
    isolated("FROM busybox\nRUN true\nRUN true 2\n").0.ok();
    lan.expect_empty();
    isolated("FROM busybox\nRUN exit 3\n").0.fails();
    lan.expect_empty();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let (run, _context) = isolated(WAITS);
        let mut running = run.start();
        running.wait_for("it runs\n");
        assert_eq!(lan.pastas().len(), 1, "{:?}", lan.processes());
        running.signal(signal);
        let output = running.finish();
        assert!(!output.status.success(), "{output}");
        lan.expect_empty();
    }
    assert_eq!(host::mounts_below(drydock.state()), Vec::<String>::new());
}

#[test]
fn privileged_a_step_that_loses_its_network_says_so() {
    let Some(lan) = Lan::with_pasta("a lost network", "") else { return };
    let context = Context::new("FROM busybox\nRUN echo it runs; sleep 7719.25; exit 3\n");
    let drydock = Drydock::new();
    let mut running = build(&drydock, &lan, &context).arg("--network=isolated").start();
    running.wait_for("it runs\n");
    kill(lan.pastas()[0]);
    // The builder is left, and nobody who looked after pasta.
    assert!(host::wait_until(PATIENCE, || lan.processes().len() == 1), "{:?}", lan.processes());
    let sleeps = || host::processes_with("sleep\u{0}7719.25");
    assert!(host::wait_until(PATIENCE, || !sleeps().is_empty()), "the step does not sleep");
    kill(sleeps()[0]);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1), "{output}");
    let lost = "pasta, which connected this step's network, has ended";
    assert!(output.stderr.contains(lost), "{output}");
    lan.expect_empty();
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn privileged_what_isolated_needs_is_said_before_the_first_step() {
    let hidden = "for p in /usr/bin /bin /usr/local/bin /usr/sbin /sbin; do \
                  if [ -f $p/pasta ]; then mount --bind /dev/null $(readlink -f $p/pasta); fi; done";
    let context = Context::new("FROM busybox\nRUN --network=none true\nRUN true\n");
    for (mounts, want) in [
        (hidden, "apt install passt"),
        ("mkdir -p /dev/net; mount -t tmpfs none /dev/net", "modprobe tun"),
    ] {
        let Some(lan) = Lan::new("what isolated needs", mounts) else { return };
        if want.contains("tun") && tests::skip::program("pasta").is_none() {
            tests::skip::say("a missing device", "pasta is not installed (package passt)");
            return;
        }
        let drydock = Drydock::new();
        let output = build(&drydock, &lan, &context).arg("--network=isolated").fails();
        assert!(output.stderr.contains(want), "{output}");
        assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
        // It is not needed for anything else.
        build(&drydock, &lan, &context).ok();
    }
}

#[test]
fn privileged_a_host_without_a_way_out_says_so() {
    let cut = "ip route del default; ip -6 route del default 2> /dev/null || true";
    let Some(lan) = Lan::with_pasta("no way out", cut) else { return };
    let context = Context::new("FROM busybox\nRUN true\n");
    let drydock = Drydock::new();
    let output = build(&drydock, &lan, &context).arg("--network=isolated").output();
    // Newer versions of pasta go on with what there is.
    if !output.status.success() {
        assert!(
            output.stderr.contains("the network of the step cannot be made: pasta"),
            "{output}"
        );
    }
    lan.expect_empty();
}

/// The node that ordinary users can open, on machines where the usual one is for root.
const OPEN_TUN: &str = "mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200";
const CLOSED_TUN: &str = "mount -t tmpfs none /dev/net; mknod -m 600 /dev/net/tun c 10 200";

/// Builds as an ordinary user in the network of a case.
fn build_as(person: &Person, lan: &Lan, args: &[&str]) -> std::process::Output {
    let by = lan.enter();
    let by: Vec<&str> = by.iter().map(String::as_str).collect();
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    let context = person.place("context");
    let mut all = vec!["build", "--progress=plain", "--build-context", &base];
    all.push(context.to_str().unwrap());
    all.extend(args);
    person.run_by(&by, all)
}

fn log_of(told: &str, name: &str) -> String {
    let steps = progress::plain(told);
    steps.iter().find(|s| s.name.contains(name)).unwrap().log.join("\n")
}

#[test]
fn privileged_isolated_steps_of_ordinary_users() {
    require_programs!("gcc");
    let Some(lan) = Lan::with_pasta("isolated steps of users", OPEN_TUN) else { return };
    let Some(person) = Person::new("isolated steps of users", true) else { return };
    let (outside, loopback) = (lan.tcp(ADDRESS, "outside"), lan.tcp("127.0.0.1", "loopback"));
    let ((leak, four), out) = (lan.udp("127.0.0.1"), lan.echo(ADDRESS));
    let dockerfile = format!(
        "FROM busybox\nCOPY --chmod=755 step /step\n\
         RUN /step tcp {ADDRESS} {} 8; /step tcp 127.0.0.1 {} 1; \
         /step leak {} 9 {out}; ls /sys/class/net\n\
         RUN --network=none ip -o address show lo; ls /sys/class/net\n",
        outside.port,
        loopback.port,
        four.port(),
    );
    person.context("context", &dockerfile, &[("step", &fs::read(step_program()).unwrap())]);
    let told = person::ok(&build_as(&person, &lan, &["--network=isolated"]));
    assert_eq!(
        log_of(&told, "RUN /step"),
        "outside\nno\nraw refused\nping\nanswered\neth0\nlo",
        "{told}"
    );
    only_loopback(&log_of(&told, "RUN --network=none"));
    assert_eq!(loopback.seen(), 0);
    nothing_came(&leak);
    lan.expect_empty();
}

#[test]
fn privileged_isolated_steps_of_users_with_one_id() {
    require_programs!("gcc");
    let Some(lan) = Lan::with_pasta("isolated steps with one id", OPEN_TUN) else { return };
    let Some(person) = Person::new("isolated steps with one id", false) else { return };
    let outside = lan.tcp(ADDRESS, "outside");
    let dockerfile = format!(
        "FROM scratch\nCOPY --chmod=755 step /step\nRUN [\"/step\", \"tcp\", \"{ADDRESS}\", \"{}\", \"8\"]\n",
        outside.port
    );
    person.context("context", &dockerfile, &[("step", &fs::read(step_program()).unwrap())]);
    let told = person::ok(&build_as(&person, &lan, &["--network=isolated"]));
    assert_eq!(log_of(&told, "RUN ["), "outside", "{told}");
    lan.expect_empty();
}

#[test]
fn privileged_a_device_that_users_cannot_open() {
    let Some(lan) = Lan::with_pasta("a closed device", CLOSED_TUN) else { return };
    let Some(person) = Person::new("a closed device", true) else { return };
    person.context("context", "FROM busybox\nRUN true\n", &[]);
    let told = person::fails(&build_as(&person, &lan, &["--network=isolated"]));
    assert!(told.contains("chmod 0666 /dev/net/tun"), "{told}");
    person.context("hosts", "FROM busybox\nRUN --network=host true\n", &[]);
    let told = person::fails(&person.build("hosts", &[]));
    assert!(told.contains("--allow network.host"), "{told}");
    person::ok(&person.build("hosts", &["--allow", "network.host"]));
}

/// Checks what `ip -o address show lo; ls /sys/class/net` says.
fn only_loopback(text: &str) {
    assert!(text.contains("127.0.0.1/8"), "{text}");
    let v6 = fs::read_to_string("/proc/net/if_inet6").is_ok_and(|it| !it.is_empty());
    assert!(!v6 || text.contains("::1/128"), "{text}");
    assert!(text.ends_with("\nlo") && !text.contains("eth"), "{text}");
}

#[test]
fn privileged_none_has_loopback_of_both_kinds() {
    require_root!();
    let context =
        Context::new("FROM busybox\nRUN --network=none ip -o address show lo; ls /sys/class/net\n");
    let output = Drydock::new().build(&context).ok();
    only_loopback(&log(&output, "RUN --network=none"));
}

#[test]
fn a_dockerfile_cannot_ask_for_an_isolated_network() {
    let context = Context::new("FROM busybox\nRUN --network=isolated true\n");
    let output = Drydock::new().build(&context).fails();
    assert!(output.stderr.contains("unsupported value \"isolated\" for --network"), "{output}");
}
