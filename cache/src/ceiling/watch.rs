//! Looking at a growth while it grows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::measure::Measure;
use super::{Brake, Growth, LOOK, Refused, human};

impl Growth {
    /// Looks every [`LOOK`] at how much there is, until [`end`](Self::end): asks for more in good
    /// time, and where that would take evicting or waiting, holds the brakes meanwhile. Where
    /// there is no room, [`failure`](Self::failure) says so, and the brakes stop it. `tell`
    /// hears of what people should know.
    pub fn watch(&self, tell: &dyn Fn(&str)) {
        let mut measure = self.measure();
        while !self.wait(LOOK) {
            self.take_logs();
            let (granted, paths) = {
                let state = self.state();
                (state.granted, state.paths.clone())
            };
            let reserve = self.inner.limit.ahead() / 2;
            let enough = granted.saturating_sub(reserve);
            let (written, exact) = measure.look(&paths, enough);
            if exact {
                self.note_excess(written);
            }
            if written <= enough {
                continue;
            }
            // The last quarter is kept for the time until it is held.
            if self.ask(written) || written.saturating_add(reserve / 2) <= granted {
                continue;
            }
            if !self.make_room(&mut measure, tell) {
                return;
            }
        }
        self.settle_end(&mut measure);
    }

    /// It has ended, maybe in a burst that nobody saw. What is far beyond its reservation gets room,
    /// or it fails after all.
    fn settle_end(&self, measure: &mut Measure) {
        let (granted, paths) = {
            let state = self.state();
            (state.granted, state.paths.clone())
        };
        let enough = granted.saturating_add(self.inner.limit.rest());
        let (written, exact) = measure.look(&paths, enough);
        if !exact || written <= enough {
            return;
        }
        self.note_excess(written);
        match self.get_at_the_end(written) {
            Err(Refused::Full(full)) => self.fail(full),
            Err(Refused::Ledger(error)) if !error.is_full_disk() => {
                self.inner.note(error.to_string());
            }
            Err(Refused::Ledger(_)) => {}
            Ok(()) | Err(Refused::Cancelled) => {}
        }
    }

    /// Holds the brakes and gets more. False if it failed, or ended meanwhile.
    fn make_room(&self, measure: &mut Measure, tell: &dyn Fn(&str)) -> bool {
        let (brakes, paths, granted) = {
            let state = self.state();
            (state.brakes.clone(), state.paths.clone(), state.granted)
        };
        let release = |brakes: &[Arc<dyn Brake>]| brakes.iter().for_each(|brake| brake.release());
        brakes.iter().for_each(|brake| brake.hold());
        let written = measure.walk(&paths);
        self.note_excess(written);
        if written.saturating_add(self.inner.limit.ahead() / 2) <= granted {
            // It was somebody else who wrote to this file system.
            release(&brakes);
            return true;
        }
        match self.get(written, tell) {
            Ok(got) => {
                release(&brakes);
                if got.evicted > 0 {
                    tell(&format!(
                        "held for {:.1} s at the ceiling of the cache ({}): {} of it made room",
                        got.took.as_secs_f64(),
                        self.inner.limit.rule,
                        human(got.evicted)
                    ));
                }
                true
            }
            // The end of the work ends its processes, also those that are held.
            Err(Refused::Cancelled) => false,
            // Not even the ledger has room: so have those who write, and they see it themselves.
            Err(Refused::Ledger(error)) if error.is_full_disk() => {
                release(&brakes);
                true
            }
            Err(refused) => {
                match refused {
                    Refused::Full(full) => self.fail(full),
                    other => self.inner.note(other.to_string()),
                }
                brakes.iter().for_each(|brake| brake.stop());
                false
            }
        }
    }

    /// One growth of each build counts its logs.
    fn take_logs(&self) {
        let Some(dir) = self.inner.logs.get() else { return };
        let taken =
            self.inner.logs_of.compare_exchange(0, self.number, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_ok() {
            self.state().paths.push(dir.clone());
        }
    }
}
