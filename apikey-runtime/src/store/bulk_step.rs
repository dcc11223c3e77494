//! Steps of changes that may affect any number of keys.

use super::ListCursor;
use crate::key::KeyId;

/// The result of one bounded step of a bulk change.
///
/// The manager calls the first step with `after: None`, and each following one with the
/// [`next`](Self::next) of the step before, until that is `None`. Between two steps, it lets polls,
/// heartbeats and other writers in.
///
/// A step is one transaction: it changes all of its keys, or none. It reads at most
/// [`MAX_KEYS`](Self::MAX_KEYS) records, and each store takes as many as it can process in about
/// 10 ms. Every step makes progress: it skips a record that it cannot change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkStep {
    /// The keys that this step changed.
    pub keys: Vec<KeyId>,
    /// The `after` of the next step; `None` if this was the last one. A store that finds the rest
    /// without a position may return any.
    pub next: Option<ListCursor>,
}

impl BulkStep {
    /// The maximum number of records that a step reads.
    pub const MAX_KEYS: usize = 1_000;

    /// Creates the result of a step that changed `keys`.
    #[must_use]
    pub fn new(keys: Vec<KeyId>, next: Option<ListCursor>) -> Self {
        Self { keys, next }
    }
}
