//! `--call=subrequests.describe`: the calls.

use serde::Serialize;

use crate::table::Table;

/// The version of every call.
const VERSION: &str = "1.0.0";

/// Names and what they do. The names in JSON are those of BuildKit's frontend.
const CALLS: [(&str, &str, &str); 5] = [
    ("check", "frontend.lint", "Report what is doubtful or wrong in the Dockerfile"),
    ("outline", "frontend.outline", "List what the target takes"),
    ("targets", "frontend.targets", "List the stages of the Dockerfile"),
    ("ignore", "frontend.ignore", "Tell which line of the ignore file decides about paths"),
    ("subrequests.describe", "frontend.subrequests.describe", "List the calls"),
];

/// BuildKit: `subrequests.Request`.
#[derive(Debug, Serialize)]
struct Request<'a> {
    name: &'a str,
    version: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    description: &'a str,
}

/// The calls as a JSON document.
pub(super) fn json() -> Result<String, serde_json::Error> {
    let requests = CALLS.map(|(_, name, description)| Request {
        name,
        version: VERSION,
        kind: "rpc",
        description,
    });
    serde_json::to_string_pretty(&requests).map(|json| json + "\n")
}

/// The calls as a table.
pub(super) fn text() -> String {
    let mut table = Table::new(&["NAME", "VERSION", "DESCRIPTION"]).gap(1);
    for (name, _, description) in CALLS {
        table.row([name, VERSION, description].map(str::to_owned));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Call;

    #[test]
    fn every_call_is_listed() {
        for (name, _) in Call::NAMES.iter().filter(|(name, _)| !["build", "lint"].contains(name)) {
            assert!(text().contains(&format!("\n{name} ")), "{name}");
            assert!(CALLS.iter().any(|(n, ..)| n == name), "{name}");
        }
        let json: serde_json::Value = serde_json::from_str(&json().unwrap()).unwrap();
        assert_eq!(json[0]["name"], "frontend.lint");
        assert_eq!(json[0]["type"], "rpc");
    }
}
