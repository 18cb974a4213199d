//! `--check` and the other calls: what they tell, in which form, and with which status.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::base_image::{BaseImage, TarBuilder};
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::http_server::{HttpServer, Page};
use tests::registry_server::RegistryServer;
use tests::{require_programs, require_root};

/// Every line of it is doubtful in another way.
const DOUBTFUL: &str = "\
# check=skip=SecretsUsedInArgOrEnv
FROM scratch AS Base
ENV TOKEN x
MAINTAINER me
CMD x
FROM scratch as last
EXPOSE 127.0.0.1:80:80/TCP
COPY secret.txt $NAME/
";

const RULES: [&str; 9] = [
    "StageNameCasing",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "JSONArgsRecommended",
    "FromAsCasing",
    "ExposeProtoCasing",
    "ExposeInvalidFormat",
    "CopyIgnoredFile",
    "UndefinedVar",
];

fn doubtful() -> Context {
    Context::new(DOUBTFUL).file(".dockerignore", "secret.txt\n").file("secret.txt", "s")
}

fn check(drydock: &Drydock, context: &Context) -> Run {
    drydock.bare_build(context).arg("--check")
}

/// The rules that were told, in the order of the text.
fn rules(output: &Output) -> Vec<String> {
    let lines = output.text();
    let names = lines.lines().filter_map(|line| line.strip_prefix("WARNING: "));
    names.map(|name| name.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn json(run: Run) -> (Value, Output) {
    let output = run.output();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
    (json, output)
}

fn names(json: &Value) -> Vec<&str> {
    let warnings = json["warnings"].as_array().unwrap();
    warnings.iter().map(|w| w["ruleName"].as_str().unwrap()).collect()
}

#[test]
fn warnings_as_text_and_as_json() {
    let drydock = Drydock::new();
    let context = doubtful();
    let output = check(&drydock, &context).output();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert_eq!(rules(&output), RULES, "{output}");
    let text = output.text();
    for part in [
        "Check complete, 9 warnings have been found!\n\nWARNING: StageNameCasing - \
         https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
         Stage name 'Base' should be lowercase\nDockerfile:2\n--------------------\n   1 | ",
        "Usage of undefined variable '$NAME'\nDockerfile:8\n--------------------\n",
        "   8 | >>> COPY secret.txt $NAME/\n",
        "Attempting to Copy file \"secret.txt\" that is excluded by .dockerignore\nDockerfile:8\n",
        "help: line 1 of .dockerignore excludes it\n",
    ] {
        assert!(text.contains(part), "{part}\n{output}");
    }
    assert!(!output.stderr.contains("ERROR"), "{output}");

    let (json, output) = json(drydock.bare_build(&context).arg("--call=check,format=json"));
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert_eq!(names(&json), RULES);
    let first = &json["warnings"][0];
    assert_eq!(first["detail"], "Stage name 'Base' should be lowercase");
    assert_eq!(first["location"]["sourceIndex"], 0);
    assert_eq!(first["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    assert!(json.get("buildError").is_none());

    let quiet = drydock.bare_build(&context).args(["-q", "--check"]).output();
    assert_eq!((quiet.stderr.as_str(), quiet.status.code()), ("", Some(1)), "{quiet}");
    drydock.bare_build(&context).arg("--call=lint,ignorestatus=true").ok();
    // Nothing was asked of anybody, so nothing is kept.
    assert!(!drydock.state().exists());
}

#[test]
fn nothing_to_complain_of() {
    let drydock = Drydock::new();
    let fine = Context::new("FROM scratch\nCOPY a /\n").file("a", "");
    let output = check(&drydock, &fine).ok();
    assert_eq!(output.text(), "Check complete, no warnings found.");
    let (json, output) = json(drydock.bare_build(&fine).arg("--call=check,format=json"));
    assert!(output.status.success() && names(&json).is_empty(), "{output}");
    assert!(json["warnings"].is_array());
}

#[test]
fn warnings_are_silenced_in_three_ways() {
    let drydock = Drydock::new();
    let all = "skip=UndefinedVar,StageNameCasing";
    let text = |top: &str, own: &str| {
        Context::new(&format!("{top}\nFROM scratch AS Base\n{own}ENV A=$B\nENV C d\n"))
    };
    let left = |run: Run| rules(&run.output());
    assert_eq!(left(check(&drydock, &text("", ""))).len(), 3);
    let directive = text(&format!("# check={all}"), "");
    assert_eq!(left(check(&drydock, &directive)), ["LegacyKeyValueFormat"]);
    let given = format!("BUILDKIT_DOCKERFILE_CHECK={all}");
    let argument = check(&drydock, &text("# check=error=true", "")).args(["--build-arg", &given]);
    assert_eq!(left(argument), ["LegacyKeyValueFormat"]);
    let comment = text("", &format!("# check={all}\n"));
    assert_eq!(left(check(&drydock, &comment)), ["StageNameCasing", "LegacyKeyValueFormat"]);
    check(&drydock, &text("# check=skip=all", "")).ok();
    let wrong = check(&drydock, &text("", "")).args(["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=x"]);
    assert!(wrong.fails().stderr.contains("BUILDKIT_DOCKERFILE_CHECK=x"));
}

#[test]
fn all_stages_unless_one_is_named() {
    let drydock = Drydock::new();
    let base = BaseImage::layout().display();
    let context = Context::new(
        "FROM busybox AS one\nENV a b\nFROM scratch AS two\nENV a=$b\nFROM scratch\nRUN false\n",
    );
    let run = || {
        check(&drydock, &context).arg(format!("--build-context=busybox=oci-layout://{base}:latest"))
    };
    assert_eq!(rules(&run().output()), ["LegacyKeyValueFormat", "UndefinedVar"]);
    assert_eq!(rules(&run().arg("--target=two").output()), ["UndefinedVar"]);
    run().arg("--target=2").ok();
    let output = run().arg("--target=tow").fails();
    assert!(output.stderr.contains("did you mean \"two\""), "{output}");
}

#[test]
fn errors_are_told_with_the_warnings_before_them() {
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch AS A\nENV x=$y\nRUNN x\nSTOPSIGNAL nonsense\n");
    let output = check(&drydock, &context).fails();
    assert_eq!(rules(&output), ["StageNameCasing"], "{output}");
    for part in
        ["unknown instruction: RUNN", "did you mean \"RUN\"", "invalid signal", "1 more error"]
    {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    assert!(output.stderr.lines().last().unwrap().starts_with("ERROR: "), "{output}");
    let (json, output) = json(drydock.bare_build(&context).arg("--call=check,format=json"));
    assert_eq!((output.status.code(), names(&json)), (Some(1), vec!["StageNameCasing"]));
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 3);

    let strict = Context::new("# check=error=true\nFROM scratch\nENV a b\n");
    let output = check(&drydock, &strict).fails();
    assert_eq!(rules(&output), ["LegacyKeyValueFormat"], "{output}");
    let message = "lint violation found for rules: LegacyKeyValueFormat";
    assert!(output.stderr.contains(message), "{output}");
    let empty = check(&drydock, &Context::empty()).fails();
    assert!(empty.stdout.is_empty() && empty.stderr.contains("no Dockerfile"), "{empty}");
    // A missing image: it is looked for, though nothing is built.
    let missing = Context::new("FROM localhost:1/missing AS A\n");
    let output = check(&drydock, &missing).fails();
    assert_eq!(rules(&output), ["StageNameCasing"], "{output}");
    assert!(output.stderr.contains("localhost:1/missing"), "{output}");
}

#[test]
fn dockerfiles_from_elsewhere() {
    let drydock = Drydock::new();
    let context = Context::empty()
        .file("x/Other", "FROM scratch\nCOPY a $B/\n")
        .file("x/Other.dockerignore", "a\n");
    let file = context.join("x/Other");
    let run = drydock.bare_build(&context).arg("--check").arg("-f").arg(&file);
    let output = run.output();
    assert_eq!(rules(&output), ["CopyIgnoredFile", "UndefinedVar"], "{output}");
    assert!(output.text().contains("\nOther:2\n"), "{output}");
    let text = "FROM scratch\nENV a b\n";
    let stdin = drydock.command("build").args(["--check", "-"]).stdin(text);
    assert_eq!(rules(&stdin.output()), ["LegacyKeyValueFormat"]);
    let run = drydock.bare_build(&context).args(["--check", "-f", "-"]).stdin(text);
    assert_eq!(rules(&run.output()), ["LegacyKeyValueFormat"]);
}

#[test]
fn dockerfiles_behind_urls() {
    let drydock = Drydock::new();
    let server = HttpServer::start();
    let text = "# a  makes it\nFROM scratch AS a\nENV a b\n";
    server.put("/Dockerfile", Page::new(text));
    let call = |what: &str| {
        let run = drydock.command("build").args(["--progress=plain", what]);
        run.arg(server.url("/Dockerfile")).output()
    };
    assert_eq!(rules(&call("--check")), ["LegacyKeyValueFormat"]);
    assert!(call("--call=targets").text().contains("a (default) makes it"));
    assert!(call("--call=outline").text().contains("DESCRIPTION: makes it"));
    let context = Context::empty().file(".dockerignore", "x\n");
    server.put("/copy", Page::new("FROM scratch\nCOPY x /\n"));
    let run = drydock.bare_build(&context).args(["--check", "-f", &server.url("/copy")]);
    assert_eq!(rules(&run.output()), ["CopyIgnoredFile"]);
    let output = drydock.command("build").args(["--check", &server.url("/none")]).fails();
    assert!(output.stderr.contains("404"), "{output}");
}

#[test]
fn privileged_dockerfiles_in_archives() {
    require_root!();
    let drydock = Drydock::new();
    let tar = TarBuilder::new().file("Dockerfile", 0o644, "FROM scratch\nENV a b\n").finish();
    let server = HttpServer::start();
    server.put("/c.tar", Page::new(tar.clone()));
    let run = || drydock.command("build").args(["--progress=plain", "--check"]);
    assert_eq!(rules(&run().arg("-").stdin(tar).output()), ["LegacyKeyValueFormat"]);
    assert_eq!(rules(&run().arg(server.url("/c.tar")).output()), ["LegacyKeyValueFormat"]);
}

#[test]
fn stages_and_what_they_take() {
    let drydock = Drydock::new();
    let context = Context::new(
        "# VERSION picks one\nARG VERSION=1\n\n# base has all\nFROM scratch AS base\nARG VERSION\n\
         RUN --mount=type=secret,id=token,required=true x\n\n# app is the program\nFROM base AS app\n\
         ARG MODE=fast\n",
    );
    let call = |what: &str| drydock.bare_build(&context).arg(format!("--call={what}"));
    assert_eq!(
        call("targets").ok().text(),
        "TARGET        DESCRIPTION\nbase          has all\napp (default) is the program"
    );
    let (targets, _) = json(call("targets,format=json"));
    assert_eq!(targets["targets"][1]["default"], true);
    assert_eq!(
        (&targets["targets"][0]["base"], &targets["targets"][0]["name"]),
        (&"scratch".into(), &"base".into())
    );
    assert_eq!(
        call("outline").args(["--build-arg", "MODE=slow"]).ok().text(),
        "TARGET:      app\nDESCRIPTION: is the program\n\nBUILD ARG   VALUE   DESCRIPTION\n\
         VERSION     1       picks one\nMODE        slow\n\nSECRET   REQUIRED\ntoken    true"
    );
    let (outline, _) = json(call("outline,format=json").arg("--target=base"));
    assert_eq!((&outline["name"], &outline["description"]), (&"base".into(), &"has all".into()));
    assert_eq!(outline["args"].as_array().map(Vec::len), Some(1));
    assert_eq!(outline["args"][0]["location"]["ranges"][0]["start"]["line"], 2);
    assert_eq!(
        (&outline["secrets"][0]["name"], &outline["secrets"][0]["required"]),
        (&"token".into(), &true.into())
    );
    let calls = call("subrequests.describe").ok().text();
    for name in ["check", "outline", "targets", "ignore", "subrequests.describe"] {
        assert!(calls.contains(&format!("\n{name} ")), "{name}: {calls}");
    }
    let (calls, _) = json(call("subrequests.describe,format=json"));
    assert_eq!(calls[0]["name"], "frontend.lint");
    let broken = Context::new("FROM scratch AS a\nRUNN\n");
    for what in ["targets", "outline"] {
        let output = drydock.bare_build(&broken).arg(format!("--call={what}")).fails();
        assert!(output.stdout.is_empty() && output.stderr.contains("RUNN"), "{output}");
    }
    assert!(!drydock.state().exists());
    for wrong in ["--call=chekc", "--call=check,format=xml"] {
        drydock.bare_build(&context).arg(wrong).fails();
    }
}

#[test]
fn an_image_of_another_platform() {
    if !RegistryServer::available() {
        tests::skip::say(module_path!(), "docker-registry is not installed");
        return;
    }
    let server = RegistryServer::start().unwrap();
    let base = BaseImage::get();
    let mut config: Value = serde_json::from_slice(&base.config).unwrap();
    config["architecture"] = "s390x".into();
    let layer = (oci::media_type::OCI_LAYER_GZIP, base.layer.as_slice());
    server.seed("odd", "1", config.to_string().as_bytes(), &[layer]).unwrap();
    let drydock = Drydock::new();
    let context = Context::new(&format!("FROM {}/odd:1\n", server.address()));
    for _ in 0..2 {
        let output = check(&drydock, &context).output();
        assert_eq!(rules(&output), ["InvalidBaseImagePlatform"], "{output}");
        let wanted = oci::Platform::host();
        let message = format!("was pulled with platform \"linux/s390x\", expected \"{wanted}\"");
        assert!(output.text().contains(&message), "{output}");
    }
}

#[test]
fn privileged_an_ordinary_user_may_check() {
    require_root!();
    require_programs!("setpriv");
    // Where every user may go; the other temporary directories are in the target directory.
    let place = tempfile::Builder::new().prefix("drydock-").tempdir().unwrap();
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(place.path(), 0o777);
    let binary = place.path().join("drydock");
    fs::copy(tests::binary::drydock(), &binary).unwrap();
    BaseImage::get().write_layout(&place.path().join("base"));
    let context = place.path().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM busybox AS A\nRUN x\n").unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.arg("build").args(args).arg(&context).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", place.path());
        let base = place.path().join("base");
        command.arg(format!("--build-context=busybox=oci-layout://{}:latest", base.display()));
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (status, text) = run(&["--check"]);
    assert!(status == Some(1) && text.contains("WARNING: StageNameCasing"), "{text}");
    let (status, text) = run(&["--call=outline"]);
    assert!(status == Some(0) && text.contains("TARGET: a"), "{text}");
    let (status, text) = run(&["--call=targets"]);
    assert!(status == Some(0) && text.contains("a (default)"), "{text}");
}

#[test]
fn privileged_warnings_end_every_build() {
    require_root!();
    let drydock = Drydock::new();
    let listed = |output: &Output| {
        let (_, list) = output.stderr.split_once("warnings found:").expect("a list of warnings");
        for rule in ["StageNameCasing", "LegacyKeyValueFormat"] {
            assert!(list.contains(&format!(" - {rule}: ")), "{rule}: {output}");
            assert_eq!(output.stderr.matches(rule).count(), 1, "{rule}: {output}");
        }
        assert!(list.contains("(line 2)"), "{output}");
    };
    let good = Context::new("FROM busybox AS A\nENV a b\nRUN true\n");
    listed(&drydock.build(&good).ok());
    let again = drydock.build(&good).ok();
    assert!(again.executed().is_empty(), "{again}");
    listed(&again);
    for end in ["RUN false\n", "FROM localhost:1/missing\n", "RUNN x\nENV c d\n"] {
        let bad = Context::new(&format!("FROM busybox AS A\nMAINTAINER x\n{end}"));
        let output = drydock.build(&bad).fails();
        let (_, list) = output.stderr.split_once("warnings found:").expect("a list of warnings");
        assert!(list.contains(" - StageNameCasing: "), "{output}");
        assert!(list.contains(" - MaintainerDeprecated: ") && list.contains("ERROR: "), "{output}");
    }
    // Every stage that is built is looked at, and then nothing is run.
    let strict = Context::new("# check=error=true\nFROM busybox\nENV a b\nRUN echo was run\n");
    let output = drydock.build(&strict).fails();
    assert!(
        output.stderr.contains("lint violation found for rules: LegacyKeyValueFormat"),
        "{output}"
    );
    assert!(!output.has_step("was run"), "{output}");
}
