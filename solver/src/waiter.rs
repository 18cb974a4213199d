//! The one thread that waits: for steps of other processes, which it follows; and, once the build
//! is being stopped, for own steps that others want.
//!
//! It starts with the first step that runs or has to be waited for.

use std::mem;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use oci::Timestamp;

use crate::job::{Cause, Failure, Job, Message, Reply, Setting, guarded};
use crate::share::{Follow, Followed, News, Outlet, Waker, Watch};
use crate::{CancelToken, Event, HookGuard, ProgressId, StoreError, Work};

/// What is told of a step while another build runs it.
const ELSEWHERE: &str = "run by another build";

/// How often it is asked whether somebody still wants the steps that a stopped build finishes.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// With nothing to wait for, it sleeps until it is woken.
const IDLE: Duration = Duration::from_secs(3600);

/// News of one step that are passed on before others get their turn.
const TURN: usize = 256;

/// What the thread is told by those that run steps.
pub(crate) struct Desk {
    inner: Mutex<Slips>,
}

struct Slips {
    running: Vec<Arc<Running>>,
    /// Nobody looks here: there is no thread, or none any more.
    unmanned: bool,
    /// There is nothing to wait for, nor will there be.
    closed: bool,
}

/// An own step that runs.
struct Running {
    id: ProgressId,
    /// Who wants it can be asked here; none for a step that cannot go on when the build stops.
    outlet: Option<Arc<dyn Outlet>>,
    stop: CancelToken,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let slips = Slips { running: Vec::new(), unmanned: true, closed: false };
        Self { inner: Mutex::new(slips) }
    }

    /// Nobody looks here any more: nothing goes on for others.
    fn abandon(&self) {
        let running = {
            let mut slips = self.lock();
            slips.unmanned = true;
            slips.running.clone()
        };
        // A build that ended has none; otherwise something went very wrong.
        running.iter().for_each(|step| step.stop.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, Slips> {
        // What is done under this lock is one insertion or removal each.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An own step runs as long as this lives.
pub(crate) struct Attended<'a> {
    desk: &'a Desk,
    running: Arc<Running>,
    _linked: Option<HookGuard>,
}

impl<'a> Attended<'a> {
    /// A step begins to run. Its token is set when `stop` is and nobody else wants it.
    pub(crate) fn new(
        desk: &'a Desk,
        stop: &CancelToken,
        id: ProgressId,
        outlet: Option<Arc<dyn Outlet>>,
    ) -> Self {
        let running = Arc::new(Running { id, outlet, stop: CancelToken::new() });
        let unmanned = {
            let mut slips = desk.lock();
            slips.running.push(running.clone());
            slips.unmanned
        };
        // With nobody to ask whether it is wanted, it is not.
        let linked = unmanned.then(|| {
            let token = running.stop.clone();
            stop.on_cancel(move || token.cancel())
        });
        Self { desk, running, _linked: linked }
    }

    /// Set when the step should stop.
    pub(crate) fn stop(&self) -> &CancelToken {
        &self.running.stop
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.desk.lock().running.retain(|other| !Arc::ptr_eq(other, &self.running));
    }
}

/// The thread, as the scheduler knows it.
pub(crate) struct Waiter<'scope, 'env, W: Work> {
    scope: &'scope Scope<'scope, 'env>,
    setting: &'env Setting<'env, W>,
    queue: Arc<Queue<'env, W>>,
    replies: Sender<Message<W::Output>>,
    /// Since it was started.
    waker: Option<Waker>,
    hooks: Vec<HookGuard>,
}

/// What is to be followed and is not yet.
type Queue<'env, W> = Mutex<Vec<Job<'env, W>>>;

impl<'scope, 'env, W: Work> Waiter<'scope, 'env, W>
where
    W::Output: 'scope,
{
    /// No thread yet. What it finds out goes to `replies`.
    pub(crate) fn new(
        scope: &'scope Scope<'scope, 'env>,
        setting: &'env Setting<'env, W>,
        replies: Sender<Message<W::Output>>,
    ) -> Self {
        let queue = Arc::default();
        Self { scope, setting, queue, replies, waker: None, hooks: Vec::new() }
    }

    /// Starts the thread if there is none.
    pub(crate) fn start(&mut self) -> Result<(), StoreError> {
        if self.waker.is_some() {
            return Ok(());
        }
        let watch = self.setting.store.watch()?;
        let waker = watch.waker();
        let attendant = Attendant {
            setting: self.setting,
            watch,
            queue: self.queue.clone(),
            replies: self.replies.clone(),
            followed: Vec::new(),
            finishing: Vec::new(),
            asked_first: None,
        };
        self.setting.desk.lock().unmanned = false;
        let thread = thread::Builder::new().name("wait".to_owned());
        if let Err(error) = thread.spawn_scoped(self.scope, move || attendant.run()) {
            self.setting.desk.abandon();
            return Err(StoreError::new("wait for steps of other builds", error));
        }
        for token in [self.setting.stop, self.setting.asked] {
            let waker = waker.clone();
            self.hooks.push(token.on_cancel(move || waker()));
        }
        self.waker = Some(waker);
        Ok(())
    }

    /// Follows the key of a job, until nobody holds it or it has failed elsewhere.
    pub(crate) fn follow(&mut self, job: Job<'env, W>) {
        if let Err(error) = self.start() {
            let _ = self.replies.send(job.failed(error.into(), None));
            return;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        self.waker.iter().for_each(|waker| waker());
    }
}

impl<W: Work> Drop for Waiter<'_, '_, W> {
    fn drop(&mut self) {
        self.setting.desk.lock().closed = true;
        self.waker.iter().for_each(|waker| waker());
    }
}

/// What the thread does.
struct Attendant<'env, W: Work> {
    setting: &'env Setting<'env, W>,
    watch: Box<dyn Watch>,
    queue: Arc<Queue<'env, W>>,
    replies: Sender<Message<W::Output>>,
    followed: Vec<Following<'env, W>>,
    /// Own steps that go on for others, of which people know.
    finishing: Vec<ProgressId>,
    /// Whether the caller had cancelled when the build was stopped; none until then.
    asked_first: Option<bool>,
}

/// A step that another process runs.
struct Following<'env, W: Work> {
    job: Job<'env, W>,
    follow: Box<dyn Follow>,
    /// When it started, if its news are shown.
    shown: Option<Timestamp>,
}

/// What is known after a look.
enum Look<O> {
    /// There may be more at once.
    More,
    /// Nothing until something happens.
    Nothing,
    /// It need not be followed any more.
    Answer(Reply<O>),
}

impl<W: Work> Attendant<'_, W> {
    fn run(mut self) {
        let _leaves = Leaves(self.setting.desk);
        loop {
            self.take_up();
            let more = self.look();
            if self.setting.stop.is_cancelled() {
                self.stop();
            }
            let (closed, running) = {
                let slips = self.setting.desk.lock();
                (slips.closed, !slips.running.is_empty())
            };
            if closed {
                return;
            }
            let asking = self.asked_first.is_some() && running;
            if !more {
                self.watch.sleep(if asking { ASK_AGAIN } else { IDLE });
            }
        }
    }

    fn take_up(&mut self) {
        let jobs = mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        for job in jobs {
            let Some(keyed) = job.keyed.clone() else { continue };
            match self.watch.follow(&keyed.key) {
                Ok(follow) => self.followed.push(Following { job, follow, shown: None }),
                Err(error) => self.answer(&job, Err(error.into())),
            }
        }
    }

    /// Looks at everything that is followed; whether there may be more at once.
    fn look(&mut self) -> bool {
        let mut more = false;
        for mut following in mem::take(&mut self.followed) {
            match guarded(|| following.advance()) {
                Ok(Look::More) => {
                    more = true;
                    self.followed.push(following);
                }
                Ok(Look::Nothing) => self.followed.push(following),
                Ok(Look::Answer(reply)) => self.answer(&following.job, Ok(reply)),
                Err(cause) => self.answer(&following.job, Err(cause)),
            }
        }
        more
    }

    fn answer(&self, job: &Job<'_, W>, reply: Result<Reply<W::Output>, Cause>) {
        // Nobody listens where the scheduler has panicked.
        let _ = self.replies.send(match reply {
            Ok(reply) => job.message(reply),
            Err(cause) => job.failed(cause, None),
        });
    }

    /// The build is being stopped: nothing of others is of use to it, and of its own steps only
    /// those go on that others want.
    fn stop(&mut self) {
        for following in mem::take(&mut self.followed) {
            let started = following.job.told.get().is_some();
            self.answer(&following.job, Ok(Reply::Stopped { started }));
        }
        let asked = self.setting.asked.is_cancelled();
        let asked_first = *self.asked_first.get_or_insert(asked);
        let running = self.setting.desk.lock().running.clone();
        for step in running.iter().filter(|step| !step.stop.is_cancelled()) {
            // Where the build had failed before, who cancels wants it to end.
            let enough = asked && !asked_first;
            if enough || !step.outlet.as_ref().is_some_and(|outlet| outlet.is_wanted()) {
                step.stop.cancel();
            } else if !self.finishing.contains(&step.id) {
                self.finishing.push(step.id);
                self.setting.events.event(Event::Finishing { id: step.id, asked });
            }
        }
    }
}

impl<W: Work> Following<'_, W> {
    fn advance(&mut self) -> Result<Look<W::Output>, Cause> {
        for _ in 0..TURN {
            match self.follow.next()? {
                Followed::Nothing => return Ok(Look::Nothing),
                Followed::Over => {
                    self.show(Some(Timestamp::now()));
                    return Ok(Look::Answer(Reply::Freed { shown: self.shown.is_some() }));
                }
                Followed::News(News::Started(at)) => self.begin(at),
                Followed::News(News::Output { stream, at, data }) if self.shown.is_some() => {
                    let (id, data) = (self.job.id, data.into_owned());
                    self.job.setting.events.event(Event::Log { id, stream, data, at });
                }
                Followed::News(News::Failed { at, text }) if self.shown.is_some() => {
                    let failure = self.job.setting.work.take_failure(self.job.vertex, &text);
                    if let Some(error) = failure {
                        self.show(Some(at));
                        let failed = Failure { cause: Cause::Work(error), untold: None, at };
                        return Ok(Look::Answer(Reply::Failed(failed)));
                    }
                }
                Followed::News(News::Output { .. } | News::Failed { .. }) => {}
            }
        }
        Ok(Look::More)
    }

    /// It started, there. One that is too old for us is only waited for.
    fn begin(&mut self, at: Timestamp) {
        let (events, id) = (self.job.setting.events, self.job.id);
        if at < self.job.not_before {
            self.follow.decline();
            return;
        }
        if self.job.told.get().is_none() {
            self.job.told.set(Some(at));
            events.event(Event::Started { id, at });
        }
        self.shown = Some(at);
        self.show(None);
    }

    /// Tells who runs it, and when that ended.
    fn show(&self, completed: Option<Timestamp>) {
        let Some(started) = self.shown else { return };
        self.job.setting.events.event(Event::Status {
            id: self.job.id,
            name: ELSEWHERE.to_owned(),
            current: 0,
            total: 0,
            started,
            completed,
        });
    }
}

/// The thread ends, however.
struct Leaves<'a>(&'a Desk);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
