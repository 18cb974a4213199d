//! Printing a tree and reading it again gives the same tree.

mod support;

use std::fs;
use std::path::Path;

use frontend::ast::{Dockerfile, Kind};
use frontend::parse;
use proptest::prelude::*;
use support::vectors;

/// The tree of a text without what is malformed; none if a here-document has no end.
fn tree(text: &str) -> Option<Dockerfile> {
    let parsed = parse("Dockerfile", text);
    let open = |d: &frontend::Diagnostic| d.message.starts_with("unterminated");
    if parsed.diagnostics.iter().any(open) {
        return None;
    }
    let mut tree = parsed.dockerfile;
    tree.instructions.retain(|i| !matches!(i.kind, Kind::Invalid));
    Some(tree)
}

fn check(text: &str) {
    let Some(tree) = tree(text) else { return };
    let printed = tree.to_string();
    let again = parse("Dockerfile", &printed);
    assert!(
        tree.same_as(&again.dockerfile),
        "--- text\n{text}\n--- printed\n{printed}\n--- {text:?}\n{tree:#?}\n--- {printed:?}\n{:#?}",
        again.dockerfile
    );
    assert_eq!(again.dockerfile.to_string(), printed, "printed twice");
    if !parse("Dockerfile", text).has_errors() {
        assert!(!again.has_errors(), "{printed}\n{:?}", again.diagnostics);
    }
}

#[test]
fn as_one_would_write_it() {
    let text = r#"#Syntax = docker/dockerfile:1
#check=skip=JSONArgsRecommended

# The base.
ARG  V=1	W
from busybox:$V   As base
RUN --network=none --mount='type=cache,"target=/a,b"' \
    # a comment
    make  all && \

    true
COPY --link=false --chown='1:2 3' ["a b", "/c"]
COPY <<A b <<-'C D' /e/
x
A
	y
	C D
HEALTHCHECK --retries=2 --interval=90s cmd ["x"]
ENV A  b  c
ENV D=e\ f   G="h i"
ONBUILD   RUN  x <<-E
	y
E
CMD -- --version
VOLUME ["/v"] 
MAINTAINER me\\
"#;
    check(text);
    let printed = parse("Dockerfile", text).dockerfile.to_string();
    let want = r#"# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended

# The base.
ARG V=1 W

from busybox:$V as base
RUN --mount='type=cache,"target=/a,b"' --network=none make  all &&     true
COPY --chown="1:2 3" --link=false ["a b", "/c"]
COPY <<A b <<-'C D' /e/
x
A
	y
C D
HEALTHCHECK --interval=1m30s --retries=2 CMD ["x"]
ENV A b  c
ENV D=e\ f G="h i"
ONBUILD RUN  x <<-E
	y
E
CMD -- --version
VOLUME /v
MAINTAINER me\\
"#;
    assert_eq!(printed, want);
}

#[test]
fn hard_cases() {
    for text in [
        // The end of a line.
        "USER a\\\u{c}\nUSER b\\\\\nUSER c\\\\\\\nRUN x\\\u{a0}\nENV a='b\\\\\nENV a='b\\\u{c}\n",
        "# escape=`\nUSER a`\u{c}\nUSER b``\nWORKDIR c:\\\nRUN `\n  x `\n# y\n\n z\n",
        "COPY a b\\\u{c}\nVOLUME a\\\u{c}\nEXPOSE 80\\\u{c}\nCMD []\nENTRYPOINT\nRUN\n",
        // JSON.
        "CMD [\"a\\\"b\", \"\\u00e9\\n\\t\\u0000\", \"☺\", \"\", \"--\", \"<<EOF\"]\nSHELL [\"\\\\\"]\n",
        "COPY [\"<<EOF\", \"/x\"]\nCOPY [\"\", \"a b\", \"[\"]\nADD [\"--x\", \"y\"]\nVOLUME [\"\\n\"]\n",
        "VOLUME [\"[\\\"a\\\"]\"]\nVOLUME [a b\nRUN [\"a\"] b\nRUN ['a']\nCOPY [a b]\n",
        // Flags.
        "COPY --chown= --exclude='a b' --exclude=\"c'd\\\"\" --exclude=e\\\\\\ f --link --parents=false a b\n",
        "# escape=`\nCOPY --exclude=a` b --exclude=\"`\"\" --exclude=c\\ x y\n",
        "CMD -- --x\nCMD -- -- --x\nCMD -- \nRUN --network=none -- --x\nCOPY -- --a b\nUSER -- --u\n",
        "RUN --mount=type=secret,id=a,required --mount='type=bind,\"target=/a\"\"b,c\",RO' x\n",
        "HEALTHCHECK --interval=2400000h1ns --timeout=1.5s --retries=0 CMD --x\nHEALTHCHECK none\n",
        // Here-documents.
        "RUN <<EOF\r\na\r\n\r\nEOF\r\nRUN <<-E 3<<'F' cat\n\t\ta\n\tE\nF\n",
        "COPY <<A b <<'C$' <<\"D\\\"\" <<E\\F 3<<-G /x/\n1\nA\n2\nC$\n3\nD\"\n4\nEF\n\t5\n\tG\n",
        "COPY --exclude=a\\ <<X <<Y /z\n1\nY\nADD <<A <<A /x/\n1\nA\n2\nA\n",
        "COPY <<\"E F\" /d/\nx\nE F\nCOPY <<A <<\"E F\" /d/\nx\nA\ny\nE F\n",
        "# escape=`\nRUN --mount=target=/a` <<X <<Y z\nq\nX\nb\nY\n",
        "RUN --device='${' cat <<X\ny\nX\nRUN --device=\"a'b\" cat <<X\nRUN a<<b $((1<<2)) <<<c <<\n",
        "COPY <<${x:--y} /z\nb\n-y\nCOPY <<--y /z\nb\n-y\nCOPY <<$x /z\n\n$x\n",
        "COPY <<A it's /d/\nCOPY [\"a <<A b\"] /x\n1\nA\n",
        "ONBUILD COPY <<EOF /x\n#\nEOF\nONBUILD RUN --network=none x  y\nONBUILD CMD -- --z\n",
        "ONBUILD -- RUN [\"x\"]\nonbuild env a  b\nONBUILD USER x\\\u{c}\n",
        // Names and values.
        "ENV a\\  b=c\nENV a\\ b\nENV a b\nENV \"a  b\" c d\nENV a= b='' c=\"\" d=\\\n",
        "ENV a=b\\ c d=\"e \\\" f\" g='h \\' i=j\\\u{a0} k=l\nLABEL \"x y\"=z #=#\nENV a\u{a0}b=c d\n",
        "ARG a b=\"c d\" e= \"f g\"\nENV x=${y:-'z'}\nEXPOSE 80 \u{a0} 81/udp\n",
        "FROM --platform=\"$P\" a as B\nFROM -- --x\nfrom x AS y\n",
        // Comments and directives.
        "\n# escape=`\nRUN a\\\\\n",
        "#syntax=docker/dockerfile:1\n# Escape = `\n#check=skip=a,b;error=true\n#\n# x\nRUN y `\n z\n",
        "#!/bin/x\n# escape=`\n# comment\n# escape=x\nRUN a\n# b\n\n# c\nRUN d \\\n # e\n #f\n #g \\\n\n h\n",
        "\u{feff}FROM x\nRUN #a\nRUN \\\n\\\n\\\n #b \\\n x # c\n",
    ] {
        check(&text.replace('\0', ""));
    }
}

#[test]
fn long_lines_are_continued() {
    let words = "word# \\\n".repeat(20_000);
    check(&format!("FROM x\nRUN {words} end\nCOPY {}\n", "a \\\n   \\\n".repeat(20_000)));
    check(&format!("FROM x\nENV a=\"{words}\"\nONBUILD RUN {words}\n"));
}

const KEYWORDS: [&str; 19] = [
    "FROM",
    "RUN",
    "CMD",
    "ENTRYPOINT",
    "COPY",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "USER",
    "WORKDIR",
    "EXPOSE",
    "VOLUME",
    "STOPSIGNAL",
    "SHELL",
    "HEALTHCHECK",
    "MAINTAINER",
    "run",
    "Copy",
];

/// Characters that mean something, and some that mean nothing.
const CHARACTERS: [char; 28] = [
    'a', 'b', 'E', '1', '/', '.', '-', '=', '$', '{', '}', ':', '"', '\'', '\\', '`', '#', '<',
    ',', '[', ']', ' ', '\t', '\r', '\u{c}', '\u{a0}', 'é', '☺',
];

fn noise() -> impl Strategy<Value = String> {
    let some = prop::collection::vec(prop::sample::select(&CHARACTERS[..]), 0..8);
    some.prop_map(|chars| chars.into_iter().collect())
}

fn word() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(
        &[
            "a", "b=c", "/x/", "$V", "${V:-d}", "\"a b\"", "'c d'", "e\\ f", "--", "--x=y", "<<E",
            "<<-'F'", "3<<\"G\"", "<<E\\F", "a<<b", "<<<h", "#", "[", "]", "\\\\", "``", "[\"x\"]",
            "CMD", "NONE", "AS", "80/udp", "a\\", "b`", "",
        ][..],
    );
    prop_oneof![4 => plain.prop_map(str::to_owned), 1 => noise()]
}

fn flag() -> impl Strategy<Value = String> {
    let name = prop::sample::select(
        &[
            "from",
            "chown",
            "chmod",
            "exclude",
            "exclude",
            "link",
            "parents",
            "checksum",
            "unpack",
            "keep-git-dir",
            "network",
            "security",
            "device",
            "ttl",
            "platform",
            "interval",
            "timeout",
            "start-period",
            "retries",
        ][..],
    );
    let value = prop_oneof![
        3 => prop::sample::select(
            &["", "=true", "=false", "=", "=none", "=1:2", "=1m30.5s", "=3", "=24h", "='a b'", "=\"c'd\"",
              "=e\\ f", "=g` h", "=\"i\\\"j\"", "='k' 'l'"][..],
        ).prop_map(str::to_owned),
        1 => noise().prop_map(|v| format!("={v}")),
    ];
    let mount = prop::sample::select(
        &[
            "target=/a",
            "type=cache,target=/b,sharing=locked,mode=0755",
            "type=ssh",
            "ro,target=$x",
            "type=secret,id=c,env=D,required",
            "\"target=/e,f\"",
            "TYPE=tmpfs,DST=/g,size=1m",
            "target=/h\\ i",
            "target=\"/j k\"",
            "'target=\"/l\"'",
        ][..],
    );
    prop_oneof![
        3 => (name, value).prop_map(|(name, value)| format!("--{name}{value}")),
        1 => mount.prop_map(|m| format!("--mount={m}")),
    ]
}

/// What stands between words.
fn blank() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[" ", " ", " ", " ", "  ", "\t", " \\\n", "\\\n", "\\ \n\n", "\\\n# c\n ", "`\n", "\r"][..],
    )
}

fn instruction() -> impl Strategy<Value = String> {
    let keyword = (any::<prop::sample::Index>(), 0..8).prop_map(|(at, onbuild)| {
        let prefix = if onbuild == 0 { "ONBUILD " } else { "" };
        format!("{prefix}{}", at.get(&KEYWORDS))
    });
    let flags = prop::collection::vec((flag(), blank()), 0..3);
    let words = prop::collection::vec((word(), blank()), 0..5);
    let json = prop::collection::vec(noise(), 0..4).prop_map(|words| {
        let words: Vec<String> =
            words.iter().map(|w| serde_json::Value::from(w.as_str()).to_string()).collect();
        format!("[{}]", words.join(","))
    });
    let text = |pairs: Vec<(String, &str)>| -> String {
        pairs.into_iter().map(|(word, blank)| format!("{word}{blank}")).collect()
    };
    let args = prop_oneof![5 => words.prop_map(text), 1 => json];
    let body = prop::sample::select(
        &["", "", "x\nE\n", "E\nF\nG\n", "\tx\r\n\tF\r\nE\n", "$y\nG\nEF\nE\n"][..],
    );
    let comment = prop::sample::select(&["", "", "", "# c\n", "#check=skip=x\n\n", "\n"][..]);
    (comment, keyword, blank(), flags.prop_map(text), args, body).prop_map(
        |(comment, keyword, blank, flags, args, body)| {
            format!("{comment}{keyword}{blank}{flags}{args}\n{body}")
        },
    )
}

/// A Dockerfile; most of its instructions are right.
fn dockerfile() -> impl Strategy<Value = String> {
    let head = prop::sample::select(
        &[
            "",
            "",
            "",
            "# escape=`\n",
            "#syntax=docker/dockerfile:1\n# check = skip=all\n",
            "\u{feff}# escape=\\\n",
            "# c\n# escape=`\n",
            "#!x\n#ESCAPE=`\n#\n",
        ][..],
    );
    (head, prop::collection::vec(instruction(), 1..6))
        .prop_map(|(head, instructions)| format!("{head}{}", instructions.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated(text in dockerfile()) {
        check(&text);
    }

    #[test]
    fn noises(text in prop::collection::vec((prop::sample::select(&KEYWORDS[..]), noise(), noise()), 1..5)) {
        let text: String = text.into_iter().map(|(k, a, b)| format!("{k} {a} {b}\n")).collect();
        check(&text);
    }
}

fn walk(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !path.is_symlink() {
            walk(&path, texts);
        } else if (name.contains("Dockerfile") || name.contains("Containerfile"))
            && let Ok(text) = fs::read_to_string(&path)
        {
            texts.push(text);
        }
    }
}

/// A change of a text: where, how much goes, and what comes.
type Change = (prop::sample::Index, usize, String);

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, length, new) in changes {
        let at = at.index(chars.len() + 1);
        let end = (at + length).min(chars.len());
        chars.splice(at..end, new.chars());
    }
    chars.into_iter().collect()
}

#[test]
fn shared_files_and_changed_ones() {
    let mut texts = Vec::new();
    for folder in ["vectors", "cases"] {
        let Some(folder) = vectors(folder) else { return };
        walk(&folder, &mut texts);
    }
    assert!(texts.len() > 100, "{}", texts.len());
    texts.iter().for_each(|text| check(text));
    let piece = prop_oneof![noise(), word(), instruction(), blank().prop_map(str::to_owned)];
    let change = (any::<prop::sample::Index>(), 0usize..4, piece);
    let config =
        ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let strategy = (any::<prop::sample::Index>(), prop::collection::vec(change, 1..4));
    let result = runner.run(&strategy, |(at, changes)| {
        check(&changed(&texts[at.index(texts.len())], &changes));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
