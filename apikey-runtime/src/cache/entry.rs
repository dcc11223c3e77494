//! Cached keys: the facts of a record that checks and handlers need, parsed once.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipnet::IpNet;

use super::digests::RecordDigests;
use super::idle::IdleEnd;
use super::owners::{LastLook, OwnerChanges, OwnerMark, OwnerMarks, OwnerStatus};
use crate::clock::{ClockReading, Timestamp};
use crate::key::{IdText, KeyHasher, KeyId, ParsedDigest};
use crate::limiter::{Plan, Plans};
use crate::record::{KeyRecord, Metadata, Validity};
use crate::scope::Scopes;

/// A key record in the form that checks evaluate. Kept small, because there may be a million.
///
/// The field order matters: the fields that every check reads come last and lie together. They are
/// more than a cache line away from the `Arc`'s reference count, which every request for a hot key
/// writes from its own thread.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CachedKey {
    pub(crate) created: Timestamp,
    label: Box<str>,
    pub(crate) scopes: Scopes,
    /// The owner, if the key has one. The entries of the map share the marks of the table.
    owner: Option<Arc<OwnerMark>>,
    /// Fields that few keys have.
    pub(crate) uncommon: Option<Box<UncommonFields>>,
    /// The key's limits, if it has any.
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) id: KeyId,
    /// Set before the entry leaves the map, because the record changed or the entry was evicted.
    /// Readers of the map may still see an entry that was just removed.
    stale: AtomicBool,
    /// Whether the entry was looked up since the queue last checked.
    used: AtomicBool,
    owner_look: LastLook,
    /// The mark of a text that is not a secret of the key, or not any more; 0 before one is noted.
    refused: AtomicU64,
    /// Without the owner's suspension, which its mark has.
    validity: Validity,
    pub(crate) digest: ParsedDigest,
}

#[derive(Debug, Default)]
pub(crate) struct UncommonFields {
    pub(crate) environment: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    /// Empty allows all networks.
    pub(crate) networks: Box<[IpNet]>,
    /// Empty allows all methods.
    pub(crate) methods: Box<[Box<str>]>,
    /// The digest before the last rotation, and the end of its grace.
    previous: Option<Box<(ParsedDigest, Timestamp)>>,
    /// How many times the secret was replaced.
    rotations: u64,
    /// The expiry of a key that becomes idle before it, if it has one.
    expires: Option<Timestamp>,
    /// When all uses of the key were read, if it is idle by them.
    found_idle: Option<ClockReading>,
}

impl CachedKey {
    /// Converts a record. Returns `None` if its digest cannot be parsed.
    pub(crate) fn of(
        record: KeyRecord,
        hasher: &dyn KeyHasher,
        plans: &Plans,
        now: Timestamp,
    ) -> Option<Self> {
        let RecordDigests { current, previous } = RecordDigests::of(&record, hasher, now)?;
        Some(Self::with_digests(
            record,
            current,
            previous.map(Box::new),
            plans,
        ))
    }

    /// Converts a record whose digests were parsed.
    pub(crate) fn with_digests(
        record: KeyRecord,
        digest: ParsedDigest,
        previous: Option<Box<(ParsedDigest, Timestamp)>>,
        plans: &Plans,
    ) -> Self {
        let mut validity = Validity::of(&record);
        validity.suspended = false;
        let owner_state = record.owner_state.unwrap_or_default();
        let owner = record
            .owner
            .map(|name| Arc::new(OwnerMark::new(name, owner_state)));
        let environment = record.environment.map(String::into_boxed_str);
        let uncommon = environment.is_some()
            || !record.metadata.is_empty()
            || !record.networks.is_empty()
            || !record.methods.is_empty()
            || previous.is_some()
            || record.rotations > 0;
        Self {
            id: record.id,
            stale: AtomicBool::new(false),
            used: AtomicBool::new(false),
            owner_look: LastLook::default(),
            refused: AtomicU64::new(0),
            digest,
            plan: plans.share(&record.limits),
            validity,
            created: record.created,
            label: record.label.into(),
            scopes: record.scopes,
            owner,
            uncommon: uncommon.then(|| {
                Box::new(UncommonFields {
                    environment,
                    metadata: record.metadata,
                    networks: record.networks.into(),
                    methods: record
                        .methods
                        .into_iter()
                        .map(String::into_boxed_str)
                        .collect(),
                    previous,
                    rotations: record.rotations,
                    ..UncommonFields::default()
                })
            }),
        }
    }

    /// Sets when the key becomes idle, unless it expires before. It takes the place of the expiry, so that
    /// a check compares one time.
    pub(super) fn end_idle(&mut self, end: IdleEnd) {
        let expires = self.validity.expires;
        if expires <= end.at {
            return;
        }
        self.validity.expires = end.at;
        self.validity.ends_idle = true;
        if expires < Timestamp::MAX || end.found_idle.is_some() {
            let fields = self.uncommon.get_or_insert_default();
            fields.expires = Some(expires);
            fields.found_idle = end.found_idle;
        }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_ref().map(|mark| mark.name())
    }

    /// Returns the facts that the key's state depends on, those of its owner too. `changes` is the
    /// present count of owners' changes.
    #[inline]
    pub(crate) fn validity(&self, changes: OwnerChanges) -> Validity {
        let owner = self.owner_look.status(self.owner.as_ref(), changes);
        Validity {
            revoked: self.validity.revoked || owner == OwnerStatus::Revoked,
            // A mark that became stale since the check looked: the denial is checked again.
            suspended: matches!(owner, OwnerStatus::Suspended | OwnerStatus::Stale),
            ..self.validity
        }
    }

    /// Returns whether its owner's mark is stale; checks must then not use the entry.
    #[inline]
    pub(crate) fn is_owner_stale(&self, changes: OwnerChanges) -> bool {
        self.owner_look.status(self.owner.as_ref(), changes) == OwnerStatus::Stale
    }

    /// Returns when the key expires or becomes idle, whichever comes first; [`Timestamp::MAX`] if neither.
    pub(crate) fn ends_at(&self) -> Timestamp {
        self.validity.expires
    }

    /// Returns whether the key becomes idle first.
    pub(crate) fn ends_idle(&self) -> bool {
        self.validity.ends_idle
    }

    /// Returns the key's expiry; [`Timestamp::MAX`] if it does not expire.
    pub(crate) fn expires(&self) -> Timestamp {
        if !self.validity.ends_idle {
            return self.validity.expires;
        }
        let uncommon = self.uncommon.as_ref();
        let expires = uncommon.and_then(|fields| fields.expires);
        expires.unwrap_or(Timestamp::MAX)
    }

    /// Returns when all uses of the key were read, if it is idle by them. `None` if it was not idle then, or
    /// if they were not read.
    pub(crate) fn found_idle(&self) -> Option<ClockReading> {
        self.uncommon.as_ref()?.found_idle
    }

    /// Returns the digest before the last rotation, and the end of its grace.
    #[inline]
    pub(crate) fn previous(&self) -> Option<&(ParsedDigest, Timestamp)> {
        self.uncommon.as_ref()?.previous.as_deref()
    }

    /// Returns how many times the secret was replaced.
    #[inline]
    pub(crate) fn rotations(&self) -> u64 {
        self.uncommon.as_ref().map_or(0, |fields| fields.rotations)
    }

    /// Shares the mark that the entries of its owner have, before others can see this entry.
    pub(super) fn share_owner(&mut self, marks: &OwnerMarks) {
        if let Some(mark) = &mut self.owner {
            self.validity.revoked |= marks.share(mark);
        }
    }

    #[inline]
    pub(crate) fn environment(&self) -> Option<&str> {
        self.uncommon.as_ref()?.environment.as_deref()
    }

    /// Returns the networks from which the key may be used; empty if every address is permitted.
    #[inline]
    pub(crate) fn networks(&self) -> &[IpNet] {
        self.uncommon
            .as_ref()
            .map_or(&[], |fields| &fields.networks)
    }

    /// Returns the methods for which the key may be used; empty if every method is permitted.
    #[inline]
    pub(crate) fn methods(&self) -> &[Box<str>] {
        self.uncommon.as_ref().map_or(&[], |fields| &fields.methods)
    }

    /// Records a lookup. The flag of a hot key is usually set already. Then nothing is written, and
    /// its cache line stays shared by all processors.
    #[inline]
    pub(super) fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the entry was looked up since the last call, and clears the flag.
    pub(super) fn take_used(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        if used {
            self.used.store(false, Ordering::Relaxed);
        }
        used
    }

    /// Notes that the text of `mark` was not a secret of the key by a poll that began after the
    /// text was presented. New secrets are random, and no call prolongs a grace, so no later change makes it one, except
    /// a copy from another store or a change by hand: the entry goes when that is followed.
    pub(crate) fn note_refused(&self, mark: NonZeroU64) {
        self.refused.store(mark.get(), Ordering::Relaxed);
    }

    /// Returns whether the text of `mark` was noted last. Only for a text that is not a secret now.
    pub(crate) fn was_refused(&self, mark: NonZeroU64) -> bool {
        self.refused.load(Ordering::Relaxed) == mark.get()
    }

    /// Marks the entry as stale; checks must not use it from now on.
    pub(super) fn mark_stale(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }

    /// Returns whether the entry was removed from the map, by a change or an eviction.
    #[inline]
    pub(crate) fn is_stale(&self) -> bool {
        #[cfg(apikey_faults)]
        if crate::faults::no_generation() {
            return false;
        }
        self.stale.load(Ordering::SeqCst)
    }
}

/// An entry as the map's key, hashed and compared by id. The map then holds one pointer per key.
#[derive(Debug, Clone)]
pub(super) struct ById(pub(super) Arc<CachedKey>);

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl scc::Equivalent<ById> for IdText<'_> {
    fn equivalent(&self, entry: &ById) -> bool {
        self.bytes() == entry.0.id.bytes()
    }
}

impl scc::Equivalent<ById> for KeyId {
    fn equivalent(&self, entry: &ById) -> bool {
        *self == entry.0.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its strings, its queue slot and its map slot, a key takes 256 bytes in total.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_entry_is_small() {
        assert!(size_of::<CachedKey>() <= 168, "{}", size_of::<CachedKey>());
    }
}
