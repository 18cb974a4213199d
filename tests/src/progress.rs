//! What a build told while it ran, as the `plain` and `rawjson` views show it.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was run.
    Done,
    /// It was known.
    Cached,
    /// It failed, with this message.
    Failed(String),
    /// It was stopped.
    Cancelled,
    /// Nothing was said.
    Open,
}

/// A step of the `plain` view.
#[derive(Clone, Debug)]
pub struct Step {
    /// Such as `[build 2/5] RUN make`.
    pub name: String,
    /// Its output, without times.
    pub log: Vec<String>,
    /// How it ended.
    pub end: End,
}

/// Reads the `plain` view; the last line counts only if it is whole.
pub fn plain(text: &str) -> Vec<Step> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
    for line in whole.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|l| l.split_once(' ')) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        let Some(step) = steps.get_mut(&number) else {
            let step = Step { name: rest.to_owned(), log: Vec::new(), end: End::Open };
            steps.insert(number, step);
            continue;
        };
        if rest == "CACHED" {
            step.end = End::Cached;
        } else if rest == "CANCELED" {
            step.end = End::Cancelled;
        } else if rest.starts_with("DONE ") {
            step.end = End::Done;
        } else if let Some(error) = rest.strip_prefix("ERROR: ") {
            step.end = End::Failed(error.to_owned());
        } else if rest != "..." && rest != step.name {
            step.log.push(rest.split_once(' ').map_or(rest, |(_, text)| text).to_owned());
        }
    }
    steps.into_values().collect()
}

/// A step of the `rawjson` view.
#[derive(Clone, Debug, Default)]
pub struct Vertex {
    /// Its name.
    pub name: String,
    /// When it began, as RFC 3339 writes it.
    pub started: Option<String>,
    /// When it ended.
    pub completed: Option<String>,
    /// Whether it was known.
    pub cached: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Its output.
    pub log: String,
}

/// Reads the `rawjson` view; the last word on a step counts.
///
/// # Panics
/// If a line is no JSON.
pub fn rawjson(text: &str) -> Vec<Vertex> {
    let mut vertices: BTreeMap<String, Vertex> = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with('{')) {
        let status: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        for v in status["vertexes"].as_array().into_iter().flatten() {
            let text = |key: &str| v[key].as_str().map(str::to_owned);
            let vertex = vertices.entry(text("digest").expect("a digest")).or_default();
            vertex.name = text("name").expect("a name");
            vertex.started = text("started");
            vertex.completed = text("completed");
            vertex.cached = v["cached"] == true;
            vertex.error = text("error");
        }
        for log in status["logs"].as_array().into_iter().flatten() {
            let data = log["data"].as_str().expect("data");
            let data = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
            let vertex = vertices.entry(log["vertex"].as_str().expect("a vertex").to_owned());
            vertex.or_default().log.push_str(&String::from_utf8_lossy(&data));
        }
    }
    vertices.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_plain_view() {
        let text = "#1 [internal] load\n#1 DONE 0.0s\n\n#2 [1/2] RUN a\n#2 0.1 one\n#2 ...\n\n\
                    #3 [x 1/1] RUN b\n#3 CACHED\n\n#2 [1/2] RUN a\n#2 0.2 two words\n\
                    #2 ERROR: exit code: 1\n#4 cut";
        let steps = plain(text);
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[1].log, ["one", "two words"]);
        assert_eq!(steps[1].end, End::Failed("exit code: 1".into()));
        assert_eq!(steps[2].end, End::Cached);
    }
}
