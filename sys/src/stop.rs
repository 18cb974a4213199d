//! Stopping all processes below one by SIGSTOP, for where there are no control groups to freeze.
//!
//! Every process of a pid namespace has its init as an ancestor, for orphans become its children
//! (pid_namespaces(7)). What is new while others are stopped is found in the next round; who is
//! stopped starts nothing.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// How long stopping all may take.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// A process, told from a later one with the same id by the time of its start (in ticks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    started: u64,
}

/// What proc_pid_stat(5) says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

/// The processes that were stopped.
#[derive(Debug, Default)]
pub struct Stopped(Vec<Process>);

/// Stops all processes below `ancestor`, not itself. Who was stopped before is left alone.
#[must_use]
pub fn stop_below(ancestor: i32) -> Stopped {
    let mut stopped = Stopped::default();
    let end = Instant::now() + PATIENCE;
    loop {
        let all = processes();
        let mut running = false;
        for process in below(&all, ancestor) {
            let Some(stat) = all.get(&process.pid) else { continue };
            match stat.state {
                // Stopped, traced, ended.
                'T' | 't' | 'Z' | 'X' | 'x' => continue,
                _ => running = true,
            }
            if !stopped.0.contains(&process) && signal(process, Signal::STOP) {
                stopped.0.push(process);
            }
        }
        if !running || Instant::now() > end {
            return stopped;
        }
        std::thread::sleep(PAUSE);
    }
}

impl Stopped {
    /// Lets them go on.
    pub fn release(self) {
        for process in self.0 {
            signal(process, Signal::CONT);
        }
    }
}

/// Sends a signal to just this process; false if it has ended.
fn signal(process: Process, signal: Signal) -> bool {
    let Ok(fd) = crate::launch::pidfd_open(process.pid) else { return false };
    // Looked at after it was opened: the descriptor is of the process that is looked at.
    let same = stat_of(process.pid).is_some_and(|stat| stat.started == process.started);
    same && rustix::process::pidfd_send_signal(fd, signal).is_ok()
}

fn processes() -> HashMap<i32, Stat> {
    let list = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = list.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat_of(pid)?))).collect()
}

fn stat_of(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in parentheses may hold anything, parentheses too.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // The 22nd field; the state is the third.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, started })
}

/// All that have `ancestor` among their ancestors.
fn below(all: &HashMap<i32, Stat>, ancestor: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, stat) in all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            let started = all.get(&pid).map_or(0, |stat| stat.started);
            found.push(Process { pid, started });
            open.push(pid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let text = "71 (a) (b c) S 7 71 71 0 -1 4194304 9 8 7 6 5 4 3 2 20 0 1 0 12345 6 7 8\n";
        assert_eq!(parse(text), Some(Stat { state: 'S', parent: 7, started: 12_345 }));
        assert_eq!(parse("71 (a"), None);
        let own = stat_of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.started > 0);
    }

    #[test]
    fn finds_those_below() {
        let stat = |parent| Stat { state: 'S', parent, started: 1 };
        let all = HashMap::from([
            (2, stat(1)),
            (3, stat(2)),
            (4, stat(3)),
            (5, stat(1)),
            // A circle, as two looks at a changing table could make it.
            (6, stat(7)),
            (7, stat(6)),
        ]);
        let mut found: Vec<i32> = below(&all, 2).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(below(&all, 6).len(), 2);
    }

    #[test]
    fn stops_and_releases() {
        let script = "sleep 600 & wait";
        let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let below_shell = || below(&processes(), pid);
        while below_shell().is_empty() {
            std::thread::sleep(PAUSE);
        }
        let sleeper = below_shell()[0];
        let stopped = stop_below(pid);
        assert_eq!(stopped.0, [sleeper]);
        assert_eq!(stat_of(sleeper.pid).unwrap().state, 'T');
        assert!(!below(&processes(), own).is_empty());
        stopped.release();
        while stat_of(sleeper.pid).unwrap().state == 'T' {
            std::thread::sleep(PAUSE);
        }
        signal(sleeper, Signal::KILL);
        child.wait().unwrap();
    }
}
