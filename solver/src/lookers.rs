//! The few threads that describe vertices and look them up.

use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};

use crate::Work;
use crate::job::{Job, Message};

/// At least as many where there are so many looks: some wait for a registry while others hash
/// files.
const FEWEST: usize = 4;

/// Never more.
const MOST: usize = 16;

/// Threads that are started when they are needed, and end when this is dropped.
pub(crate) struct Lookers<'scope, 'env, W: Work> {
    scope: &'scope Scope<'scope, 'env>,
    jobs: Sender<Job<'env, W>>,
    queue: Arc<Mutex<Receiver<Job<'env, W>>>>,
    replies: Sender<Message<W::Output>>,
    started: usize,
    most: usize,
}

impl<'scope, 'env, W: Work> Lookers<'scope, 'env, W>
where
    W::Output: 'scope,
{
    /// None yet. What they find out goes to `replies`.
    pub(crate) fn new(
        scope: &'scope Scope<'scope, 'env>,
        replies: Sender<Message<W::Output>>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel();
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = cores.clamp(FEWEST, MOST);
        Self { scope, jobs, queue: Arc::new(Mutex::new(queue)), replies, started: 0, most }
    }

    /// Hands a job out; there are `at_work` unanswered ones with it. Where no thread can be
    /// started, the caller's does it.
    pub(crate) fn hand_out(&mut self, job: Job<'env, W>, at_work: usize) {
        if self.started < at_work.min(self.most) && !self.start() {
            self.most = self.started;
        }
        if self.started == 0 {
            let _ = self.replies.send(job.answer());
        } else {
            // Cannot fail: this has the other end, too.
            let _ = self.jobs.send(job);
        }
    }

    fn start(&mut self) -> bool {
        let (queue, replies) = (self.queue.clone(), self.replies.clone());
        let looker = move || {
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                if replies.send(job.answer()).is_err() {
                    return;
                }
            }
        };
        let name = format!("look {}", self.started);
        let started = thread::Builder::new().name(name).spawn_scoped(self.scope, looker).is_ok();
        self.started += usize::from(started);
        started
    }
}
