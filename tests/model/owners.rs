//! The protocol with owners' rows.

use crate::bounds::{Bounds, full};
use crate::properties::{
    ACCEPTED_IN_THE_END, AFTER_LEASE, AFTER_RETURN, NEW_KEY_IS_DEAD, ON_OLDER_NODE, UNDONE,
};
use crate::report::{breaks, holds, holds_without};
use crate::state::Change::{self, Create, Move, Resume, RevokeAll, Suspend};
use crate::without::Without;

const ALL: &[Change] = &[RevokeAll(0), Suspend(0), Resume(0)];

fn one_node(name: &'static str, changes: &'static [Change], count: u8) -> Bounds {
    Bounds {
        nodes: 1,
        owners: true,
        ..Bounds::new(name, changes, count)
    }
}

#[test]
fn on_one_node() {
    let bounds = one_node("an owner", ALL, if full() { 3 } else { 2 });
    holds(&Bounds {
        live: true,
        ..bounds.clone()
    });
    let once = Bounds {
        change_count: 1,
        ..bounds.clone()
    };
    breaks(&once, Without::OwnerGenerations, AFTER_RETURN);
    breaks(&once, Without::GenerationsBeforeMarks, AFTER_RETURN);
    breaks(&once, Without::MarksBeforeCount, AFTER_RETURN);
    breaks(&once, Without::MarksBeforeAcknowledgement, AFTER_LEASE);
    // A second read is not wrong if it stands before the lease. It makes each lease later.
    holds_without(&once, Without::OwnerStateInPage);
    let thrice = Bounds {
        change_count: 3,
        ..bounds
    };
    breaks(&thrice, Without::MarkVersions, AFTER_RETURN);
}

#[test]
fn on_two_nodes() {
    let bounds = Bounds {
        nodes: 2,
        readers: &[1],
        live: true,
        marking: full(),
        lease: if full() { 2 } else { 1 },
        ..one_node("an owner, two nodes", ALL, if full() { 2 } else { 1 })
    };
    holds(&bounds);
    let bounds = Bounds {
        change_count: 1,
        live: false,
        lease: 1,
        ..bounds
    };
    breaks(&bounds, Without::OwnerGenerations, AFTER_LEASE);
}

#[test]
fn on_three_nodes() {
    let bounds = Bounds {
        nodes: 3,
        readers: &[1],
        leaves: u8::from(full()),
        crashes: u8::from(full()),
        ..one_node("an owner, three nodes", &[RevokeAll(0)], 1)
    };
    holds(&bounds);
}

#[test]
fn of_two_keys() {
    let bounds = Bounds {
        keys: 2,
        live: true,
        marking: true,
        ..one_node("two keys of an owner", &[RevokeAll(0)], 1)
    };
    holds(&bounds);
    breaks(&bounds, Without::CountAlways, AFTER_RETURN);
}

#[test]
fn that_keys_come_to_and_leave() {
    let moves: &[Change] = &[RevokeAll(0), RevokeAll(1), Move(0, 1)];
    let bounds = one_node("change of owner", moves, if full() { 3 } else { 2 });
    holds(&bounds);
    breaks(&bounds, Without::OwnerLock, UNDONE);
    breaks(&bounds, Without::DeadKeyStays, UNDONE);
    let creates: &[Change] = &[RevokeAll(0), Create(1, 0)];
    let bounds = one_node("a key is created", creates, 2);
    let bounds = Bounds {
        keys: 2,
        live: true,
        existing: 1,
        ..bounds
    };
    holds(&bounds);
    breaks(&bounds, Without::OwnerLock, NEW_KEY_IS_DEAD);
}

#[test]
fn with_a_node_of_an_older_protocol() {
    let bounds = Bounds {
        nodes: 2,
        older: &[1],
        marking: true,
        ..one_node("an older node", &[RevokeAll(0), Suspend(0)], 1)
    };
    holds(&bounds);
    breaks(&bounds, Without::MarkingForOlderNodes, ON_OLDER_NODE);
    breaks(&bounds, Without::SuspensionForOlderNodes, ON_OLDER_NODE);
    // A limit: an older node that was paused, removed, and goes on is not in the list.
    let bounds = Bounds {
        name: "an older node is removed",
        suspicions: 1,
        ..bounds
    };
    breaks(&bounds, Without::OlderNodesAreListed, ON_OLDER_NODE);
}

#[test]
fn while_history_is_put_back() {
    let bounds = Bounds {
        restore: true,
        live: true,
        ..one_node("an owner, history is put back", ALL, 2)
    };
    holds(&bounds);
    breaks(&bounds, Without::DropMarks, ACCEPTED_IN_THE_END);
    // A limit: see `keys`.
    breaks(&bounds, Without::FollowedBeforePutBack, ACCEPTED_IN_THE_END);
}
