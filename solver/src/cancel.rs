//! Telling work to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Weak};

type Hook = Box<dyn Fn() + Send + Sync>;

/// Set once, seen by everyone who holds a clone. Hooks wake those who sleep elsewhere (in a
/// `poll`, on a condition variable).
#[derive(Clone, Default)]
pub struct CancelToken {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    set: AtomicBool,
    hooks: Mutex<Vec<Weak<Hook>>>,
}

/// Keeps a hook registered; dropping it removes the hook.
pub struct HookGuard {
    _hook: Arc<Hook>,
}

impl CancelToken {
    /// Not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, and calls every hook. Once is enough; again does nothing.
    pub fn cancel(&self) {
        if self.inner.set.swap(true, Ordering::SeqCst) {
            return;
        }
        let hooks = std::mem::take(&mut *self.lock());
        for hook in hooks.iter().filter_map(Weak::upgrade) {
            hook();
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.inner.set.load(Ordering::SeqCst)
    }

    /// Calls `hook` when it is cancelled (at once if it already is), as long as the guard lives.
    pub fn on_cancel(&self, hook: impl Fn() + Send + Sync + 'static) -> HookGuard {
        let hook: Arc<Hook> = Arc::new(Box::new(hook));
        {
            let mut hooks = self.lock();
            hooks.retain(|h| h.strong_count() > 0);
            hooks.push(Arc::downgrade(&hook));
        }
        if self.is_cancelled() {
            hook();
        }
        HookGuard { _hook: hook }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Hook>>> {
        self.inner.hooks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn hooks_run_once_and_only_while_held() {
        let token = CancelToken::new();
        let count = Arc::new(AtomicUsize::new(0));
        let hook = |c: &Arc<AtomicUsize>| {
            let c = c.clone();
            move || {
                c.fetch_add(1, Ordering::SeqCst);
            }
        };
        let kept = token.on_cancel(hook(&count));
        drop(token.on_cancel(hook(&count)));
        token.cancel();
        token.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let late = token.on_cancel(hook(&count));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        drop((kept, late));
    }
}
