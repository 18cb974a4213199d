//! Cases that cannot run here say so, with the reason.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Says why a case does not run. It goes to standard error past the test runner's capture, which
/// would swallow it in a case that passes.
pub fn say(case: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {case}: {reason}");
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program in `PATH` or where administrators' programs are.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| Path::is_file(p))
}

/// Returns from the case unless it runs as root.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::skip::is_root() {
            $crate::skip::say(module_path!(), concat!("line ", line!(), " needs root"));
            return;
        }
    };
}

/// Returns from the case unless these programs are there.
#[macro_export]
macro_rules! require_programs {
    ($($name:literal),+) => {
        for name in [$($name),+] {
            if $crate::skip::program(name).is_none() {
                let reason = format!("line {}: {name} is not installed", line!());
                $crate::skip::say(module_path!(), &reason);
                return;
            }
        }
    };
}
