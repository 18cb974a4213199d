//! Whose memory was used up when the kernel killed a process of a group for it.

use std::fs;
use std::path::{Path, PathBuf};

/// How far below its limit a full group of version 1 may be: memory is charged in batches.
const SLACK: u64 = 1024 * 1024;

/// Where memory is counted.
#[derive(Debug)]
pub(super) struct Memory {
    /// The group, and those above it below the top; the innermost first. Of each how often its
    /// limit had been hit before, which only version 2 tells.
    levels: Vec<(PathBuf, u64)>,
    top: PathBuf,
    unified: bool,
}

/// Whose memory was used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exhausted {
    /// That of the group itself.
    Own,
    /// That of a group above it.
    Above {
        /// Its path from the top of the hierarchy.
        group: PathBuf,
        /// Its limit in bytes.
        limit: u64,
    },
    /// No group's limit was hit: there was no more memory for anybody.
    Machine,
}

impl Memory {
    /// Of a group in the hierarchy at `top`.
    pub(super) fn new(group: &Path, top: &Path, unified: bool) -> Self {
        let levels = group.ancestors().take_while(|it| *it != top && it.starts_with(top));
        let hits = |it: &Path| if unified { hits(it) } else { 0 };
        let levels = levels.map(|it| (it.to_owned(), hits(it))).collect();
        Self { levels, top: top.to_owned(), unified }
    }

    fn file(&self, v1: &str, v2: &str) -> PathBuf {
        let name = if self.unified { v2 } else { v1 };
        self.levels.first().map_or_else(PathBuf::new, |(group, _)| group.join(name))
    }

    pub(super) fn peak(&self) -> Option<u64> {
        let file = self.file("memory.max_usage_in_bytes", "memory.peak");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Victims in the group, whoever's limit it was.
    pub(super) fn kills(&self) -> u64 {
        counter(&self.file("memory.oom_control", "memory.events"), "oom_kill ")
    }

    /// The innermost group whose limit was hit since the group was made; of version 1, whose use
    /// has ever been as large as its limit.
    pub(super) fn exhausted(&self) -> Exhausted {
        let was_hit = |(group, before): &(PathBuf, u64)| match self.unified {
            true => hits(group) > *before,
            false => is_full(group, "memory") || is_full(group, "memory.memsw"),
        };
        let hit = self.levels.iter().position(was_hit);
        match hit.map(|at| (at, &self.levels[at].0)) {
            None => Exhausted::Machine,
            Some((0, _)) => Exhausted::Own,
            Some((_, group)) => {
                let file = if self.unified { "memory.max" } else { "memory.limit_in_bytes" };
                let text = fs::read_to_string(group.join(file)).unwrap_or_default();
                let path = group.strip_prefix(&self.top).unwrap_or(group);
                Exhausted::Above {
                    group: Path::new("/").join(path),
                    limit: text.trim().parse().unwrap_or(u64::MAX),
                }
            }
        }
    }
}

/// How often a group's own limit ended in a want of memory (`memory.events.local`, Linux 5.2).
fn hits(group: &Path) -> u64 {
    counter(&group.join("memory.events.local"), "oom ")
}

/// Whether the largest use was about the limit. Version 1 has a counter of refusals, too
/// (`memory.failcnt`), which stays at 0 on Linux 6.18.
fn is_full(group: &Path, what: &str) -> bool {
    let value = |file: &str| counter(&group.join(format!("{what}.{file}")), "");
    let (peak, limit) = (value("max_usage_in_bytes"), value("limit_in_bytes"));
    limit > 0 && peak >= limit - SLACK.min(limit / 8)
}

/// The number in a file's line that begins with `name`.
fn counter(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_limit_that_was_hit() {
        for unified in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let group = temp.path().join("ci/jobs/step");
            fs::create_dir_all(&group).unwrap();
            let limit = if unified { "memory.max" } else { "memory.limit_in_bytes" };
            let hit = |at: &Path, count: u32| match unified {
                true => fs::write(at.join("memory.events.local"), format!("max 9\noom {count}\n")),
                false => fs::write(at.join("memory.max_usage_in_bytes"), format!("{count}00\n")),
            };
            let (jobs, ci) = (temp.path().join("ci/jobs"), temp.path().join("ci"));
            hit(&ci, 3).unwrap();
            let memory = Memory::new(&group, temp.path(), unified);
            assert_eq!(memory.exhausted(), Exhausted::Machine, "what was before does not count");
            fs::write(ci.join(limit), "400\n").unwrap();
            hit(&ci, 4).unwrap();
            let above = |group: &str, limit| Exhausted::Above { group: group.into(), limit };
            assert_eq!(memory.exhausted(), above("/ci", 400));
            fs::write(jobs.join(limit), "100\n").unwrap();
            hit(&jobs, 1).unwrap();
            assert_eq!(memory.exhausted(), above("/ci/jobs", 100));
            fs::write(group.join(limit), "100\n").unwrap();
            hit(&group, 1).unwrap();
            assert_eq!(memory.exhausted(), Exhausted::Own);
        }
    }
}
