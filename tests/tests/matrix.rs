//! One Dockerfile, every way to store snapshots, as root and as an ordinary user: one image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tests::drydock::Drydock;
use tests::host::{mounts_below, processes_with, users_of, wait_until};
use tests::image_view::ImageView;
use tests::person::{Person, fails, ok};
use tests::program::{self, COMPILER};
use tests::skip;

/// How long the processes of a build may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program that serves overlays.
const FUSE: &str = "fuse-overlayfs";

/// Steps in which owners, modes, links, removed files and capabilities can go wrong.
const EVERYTHING: &str = r#"FROM busybox AS made
COPY --chmod=0755 tool /tool
RUN for n in 1 33 1000 4242 65534; do mkdir -p /own/$n/in && echo $n > /own/$n/in/f && chown -R $n:$n /own/$n; done
RUN mkdir -p /bin2 /r/old/deep /r/kept /names && cp /tool /bin2/s && cp /tool /bin2/c && echo 1 > /r/gone \
 && touch /r/old/x /r/old/deep/y /r/kept/k && echo link > /names/a && ln /names/a /names/b && ln /names/a /names/c
RUN chown 33:33 /bin2/s && chmod 6755 /bin2/s && /tool cap /bin2/c
RUN mkdir -p /lists/partial && chown 65534:0 /lists/partial && chmod 700 /lists/partial && /tool drop /lists/partial/index
RUN rm -r /r/old /r/gone /own/1/in && mkdir /r/old && echo new > /r/old/z && mkfifo /r/fifo && ln -s z /r/old/link
RUN mv /own/4242 /own/moved && mv /r/kept /r/renamed && mkdir /fresh && mv /fresh /fresher && touch /fresher/in
RUN ln /names/b /names/d && rm /names/c && ln /bin2/s /bin2/t && mkdir /own/4242 && chmod 1777 /own/4242
RUN mkdir /group /many && echo old > /group/f && mkfifo /group/p && ln -s f /group/l && chown -h 7:8 /group/l \
 && chown 0:33 /group && chmod 2775 /group && echo same > /many/a && ln /many/a /many/b && ln /many/a /many/c
RUN chmod 600 /group/f /group/p && mv /group/l /group/m && echo more >> /many/b && cat /many/a /many/b /many/c > /many/seen && rm /bin2/t
RUN --mount=type=cache,target=/cache,uid=33 echo kept > /cache/f && cp -p /cache/f /from-cache && chown 1000:33 /own/33/in/f
FROM busybox
COPY --from=made /own /own
COPY --from=made --chown=5:6 /r /r
COPY --from=made /bin2 /bin2
COPY --from=made /names /lists /
COPY --from=made /tool /from-cache /
COPY --from=made /group /group
COPY --from=made /many /many
RUN --mount=type=bind,from=made,target=/m --mount=type=cache,target=/cache cat /m/from-cache /cache/f > /seen
RUN rm -rf /var/spool /own/33 && mkdir -p /var/spool/new && chown 7:8 /var/spool && /tool cap /tool && chmod 700 /own/moved
RUN rm -r /r && mkdir /r && chown 9:9 /r && echo again > /r/fifo
USER 1000:33
WORKDIR /srv/dir
RUN id > /tmp/id && echo mine > /tmp/mine && chmod 4711 /tmp/mine
"#;

/// Sets file capabilities as setcap does, and gives up root as apt's downloads do.
const TOOL: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
int main(int argc, char **argv) {
    unsigned char cap[20] = { 1, 0, 0, 2, 0, 0x20 };
    gid_t group = 65534;
    if (argc != 3) return 2;
    if (!strcmp(argv[1], "cap")) return setxattr(argv[2], "security.capability", cap, 20, 0) != 0;
    if (setgroups(1, &group)) return 3;
    if (setresgid(65534, 65534, 65534)) return 4;
    if (setresuid(65534, 65534, 65534)) return 5;
    int file = open(argv[2], O_WRONLY | O_CREAT | O_EXCL, 0640);
    return file < 0 || write(file, "index\n", 6) != 6;
}
"#;

fn prepare(person: &Person) {
    let tool = fs::read(program::compile("matrix", TOOL)).unwrap();
    person.context("context", EVERYTHING, &[("tool", &tool)]);
}

fn of_root(person: &Person, snapshotter: &str) -> ImageView {
    let drydock = Drydock::new();
    let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
    let dest = drydock.place("root.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let run = drydock.command("build").arg("--progress=plain").args(["--build-context", &base]);
    let run = run.arg(person.place("context")).args(["-o", &to, "--snapshotter", snapshotter]);
    run.env("SOURCE_DATE_EPOCH", "1000000000").ok();
    ImageView::archive(&dest)
}

fn same(name: &str, want: &ImageView, got: &ImageView) {
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new(), "{name}");
    assert_eq!(want.config, got.config, "{name}");
    assert_eq!(want.manifest_digest, got.manifest_digest, "{name}");
}

/// Runs as the user where everybody may open /dev/fuse. None, with a reason, where nobody can.
struct Fuse {
    node: PathBuf,
}

impl Fuse {
    fn new(person: &Person, case: &str) -> Option<Self> {
        for name in [FUSE, "unshare", "mknod"] {
            if skip::program(name).is_none() {
                skip::say(case, &format!("{name} is not installed"));
                return None;
            }
        }
        let node = person.place("fuse");
        let made = Command::new("mknod").arg(&node).args(["c", "10", "229"]).status().unwrap();
        let usable = made.success()
            && fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).is_ok()
            && fs::OpenOptions::new().read(true).write(true).open(&node).is_ok()
            && Path::new("/dev/fuse").exists();
        if !usable {
            skip::say(case, "/dev/fuse cannot be used here");
            return None;
        }
        Some(Self { node })
    }

    fn command(&self, person: &Person, args: &[&str]) -> Command {
        let inner = person.command();
        let mut command = Command::new("unshare");
        let script = r#"mount --bind "$0" /dev/fuse && exec "$@""#;
        command.args(["-m", "sh", "-c", script]).arg(&self.node);
        command.arg(inner.get_program()).args(inner.get_args());
        let base = format!("busybox=oci-layout://{}:latest", person.place("base").display());
        command.args(["build", "--progress=plain", "--build-context", &base]).args(args);
        command.env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(person.place("home"));
        command
    }

    fn run(&self, person: &Person, args: &[&str]) -> Output {
        self.command(person, args).output().unwrap()
    }
}

/// Nothing serves or mounts an overlay of this person.
fn nothing_left(person: &Person) {
    let serving = || users_of(&person.place("home"));
    assert!(wait_until(PATIENCE, || serving().is_empty()), "still there: {:?}", serving());
    assert_eq!(mounts_below(person.dir.path()), Vec::<String>::new());
}

#[test]
fn privileged_every_snapshotter_gives_one_image() {
    let case = "one image of every snapshotter";
    let Some(person) = Person::new(case, true) else { return };
    if skip::program(COMPILER).is_none() {
        return skip::say(case, "gcc is not installed");
    }
    prepare(&person);
    let want = of_root(&person, "overlay");
    assert_eq!(
        want.root.get("bin2/c").unwrap().xattrs.keys().collect::<Vec<_>>(),
        ["security.capability"]
    );
    same("root, copy", &want, &of_root(&person, "copy"));
    let dest = person.place("home").join("out.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let state = |name: &str| person.place("home").join(name).display().to_string();
    for name in ["overlay", "copy"] {
        let root = state(name);
        ok(&person.build("context", &["--root", &root, "-o", &to, "--snapshotter", name]));
        same(name, &want, &ImageView::archive(&dest));
    }
    let other = if let Some(fuse) = Fuse::new(&person, case) {
        let (root, context) = (state(FUSE), person.place("context").display().to_string());
        let args = [&context, "--root", &root, "-o", &to, "--snapshotter", FUSE];
        let told = ok(&fuse.run(&person, &args));
        assert!(told.contains("groups of what is made in set-group-id directories"), "{told}");
        same(FUSE, &want, &ImageView::archive(&dest));
        let kind = fs::read_to_string(person.place("home").join(FUSE).join("snapshots-v1/kind"));
        assert_eq!(kind.unwrap(), FUSE);
        nothing_left(&person);
        // Both kinds of overlay leave the same on disk: the one goes on where the other was.
        person.context("more", &format!("{EVERYTHING}USER 0\nRUN ls -lR /r /own > /tmp/l\n"), &[]);
        fs::copy(person.place("context").join("tool"), person.place("more").join("tool")).unwrap();
        for (root, by) in [(state(FUSE), "overlay"), (state("overlay"), FUSE)] {
            let more = person.place("more").display().to_string();
            let args = [&more, "--root", &root, "-o", &to, "--snapshotter", by];
            ok(&fuse.run(&person, &args));
        }
        nothing_left(&person);
        state(FUSE)
    } else {
        state("overlay")
    };
    let told = fails(&person.build("context", &["--root", &other, "--snapshotter", "copy"]));
    assert!(told.contains("cannot be used as copy") && told.contains("--root"), "{told}");
}

#[test]
fn privileged_a_killed_builder_takes_its_overlay_with_it() {
    let case = "a killed builder with fuse-overlayfs";
    let Some(person) = Person::new(case, true) else { return };
    let Some(fuse) = Fuse::new(&person, case) else { return };
    person.context("slow", "FROM busybox\nRUN echo begun > /f && sleep 7654321\n", &[]);
    let context = person.place("slow").display().to_string();
    let mut command = fuse.command(&person, &[&context, "--snapshotter", FUSE]);
    let mut child = command.spawn().unwrap();
    let sleeping = || !processes_with("sleep\u{0}7654321").is_empty();
    let began = wait_until(PATIENCE, || sleeping() || child.try_wait().unwrap().is_some());
    let running = sleeping();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(began && running, "the step did not begin");
    assert!(wait_until(PATIENCE, || !sleeping()), "the step is still there");
    nothing_left(&person);
    person.context("quick", "FROM busybox\nRUN echo begun > /f\n", &[]);
    let context = person.place("quick").display().to_string();
    ok(&fuse.run(&person, &[&context, "--snapshotter", FUSE]));
    nothing_left(&person);
}
