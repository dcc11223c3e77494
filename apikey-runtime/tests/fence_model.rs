//! The fence between reads and changes (`src/cache/fence.rs`), under every interleaving that loom
//! explores.
//!
//! This compiles the crate's own file on loom's `Mutex`. Around it is a model of the cache: a store
//! with one key, a reader that fills the cache, a revocation that commits and then evicts, and a
//! check that starts after the revocation returned.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, dead_code)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::PoisonError;
}

#[path = "../src/cache/fence.rs"]
mod fence;

use fence::{Fence, Generation};

/// The cached entry of the one key: whether the key was live when it was read.
type Entry = Option<bool>;

struct Model {
    /// The store, which commits at once.
    revoked: AtomicBool,
    fence: Fence<Entry>,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            revoked: AtomicBool::new(false),
            fence: Fence::new(None),
        })
    }

    /// Reads the store, and caches the result if its generation is still current.
    fn fill(&self) {
        let generation = self.generation();
        let live = self.read();
        self.fence
            .commit_if_current(generation, |entry| *entry = Some(live));
    }

    fn generation(&self) -> Generation {
        self.fence.enter(|_, generation| generation)
    }

    fn read(&self) -> bool {
        !self.revoked.load(Ordering::SeqCst)
    }

    fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
        self.fence.evict(|entry| *entry = None);
    }

    /// Returns whether a check of the cache would accept the key.
    fn accepts(&self) -> bool {
        self.fence.enter(|entry, _| *entry == Some(true))
    }
}

/// V-05.
#[test]
fn v05_a_read_that_races_the_revocation_is_not_kept() {
    loom::model(|| {
        let model = Model::new();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || model.fill())
            })
            .collect();
        model.revoke();
        assert!(!model.accepts(), "accepted after the revocation returned");
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        assert!(!model.accepts(), "a read made the key valid again");
    });
}

/// Negative control: if the read is cached without its generation, the key becomes valid again.
#[test]
#[should_panic(expected = "a read made the key valid again")]
fn v05_without_the_fence_the_key_comes_back() {
    loom::model(|| {
        let model = Model::new();
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let live = model.read();
                model.fence.enter(|entry, _| *entry = Some(live));
            })
        };
        model.revoke();
        reader.join().unwrap();
        assert!(!model.accepts(), "a read made the key valid again");
    });
}

/// Negative control of the order: a generation taken after the read does not fence anything.
#[test]
#[should_panic(expected = "a read made the key valid again")]
fn v05_a_ticket_taken_after_the_read_is_worth_nothing() {
    loom::model(|| {
        let model = Model::new();
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                let live = model.read();
                let generation = model.generation();
                model
                    .fence
                    .commit_if_current(generation, |entry| *entry = Some(live));
            })
        };
        model.revoke();
        reader.join().unwrap();
        assert!(!model.accepts(), "a read made the key valid again");
    });
}

/// A read that begins after the eviction is cached, and has the current record.
#[test]
fn a_read_after_the_change_is_kept() {
    loom::model(|| {
        let model = Model::new();
        let reader = {
            let model = Arc::clone(&model);
            thread::spawn(move || model.fill())
        };
        model.revoke();
        model.fill();
        reader.join().unwrap();
        let entry = model.fence.enter(|entry, _| *entry);
        assert_eq!(entry, Some(false));
    });
}
