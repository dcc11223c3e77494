//! The fence between reads and changes.
//!
//! A read of the store takes time, and a change may be committed meanwhile. So a reader takes a
//! ticket before its read, every change raises the generation, and what was read is kept only where
//! the ticket is still the present one. The state behind the fence is reached under the same lock,
//! so that no ticket is looked at and then overtaken.

use super::sync::{Mutex, MutexGuard, PoisonError};

/// The generation at the time at which a read began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// A generation, and the state that it protects.
#[derive(Debug)]
pub(crate) struct Fence<S> {
    inside: Mutex<(u64, S)>,
}

impl<S> Fence<S> {
    pub(crate) fn new(state: S) -> Self {
        Self {
            inside: Mutex::new((0, state)),
        }
    }

    /// Looks at the state and takes a ticket, in one step. Called before a read begins.
    pub(crate) fn enter<R>(&self, look: impl FnOnce(&mut S, Generation) -> R) -> R {
        let mut inside = self.lock();
        let generation = Generation(inside.0);
        look(&mut inside.1, generation)
    }

    /// Keeps what a read found, by `commit_if_current`, where no change came since its ticket. `false` where one
    /// did.
    pub(crate) fn commit_if_current(
        &self,
        generation: Generation,
        commit: impl FnOnce(&mut S),
    ) -> bool {
        let mut inside = self.lock();
        let current = inside.0 == generation.0;
        #[cfg(apikey_faults)]
        let current = current || crate::faults::no_generation();
        if current {
            commit(&mut inside.1);
        }
        current
    }

    /// Whether no change came since `generation` was taken.
    pub(crate) fn is_current(&self, generation: Generation) -> bool {
        self.lock().0 == generation.0
    }

    /// Makes all tickets worthless and drops what is kept, by `drop`. Called after a change was
    /// committed.
    pub(crate) fn evict(&self, drop: impl FnOnce(&mut S)) {
        let mut inside = self.lock();
        inside.0 += 1;
        drop(&mut inside.1);
    }

    /// A thread that panicked in here left a valid state: every closure above only adds or removes
    /// entries.
    fn lock(&self) -> MutexGuard<'_, (u64, S)> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
