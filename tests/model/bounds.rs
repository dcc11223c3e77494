//! The configurations: what may happen in each, and how often.

use std::sync::OnceLock;

use crate::state::{Change, Ticks};
use crate::without::Without;

/// The sizes of the arrays. A configuration may use less.
pub const KEYS: usize = 2;
pub const OWNERS: usize = 2;
pub const NODES: usize = 3;
/// One more than nodes: a node that restarts is a new member.
pub const SLOTS: usize = 4;
/// The highest epoch.
pub const LOG: usize = 7;

/// By how much the longest lease exceeds the one that it is shortened to.
const SHORTENED_BY: Ticks = 2;
/// Whether the larger bounds are asked for: `MODEL_BOUNDS=full`.
pub fn full() -> bool {
    static FULL: OnceLock<bool> = OnceLock::new();
    *FULL.get_or_init(|| std::env::var("MODEL_BOUNDS").is_ok_and(|bounds| bounds == "full"))
}

/// By how much a lease may outlast its length because a node's clock is slow.
pub const DRIFT: Ticks = 1;

/// A configuration.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub name: &'static str,
    pub nodes: u8,
    /// The lease of the store, in ticks.
    pub lease: Ticks,
    /// Whether a node restarts after a crash; otherwise a crash is for good.
    pub restarts: bool,
    /// Keys. Those that exist at the start have owner 0.
    pub keys: u8,
    pub existing: u8,
    /// The changes that calls may make.
    pub changes: &'static [Change],
    pub change_count: u8,
    /// The nodes that call.
    pub callers: &'static [u8],
    /// The nodes whose caches are looked at. The others only take part in the protocol.
    pub readers: &'static [u8],
    /// Nodes whose clock is slow.
    pub slow: &'static [u8],
    /// Nodes that are not yet members at the start.
    pub strangers: &'static [u8],
    /// Nodes of the older protocol.
    pub older: &'static [u8],
    pub joins: u8,
    pub suspicions: u8,
    pub crashes: u8,
    pub leaves: u8,
    /// Whether an earlier state of the store may be put back, once: that of the start, or with full
    /// bounds, of any moment.
    pub restore: bool,
    /// Whether the lease may be shortened, once.
    pub shorten: bool,
    /// Whether keys have owners' rows.
    pub owners: bool,
    /// Whether the background marks keys.
    pub marking: bool,
    /// Whether an acknowledgement may come later than what it acknowledges. If not, it comes at once,
    /// which is the worst for a confirmation.
    pub late_acknowledgements: bool,
    /// Whether checks of live keys are watched.
    pub live: bool,
    /// The most rows that the log keeps.
    pub log_rows: u8,
    pub without: Option<Without>,
}

impl Bounds {
    /// Creates a configuration: two nodes, one key, one change, and nothing else.
    pub const fn new(name: &'static str, changes: &'static [Change], change_count: u8) -> Self {
        Self {
            name,
            nodes: 2,
            lease: 1,
            restarts: false,
            keys: 1,
            existing: 2,
            changes,
            change_count,
            callers: &[0],
            readers: &[0, 1, 2],
            slow: &[1],
            strangers: &[],
            older: &[],
            joins: 0,
            suspicions: 0,
            crashes: 0,
            leaves: 0,
            restore: false,
            shorten: false,
            owners: false,
            marking: false,
            late_acknowledgements: false,
            live: false,
            log_rows: LOG as u8,
            without: None,
        }
    }

    pub fn lacks(&self, without: Without) -> bool {
        self.without == Some(without)
    }

    pub fn without(mut self, without: Without) -> Self {
        self.without = Some(without);
        self
    }

    /// The longest lease that this configuration knows.
    pub fn max_lease(&self) -> Ticks {
        self.lease + if self.shorten { SHORTENED_BY } else { 0 }
    }

    /// How long to wait until a lease of `length` has certainly ended.
    pub fn outlasts(&self, length: Ticks) -> Ticks {
        if self.lacks(Without::DriftMargin) {
            length
        } else {
            length + DRIFT
        }
    }

    /// How long a span of `length` of this node's clock may last.
    pub fn local(&self, node: u8, length: Ticks) -> Ticks {
        if self.slow.contains(&node) {
            length + DRIFT
        } else {
            length
        }
    }
}
