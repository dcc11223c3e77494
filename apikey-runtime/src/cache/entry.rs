//! One key in memory: what decisions and handlers need of its record, parsed once.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::key::{IdText, KeyHasher, KeyId, ParsedDigest};
use crate::limiter::{Plan, Plans};
use crate::record::{KeyRecord, Metadata, Validity};
use crate::scope::Scopes;

/// A record in the form in which requests judge it. Kept small: there may be a million.
///
/// In this order: what every check reads comes last and lies together, more than a cache line away
/// from the `Arc`'s count, which every request for a hot key writes from its own thread.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CachedKey {
    pub(crate) created: Timestamp,
    names: LabelAndOwner,
    pub(crate) scopes: Scopes,
    /// What few keys have.
    pub(crate) uncommon: Option<Box<UncommonFields>>,
    pub(crate) previous: Option<Box<(ParsedDigest, Timestamp)>>,
    /// What the key is limited to, where it is.
    pub(crate) plan: Option<Arc<Plan>>,
    pub(crate) id: KeyId,
    /// Set before the entry leaves the map, because the record changed or for want of room: the
    /// map's readers may still see an entry that was just removed.
    stale: AtomicBool,
    /// Whether the entry was asked for since the queue last looked.
    used: AtomicBool,
    pub(crate) validity: Validity,
    pub(crate) digest: ParsedDigest,
}

/// Label and owner, one behind the other: one allocation, and no second pointer.
#[derive(Debug)]
struct LabelAndOwner {
    text: Box<str>,
    /// Where the owner begins; [`NO_OWNER`] where there is none. An owner may be an empty text.
    owner_at: usize,
}

/// No text is as long.
const NO_OWNER: usize = usize::MAX;

impl LabelAndOwner {
    fn of(label: String, owner: Option<&str>) -> Self {
        let owner_at = owner.map_or(NO_OWNER, |_| label.len());
        Self {
            text: (label + owner.unwrap_or_default()).into(),
            owner_at,
        }
    }

    fn label(&self) -> &str {
        self.text.get(..self.owner_at).unwrap_or(&self.text)
    }

    fn owner(&self) -> Option<&str> {
        self.text.get(self.owner_at..)
    }
}

#[derive(Debug)]
pub(crate) struct UncommonFields {
    pub(crate) environment: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    /// None is all.
    pub(crate) networks: Box<[IpNet]>,
    /// None is all.
    pub(crate) methods: Box<[Box<str>]>,
}

impl CachedKey {
    /// The record in this form; `None` where `hasher` does not know how its digest was made.
    pub(crate) fn of(record: KeyRecord, hasher: &dyn KeyHasher, plans: &Plans) -> Option<Self> {
        let validity = Validity::of(&record);
        let digest = hasher.prepare(&record.digest)?;
        let previous = match record.previous {
            None => None,
            Some(previous) => Some(Box::new((
                hasher.prepare(&previous.digest)?,
                previous.until,
            ))),
        };
        let environment = record.environment.map(String::into_boxed_str);
        let uncommon = environment.is_some()
            || !record.metadata.is_empty()
            || !record.networks.is_empty()
            || !record.methods.is_empty();
        Some(Self {
            id: record.id,
            stale: AtomicBool::new(false),
            used: AtomicBool::new(false),
            digest,
            previous,
            plan: plans.share(&record.limits),
            validity,
            created: record.created,
            names: LabelAndOwner::of(record.label, record.owner.as_deref()),
            scopes: record.scopes,
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
                })
            }),
        })
    }

    pub(crate) fn label(&self) -> &str {
        self.names.label()
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.names.owner()
    }

    pub(crate) fn environment(&self) -> Option<&str> {
        self.uncommon.as_ref()?.environment.as_deref()
    }

    /// The networks from which the key may be used; empty if every address is permitted.
    pub(crate) fn networks(&self) -> &[IpNet] {
        self.uncommon
            .as_ref()
            .map_or(&[], |fields| &fields.networks)
    }

    /// The methods for which the key may be used; empty if every method is permitted.
    pub(crate) fn methods(&self) -> &[Box<str>] {
        self.uncommon.as_ref().map_or(&[], |fields| &fields.methods)
    }

    /// Notes that the entry was asked for. Most often it is noted already: then nothing is written,
    /// and the line of a hot key stays in the caches of all processors.
    pub(super) fn note_use(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the entry was asked for since this was last asked.
    pub(super) fn take_used(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        if used {
            self.used.store(false, Ordering::Relaxed);
        }
        used
    }

    /// Marks the entry as one that may be believed no more.
    pub(super) fn mark_stale(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }

    /// Whether a change overtook the entry, or it left the map for want of room.
    pub(crate) fn is_stale(&self) -> bool {
        #[cfg(apikey_faults)]
        if crate::faults::no_generation() {
            return false;
        }
        self.stale.load(Ordering::SeqCst)
    }
}

/// An entry as the map's key, found by its id: the map then keeps one pointer a key.
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

    #[test]
    fn label_and_owner_come_back_as_they_were() {
        for (label, owner) in [
            ("ci", Some("42")),
            ("ci", None),
            ("ci", Some("")),
            ("", None),
            ("", Some("")),
            ("", Some("42")),
            ("schlüssel", Some("ÿ")),
        ] {
            let names = LabelAndOwner::of(label.to_owned(), owner);
            assert_eq!((names.label(), names.owner()), (label, owner));
        }
    }

    /// 256 bytes of a key in all, with its texts, its slot in the queue and its place in the map.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_entry_is_small() {
        assert!(size_of::<CachedKey>() <= 160, "{}", size_of::<CachedKey>());
    }
}
