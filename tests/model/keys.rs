//! The protocol with keys: leases, reads in flight, membership and restored histories.

use crate::bounds::{Bounds, full};
use crate::properties::{
    ACCEPTED_IN_THE_END, AFTER_CONFIRMATION, AFTER_LEASE, AFTER_RETURN, REFUSED,
};
use crate::report::{breaks, holds, holds_without};
use crate::state::Change::{Disable, Enable, Revoke, Rotate};
use crate::without::Without;

/// Two nodes: node 0 calls, and the cache of node 1 is looked at.
fn two_nodes(name: &'static str) -> Bounds {
    Bounds {
        readers: &[1],
        ..Bounds::new(name, &[Revoke(0)], 1)
    }
}

#[test]
fn on_one_node() {
    let bounds = Bounds {
        nodes: 1,
        live: true,
        lease: if full() { 2 } else { 1 },
        ..Bounds::new(
            "one node",
            &[Revoke(0), Rotate(0), Disable(0), Enable(0)],
            2,
        )
    };
    holds(&bounds);
    let bounds = Bounds {
        live: false,
        lease: 1,
        change_count: 1,
        changes: &[Revoke(0)],
        ..bounds
    };
    breaks(&bounds, Without::LeaseCheck, AFTER_LEASE);
    breaks(&bounds, Without::LeaseBeforeEntry, AFTER_LEASE);
    breaks(&bounds, Without::LeaseFromSent, AFTER_LEASE);
    breaks(&bounds, Without::Generation, AFTER_RETURN);
    breaks(&bounds, Without::Detach, AFTER_RETURN);
    // The promises count from a check's start. That the lease is looked at last keeps the decision
    // near the start if a check is delayed.
    holds_without(&bounds, Without::LeaseAtEnd);
}

#[test]
fn on_two_nodes() {
    let both: &[u8] = &[0, 1];
    let bounds = Bounds {
        callers: both,
        readers: if full() { both } else { &[1] },
        lease: if full() { 2 } else { 1 },
        late_acknowledgements: true,
        ..two_nodes("two nodes")
    };
    holds(&bounds);
    breaks(
        &two_nodes("two nodes"),
        Without::DriftMargin,
        AFTER_CONFIRMATION,
    );
}

#[test]
fn on_three_nodes() {
    let bounds = Bounds {
        nodes: 3,
        suspicions: u8::from(full()),
        leaves: 1,
        crashes: 1,
        ..two_nodes("three nodes")
    };
    holds(&bounds);
}

#[test]
fn of_two_keys() {
    let bounds = Bounds {
        nodes: if full() { 2 } else { 1 },
        readers: if full() { &[1] } else { &[0] },
        keys: 2,
        ..Bounds::new("two keys", &[Revoke(0), Revoke(1)], 2)
    };
    holds(&bounds);
    let bounds = Bounds {
        nodes: 1,
        readers: &[0],
        ..bounds
    };
    breaks(&bounds, Without::CommitOrder, AFTER_LEASE);
}

#[test]
fn that_are_granted_again() {
    let bounds = Bounds {
        live: true,
        change_count: if full() { 2 } else { 1 },
        ..two_nodes("grants")
    };
    let bounds = Bounds {
        changes: &[Disable(0), Enable(0), Rotate(0)],
        ..bounds
    };
    holds(&bounds);
    breaks(&bounds, Without::Recheck, REFUSED);
    breaks(&bounds, Without::JoinedDenials, REFUSED);
}

#[test]
fn while_a_node_joins() {
    let bounds = Bounds {
        strangers: &[1],
        joins: 1,
        ..two_nodes("a node joins")
    };
    holds(&bounds);
    breaks(&bounds, Without::Membership, AFTER_CONFIRMATION);
}

#[test]
fn while_a_node_is_suspected() {
    let bounds = Bounds {
        suspicions: 1,
        joins: u8::from(full()),
        late_acknowledgements: full(),
        ..two_nodes("a node is suspected")
    };
    holds(&bounds);
    breaks(&bounds, Without::Suspicion, AFTER_CONFIRMATION);
}

#[test]
fn while_nodes_crash_and_restart() {
    let bounds = Bounds {
        crashes: 1,
        restarts: true,
        joins: 1,
        leaves: u8::from(full()),
        suspicions: u8::from(full()),
        ..two_nodes("a node crashes and restarts")
    };
    holds(&bounds);
}

#[test]
fn while_the_lease_is_shortened() {
    let bounds = Bounds {
        shorten: true,
        ..two_nodes("the lease is shortened")
    };
    holds(&bounds);
    breaks(&bounds, Without::LongestLease, AFTER_CONFIRMATION);
}

#[test]
fn while_history_is_put_back() {
    let bounds = Bounds {
        restore: true,
        strangers: &[1],
        joins: 1,
        change_count: if full() { 2 } else { 1 },
        ..two_nodes("history is put back")
    };
    holds(&bounds);
    let once = Bounds {
        change_count: 1,
        ..bounds
    };
    breaks(&once, Without::UnbrokenHistory, AFTER_CONFIRMATION);
    let one = Bounds {
        nodes: 1,
        strangers: &[],
        joins: 0,
        readers: &[0],
        live: true,
        change_count: 2,
        changes: &[Disable(0), Enable(0), Revoke(0)],
        ..once
    };
    holds(&one);
    breaks(&one, Without::Tags, AFTER_LEASE);
    // A limit: a cache that is ahead of its cursor keeps a record of the lost history.
    breaks(&one, Without::FollowedBeforePutBack, ACCEPTED_IN_THE_END);
}
