//! Standard input: a Dockerfile, or an archive of a context.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use solver::CancelToken;

/// How long a cancelled build waits for standard input at most.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input, which may have nothing to read for long: somebody's keyboard.
pub(crate) struct Stdin<'a> {
    input: BorrowedFd<'a>,
    cancel: &'a CancelToken,
}

impl<'a> Stdin<'a> {
    /// Standard input until `cancel` is set.
    pub(crate) fn new(cancel: &'a CancelToken) -> Self {
        Self { input: rustix::stdio::stdin(), cancel }
    }
}

impl Read for Stdin<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match poll(&mut [PollFd::new(&self.input, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(self.input, buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn waiting_for_input_can_be_cancelled() {
        let (read, mut write) = io::pipe().unwrap();
        let cancel = CancelToken::new();
        let mut input = Stdin { input: read.as_fd(), cancel: &cancel };
        write.write_all(b"FROM a").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(input.read(&mut buffer).unwrap(), 6);
        let started = Instant::now();
        std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                cancel.cancel();
            });
            assert!(input.read(&mut buffer).is_err());
        });
        assert!(started.elapsed() < Duration::from_secs(10));
        let fresh = CancelToken::new();
        drop(write);
        assert_eq!(Stdin { input: read.as_fd(), cancel: &fresh }.read(&mut buffer).unwrap(), 0);
    }
}
