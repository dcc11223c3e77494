//! In-flight reads: one read of the store serves all callers of its key.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::entry::CachedKey;
use super::fence::Generation;
use crate::clock::ClockReading;
use crate::key::KeyId;

/// When and how the store was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadStamp {
    /// When the query was sent: the answer's age counts from then.
    pub(crate) sent: ClockReading,
    /// The number of the last watch that was added before the query was sent.
    pub(super) last_watch: u64,
    pub(super) generation: Generation,
    /// Whether this caller started the read, rather than joined it.
    pub(crate) own: bool,
}

/// The store's answer for an id.
#[derive(Debug, Clone)]
pub(crate) struct ReadAnswer {
    pub(crate) stamp: ReadStamp,
    /// The key, if the store has it and its record is readable.
    pub(crate) found: Option<Arc<CachedKey>>,
}

/// The store did not answer. Never cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadError;

/// The value that the callers of a read wait for.
pub(super) type ReadOutcome = Option<Result<ReadAnswer, ReadError>>;

/// An in-flight read.
#[derive(Debug)]
pub(super) struct InFlightRead {
    /// Together with `number`, distinguishes the read that removes itself from a later read of the
    /// same key.
    pub(super) generation: Generation,
    pub(super) number: u64,
    pub(super) outcome: watch::Receiver<ReadOutcome>,
}

/// A read that is not sent yet.
#[derive(Debug)]
pub(crate) struct QueuedRead {
    pub(super) id: KeyId,
    /// From before it waits, and so from before it is sent.
    pub(super) generation: Generation,
    pub(super) number: u64,
    /// The end of its deadline, which includes the time that it waits.
    pub(super) until: Instant,
    pub(super) outcome: watch::Sender<ReadOutcome>,
}
