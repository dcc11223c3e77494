//! The names of the store's keys: all with one hash tag, so that a cluster keeps them together and a
//! script can use several.

use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::NodeId;

/// The default namespace.
pub(super) const DEFAULT: &str = "apikey";

/// Builds the names; scripts do not build any.
#[derive(Debug, Clone)]
pub(super) struct KeyNames(String);

impl KeyNames {
    /// The names of a namespace, which must not end its own hash tag, after a prefix, which must not
    /// contain one.
    pub(super) fn new(prefix: &str, namespace: &str) -> Result<Self, StoreError> {
        let is_special = |c: char| c.is_control() || "{}*?[]\\".contains(c);
        if prefix.contains(is_special) {
            return Err(StoreError::InvalidArgument(
                "the key prefix has a brace, a control character, or one of `*?[]\\`, which are patterns in an \
                 access list; write letters, digits and colons, as in `app:`"
                    .to_owned(),
            ));
        }
        let is_bad = |c: char| matches!(c, '{' | '}') || c.is_control();
        if namespace.is_empty() || namespace.contains(is_bad) {
            return Err(StoreError::InvalidArgument(
                "the namespace is empty, or has a brace or a control character; write letters and \
                 digits, as in `apikey`"
                    .to_owned(),
            ));
        }
        Ok(Self(format!("{prefix}{{{namespace}}}:")))
    }

    fn of(&self, what: &str) -> String {
        format!("{}{what}", self.0)
    }

    /// Hash: the schema's version, the present place in the history, and the leases.
    pub(super) fn meta(&self) -> String {
        self.of("meta")
    }

    /// Stream: one entry for every change, with the epoch as its id.
    pub(super) fn changes(&self) -> String {
        self.of("changes")
    }

    /// Sorted set without scores: what records are found by, with their ids.
    pub(super) fn index(&self) -> String {
        self.of("index")
    }

    /// Sorted set: ids, by the time when the key was revoked or expires.
    pub(super) fn purge_index(&self) -> String {
        self.of("purge_index")
    }

    /// Hash: the state of each owner, by its name.
    pub(super) fn owners(&self) -> String {
        self.of("owners")
    }

    /// Hash: when and why all keys of an owner were revoked, until they are marked.
    pub(super) fn owner_revocations(&self) -> String {
        self.of("owner_revocations")
    }

    /// Sorted set: the owners whose keys are not all marked, by the epoch of the revocation.
    pub(super) fn unmarked_owners(&self) -> String {
        self.of("unmarked_owners")
    }

    /// Stream: an entry for each change of a key or an owner.
    pub(super) fn audit(&self) -> String {
        self.of("audit")
    }

    /// Sorted set without scores: keys, owners and actors with the ids of their entries in the audit log.
    pub(super) fn audit_index(&self) -> String {
        self.of("audit_index")
    }

    /// Hash: up to four fields for every node.
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

    /// As [`record`](Self::record), for an id as the index has it, which may not be valid.
    pub(super) fn record_of(&self, id: &[u8]) -> Vec<u8> {
        [self.of("key:").as_bytes(), id].concat()
    }

    /// Hash: a key's limit counters, by the names of the limits.
    pub(super) fn limit_counters(&self, id: &KeyId) -> String {
        self.of("limit_counters:") + id.as_str()
    }

    /// As [`limit_counters`](Self::limit_counters), for an id as the index has it.
    pub(super) fn limit_counters_of(&self, id: &[u8]) -> Vec<u8> {
        [self.of("limit_counters:").as_bytes(), id].concat()
    }

    /// Hash: how often a key was used on a day, since 1970, by hour, outcome and route. Expires.
    pub(super) fn usage(&self, id: &KeyId, day: i64) -> String {
        self.of(&format!("usage:{id}:{day}"))
    }

    /// As [`usage`](Self::usage), for an id as the index has it.
    pub(super) fn usage_of(&self, id: &[u8], day: i64) -> Vec<u8> {
        let day = format!(":{day}");
        [self.of("usage:").as_bytes(), id, day.as_bytes()].concat()
    }

    /// Sorted set: the days that have usage, by the time when it expires.
    pub(super) fn usage_days(&self) -> String {
        self.of("usage_days")
    }

    /// The day of which the roll-up is, and the last key whose usage it has looked at.
    pub(super) fn rolled_up_to(&self) -> String {
        self.of("rolled_up_to")
    }

    /// Sorted set: the networks of a key, by the time of the last use. Expires.
    pub(super) fn networks(&self, id: &KeyId) -> String {
        self.of("networks:") + id.as_str()
    }

    /// As [`networks`](Self::networks), for an id as the index has it.
    pub(super) fn networks_of(&self, id: &[u8]) -> Vec<u8> {
        [self.of("networks:").as_bytes(), id].concat()
    }

    /// Hash: the last uses of keys, by their ids. `add_usage.lua` has the form.
    pub(super) fn last_used(&self) -> String {
        self.of("last_used")
    }

    /// The number of a node's last batch of usage. Expires.
    pub(super) fn usage_batch(&self, node: &NodeId) -> String {
        self.of("usage_batch:") + node.as_str()
    }

    /// Hash: the secrets that all nodes share, by their names.
    pub(super) fn shared_secrets(&self) -> String {
        self.of("shared_secrets")
    }

    /// The keys of every change to records. Without the last two, a change is not audited.
    pub(super) fn of_records(&self) -> [String; 8] {
        [
            self.meta(),
            self.changes(),
            self.index(),
            self.purge_index(),
            self.owners(),
            self.owner_revocations(),
            self.audit(),
            self.audit_index(),
        ]
    }

    /// The keys of the history.
    pub(super) fn of_history(&self) -> [String; 3] {
        [self.meta(), self.changes(), self.members()]
    }
}
