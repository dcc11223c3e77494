//! Nodes on one store, and their orders.

use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use apikey_test_support::proxy::Proxy;

use super::clock::Nanos;
use super::history::{Change, History, Key, Process};
use super::ledger::Ledger;
use super::place::Place;
use super::process::{Failure, NodeProcess};
use super::settings::Settings;

/// Nodes on one store.
pub struct Cluster {
    pub settings: Settings,
    pub place: Place,
    /// The name of the test that runs a node.
    node_test: &'static str,
    folder: tempfile::TempDir,
    slots: Vec<Slot>,
    next_process: AtomicU16,
    next_key: AtomicU32,
    round: Mutex<Round>,
    /// What was ordered in all rounds.
    pub(super) ledger: Ledger,
}

/// A slot that one node after another occupies.
pub struct Slot {
    /// The proxy in front of a store that listens on a socket.
    pub proxy: Option<Proxy>,
    node: Mutex<Option<Arc<NodeProcess>>>,
}

/// The state of one round.
#[derive(Default)]
struct Round {
    watched: Vec<(Key, String)>,
    history: History,
    /// All processes that ran in the round.
    lives: Vec<Arc<NodeProcess>>,
}

impl Cluster {
    /// Starts the nodes. One extra slot stays free for nodes that join.
    pub async fn start(
        settings: Settings,
        place: Place,
        node_test: &'static str,
        folder: tempfile::TempDir,
    ) -> Arc<Self> {
        let mut slots = Vec::new();
        for _ in 0..=settings.nodes {
            let proxy = place.address().map(Proxy::to);
            slots.push(Slot {
                proxy,
                node: Mutex::default(),
            });
        }
        let cluster = Arc::new(Self {
            settings,
            place,
            node_test,
            folder,
            slots,
            next_process: AtomicU16::new(1),
            next_key: AtomicU32::new(1),
            round: Mutex::default(),
            ledger: Ledger::default(),
        });
        for slot in 0..cluster.settings.nodes {
            let started = cluster.start_node(slot).await;
            assert_eq!(started, Ok(()), "a node of a cluster without faults starts");
        }
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn slot(&self, number: usize) -> &Slot {
        &self.slots[number]
    }

    /// Returns the slots of the nodes that run from the start.
    pub fn regular_slots(&self) -> std::ops::Range<usize> {
        0..self.settings.nodes
    }

    /// Returns the slot for nodes that join.
    pub fn guest_slot(&self) -> usize {
        self.settings.nodes
    }

    pub fn node(&self, slot: usize) -> Option<Arc<NodeProcess>> {
        self.slots[slot].node.lock().unwrap().clone()
    }

    /// Returns all processes that ran in the round.
    pub fn lives(&self) -> Vec<Arc<NodeProcess>> {
        self.round.lock().unwrap().lives.clone()
    }

    /// Returns the running nodes, frozen ones included.
    pub fn members(&self) -> Vec<Arc<NodeProcess>> {
        (0..self.slots.len())
            .filter_map(|slot| self.node(slot))
            .collect()
    }

    /// Starts a node that checks all keys of the round.
    pub async fn start_node(&self, slot: usize) -> Result<(), Failure> {
        let number = self.next_process.fetch_add(1, Ordering::SeqCst);
        let proxy = self.slots[slot].proxy.as_ref().map(Proxy::address);
        let node = NodeProcess::start(
            number,
            self.node_test,
            &self.place.url(proxy),
            &self.settings,
            self.folder(),
        )
        .await?;
        let node = Arc::new(node);
        *self.slots[slot].node.lock().unwrap() = Some(Arc::clone(&node));
        // This order matters: a key that is added now reaches the node through this list or through
        // `watch`.
        let watched = {
            let mut round = self.round.lock().unwrap();
            round.lives.push(Arc::clone(&node));
            round.watched.clone()
        };
        for (key, secret) in watched {
            node.ask(&format!("watch {key} {secret}")).await?;
        }
        Ok(())
    }

    /// Kills a node.
    pub fn kill_node(&self, slot: usize) {
        if let Some(node) = self.slots[slot].node.lock().unwrap().take() {
            node.kill();
        }
    }

    /// Stops a node gracefully.
    pub async fn stop_node(&self, slot: usize) {
        let node = self.slots[slot].node.lock().unwrap().take();
        if let Some(node) = node {
            // The node may answer, or only close its output.
            let _ = node.ask("stop").await;
        }
    }

    /// Begins a round without keys and with the running nodes.
    pub fn begin_round(&self) {
        let nodes = self.members();
        *self.round.lock().unwrap() = Round {
            lives: nodes,
            ..Round::default()
        };
    }

    /// Registers a text as a key that all nodes check from now on, and returns its number.
    pub async fn watch(&self, secret: &str) -> Key {
        let key = self.number_key();
        let mut round = self.round.lock().unwrap();
        round.watched.push((key, secret.to_owned()));
        drop(round);
        let order = format!("watch {key} {secret}");
        let asked = self.members().into_iter().map(|node| {
            let order = order.clone();
            // A frozen node answers later; a dead one never does.
            tokio::spawn(async move { node.ask(&order).await })
        });
        drop(asked.collect::<Vec<_>>());
        key
    }

    /// Returns an unused key number.
    pub fn number_key(&self) -> Key {
        self.next_key.fetch_add(1, Ordering::SeqCst)
    }

    pub fn note(&self, change: Change) {
        self.round.lock().unwrap().history.changes.push(change);
    }

    /// Records that the store forgot all changes made before `at`.
    pub fn note_reset(&self, at: Nanos) {
        self.round.lock().unwrap().history.reset = Some(at);
    }

    /// Records that all nodes have to have allowed the present keys by now.
    pub fn note_warm(&self) {
        let mut round = self.round.lock().unwrap();
        round.history.warm = round.watched.iter().map(|(key, _)| *key).collect();
    }

    /// Ends the checks of the round and returns its history.
    pub async fn end_round(&self, throughout: Vec<Process>) -> History {
        for node in self.members() {
            let ended = node.ask("unwatch").await;
            assert_eq!(ended, Ok(String::new()), "node {}", node.number);
        }
        let mut round = std::mem::take(&mut *self.round.lock().unwrap());
        for node in &round.lives {
            round.history.checks.extend(node.take_checks());
            node.forget_taken();
        }
        round.history.throughout = throughout;
        round.history
    }
}
