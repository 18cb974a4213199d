//! Progress as JSON: one of BuildKit's `SolveStatus` documents per line.
//!
//! Source of the field names: the JSON form of BuildKit's `client.SolveStatus`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Timestamp;
use serde::Serialize;
use solver::{Event, ProgressId, Stream};

use super::model::{Model, State, Step};
use super::renderer::Renderer;

/// The view.
#[derive(Default)]
pub struct RawJson;

#[derive(Default, Serialize)]
struct SolveStatus<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<VertexStatus<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<VertexLog<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<VertexWarning<'a>>,
}

#[derive(Serialize)]
struct Vertex<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    inputs: &'a [String],
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct VertexStatus<'a> {
    id: &'a str,
    vertex: &'a str,
    #[serde(skip_serializing_if = "zero")]
    total: u64,
    current: u64,
    timestamp: String,
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Serialize)]
struct VertexLog<'a> {
    vertex: &'a str,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
struct VertexWarning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vertex: Option<&'a str>,
    level: u8,
    short: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn zero(n: &u64) -> bool {
    *n == 0
}

impl Renderer for RawJson {
    fn event(&mut self, model: &Model, event: &Event, now: Timestamp, out: &mut Vec<u8>) {
        let digest = |id: &ProgressId| model.step(*id).map(|s| s.digest.as_str());
        let mut status = SolveStatus::default();
        match event {
            Event::Vertex { id, .. }
            | Event::Started { id, .. }
            | Event::Cached { id, .. }
            | Event::Done { id, .. }
            | Event::Failed { id, .. }
            | Event::Cancelled { id, .. } => {
                status.vertexes.extend(model.step(*id).map(vertex));
            }
            Event::Finishing { .. } => {}
            Event::Status { id, name, current, total, started, completed } => {
                status.statuses.extend(digest(id).map(|vertex| VertexStatus {
                    id: name,
                    vertex,
                    total: *total,
                    current: *current,
                    timestamp: completed.unwrap_or(now).to_string(),
                    started: started.to_string(),
                    completed: completed.map(|t| t.to_string()),
                }));
            }
            Event::Log { id, stream, data, at } => {
                status.logs.extend(digest(id).map(|vertex| VertexLog {
                    vertex,
                    stream: match stream {
                        Stream::Stdout => 1,
                        Stream::Stderr => 2,
                    },
                    data: STANDARD.encode(data),
                    timestamp: at.to_string(),
                }));
            }
            Event::Warning(warning) => status.warnings.push(VertexWarning {
                vertex: warning.id.as_ref().and_then(digest),
                level: 1,
                short: STANDARD.encode(&warning.message),
            }),
        }
        write(&status, out);
    }

    fn note(&mut self, text: &str, out: &mut Vec<u8>) {
        let warning = VertexWarning { vertex: None, level: 1, short: STANDARD.encode(text) };
        write(&SolveStatus { warnings: vec![warning], ..SolveStatus::default() }, out);
    }

    fn remark(&mut self, text: &str, out: &mut Vec<u8>) {
        self.note(text, out);
    }

    fn tick(&mut self, _: &Model, _: Timestamp, _: (usize, usize), _: &mut Vec<u8>) {}

    fn finish(&mut self, _: &Model, _: Timestamp, _: (usize, usize), _: &mut Vec<u8>) {}
}

fn vertex(step: &Step) -> Vertex<'_> {
    Vertex {
        digest: &step.digest,
        inputs: &step.inputs,
        name: &step.name,
        started: step.started.map(|t| t.to_string()),
        completed: step.ended.map(|t| t.to_string()),
        cached: step.state == State::Cached,
        error: match &step.state {
            State::Failed(error) => Some(error),
            State::Cancelled => Some("context canceled"),
            _ => None,
        },
    }
}

fn write(status: &SolveStatus<'_>, out: &mut Vec<u8>) {
    let empty = status.vertexes.is_empty()
        && status.statuses.is_empty()
        && status.logs.is_empty()
        && status.warnings.is_empty();
    if !empty && serde_json::to_writer(&mut *out, status).is_ok() {
        out.push(b'\n');
    }
}
