//! Wrong Dockerfiles: every error, with its place and advice.

mod support;

use frontend::{LowerError, lower, parse};
use support::{Images, errors, options};

#[test]
fn messages() {
    for (text, want) in [
        ("", "the Dockerfile is empty"),
        ("# only\n", "the Dockerfile has no instructions"),
        (
            "FROM a\nFNTRYPOINT x\n",
            "unknown instruction: FNTRYPOINT (did you mean \"ENTRYPOINT\"?)",
        ),
        ("FROM a\nCOPY --chwon=1 a b\n", "unknown flag: --chwon (did you mean \"--chown\"?)"),
        ("FROM a\nCOPY --link=yes a b\n", "--link is either true or false, not \"yes\""),
        ("FROM a\nCOPY --chown=1 --chown=2 a b\n", "duplicate flag: --chown"),
        ("FROM a\nCOPY --from a b\n", "missing a value on flag: --from"),
        ("RUN x\n", "no build stage in current context: RUN stands before FROM"),
        ("ARG X\n", "the Dockerfile has no FROM"),
        ("FROM a b\n", "FROM requires either one or three arguments"),
        ("FROM a AS 1x\n", "invalid name for a build stage: \"1x\""),
        ("FROM a\nENV x\n", "ENV must have two arguments (write x=VALUE)"),
        ("FROM a\nENV a=b c\n", "can't find \"=\" in \"c\""),
        ("FROM a\nCMD [1]\n", "only strings may stand in an array of arguments"),
        ("FROM a\nSHELL x\n", "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", "ONBUILD can not be chained: ONBUILD ONBUILD"),
        ("FROM a\nONBUILD from x\n", "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x\n", "--interval cannot be less than 1ms"),
        ("FROM a\nSTOPSIGNAL SIGX\n", "invalid signal: SIGX"),
        ("FROM a\nEXPOSE 80/icmp\n", "unknown protocol \"icmp\" (expected tcp, udp or sctp)"),
        ("FROM a\nCOPY --chmod=999 a b\n", "invalid mode \"999\" for --chmod"),
        ("FROM a\nCOPY a[ b\n", "invalid pattern \"a[\": a \"[\" has no \"]\""),
        ("FROM a\nCOPY --from=$x a b\n", "variable expansion is not supported for --from"),
        ("FROM a AS x\nCOPY --from=x a b\n", "circular dependency detected on stage \"x\""),
        ("FROM a\nCOPY --from=3 a b\n", "invalid stage index 3"),
        ("ARG E=\nFROM $E\n", "base name ($E) should not be blank"),
        ("ARG E=${F:?needed}\nFROM a\n", "F: needed"),
        ("FROM --platform=$NO a\n", "empty platform value from expression $NO"),
        ("FROM A-b:c:d\n", "failed to parse image name"),
        ("FROM a\nENV x=${y\n", "syntax error: missing '}'"),
        (
            "FROM a\nRUN --mount=type=cach,target=/x y\n",
            "unsupported mount type \"cach\" (did you mean \"cache\"?)",
        ),
        (
            "FROM a\nRUN --mount=type=cache,tagret=/x y\n",
            "unexpected key \"tagret\" in \"tagret=/x\" (did you mean \"target\"?)",
        ),
        (
            "FROM a\nRUN --mount=from=$x,target=/x y\n",
            "\"from\" doesn't support variable expansion",
        ),
        (
            "FROM a\nRUN --mount=type=tmpfs,target=/x,source=/s y\n",
            "\"source\" is not allowed for mounts of type tmpfs",
        ),
        (
            "FROM a\nRUN --mount=type=ssh,source=/s y\n",
            "\"source\" is not allowed for mounts of type ssh",
        ),
        (
            "FROM a\nRUN --mount=type=tmpfs,target=/x,mode=1 y\n",
            "\"mode\" is not allowed for mounts of type tmpfs",
        ),
        (
            "FROM a\nRUN --mount=type=cache,target=../.. y\n",
            "invalid mount target \"../..\": it is the root",
        ),
        (
            "FROM a\nRUN --network=host y\n",
            "RUN --network=host: network.host is not allowed (build with --allow network.host",
        ),
        ("FROM a\nRUN --security=insecure y\n", "security.insecure is not allowed"),
        (
            "FROM a\nRUN --network=hots y\n",
            "unsupported value \"hots\" for --network (did you mean \"host\"?)",
        ),
        (
            "FROM a\nRUN --ttl=24x y\n",
            "invalid age \"24x\" for --ttl (write a number with s, m, h, d or w",
        ),
        ("FROM a\nRUN --ttl= y\n", "invalid age \"\" for --ttl"),
        ("FROM a\nRUN --ttl y\n", "missing a value on flag: --ttl"),
        ("FROM a\nCOPY --ttl=1h x y\n", "unknown flag: --ttl"),
        ("FROM a\nADD --checksum=sha256:12 https://x/y /\n", "invalid checksum \"sha256:12\""),
        ("FROM a\nADD --checksum=sha256:12 x /\n", "requires HTTP(S) or git sources"),
        (
            "FROM a\nADD --checksum=1234567 https://x/y.git https://x/z.git /\n",
            "--checksum can't be specified for multiple sources",
        ),
        ("FROM a\nADD --checksum=xyz https://x/y.git /\n", "not a commit of a git repository"),
        ("FROM a\nCOPY a --chown=1 /b\n", "(flags come first: COPY --chown=1 …)"),
        ("FROM a\nCOPY [\"a\", \"/y\"\n", "there is the array form"),
        ("FROM a\nCOPY a \"/with space\"\n", "there is the array form"),
        ("FROM a\nCOPY https://x/y /\n", "the source can't be a URL for COPY"),
        ("# escape=x\nFROM a\n", "invalid escape character \"x\""),
        (
            "# syntax=docker/dockerfile\n# syntax=docker/dockerfile:1\nFROM a\n",
            "only one syntax parser directive can be used",
        ),
        ("# syntax=docker.io/other/frontend\nFROM a\n", "another frontend"),
        ("# check=skp=all\nFROM a\n", "unknown check option \"skp\""),
    ] {
        let found = errors(text);
        assert!(found.iter().any(|e| e.contains(want)), "{text}\nwant {want}\ngot {found:?}");
    }
}

fn errors_of_target(text: &str, target: &str) -> Vec<String> {
    let options = frontend::LowerOptions { target: Some(target.to_owned()), ..options() };
    support::errors_with(text, &options)
}

#[test]
fn stages_only_look_back() {
    let later = "FROM a AS x\nCOPY --from=y a b\nFROM a AS y\n";
    let found = errors_of_target(later, "x");
    assert!(found[0].contains("it needs to be defined before current stage \"x\""), "{found:?}");
    let circle = "FROM a AS x\nCOPY --from=y a b\nFROM x AS y\n";
    let found = errors_of_target(circle, "y");
    assert!(found[0].contains("circular dependency detected on stage \"x\""), "{found:?}");
}

#[test]
fn all_errors_are_reported_in_order() {
    let text = "FROM scratch\nRNU x\nCOPY a\nWORKDIR\nUSER\n";
    let parsed = parse("Dockerfile", text);
    let lines: Vec<usize> =
        parsed.diagnostics.iter().map(|d| parsed.source.line_of(d.span.start)).collect();
    assert_eq!(lines, [2, 3, 4, 5]);
}

#[test]
fn errors_of_all_kinds_are_reported_at_once() {
    // Of the language, of a value, of a stage, of a name that needs no image.
    let text = "FROM a AS x\nRNU x\nCOPY --chmod=9 a b\nFROM b\nCOPY --from=later a b\nRUN --network=host x\nFROM c AS later\n";
    let found = errors_of_target(text, "1");
    assert_eq!(found.len(), 3, "{found:?}");
    let found = errors_of_target(text, "x");
    assert_eq!(found.len(), 2, "{found:?}");
    // A base that cannot be had does not hide what is wrong above it.
    let found = errors("FROM a:b:c\nCOPY --chmod=9 a b\nSTOPSIGNAL NONE\n");
    assert_eq!(found.len(), 3, "{found:?}");
    let found = errors("FROM ${BASE}\nRUN x\n");
    assert_eq!(found.len(), 1, "{found:?}");
    // A malformed FROM may have been a stage's: what follows is not judged.
    let found = errors("FROM\nCOPY --chmod=9 a b\nFROM a\nSTOPSIGNAL NONE\n");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn triggers_are_for_those_who_build_on_the_image() {
    for text in ["ONBUILD bogus x", "ONBUILD COPY a", "ONBUILD RUN --flag=x y"] {
        let built = support::lowered(&format!("FROM scratch\n{text}\n"));
        assert_eq!(built.config.config.on_build, [&text["ONBUILD ".len()..]]);
        let found = errors(&format!("FROM scratch AS a\n{text}\nFROM a\n"));
        assert!(found[0].starts_with("in an ONBUILD trigger: "), "{found:?}");
    }
}

#[test]
fn a_build_argument_may_name_the_frontend() {
    let given = |value: &str| {
        let build_args = [("BUILDKIT_SYNTAX".to_owned(), value.to_owned())].into();
        frontend::LowerOptions { build_args, ..options() }
    };
    let foreign = "# syntax=docker.io/other/frontend\nFROM scratch\n";
    for own in ["dockerfile.v0", "docker/dockerfile:1.7-labs", "docker/dockerfile-upstream:master"]
    {
        support::lowered_with(foreign, &given(own));
    }
    let found = support::errors_with("FROM scratch\n", &given("other/frontend:1"));
    assert!(found[0].contains("BUILDKIT_SYNTAX=other/frontend:1"), "{found:?}");
    // In another language everything is wrong, and none of it matters.
    let found = errors("# syntax=docker.io/other/frontend\n{ \"image\": 1 }\n");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn spans_point_at_the_word() {
    let text = "FROM scratch\nCOPY --chown=1 \\\n  # note\n  --chwon=2 a b\n";
    let parsed = parse("Dockerfile", text);
    let span = parsed.diagnostics[0].span;
    assert_eq!(&text[span.start as usize..span.end as usize], "--chwon=2");
}

#[test]
fn stages_that_are_not_needed_may_be_impossible() {
    let text = "FROM missing AS x\nRUN --mount=type=cache,target=/c y\nFROM scratch\nENV a=b\n";
    let parsed = parse("Dockerfile", text);
    assert!(lower(&parsed, &options(), &Images::default()).is_ok());
    let parsed = parse("Dockerfile", "FROM scratch AS missing-base\nFROM mising-base\n");
    assert!(lower(&parsed, &options(), &Images::default()).is_ok());
    let parsed = parse("Dockerfile", "FROM scratch AS misisng\nFROM missing\n");
    let Err(LowerError::Resolve { span, reference, suggestion, .. }) =
        lower(&parsed, &options(), &Images::default())
    else {
        panic!()
    };
    assert_eq!((parsed.source.line_of(span.start), reference.as_str()), (2, "missing"));
    assert_eq!(suggestion.as_deref(), Some("misisng"));
}

fn warnings(text: &str) -> Vec<(&'static str, usize)> {
    let parsed = parse("Dockerfile", text);
    let lowered = lower(&parsed, &options(), &Images::default()).unwrap();
    let all = lowered.warnings.iter();
    let place = |d: &frontend::Diagnostic| (d.rule.unwrap(), parsed.source.line_of(d.span.start));
    all.map(place).collect()
}

#[test]
fn warnings_of_the_rules() {
    for (text, want) in [
        ("FROM a\nRUN x \\\n\ny\n", vec![("NoEmptyContinuation", 3)]),
        ("FROM a AS Bc\n", vec![("StageNameCasing", 1)]),
        ("FROM a as b\n", vec![("FromAsCasing", 1)]),
        ("FROM a\nenv a=b\n", vec![("ConsistentInstructionCasing", 2)]),
        ("FROM a AS b\nFROM a AS b\n", vec![("DuplicateStageName", 2)]),
        ("FROM a AS context\n", vec![("ReservedStageName", 1)]),
        ("FROM a\nMAINTAINER x\n", vec![("MaintainerDeprecated", 2)]),
        ("FROM a\nENV a b\n", vec![("LegacyKeyValueFormat", 2)]),
        ("FROM a\nCMD x\n", vec![("JSONArgsRecommended", 2)]),
        ("FROM a\nSHELL [\"s\"]\nCMD x\n", vec![]),
        ("FROM a\nWORKDIR x\nWORKDIR y\n", vec![("WorkdirRelativePath", 2)]),
        ("FROM a\nCMD []\nCMD []\n", vec![("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nENV a=$PAHT\n", vec![("UndefinedVar", 2)]),
        ("FROM a\nARG b\nENV a=$b\n", vec![]),
        ("FROM a$tag\n", vec![("UndefinedArgInFrom", 1)]),
        ("# check=skip=LegacyKeyValueFormat\nFROM a\nENV a b\n", vec![]),
        ("FROM a\n# check=skip=UndefinedVar\nENV a=$b\nENV c=$d\n", vec![("UndefinedVar", 4)]),
    ] {
        assert_eq!(warnings(text), want, "{text}");
    }
    let strict = "# check=error=true\nFROM a\nENV a b\n";
    assert!(lower(&parse("Dockerfile", strict), &options(), &Images::default()).is_err());
}

#[test]
fn known_frontends_are_this_one() {
    for name in [
        "docker/dockerfile:1",
        "docker/dockerfile-upstream:master-labs",
        "docker.io/docker/dockerfile:1.7-labs",
        "docker/dockerfile",
    ] {
        assert!(!parse("Dockerfile", &format!("#syntax={name}\nFROM scratch\n")).has_errors());
    }
}
