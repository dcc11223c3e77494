//! What the model knows of the store, the nodes, the call under way, and the check that is watched.
//!
//! All times are relative to now, and end at a bound: so the number of states is finite although
//! time has no end.

use crate::bounds::{KEYS, LOG, NODES, OWNERS, SLOTS};

/// A number of ticks. One tick also stands for the margin of a wait: a thousandth and 5 ms.
pub type Ticks = u8;

/// The whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    /// The earlier state that may be put back, as long as it was not.
    pub dump: Option<Dump>,
    pub nodes: [Node; NODES],
    pub call: Option<Call>,
    pub check: Option<Check>,
    pub promises: [[Promise; 2]; KEYS],
    pub budget: Budget,
    pub violation: Option<Violation>,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    pub changes: u8,
    pub joins: u8,
    pub suspicions: u8,
    pub crashes: u8,
    pub leaves: u8,
}

/// Which property does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    AcceptAfterConfirmation,
    AcceptAfterReturn,
    AcceptAfterLease,
    AcceptOnOlderNode,
    RevocationUndone,
    LiveKeyRefused,
    NewKeyIsDead,
}

/// The store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Store {
    pub data: Data,
    /// The number of the history, which the tags of its log rows contain.
    pub history: u8,
    pub lease: Ticks,
    /// How long ago the lease was shortened, up to the wait for the longest lease.
    pub shortened: Option<Ticks>,
}

/// What a dump contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Data {
    pub epoch: u8,
    /// The row of epoch `e` is at `e - 1`.
    pub log: [LogRow; LOG],
    /// Rows up to this epoch are trimmed; the tag of the row of this epoch is kept.
    pub trimmed: u8,
    pub keys: [Record; KEYS],
    pub owners: [OwnerRow; OWNERS],
    pub members: [Option<Member>; SLOTS],
    /// A change that has read what it needs but is not committed yet (only without a protection).
    pub open: Option<OpenChange>,
}

/// An earlier state of the store.
pub type Dump = Data;

/// A row of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogRow {
    pub item: Item,
    pub tag: u8,
}

/// What a log row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// A number that is taken, but not committed (only without the commit order).
    Hole,
    Key(u8),
    Member,
    Owner(u8),
}

/// A key's record. `secret` counts rotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub exists: bool,
    pub secret: u8,
    pub enabled: bool,
    pub revoked: bool,
    pub owner: u8,
    /// `owner_revocations`.
    pub number: u8,
}

/// An owner's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OwnerRow {
    pub version: u8,
    pub revocations: u8,
    pub suspended: bool,
}

/// A member of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    pub acknowledged: u8,
    pub protocol: u8,
    /// How long its heartbeat has not moved since it was suspected.
    pub suspected: Option<Ticks>,
}

/// A transaction that has read, and has not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenChange {
    pub change: Change,
    /// What it read of the owner's row.
    pub number: u8,
    /// Whether the key that it moves was dead then.
    pub dead: bool,
    /// The epoch that it took.
    pub epoch: Option<u8>,
}

/// A position in the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub epoch: u8,
    pub tag: u8,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    pub running: bool,
    /// Its place in the member list: another one after a restart.
    pub slot: u8,
    /// Whether it believes to be a member.
    pub member: bool,
    pub cursor: Option<Cursor>,
    pub followed: Option<Followed>,
    /// For how many ticks of real time the lease lasts.
    pub lease: Ticks,
    pub longest: Ticks,
    pub poll: Option<Poll>,
    pub cache: [Option<Entry>; KEYS],
    pub marks: [Option<OwnerRow>; OWNERS],
    pub reads: [Option<Read>; KEYS],
}

/// `SyncPosition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Followed {
    pub cursor: Cursor,
    /// How long each answer has continued the one before.
    pub unbroken: Ticks,
}

/// A poll: its page is the store's answer, which is under way or being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Poll {
    pub age: Ticks,
    pub page: Page,
    /// The head that the first page reported, if this is a later page.
    pub head: Option<u8>,
    pub shortest: Ticks,
    /// The next step of applying an owner's change.
    pub step: u8,
}

/// A page of at most one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    pub set: PageSet,
    pub cursor: Cursor,
    pub head: u8,
    pub lease: Ticks,
    pub member: bool,
}

/// What a page contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageSet {
    Nothing,
    Item(Item),
    /// The owner's state is from the page's snapshot.
    Owner(u8, OwnerRow),
    Resync,
    /// Fewer items than epochs.
    Gap,
}

/// What a read of the store answered: the record and the owner's state, of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found {
    pub record: Record,
    pub owner: OwnerRow,
}

/// A read of the store in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Read {
    pub found: Found,
    /// Whether later callers may join.
    pub joinable: bool,
    /// Whether a change advanced the generation since it began.
    pub fenced: bool,
}

/// A cached key. `record.exists` is false for an id that is remembered as unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    pub record: Record,
    /// Whether it noted the present count of owners' changes when its mark was last live.
    pub noted: bool,
}

/// A call of the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    pub node: u8,
    pub change: Change,
    /// The owner's row as the change left it.
    pub row: OwnerRow,
    pub stage: Stage,
    /// Which keys and secrets the store denies since this call, or since before it.
    pub covers: [[bool; 2]; KEYS],
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Committed; the next step of applying it to the caller's own cache.
    Applying(u8),
    /// Returned, or about to wait for the other nodes.
    Returned,
    Confirming(Confirming),
}

/// The barrier of `.confirmed()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Confirming {
    pub epoch: u8,
    pub age: Ticks,
    /// The nodes of the list that have not acknowledged.
    pub waiting: [bool; SLOTS],
    pub listed: bool,
    pub seen: Ticks,
    pub stated: Ticks,
    /// Whether a poll that was sent after the change is under way.
    pub sent: bool,
    /// Set when the wait for this node's own poll is over.
    pub polled: Option<bool>,
    /// The lease to wait for; chosen then.
    pub longest: Option<Ticks>,
}

/// A change of the store by a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Create(u8, u8),
    Revoke(u8),
    Rotate(u8),
    Disable(u8),
    Enable(u8),
    Move(u8, u8),
    RevokeAll(u8),
    Suspend(u8),
    Resume(u8),
}

/// The check that is watched. All others only fill caches, which the model does on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Check {
    pub node: u8,
    pub key: u8,
    pub secret: u8,
    /// What an accept violates; `None`: the key is live, and a denial violates that.
    pub forbidden: Option<Violation>,
    pub stage: CheckStage,
}

/// How far the check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckStage {
    /// It has an entry. `stale`: the entry left the map since.
    Peeked {
        entry: Entry,
        stale: bool,
        rechecked: bool,
        /// The lease as it was at the start (only if it is not looked at last).
        early: bool,
    },
    /// It joined a read.
    Joined { found: Found },
    /// It waits for a poll that begins after it.
    Polling { begun: bool },
}

/// What was promised about a key and one of its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Promise {
    /// How long the store has denied it, up to the longest lease.
    pub denied: Option<Ticks>,
    pub confirmed: bool,
    /// The nodes on which a call that ended it has returned.
    pub returned: [bool; NODES],
    /// Whether it was revoked in a history that was lost.
    pub lost: bool,
}
