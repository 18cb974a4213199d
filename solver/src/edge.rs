//! The life of one vertex, as a pure state machine.
//!
//! [`step`] decides; the scheduler does what it asks for. `docs/design/solver.md` draws it.

/// Where one vertex is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Inputs are missing.
    Waiting {
        /// How many; an input that is used twice counts twice.
        missing: usize,
    },
    /// A thread describes it and looks its key up.
    Looking,
    /// Its key has no acceptable record; who makes it is being decided.
    Known,
    /// Another vertex of this build makes the same key.
    Following,
    /// It waits for a job slot.
    Queued,
    /// It has a job slot: a thread claims its key, looks again, runs, and publishes.
    Running,
    /// It runs, but has to wait for something that others hold, and let others have its job slot. It
    /// waits for a slot in turn, to look whether that is free.
    Resting,
    /// Another process makes its key, or has just made it; it holds nothing.
    Blocked,
    /// Nothing happens to it any more.
    Ended(Ending),
}

/// How a vertex ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its result was at hand.
    Ready,
    /// Its result was known, or made by somebody else.
    Cached,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It was stopped after it had started.
    Cancelled,
    /// It never started, because something else ended the build.
    Dropped,
}

/// What happened to a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The build began.
    Begin,
    /// One of its inputs has a result.
    InputDone,
    /// It needs no key: its result is here.
    Ready,
    /// An acceptable record, with its data, was found.
    Found,
    /// No acceptable record.
    Missed,
    /// It is the one to make its key.
    Lead,
    /// Another vertex makes its key.
    Follow,
    /// It got a job slot.
    Slot,
    /// It waits for something that others hold: others may have its job slot meanwhile.
    GiveWay,
    /// Another process holds its key.
    Busy,
    /// Nobody holds its key any more.
    Freed {
        /// Whether the run that has ended was shown.
        shown: bool,
    },
    /// It ran, and its record is published.
    Ran,
    /// It failed, in whatever it was doing.
    Failed,
    /// Its thread gave up because the build is being stopped.
    Stopped {
        /// Whether people were told that it had started.
        started: bool,
    },
    /// Results that it was to be made of cannot be had after all.
    Lost {
        /// How many of its inputs are being made again.
        missing: usize,
    },
    /// It had ended, and its result cannot be had after all.
    Reopen {
        /// How many of its inputs have to be made again before it can be described.
        missing: usize,
    },
    /// The build is being stopped.
    Stop,
}

/// What the scheduler has to do for a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Give it a progress identity and tell of it, unless it has one; take its inputs.
    Announce,
    /// Describe it, look its key up and load the result, on a thread.
    Look,
    /// Answer [`Signal::Lead`] or [`Signal::Follow`].
    Elect,
    /// Put it in the queue for job slots.
    Enqueue,
    /// Take it out of that queue.
    Unqueue,
    /// Claim its key, look again, run, publish, on a thread.
    Attempt,
    /// Give its job slot back.
    FreeSlot,
    /// Give its job slot to another vertex that waits for one, and put it in the queue.
    GiveWay,
    /// Take it out of the queue, with a job slot even if none is free.
    TakeSlot,
    /// Let its thread go on.
    GoOn,
    /// Follow its key's holder until nobody holds it, on the thread for that.
    FollowKey,
    /// Look it up again and load the result, on a thread.
    LookAgain {
        /// Whether the run that has ended was shown.
        shown: bool,
    },
    /// Tell that it ended well; let go on what needs it.
    Finish,
    /// Tell that it failed; stop everything else.
    Fail,
    /// Tell that it was stopped.
    ShowCancelled,
}

/// The next state, and what has to be done on the way to it. A signal that does not fit the
/// state changes nothing: that is how a vertex that has ended stays ended.
pub(crate) fn step(state: State, signal: Signal) -> (State, &'static [Request]) {
    use Ending::{Cached, Cancelled, Dropped, Failed, Ran, Ready};
    use State::{Blocked, Ended, Following, Known, Looking, Queued, Resting, Running, Waiting};

    match (state, signal) {
        (Ended(Cached | Ready | Ran), Signal::Reopen { missing: 0 }) => {
            (Looking, &[Request::Announce, Request::Look])
        }
        (Ended(Cached | Ready | Ran), Signal::Reopen { missing }) => (Waiting { missing }, &[]),
        (Ended(_), _) => (state, &[]),

        (Waiting { missing: 0 }, Signal::Begin) | (Waiting { missing: 1 }, Signal::InputDone) => {
            (Looking, &[Request::Announce, Request::Look])
        }
        (Waiting { missing: 2.. }, Signal::InputDone) => match state {
            Waiting { missing } => (Waiting { missing: missing - 1 }, &[]),
            _ => (state, &[]),
        },

        (Looking, Signal::Ready) => (Ended(Ready), &[Request::Finish]),
        (Looking | Following | Blocked, Signal::Found) => (Ended(Cached), &[Request::Finish]),
        (Looking | Following, Signal::Missed) => (Known, &[Request::Elect]),
        (Known, Signal::Lead) => (Queued, &[Request::Enqueue]),
        (Known, Signal::Follow) => (Following, &[]),
        // It still leads its key, so there is nothing to elect.
        (Blocked, Signal::Missed) => (Queued, &[Request::Enqueue]),

        (Queued, Signal::Slot) => (Running, &[Request::Attempt]),
        (Running, Signal::GiveWay) => (Resting, &[Request::GiveWay]),
        (Resting, Signal::Slot) => (Running, &[Request::GoOn]),
        // Its thread ends it, or goes on for others: either way it waits no longer for a slot.
        (Resting, Signal::Stop) => (Running, &[Request::TakeSlot, Request::GoOn]),
        (Running, Signal::Busy) => (Blocked, &[Request::FreeSlot, Request::FollowKey]),
        (Blocked, Signal::Freed { shown: true }) => {
            (Blocked, &[Request::LookAgain { shown: true }])
        }
        (Blocked, Signal::Freed { shown: false }) => {
            (Blocked, &[Request::LookAgain { shown: false }])
        }
        (Running, Signal::Found) => (Ended(Cached), &[Request::FreeSlot, Request::Finish]),
        (Running, Signal::Ran) => (Ended(Ran), &[Request::FreeSlot, Request::Finish]),

        (Looking, Signal::Lost { missing: 0 }) => (Looking, &[Request::Announce, Request::Look]),
        (Running, Signal::Lost { missing: 0 }) => {
            (Looking, &[Request::FreeSlot, Request::Announce, Request::Look])
        }
        (Looking, Signal::Lost { missing }) => (Waiting { missing }, &[]),
        (Running, Signal::Lost { missing }) => (Waiting { missing }, &[Request::FreeSlot]),

        (Running, Signal::Failed) => (Ended(Failed), &[Request::FreeSlot, Request::Fail]),
        (Looking | Blocked, Signal::Failed) => (Ended(Failed), &[Request::Fail]),
        (Running, Signal::Stopped { started: true }) => {
            (Ended(Cancelled), &[Request::FreeSlot, Request::ShowCancelled])
        }
        (Running, Signal::Stopped { started: false }) => (Ended(Dropped), &[Request::FreeSlot]),
        // It was shown as running: it ran elsewhere.
        (Blocked, Signal::Stopped { started: true }) => {
            (Ended(Cancelled), &[Request::ShowCancelled])
        }
        (Looking | Blocked, Signal::Stopped { .. }) => (Ended(Dropped), &[]),

        // Where a thread is at work, it is the thread that sees the cancel token and answers.
        (Waiting { .. } | Known | Following, Signal::Stop) => (Ended(Dropped), &[]),
        (Queued, Signal::Stop) => (Ended(Dropped), &[Request::Unqueue]),

        _ => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows signals from a state and returns the last state and all requests.
    fn follow(mut state: State, signals: &[Signal]) -> (State, Vec<Request>) {
        let mut all = Vec::new();
        for signal in signals {
            let (next, requests) = step(state, *signal);
            state = next;
            all.extend_from_slice(requests);
        }
        (state, all)
    }

    const START: State = State::Waiting { missing: 0 };

    #[test]
    fn waits_for_every_input() {
        let two = State::Waiting { missing: 2 };
        let (state, requests) = follow(two, &[Signal::Begin, Signal::InputDone]);
        assert_eq!((state, requests), (State::Waiting { missing: 1 }, vec![]));
        let (state, requests) = follow(state, &[Signal::InputDone]);
        assert_eq!((state, requests), (State::Looking, vec![Request::Announce, Request::Look]));
    }

    #[test]
    fn a_hit_needs_no_slot() {
        let (state, requests) = follow(START, &[Signal::Begin, Signal::Found]);
        assert_eq!(state, State::Ended(Ending::Cached));
        assert_eq!(requests, [Request::Announce, Request::Look, Request::Finish]);
    }

    #[test]
    fn a_miss_runs_in_a_slot() {
        let signals = [Signal::Begin, Signal::Missed, Signal::Lead, Signal::Slot, Signal::Ran];
        let (state, requests) = follow(START, &signals);
        assert_eq!(state, State::Ended(Ending::Ran));
        let expected = [
            Request::Announce,
            Request::Look,
            Request::Elect,
            Request::Enqueue,
            Request::Attempt,
            Request::FreeSlot,
            Request::Finish,
        ];
        assert_eq!(requests, expected);
    }

    #[test]
    fn a_busy_key_is_awaited_without_a_slot() {
        let (state, requests) = follow(State::Running, &[Signal::Busy]);
        assert_eq!(state, State::Blocked);
        assert_eq!(requests, [Request::FreeSlot, Request::FollowKey]);
        for shown in [false, true] {
            let (next, requests) = step(state, Signal::Freed { shown });
            assert_eq!((next, requests), (state, &[Request::LookAgain { shown }][..]));
        }
        assert_eq!(
            step(state, Signal::Found),
            (State::Ended(Ending::Cached), &[Request::Finish][..])
        );
        assert_eq!(step(state, Signal::Missed), (State::Queued, &[Request::Enqueue][..]));
    }

    #[test]
    fn what_was_lost_is_waited_for_and_described_again() {
        let (state, requests) = follow(State::Running, &[Signal::Lost { missing: 1 }]);
        assert_eq!((state, requests), (State::Waiting { missing: 1 }, vec![Request::FreeSlot]));
        assert_eq!(follow(state, &[Signal::InputDone]).0, State::Looking);
        assert_eq!(follow(State::Looking, &[Signal::Lost { missing: 0 }]).0, State::Looking);
        let ended = State::Ended(Ending::Cached);
        assert_eq!(follow(ended, &[Signal::Reopen { missing: 0 }]).0, State::Looking);
        let (state, requests) = follow(ended, &[Signal::Reopen { missing: 2 }, Signal::InputDone]);
        assert_eq!((state, requests), (State::Waiting { missing: 1 }, vec![]));
        let failed = State::Ended(Ending::Failed);
        assert_eq!(follow(failed, &[Signal::Reopen { missing: 0 }]).0, failed);
    }

    #[test]
    fn a_follower_that_needs_it_fresher_is_elected_again() {
        let (state, requests) = follow(State::Known, &[Signal::Follow, Signal::Missed]);
        assert_eq!((state, requests), (State::Known, vec![Request::Elect]));
    }

    #[test]
    fn what_rests_goes_on_with_a_slot() {
        let (state, requests) = step(State::Running, Signal::GiveWay);
        assert_eq!((state, requests), (State::Resting, &[Request::GiveWay][..]));
        assert_eq!(step(state, Signal::Slot), (State::Running, &[Request::GoOn][..]));
        let stopped = step(state, Signal::Stop);
        assert_eq!(stopped, (State::Running, &[Request::TakeSlot, Request::GoOn][..]));
    }

    #[test]
    fn stop_ends_only_what_no_thread_works_on() {
        for state in [State::Waiting { missing: 3 }, State::Known, State::Following, State::Queued]
        {
            assert_eq!(step(state, Signal::Stop).0, State::Ended(Ending::Dropped));
        }
        for state in [State::Looking, State::Running, State::Blocked] {
            assert_eq!(step(state, Signal::Stop), (state, &[][..]));
        }
        let cancelled = step(State::Running, Signal::Stopped { started: true });
        assert_eq!(cancelled.1, [Request::FreeSlot, Request::ShowCancelled]);
        let dropped = step(State::Running, Signal::Stopped { started: false });
        assert_eq!(dropped.1, [Request::FreeSlot]);
        let cancelled = step(State::Blocked, Signal::Stopped { started: true });
        assert_eq!(cancelled.1, [Request::ShowCancelled]);
        let dropped = step(State::Blocked, Signal::Stopped { started: false });
        assert_eq!(dropped.1, []);
    }

    fn any_signal() -> impl Strategy<Value = Signal> {
        prop_oneof![
            Just(Signal::Begin),
            Just(Signal::InputDone),
            Just(Signal::Ready),
            Just(Signal::Found),
            Just(Signal::Missed),
            Just(Signal::Lead),
            Just(Signal::Follow),
            Just(Signal::Slot),
            Just(Signal::GiveWay),
            Just(Signal::Busy),
            any::<bool>().prop_map(|shown| Signal::Freed { shown }),
            Just(Signal::Ran),
            Just(Signal::Failed),
            any::<bool>().prop_map(|started| Signal::Stopped { started }),
            (0usize..3).prop_map(|missing| Signal::Lost { missing }),
            Just(Signal::Stop),
        ]
    }

    proptest! {
        /// Whatever happens, in whatever order: a slot is given back as often as it is used, an
        /// end is told at most once, and nothing follows it.
        #[test]
        fn any_order_keeps_the_books(
            missing in 0usize..4,
            signals in prop::collection::vec(any_signal(), 0..60),
        ) {
            let mut state = State::Waiting { missing };
            let (mut slots, mut ends, mut queued) = (0i32, 0, 0i32);
            for signal in signals {
                let before = state;
                let (next, requests) = step(state, signal);
                if matches!(before, State::Ended(_)) {
                    prop_assert_eq!(next, before);
                    prop_assert!(requests.is_empty());
                }
                for request in requests {
                    match request {
                        Request::Attempt => { slots += 1; queued -= 1 }
                        Request::FreeSlot => slots -= 1,
                        Request::Enqueue => queued += 1,
                        Request::GiveWay => { slots -= 1; queued += 1 }
                        Request::GoOn => { slots += 1; queued -= 1 }
                        Request::Unqueue => queued -= 1,
                        Request::Finish | Request::Fail | Request::ShowCancelled => ends += 1,
                        _ => {}
                    }
                }
                prop_assert_eq!(slots, i32::from(next == State::Running));
                let waits = matches!(next, State::Queued | State::Resting);
                prop_assert_eq!(queued, i32::from(waits));
                state = next;
            }
            prop_assert!(ends <= 1);
            let told = matches!(state, State::Ended(e) if e != Ending::Dropped);
            prop_assert_eq!(ends == 1, told);
        }
    }
}
