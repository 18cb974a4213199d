//! What lowering makes of Dockerfiles: graphs, configs, histories.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use frontend::{
    HistorySource, ImageLocation, LowerError, LowerOptions, NamedContext, StepAge, lower, parse,
};
use graph::dump::dump;
use graph::{
    CopySource, ExecOp, FileAction, Freshness, ModeChange, NetworkMode, Op, SourceOp, Unpack,
};
use support::{Images, busybox, errors, lowered, lowered_with, options};

fn history(text: &str) -> Vec<String> {
    lowered(text).config.history.into_iter().map(|h| h.created_by).collect()
}

fn execs(lowered: &frontend::Lowered) -> Vec<ExecOp> {
    let ops = lowered.definition.vertices().iter().map(|v| &v.op);
    ops.filter_map(|op| if let Op::Exec(exec) = op { Some(exec.clone()) } else { None }).collect()
}

fn copies(lowered: &frontend::Lowered) -> Vec<graph::CopyAction> {
    let ops = lowered.definition.vertices().iter().map(|v| &v.op);
    let actions = ops.flat_map(|op| match op {
        Op::File(file) => file.actions.clone(),
        _ => Vec::new(),
    });
    actions.filter_map(|a| if let FileAction::Copy(copy) = a { Some(copy) } else { None }).collect()
}

#[test]
fn a_multi_stage_build() {
    let text = "\
FROM golang AS build
WORKDIR /src
COPY . .
RUN make
FROM scratch AS unused
RUN false
FROM busybox
COPY --from=build /src/app /bin/
CMD [\"app\"]
";
    let lowered = lowered(text);
    insta::assert_snapshot!(dump(&lowered.definition), @r#"
    v0 source() [build 1/4] FROM docker.io/library/golang:latest@75147c1cd18e
    v1 file(v0) [build 2/4] WORKDIR /src
    v2 source() [internal] load build context
    v3 file(v1, v2) [build 3/4] COPY . .
    v4 exec(v3) [build 4/4] RUN make
    v5 source() [stage-2 1/2] FROM docker.io/library/busybox:latest@de68ccc327e5
    v6 file(v5, v4) [stage-2 2/2] COPY --from=build /src/app /bin/
    "#);
    let step = HistorySource::Step(lowered.layers[0]);
    assert_eq!(lowered.history, [HistorySource::Base(0), step, HistorySource::Metadata]);
    assert_eq!(lowered.layers.len(), 1);
    assert_eq!(lowered.target_stage, "stage-2");
    assert_eq!(lowered.stage_names, ["build", "unused", "stage-2"]);
    assert_eq!(lowered.base.unwrap().config.rootfs.diff_ids.len(), 1);
}

/// A directory may be at the destination already: then it needs no slash, as in BuildKit.
#[test]
fn several_paths_are_left_to_the_copy() {
    for text in ["COPY a b /srv", "ADD a d /srv", "COPY --parents d/x a /srv"] {
        lowered(&format!("FROM busybox\n{text}\n"));
    }
}

#[test]
fn names_of_one_stage_and_of_triggers() {
    let one = lowered("FROM scratch\nCOPY a b\nRUN x\nWORKDIR /\nWORKDIR rel\n");
    insta::assert_snapshot!(dump(&one.definition), @r#"
    v0 source() [internal] load build context
    v1 file(v0) [1/4] COPY a b
    v2 exec(v1) [2/4] RUN x
    v3 file(v2) [3/4] WORKDIR rel
    "#);
    let mut base = busybox();
    base.config.on_build =
        vec!["RUN first".into(), "COPY --from=tools /t /t".into(), "ENV A=1".into()];
    let images = Images::with("base", base);
    let parsed =
        parse("Dockerfile", "FROM busybox AS tools\nFROM base\nRUN own\nONBUILD RUN later\n");
    let two = lower(&parsed, &options(), &images).unwrap();
    insta::assert_snapshot!(dump(&two.definition), @r#"
    v0 source() [tools 1/1] FROM docker.io/library/busybox:latest@de68ccc327e5
    v1 source() [stage-1 1/4] FROM docker.io/library/base:latest@544821abdfe2
    v2 exec(v1) [stage-1 2/4] ONBUILD RUN first
    v3 file(v2, v0) [stage-1 3/4] ONBUILD COPY --from=tools /t /t
    v4 exec(v3) [stage-1 4/4] RUN own
    "#);
    assert_eq!(two.config.config.on_build, ["RUN later"]);
    assert!(two.config.config.env.contains(&"A=1".to_owned()));
    let files = &two.definition.source_map.files;
    assert_eq!(files.len(), 4);
    assert_eq!(&*files[1].text, "RUN first");
}

#[test]
fn triggers_of_a_stage_of_the_file_run_once() {
    let text =
        "FROM scratch AS base\nONBUILD RUN t\nFROM base AS child\nRUN a\nFROM child\nRUN b\n";
    let runs: Vec<String> = execs(&lowered(text)).into_iter().map(|e| e.args[2].clone()).collect();
    assert_eq!(runs, ["t", "a", "b"]);
}

#[test]
fn histories_are_buildkits() {
    let text = r#"ARG G=g
FROM busybox
ARG G
ARG X=1 Y
ENV A=b C="d e"
LABEL l="v w"
RUN echo $A  two
RUN ["exec", "$A"]
COPY --chown=1:2 --chmod=644 a b /dest/
ADD x.tar /
WORKDIR /w
WORKDIR /
USER u
EXPOSE 80 53/UDP
VOLUME /v /w
STOPSIGNAL SIGTERM
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=5s --retries=3 CMD true x
ENTRYPOINT e
CMD ["a", "b\n"]
MAINTAINER me
ONBUILD RUN x
"#;
    insta::assert_snapshot!(history(text).join("\n"), @r#"
    base
    ARG G=g
    ARG X=1 Y
    ENV A=b C=d e
    LABEL l=v w
    RUN |3 G=g X=1 Y= /bin/sh -c echo $A  two # buildkit
    RUN |3 G=g X=1 Y= exec $A # buildkit
    COPY --chown=1:2 --chmod=644 a b /dest/ # buildkit
    ADD x.tar / # buildkit
    WORKDIR /w
    WORKDIR /
    USER u
    EXPOSE [80/tcp 53/udp]
    VOLUME [/v /w]
    STOPSIGNAL SIGTERM
    SHELL [/bin/bash -c]
    HEALTHCHECK {Test:[CMD-SHELL true x] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}
    ENTRYPOINT ["/bin/bash" "-c" "e"]
    CMD ["a" "b\n"]
    MAINTAINER me
    "#);
    let built = lowered(text);
    let source = |at: usize| built.history[at];
    assert_eq!(source(0), HistorySource::Base(0));
    assert_eq!(source(1), HistorySource::Metadata);
    assert_eq!(source(5), HistorySource::Step(built.layers[0]));
    let empty: Vec<bool> = built.config.history.iter().map(|h| h.empty_layer).collect();
    let full = empty.iter().filter(|e| !**e).count();
    assert_eq!(full, built.layers.len() + 1);
    assert_eq!(built.config.history.len(), built.history.len());
    assert_eq!(built.config.history[1].comment, "buildkit.dockerfile.v0");
    assert_eq!(built.config.author.as_deref(), Some("me"));
}

#[test]
fn variables_and_scopes() {
    let text = "\
ARG TAG=1
ARG IMAGE=busybox:$TAG
FROM ${IMAGE} AS one
ARG TAG
ARG OWN=own-$TAG
ENV abc=hello
ENV abc=bye def=$abc
RUN one
FROM one
ARG TARGETARCH
ARG NEVER
RUN two
";
    let runs = execs(&lowered(text));
    let env = |at: usize| {
        let pairs: Vec<String> = runs[at].env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs[1..].join(" ")
    };
    assert_eq!(env(0), "TAG=1 OWN=own-1 abc=bye def=hello");
    assert_eq!(env(1), "TAG=1 OWN=own-1 abc=bye def=hello TARGETARCH=amd64");
    let last = history(text).pop().unwrap();
    assert_eq!(last, "RUN |4 TAG=1 OWN=own-1 TARGETARCH=amd64 NEVER= /bin/sh -c two # buildkit");
    let mut given = options();
    given.build_args = [("TAG", "2"), ("OWN", "x"), ("WHAT", "y"), ("http_proxy", "p")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let built = lowered_with(text, &given);
    assert_eq!(built.unused_build_args, ["WHAT"]);
    assert!(built.base.as_ref().unwrap().name.starts_with("docker.io/library/busybox:2@"));
    let proxies = [("HTTP_PROXY", "p"), ("http_proxy", "p")];
    assert_eq!(execs(&built)[0].proxy_env, proxies.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(!built.config.history.iter().any(|h| h.created_by.contains("proxy")));
    let declared = "FROM busybox\nARG http_proxy\nRUN x\n";
    let run = execs(&lowered_with(declared, &given)).remove(0);
    assert_eq!(run.proxy_env, [("HTTP_PROXY".to_owned(), "p".to_owned())]);
    assert!(run.env.contains(&("http_proxy".to_owned(), "p".to_owned())));
}

#[test]
fn a_later_arg_wins_at_run_time_and_env_in_the_config() {
    let built = lowered("FROM scratch\nARG X=1\nENV X=2\nARG X=3\nRUN x\n");
    let run = &execs(&built)[0];
    assert!(run.env.contains(&("X".to_owned(), "3".to_owned())));
    assert!(built.config.config.env.contains(&"X=2".to_owned()));
}

#[test]
fn a_process_gets_variables_in_the_order_in_which_they_were_last_set() {
    let built = lowered(
        "FROM scratch\nENV A=1 B=2 C=3\nENV A=4\nARG D=5\nARG B=6\nRUN x\nENV C=7\nRUN y\n",
    );
    let env = |run: &ExecOp| -> Vec<String> {
        run.env.iter().skip(1).map(|(k, v)| format!("{k}={v}")).collect()
    };
    let runs = execs(&built);
    assert_eq!(env(&runs[0]), ["C=3", "A=4", "D=5", "B=6"]);
    assert_eq!(env(&runs[1]), ["A=4", "D=5", "B=6", "C=7"]);
    assert_eq!(built.config.config.env[1..], ["A=4", "B=2", "C=7"]);
}

#[test]
fn owners_of_copies_and_working_directories() {
    for (user, workdir, chown) in [
        ("", "", None),
        ("app", "app", Some(("app", None))),
        ("root", "0:0", Some(("0", None))),
        ("root:root", "0:0", Some(("0", Some("0")))),
        ("0:root", "0:0", Some(("0", Some("0")))),
        ("5", "5:5", Some(("5", None))),
        ("5:6", "5:6", Some(("5", Some("6")))),
        ("5:staff", "5:staff", Some(("5", Some("staff")))),
        ("app:6", "app:6", Some(("app", Some("6")))),
        (":staff", ":staff", Some(("", Some("staff")))),
        ("app:", "app:0", Some(("app", Some("")))),
    ] {
        let text =
            format!("FROM busybox\nUSER \"{user}\"\nWORKDIR /w\nCOPY --chown=${{U:-{user}}} a b\n");
        let built = lowered(&text);
        let mkdirs = built.definition.vertices().iter().filter_map(|v| match &v.op {
            Op::File(file) => file.actions.iter().find_map(|a| match a {
                FileAction::Mkdir(mkdir) => Some(mkdir.user.clone()),
                FileAction::Copy(_) => None,
            }),
            _ => None,
        });
        assert_eq!(mkdirs.collect::<Vec<_>>(), [workdir], "{user}");
        let owner = copies(&built)[0].owner.clone();
        let owner = owner.as_ref().map(|o| (o.user.as_str(), o.group.as_deref()));
        assert_eq!(owner, chown, "{user}");
        assert_eq!(built.config.config.user, user);
    }
}

#[test]
fn commands_and_shells() {
    let config = |text: &str| lowered(text).config.config;
    let c = config("FROM busybox\nENTRYPOINT [\"a\"]\n");
    assert_eq!((c.cmd, c.entrypoint), (None, Some(vec!["a".to_owned()])));
    let c = config("FROM busybox\nCMD [\"c\"]\nENTRYPOINT [\"a\"]\n");
    assert_eq!(c.cmd, Some(vec!["c".to_owned()]));
    let c = config("FROM busybox AS x\nCMD [\"c\"]\nFROM x\nENTRYPOINT []\n");
    assert_eq!((c.cmd, c.entrypoint), (None, None));
    let c = config("FROM busybox\nSHELL [\"/s\"]\nCMD x y\nHEALTHCHECK CMD z\n");
    assert_eq!(c.cmd, Some(vec!["/s".to_owned(), "x y".to_owned()]));
    assert_eq!(c.healthcheck.unwrap().test, ["CMD-SHELL", "z"]);
    let c = config("FROM busybox\nHEALTHCHECK NONE\nCMD []\n");
    assert_eq!((c.healthcheck.unwrap().test, c.cmd), (vec!["NONE".to_owned()], Some(vec![])));
}

#[test]
fn here_documents() {
    let text = "\
FROM scratch
RUN <<EOF
a $X
b
EOF
RUN <<-EOF
\t#!/bin/python
\tprint(1)
\tEOF
RUN 3<<IN cat <&3 && x
body
IN
ENV WHO=me
COPY <<EOF <<'RAW' f /d/
\"$WHO\" \\$x \\\\
EOF
$WHO
RAW
RUN echo $((1<<3)) \"<<EOF\"
";
    let built = lowered(text);
    let runs = execs(&built);
    assert_eq!(runs[0].args, ["/bin/sh", "-c", "a $X\nb\n"]);
    assert_eq!(runs[1].args, ["/dev/pipes/EOF"]);
    assert_eq!(runs[1].files[0].data, "#!/bin/python\nprint(1)\n");
    assert_eq!(runs[1].files[0].mode, 0o755);
    assert_eq!(runs[2].args[2], "3<<IN cat <&3 && x\nbody\nIN");
    assert_eq!(runs[3].args[2], "echo $((1<<3)) \"<<EOF\"");
    let copies = copies(&built);
    let CopySource::Inline(files) = &copies[1].source else { panic!("{copies:?}") };
    assert_eq!(files[0].data, "\"me\" $x \\\n");
    assert_eq!((files[1].name.as_str(), files[1].data.as_str()), ("RAW", "$WHO\n"));
    insta::assert_snapshot!(dump(&built.definition), @r#"
    v0 exec() [1/5] RUN <<EOF (a $X...)
    v1 exec(v0) [2/5] RUN <<-EOF (#!/bin/python...)
    v2 exec(v1) [3/5] RUN 3<<IN cat <&3 && x
    v3 source() [internal] load build context
    v4 file(v2, v3) [4/5] COPY <<EOF <<RAW f /d/
    v5 exec(v4) [5/5] RUN echo $((1<<3)) "<<EOF"
    "#);
    assert!(errors("FROM scratch\nRUN <<EOF\nx\n")[0].contains("unterminated"));
    assert!(errors("FROM scratch\nCOPY a <<EOF\nx\nEOF\n")[0].contains("as a destination"));
}

#[test]
fn triggers_keep_their_here_documents() {
    let built = lowered("FROM scratch AS a\nONBUILD RUN <<EOF\nx\nEOF\nFROM a\n");
    assert_eq!(execs(&built)[0].args[2], "x\n");
    let stored = lowered("FROM scratch\nONBUILD COPY <<EOF /f\nx\nEOF\n").config.config.on_build;
    assert_eq!(stored, ["COPY <<EOF /f\nx\nEOF"]);
}

#[test]
fn copies_as_they_are_meant() {
    let text = "\
FROM busybox
WORKDIR /w
ARG D=sub/
COPY --chown=app:staff --chmod=u=rwX --exclude=*.o a* $D
ADD --chmod=0755 t.tar .
COPY --parents a/./b/c /
COPY --from=alpine /etc/x y
COPY [\"with space\", \"/d\"]
";
    let built = lowered(text);
    let copies = copies(&built);
    assert_eq!(copies[0].dest, "/w/sub/");
    let owner = copies[0].owner.clone().unwrap();
    assert_eq!((owner.user.as_str(), owner.group.as_deref()), ("app", Some("staff")));
    assert_eq!(copies[0].mode, Some(ModeChange::Symbolic("u=rwX".to_owned())));
    assert_eq!((copies[0].unpack, copies[1].unpack), (Unpack::Never, Unpack::Auto));
    assert_eq!(
        (copies[1].dest.as_str(), &copies[1].mode),
        ("/w/", &Some(ModeChange::Octal(0o755)))
    );
    assert!(copies[2].parents && copies[2].dest == "/");
    assert_eq!(copies[3].dest, "/w/y");
    let CopySource::Input { paths, context, input } = &copies[4].source else { panic!() };
    assert_eq!((paths[0].as_str(), *context, *input), ("with space", true, Some(1)));
    let CopySource::Input { context, .. } = &copies[3].source else { panic!() };
    assert!(!context);
}

#[test]
fn contexts_stand_in_for_stages_and_images() {
    let mut given = options();
    given.contexts = BTreeMap::from([
        ("alpine".to_owned(), NamedContext::Layout),
        ("src".to_owned(), NamedContext::Local),
        ("tools".to_owned(), NamedContext::Image("debian:12".parse().unwrap())),
    ]);
    let text = "\
FROM missing AS tools
RUN not this
FROM docker.io/library/alpine:latest
COPY --from=src . /src
COPY --from=tools /t /t
";
    let images = Images::default();
    let built = lower(&parse("Dockerfile", text), &given, &images).unwrap();
    let asked = images.asked.into_inner();
    let places: Vec<_> = asked.iter().map(|r| (&r.location, r.shown.as_str())).collect();
    let context = |name: &str| ImageLocation::Context(name.to_owned());
    assert_eq!(
        places,
        [(&context("alpine"), "docker.io/library/alpine:latest"), (&context("tools"), "tools")]
    );
    insta::assert_snapshot!(dump(&built.definition), @r#"
    v0 source() [stage-1 1/3] FROM docker.io/library/alpine:latest@c9ef5b1f0b44
    v1 source() [context src] load from client
    v2 file(v0, v1) [stage-1 2/3] COPY --from=src . /src
    v3 source() FROM docker.io/library/debian:12@2c6047a3e543
    v4 file(v2, v3) [stage-1 3/3] COPY --from=tools /t /t
    "#);
    let from_local = lowered_with("FROM src\nRUN x\n", &given);
    assert_eq!((from_local.layers.len(), from_local.base.is_none()), (2, true));
    let local = from_local.definition.vertices().iter().find_map(|v| match &v.op {
        Op::Source(SourceOp::Local(local)) => Some(local.name.clone()),
        _ => None,
    });
    assert_eq!(local.as_deref(), Some("src"));
}

/// The steps that may not be of any age, and that age.
fn aged(text: &str, ages: &[(&str, u64)]) -> Vec<String> {
    let age = |(step, seconds): &(&str, u64)| StepAge {
        step: (*step).to_owned(),
        age: Duration::from_secs(*seconds),
    };
    let asked = LowerOptions { step_ages: ages.iter().map(age).collect(), ..options() };
    let lowered = lowered_with(text, &asked);
    let shown = |vertex: &graph::Vertex| match vertex.meta.freshness {
        Freshness::MaxAge(age) => {
            let name = vertex.meta.name.split("] ").last().unwrap_or_default();
            Some(format!("{name} {}", age.as_secs()))
        }
        _ => None,
    };
    lowered.definition.vertices().iter().filter_map(shown).collect()
}

const AGED: &str = "\
ARG URL=http://x/?a=b
FROM busybox AS build
ARG URL
RUN --ttl=24h apt-get update
COPY --link . /src
RUN get $URL && \\
  make
FROM busybox AS unused
RUN lint
FROM busybox
WORKDIR /w
COPY --from=build /src /
RUN <<EOF
echo one
echo two
EOF
";

#[test]
fn a_step_says_how_old_its_result_may_be() {
    assert_eq!(aged(AGED, &[]), ["RUN --ttl=24h apt-get update 86400"]);
    // It changes neither what is done nor what the image says.
    let with = lowered("FROM busybox\nRUN --ttl=1h make\n");
    let without = lowered("FROM busybox\nRUN make\n");
    assert_eq!(execs(&with), execs(&without));
    assert_eq!(with.config, without.config);
    assert_eq!(dump(&with.definition).matches(" max-age=3600s ").count(), 1);
    // Of equal steps the stricter one counts.
    let twice = "FROM busybox AS a\nRUN --ttl=7d x\nFROM busybox AS b\nRUN --ttl=1m x\n\
                 FROM b\nCOPY --from=a /x /\n";
    assert_eq!(aged(twice, &[]), ["RUN --ttl=7d x 60"]);
}

#[test]
fn a_build_says_how_old_results_may_be() {
    const OWN: &str = "RUN --ttl=24h apt-get update 86400";
    const MAKE: &str = "RUN get http://x/?a=b &&   make 5";
    for (step, want) in [
        ("build", &["RUN --ttl=24h apt-get update 5", "COPY --link . /src 5", MAKE][..]),
        ("BUILD:3", &[OWN, "COPY --link . /src 5"]),
        ("0:2", &["RUN --ttl=24h apt-get update 5"]),
        ("stage-2:2", &[OWN, "WORKDIR /w 5"]),
        ("get $URL", &[OWN, MAKE]),
        ("get http://x/?a=b", &[OWN, MAKE]),
        ("?a=b && make", &[OWN, MAKE]),
        ("echo two", &[OWN, "RUN <<EOF (echo one...) 5"]),
        // What the target does not need.
        ("unused", &[OWN]),
        ("unused:9", &[OWN]),
        ("lint", &[OWN]),
    ] {
        assert_eq!(aged(AGED, &[(step, 5)]), want, "{step}");
    }
    // The last one that names a step counts, and what is asked counts more than the file.
    let got = aged(AGED, &[("build", 5), ("apt-get", 604_800), ("--link", 7)]);
    assert_eq!(got, ["RUN --ttl=24h apt-get update 604800", "COPY --link . /src 7", MAKE]);
    let all = StepAge { step: "build".to_owned(), age: Duration::ZERO };
    let all = LowerOptions { no_cache: true, step_ages: vec![all], ..options() };
    assert!(!dump(&lowered_with(AGED, &all).definition).contains("max-age"));
}

#[test]
fn a_step_that_is_nowhere_is_an_error() {
    for step in ["biuld", "build:5", "2:1x", "FROM busybox", "three"] {
        let age = StepAge { step: step.to_owned(), age: Duration::ZERO };
        let asked = LowerOptions { step_ages: vec![age], ..options() };
        let error = lower(&parse("Dockerfile", AGED), &asked, &Images::default()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("no step is {step:?} of --ttl")), "{error}");
        let listed = "build:4 (RUN get http://x/?a=b &&   make), stage-2:2 (WORKDIR /w), ";
        assert!(error.contains(listed), "{error}");
    }
}

#[test]
fn options_reach_the_steps() {
    let text = "FROM busybox AS a\nRUN one\nFROM a\nRUN --network=none two\nCOPY x y\n";
    let given = LowerOptions {
        network: NetworkMode::Host,
        hostname: Some("h".to_owned()),
        extra_hosts: vec![("n".to_owned(), "1.2.3.4".to_owned())],
        labels: vec![("l".to_owned(), "v".to_owned())],
        no_cache_filter: vec!["A".to_owned()],
        ..options()
    };
    let built = lowered_with(text, &given);
    let runs = execs(&built);
    assert_eq!((runs[0].network, runs[1].network), (NetworkMode::Host, NetworkMode::None));
    assert_eq!((runs[0].hostname.as_str(), runs[0].extra_hosts.len()), ("h", 1));
    assert_eq!(built.config.config.labels["l"], "v");
    let ignored = |l: &frontend::Lowered| -> Vec<String> {
        let vertices = l.definition.vertices().iter();
        vertices
            .filter(|v| v.meta.freshness == Freshness::Build)
            .map(|v| v.meta.name.clone())
            .collect()
    };
    assert_eq!(ignored(&built), ["[a 2/2] RUN one"]);
    let all = lowered_with(text, &LowerOptions { no_cache: true, ..options() });
    assert_eq!(ignored(&all).len(), 3);
    let target = LowerOptions { target: Some("A".to_owned()), ..options() };
    assert_eq!(lowered_with(text, &target).layers.len(), 1);
    let target = LowerOptions { target: Some("0".to_owned()), ..options() };
    assert_eq!(lowered_with(text, &target).target_stage, "a");
    let wrong = LowerOptions { target: Some("buidl".to_owned()), ..options() };
    let parsed = parse("Dockerfile", "FROM scratch AS build\n");
    let Err(LowerError::Target { suggestion, .. }) = lower(&parsed, &wrong, &Images::default())
    else {
        panic!()
    };
    assert_eq!(suggestion.as_deref(), Some("build"));
}

#[test]
fn the_epoch_is_an_argument() {
    let text = "ARG DAY=86400\nARG SOURCE_DATE_EPOCH=${DAY}\nFROM scratch\n";
    assert_eq!(lowered(text).source_date_epoch.as_deref(), Some("86400"));
    let mut given = options();
    given.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), String::new());
    assert_eq!(lowered_with(text, &given).source_date_epoch.as_deref(), Some(""));
    let inside = "FROM scratch\nARG SOURCE_DATE_EPOCH=1\n";
    assert_eq!(lowered(inside).source_date_epoch, None);
    given.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "context".to_owned());
    assert_eq!(lowered_with(inside, &given).source_date_epoch.as_deref(), Some("context"));
}

#[test]
fn scratch_is_empty() {
    let built = lowered("FROM scratch\nENV A=1\n");
    assert_eq!((built.result, built.layers.len(), built.base.is_none()), (None, 0, true));
    assert_eq!(built.config.config.working_dir, "/");
    assert!(built.config.config.env[0].starts_with("PATH=/usr/local/sbin:"));
    let copied = lowered("FROM scratch AS a\nFROM busybox\nCOPY --from=a x y\n");
    let CopySource::Input { input, .. } = copies(&copied).remove(0).source else { panic!() };
    assert_eq!(input, None);
}

#[test]
fn a_base_without_a_history_gets_one_per_layer() {
    let mut base = busybox();
    base.history.clear();
    base.rootfs.diff_ids.push(oci::Digest::of(b"second"));
    let images = Images::with("base", base);
    let built = lower(&parse("Dockerfile", "FROM base\nRUN x\n"), &options(), &images).unwrap();
    let layers = built.config.history.iter().filter(|h| !h.empty_layer).count();
    assert_eq!(layers, 3);
}

#[test]
fn the_environment_of_the_base_is_kept_in_order() {
    let mut base = busybox();
    base.config.env = vec!["B=1".into(), "PATH=/p".into(), "A".into()];
    base.config.working_dir = "/home/".into();
    base.config.user = "me".into();
    let images = Images::with("base", base);
    let text = "FROM base\nENV B=2 C=${B}\nWORKDIR x\nRUN y\n";
    let built = lower(&parse("Dockerfile", text), &options(), &images).unwrap();
    assert_eq!(built.config.config.env, ["B=2", "PATH=/p", "A=", "C=1"]);
    let run = &execs(&built)[0];
    assert_eq!((run.cwd.as_str(), run.user.as_str()), ("/home/x", "me"));
    let mut mkdirs = built.definition.vertices().iter().filter_map(|v| match &v.op {
        Op::File(file) => file.actions.first(),
        _ => None,
    });
    let FileAction::Mkdir(mkdir) = mkdirs.next_back().unwrap() else { panic!() };
    assert_eq!((mkdir.path.as_str(), mkdir.user.as_str(), mkdir.mode), ("/home/x", "me", 0o755));
}
