//! Standard output and standard error. A reader that went away is no error of ours: what cannot
//! be written is dropped, and the build goes on.

use std::io::{self, IsTerminal, Write};

/// Prints `text` to standard output as it is.
///
/// # Errors
/// If it cannot be written, except to a closed pipe.
pub fn out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Prints a line to standard error; there is nowhere to complain if that fails.
pub fn err(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// What standard output and standard error are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Whether standard output is a terminal.
    pub stdout: bool,
    /// Whether standard error is a terminal.
    pub stderr: bool,
}

impl Terminals {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self { stdout: io::stdout().is_terminal(), stderr: io::stderr().is_terminal() }
    }
}

/// Columns and rows of the terminal on standard error; 80 by 24 where they are not known.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}
