//! Reading what a build told.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use oci::Timestamp;

use super::{End, Entry, JOURNAL};
use crate::error::{At, CacheError};
use crate::lock::{self, Mode};

/// A build that told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBuild {
    /// Its id.
    pub id: String,
    /// What people know it by.
    pub title: String,
    /// When it began.
    pub started: Timestamp,
    /// How far it came.
    pub outcome: Outcome,
    /// The steps that told something or failed, in the order of their first words.
    pub steps: Vec<KeptStep>,
}

/// How far a build came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It still runs.
    Running,
    /// Its process was ended from outside, or the machine was.
    Interrupted,
    /// It ended well, and when.
    Succeeded(Timestamp),
    /// It failed: when, and why.
    Failed(Timestamp, String),
}

/// A step that told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptStep {
    /// Its number, from 1 on.
    pub number: u64,
    /// Its name.
    pub name: String,
    /// When it began to tell.
    pub started: Timestamp,
    /// How it ended, and when, if it did.
    pub end: Option<(End, Timestamp)>,
}

impl KeptBuild {
    pub(super) fn read(dir: &Path, id: &str) -> Result<Self, CacheError> {
        let path = dir.join(JOURNAL);
        let running = is_running(&path);
        let file = BufReader::new(File::open(&path).at("open", &path)?);
        let mut build = Self {
            id: id.to_owned(),
            title: String::new(),
            started: Timestamp::EPOCH,
            outcome: if running { Outcome::Running } else { Outcome::Interrupted },
            steps: Vec::new(),
        };
        for line in file.split(b'\n') {
            // The last line may be cut off.
            if let Ok(entry) = serde_json::from_slice(&line.at("read", &path)?) {
                build.take(entry);
            }
        }
        Ok(build)
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Build { title, started } => (self.title, self.started) = (title, started),
            Entry::Step { number, name, started } => {
                self.steps.push(KeptStep { number, name, started, end: None });
            }
            Entry::Ended { number, end, at } => {
                if let Some(step) = self.steps.iter_mut().find(|step| step.number == number) {
                    step.end = Some((end, at));
                }
            }
            Entry::Finished { at, error: None } => self.outcome = Outcome::Succeeded(at),
            Entry::Finished { at, error: Some(error) } => self.outcome = Outcome::Failed(at, error),
        }
    }

    /// When something was last heard of it.
    pub fn last(&self) -> Timestamp {
        let steps = self.steps.iter().map(|s| s.end.as_ref().map_or(s.started, |(_, at)| *at));
        match self.outcome {
            Outcome::Succeeded(at) | Outcome::Failed(at, _) => at,
            _ => steps.max().unwrap_or(self.started),
        }
    }
}

/// Whether somebody writes this journal.
pub(super) fn is_running(journal: &Path) -> bool {
    let open = File::open(journal);
    open.is_ok_and(|file| matches!(lock::try_lock(&file, Mode::Shared), Ok(false)))
}
