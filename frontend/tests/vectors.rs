//! BuildKit's own test vectors, where they are at hand.

mod support;

use std::collections::BTreeMap;
use std::fs;

use frontend::syntax::{Args, Raw, scan};
use frontend::word::Lexer;
use support::vectors;

/// An instruction as BuildKit's parser tests print it.
fn expression(raw: &Raw) -> String {
    let mut parts = vec![raw.keyword.value.to_lowercase()];
    if !raw.flags.is_empty() {
        let flags: Vec<String> = raw.flags.iter().map(|f| quote(&f.value)).collect();
        parts.push(format!("[{}]", flags.join(" ")));
    }
    arguments(&raw.args, &mut parts);
    format!("({})", parts.join(" "))
}

fn arguments(args: &Args, parts: &mut Vec<String>) {
    match args {
        Args::None | Args::Invalid => {}
        Args::Text(word) => parts.push(quote(&word.value)),
        Args::Words(words) | Args::Json(words) => {
            parts.extend(words.iter().map(|w| quote(&w.value)));
        }
        Args::Pairs(pairs) => {
            for pair in pairs {
                let separator = if pair.legacy { "" } else { "=" };
                parts.extend([&*pair.key.value, &*pair.value.value, separator].map(quote));
            }
        }
        Args::Health(kind, rest) => {
            parts.push(quote(&kind.value));
            arguments(rest, parts);
        }
        Args::Sub(sub) => parts.push(expression(sub)),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0' => out.push_str("\\x00"),
            c => out.push(c),
        }
    }
    out + "\""
}

#[test]
fn parser_trees() {
    let Some(folder) = vectors("vectors/parser") else { return };
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(path.join("Dockerfile")).unwrap();
        let want = fs::read_to_string(path.join("result")).unwrap();
        let (file, diagnostics) = scan(&text);
        let errors: Vec<_> = diagnostics.iter().filter(|d| d.is_error()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let got: Vec<String> = file.instructions.iter().map(expression).collect();
        assert_eq!(got.join("\n"), want.trim_end(), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 33);
}

#[test]
fn parser_negatives() {
    let Some(folder) = vectors("vectors/parser-negative") else { return };
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(path.join("Dockerfile")).unwrap();
        assert!(frontend::parse("Dockerfile", &text).has_errors(), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn variables() {
    let Some(path) = vectors("vectors/envVarTest") else { return };
    let pairs = [("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")];
    let env: BTreeMap<String, String> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut count = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with('W') {
            continue;
        }
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let got = Lexer::new('\\').expand(parts[1], &env);
        match (parts[2], got) {
            ("error", Err(_)) => {}
            (want, Ok(got)) => assert_eq!(got.text, want, "{line}"),
            (_, Err(e)) => panic!("{line}: {e}"),
        }
        count += 1;
    }
    assert!(count > 150, "{count}");
}

#[test]
fn words() {
    let Some(path) = vectors("vectors/wordsTest") else { return };
    let mut env = BTreeMap::new();
    let mut count = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        if let Some(variable) = line.strip_prefix("ENV ") {
            let (name, value) = variable.trim_start().split_once('=').unwrap();
            env.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (input, want) = line.split_once('|').unwrap();
        let want: Vec<&str> = want.trim_start_matches(' ').split(',').collect();
        match Lexer::new('\\').expand(input.trim(), &env) {
            Ok(got) => assert_eq!(got.words, want, "{line}"),
            Err(_) => assert_eq!(want, ["error"], "{line}"),
        }
        count += 1;
    }
    assert!(count > 20, "{count}");
}
