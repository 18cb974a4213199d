//! The checks: when each rule speaks, what it says, and how it is silenced.

mod support;

use std::collections::BTreeSet;

use frontend::lint::RULES;
use frontend::{
    Diagnostic, LowerError, LowerOptions, lower, lower_with_warnings, parse, parse_ignore,
};
use oci::Platform;
use support::{Images, busybox, options};

/// All warnings of a text, and whether it can be built.
fn check(text: &str, options: &LowerOptions, images: &Images) -> (Vec<Diagnostic>, bool) {
    let mut warnings = Vec::new();
    let done = lower_with_warnings(&parse("Dockerfile", text), options, images, &mut warnings);
    if let Ok(lowered) = &done {
        assert_eq!(lowered.warnings, warnings);
    }
    (warnings, done.is_ok())
}

/// What is told: rule, line, message.
fn told(text: &str, options: &LowerOptions, images: &Images) -> Vec<(&'static str, usize, String)> {
    let source = parse("Dockerfile", text).source;
    let (warnings, _) = check(text, options, images);
    let one = |w: Diagnostic| (w.rule.unwrap(), source.line_of(w.span.start), w.message);
    warnings.into_iter().map(one).collect()
}

fn given(args: &[(&str, &str)]) -> LowerOptions {
    let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    LowerOptions { build_args, ..options() }
}

fn ignoring(list: &str) -> LowerOptions {
    LowerOptions { ignore: parse_ignore(list).unwrap(), ..options() }
}

fn images() -> Images {
    let arm = |mut config: oci::ImageConfig| {
        config.platform = Platform::new("linux", "arm64", None);
        config
    };
    let mut images = Images::with("arm", arm(busybox()));
    images.images.insert(
        "empty".to_owned(),
        oci::ImageConfig::scratch(Platform::new("linux", "arm64", None)),
    );
    let mut triggers = busybox();
    triggers.config.on_build = vec!["ENV a b".to_owned(), "CMD x".to_owned()];
    images.images.insert("triggers".to_owned(), triggers);
    let mut shell = busybox();
    shell.config.shell = Some(vec!["bash".to_owned()]);
    images.images.insert("shell".to_owned(), shell);
    images
}

/// A case: a text, and what is told (rule, line, a part of the message).
type Case = (&'static str, &'static [(&'static str, usize, &'static str)]);

const STAGES: &[Case] = &[
    ("FROM a AS Bc\n", &[("StageNameCasing", 1, "Stage name 'Bc' should be lowercase")]),
    ("FROM a AS b-1\n", &[]),
    ("FROM a as b\n", &[("FromAsCasing", 1, "'as' and 'FROM' keywords' casing do not match")]),
    ("from a AS b\n", &[("FromAsCasing", 1, "'AS' and 'from' keywords' casing do not match")]),
    ("FROM a AS b\n", &[]),
    // Another rule tells of it.
    ("From a as b\n", &[("ConsistentInstructionCasing", 1, "'From'")]),
    (
        "FROM a AS b\nFROM a AS B\nFROM b\n",
        &[
            ("StageNameCasing", 2, "'B'"),
            ("DuplicateStageName", 2, "Duplicate stage name \"b\", stage names should be unique"),
        ],
    ),
    (
        "FROM a AS scratch\nFROM a AS context\n",
        &[
            ("ReservedStageName", 1, "the same name as reserved stage \"scratch\""),
            ("ReservedStageName", 2, "\"context\""),
        ],
    ),
    (
        "ARG tag=1\nFROM a:$tga\n",
        &[
            ("InvalidDefaultArgInFrom", 2, "a:$tga"),
            ("UndefinedArgInFrom", 2, "FROM argument 'tga' is not declared (did you mean tag?)"),
        ],
    ),
    ("ARG tag\nFROM a:${tag:-1}\n", &[]),
    ("FROM --platform=$BUILDPLATFORM a$TARGETARCH\n", &[]),
    (
        "FROM --platform=$TARGETPLATFORM a\n",
        &[(
            "RedundantTargetPlatform",
            1,
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant",
        )],
    ),
    (
        "FROM --platform=${TARGETPLATFORM} a\n",
        &[("RedundantTargetPlatform", 1, "${TARGETPLATFORM}")],
    ),
    ("FROM --platform=$TARGETOS/$TARGETARCH a\n", &[]),
    ("ARG p=linux/amd64\nFROM --platform=$p a\n", &[]),
    ("FROM --platform=linux/${TARGETPLATFORM#linux/} a\n", &[("RedundantTargetPlatform", 1, "")]),
    (
        "FROM --platform=linux/amd64 a\n",
        &[("FromPlatformFlagConstDisallowed", 1, "should not use constant value \"linux/amd64\"")],
    ),
    ("FROM --platform=linux/amd64 a AS build_amd64\nFROM --platform=linux/amd64 a AS linux\n", &[]),
    (
        "FROM --platform=linux/amd64 a AS build\n",
        &[("FromPlatformFlagConstDisallowed", 1, "constant")],
    ),
    (
        "ARG name\nFROM busybox:$name\n",
        &[(
            "InvalidDefaultArgInFrom",
            2,
            "Default value for ARG busybox:$name results in empty or invalid base image name",
        )],
    ),
    (
        "ARG name=1\nFROM busybox:$name\nFROM busybox${missing:+:}\n",
        &[("UndefinedArgInFrom", 3, "'missing'")],
    ),
    ("ARG name\nFROM busybox:${name:?}\nFROM busybox:$name\n", &[]),
    (
        "FROM arm\n",
        &[(
            "InvalidBaseImagePlatform",
            1,
            "Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\"",
        )],
    ),
    ("FROM a\nCOPY --from=arm x y\n", &[("InvalidBaseImagePlatform", 2, "arm")]),
    ("FROM empty\n", &[]),
];

const STYLE: &[Case] = &[
    ("FROM a\nRUN x \\\n\n\ny\n", &[("NoEmptyContinuation", 3, "Empty continuation line")]),
    ("FROM a\nRUN x \\\n# y\ny\n", &[]),
    (
        "FROM a\nenv a=b\n",
        &[(
            "ConsistentInstructionCasing",
            2,
            "Command 'env' should match the case of the command majority (uppercase)",
        )],
    ),
    (
        "from a\nENV a=b\nuser b\n",
        &[(
            "ConsistentInstructionCasing",
            2,
            "'ENV' should match the case of the command majority (lowercase)",
        )],
    ),
    (
        "FROM a\nEnv a=b\nUser b\n",
        &[
            ("ConsistentInstructionCasing", 2, "'Env'"),
            ("ConsistentInstructionCasing", 3, "'User'"),
        ],
    ),
    // What stands before the first FROM does not count.
    ("arg a\narg b\nFROM a\nUSER b\n", &[]),
    (
        "FROM a\nMAINTAINER x\n",
        &[(
            "MaintainerDeprecated",
            2,
            "Maintainer instruction is deprecated in favor of using label",
        )],
    ),
    (
        "FROM a\nLABEL a b\n",
        &[(
            "LegacyKeyValueFormat",
            2,
            "\"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format",
        )],
    ),
    ("FROM a\nENV a b\n", &[("LegacyKeyValueFormat", 2, "\"ENV key=value\"")]),
    ("FROM a\nENV a=b c=d\nONBUILD ENV a b\n", &[]),
    // Instructions of stages that are not built tell nothing.
    ("FROM a AS b\nENV a b\nFROM a\n", &[]),
    (
        "FROM a\nCMD x\n",
        &[(
            "JSONArgsRecommended",
            2,
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        )],
    ),
    ("FROM a\nENTRYPOINT x\n", &[("JSONArgsRecommended", 2, "for ENTRYPOINT")]),
    ("FROM a\nSHELL [\"s\"]\nCMD x\nFROM shell\nCMD x\n", &[]),
    ("FROM a\nCMD [\"x\"]\nHEALTHCHECK CMD x\n", &[]),
    (
        "FROM a\nWORKDIR x\nWORKDIR y\n",
        &[(
            "WorkdirRelativePath",
            2,
            "Relative workdir \"x\" can have unexpected results if the base image changes",
        )],
    ),
    ("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n", &[]),
    (
        "FROM a\nCMD []\nRUN x\nCMD []\nCMD []\n",
        &[
            (
                "MultipleInstructionsDisallowed",
                2,
                "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ),
            ("MultipleInstructionsDisallowed", 4, "CMD"),
        ],
    ),
    ("FROM a AS b\nCMD []\nFROM b\nCMD []\n", &[]),
    (
        "FROM a\nENTRYPOINT []\nENTRYPOINT []\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n",
        &[
            ("MultipleInstructionsDisallowed", 2, "ENTRYPOINT"),
            ("MultipleInstructionsDisallowed", 4, "HEALTHCHECK"),
        ],
    ),
    // Triggers of a base image are told at the FROM.
    (
        "FROM triggers\nCMD []\n",
        &[
            ("MultipleInstructionsDisallowed", 1, "CMD"),
            ("LegacyKeyValueFormat", 1, "ENV"),
            ("JSONArgsRecommended", 1, "CMD"),
        ],
    ),
];

const VALUES: &[Case] = &[
    (
        "FROM a\nENV a=$PAHT\n",
        &[("UndefinedVar", 2, "Usage of undefined variable '$PAHT' (did you mean $PATH?)")],
    ),
    ("FROM a\nARG b\nENV a=$b c=${PATH} d=${e:-x}\n", &[("UndefinedVar", 3, "'$e'")]),
    ("FROM a\nENV a=$b c=$b\n", &[("UndefinedVar", 2, "'$b'"), ("UndefinedVar", 2, "'$b'")]),
    ("FROM a\nRUN --mount=type=cache,target=$x y\n", &[("UndefinedVar", 2, "'$x'")]),
    ("FROM a\nRUN $x\nCMD [\"$x\"]\nHEALTHCHECK CMD $x\n", &[]),
    (
        "FROM a\nARG b=$c\nCOPY $d /\nUSER $e\n",
        &[("UndefinedVar", 2, ""), ("UndefinedVar", 3, ""), ("UndefinedVar", 4, "")],
    ),
    (
        "FROM a\nARG API_KEY\nENV DB_PASSWORD=x PUBLIC_KEY=y KEYBOARD=z TOKEN_FILE=t\n",
        &[
            (
                "SecretsUsedInArgOrEnv",
                2,
                "Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
            ),
            ("SecretsUsedInArgOrEnv", 3, "(ENV \"DB_PASSWORD\")"),
        ],
    ),
    // An argument of FROM is in no image.
    ("ARG TOKEN=x\nFROM a:$TOKEN\n", &[]),
    ("FROM a\nARG n=AUTH\nENV ${n}_TOKEN=1\n", &[("SecretsUsedInArgOrEnv", 3, "AUTH_TOKEN")]),
    (
        "FROM a\nEXPOSE 80/TCP 81/tcp\n",
        &[(
            "ExposeProtoCasing",
            2,
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        )],
    ),
    (
        "FROM a\nEXPOSE 80 127.0.0.1:80:80 5000-5005:5000-5005 [::1]:1:2/Udp\n",
        &[
            (
                "ExposeInvalidFormat",
                2,
                "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            ),
            ("ExposeInvalidFormat", 2, "'5000-5005:5000-5005'"),
            ("ExposeProtoCasing", 2, "'[::1]:1:2/Udp'"),
            ("ExposeInvalidFormat", 2, ""),
        ],
    ),
    ("FROM a\nEXPOSE :80 90-91/udp\n", &[]),
];

#[test]
fn when_the_rules_speak() {
    let images = images();
    let mut seen = BTreeSet::new();
    for (text, want) in STAGES.iter().chain(STYLE).chain(VALUES) {
        let found = told(text, &options(), &images);
        let places: Vec<_> = found.iter().map(|(rule, line, _)| (*rule, *line)).collect();
        let wanted: Vec<_> = want.iter().map(|(rule, line, _)| (*rule, *line)).collect();
        assert_eq!(places, wanted, "{text}\n{found:?}");
        for ((rule, _, message), (_, _, part)) in found.iter().zip(*want) {
            assert!(message.contains(part), "{text}\n{rule}: {message}");
            seen.insert(*rule);
        }
    }
    seen.extend(["CopyIgnoredFile", "InvalidDefinitionDescription"]);
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(seen, all);
}

#[test]
fn ignored_files() {
    let text = "FROM a AS b\nFROM a\nCOPY app.txt /dir/x ./src/./a https\\:x /\nADD app.txt http://h/app.txt /\n\
        COPY --from=b app.txt /\nCOPY *.txt . /app.txt /\nCOPY <<app.txt /\nx\napp.txt\n";
    let found = |list: &str| -> Vec<(usize, String)> {
        let all = told(text, &ignoring(list), &Images::default());
        assert!(all.iter().all(|(rule, ..)| *rule == "CopyIgnoredFile"), "{all:?}");
        all.into_iter().map(|(_, line, message)| (line, message)).collect()
    };
    assert_eq!(
        found("app.txt\nsrc\n"),
        [
            (3, "Attempting to Copy file \"app.txt\" that is excluded by .dockerignore".to_owned()),
            (3, "Attempting to Copy file \"src/a\" that is excluded by .dockerignore".to_owned()),
            (4, "Attempting to Add file \"app.txt\" that is excluded by .dockerignore".to_owned()),
            (6, "Attempting to Copy file \"app.txt\" that is excluded by .dockerignore".to_owned()),
        ]
    );
    assert_eq!(found("dir/*\n").len(), 1);
    assert!(found("other\n").is_empty());
    assert!(found("app.txt\n!src\n").is_empty());
    assert!(found("").is_empty());
}

#[test]
fn descriptions() {
    const ON: &str = "# check=experimental=InvalidDefinitionDescription;skip=StageNameCasing\n";
    let cases = [
        (
            "# other words\nFROM a AS b\n",
            Some("Comment for FROM should follow the format: `# b <description>`"),
        ),
        ("# b builds\nFROM a AS b\n", None),
        ("# b builds\n# check=skip=X\nFROM a AS b\n", None),
        ("# other\n# check=skip=X\nFROM a AS b\n", Some("FROM")),
        ("# B builds\nFROM a AS B\n", Some("`# b <description>`")),
        ("# other words\nFROM a\n", None),
        ("# other words\n\nFROM a AS b\n", None),
        ("# other words\n#\nFROM a AS b\n", None),
        ("# b builds\n# much\nFROM a AS b\n", Some("FROM")),
        (
            "# version of it\nARG v=1\nFROM a\n",
            Some("Comment for ARG should follow the format: `# v <description>`"),
        ),
        ("# other\nARG v=1 w=2\nFROM a\n", Some("`# <arg_key> <description>`")),
        ("# w too\nARG v=1 w=2\nFROM a\n", None),
        ("FROM a\n# check=skip=UndefinedVar\nARG v=1\n", None),
        ("FROM a\n# anything\nENV v=1\n", None),
    ];
    for (text, want) in cases {
        // An empty line after the directive: it is no description.
        let found = told(&format!("{ON}\n{text}"), &options(), &Images::default());
        let messages: Vec<&str> = found.iter().map(|(_, _, m)| m.as_str()).collect();
        assert_eq!(messages.len(), usize::from(want.is_some()), "{text}: {messages:?}");
        assert!(want.is_none_or(|want| messages[0].contains(want)), "{text}: {messages:?}");
        let silent = told(text, &options(), &Images::default());
        assert!(silent.iter().all(|(rule, ..)| *rule == "StageNameCasing"), "{text}");
    }
    let wrong = "# other words\nFROM a AS b\n";
    let on = [
        "experimental=all",
        "skip=all;experimental=all",
        "experimental=X,InvalidDefinitionDescription",
    ];
    for value in on {
        let options = given(&[("BUILDKIT_DOCKERFILE_CHECK", value)]);
        assert_eq!(told(wrong, &options, &Images::default()).len(), 1, "{value}");
    }
    let own = "# check=experimental=all\n# other words\nFROM a AS b\n# x\nARG c\n";
    assert_eq!(told(&format!("FROM x\n{own}"), &options(), &Images::default()).len(), 1);
}

#[test]
fn rules_can_be_silenced() {
    let rest = "FROM a AS B\nENV a b\nENV c=$d\n";
    let rules = |text: &str, options: &LowerOptions| -> Vec<&'static str> {
        told(text, options, &Images::default()).into_iter().map(|(rule, ..)| rule).collect()
    };
    let all = ["StageNameCasing", "LegacyKeyValueFormat", "UndefinedVar"];
    assert_eq!(rules(rest, &options()), all);
    for (directive, want) in [
        ("skip=StageNameCasing", &all[1..]),
        ("skip=StageNameCasing, UndefinedVar", &all[1..2]),
        ("skip=all", &[]),
        ("skip=stagenamecasing", &all),
        ("error=false;skip=UndefinedVar", &all[..2]),
        ("experimental=all", &all),
    ] {
        let text = format!("# check={directive}\n{rest}");
        assert_eq!(rules(&text, &options()), want, "{directive}");
        // The build argument takes the same, and replaces the directive.
        let options = given(&[("BUILDKIT_DOCKERFILE_CHECK", directive)]);
        for other in ["", "# check=skip=LegacyKeyValueFormat\n", "# check=error=true\n"] {
            assert_eq!(rules(&format!("{other}\n{rest}"), &options), want, "{directive}");
            assert!(check(&format!("{other}{rest}"), &options, &Images::default()).1);
        }
    }
    let empty = given(&[("BUILDKIT_DOCKERFILE_CHECK", "")]);
    assert_eq!(rules(&format!("# check=skip=all;error=true\n\n{rest}"), &empty), all);
    // A comment silences the instruction below it, and no other one.
    let text = "FROM a\n# check=skip=UndefinedVar\n# more\nENV a=$b\nENV c=$d\n# Check = skip=all\nCMD x\n\
        # check=skip=all\n\nENV e=$f\n# check=skip=all\n#\nENV e=$f\n# check=nonsense\nENV e=$f\n";
    let lines: Vec<usize> =
        told(text, &options(), &Images::default()).into_iter().map(|(_, line, _)| line).collect();
    assert_eq!(lines, [5, 10, 13, 15]);
    let text = "# check=skip=UndefinedVar\nFROM a\n# check=skip=LegacyKeyValueFormat\nENV a $b\n";
    assert!(rules(text, &options()).is_empty());
}

#[test]
fn warnings_can_fail_the_build() {
    let text = "# check=error=true\nFROM a\nENV a b\nENV c=$d\n";
    let parsed = parse("Dockerfile", text);
    let images = Images::default();
    let Err(LowerError::Diagnostics(errors)) = lower(&parsed, &options(), &images) else {
        panic!()
    };
    assert_eq!(
        errors[0].message,
        "lint violation found for rules: LegacyKeyValueFormat, UndefinedVar"
    );
    assert_eq!(parsed.source.line_of(errors[0].span.start), 1);
    assert_eq!(check(text, &options(), &images).0.len(), 2);
    for fine in [
        "# check=error=true\nFROM a\n",
        "# check=error=true;skip=all\nFROM a\nENV a b\n",
        "FROM a\n# check=error=true\nENV a b\n",
    ] {
        assert!(check(fine, &options(), &images).1, "{fine}");
    }
    let strict = given(&[("BUILDKIT_DOCKERFILE_CHECK", "error=true")]);
    let parsed = parse("Dockerfile", "FROM a\nENV a b\n");
    let Err(error) = lower(&parsed, &strict, &images) else { panic!() };
    assert_eq!(error.to_string(), "lint violation found for rules: LegacyKeyValueFormat");
    let wrong = given(&[("BUILDKIT_DOCKERFILE_CHECK", "skip")]);
    let error = lower(&parsed, &wrong, &images).unwrap_err().to_string();
    assert!(error.contains("BUILDKIT_DOCKERFILE_CHECK=skip"), "{error}");
}

#[test]
fn warnings_survive_errors() {
    for (text, want) in [
        ("FROM a AS B\nRUNN x\n", vec!["StageNameCasing"]),
        ("FROM missing AS B\nENV a=$b\n", vec!["StageNameCasing"]),
        ("FROM a AS B\nENV a=$b\nSTOPSIGNAL x\n", vec!["StageNameCasing", "UndefinedVar"]),
    ] {
        let (warnings, done) = check(text, &options(), &Images::default());
        let rules: Vec<_> = warnings.iter().filter_map(|w| w.rule).collect();
        assert!(!done && rules == want, "{text}: {rules:?}");
    }
}

#[test]
fn all_stages_on_demand() {
    let text = "FROM a AS b\nENV a b\nFROM x AS c\nENV a=$b\nFROM scratch\n";
    let images = Images::default();
    assert!(told(text, &options(), &images).is_empty());
    assert!(images.asked.borrow().is_empty());
    let all = LowerOptions { all_stages: true, ..options() };
    let rules: Vec<_> = told(text, &all, &images).into_iter().map(|(rule, ..)| rule).collect();
    assert_eq!(rules, ["LegacyKeyValueFormat", "UndefinedVar"]);
    assert_eq!(images.asked.borrow().len(), 2);
    let target = LowerOptions { target: Some("b".to_owned()), ..options() };
    let rules: Vec<_> = told(text, &target, &images).into_iter().map(|(rule, ..)| rule).collect();
    assert_eq!(rules, ["LegacyKeyValueFormat"]);
}
