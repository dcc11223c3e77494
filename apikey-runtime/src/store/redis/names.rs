//! The names of the store's keys: all with one hash tag, so that a cluster keeps them together and a
//! script can use several.

use crate::error::StoreError;
use crate::key::KeyId;

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
            return Err(StoreError::Invalid(
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
    pub(super) fn nodes(&self) -> String {
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

    /// The keys of every change to records.
    pub(super) fn of_records(&self) -> [String; 4] {
        [self.meta(), self.log(), self.index(), self.ends()]
    }

    /// The keys of the history.
    pub(super) fn of_history(&self) -> [String; 3] {
        [self.meta(), self.log(), self.nodes()]
    }
}
