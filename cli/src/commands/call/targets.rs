//! `--call=targets`: the stages of a Dockerfile.

use frontend::Target;
use graph::SourceFile;
use serde::Serialize;

use super::location::{self, Location, Places};
use crate::table::Table;

/// BuildKit: `targets.List`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    targets: Vec<Row<'a>>,
    sources: [String; 1],
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    base: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    platform: &'a str,
    location: Location,
}

/// The stages as a JSON document.
pub(super) fn json(targets: &[Target], file: &SourceFile) -> Result<String, serde_json::Error> {
    let places = Places::new(file);
    let targets = targets
        .iter()
        .map(|target| Row {
            name: &target.name,
            default: target.default,
            description: &target.description,
            base: &target.base,
            platform: &target.platform,
            location: places.of(target.span),
        })
        .collect();
    let document = Document { targets, sources: [location::data(file)] };
    serde_json::to_string_pretty(&document).map(|json| json + "\n")
}

/// The stages as a table.
pub(super) fn text(targets: &[Target]) -> String {
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]).gap(1);
    for target in targets {
        let name = match (target.name.as_str(), target.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        table.row([name, target.description.clone()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let source = "# base has all\nFROM --platform=$BUILDPLATFORM a AS base\nFROM base\n";
        let parsed = frontend::parse("Dockerfile", source);
        let options = frontend::LowerOptions::new(oci::Platform::host());
        let targets = frontend::targets(&parsed, &options).unwrap();
        assert_eq!(text(&targets), "TARGET    DESCRIPTION\nbase      has all\n(default)\n");
        let named = frontend::parse("D", "FROM a AS x\n");
        let named = frontend::targets(&named, &options).unwrap();
        assert_eq!(text(&named), "TARGET      DESCRIPTION\nx (default)\n");
        let json = json(&targets, &parsed.source).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let [first, last] = &json["targets"].as_array().unwrap()[..] else { panic!() };
        assert_eq!((&first["name"], &first["base"]), (&"base".into(), &"a".into()));
        assert_eq!(first["platform"], "$BUILDPLATFORM");
        assert_eq!(first["location"]["ranges"][0]["start"]["line"], 2);
        assert!(first.get("default").is_none() && last.get("name").is_none());
        assert_eq!(last["default"], true);
        assert!(json["sources"][0].is_string());
    }
}
