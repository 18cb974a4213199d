//! `--check`: what is doubtful in a Dockerfile, and what is wrong.

use std::fmt::Write;

use frontend::lint;
use frontend::{Diagnostic, LowerError, Parsed};
use graph::{SourceFile, Span};
use serde::Serialize;

use super::location::{self, Location, Places};
use crate::errors::{diagnostic, excerpt};
use crate::progress::text;

/// What came of a check (BuildKit: `lint.LintResults`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Results<'a> {
    warnings: Vec<Warning<'a>>,
    sources: [Source<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    detail: &'a str,
    location: Location,
}

/// The Dockerfile. (BuildKit also has the definition of how it was loaded.)
#[derive(Debug, Serialize)]
struct Source<'a> {
    filename: &'a str,
    language: &'a str,
    data: String,
}

#[derive(Debug, Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

/// What was found, as a JSON document.
pub(super) fn json(
    parsed: &Parsed,
    warnings: &[Diagnostic],
    error: Option<&LowerError>,
) -> Result<String, serde_json::Error> {
    let file = &parsed.source;
    let places = Places::new(file);
    let results = Results {
        warnings: warnings.iter().map(|warning| one(&places, warning)).collect(),
        sources: [Source {
            filename: &file.name,
            language: "Dockerfile",
            data: location::data(file),
        }],
        build_error: error.map(|error| build_error(file, &places, error)),
    };
    serde_json::to_string_pretty(&results).map(|json| json + "\n")
}

fn one<'a>(places: &Places<'_>, warning: &'a Diagnostic) -> Warning<'a> {
    let rule = warning.rule.and_then(lint::rule);
    Warning {
        rule_name: warning.rule.unwrap_or_default(),
        description: rule.map_or("", |rule| rule.description),
        url: rule.and_then(|rule| rule.url),
        detail: &warning.message,
        location: places.of(warning.span),
    }
}

fn build_error(file: &SourceFile, places: &Places<'_>, error: &LowerError) -> BuildError {
    let (message, span) = match error {
        LowerError::Diagnostics(all) => {
            let span = all.iter().find(|d| d.is_error()).map(|d| d.span);
            let files = std::slice::from_ref(file);
            (diagnostic::message(all, files), span.unwrap_or_default())
        }
        LowerError::Resolve { span, .. } => (error.to_string(), *span),
        _ => (error.to_string(), Span::default()),
    };
    BuildError { message, location: places.of(span) }
}

/// What was found, as text; of an error nothing but the warnings before it.
pub(super) fn text(parsed: &Parsed, warnings: &[Diagnostic], failed: bool) -> String {
    let mut out = match warnings.len() {
        0 if failed => return String::new(),
        0 => return "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        n => format!("Check complete, {n} warnings have been found!\n"),
    };
    let file = &parsed.source;
    let places = Places::new(file);
    let lines: Vec<&str> = file.text.lines().collect();
    for warning in warnings {
        let name = warning.rule.unwrap_or_default();
        let url = lint::rule(name).and_then(|rule| rule.url);
        let url = url.map_or_else(String::new, |url| format!(" - {url}"));
        let message = text::clean(&warning.message, false);
        let _ = write!(out, "\nWARNING: {name}{url}\n{message}\n");
        out.push_str(&excerpt::of_lines(&file.name, &lines, places.lines(warning.span), None));
        if let Some(help) = &warning.help {
            let _ = writeln!(out, "help: {}", text::clean(help, false));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> (Parsed, Vec<Diagnostic>, Option<LowerError>) {
        struct None;
        impl frontend::ImageResolver for None {
            fn resolve(
                &self,
                _: &frontend::ImageRequest,
            ) -> Result<frontend::ResolvedImage, Box<dyn std::error::Error + Send + Sync>>
            {
                Err("nothing is there".into())
            }
        }
        let parsed = frontend::parse("Dockerfile", text);
        let options = frontend::LowerOptions::new(oci::Platform::host());
        let mut warnings = Vec::new();
        let lowered = frontend::lower_with_warnings(&parsed, &options, &None, &mut warnings);
        (parsed, warnings, lowered.err())
    }

    #[test]
    fn as_text() {
        let (parsed, warnings, _) = checked("FROM scratch AS A\nENV a b\nCOPY x /\nUSER a\n");
        assert_eq!(
            text(&parsed, &warnings, false),
            "\
Check complete, 2 warnings have been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'A' should be lowercase
Dockerfile:1
--------------------
   1 | >>> FROM scratch AS A
   2 |     ENV a b
   3 |     COPY x /
--------------------
help: write a

WARNING: LegacyKeyValueFormat - https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/
\"ENV key=value\" should be used instead of legacy \"ENV key value\" format
Dockerfile:2
--------------------
   1 |     FROM scratch AS A
   2 | >>> ENV a b
   3 |     COPY x /
   4 |     USER a
--------------------
help: write ENV a=\"b\"
"
        );
        assert_eq!(text(&parsed, &[], false), "Check complete, no warnings found.\n");
        assert_eq!(text(&parsed, &[], true), "");
        assert!(text(&parsed, &warnings[..1], true).starts_with("Check complete, 1 warning has"));
    }

    #[test]
    fn as_json() {
        let (parsed, warnings, error) = checked("FROM scratch\nENV a b\nRUNN\n");
        assert!(error.is_some());
        let text = json(&parsed, &warnings, error.as_ref()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["warnings"].as_array().map(Vec::len), Some(0));
        assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 3);
        let message = json["buildError"]["message"].as_str().unwrap();
        assert!(message.contains("unknown instruction: RUNN"), "{message}");

        let (parsed, warnings, error) = checked("FROM scratch\nENV a b\nCMD x\n");
        let text = super::json(&parsed, &warnings, error.as_ref()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json.get("buildError").is_none());
        assert_eq!(json["sources"][0]["filename"], "Dockerfile");
        assert_eq!(json["sources"][0]["language"], "Dockerfile");
        assert_eq!(json["sources"][0]["data"], "RlJPTSBzY3JhdGNoCkVOViBhIGIKQ01EIHgK");
        let warning = &json["warnings"][0];
        assert_eq!(warning["ruleName"], "LegacyKeyValueFormat");
        assert!(warning["url"].as_str().unwrap().ends_with("/legacy-key-value-format/"));
        assert!(warning["description"].as_str().is_some_and(|d| !d.is_empty()));
        assert!(warning["detail"].as_str().unwrap().contains("ENV key=value"));
        assert_eq!(warning["location"]["sourceIndex"], 0);
        let range = &warning["location"]["ranges"][0];
        assert_eq!((&range["start"]["line"], &range["end"]["line"]), (&2.into(), &2.into()));
        assert_eq!(
            (&range["start"]["character"], &range["end"]["character"]),
            (&0.into(), &7.into())
        );

        let (parsed, warnings, error) = checked("FROM nothing\n");
        let text = super::json(&parsed, &warnings, error.as_ref()).unwrap();
        assert!(text.contains("nothing is there"), "{text}");
    }
}
