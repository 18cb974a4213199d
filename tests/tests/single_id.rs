//! Builds as an ordinary user without a range of ids: images in which everything belongs to root are
//! root's, and everything else ends with a message.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::image_view::ImageView;
use tests::person::{Person, fails, ok};

/// What the note and the hints say.
const NOTE: &str = "this build has one user id and one group id";
const HINT: &str = "hint: this build had one user id and one group id";

/// The base image with everything in it given to root.
fn plain(person: &Person) -> String {
    let drydock = Drydock::new();
    let layout: PathBuf = person.place("plain");
    let context =
        Context::new("FROM busybox AS all\nFROM scratch\nCOPY --from=all --chown=0:0 / /\n");
    let to = format!("type=oci,tar=false,dest={}", layout.display());
    drydock.build(&context).args(["-o", &to]).ok();
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(&layout).status().unwrap().success());
    let index = ImageView::layout(&layout).manifest_digest;
    format!("plain=oci-layout://{}@{index}", layout.display())
}

/// Steps that are root's alone.
const ROOTS: &str = r#"FROM plain AS a
RUN id > /id; mkdir -p /d/e /r/old /r/kept && echo 1 > /d/e/f && ln /d/e/f /d/h && touch /r/old/x /r/gone /r/kept/k
COPY x /d/x
COPY --chown=0:0 --chmod=4750 x /d/y
RUN chown 0:0 /d/e/f && chmod 2770 /d/e && chmod 0 /d/h && mkdir -m 0 /d/closed
RUN rm -r /r/old /r/gone && mkdir /r/old && echo new > /r/old/z && mkfifo /r/fifo && ln -s z /r/old/link
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t echo 1 | tee /c/f > /t/f; test -c /dev/null && ls /dev/pts
RUN --network=none --mount=type=secret,id=s cat /run/secrets/s > /dev/null
FROM plain
COPY --from=a /d /d
COPY --from=a /r /r
COPY --from=a /id /id
WORKDIR /srv/dir
"#;

#[test]
fn privileged_the_same_image_as_root() {
    let Some(person) = Person::new("one id: the same image as root", false) else { return };
    let base = plain(&person);
    person.context("context", ROOTS, &[("x", b"X")]);
    let want = of_root(&person, &base);
    let dest = person.place("home").join("out.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let secret = format!("id=s,src={}", person.place("context").join("x").display());
    let args = ["--build-context", &base, "--secret", &secret, "-o", &to];
    let told = ok(&person.build("context", &args));
    assert_eq!(told.matches(NOTE).count(), 1, "{told}");
    let got = ImageView::archive(&dest);
    assert_eq!(want.root.differences(&got.root), Vec::<String>::new());
    assert_eq!(want.manifest_digest, got.manifest_digest);
    assert_eq!(got.text("id").trim(), "uid=0(root) gid=0(root) groups=0(root)");

    // What is left can be removed again: nothing belongs to anybody else.
    ok(&person.run(["prune", "--all", "--force"]));
    fs::remove_dir_all(&person.state).unwrap();
    assert_eq!(tests::host::mounts_below(person.dir.path()), Vec::<String>::new());
}

/// What root makes of the same context.
fn of_root(person: &Person, base: &str) -> ImageView {
    let drydock = Drydock::new();
    let dest = drydock.place("root.tar");
    let to = format!("type=oci,dest={},rewrite-timestamp=true", dest.display());
    let secret = format!("id=s,src={}", person.place("context").join("x").display());
    let run = drydock.command("build").arg("--progress=plain").args(["--build-context", base]);
    run.arg(person.place("context"))
        .args(["-o", &to, "--secret", &secret])
        .env("SOURCE_DATE_EPOCH", "1000000000")
        .ok();
    ImageView::archive(&dest)
}

#[test]
fn privileged_anything_else_ends_with_what_is_missing() {
    let Some(person) = Person::new("one id: other owners", false) else { return };
    let base = plain(&person);
    for (number, (dockerfile, part)) in [
        // A layer with an owner of its own.
        ("FROM busybox\nRUN true\n", "the owner 1000:1001 is none of the ids"),
        ("FROM plain\nCOPY --chown=5:6 x /y\n", "the owner 5:6 is none of the ids"),
        ("FROM plain\nCOPY --chown=app x /y\n", "the owner 1000:1001 is none of the ids"),
        ("FROM plain\nUSER app\nRUN true\n", "cannot run a process as user 1000"),
        ("FROM plain\nUSER 0:100\nRUN true\n", "cannot run a process as user 0 in group 100"),
        ("FROM plain\nUSER 3\nWORKDIR /z\n", "the owner 3:3 is none of the ids"),
        ("FROM plain\nRUN chown 1:1 /etc/passwd\n", "did not complete successfully"),
        (
            "FROM plain\nRUN sed -i 's/^users:.*/&root/' /etc/group\nRUN true\n",
            "cannot run a process as user 0 in group 100",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("context-{number}");
        person.context(&name, dockerfile, &[("x", b"X")]);
        let told = fails(&person.build(&name, &["--build-context", &base]));
        assert!(told.contains(part), "{dockerfile}: {told}");
        assert!(told.contains(HINT), "{dockerfile}: {told}");
        let advice = format!(
            "hint: give {} a range that nobody else has, as root: `usermod --add-subuids \
             100000-165535 --add-subgids 100000-165535 {}`",
            person.name, person.name
        );
        assert!(told.contains(&advice), "{dockerfile}: {told}");
    }
    // What builds nothing is as ever.
    ok(&person.run(["images"]));
    ok(&person.build("context-0", &["--check"]));
}

/// A range makes more of the same state directory; what was made with it cannot be used without.
#[test]
fn privileged_a_range_that_comes_and_goes() {
    let Some(person) = Person::new("one id: a range that comes and goes", true) else { return };
    let base = plain(&person);
    let args = ["--build-context", base.as_str()];
    person.context("first", "FROM plain\nRUN echo 1 > /one\n", &[]);
    person.context("second", "FROM plain\nRUN echo 1 > /one\nRUN chown 5:6 /one\n", &[]);
    let state = person.state.display().to_string();
    // Without the rights of newuidmap there is one id.
    let one = |name: &str| {
        let context = person.place(name).display().to_string();
        let build = ["build", "--progress=plain", "--root", &state, args[0], args[1], &context];
        person.run_by(&["setpriv", "--no-new-privs"], build)
    };
    assert!(ok(&one("first")).contains(NOTE));
    assert!(fails(&one("second")).contains("hint: start it without no_new_privs"));
    let told = ok(&person.build("second", &args));
    assert!(!told.contains(NOTE), "{told}");
    assert!(told.contains("CACHED"), "what one id made is used: {told}");
    let told = fails(&one("first"));
    assert!(told.contains("holds files of the users") && told.contains("/etc/subuid"), "{told}");
    ok(&person.build("first", &args));
}
