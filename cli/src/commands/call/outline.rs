//! `--call=outline`: what a target takes.

use frontend::{Outline, OutlineMount};
use graph::SourceFile;
use serde::Serialize;

use super::location::{self, Location, Places};
use crate::table::Table;

/// BuildKit: `outline.Outline`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Mount<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<Cache<'a>>,
    sources: [String; 1],
}

#[derive(Debug, Serialize)]
struct Arg<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    location: Location,
}

#[derive(Debug, Serialize)]
struct Mount<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Debug, Serialize)]
struct Cache<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    location: Location,
}

/// The outline as a JSON document.
pub(super) fn json(outline: &Outline, file: &SourceFile) -> Result<String, serde_json::Error> {
    let places = Places::new(file);
    let document = Document {
        name: &outline.name,
        description: &outline.description,
        args: outline
            .args
            .iter()
            .map(|arg| Arg {
                name: &arg.name,
                description: &arg.description,
                value: &arg.value,
                location: places.of(arg.span),
            })
            .collect(),
        secrets: mounts(&outline.secrets, &places),
        ssh: mounts(&outline.ssh, &places),
        cache: outline
            .caches
            .iter()
            .map(|cache| Cache { id: &cache.id, location: places.of(cache.span) })
            .collect(),
        sources: [location::data(file)],
    };
    serde_json::to_string_pretty(&document).map(|json| json + "\n")
}

fn mounts<'a>(list: &'a [OutlineMount], places: &Places<'_>) -> Vec<Mount<'a>> {
    let one = |mount: &'a OutlineMount| Mount {
        name: &mount.id,
        required: mount.required,
        location: places.of(mount.span),
    };
    list.iter().map(one).collect()
}

/// The outline as tables; an empty line follows each.
pub(super) fn text(outline: &Outline) -> String {
    let mut tables = Vec::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut table = Table::new(&["TARGET:", name]).gap(1);
        if !outline.description.is_empty() {
            table.row(["DESCRIPTION:".to_owned(), outline.description.clone()]);
        }
        tables.push(table);
    }
    if !outline.args.is_empty() {
        let mut table = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for arg in &outline.args {
            table.row([arg.name.clone(), arg.value.clone(), arg.description.clone()]);
        }
        tables.push(table);
    }
    for (heading, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if list.is_empty() {
            continue;
        }
        let mut table = Table::new(&[heading, "REQUIRED"]);
        for mount in list {
            let required = if mount.required { "true" } else { "" };
            table.row([mount.id.clone(), required.to_owned()]);
        }
        tables.push(table);
    }
    if !outline.caches.is_empty() {
        let mut table = Table::new(&["CACHE"]);
        outline.caches.iter().for_each(|cache| table.row([cache.id.clone()]));
        tables.push(table);
    }
    tables.iter().map(|table| format!("{table}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use frontend::OutlineArg;
    use graph::Span;

    fn outline() -> Outline {
        let arg = |name: &str, value: &str, description: &str| OutlineArg {
            name: name.to_owned(),
            description: description.to_owned(),
            value: value.to_owned(),
            span: Span::new(0, 3),
        };
        let mount = |id: &str, required| OutlineMount {
            id: id.to_owned(),
            required,
            span: Span::new(4, 5),
        };
        Outline {
            name: "app".to_owned(),
            description: "the program".to_owned(),
            args: vec![arg("VERSION", "1", "of it"), arg("X", "", "")],
            secrets: vec![mount("token", true), mount("other", false)],
            ssh: vec![mount("default", false)],
            caches: vec![mount("/c", false)],
        }
    }

    #[test]
    fn as_text() {
        assert_eq!(
            text(&outline()),
            "\
TARGET:      app
DESCRIPTION: the program

BUILD ARG   VALUE   DESCRIPTION
VERSION     1       of it
X

SECRET   REQUIRED
token    true
other

SSH       REQUIRED
default

CACHE
/c

"
        );
        assert_eq!(text(&Outline::default()), "");
    }

    #[test]
    fn as_json() {
        let file = SourceFile { name: "Dockerfile".to_owned(), text: "ARG\nRUN\n".into() };
        let text = json(&outline(), &file).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["name"], &json["description"]), (&"app".into(), &"the program".into()));
        assert_eq!(json["args"][0]["value"], "1");
        assert_eq!(json["args"][0]["location"]["ranges"][0]["start"]["line"], 1);
        assert!(json["args"][1].get("value").is_none());
        assert_eq!(
            (&json["secrets"][0]["name"], &json["secrets"][0]["required"]),
            (&"token".into(), &true.into())
        );
        assert!(json["secrets"][1].get("required").is_none());
        assert_eq!(
            (&json["ssh"][0]["name"], &json["cache"][0]["ID"]),
            (&"default".into(), &"/c".into())
        );
        assert_eq!(json["sources"][0], "QVJHClJVTgo=");
        let empty = super::json(&Outline::default(), &file).unwrap();
        assert!(!empty.contains("args") && !empty.contains("name"), "{empty}");
    }
}
