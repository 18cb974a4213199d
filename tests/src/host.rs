//! What the machine has: mounts, processes, cgroups. For asking whether a build left something.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mounts of this process's namespace at or below `path`.
///
/// # Panics
/// If /proc cannot be read.
pub fn mounts_below(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("test paths are text");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table
        .lines()
        .filter(|l| {
            l.split(' ').nth(4).is_some_and(|p| p == path || p.starts_with(&format!("{path}/")))
        })
        .map(str::to_owned)
        .collect()
}

/// Processes whose command line contains `marker`, but for this one.
///
/// # Panics
/// If /proc cannot be read.
pub fn processes_with(marker: &str) -> Vec<u32> {
    let own = std::process::id();
    let list = fs::read_dir("/proc").expect("/proc is mounted");
    list.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(marker.len()).any(|w| w == marker.as_bytes())
        })
        .collect()
}

/// Processes that have a file below `path` open, or their root or working directory there.
///
/// # Panics
/// If /proc cannot be read.
pub fn users_of(path: &Path) -> Vec<u32> {
    let list = fs::read_dir("/proc").expect("/proc is mounted");
    list.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let links = ["root", "cwd"].map(|l| PathBuf::from(format!("/proc/{pid}/{l}")));
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut links = links.into_iter().chain(fds.map(|f| f.path()));
            links.any(|l| fs::read_link(l).is_ok_and(|target| target.starts_with(path)))
        })
        .collect()
}

/// Directories of Drydock's in the cgroup file systems.
pub fn cgroups() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    collect(Path::new("/sys/fs/cgroup"), 5, &mut found);
    found
}

fn collect(dir: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    let Ok(list) = fs::read_dir(dir) else { return };
    for entry in list.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains("drydock") {
            found.insert(path.clone());
        }
        if depth > 0 {
            collect(&path, depth - 1, found);
        }
    }
}

/// Waits until `gone` says so, at most `limit`; whether it did.
pub fn wait_until(limit: Duration, mut gone: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if gone() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
