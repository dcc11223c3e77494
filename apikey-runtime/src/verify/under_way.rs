//! Decisions for which the store is asked: a manager that ends waits for them, since what they were
//! charged has to be used or given back, and what they let through to be counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    count: AtomicUsize,
    ended: AtomicBool,
    done: Notify,
}

/// One of it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass(Arc<UnderWay>);

impl UnderWay {
    /// Begins something; `None` where nothing is to begin any more.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Pass> {
        // Counted before the look: whoever ends it sees this one, or this one sees the end.
        let pass = self.follow();
        (!self.ended.load(SeqCst)).then_some(pass)
    }

    /// Begins what follows from something else, and has to be done at the end too.
    pub(crate) fn follow(self: &Arc<Self>) -> Pass {
        self.count.fetch_add(1, SeqCst);
        Pass(Arc::clone(self))
    }

    /// Lets nothing begin any more, and waits for what is under way.
    pub(crate) async fn end(&self) {
        self.ended.store(true, SeqCst);
        while self.count.load(SeqCst) > 0 {
            // One that came in between is not missed: it is kept for who asks next.
            self.done.notified().await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let last = self.0.count.fetch_sub(1, SeqCst) == 1;
        if last && self.0.ended.load(SeqCst) {
            self.0.done.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_end_waits_for_what_is_under_way_and_what_follows_from_it() {
        let under_way = Arc::new(UnderWay::default());
        let begun = under_way.begin().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut end = pin!(under_way.end());
        let mut is_over = || end.as_mut().poll(&mut context).is_ready();
        assert!(!is_over());
        assert!(under_way.begin().is_none());
        let follows = under_way.follow();
        drop(begun);
        assert!(!is_over());
        drop(follows);
        assert!(is_over());
    }

    #[test]
    fn the_end_of_nothing_is_at_once() {
        let under_way = Arc::new(UnderWay::default());
        drop(under_way.begin());
        let end = pin!(under_way.end());
        let mut context = Context::from_waker(Waker::noop());
        assert!(end.poll(&mut context).is_ready());
    }
}
