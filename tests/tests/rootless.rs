//! Builds as an ordinary user with a range of ids: the same images as root's.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::context::Context;
use tests::drydock::{Drydock, is_instruction};
use tests::host::wait_until;
use tests::image_view::ImageView;
use tests::person::{Person, fails, make, ok};
use tests::progress::{self, End};
use tests::skip;

/// How long a process may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step of each kind that owners, modes and layers can go wrong in.
const OWNERS: &str = r#"FROM busybox AS a
RUN mkdir -p /d/e /r/old /r/kept && echo 1 > /d/e/f && ln /d/e/f /d/h && touch /r/old/x /r/gone /r/kept/k
COPY --chown=app:appg x /d/x
COPY --chown=33:100 --chmod=0640 x /d/y
RUN chown 1:1 /d/e && chown 1000:1001 /d/e/f && chown 65534:65534 /d/y && chmod 4755 /d/x && chmod 2770 /d/e
RUN rm -r /r/old /r/gone && mkdir /r/old && echo new > /r/old/z && mkfifo /r/fifo && ln -s z /r/old/link
RUN echo new:x:4242:4242::/home/new:/bin/sh >> /etc/passwd && echo new:x:4242: >> /etc/group \
 && mkdir -p /home/new && chown 4242:4242 /home/new && chmod 700 /home/new
USER new
RUN echo mine > /home/new/own && id > /tmp/id && mkdir /home/new/dir
USER app
RUN id > /tmp/app && touch /home/app/own; ls -ln /d > /tmp/list 2>&1 | true
USER 0
ADD caps.tar /
RUN chmod 711 /ping
RUN ln /home/new/own /tmp/linked && rm -r /home/new/dir && chmod 600 /etc/passwd
FROM busybox
COPY --from=a /d /d
COPY --from=a --chown=5:6 /r /r
COPY --from=a /home/new /home/new
COPY --from=a /tmp/id /tmp/app /
COPY --from=a --chown=1:1 /ping /ping
RUN rm -rf /var/spool && mkdir /var/spool && chown 7:8 /var/spool
WORKDIR /srv/dir
"#;

/// A context with the files that the cases copy.
fn prepare(person: &Person, name: &str, dockerfile: &str) {
    person.context(name, dockerfile, &[("x", b"X"), ("caps.tar", &capable())]);
}

/// An archive of a file with a capability.
fn capable() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o755);
    header.set_cksum();
    let value: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("SCHILY.xattr.security.capability", value)]).unwrap();
    header.set_path("ping").unwrap();
    header.set_cksum();
    builder.append(&header, &b"p"[..]).unwrap();
    builder.into_inner().unwrap()
}

fn executed(told: &str) -> Vec<String> {
    let mut steps = progress::plain(told);
    steps.retain(|step| step.end == End::Done && is_instruction(&step.name));
    steps.into_iter().map(|step| step.name).collect()
}

/// What root makes of the same context.
fn of_root(person: &Person, name: &str) -> ImageView {
    let drydock = Drydock::new();
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    let dest = drydock.place("root.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let run = drydock.command("build").arg("--progress=plain").args(["--build-context", &base]);
    run.arg(person.place(name)).args(["-o", &to]).env("SOURCE_DATE_EPOCH", "1000000000").ok();
    ImageView::archive(&dest)
}

fn same(want: &ImageView, got: &ImageView) {
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new());
    assert_eq!(want.config, got.config);
    assert_eq!(want.manifest_digest, got.manifest_digest);
}

#[test]
fn privileged_the_same_image_as_root() {
    let Some(person) = Person::new("the same image as root", true) else { return };
    prepare(&person, "context", OWNERS);
    let want = of_root(&person, "context");
    let (got, told) = person.image("context");
    same(&want, &got);
    assert!(!told.contains("plain copies"), "{told}");
    assert!(got.text("id").starts_with("uid=4242(new) gid=4242(new)"), "{}", got.text("id"));
    let capable = &got.root.get("ping").unwrap().xattrs;
    assert_eq!(capable.keys().collect::<Vec<_>>(), ["security.capability"]);
    let (again, told) = person.image("context");
    same(&want, &again);
    assert_eq!(executed(&told), Vec::<String>::new(), "{told}");
    let owner = fs::metadata(person.place("home")).unwrap().uid();
    let format = fs::read_to_string(person.state.join("format")).unwrap();
    assert!(format.contains("whiteouts user\n") && format.contains(&format!("\nowner {owner}\n")));

    ok(&person.build("context", &["-t", "app"]));
    let images = person.run(["images"]);
    ok(&images);
    assert!(String::from_utf8_lossy(&images.stdout).contains("app"));
    ok(&person.run(["du"]));
    ok(&person.run(["rmi", "app"]));
    ok(&person.run(["prune", "--all", "--force"]));
    let left = fs::read_dir(person.state.join("snapshots-v1")).unwrap().flatten();
    let mut left: Vec<_> = left.map(|e| e.file_name().into_string().unwrap()).collect();
    left.retain(|name| name != "kind" && name != "empty");
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(tests::host::mounts_below(person.dir.path()), Vec::<String>::new());
}

#[test]
fn privileged_what_a_step_finds() {
    let Some(person) = Person::new("what a step finds", true) else { return };
    prepare(
        &person,
        "context",
        "FROM busybox\n\
         RUN for n in null zero full random urandom tty; do test -c /dev/$n || echo no $n; done; \
         echo x > /dev/null; head -c 3 /dev/zero | wc -c; echo /sys/fs/cgroup/*; \
         touch /sys/x 2> /dev/null || echo read-only; wc -c < /proc/interrupts; id; \
         mount -t tmpfs none /mnt 2> /dev/null || echo no mount; mknod /n c 1 3 2> /dev/null || echo no node\n\
         RUN --network=none ls /sys/class/net\n\
         RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \
         --mount=type=bind,source=x,target=/b,rw echo 1 | tee /c/f /t/f /b\n\
         RUN --mount=type=cache,target=/c --mount=type=secret,id=s,uid=1000 cat /c/f; \
         stat -c %u /run/secrets/s\n",
    );
    fs::write(person.place("secret"), "s").unwrap();
    let secret = format!("id=s,src={}", person.place("secret").display());
    let told = ok(&person.build("context", &["--secret", &secret]));
    let steps = progress::plain(&told);
    let log = |name: &str| {
        let step = steps.iter().find(|s| s.name.contains(name)).unwrap();
        step.log.join("\n")
    };
    let first = log("RUN for n");
    assert!(first.starts_with("3\n/sys/fs/cgroup/*\nread-only\n0\nuid=0(root) gid=0"), "{first}");
    assert!(first.ends_with("no mount\nno node"), "{first}");
    assert_eq!(log("--network=none"), "lo");
    assert_eq!(log("--mount=type=secret"), "1\n1000");
    let (status, killed) = killed_build(&person);
    assert!(!status, "{killed}");
}

/// A build whose process is ended leaves none behind, and the next one works.
fn killed_build(person: &Person) -> (bool, String) {
    prepare(person, "slow", "FROM busybox\nRUN sleep 1234567\n");
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    let home = person.place("home");
    let output = Command::new("setpriv")
        .args(["--reuid", &person.name, "--regid", &person.gid.to_string(), "--init-groups", "--"])
        .args(["timeout", "--preserve-status", "-s", "TERM", "5"])
        .arg(person.place("drydock"))
        .args(["build", "--progress=plain", "--build-context", &base])
        .arg(person.place("slow"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &home)
        .current_dir(&home)
        .output()
        .unwrap();
    let sleeping = || tests::host::processes_with("sleep\u{0}1234567").is_empty();
    assert!(wait_until(PATIENCE, sleeping), "the step is still there");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn privileged_insecure_is_all_that_the_namespace_allows() {
    let Some(person) = Person::new("insecure steps", true) else { return };
    prepare(
        &person,
        "context",
        "FROM busybox\n\
         RUN --security=insecure grep CapEff /proc/self/status | awk '{print $2}'; \
         mkdir /m; mount -t tmpfs none /m && touch /m/x && echo mounted; \
         for n in null full tty; do test -c /dev/$n && echo x > /dev/null || echo no $n; done; \
         grep -c ' /proc/' /proc/self/mountinfo; test -e /dev/loop-control || echo host kept\n\
         RUN --network=none --security=insecure ls /sys/class/net\n",
    );
    let told = ok(&person.build("context", &["--allow", "security.insecure"]));
    let steps = progress::plain(&told);
    let log = |name: &str| steps.iter().find(|s| s.name.contains(name)).unwrap().log.join("\n");
    let text = log("grep CapEff");
    let (capabilities, rest) = text.split_once('\n').unwrap();
    let capabilities = u64::from_str_radix(capabilities, 16).unwrap();
    assert!(capabilities & (1 << 21) != 0, "CAP_SYS_ADMIN: {text}");
    assert_eq!(rest, "mounted\n0\nhost kept");
    assert!(log("ls /sys/class/net").contains("lo"));
}

#[test]
fn privileged_plain_copies_give_the_same_image() {
    let Some(person) = Person::new("plain copies", true) else { return };
    let parts = ["lower", "upper", "work", "merged"].map(|name| make(&person.place(name)));
    let [lower, upper, work, merged] = parts.each_ref().map(|path| path.display());
    let home = fs::metadata(person.place("home")).unwrap();
    chown(person.place("upper"), Some(home.uid()), Some(home.gid())).unwrap();
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mount = ["-t", "overlay", "overlay", "-o", &options];
    let mounted = Command::new("mount").args(mount).arg(&parts[3]).status().unwrap();
    if !mounted.success() {
        skip::say("plain copies", "no overlay can be mounted to build on");
        return;
    }
    let unmount = Unmount(parts[3].clone());
    prepare(&person, "context", OWNERS);
    let want = of_root(&person, "context");
    let dest = person.place("home").join("out.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let root = format!("{merged}/state");
    let told = ok(&person.build("context", &["--root", &root, "-o", &to]));
    assert!(told.contains("plain copies"), "{told}");
    same(&want, &ImageView::archive(&dest));
    let told = ok(&person.build("context", &["--root", &root, "-o", &to]));
    assert_eq!(executed(&told), Vec::<String>::new(), "{told}");
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn privileged_device_nodes_are_named() {
    let Some(person) = Person::new("device nodes", true) else { return };
    let context = Context::new("FROM busybox\nRUN mknod /odd c 1 3\n");
    let layout = person.place("odd");
    let drydock = Drydock::new();
    let to = format!("type=oci,tar=false,dest={}", layout.display());
    drydock.build(&context).args(["-o", &to]).ok();
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(&layout).status().unwrap().success());
    let index = ImageView::layout(&layout).manifest_digest;
    prepare(&person, "context", "FROM odd\nRUN true\n");
    let odd = format!("odd=oci-layout://{}@{index}", layout.display());
    let told = fails(&person.build("context", &["--build-context", &odd]));
    assert!(told.contains("device node /odd"), "{told}");
}
