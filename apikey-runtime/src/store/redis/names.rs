//! The names of the store's keys: all with one hash tag, so that a cluster keeps them together and a
//! script can use several.

use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::NodeId;

/// The namespace where no other is given.
pub(super) const DEFAULT: &str = "apikey";

/// Builds names; none is built inside a script.
#[derive(Debug, Clone)]
pub(super) struct Names(String);

impl Names {
    /// The names of a namespace, which must not end its own hash tag.
    pub(super) fn new(namespace: &str) -> Result<Self, StoreError> {
        let is_bad = |c: char| matches!(c, '{' | '}') || c.is_control();
        if namespace.is_empty() || namespace.contains(is_bad) {
            return Err(StoreError::InvalidArgument(
                "the namespace is empty, or has a brace or a control character; write letters and \
                 digits, as in `apikey`"
                    .to_owned(),
            ));
        }
        Ok(Self(format!("{{{namespace}}}:")))
    }

    fn of(&self, what: &str) -> String {
        format!("{}{what}", self.0)
    }

    /// Hash: where the history stands, and the leases.
    pub(super) fn meta(&self) -> String {
        self.of("meta")
    }

    /// Stream: one entry for every change, with the epoch as its id.
    pub(super) fn log(&self) -> String {
        self.of("log")
    }

    /// Sorted set without scores: ids, and owners and labels with their ids.
    pub(super) fn index(&self) -> String {
        self.of("index")
    }

    /// Sorted set: ids, by when the key was revoked or expires.
    pub(super) fn ends(&self) -> String {
        self.of("ends")
    }

    /// Hash: three fields for every node.
    pub(super) fn members(&self) -> String {
        self.of("nodes")
    }

    /// The channel of the push.
    pub(super) fn channel(&self) -> String {
        self.of("changed")
    }

    /// Hash: a record.
    pub(super) fn record(&self, id: &KeyId) -> String {
        self.of("key:") + id.as_str()
    }

    /// As [`record`](Self::record), for an id as the index has it, which may be none.
    pub(super) fn record_of(&self, id: &[u8]) -> Vec<u8> {
        [self.of("key:").as_bytes(), id].concat()
    }

    /// Hash: what was used of a key's limits, by their names.
    pub(super) fn counts(&self, id: &KeyId) -> String {
        self.of("counts:") + id.as_str()
    }

    /// As [`counts`](Self::counts), for an id as the index has it.
    pub(super) fn counts_of(&self, id: &[u8]) -> Vec<u8> {
        [self.of("counts:").as_bytes(), id].concat()
    }

    /// Hash: how often a key was used on a day, since 1970, by hour, outcome and route. Goes by
    /// itself.
    pub(super) fn usage(&self, id: &KeyId, day: i64) -> String {
        self.of(&format!("usage:{id}:{day}"))
    }

    /// Sorted set: the days that have usage, by when it goes.
    pub(super) fn days(&self) -> String {
        self.of("days")
    }

    /// Hash: when and from where keys were last used, by their ids.
    pub(super) fn used(&self) -> String {
        self.of("used")
    }

    /// The number of a node's last batch of usage. Goes by itself.
    pub(super) fn batch(&self, node: &NodeId) -> String {
        self.of("batch:") + node.as_str()
    }

    /// The keys of every change to records.
    pub(super) fn of_records(&self) -> [String; 4] {
        [self.meta(), self.log(), self.index(), self.ends()]
    }

    /// The keys of the history.
    pub(super) fn of_history(&self) -> [String; 3] {
        [self.meta(), self.log(), self.members()]
    }
}
