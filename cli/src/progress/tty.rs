//! Progress as a view that is redrawn in place on a terminal.
//!
//! [`frame`] is pure: the same model, size and time give the same lines.

use std::io::Write;

use oci::Timestamp;
use solver::Event;

use super::colours::Colours;
use super::model::{Model, State, Step};
use super::renderer::Renderer;
use super::text;

/// Lines of output under a running step, unless `BUILDKIT_TTY_LOG_LINES` says otherwise.
pub const LOG_LINES: usize = 6;
/// Columns for the seconds at the end of a line.
const TIME_ROOM: usize = 8;
/// Rows of the terminal that stay free.
const FREE_ROWS: usize = 2;
/// The fewest columns that are drawn into.
const MIN_WIDTH: usize = 20;

/// How a frame is drawn.
#[derive(Clone, Debug)]
pub struct Style {
    /// Its colours.
    pub colours: Colours,
    /// Lines of output under a running step.
    pub log_lines: usize,
}

/// A line of a frame.
#[derive(Clone, Debug)]
struct Row {
    text: String,
    seconds: Option<f64>,
    colour: String,
    /// Whether it may be left out where there is no room: steps that are over before parts and
    /// output of those that run.
    spare: Spare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spare {
    Over,
    Detail,
    Running,
    Failed,
}

/// The lines of the view: a header, then a line for each step that started, with parts and
/// output under those that run. At most `height` rows, if it is given.
pub fn frame(
    model: &Model,
    style: &Style,
    now: Timestamp,
    width: usize,
    height: Option<usize>,
    finished: bool,
) -> Vec<String> {
    let width = width.max(MIN_WIDTH);
    let mut rows: Vec<Row> = Vec::new();
    for step in model.steps() {
        step_rows(step, style, now, &mut rows);
    }
    if let Some(height) = height {
        shorten(&mut rows, height.saturating_sub(FREE_ROWS + 1).max(1));
    }
    let (over, all) = model.count();
    let start = model.steps().iter().filter_map(|s| s.started).min();
    let seconds = start.map_or(0.0, |s| {
        let last = model.steps().iter().filter_map(|s| s.ended).max();
        text::seconds(s, if finished { last.unwrap_or(now) } else { now })
    });
    let end = if finished { " FINISHED" } else { "" };
    let mut lines =
        vec![text::fit(&format!("[+] Building {seconds:.1}s ({over}/{all}){end}"), width - 1)];
    lines.extend(rows.iter().map(|r| row_line(r, width)));
    lines
}

fn step_rows(step: &Step, style: &Style, now: Timestamp, rows: &mut Vec<Row>) {
    if step.started.is_none() {
        return;
    }
    let (prefix, colour, spare) = match &step.state {
        State::Waiting | State::Running => ("", "", Spare::Running),
        State::Done => ("", style.colours.run.as_str(), Spare::Over),
        State::Cached => ("CACHED ", style.colours.run.as_str(), Spare::Over),
        State::Failed(_) => ("ERROR ", style.colours.error.as_str(), Spare::Failed),
        State::Cancelled => ("CANCELED ", style.colours.cancel.as_str(), Spare::Over),
    };
    rows.push(Row {
        text: format!(" => {prefix}{}", step.name),
        seconds: Some(step.duration(now)),
        colour: colour.to_owned(),
        spare,
    });
    if step.is_over() {
        return;
    }
    for part in &step.parts {
        let amount = text::amount(part.current, part.total);
        let space = if amount.is_empty() { "" } else { " " };
        let done = part.completed.is_some();
        rows.push(Row {
            text: format!(" => => {}{space}{amount}", part.name),
            seconds: Some(text::seconds(part.started, part.completed.unwrap_or(now))),
            colour: if done { style.colours.run.clone() } else { String::new() },
            spare: if done { Spare::Over } else { Spare::Detail },
        });
    }
    for line in step.tail.current(style.log_lines) {
        rows.push(Row {
            text: format!(" => => # {}", text::clean(&line, false)),
            seconds: None,
            colour: String::new(),
            spare: Spare::Detail,
        });
    }
}

/// Leaves rows out until `room` remain: the oldest of the least important kind first.
fn shorten(rows: &mut Vec<Row>, room: usize) {
    for kind in [Spare::Over, Spare::Detail, Spare::Running, Spare::Failed] {
        let mut excess = rows.len().saturating_sub(room);
        rows.retain(|row| {
            let goes = excess > 0 && row.spare == kind;
            excess -= usize::from(goes);
            !goes
        });
    }
}

fn row_line(row: &Row, width: usize) -> String {
    let time = row.seconds.map(|s| format!("{s:.1}s")).unwrap_or_default();
    // The last column stays free: writing there makes some terminals wrap.
    let room = width - 1 - if time.is_empty() { 0 } else { TIME_ROOM };
    let text = text::fit(&row.text, room);
    let line = if time.is_empty() {
        text
    } else {
        let gap = (width - 1).saturating_sub(text::width(&text) + time.len());
        format!("{text}{}{time}", " ".repeat(gap))
    };
    Colours::paint(&row.colour, &line)
}

/// The view: frames drawn over each other.
pub struct Tty {
    style: Style,
    /// Columns of each line of the frame on the screen.
    drawn: Vec<usize>,
    notes: Vec<String>,
    /// Whether anything changed since the last frame.
    changed: bool,
}

impl Tty {
    /// Nothing is drawn yet.
    pub fn new(style: Style) -> Self {
        Self { style, drawn: Vec::new(), notes: Vec::new(), changed: false }
    }

    /// Rows of the frame on the screen: a terminal that became narrower folds its lines.
    fn rows(&self, (width, height): (usize, usize)) -> usize {
        let rows: usize = self.drawn.iter().map(|used| used.div_ceil(width.max(1)).max(1)).sum();
        rows.min(height.saturating_sub(1))
    }

    fn draw(&mut self, lines: &[String], size: (usize, usize), out: &mut Vec<u8>) {
        // The cursor is hidden only while a frame is written: whenever the program ends, it is
        // there.
        let _ = write!(out, "\u{1b}[?25l");
        let up = self.rows(size);
        if up > 0 {
            let _ = write!(out, "\u{1b}[{up}A");
        }
        let _ = write!(out, "\r");
        for line in self.notes.drain(..).as_slice().iter().chain(lines) {
            let _ = writeln!(out, "\u{1b}[2K{line}");
        }
        let _ = write!(out, "\u{1b}[J\u{1b}[?25h");
        self.drawn = lines.iter().map(|l| text::width(&text::clean(l, false))).collect();
    }
}

impl Renderer for Tty {
    fn event(&mut self, _: &Model, _: &Event, _: Timestamp, _: &mut Vec<u8>) {
        self.changed = true;
    }

    fn note(&mut self, text: &str, _: &mut Vec<u8>) {
        let text = format!("WARNING: {}", text::clean(text, false));
        self.notes.push(Colours::paint(&self.style.colours.warning, &text));
        self.changed = true;
    }

    fn remark(&mut self, text: &str, _: &mut Vec<u8>) {
        self.notes.push(text::clean(text, false));
        self.changed = true;
    }

    fn tick(&mut self, model: &Model, now: Timestamp, size: (usize, usize), out: &mut Vec<u8>) {
        let running = model.steps().iter().any(|s| s.state == State::Running);
        if !std::mem::take(&mut self.changed) && !running {
            return;
        }
        let lines = frame(model, &self.style, now, size.0, Some(size.1), false);
        self.draw(&lines, size, out);
    }

    fn finish(&mut self, model: &Model, now: Timestamp, size: (usize, usize), out: &mut Vec<u8>) {
        if model.steps().is_empty() && self.notes.is_empty() {
            return;
        }
        let lines = frame(model, &self.style, now, size.0, None, true);
        self.draw(&lines, size, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solver::ProgressId;

    fn at(tenths: i64) -> Timestamp {
        Timestamp { seconds: tenths / 10, nanos: (tenths % 10) as u32 * 100_000_000 }
    }

    fn style() -> Style {
        Style { colours: Colours::none(), log_lines: 2 }
    }

    fn model(steps: u64) -> Model {
        let mut model = Model::default();
        for n in 0..steps {
            let id = ProgressId(n);
            model.apply(&Event::Vertex {
                id,
                digest: format!("d{n}"),
                name: format!("[{}/{steps}] RUN step {n}", n + 1),
                inputs: Vec::new(),
            });
            model.apply(&Event::Started { id, at: at(n as i64) });
        }
        model
    }

    fn log(model: &mut Model, id: u64, text: &str) {
        model.apply(&Event::Log {
            id: ProgressId(id),
            stream: solver::Stream::Stdout,
            data: text.as_bytes().to_vec(),
            at: at(5),
        });
    }

    #[test]
    fn a_frame() {
        let mut m = model(4);
        m.apply(&Event::Done { id: ProgressId(0), at: at(12) });
        m.apply(&Event::Cached { id: ProgressId(1), at: at(12) });
        m.apply(&Event::Failed { id: ProgressId(2), at: at(12), error: "x".into() });
        log(&mut m, 3, "one\ntwo\nthr\tee and something that is far too long for this\n");
        m.apply(&Event::Status {
            id: ProgressId(3),
            name: "extracting".into(),
            current: 1200,
            total: 3400,
            started: at(3),
            completed: None,
        });
        let lines = frame(&m, &style(), at(32), 44, Some(40), false);
        assert_eq!(
            lines,
            [
                "[+] Building 3.2s (3/4)",
                " => [1/4] RUN step 0                   1.2s",
                " => CACHED [2/4] RUN step 1            1.1s",
                " => ERROR [3/4] RUN step 2             1.0s",
                " => [4/4] RUN step 3                   2.9s",
                " => => extracting 1.20kB / 3.40kB      2.9s",
                " => => # two",
                " => => # thr    ee and something that is f…",
            ]
        );
        let last = frame(&m, &style(), at(99), 44, None, true);
        assert_eq!(last[0], "[+] Building 1.2s (3/4) FINISHED");
    }

    #[test]
    fn never_higher_or_wider_than_the_terminal() {
        let mut m = model(30);
        for n in 0..20 {
            m.apply(&Event::Done { id: ProgressId(n), at: at(40) });
        }
        for n in 20..30 {
            log(&mut m, n, "日本語日本語日本語日本語日本語\nb\nc\n");
        }
        for height in [1, 3, 5, 24] {
            for width in [0, 10, 21, 80] {
                let lines = frame(&m, &style(), at(50), width, Some(height), false);
                assert!(lines.len() <= height.max(2), "{height}: {}", lines.len());
                assert!(lines.iter().all(|l| text::width(l) < width.max(MIN_WIDTH)), "{lines:?}");
            }
        }
        let lines = frame(&m, &style(), at(50), 80, Some(14), false);
        assert_eq!(lines.len(), 12);
        assert!(lines[11].contains("RUN step 29") || lines[11].contains("# "), "{lines:?}");
    }

    #[test]
    fn a_narrower_terminal_folds_what_is_there() {
        let m = model(2);
        let mut tty = Tty::new(style());
        let mut out = Vec::new();
        tty.tick(&m, at(1), (80, 24), &mut out);
        assert_eq!(tty.rows((80, 24)), 3);
        // The header has 23 columns, the steps fill 79 of 80.
        assert_eq!(tty.rows((40, 24)), 5);
        assert_eq!(tty.rows((20, 24)), 10);
        assert_eq!(tty.rows((20, 5)), 4);
    }

    #[test]
    fn redraws_in_place() {
        let m = model(2);
        let mut tty = Tty::new(style());
        let mut out = Vec::new();
        tty.event(&m, &Event::Started { id: ProgressId(0), at: at(0) }, at(0), &mut out);
        tty.tick(&m, at(1), (80, 24), &mut out);
        tty.note("careful", &mut out);
        tty.finish(&m, at(2), (80, 24), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("\u{1b}[?25l").count(), text.matches("\u{1b}[?25h").count());
        assert!(
            text.contains("\u{1b}[3A\r\u{1b}[2KWARNING: careful\n\u{1b}[2K[+] Building"),
            "{text:?}"
        );
    }
}
