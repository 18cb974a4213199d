//! How long it takes to open the records of a state directory, to look for one, and to close them;
//! and the same with one more record to write.

use std::time::{Duration, Instant};

use cache::{Dialect, State};
use tempfile::TempDir;
use tests::temp;

use crate::cases::{Case, Size};

/// What a record takes, about: key, contents, name, what it was made of.
const BYTES: usize = 600;
/// The domain that the rows are in.
const DOMAIN: &str = "bench";

/// The cases of one size.
pub fn cases(size: Size) -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (read, written, rows) in [
        ("open, look, close; 10 records", "the same, and write one", 10),
        (
            "open, look, close; 100,000 records",
            "the same with 100,000, and write one",
            size.pick(1000, 100_000),
        ),
    ] {
        cases.push(Box::new(Open::new(read, rows, false)));
        cases.push(Box::new(Open::new(written, rows, true)));
    }
    cases
}

struct Open {
    name: &'static str,
    dir: TempDir,
    rows: u64,
    /// A row is added each time.
    write: bool,
    next: u64,
}

impl Open {
    fn new(name: &'static str, rows: u64, write: bool) -> Self {
        let case = Self { name, dir: temp::directory(), rows, write, next: rows };
        let state = case.open();
        for row in 0..rows {
            add(&state, row);
        }
        state.finish().expect("records can be written");
        case
    }

    fn open(&self) -> State {
        let dialect = Dialect { whiteouts: "overlay-trusted".into(), owner_uid: 0 };
        State::open(self.dir.path(), &dialect).expect("a state directory")
    }
}

fn add(state: &State, row: u64) {
    let value: Vec<u8> = row.to_le_bytes().iter().copied().cycle().take(BYTES).collect();
    state.put_fact(DOMAIN, &row.to_le_bytes(), &value).expect("a record can be published");
}

impl Case for Open {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self) -> Duration {
        let start = Instant::now();
        let state = self.open();
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
        let state = self.open();
        if self.write {
            add(&state, self.next);
            self.next += 1;
        }
        state.finish().ok()?;
        Some(state.sync_count())
    }
}
