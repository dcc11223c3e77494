//! The fence between reads and changes.
//!
//! A change may be committed while a read of the store is in flight. A reader therefore takes the
//! current generation before its read, and every change advances the generation. The result is kept
//! only if the generation is still current. The fence's lock also guards the state, so no change
//! can slip in between the comparison and the commit.

use super::sync::{Mutex, MutexGuard, PoisonError};

/// The generation at the start of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// A generation and the state that it protects.
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

    /// Passes the state and the current generation to `look`, in one step. Call it before a read
    /// begins.
    pub(crate) fn enter<R>(&self, look: impl FnOnce(&mut S, Generation) -> R) -> R {
        let mut inside = self.lock();
        let generation = Generation(inside.0);
        look(&mut inside.1, generation)
    }

    /// Runs `commit` if no change occurred since `generation` was taken. Returns whether it ran.
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

    /// Returns whether no change occurred since `generation` was taken.
    pub(crate) fn is_current(&self, generation: Generation) -> bool {
        self.lock().0 == generation.0
    }

    /// Invalidates all generations taken so far and removes state with `drop`. Call it after a
    /// change is committed.
    pub(crate) fn evict(&self, drop: impl FnOnce(&mut S)) {
        let mut inside = self.lock();
        inside.0 += 1;
        drop(&mut inside.1);
    }

    /// A poisoned lock is safe to use: every closure above only adds or removes entries, so a panic
    /// leaves a valid state.
    fn lock(&self) -> MutexGuard<'_, (u64, S)> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
