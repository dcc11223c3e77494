//! Changes of owners that the coordinator orders from nodes: each is one of all their keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::change::{Done, Issued, Kind, parse};
use super::clock::{Nanos, now};
use super::cluster::Cluster;
use super::history::{Change, Process, Turn};
use super::process::{Failure, NodeProcess};

/// An owner, and its keys.
#[derive(Debug, Clone)]
pub struct Owned {
    pub owner: String,
    pub keys: Vec<Issued>,
    /// Whether the outcome of a change is not known: it may come into force at any later time.
    unsure: Arc<AtomicBool>,
}

impl Owned {
    pub fn new(owner: String, keys: Vec<Issued>) -> Self {
        Self {
            owner,
            keys,
            unsure: Arc::default(),
        }
    }

    pub fn note_unsure(&self) {
        self.unsure.store(true, Ordering::SeqCst);
    }

    pub fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::SeqCst)
    }
}

/// A change of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerStep {
    RevokeAll,
    Suspend,
    Resume,
}

impl Cluster {
    /// Orders `node` to change an owner, and records the outcome for each of its keys.
    pub async fn take_owner(
        &self,
        node: &NodeProcess,
        owned: &Owned,
        step: OwnerStep,
        kind: Kind,
    ) -> Result<Done, Failure> {
        let verb = match step {
            OwnerStep::RevokeAll => "revoke-all",
            OwnerStep::Suspend => "suspend",
            OwnerStep::Resume => "resume",
        };
        let watched = owned.keys.first().and_then(|key| key.texts.last());
        let (key, secret) = watched.expect("an owner has a key");
        let start = now();
        let order = format!("{verb} {} {} {key} {secret}", kind.word(), owned.owner);
        let answer = self.order(node, &order).await;
        let done = answer.map(|answer| parse(&answer).0);
        let when = (
            done.as_ref().map_or(start, |done| done.start),
            done.as_ref().ok().map(|done| done.returned),
        );
        if done.is_err() {
            owned.note_unsure();
        }
        self.note_owner(owned, step, node.number, when, kind);
        done
    }

    /// Records a change of an owner for each of its keys.
    fn note_owner(
        &self,
        owned: &Owned,
        step: OwnerStep,
        process: Process,
        (start, returned): (Nanos, Option<Nanos>),
        kind: Kind,
    ) {
        let to = match step {
            OwnerStep::RevokeAll | OwnerStep::Suspend => Turn::Dead,
            OwnerStep::Resume => Turn::Live,
        };
        for issued in &owned.keys {
            // A text that a rotation replaced does not come back.
            let from = match to {
                Turn::Dead => 0,
                Turn::Live => issued.texts.len() - 1,
            };
            for (key, _) in &issued.texts[from..] {
                self.note(Change {
                    key: *key,
                    to,
                    process: Some(process),
                    start,
                    returned,
                    confirmed: kind == Kind::Confirmed,
                    grace: 0,
                });
            }
        }
    }

    /// Orders `node` to give a live key to another owner. If the outcome is not known, the key may
    /// end with its former owner's keys.
    pub async fn give_away(
        &self,
        node: &NodeProcess,
        issued: &Issued,
        owner: &str,
    ) -> Result<(), Failure> {
        let (key, secret) = issued.texts.last().expect("a key has a text");
        let order = format!("give plain {} {key} {secret} {owner}", issued.id);
        let start = now();
        let given = self.order(node, &order).await;
        if given.is_err() {
            self.note(Change {
                key: *key,
                to: Turn::Dead,
                process: Some(node.number),
                start,
                returned: None,
                confirmed: false,
                grace: 0,
            });
        }
        given.map(drop)
    }
}
