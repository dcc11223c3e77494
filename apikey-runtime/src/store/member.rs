//! The nodes that use a store: who holds a lease, and how far each has followed the history.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Cursor;
use crate::error::Error;
use crate::key::KeyId;

/// Names one running manager: 128 random bits, written as 22 characters of base62 (`0-9A-Za-z`).
///
/// It is made anew each time a manager starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(KeyId);

impl NodeId {
    /// The id with these 128 bits.
    #[must_use]
    pub fn from_u128(bits: u128) -> Self {
        Self(KeyId::from_u128(bits))
    }

    /// The 22 characters.
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
                "the id of a node is 22 letters and digits; take it from a `MemberList`".to_owned(),
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

/// A node, as a store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The epoch up to which it has dropped from its memory what changed.
    pub acknowledged: u64,
    /// Counts what it writes of itself: one that does not move for long is gone.
    pub heartbeat: u64,
    /// Whether another node took it for gone. It gets no lease then, until it joins anew.
    pub suspected: bool,
}

impl Node {
    /// A node that has acknowledged nothing but `acknowledged`.
    #[must_use]
    pub fn new(id: NodeId, acknowledged: u64, heartbeat: u64, suspected: bool) -> Self {
        Self {
            id,
            acknowledged,
            heartbeat,
            suspected,
        }
    }
}

/// The nodes that may hold a lease, and where the history stood when they were listed: all of one
/// moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberList {
    /// Where the history stands.
    pub cursor: Cursor,
    /// The longest lease that a node may still hold: longer than [`Changes::lease`] for a while
    /// after that was lowered.
    ///
    /// [`Changes::lease`]: super::Changes::lease
    pub longest_lease: Duration,
    /// The nodes, in no order.
    pub nodes: Vec<Node>,
}

impl MemberList {
    /// A roster of these.
    #[must_use]
    pub fn new(cursor: Cursor, longest_lease: Duration, nodes: Vec<Node>) -> Self {
        Self {
            cursor,
            longest_lease,
            nodes,
        }
    }
}
