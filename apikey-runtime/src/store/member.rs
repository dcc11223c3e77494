//! Membership: the nodes that use a store, and how far each has followed the change log.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Cursor, PROTOCOL};
use crate::error::Error;
use crate::key::KeyId;

/// Identifies a running manager: 128 random bits, written as 22 characters of base62 (`0-9A-Za-z`).
///
/// Each start of a manager generates a new id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(KeyId);

impl NodeId {
    /// Creates the id with these 128 bits.
    #[must_use]
    pub fn from_u128(bits: u128) -> Self {
        Self(KeyId::from_u128(bits))
    }

    /// Returns the 22 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for NodeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        KeyId::from_ascii(text.as_bytes()).map(Self).ok_or_else(|| {
            Error::InvalidArgument(
                "a node id is 22 letters and digits; take it from a `MemberList`".to_owned(),
            )
        })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.as_str())
    }
}

/// A node in a store's member list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The node's id.
    pub id: NodeId,
    /// The epoch up to which the node has evicted changed keys from its cache.
    pub acknowledged: u64,
    /// The node's heartbeat counter. A node whose counter stays the same for long is gone.
    pub heartbeat: u64,
    /// Whether another node suspects it to be gone. If so, it gets no lease until it joins again.
    pub suspected: bool,
    /// The version of the [protocol](super::Changes::required_protocol) that the node speaks.
    pub protocol: u32,
}

impl Node {
    /// Creates a node that has acknowledged all changes up to the epoch `acknowledged`.
    #[must_use]
    pub fn new(id: NodeId, acknowledged: u64, heartbeat: u64, suspected: bool) -> Self {
        Self {
            id,
            acknowledged,
            heartbeat,
            suspected,
            protocol: PROTOCOL,
        }
    }

    /// Sets the version of the protocol that the node speaks. By default, that of this release.
    #[must_use]
    pub fn with_protocol(mut self, version: u32) -> Self {
        self.protocol = version;
        self
    }
}

/// The nodes that may hold a lease, and the position of the change log, both of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberList {
    /// The position of the change log.
    pub cursor: Cursor,
    /// The longest lease that a node may still hold. It exceeds [`Changes::lease`] for a while
    /// after that was shortened.
    ///
    /// [`Changes::lease`]: super::Changes::lease
    pub longest_lease: Duration,
    /// The nodes, in no particular order.
    pub nodes: Vec<Node>,
}

impl MemberList {
    /// Creates a list of `nodes`.
    #[must_use]
    pub fn new(cursor: Cursor, longest_lease: Duration, nodes: Vec<Node>) -> Self {
        Self {
            cursor,
            longest_lease,
            nodes,
        }
    }
}
