//! How long it takes to open the records of a state directory, to look for one, and to close them;
//! and the same with one more record to write.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cache::{Dialect, State};
use tempfile::TempDir;
use tests::temp;

use crate::cases::{Case, Size};
use crate::part::{Part, grouped};

/// What a record takes, about: key, contents, name, what it was made of.
const BYTES: usize = 600;
/// The domain that the rows are in.
const DOMAIN: &str = "bench";

/// The cases of one size.
pub fn part(size: Size) -> Part {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for rows in [10, size.pick(1000, 100_000)] {
        let dir = Rc::new(filled(rows));
        let case = |write| Open { dir: dir.clone(), rows, write, next: rows };
        cases.push(Box::new(case(false)));
        cases.push(Box::new(case(true)));
    }
    let how = "the library alone, in this process: open the state directory, look for one record, \
        close";
    Part { title: "records", how, cases }
}

/// A state directory with so many records.
fn filled(rows: u64) -> TempDir {
    let dir = temp::directory();
    let state = open(dir.path());
    for row in 0..rows {
        add(&state, row);
    }
    state.finish().expect("records can be written");
    drop(state);
    dir
}

fn open(dir: &Path) -> State {
    let dialect = Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 };
    State::open(dir, &dialect).expect("a state directory")
}

struct Open {
    dir: Rc<TempDir>,
    rows: u64,
    /// A row is added each time.
    write: bool,
    next: u64,
}

fn add(state: &State, row: u64) {
    let value: Vec<u8> = row.to_le_bytes().iter().copied().cycle().take(BYTES).collect();
    state.put_fact(DOMAIN, &row.to_le_bytes(), &value).expect("a record can be published");
}

impl Case for Open {
    fn name(&self) -> String {
        let rows = grouped(usize::try_from(self.rows).unwrap_or(usize::MAX));
        match self.write {
            false => format!("open, look, close; {rows} records"),
            true => format!("the same with {rows}, and write one"),
        }
    }

    fn run(&mut self) -> Duration {
        let start = Instant::now();
        let state = open(self.dir.path());
        let found = state.get_fact(DOMAIN, &(self.rows / 2).to_le_bytes());
        assert_eq!(found.map(|value| value.len()), Some(BYTES));
        if self.write {
            add(&state, self.next);
            self.next += 1;
        }
        state.finish().expect("records can be written");
        drop(state);
        start.elapsed()
    }

    fn syncs(&mut self) -> Option<u64> {
        let state = open(self.dir.path());
        if self.write {
            add(&state, self.next);
            self.next += 1;
        }
        state.finish().ok()?;
        Some(state.sync_count())
    }
}
