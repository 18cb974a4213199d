//! Signals: the first one cancels the build, the second one ends the program.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use solver::CancelToken;

/// The exit status after a second signal, when nothing was cleaned up: what a shell reports for
/// SIGINT.
const STATUS_AT_ONCE: i32 = 130;

/// Signals are handled as long as it lives.
pub struct SignalGuard {
    handle: Handle,
}

/// Whether the process of this `/proc/PID/status` (proc_pid_status(5)) ignores a signal.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Lets SIGINT, SIGTERM and SIGHUP (unless that is ignored already) cancel `token`, and calls `told` with the signal's name; a
/// second signal exits at once, without any clean-up of ours: the kernel ends the containers
/// with us.
///
/// # Errors
/// If the handlers cannot be installed, or the thread cannot be started.
pub fn install(
    token: CancelToken,
    told: impl Fn(&'static str) + Send + 'static,
) -> io::Result<SignalGuard> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Under nohup the build is to outlive its terminal.
    let hangup = (!ignores(&status, SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    let handle = signals.handle();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut cancelled = false;
        for signal in signals.forever() {
            if cancelled {
                // Not `exit`: handlers that run at exit could wait for the very thing that hangs.
                signal_hook::low_level::exit(STATUS_AT_ONCE);
            }
            cancelled = true;
            told(signal_hook::low_level::signal_name(signal).unwrap_or("signal"));
            token.cancel();
        }
    })?;
    Ok(SignalGuard { handle })
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn what_is_ignored() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, SIGHUP) && !ignores(status, SIGINT));
        assert!(!ignores("", SIGHUP) && !ignores("SigIgn: x", SIGHUP));
    }

    #[test]
    fn the_first_signal_cancels() {
        let token = CancelToken::new();
        let (sender, receiver) = mpsc::channel();
        let woken = sender.clone();
        let _hook = token.on_cancel(move || {
            let _ = woken.send("hook");
        });
        let guard = install(token.clone(), move |name| {
            let _ = sender.send(name);
        })
        .unwrap();
        // The other two may be ignored here: under nohup, or in the background of a script.
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let wait = || receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!([wait(), wait()], ["SIGTERM", "hook"]);
        assert!(token.is_cancelled());
        drop(guard);
    }
}
