//! The digests of a record that a presented key is compared with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::clock::Timestamp;
use crate::key::{KeyHasher, ParsedDigest};
use crate::record::KeyRecord;

/// The digests of a record, parsed.
pub(crate) struct RecordDigests {
    pub(crate) current: ParsedDigest,
    /// The digest before the last rotation, and the end of its grace.
    pub(crate) previous: Option<(ParsedDigest, Timestamp)>,
}

impl RecordDigests {
    /// Parses the digests of a record. Returns `None` if the current one cannot be parsed: the key is denied. If the
    /// previous one cannot be parsed, its secret alone is denied. It is not parsed once its grace is over at `now`.
    pub(crate) fn of(record: &KeyRecord, hasher: &dyn KeyHasher, now: Timestamp) -> Option<Self> {
        // A user's hasher that panics must not end a batch: the other reads would stay unanswered.
        let parse = |stored: &str| {
            catch_unwind(AssertUnwindSafe(|| hasher.parse(stored))).unwrap_or_default()
        };
        let Some(current) = parse(&record.digest) else {
            tracing::error!(key_id = %record.id, "key denied: its stored digest has an unknown tag or form, or the hasher panicked");
            return None;
        };
        let in_grace = record.previous.as_ref().filter(|old| now < old.until);
        let previous = in_grace.and_then(|old| {
            let digest = parse(&old.digest);
            if digest.is_none() {
                tracing::error!(key_id = %record.id, "superseded secret denied within its grace: its stored digest has an unknown tag or form, or the hasher panicked");
            }
            digest.zip(Some(old.until))
        });
        Some(Self { current, previous })
    }
}
