//! What each instruction means for the image: its config, history and layers.

use serde_json::json;
use tests::context::Context;
use tests::drydock::Drydock;
use tests::require_root;

#[test]
fn privileged_metadata_instructions_end_up_in_the_config() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM scratch\n\
         MAINTAINER Jane <jane@example.org>\n\
         ENV A=1 B=\"two words\" C=x\\ y\n\
         LABEL one=1 \"two three\"=\"4 5\"\n\
         EXPOSE 80 53/UDP 9000-9002\n\
         VOLUME /data /more\n\
         VOLUME [\"/with space\"]\n\
         USER 1000:app\n\
         STOPSIGNAL SIGUSR1\n\
         SHELL [\"/bin/ash\", \"-ec\"]\n\
         HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --start-interval=2s --retries=4 CMD exit 1\n\
         ENTRYPOINT [\"/app\", \"serve\"]\n\
         CMD run it\n\
         ONBUILD RUN echo \"later\" && true\n",
    );
    assert_eq!(image.config["author"], "Jane <jane@example.org>");
    assert_eq!(image.env("A").as_deref(), Some("1"));
    assert_eq!(image.env("B").as_deref(), Some("two words"));
    assert_eq!(image.env("C").as_deref(), Some("x y"));
    assert_eq!(*image.runtime("Labels"), json!({"one": "1", "two three": "4 5"}));
    let ports = json!({"53/udp": {}, "80/tcp": {}, "9000/tcp": {}, "9001/tcp": {}, "9002/tcp": {}});
    assert_eq!(*image.runtime("ExposedPorts"), ports);
    assert_eq!(*image.runtime("Volumes"), json!({"/data": {}, "/more": {}, "/with space": {}}));
    assert_eq!(image.runtime("User"), "1000:app");
    assert_eq!(image.runtime("StopSignal"), "SIGUSR1");
    assert_eq!(image.list("Shell"), ["/bin/ash", "-ec"]);
    assert_eq!(
        *image.runtime("Healthcheck"),
        json!({"Test": ["CMD-SHELL", "exit 1"], "Interval": 300_000_000_000_u64,
               "Timeout": 3_000_000_000_u64, "StartPeriod": 1_000_000_000_u64,
               "StartInterval": 2_000_000_000_u64, "Retries": 4})
    );
    assert_eq!(image.list("Entrypoint"), ["/app", "serve"]);
    assert_eq!(image.list("Cmd"), ["/bin/ash", "-ec", "run it"]);
    assert_eq!(image.list("OnBuild"), ["RUN echo \"later\" && true"]);
    assert_eq!(image.runtime("WorkingDir"), "/");
    assert!(image.layers.is_empty() && image.manifest["layers"].is_array());
    assert!(image.config["history"].as_array().unwrap().iter().all(|h| h["empty_layer"] == true));
}

#[test]
fn privileged_a_default_path_is_part_of_the_image() {
    require_root!();
    let image = Drydock::new().image_of("FROM scratch\nCMD [\"/x\"]\n");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(image.env("PATH").as_deref(), Some(path));
    let image = Drydock::new().image_of("FROM scratch\nENV PATH=/only\n");
    assert_eq!(image.list("Env"), ["PATH=/only"]);
}

#[test]
fn privileged_values_of_one_instruction_use_what_was_there_before_it() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=${abc}\n\
         ENV legacy the  \"whole\" rest\nENV abc=again\nENV $abc=key\n",
    );
    assert_eq!(image.env("abc").as_deref(), Some("again"));
    assert_eq!(image.env("def").as_deref(), Some("hello"));
    assert_eq!(image.env("ghi").as_deref(), Some("bye"));
    assert_eq!(image.env("legacy").as_deref(), Some("the  whole rest"));
    assert_eq!(image.env("again").as_deref(), Some("key"));
    let names: Vec<String> =
        image.list("Env").iter().map(|e| e.split('=').next().unwrap().to_owned()).collect();
    assert_eq!(names[1..], ["abc", "def", "ghi", "legacy", "again"], "a new value keeps its place");
}

#[test]
fn privileged_expansion_modifiers() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM scratch\nENV v=value e=\n\
         LABEL a=${v:-x} b=${u:-x} c=${e:-x} d=${e-x} f=${v:+y} g=${u:+y}z h=\"\\$v\" i='$v' \
         j=${v#va} k=${v%ue} l=${v/al/AL} m=${u:-${v}}\n",
    );
    assert_eq!(
        *image.runtime("Labels"),
        json!({"a": "value", "b": "x", "c": "x", "d": "", "f": "y", "g": "z", "h": "$v",
               "i": "$v", "j": "lue", "k": "val", "l": "vALue", "m": "value"})
    );
}

#[test]
fn privileged_arguments_and_where_they_are_seen() {
    require_root!();
    let context = Context::new(
        "ARG BASE=scratch\nARG GLOBAL=g\nARG OTHER=o\n\
         FROM ${BASE} AS one\n\
         ARG GLOBAL\nARG GIVEN=default\nARG PLAIN=default\nARG NONE\n\
         LABEL global=$GLOBAL other=[$OTHER] given=$GIVEN plain=$PLAIN none=[$NONE]\n\
         FROM one\nLABEL inherited=$GIVEN arch=[$TARGETARCH]\nARG TARGETARCH TARGETOS\n\
         LABEL os=$TARGETOS arch2=$TARGETARCH\n",
    );
    let drydock = Drydock::new();
    let build = || drydock.build(&context).args(["--build-arg", "GIVEN=a=b"]);
    let image = build().image();
    let labels = image.runtime("Labels");
    assert_eq!(labels["global"], "g");
    assert_eq!(labels["other"], "[]", "a global argument is seen by FROM alone");
    assert_eq!(labels["given"], "a=b");
    assert_eq!(labels["plain"], "default");
    assert_eq!(labels["none"], "[]");
    assert_eq!(labels["inherited"], "a=b", "a stage's arguments go on in those built on it");
    assert_eq!((&labels["arch"], &labels["os"]), (&json!("[]"), &json!("linux")));
    assert_eq!(labels["arch2"], oci::Platform::host().architecture.as_str());

    let image =
        build().args(["--build-arg", "PLAIN", "--build-arg", "NONE"]).env("NONE", "e").image();
    assert_eq!(image.runtime("Labels")["plain"], "default", "not set, so not given");
    assert_eq!(image.runtime("Labels")["none"], "[e]");
}

#[test]
fn privileged_an_unused_build_argument_is_a_warning() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch\nARG USED\nLABEL a=$USED\n");
    let output = drydock
        .build(&context)
        .args(["--build-arg", "USED=1", "--build-arg", "UNUSED=1", "--build-arg", "HTTP_PROXY=x"])
        .ok();
    assert!(output.stderr.contains("UNUSED"), "{output}");
    assert!(!output.stderr.contains("[USED]") && !output.stderr.contains("HTTP_PROXY"), "{output}");
}

#[test]
fn privileged_entrypoint_drops_a_command_that_is_inherited() {
    require_root!();
    let drydock = Drydock::new();
    let image = drydock.image_of("FROM scratch AS a\nCMD [\"x\"]\nFROM a\nENTRYPOINT [\"e\"]\n");
    assert!(image.runtime("Cmd").is_null(), "{}", image.config);
    let image = drydock.image_of("FROM scratch\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\n");
    assert_eq!(image.list("Cmd"), ["x"]);
    let image = drydock.image_of("FROM scratch\nENTRYPOINT [\"e\"]\nENTRYPOINT []\nCMD a b\n");
    assert!(image.list("Entrypoint").is_empty());
    assert_eq!(image.list("Cmd"), ["/bin/sh", "-c", "a b"]);
}

#[test]
fn privileged_bad_json_is_the_shell_form() {
    require_root!();
    let image = Drydock::new().image_of("FROM scratch\nCMD ['a', 'b']\nENTRYPOINT [\"a\"] b\n");
    assert_eq!(image.list("Cmd"), ["/bin/sh", "-c", "['a', 'b']"]);
    assert_eq!(image.list("Entrypoint"), ["/bin/sh", "-c", "[\"a\"] b"]);
}

#[test]
fn privileged_healthchecks() {
    require_root!();
    let drydock = Drydock::new();
    let test = |line: &str| {
        let image = drydock.image_of(&format!("FROM scratch\nSHELL [\"/bin/ash\"]\n{line}\n"));
        image.runtime("Healthcheck").clone()
    };
    assert_eq!(test("HEALTHCHECK NONE"), json!({"Test": ["NONE"]}));
    assert_eq!(test("HEALTHCHECK CMD [\"a\", \"b\"]"), json!({"Test": ["CMD", "a", "b"]}));
    assert_eq!(
        test("HEALTHCHECK --interval=1m30s CMD a $b"),
        json!({"Test": ["CMD-SHELL", "a $b"], "Interval": 90_000_000_000_u64})
    );
}

#[test]
fn privileged_ports_are_split_after_expansion() {
    require_root!();
    let image = Drydock::new().image_of("FROM scratch\nARG P=\"3000 4000/udp\"\nEXPOSE $P\n");
    assert_eq!(*image.runtime("ExposedPorts"), json!({"3000/tcp": {}, "4000/udp": {}}));
}

#[test]
fn privileged_labels_of_the_command_line_come_last() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new("FROM scratch AS a\nLABEL x=1 y=1\nFROM a\nLABEL z=1\n");
    let image = drydock.build(&context).args(["--label", "x=2", "--label", "w"]).image();
    assert_eq!(*image.runtime("Labels"), json!({"x": "2", "y": "1", "z": "1", "w": ""}));
}

#[test]
fn privileged_stages_by_name_number_and_target() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM scratch AS First\nCOPY a /a\nLABEL s=first\n\
         FROM scratch AS second\nCOPY --from=0 /a /b\nLABEL s=second\n\
         FROM FIRST\nCOPY --from=SECOND /b /c\nLABEL s=last\n",
    )
    .file("a", "x");
    let image = drydock.build(&context).image();
    assert_eq!(image.root.paths(), ["a", "c"]);
    let labels = |target: &str| {
        let image = drydock.build(&context).args(["--target", target]).image();
        image.runtime("Labels")["s"].clone()
    };
    assert_eq!(labels("first"), "first");
    assert_eq!(labels("SECOND"), "second");
    assert_eq!(labels("2"), "last");
    let output = drydock.build(&context).args(["--target", "secnd"]).fails();
    assert!(output.stderr.contains("secnd") && output.stderr.contains("second"), "{output}");
}

#[test]
fn privileged_the_language_around_instructions() {
    require_root!();
    let image = Drydock::new().image_of(
        "# syntax=docker/dockerfile:1.7\n# escape=`\n\n# a comment\n\
         from scratch\n   Label a=1 `\n  # inside\n      b=2 `  \n\nc=3\n\
         LABEL path=c:\\dir d=`$x\n#LABEL no=1\n\tLABEL e=#1\n",
    );
    assert_eq!(
        *image.runtime("Labels"),
        json!({"a": "1", "b": "2", "c": "3", "path": "c:\\dir", "d": "$x", "e": "#1"})
    );
    let image = Drydock::new().image_of("\u{feff}FROM scratch\r\nLABEL a=1 \\\r\n b=2\r\n");
    assert_eq!(*image.runtime("Labels"), json!({"a": "1", "b": "2"}));
}

#[test]
fn privileged_platforms() {
    require_root!();
    let drydock = Drydock::new();
    let host = oci::Platform::host();
    let context = Context::new(
        "FROM --platform=$BUILDPLATFORM scratch\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n",
    );
    let image = drydock.build(&context).args(["--platform", &host.to_string()]).image();
    assert_eq!(image.runtime("Labels")["p"], host.to_string());
    assert_eq!(image.config["architecture"], host.architecture.as_str());
    assert_eq!(image.config["os"], "linux");
}

#[test]
fn privileged_history_tells_every_instruction() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox\nARG TOK=1\nENV A=1\nRUN echo hi\nCOPY f /f\nWORKDIR /\nWORKDIR /w\nCMD [\"x\"]\nONBUILD RUN x\n",
    )
    .file("f", "f");
    let image = drydock.build(&context).image();
    let history = image.history();
    let made: Vec<bool> = image.config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["empty_layer"] != true)
        .collect();
    assert_eq!(history[0], "busybox-static");
    assert_eq!(history[1..3], ["ARG TOK=1", "ENV A=1"]);
    assert_eq!(history[3], "RUN |1 TOK=1 /bin/sh -c echo hi # buildkit");
    assert_eq!(history[4], "COPY f /f # buildkit");
    assert_eq!(history[5..7], ["WORKDIR /", "WORKDIR /w"]);
    assert_eq!(history[7], "CMD [\"x\"]");
    assert_eq!(history.len(), 8, "ONBUILD adds none: {history:?}");
    assert_eq!(made, [true, false, false, true, true, false, true, false]);
    assert_eq!(image.layers.len(), 4);
    let last = &image.config["history"][7]["created"];
    assert_eq!(&image.config["created"], last, "an image is as old as its last step");
}

#[test]
fn privileged_a_run_that_changes_nothing_is_a_layer() {
    require_root!();
    let image = Drydock::new().image_of("FROM busybox\nRUN true\n");
    assert_eq!(image.layers.len(), 2);
    // The digest of 1024 zero bytes: a tar without entries.
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(image.layers[1].diff_id.to_string(), empty);
}

#[test]
fn privileged_base_config_is_inherited() {
    require_root!();
    let image = Drydock::new().image_of("FROM busybox\nLABEL more=1\n");
    assert_eq!(*image.runtime("Labels"), json!({"from": "busybox", "more": "1"}));
    assert_eq!(image.list("Cmd"), ["sh"]);
    assert_eq!(image.layers.len(), 1);
}

#[test]
fn privileged_triggers_run_right_after_from_and_once() {
    require_root!();
    let drydock = Drydock::new();
    let context = Context::new(
        "FROM busybox AS base\nONBUILD COPY f /from-trigger\nONBUILD RUN cat /from-trigger > /ran && echo t >> /order\n\
         FROM base AS child\nRUN cat /ran && echo c >> /order\n\
         FROM child\nRUN echo g >> /order\n",
    )
    .file("f", "content");
    let image = drydock.build(&context).image();
    assert_eq!(image.text("ran"), "content");
    assert_eq!(image.text("order"), "t\nc\ng\n");
    assert!(image.list("OnBuild").is_empty());

    // The same from an image: the triggers are known only once its config is read.
    let layout = drydock.place("layout");
    let dest = format!("type=oci,tar=false,dest={}", layout.display());
    let context =
        context.file("Dockerfile", "FROM busybox\nONBUILD COPY --from=tools /tool /tool\n");
    drydock.build(&context).args(["-o", &dest]).ok();
    let child = Context::new(
        "FROM scratch AS tools\nCOPY tool /tool\nFROM parent\nRUN cat /tool > /copy\n",
    )
    .file("tool", "hammer");
    let parent = format!("parent=oci-layout://{}", layout.display());
    let image = drydock.build(&child).args(["--build-context", &parent]).image();
    assert_eq!(image.text("copy"), "hammer");
}

#[test]
fn privileged_workdir_makes_directories_and_joins() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM busybox\nWORKDIR /a\nWORKDIR b\nRUN pwd > out\nUSER app\nWORKDIR /a/b/c/d\nWORKDIR ..\n\
         RUN pwd; test \"$(pwd)\" = /a/b/c\nUSER root\nRUN ln -s /a/b /link\nWORKDIR /link\nRUN pwd > /where; touch here\n",
    );
    assert_eq!(image.text("a/b/out"), "/a/b\n");
    assert_eq!(image.root.line("a"), "d 755 0:0");
    assert_eq!(image.root.line("a/b/c"), "d 755 1000:1001", "owned by the user of its time");
    assert_eq!(image.root.line("a/b/c/d"), "d 755 1000:1001");
    assert_eq!(image.root.line("link"), "l 0:0 -> /a/b");
    assert!(image.root.has("a/b/here"));
    assert_eq!(image.runtime("WorkingDir"), "/link");
}

#[test]
fn privileged_arguments_are_in_the_environment_of_run() {
    require_root!();
    let context = Context::new(
        "FROM busybox\nARG A=1\nARG UNSET\nENV B=2\nENV B=3\nARG B=4\n\
         RUN env | sort > /env; test -z \"${UNSET+x}\"\nENV A=5\nRUN echo $A > /a\n",
    );
    let image = Drydock::new().build(&context).image();
    let env = image.text("env");
    assert!(env.contains("\nA=1\n") || env.starts_with("A=1\n"), "{env}");
    assert!(env.contains("B=4\n"), "the last writer wins in RUN: {env}");
    assert_eq!(image.text("a"), "5\n");
    assert_eq!(image.env("B").as_deref(), Some("3"), "and the image has what ENV said");
}

#[test]
fn privileged_volumes_keep_what_is_written_later() {
    require_root!();
    let image =
        Drydock::new().image_of("FROM busybox\nVOLUME /v\nRUN mkdir -p /v && echo x > /v/f\n");
    assert_eq!(image.text("v/f"), "x\n");
}

#[test]
fn privileged_shell_changes_what_follows() {
    require_root!();
    let image = Drydock::new().image_of(
        "FROM busybox AS base\nRUN echo $0 > /one\nSHELL [\"/bin/ash\", \"-xc\"]\nRUN echo $0 > /two\n\
         FROM base\nRUN echo $0 > /three\nRUN [\"/bin/sh\", \"-c\", \"echo $0 > /four\"]\nCMD x\n",
    );
    assert_eq!(image.text("one"), "/bin/sh\n");
    assert_eq!(image.text("two"), "/bin/ash\n");
    assert_eq!(image.text("three"), "/bin/ash\n");
    assert_eq!(image.text("four"), "/bin/sh\n");
    assert_eq!(image.list("Cmd"), ["/bin/ash", "-xc", "x"]);
    assert_eq!(image.list("Shell"), ["/bin/ash", "-xc"]);
}
