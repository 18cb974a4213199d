//! The rules of the house that a program can check: who may depend on whom, where sockets, unsafe
//! code and output may be, how long files and functions may be, and what the documents mention.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates, and what each may use of the others. ARCHITECTURE.md says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("sys", &[]),
    ("graph", &["oci"]),
    ("frontend", &["graph", "oci"]),
    ("solver", &["graph", "oci"]),
    ("cache", &["oci", "solver"]),
    ("snapshotter", &["oci", "sys"]),
    ("executor", &["oci", "sys"]),
    ("registry", &["oci"]),
    ("exporter", &["cache", "oci", "registry"]),
    (
        "worker",
        &[
            "cache",
            "executor",
            "exporter",
            "graph",
            "oci",
            "registry",
            "snapshotter",
            "solver",
            "sys",
        ],
    ),
    (
        "cli",
        // graph and oci are plain data; registry is only configured here.
        &["cache", "exporter", "frontend", "graph", "oci", "registry", "solver", "worker"],
    ),
    ("tests", &["oci"]),
    ("benches", &["cache", "frontend", "oci", "tests"]),
    // A workspace of its own, for another compiler.
    ("fuzz", &["cache", "frontend", "graph", "oci"]),
];
/// What tests inside a crate may use besides.
const TESTS_MAY_USE: &[(&str, &[&str])] = &[("registry", &["tests"]), ("worker", &["tests"])];

/// The most lines of a file.
const FILE_LINES: usize = 800;
/// The most lines of a function.
const FUNCTION_LINES: usize = 70;
/// Files that are longer, with the reason. May only shrink.
const LONG_FILES: &[(&str, &str)] = &[];
/// Functions that are longer, with the reason. May only shrink.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("frontend/tests/errors.rs", "messages", "a table of bad Dockerfiles"),
    ("tests/tests/semantics/changes.rs", "privileged_changes", TABLE),
    ("tests/tests/semantics/config.rs", "privileged_commands", TABLE),
    ("tests/tests/semantics/config.rs", "privileged_users_and_directories", TABLE),
    ("tests/tests/semantics/config.rs", "privileged_stages", TABLE),
    ("tests/tests/semantics/files.rs", "privileged_copies", TABLE),
    ("tests/tests/semantics/language.rs", "privileged_lines", TABLE),
    ("tests/tests/semantics/language.rs", "privileged_variables", TABLE),
    ("tests/tests/semantics/language.rs", "privileged_arguments", TABLE),
    ("tests/tests/semantics/language.rs", "privileged_here_documents", TABLE),
];
const TABLE: &str = "a table of Dockerfiles and their images";

/// Crates that are programs or only serve tests: they print and read the environment.
const OUTWARD: &[&str] = &["cli", "tests", "benches"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of a workspace").to_owned()
}

/// A Rust file.
struct Source {
    /// From the root of the workspace.
    path: String,
    text: String,
    /// The text with comments and the content of strings blanked out; lines stay lines.
    code: String,
}

impl Source {
    fn crate_name(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Whether the file is a module that its parent declares for tests alone.
    fn only_for_tests(&self) -> bool {
        let path = root().join(&self.path);
        let (Some(name), Some(dir)) = (path.file_stem().and_then(|n| n.to_str()), path.parent())
        else {
            return false;
        };
        let mut parents = vec![dir.join("lib.rs"), dir.join("mod.rs"), dir.join("main.rs")];
        parents.push(dir.with_extension("rs"));
        parents.iter().filter_map(|p| fs::read_to_string(p).ok()).any(|text| {
            let module = format!("mod {name};");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.windows(2).any(|w| w[0] == "#[cfg(test)]" && w[1].ends_with(&module))
        })
    }

    /// The code without modules that are compiled for tests alone; empty for a file of tests.
    fn shipped(&self) -> String {
        let part = self.path.split('/').nth(1);
        if part != Some("src") || self.path.contains("/tests/") || self.only_for_tests() {
            return String::new();
        }
        let mut code = self.code.clone();
        while let Some(start) = code.find("#[cfg(test)]") {
            let rest = &code[start..];
            let (semicolon, brace) = (rest.find(';'), rest.find('{'));
            let end = match (semicolon, brace) {
                (Some(s), Some(b)) if s < b => start + s + 1,
                (_, Some(b)) => start + b + block_length(&rest[b..]),
                (Some(s), None) => start + s + 1,
                (None, None) => code.len(),
            };
            let blank: String =
                code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
            code.replace_range(start..end, &blank);
        }
        code
    }
}

/// The length of the block that `code` begins with, braces included.
fn block_length(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Every file of the workspace that git knows or would add.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    if let Ok(output) = output
        && output.status.success()
    {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return text.lines().map(str::to_owned).filter(|f| root().join(f).is_file()).collect();
    }
    // A tree without its history.
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if name != "target" && name != ".git" {
                walk(&entry.path(), &format!("{path}/"), found);
            }
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    files()
        .into_iter()
        .filter(|f| f.ends_with(".rs"))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let code = blank(&text);
            Source { path, text, code }
        })
        .collect()
}

/// Blanks out comments and what is between the quotes of strings and characters.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let hide = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => string(rest),
            ['r', ..] if !in_word(&chars, at) => raw_string(rest),
            ['\'', ..] => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            let quoted = rest[0] != '/';
            for (place, c) in rest[..length].iter().enumerate() {
                let edge = quoted && (place == 0 || place + 1 == length);
                out.push(if edge { '"' } else { hide(*c) });
            }
            at += length;
        }
    }
    out
}

fn in_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = 2 + hashes;
    while at < rest.len() {
        if rest[at] == '"'
            && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
        {
            return at + 1 + hashes;
        }
        at += 1;
    }
    rest.len()
}

/// The length of a character literal, or 0 for a lifetime.
fn character(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => rest.iter().skip(3).position(|c| *c == '\'').map_or(0, |n| n + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Places of `word` in code, where it is not part of a longer word.
fn places(code: &str, word: &str) -> Vec<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            !part(code[..*at].chars().next_back()) && !part(code[at + word.len()..].chars().next())
        })
        .collect()
}

fn none_of(found: &[String]) {
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_scanner_knows_rust() {
    let code = blank(
        "a /* x /* { */ } */ b // {\n\"{ \\\" {\" r#\"{\" {\"# { 'c' '{' '\\'' &'a x '\\u{7d}'",
    );
    assert_eq!(code.matches(['{', '}']).count(), 1, "{code}");
    assert_eq!(code.lines().count(), 2);
    assert!(code.contains("&'a x"));
    assert_eq!(
        functions("fn a() { if x { } }\nfn b();\nfn c() -> T\n{\n}\n"),
        [("a".into(), 1, 1), ("c".into(), 3, 3)]
    );
}

#[test]
fn crates_depend_on_what_they_may() {
    let names: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let members: BTreeSet<String> = files()
        .iter()
        .filter_map(|f| f.strip_suffix("/Cargo.toml"))
        .filter(|dir| !dir.contains('/'))
        .map(str::to_owned)
        .collect();
    assert_eq!(names, members.iter().map(String::as_str).collect(), "the table names every crate");
    let mut wrong = Vec::new();
    for (name, allowed) in MAY_USE {
        let inside = TESTS_MAY_USE.iter().find(|(n, _)| n == name).map_or(&[][..], |(_, t)| t);
        for (section, used) in dependencies(name) {
            let tests = section == "dev-dependencies";
            let fits = |n: &str| allowed.contains(&n) || (tests && inside.contains(&n));
            for other in used.iter().filter(|d| names.contains(d.as_str()) && !fits(d)) {
                wrong.push(format!("{name} uses {other} ({section})"));
            }
        }
    }
    none_of(&wrong);
}

/// The dependencies of a crate by section.
fn dependencies(name: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies")
            && let Some(name) =
                line.split(['.', '=', ' ']).next().filter(|n| !n.is_empty() && !n.starts_with('#'))
        {
            sections.entry(section.clone()).or_default().push(name.to_owned());
        }
    }
    sections
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.crate_name() != "sys") {
        for at in places(&source.code, "unsafe") {
            wrong.push(format!("{}:{}", source.path, line_of(&source.code, at)));
        }
    }
    none_of(&wrong);
}

#[test]
fn unsafe_blocks_say_why_they_are_safe() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| s.crate_name() == "sys") {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in places(&source.code, "unsafe") {
            let rest = source.code[at + "unsafe".len()..].trim_start();
            let line = line_of(&source.code, at);
            let above = &lines[line.saturating_sub(8)..line];
            if rest.starts_with('{') && !above.iter().any(|l| l.contains("SAFETY:")) {
                wrong.push(format!("{}:{line}", source.path));
            }
        }
    }
    none_of(&wrong);
}

#[test]
fn sockets_are_in_registry_alone() {
    let words = [
        "std::net",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "ureq",
        "AF_INET",
        "AF_INET6",
    ];
    let mut wrong = Vec::new();
    for source in &sources() {
        // Addresses are data; a socket is opened by these names only.
        let exempt = match source.crate_name() {
            "registry" | "tests" | "benches" => true,
            // Bringing the loopback interface up takes a socket.
            "sys" => source.path.contains("loopback") || source.path.contains("net"),
            _ => false,
        };
        if exempt {
            continue;
        }
        let code = source.shipped();
        for word in words {
            for at in places(&code, word) {
                let rest = &code[at..];
                let data = [
                    "std::net::IpAddr",
                    "std::net::Ipv4Addr",
                    "std::net::Ipv6Addr",
                    "std::net::SocketAddr",
                    // Half of a connection, which may be one of a local socket.
                    "std::net::Shutdown",
                ];
                if !data.iter().any(|d| rest.starts_with(d)) {
                    wrong.push(format!("{}:{} {word}", source.path, line_of(&code, at)));
                }
            }
        }
    }
    none_of(&wrong);
}

#[test]
fn libraries_do_not_print_read_the_environment_or_exit() {
    let words = [
        "println",
        "eprintln",
        "print",
        "eprint",
        "dbg",
        "std::env",
        "env::var",
        "env::var_os",
        "env::vars",
        "env::args",
        "process::exit",
        "io::stdout",
        "io::stderr",
        "io::stdin",
    ];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !OUTWARD.contains(&s.crate_name())) {
        let code = source.shipped();
        for word in words {
            for at in places(&code, word) {
                let macro_only =
                    matches!(word, "println" | "eprintln" | "print" | "eprint" | "dbg");
                // What the compiler knew is no environment.
                let constant = code[at..].starts_with("std::env::consts");
                if !constant && (!macro_only || code[at + word.len()..].starts_with('!')) {
                    wrong.push(format!("{}:{} {word}", source.path, line_of(&code, at)));
                }
            }
        }
    }
    none_of(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for source in &sources() {
        for word in ["todo!", "unimplemented!"] {
            for (at, _) in source.code.match_indices(word) {
                wrong.push(format!("{}:{} {word}", source.path, line_of(&source.code, at)));
            }
        }
        for (number, line) in source.text.lines().enumerate() {
            let comment = line.split_once("//").map_or("", |(_, c)| c);
            if ["TODO", "FIXME", "XXX"].iter().any(|w| !places(comment, w).is_empty()) {
                wrong.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    wrong.retain(|w| !w.starts_with("tests/tests/tidy.rs"));
    none_of(&wrong);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let says = |s: &Source| {
        let head = s.text.lines().next().and_then(|l| l.strip_prefix("//! ")).unwrap_or_default();
        // A remark in brackets stands for something that is not there yet.
        head.len() > 3 && !head.starts_with('(')
    };
    let wrong: Vec<String> = sources().into_iter().filter(|s| !says(s)).map(|s| s.path).collect();
    none_of(&wrong);
}

#[test]
fn files_are_not_too_long() {
    let mut wrong = Vec::new();
    for source in &sources() {
        let lines = source.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        if (lines > FILE_LINES) != listed {
            wrong.push(format!("{}: {lines} lines, listed: {listed}", source.path));
        }
    }
    none_of(&wrong);
}

/// Names, first lines and lengths of the functions of a file.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in places(code, "fn") {
        let rest = &code[at + 2..];
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue;
        }
        // The signature ends at its body, or at a semicolon outside of brackets.
        let mut depth = 0_i32;
        let body = rest.char_indices().find(|(_, c)| {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            *c == '{' || (*c == ';' && depth == 0)
        });
        let Some((start, '{')) = body else { continue };
        let end = at + 2 + start + block_length(&rest[start..]);
        let first = line_of(code, at);
        found.push((name, first, line_of(code, end) - first + 1));
    }
    found
}

#[test]
fn functions_are_not_too_long() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for source in &sources() {
        for (name, line, length) in functions(&source.code) {
            if length <= FUNCTION_LINES {
                continue;
            }
            let listed = LONG_FUNCTIONS.iter().find(|(p, f, _)| *p == source.path && *f == name);
            match listed {
                Some((path, name, _)) => drop(used.insert((*path, *name))),
                None => wrong.push(format!("{}:{line} {name}: {length} lines", source.path)),
            }
        }
    }
    let stale = LONG_FUNCTIONS.iter().filter(|(p, f, _)| !used.contains(&(*p, *f)));
    wrong.extend(stale.map(|(p, f, _)| format!("{p} {f} is on the list for nothing")));
    none_of(&wrong);
}

#[test]
fn documents_mention_every_crate_and_dependency() {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_default();
    let architecture = read("ARCHITECTURE.md");
    let mut wrong: Vec<String> = MAY_USE
        .iter()
        .filter(|(name, _)| !architecture.contains(&format!("| `{name}` |")))
        .map(|(name, _)| format!("ARCHITECTURE.md lacks {name}"))
        .collect();
    let manifest = read("Cargo.toml");
    let listed = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let listed = listed.split("\n[").next().unwrap_or_default();
    let reasons = read("docs/dependencies.md");
    for line in
        listed.lines().filter(|l| l.contains('=') && !l.contains("path =") && !l.starts_with('#'))
    {
        let name = line.split([' ', '=']).next().unwrap_or_default();
        if !reasons.contains(&format!("`{name}`")) {
            wrong.push(format!("docs/dependencies.md lacks {name}"));
        }
        let used =
            MAY_USE.iter().any(|(c, _)| dependencies(c).values().flatten().any(|d| d == name));
        if !used {
            wrong.push(format!("no crate uses {name}"));
        }
    }
    none_of(&wrong);
}

#[test]
fn dependencies_that_are_listed_are_used() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (name, _) in MAY_USE {
        for dependency in dependencies(name).values().flatten() {
            let word = dependency.replace('-', "_");
            let used = sources
                .iter()
                .filter(|s| s.crate_name() == *name)
                .any(|s| !places(&s.code, &word).is_empty());
            if !used {
                wrong.push(format!("{name} lists {dependency} and does not use it"));
            }
        }
    }
    none_of(&wrong);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // Put together here, so that this file does not hold them.
    let words: Vec<String> = [
        ["sub", "agent"],
        ["/wo", "rk/"],
        ["features ", "table"],
        ["Co-Author", "ed-By"],
        ["(under con", "struction)"],
    ]
    .iter()
    .map(|w| w.concat().to_lowercase())
    .collect();
    let mut wrong = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let hook = path == "tests/tests/conformance.rs" || path == "tests/tests/tidy.rs";
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            let mut found: Vec<&str> =
                words.iter().map(String::as_str).filter(|w| lower.contains(w)).collect();
            if !hook && lower.contains(&["../sha", "red"].concat()) && !told_of_the_cases(&path) {
                found.push("a place outside");
            }
            wrong.extend(found.iter().map(|w| format!("{path}:{} {w}", number + 1)));
        }
    }
    none_of(&wrong);
}

/// Documents that say what `make test` does with conformance cases beside a checkout.
fn told_of_the_cases(path: &str) -> bool {
    path == "README.md" || path == "Makefile" || path.starts_with("docs/")
}

#[test]
fn packages_come_from_where_they_always_do() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let wrong: Vec<String> = lock
        .lines()
        .filter(|l| l.starts_with("source = ") && !l.starts_with("source = \"registry+"))
        .map(str::to_owned)
        .collect();
    none_of(&wrong);
}
