//! Proves that a caller has a key, and decides what the secret is worth.

use super::Verifier;
use crate::cache::RecordDigests;
use crate::clock::Timestamp;
use crate::key::{ParsedDigest, ParsedKey};
use crate::record::{KeyRecord, KeyState, Validity};

/// What a caller has who presents a right secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Possession {
    /// The state of the key.
    pub(crate) state: KeyState,
    /// The end of the secret's grace, if a rotation superseded it.
    pub(crate) superseded: Option<Timestamp>,
}

impl Verifier {
    /// Compares a presented key with a record, in constant time. Returns `None` for a wrong secret,
    /// for one whose grace has ended, and without a record.
    ///
    /// This is not a check: limits, usage, failed attempts and the key's own restrictions are not
    /// considered.
    pub(crate) fn prove_possession(
        &self,
        presented: &ParsedKey<'_>,
        record: Option<&KeyRecord>,
    ) -> Option<Possession> {
        let matches = |digest: &ParsedDigest| self.loader.hasher.verify(presented.text(), digest);
        let read_at = self.shared.now().now;
        let digests = record.and_then(|record| {
            RecordDigests::of(record, &*self.loader.hasher, read_at).zip(Some(record))
        });
        let Some((RecordDigests { current, previous }, record)) = digests else {
            std::hint::black_box(matches(&self.dummy));
            return None;
        };
        let current = matches(&current);
        let previous = previous.filter(|(digest, _)| matches(digest));
        // The clock is read last, as in a check.
        let now = self.shared.now().now;
        let superseded = previous
            .map(|(_, until)| until)
            .filter(|until| now < *until);
        let is_right = current || superseded.is_some();
        is_right.then(|| Possession {
            state: Validity::of(record).state(now),
            superseded: superseded.filter(|_| !current),
        })
    }
}
