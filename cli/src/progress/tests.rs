//! The views on recorded events.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::Timestamp;
use solver::{Event, EventSink, ProgressId, Stream, Warning};

use super::model::Model;
use super::renderer::Renderer;
use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp { seconds: millis / 1000, nanos: (millis % 1000) as u32 * 1_000_000 }
}

fn vertex(id: u64, name: &str) -> Event {
    Event::Vertex {
        id: ProgressId(id),
        digest: format!("sha256:{id}"),
        name: name.to_owned(),
        inputs: if id > 1 { vec![format!("sha256:{}", id - 1)] } else { Vec::new() },
    }
}

fn started(id: u64, t: i64) -> Event {
    Event::Started { id: ProgressId(id), at: at(t) }
}

fn done(id: u64, t: i64) -> Event {
    Event::Done { id: ProgressId(id), at: at(t) }
}

fn log(id: u64, t: i64, text: &str) -> Event {
    let data = text.as_bytes().to_vec();
    Event::Log { id: ProgressId(id), stream: Stream::Stdout, data, at: at(t) }
}

fn status(id: u64, name: &str, t: i64, current: u64, total: u64, end: Option<i64>) -> Event {
    Event::Status {
        id: ProgressId(id),
        name: name.to_owned(),
        current,
        total,
        started: at(t),
        completed: end.map(at),
    }
}

/// What the view writes for events at the given times (milliseconds), with a tick after each.
fn show(mut view: impl Renderer, events: &[(i64, Event)]) -> String {
    let mut model = Model::default();
    let mut out = Vec::new();
    for (t, event) in events {
        model.apply(event);
        view.event(&model, event, at(*t), &mut out);
        view.tick(&model, at(*t), (80, 24), &mut out);
    }
    let end = events.last().map_or(0, |(t, _)| *t);
    view.finish(&model, at(end), (80, 24), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn plain_one_step_after_the_other() {
    let text = show(
        plain::Plain::new(false),
        &[
            (0, vertex(1, "[internal] load build definition from Dockerfile")),
            (0, vertex(2, "[1/2] FROM busybox")),
            (0, vertex(3, "[2/2] RUN echo hi\n")),
            (0, started(1, 0)),
            (10, status(1, "transferring dockerfile: 97B", 0, 0, 0, Some(10))),
            (20, done(1, 20)),
            (20, started(2, 20)),
            (30, status(2, "sha256:ab", 20, 1_200_000, 3_400_000, None)),
            (40, status(2, "sha256:ab", 20, 2_000_000, 3_400_000, None)),
            (240, status(2, "sha256:ab", 20, 3_400_000, 3_400_000, Some(240))),
            (240, done(2, 240)),
            (250, started(3, 250)),
            (562, log(3, 562, "text\npart")),
            (570, log(3, 570, "ial\nlast")),
            (650, done(3, 650)),
        ],
    );
    assert_eq!(
        text,
        "\
#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 97B done
#1 DONE 0.0s

#2 [1/2] FROM busybox
#2 sha256:ab 1.20MB / 3.40MB
#2 sha256:ab 3.40MB / 3.40MB 0.2s done
#2 DONE 0.2s

#3 [2/2] RUN echo hi 
#3 0.312 text
#3 0.320 partial
#3 0.400 last
#3 DONE 0.4s
"
    );
}

#[test]
fn plain_two_steps_at_the_same_time() {
    let text = show(
        plain::Plain::new(false),
        &[
            (0, vertex(1, "[a 1/1] RUN a")),
            (0, vertex(2, "[b 1/1] RUN b")),
            (0, started(1, 0)),
            (0, started(2, 0)),
            (100, log(1, 100, "a1\n")),
            (200, log(2, 200, "b1\n")),
            (300, log(1, 300, "a2\n")),
            (1400, log(2, 1400, "b2\n")),
            (1500, log(1, 1500, "a3\n")),
            (1600, done(2, 1600)),
            (1700, done(1, 1700)),
        ],
    );
    assert_eq!(
        text,
        "\
#1 [a 1/1] RUN a
#1 0.100 a1
#1 0.300 a2
#1 ...

#2 [b 1/1] RUN b
#2 0.200 b1
#2 1.400 b2
#2 DONE 1.6s

#1 [a 1/1] RUN a
#1 1.500 a3
#1 DONE 1.7s
"
    );
}

#[test]
fn plain_patience_has_an_end() {
    let mut events =
        vec![(0, vertex(1, "a")), (0, vertex(2, "b")), (0, started(1, 0)), (0, started(2, 0))];
    for n in 0..80 {
        events.push((n * 100, log(1, n * 100, "talk\n")));
    }
    events.push((8000, done(1, 8000)));
    events.push((8000, done(2, 8000)));
    let text = show(plain::Plain::new(false), &events);
    assert_eq!(text.matches("#1 a\n").count(), 2, "{text}");
    assert_eq!(text.matches("#1 ...\n").count(), 1);
    assert_eq!(text.matches("talk").count(), 80);
}

#[test]
fn plain_ends() {
    let text = show(
        plain::Plain::new(false),
        &[
            (0, vertex(1, "one")),
            (0, vertex(2, "two")),
            (0, vertex(3, "three")),
            (0, vertex(4, "four")),
            (0, Event::Cached { id: ProgressId(1), at: at(0) }),
            (0, started(2, 0)),
            (0, started(3, 0)),
            (5, Event::Warning(Warning { id: Some(ProgressId(2)), message: "look".into() })),
            (5, Event::Warning(Warning { id: None, message: "nowhere".into() })),
            (9, Event::Failed { id: ProgressId(2), at: at(9), error: "exit code: 1".into() }),
            (9, Event::Cancelled { id: ProgressId(3), at: at(9) }),
            (9, Event::Cancelled { id: ProgressId(4), at: at(9) }),
        ],
    );
    assert_eq!(
        text,
        "#1 one\n#1 CACHED\n\n#2 two\n#2 WARN: look\n#2 ERROR: exit code: 1\n\n#3 three\n#3 CANCELED\n"
    );
}

#[test]
fn rawjson_has_buildkits_fields() {
    let text = show(
        rawjson::RawJson,
        &[
            (0, vertex(1, "a")),
            (0, vertex(2, "b")),
            (0, started(1, 0)),
            (10, status(1, "s", 0, 1, 2, Some(10))),
            (20, log(1, 20, "hi")),
            (20, Event::Warning(Warning { id: Some(ProgressId(1)), message: "w".into() })),
            (30, done(1, 30)),
            (30, Event::Cached { id: ProgressId(2), at: at(30) }),
            (40, log(9, 20, "nobody")),
        ],
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"vertexes":[{"digest":"sha256:1","name":"a"}]}"#,
            r#"{"vertexes":[{"digest":"sha256:2","inputs":["sha256:1"],"name":"b"}]}"#,
            r#"{"vertexes":[{"digest":"sha256:1","name":"a","started":"1970-01-01T00:00:00Z"}]}"#,
            r#"{"statuses":[{"id":"s","vertex":"sha256:1","total":2,"current":1,"timestamp":"1970-01-01T00:00:00.010000000Z","started":"1970-01-01T00:00:00Z","completed":"1970-01-01T00:00:00.010000000Z"}]}"#,
            r#"{"logs":[{"vertex":"sha256:1","stream":1,"data":"aGk=","timestamp":"1970-01-01T00:00:00.020000000Z"}]}"#,
            r#"{"warnings":[{"vertex":"sha256:1","level":1,"short":"dw=="}]}"#,
            r#"{"vertexes":[{"digest":"sha256:1","name":"a","started":"1970-01-01T00:00:00Z","completed":"1970-01-01T00:00:00.030000000Z"}]}"#,
            r#"{"vertexes":[{"digest":"sha256:2","inputs":["sha256:1"],"name":"b","started":"1970-01-01T00:00:00.030000000Z","completed":"1970-01-01T00:00:00.030000000Z","cached":true}]}"#,
        ]
    );
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn view(mode: ProgressMode) -> View {
    View::choose(Some(mode), false, &Environment::default(), Terminals::default()).0
}

fn build(progress: &Progress) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let id = progress.next_id();
                progress.event(vertex(id.0, &format!("step {}", id.0)));
                progress.event(Event::Started { id, at: Timestamp::now() });
                for n in 0..100 {
                    progress.log(id, Stream::Stderr, format!("line {n}\n").as_bytes());
                }
                let at = Timestamp::now();
                progress.event(Event::Failed { id, at, error: "exit code: 1".to_owned() });
            });
        }
    });
}

#[test]
fn events_from_many_threads_arrive_whole() {
    let buffer = Buffer::default();
    let progress =
        Progress::start_on(&view(ProgressMode::Plain), Box::new(buffer.clone())).unwrap();
    build(&progress);
    progress.note("one word more");
    let summary = progress.finish();
    assert_eq!(progress.finish(), summary);
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    for number in 1..=4 {
        let lines: Vec<&str> = text
            .lines()
            .filter(|l| l.starts_with(&format!("#{number} ")) && l.contains(" line "))
            .collect();
        let order: Vec<usize> =
            lines.iter().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
    assert_eq!(text.matches("ERROR: exit code: 1").count(), 4);
    assert!(text.contains("WARNING: one word more\n"));
    assert_eq!(summary.failed.len(), 4);
    assert_eq!(summary.failed[0].lines.last().unwrap().text, "line 99");
}

#[test]
fn a_reader_that_went_away_stops_nothing() {
    let progress = Progress::start_on(&view(ProgressMode::Rawjson), Box::new(Closed)).unwrap();
    build(&progress);
    assert_eq!(progress.finish().failed.len(), 4);
}

#[test]
fn output_is_limited_and_its_end_kept() {
    let buffer = Buffer::default();
    let mut view = view(ProgressMode::Plain);
    view.limits = LogLimits { size: Some(1000), speed: None };
    let progress = Progress::start_on(&view, Box::new(buffer.clone())).unwrap();
    let id = progress.next_id();
    progress.event(vertex(id.0, "noisy"));
    progress.event(Event::Started { id, at: Timestamp::now() });
    for n in 0..1000 {
        progress.log(id, Stream::Stdout, format!("line {n}\n").as_bytes());
    }
    progress.event(Event::Failed { id, at: Timestamp::now(), error: "x".to_owned() });
    let summary = progress.finish();
    let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("[output clipped, log limit 1000B reached]"), "{text}");
    assert!(text.len() < 5000);
    assert_eq!(summary.failed[0].lines.last().unwrap().text, "line 999");
}

#[test]
fn which_view() {
    let env = |term: &str, progress| Environment {
        term: Some(term.to_owned()),
        progress,
        ..Environment::default()
    };
    let tty = Terminals { stdout: false, stderr: true };
    let choose = |option, quiet, env: &Environment, terminals| {
        let (view, notes) = View::choose(option, quiet, env, terminals);
        (view.mode, notes.len())
    };
    use ProgressMode::{Auto, Plain, Quiet, Tty};
    let xterm = env("xterm", None);
    assert_eq!(choose(None, false, &xterm, tty), (Tty, 0));
    assert_eq!(choose(None, false, &xterm, Terminals::default()), (Plain, 0));
    assert_eq!(choose(None, false, &env("dumb", None), tty), (Plain, 0));
    assert_eq!(choose(Some(Tty), false, &xterm, Terminals::default()), (Plain, 1));
    assert_eq!(choose(None, false, &env("xterm", Some(Plain)), tty), (Plain, 0));
    assert_eq!(choose(Some(Auto), false, &env("xterm", Some(Plain)), tty), (Tty, 0));
    assert_eq!(choose(Some(Plain), true, &xterm, tty), (Quiet, 0));
    let rate = View::choose(None, false, &xterm, tty).0.rate;
    assert_eq!(rate, Duration::from_millis(150));
}
