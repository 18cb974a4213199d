//! `RUN --mount`: bind, cache, tmpfs and secret.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;

use tests::context::Context;
use tests::drydock::Drydock;
use tests::{require_programs, require_root};

#[test]
fn privileged_binds_show_stages_contexts_and_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS tools\nRUN mkdir -p /t/deep && echo tool > /t/deep/f && ln -s deep /t/link\n\
         FROM busybox\nWORKDIR /w\n\
         RUN --mount=target=/ctx --mount=from=tools,source=/t/link,target=rel \\\n\
             --mount=from=tools,source=/t/deep/f,target=/one/file --mount=from=scratch,target=/none \\\n\
             ls /ctx > /out; cat rel/f /one/file /ctx/dir/a >> /out; ls /none >> /out; \\\n\
             ls -ln /ctx/dir/a | cut -c1-20 >> /out; (echo x > /ctx/new) 2>> /out || true\n",
    )
    .file("dir/a", "a\n")
    .file("secret.txt", "no")
    .file(".dockerignore", "secret.txt\n")
    .settle();
    std::os::unix::fs::chown(context.join("dir/a"), Some(1234), Some(1234)).unwrap();
    let image = drydock.build(&context).image();
    let out = image.text("out");
    assert!(out.starts_with("Dockerfile\ndir\ntool\ntool\na\n"), "{out}");
    assert!(out.contains("-rw-r--r--    1 0"), "owners are the image's: {out}");
    assert!(out.contains("Read-only file system"), "{out}");
    for stub in ["ctx", "w/rel", "one", "none"] {
        assert!(!image.root.has(stub), "{stub} only held a mount");
    }
}

#[test]
fn privileged_what_is_written_to_a_bind_is_thrown_away() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS s\nRUN mkdir /d && echo 1 > /d/f\nFROM busybox\n\
         RUN --mount=target=/ctx,rw --mount=from=s,target=/s,rw echo 2 > /ctx/f; echo 2 > /s/d/f; \\\n\
             cat /ctx/f /s/d/f > /out\n\
         RUN --mount=target=/ctx,rw --mount=from=s,source=d,target=/s cat /ctx/f /s/f >> /out\n\
         COPY --from=s /d/f /after\n",
    )
    .file("f", "1\n")
    .settle();
    let image = drydock.build(&context).image();
    assert_eq!(image.text("out"), "2\n2\n1\n1\n");
    assert_eq!(image.text("after"), "1\n");
    assert_eq!(fs::read_to_string(context.join("f")).unwrap(), "1\n");
}

#[test]
fn privileged_only_what_a_bind_shows_counts() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nRUN --mount=source=src,target=/src cat /src/f > /out\n\
         RUN --mount=source=one,target=/one cat /one > /two\n",
    )
    .file("src/f", "1")
    .file("one", "1")
    .file("other", "1")
    .settle();
    let executed = |what: &str| {
        let output = drydock.build(&context).ok();
        eprintln!("{what}: {:?}", output.executed());
        output.executed().iter().filter(|name| name.contains("RUN")).count()
    };
    assert_eq!(executed("first"), 2);
    assert_eq!(executed("nothing"), 0);
    context.write("other", "2");
    context.set_time("src/f", std::time::UNIX_EPOCH);
    assert_eq!(executed("what is not shown, and times"), 0);
    context.write("one", "2");
    assert_eq!(executed("a file"), 1);
    context.write("src/f", "2");
    assert_eq!(executed("a directory, whose step changes what follows"), 2);
}

#[test]
fn privileged_cache_mounts_outlive_builds_and_failures() {
    require_root!();
    let drydock = Drydock::new();
    let build = |script: &str| {
        let text =
            format!("FROM busybox\nRUN --mount=type=cache,target=/c,uid=7,mode=750 {script}\n");
        drydock.build(&Context::new(&text))
    };
    let image = build("stat -c '%u %a' /c > /out; echo 1 >> /c/log").image();
    assert_eq!(image.text("out"), "7 750\n");
    assert!(!image.root.has("c"));
    build("echo 2 >> /c/log; false").fails();
    let image = build("cat /c/log > /out; echo 3 >> /c/log").image();
    assert_eq!(image.text("out"), "1\n2\n");
    // The same step is cached whatever is in there by now.
    let output = build("cat /c/log > /out; echo 3 >> /c/log").ok();
    assert!(output.executed().is_empty(), "{output}");
    let image = build("ls /c > /out; touch /c/fresh").arg("--no-cache").image();
    assert_eq!(image.text("out"), "", "without the cache it starts empty");
    let image = build("ls /c > /two").image();
    assert_eq!(image.text("two"), "fresh\n", "and that is the one from then on");
    let usage = drydock.command("du").arg("--verbose").ok();
    assert!(usage.text().contains("exec.cachemount"), "{usage}");
    drydock.command("prune").args(["--force", "--all"]).ok();
    let image = build("ls /c > /three").image();
    assert_eq!(image.text("three"), "", "pruned");
}

#[test]
fn privileged_cache_mounts_by_id_seed_and_path() {
    require_root!();
    let drydock = Drydock::new();
    let image = drydock.image_of(
        "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo seeded > /s/sub/f && chown -R 5:6 /s\n\
         FROM busybox\n\
         RUN --mount=type=cache,id=x,target=/a --mount=type=cache,id=x,target=/b echo shared > /a/f; cat /b/f > /out\n\
         RUN --mount=type=cache,id=x,target=/a mkdir -p /a/d && echo part > /a/d/f\n\
         RUN --mount=type=cache,id=x,source=d,target=/p cat /p/f >> /out\n\
         RUN --mount=type=cache,id=x,from=seed,source=/s,target=/q cat /q/sub/f >> /out; stat -c '%u:%g' /q /q/sub/f >> /out\n\
         RUN --mount=type=cache,id=x,ro,target=/a (echo x > /a/g) 2>> /out || true\n\
         RUN --mount=type=cache,target=/n --mount=type=cache,target=/n/in,sharing=locked echo n > /n/in/f; ls /n /n/in >> /out\n",
    );
    assert_eq!(
        image.text("out"),
        "shared\npart\nseeded\n5:6\n5:6\n/bin/sh: can't create /a/g: Read-only file system\n/n:\nin\n\n/n/in:\nf\n"
    );
    // A link that a step planted leads nowhere (CVE-2024-9675).
    let planted = Context::new(
        "FROM busybox\nRUN --mount=type=cache,id=y,target=/a ln -s / /a/link\n\
         RUN --mount=type=cache,id=y,source=link/etc,target=/p ls /p\n",
    );
    let output = drydock.build(&planted).fails();
    assert!(output.stderr.contains("leads through what is no directory"), "{output}");
    let missing =
        Context::new("FROM busybox\nRUN --mount=type=cache,id=y,source=no,target=/p ls /p\n");
    let output = drydock.build(&missing).fails();
    assert!(output.stderr.contains("there is no such file or directory in it"), "{output}");
}

#[test]
fn privileged_cache_mounts_that_are_filled_are_as_their_source() {
    require_root!();
    let drydock = Drydock::new();
    // `mode` and `uid` are those of an empty one (BuildKit: dockerfile2llb, `dispatchRunMounts`).
    let image = drydock.image_of(
        "FROM busybox AS seed\nRUN mkdir -m 2751 /s && chown 5:6 /s && echo seeded > /s/f\n\
         FROM busybox\n\
         RUN --mount=type=cache,id=x,from=seed,source=/s,target=/a,mode=700,uid=9 \\\n\
             --mount=type=cache,id=y,from=scratch,target=/b,mode=700,uid=9 \\\n\
             stat -c '%n %a %u:%g' /a /a/f /b > /out\n\
         RUN --mount=type=cache,id=y,target=/b mkdir /b/d && echo part > /b/d/f && ln -s f /b/d/l\n\
         RUN --mount=type=cache,id=y,target=/one,source=d/f cat /one >> /out; echo more >> /one\n\
         RUN --mount=type=cache,id=y,target=/b cat /b/d/f >> /out\n",
    );
    let want = "/a 2751 5:6\n/a/f 644 0:6\n/b 700 9:0\npart\npart\nmore\n";
    assert_eq!(image.text("out"), want);
    for (mount, error) in [
        ("id=y,source=d/l", "\"d/l\" of cache mount \"y\": it leads through what is no directory"),
        (
            "id=y,source=d/f/g",
            "\"d/f/g\" of cache mount \"y\": it leads through what is no directory",
        ),
        ("id=y,source=no", "\"no\" of cache mount \"y\": there is no such file"),
        ("id=z,from=seed,source=/no", "fill cache mount \"z\": \"/no\": not found in the source"),
        ("id=z,from=seed,source=/s/f", "fill cache mount \"z\": \"/s/f\" is no directory"),
        ("from=seed,source=/no", "fill cache mount \"/p\": \"/no\": not found in the source"),
    ] {
        let text = format!(
            "FROM busybox AS seed\nRUN mkdir -m 2751 /s && chown 5:6 /s && echo seeded > /s/f\n\
             FROM busybox\nRUN --mount=type=cache,target=/p,{mount} ls /p\n"
        );
        let output = drydock.build(&Context::new(&text)).fails();
        assert!(output.stderr.contains(error), "{mount}: {output}");
    }
}

#[test]
fn privileged_a_build_without_cache_empties_a_cache_mount_once() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS base\n\
         RUN --mount=type=cache,id=x,target=/a test -z \"$(ls /a)\" && echo fetched >> /a/f\n\
         FROM base AS one\n\
         RUN --mount=type=cache,id=x,target=/b cat /b/f > /one; echo one >> /b/f\n\
         FROM one AS two\n\
         RUN --mount=type=cache,id=x,target=/c,sharing=locked,commit=on-success cat /c/f > /two; echo two >> /c/f\n\
         FROM two\n\
         RUN --mount=type=cache,id=x,target=/d,sharing=private cat /d/f > /out\n",
    );
    // What a step downloads is there for those after it (BuildKit: `testCacheMountNoCache`).
    for _ in 0..2 {
        let image = drydock.build(&context).arg("--no-cache").image();
        assert_eq!(image.text("out"), "fetched\none\ntwo\n");
    }
}

#[test]
fn privileged_a_tmpfs_takes_over_the_mode_of_the_directory() {
    require_root!();
    let drydock = Drydock::new();
    let image = drydock.image_of(
        "FROM busybox\n\
         RUN mkdir -m 2750 /a && chown 5:6 /a && touch /a/f && mkdir -m 700 /t && ln -s t /l\n\
         RUN --mount=type=tmpfs,target=/a --mount=type=tmpfs,target=/l --mount=type=tmpfs,target=/n \\\n\
             --mount=type=tmpfs,target=/r,ro --mount=type=tmpfs,target=/a/in,rw=false,size=1m \\\n\
             for d in a l n r a/in; do touch /$d/x 2> /dev/null && is=rw || is=ro; \\\n\
                 echo $(stat -c '%a %u:%g' /$d/.) $(ls /$d) $is >> /out; done\n\
         RUN ls -ld /a /t /a/f | cut -c1-10 >> /out\n",
    );
    let want = "2750 0:0 in x rw\n700 0:0 x rw\n1777 0:0 x rw\n1777 0:0 ro\n1777 0:0 ro\n\
                drwxr-s---\n-rw-r--r--\ndrwx------\n";
    assert_eq!(image.text("out"), want);
    for stub in ["n", "r", "a/in", "a/x"] {
        assert!(!image.root.has(stub), "{stub} only held a mount");
    }
}

#[test]
fn privileged_locked_mounts_are_for_one_at_a_time() {
    require_root!();
    let drydock = Drydock::new();
    let script = |sharing: &str| {
        format!(
            "FROM busybox AS a\n\
             RUN --mount=type=cache,target=/l,sharing={sharing} --mount=type=cache,target=/m,sharing={sharing} \\\n\
                 if [ -e /l/busy ]; then echo busy > /a; fi; touch /l/busy; sleep 0.5; rm /l/busy; echo a >> /a\n\
             FROM busybox AS b\n\
             RUN --mount=type=cache,target=/m,sharing={sharing} --mount=type=cache,target=/l,sharing={sharing} \\\n\
                 if [ -e /l/busy ]; then echo busy > /b; fi; touch /l/busy; sleep 0.5; rm -f /l/busy; echo b >> /b\n\
             FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
        )
    };
    for sharing in ["locked", "private"] {
        let context = Context::new(&script(sharing));
        let image = drydock.build(&context).args(["--jobs", "2"]).image();
        assert_eq!((image.text("a"), image.text("b")), ("a\n".into(), "b\n".into()), "{sharing}");
    }
}

/// A secret, and how base64 writes it.
const VALUE: &str = "s3cr3t-value-of-this-very-test";
const BASE64: &str = "czNjcjN0LXZhbHVlLW9mLXRoaXMtdmVyeS10ZXN0";

fn hex(value: &str) -> String {
    value.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn privileged_tmpfs_and_secrets_leave_nothing() {
    require_root!();
    let drydock = Drydock::new();
    let value = VALUE;
    let file = drydock.place("token");
    fs::write(&file, value).unwrap();
    let context = Context::new(
        "FROM busybox\n\
         RUN --mount=type=tmpfs,target=/tmp/x,size=1m echo t > /tmp/x/f; df -k /tmp/x | tail -n1 | tr -s ' ' | cut -d' ' -f2 > /out\n\
         RUN --mount=type=secret,id=tok,mode=440,uid=3,gid=4 --mount=type=secret,id=env,env=TOK \\\n\
             --mount=type=secret,id=both,target=/b,env=BOTH --mount=type=secret,id=none \\\n\
             wc -c < /run/secrets/tok >> /out; stat -c '%a %u %g' /run/secrets/tok >> /out; echo ${#TOK} ${#BOTH} >> /out; \\\n\
             base64 /b; od -An -tx1 /b; cat /b; wc -c < /b >> /out; ls /run/secrets >> /out; (echo x > /run/secrets/tok) 2> /dev/null || echo ro >> /out\n",
    );
    let secrets = [
        format!("id=tok,src={}", file.display()),
        "id=env,env=FROM_ENV".to_owned(),
        format!("type=file,id=both,src={}", file.display()),
    ];
    let build = |value: &str| {
        let run = drydock.build(&context).env("FROM_ENV", value);
        secrets.iter().fold(run, |run, secret| run.args(["--secret", secret]))
    };
    let image = build(value).image();
    assert_eq!(image.text("out"), "1024\n30\n440 3 4\n30 30\n30\ntok\nro\n");
    for gone in ["run/secrets", "b", "tmp/x"] {
        assert!(!image.root.has(gone), "{gone}");
    }
    let output = build("another value").ok();
    assert!(output.executed().is_empty(), "a secret's value is in no key: {output}");
    let (lower, upper) = (hex(value), hex(value).to_uppercase());
    let needles = [value, BASE64, &lower, &upper].map(str::as_bytes);
    let found = fs_contains(drydock.state(), &needles, &mut HashSet::new());
    assert_eq!(found, Vec::<String>::new(), "the state directory holds the secret");
    // A result that was made without it is not taken for one that needs it.
    let step = |more: &str| {
        Context::new(&format!("FROM busybox\nRUN --mount=type=secret,id=missing{more} true\n"))
    };
    drydock.build(&step("")).ok();
    let output = drydock.build(&step(",required")).fails();
    assert!(output.stderr.contains("secret \"missing\": the build has none"), "{output}");
}

#[test]
fn privileged_ssh_agents_are_lent() {
    require_root!();
    require_programs!("ssh-agent", "ssh-add", "ssh-keygen");
    let drydock = Drydock::new();
    let key = drydock.place("key");
    let comment = "the-key-of-this-test";
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(&key)
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let context = Context::new(
        "FROM busybox\nCOPY root /\n\
         RUN --mount=type=ssh,uid=9,mode=660 --mount=type=ssh,id=other \\\n\
             echo $SSH_AUTH_SOCK > /out; stat -c '%a %u' $SSH_AUTH_SOCK >> /out; ls /run/buildkit >> /out; \\\n\
             for n in 1 2; do ssh-add -l | grep -c the-key-of-this-test >> /out; done\n",
    );
    let context = with_program(context, "root", "/usr/bin/ssh-add");
    let with_key = format!("default={}", key.display());
    let image = drydock.build(&context).args(["--ssh", &with_key]).image();
    assert_eq!(image.text("out"), "/run/buildkit/ssh_agent.0\n660 9\nssh_agent.0\n1\n1\n");
    assert!(!image.root.has("run/buildkit"));
    assert_eq!(
        fs::read_dir(drydock.state().join("run"))
            .unwrap()
            .flatten()
            .filter(|entry| { entry.file_name().to_string_lossy().starts_with("ssh-") })
            .count(),
        0,
        "a socket outlived its step"
    );
    let needed = Context::new("FROM busybox\nRUN --mount=type=ssh true\n");
    drydock.build(&needed).ok();
    let needed = Context::new("FROM busybox\nRUN --mount=type=ssh,required true\n");
    let output = drydock.build(&needed).fails();
    assert!(output.stderr.contains("the build lends none of this id"), "{output}");
    let output = drydock.build(&context).args(["--ssh", "default=/no/such"]).fails();
    assert!(output.stderr.contains("--ssh default: cannot read \"/no/such\""), "{output}");
}

/// The context with a program of this machine, and what it needs, below `root`.
fn with_program(context: Context, root: &str, program: &str) -> Context {
    let needed = std::process::Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(needed.stdout).unwrap();
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
    [program].into_iter().chain(libraries).fold(context, |context, path| {
        let to = format!("{root}{path}");
        context.file(&to, fs::read(path).unwrap()).mode(&to, 0o755)
    })
}

/// The files below `dir` that hold one of `needles`, each file looked at under one of its names.
fn fs_contains(dir: &Path, needles: &[&[u8]], seen: &mut HashSet<u64>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(fs_contains(&path, needles, seen));
        } else if kind.is_file()
            && seen.insert(entry.ino())
            && let Ok(bytes) = fs::read(&path)
            && needles.iter().any(|needle| holds(&bytes, needle))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Whether `needle` is in `bytes`: where its first byte is, the rest is looked at.
fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == needle[0]) {
        if bytes[from + at..].starts_with(needle) {
            return true;
        }
        from += at + 1;
    }
    false
}
