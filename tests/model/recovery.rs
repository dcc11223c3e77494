//! What must happen in the end.
//!
//! stateright's `eventually` is not sound on a graph with joins and circles, as this one. Instead,
//! from each state that is reached, one fair schedule is run in which nothing fails any more: each
//! node ends its poll, polls once more and acknowledges, and the caller waits for a longest lease.
//! So both have a deadline: one poll, and one longest lease.

use crate::bounds::{Bounds, DRIFT};
use crate::state::State;
use crate::without::Without;

/// More pages than the log has rows.
const PAGES: u8 = 40;

impl State {
    /// Returns whether each node accepts each live key after one poll.
    pub fn accepts_live_keys(&self, bounds: &Bounds) -> bool {
        let mut later = *self;
        for node in 0..bounds.nodes {
            later.poll_fully(node, bounds);
        }
        let mut nodes = (0..bounds.nodes).filter(|node| !bounds.older.contains(node));
        nodes.all(|node| later.accepts_all(node, bounds))
    }

    fn accepts_all(&self, node: u8, bounds: &Bounds) -> bool {
        let own = &self.nodes[usize::from(node)];
        let refuses = |key: u8, secret: u8| {
            let entry = own.cache[usize::from(key)].filter(|_| own.lease > 0);
            let denied = entry.is_some_and(|entry| own.decide(&entry, secret).is_some());
            self.store.allows(key, secret) && denied
        };
        (0..bounds.keys).all(|key| !refuses(key, 0) && !refuses(key, 1))
    }

    /// Returns whether the confirmation under way ends within the longest lease.
    pub fn confirmation_ends(&self, bounds: &Bounds) -> bool {
        let mut later = *self;
        for ticks in 0..=bounds.max_lease() + DRIFT {
            if ticks > 0 {
                later.tick(bounds);
            }
            for node in 0..bounds.nodes {
                later.poll_fully(node, bounds);
            }
            while later.continue_call(bounds) {}
        }
        later.call.is_none()
    }

    /// Ends a node's poll, and polls once more.
    fn poll_fully(&mut self, node: u8, bounds: &Bounds) {
        if !self.nodes[usize::from(node)].running {
            return;
        }
        for _ in 0..PAGES {
            let own = self.nodes[usize::from(node)];
            if own.poll.is_none() {
                break;
            }
            self.receive_page(node, bounds);
        }
        let own = self.nodes[usize::from(node)];
        if !own.member && !bounds.lacks(Without::Membership) {
            self.nodes[usize::from(node)].member = true;
            self.store.join(own.slot, bounds.protocol(node), bounds);
        }
        self.send_page(node, bounds);
        for _ in 0..PAGES {
            if self.nodes[usize::from(node)].poll.is_none() {
                break;
            }
            self.receive_page(node, bounds);
        }
        self.acknowledge(node, bounds);
    }
}
