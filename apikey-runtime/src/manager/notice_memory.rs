//! What is remembered between the steps of the task that gives notice of the ends of keys.

use crate::clock::{ClockReading, Timestamp};
use crate::key::KeyId;
use crate::store::ExpiryNotice;
use crate::usage::Retention;

/// Notices, each with the time that it is planned for next.
pub(super) type FinishedNotices = Vec<(ExpiryNotice, Option<Timestamp>)>;

/// What a step remembers for the next one, also if it panics.
#[derive(Debug)]
pub(super) struct NoticeMemory {
    /// Whether the clock is trusted.
    pub(super) clock: Retention,
    /// Whether this node may have claims that it has not finished. Other nodes cannot claim these, so the next
    /// call, which returns them, is made even if the readers have left.
    pub(super) may_hold_claims: bool,
    /// Notices that are told, or given back, and that the store has not noted.
    pub(super) unnoted: FinishedNotices,
    /// Keys that could not be read. They come last.
    pub(super) unreadable: Vec<KeyId>,
}

impl NoticeMemory {
    /// Creates the memory of a node that has not made a step.
    pub(super) fn new(now: ClockReading) -> Self {
        Self {
            clock: Retention::settling(now),
            may_hold_claims: false,
            unnoted: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Returns whether a claimed notice was told and only its note is left. Forgets an older notice of its key.
    pub(super) fn is_unnoted(&mut self, claimed: &ExpiryNotice) -> bool {
        self.unnoted
            .retain(|(kept, _)| kept.key != claimed.key || kept == claimed);
        self.unnoted.iter().any(|(kept, _)| kept == claimed)
    }

    /// Forgets notices that the store has noted.
    pub(super) fn noted(&mut self, noted: &FinishedNotices) {
        self.unnoted.retain(|kept| !noted.contains(kept));
    }
}
