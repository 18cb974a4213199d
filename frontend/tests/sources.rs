//! Where files come from: linked copies, URLs, repositories, contexts that are not here, mounts.

mod support;

use std::collections::BTreeMap;

use frontend::{Entitlement, LowerError, LowerOptions, Lowered, NamedContext, lower, parse};
use graph::dump::dump;
use graph::{
    CopyAction, CopySource, ExecMount, ExecOp, FileAction, GitSource, HttpSource, MountKind, Mtime,
    NetworkMode, Op, SecurityMode, Sharing, SourceOp, Unpack,
};
use support::{Images, lowered, lowered_with, options};

fn copies(built: &Lowered) -> Vec<CopyAction> {
    let files = built.definition.vertices().iter().filter_map(|v| match &v.op {
        Op::File(file) => Some(file.actions.clone()),
        _ => None,
    });
    let actions = files.flatten().filter_map(|action| match action {
        FileAction::Copy(copy) => Some(copy),
        FileAction::Mkdir(_) => None,
    });
    actions.collect()
}

fn sources(built: &Lowered) -> Vec<SourceOp> {
    let sources = built.definition.vertices().iter().filter_map(|v| match &v.op {
        Op::Source(source) => Some(source.clone()),
        _ => None,
    });
    sources.collect()
}

fn run(built: &Lowered) -> ExecOp {
    let mut runs = built.definition.vertices().iter().filter_map(|v| match &v.op {
        Op::Exec(exec) => Some(exec.clone()),
        _ => None,
    });
    runs.next_back().unwrap()
}

fn git() -> GitSource {
    GitSource {
        remote: "https://h/r.git".to_owned(),
        reference: None,
        subdir: None,
        checksum: None,
        keep_git_dir: false,
        submodules: true,
        mtime: Mtime::Checkout,
        fetch_by_commit: false,
    }
}

fn http(url: &str) -> HttpSource {
    HttpSource { url: url.to_owned(), filename: None, checksum: None }
}

#[test]
fn a_linked_copy_is_made_by_itself() {
    let text = "\
FROM busybox
WORKDIR /w
COPY --link a b/
COPY --link --chmod=700 c .
COPY --link <<EOF d
x
EOF
";
    let built = lowered(text);
    insta::assert_snapshot!(dump(&built.definition), @r#"
    v0 source() [1/5] FROM docker.io/library/busybox:latest@de68ccc327e5
    v1 file(v0) [2/5] WORKDIR /w
    v2 source() [internal] load build context
    v3 file(v2) [3/5] COPY --link a b/
    v4 merge(v1, v3) [3/5] LINK COPY --link a b/
    v5 file(v4, v2) [4/5] COPY --link --chmod=700 c .
    v6 file() [5/5] COPY --link <<EOF d
    v7 merge(v5, v6) [5/5] LINK COPY --link <<EOF d
    "#);
    let copies = copies(&built);
    assert_eq!((copies[0].dest.as_str(), copies[0].replace), ("/w/b/", true));
    assert!(!copies[1].replace);
    let made = built.config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!((built.layers.len(), made), (4, 5));
    assert_eq!(built.config.history[2].created_by, "COPY a b/ # buildkit");
    let alone = lowered("FROM scratch\nCOPY --link a b\n");
    assert!(!dump(&alone.definition).contains("merge"));
    let all = lowered_with(text, &LowerOptions { no_cache: true, ..options() });
    let again = |v: &&graph::Vertex| v.meta.freshness == graph::Freshness::Build;
    assert_eq!(all.definition.vertices().iter().filter(again).count(), 4);
}

#[test]
fn files_behind_urls() {
    let sum = "a".repeat(64);
    let text = format!(
        "\
FROM busybox
ARG V=1
ADD https://h/x-$V.tgz?q local https://h http://h/a%20b/ /d/
ADD --checksum=sha256:{sum} --unpack=true --chown=1:2 https://h/x /e
ADD --unpack=false a.tar /f
"
    );
    let built = lowered(&text);
    let urls: Vec<(String, Option<String>, bool)> = sources(&built)
        .into_iter()
        .filter_map(|source| match source {
            SourceOp::Http(http) => Some((http.url, http.filename, http.checksum.is_some())),
            _ => None,
        })
        .collect();
    let url = |url: &str, name: &str, sum| (url.to_owned(), Some(name.to_owned()), sum);
    assert_eq!(
        urls,
        [
            url("https://h/x-1.tgz?q", "x-1.tgz", false),
            url("https://h", "__unnamed__", false),
            url("http://h/a%20b/", "a b", false),
            url("https://h/x", "x", true),
        ]
    );
    let copies = copies(&built);
    let seen: Vec<(Vec<String>, Unpack)> = copies
        .iter()
        .map(|copy| match &copy.source {
            CopySource::Input { paths, .. } => (paths.clone(), copy.unpack),
            CopySource::Inline(_) => panic!(),
        })
        .collect();
    let one = |path: &str, unpack| (vec![path.to_owned()], unpack);
    assert_eq!(
        seen,
        [
            one("*", Unpack::Never),
            one("local", Unpack::Auto),
            one("*", Unpack::Never),
            one("*", Unpack::Never),
            one("*", Unpack::Auto),
            one("a.tar", Unpack::Never),
        ]
    );
    assert_eq!(copies[4].owner.as_ref().map(|o| o.user.as_str()), Some("1"));
    let created: Vec<&str> = built.config.history.iter().map(|h| h.created_by.as_str()).collect();
    let words = "ADD https://h/x-1.tgz?q local https://h http://h/a%20b/ /d/ # buildkit";
    assert_eq!(created[2], words);
}

#[test]
fn repositories() {
    let text = "\
FROM busybox
ADD --keep-git-dir=true https://h/r.git#v1:sub /src
ADD --checksum=ABCDEF1 git@h:o/r.git /other
";
    let built = lowered(text);
    let found: Vec<GitSource> = sources(&built)
        .into_iter()
        .filter_map(|source| if let SourceOp::Git(git) = source { Some(git) } else { None })
        .collect();
    assert_eq!(found[0].remote, "https://h/r.git");
    let of = (found[0].reference.as_deref(), found[0].subdir.as_deref());
    assert_eq!(of, (Some("v1"), Some("sub")));
    assert!(found[0].keep_git_dir && found[0].submodules);
    assert_eq!(found[1].checksum.as_deref(), Some("abcdef1"));
    assert_eq!(copies(&built)[0].dest, "/src");
}

#[test]
fn contexts_that_are_not_here() {
    let mut given = options();
    given.contexts = BTreeMap::from([
        ("repo".to_owned(), NamedContext::Git(git())),
        ("tools".to_owned(), NamedContext::Http(http("https://h/t.tgz"))),
        ("alpine".to_owned(), NamedContext::Stage("base".to_owned())),
        ("none".to_owned(), NamedContext::Image("docker.io/library/scratch".parse().unwrap())),
    ]);
    let text = "\
FROM busybox AS base
ENV A=1
FROM alpine AS next
COPY --from=repo . /src
COPY --from=tools x y
COPY --from=none . /n
FROM repo
RUN make
";
    let target = LowerOptions { target: Some("next".to_owned()), ..given.clone() };
    let built = lowered_with(text, &target);
    insta::assert_snapshot!(dump(&built.definition), @r#"
    v0 source() [base 1/1] FROM docker.io/library/busybox:latest@de68ccc327e5
    v1 source() [context repo] https://h/r.git
    v2 file(v0, v1) [next 1/3] COPY --from=repo . /src
    v3 source() [context tools] https://h/t.tgz
    v4 file(v3) [context tools] extract
    v5 file(v2, v4) [next 2/3] COPY --from=tools x y
    v6 file(v5) [next 3/3] COPY --from=none . /n
    "#);
    assert!(built.config.config.env.contains(&"A=1".to_owned()));
    let from_git = lowered_with(text, &given);
    insta::assert_snapshot!(dump(&from_git.definition), @r#"
    v0 source() [context repo] https://h/r.git
    v1 exec(v0) [stage-2 1/1] RUN make
    "#);
    assert_eq!(from_git.layers.len(), 2);
    assert_eq!(from_git.config.history[0].created_by, "FROM repo # buildkit");
}

#[test]
fn a_context_that_is_a_stage_stands_before_its_user() {
    let parsed = parse("Dockerfile", "FROM alpine\nFROM busybox AS last\n");
    for (stage, message, help) in [
        ("last", "must stand before stage", None),
        ("lost", "which the Dockerfile does not have", Some("did you mean \"last\"?")),
    ] {
        let mut given = LowerOptions { target: Some("0".to_owned()), ..options() };
        given.contexts.insert("alpine".to_owned(), NamedContext::Stage(stage.to_owned()));
        let Err(LowerError::Diagnostics(all)) = lower(&parsed, &given, &Images::default()) else {
            panic!()
        };
        let error = all.iter().find(|d| d.is_error()).unwrap();
        assert!(error.message.contains(message), "{error:?}");
        assert_eq!(error.help.as_deref(), help);
    }
}

#[test]
fn mounts_of_every_kind() {
    let text = "\
FROM busybox AS tools
RUN t
FROM busybox
ARG ID=npm
WORKDIR /w
RUN --mount=target=src,rw --mount=type=bind,from=tools,source=bin/../x,target=/t \\
    --mount=type=cache,id=$ID,target=/c/deep,sharing=locked,uid=5 --mount=type=cache,target=/c \\
    --mount=type=tmpfs,target=/tmp,size=64m --mount=type=secret,id=a/tok \\
    --mount=type=secret,id=b,env=B --mount=type=secret,id=c,env=C,target=/c.txt,required \\
    --mount=type=ssh --mount=type=ssh,id=two,target=/agent --mount=from=scratch,target=/none make
";
    let mut given = options();
    given.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), "ns".to_owned());
    let built = lowered_with(text, &given);
    let exec = run(&built);
    let targets: Vec<&str> = exec.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/agent",
            "/c",
            "/c/deep",
            "/c.txt",
            "/none",
            "/run/buildkit/ssh_agent.0",
            "/run/secrets/b",
            "/run/secrets/tok",
            "/t",
            "/tmp",
            "/w/src",
        ]
    );
    let kind = |target: &str| {
        let found: Option<&ExecMount> = exec.mounts.iter().find(|m| m.target == target);
        found.unwrap().kind.clone()
    };
    let bind = |input, source: &str, writable| MountKind::Bind {
        input,
        source: source.to_owned(),
        writable,
    };
    assert_eq!(kind("/w/src"), bind(Some(1), "/", true));
    assert_eq!(kind("/t"), bind(Some(2), "/x", false));
    assert_eq!(kind("/none"), bind(None, "/", false));
    let MountKind::Cache { id, sharing, uid, .. } = kind("/c/deep") else { panic!() };
    assert_eq!((id.as_str(), sharing, uid), ("ns/npm", Sharing::Locked, 5));
    let MountKind::Cache { id, mode, read_only, .. } = kind("/c") else { panic!() };
    assert_eq!((id.as_str(), mode, read_only), ("ns//c", None, false));
    assert_eq!(kind("/tmp"), MountKind::Tmpfs { size: Some(64 << 20), read_only: false });
    let secret = |target: &str| match kind(target) {
        MountKind::Secret { id, env, file, required, mode, .. } => (id, env, file, required, mode),
        other => panic!("{other:?}"),
    };
    assert_eq!(secret("/run/secrets/tok"), ("a/tok".into(), None, true, false, 0o400));
    assert_eq!(secret("/run/secrets/b"), ("b".into(), Some("B".into()), false, false, 0o400));
    assert_eq!(secret("/c.txt"), ("c".into(), Some("C".into()), true, true, 0o400));
    let MountKind::Ssh { id, mode, .. } = kind("/agent") else { panic!() };
    assert_eq!((id.as_str(), mode), ("two", 0o600));
    let agent = exec.env.iter().find(|(name, _)| name == "SSH_AUTH_SOCK").unwrap();
    assert_eq!(agent.1, "/run/buildkit/ssh_agent.0");
    let inputs = &built.definition.vertices().last().unwrap().inputs;
    assert_eq!(inputs.len(), 3);
}

#[test]
fn what_is_allowed_is_asked_for() {
    let text = "FROM a\nRUN --network=host --security=insecure --device=x.com/gpu=0,required y\n";
    let allow = Entitlement::ALL.into_iter().collect();
    let exec = run(&lowered_with(text, &LowerOptions { allow, ..options() }));
    assert_eq!((exec.network, exec.security), (NetworkMode::Host, SecurityMode::Insecure));
    assert_eq!((exec.devices[0].name.as_str(), exec.devices[0].required), ("x.com/gpu=0", true));
}
