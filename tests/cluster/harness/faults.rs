//! Faults of nodes, connections and the store, injected while keys are checked and changed.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_test_support::dice::Dice;
use apikey_test_support::proxy::Wire;

use super::clock::{Nanos, now};
use super::cluster::Cluster;
use super::history::{Process, millis};

/// A fault that is injected for a while and then undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A node is stopped, and continues later.
    FreezeNode,
    /// A node is killed, and another one starts in its slot.
    KillNode,
    /// A node joins, and leaves later.
    JoinNode,
    /// The connection of a node to the store.
    Wire(Wire),
    /// The calls of a node's store, if the store does not use a connection.
    Hinder(&'static str),
    FreezeStore,
    KillStore,
    /// The store rejects writes.
    FillStore,
    /// Another process holds the write lock of the file.
    LockStore,
}

/// All injected faults.
pub type Diary = Vec<Entry>;

/// An injected fault.
#[derive(Debug, Clone)]
pub struct Entry {
    pub fault: String,
    /// The affected node; `None` for faults of the store.
    pub process: Option<Process>,
    pub from: Nanos,
    pub to: Nanos,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fault)?;
        if let Some(process) = self.process {
            write!(f, " at process {process}")?;
        }
        write!(
            f,
            " from {:.3} to {:.3} ms",
            millis(self.from),
            millis(self.to)
        )
    }
}

impl Fault {
    pub fn name(self) -> String {
        let name = match self {
            Self::Wire(Wire::Uneven(_)) => "WireSlow".to_owned(),
            Self::Wire(wire) => format!("Wire{wire:?}"),
            Self::Hinder(how) => format!("Hinder-{how}"),
            other => format!("{other:?}"),
        };
        let mut dashed = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !dashed.is_empty() && !dashed.ends_with('-') {
                dashed.push('-');
            }
            dashed.push(letter.to_ascii_lowercase());
        }
        dashed
    }

    /// Returns how long the fault lasts, in milliseconds: from much shorter than a lease of 200 ms
    /// to longer than the wait for a confirmation.
    fn lasts(self) -> Range<u64> {
        match self {
            Self::KillNode | Self::KillStore => 10..400,
            Self::FreezeStore | Self::FillStore | Self::LockStore => 20..500,
            _ => 20..700,
        }
    }
}

/// Which faults a round has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Without faults: all nodes acknowledge confirmed changes.
    Calm,
    /// With faults that keep the set of nodes.
    Rough,
    /// With all faults: a killed node stays in the member list for a while, and each confirmation
    /// waits for a lease to end.
    Storm,
}

/// Returns all faults that this cluster supports and its settings permit.
fn possible(cluster: &Cluster, weather: Weather) -> Vec<Fault> {
    let mut faults = match weather {
        Weather::Calm => return Vec::new(),
        Weather::Rough => vec![Fault::FreezeNode],
        Weather::Storm => vec![Fault::FreezeNode, Fault::KillNode, Fault::JoinNode],
    };
    if cluster.place.address().is_some() {
        let slow = Wire::Uneven(Duration::from_millis(30));
        let wires = [
            Wire::Cut,
            Wire::Reset,
            Wire::HalfOpen,
            Wire::Held,
            slow,
            Wire::Drip,
            Wire::PushCut,
            Wire::PushHalfOpen,
        ];
        faults.extend(wires.map(Fault::Wire));
        faults.extend([Fault::FreezeStore, Fault::KillStore, Fault::FillStore]);
    } else {
        let ways = ["cut", "hang", "answer-lost", "slow", "late-find", "deaf"];
        faults.extend(ways.map(Fault::Hinder));
        faults.push(Fault::LockStore);
    }
    faults.retain(|fault| cluster.settings.allows(&fault.name()));
    faults
}

/// Injects faults, one after another, until it is told to stop; then undoes them.
pub struct Injector {
    cluster: Arc<Cluster>,
    dice: Dice,
    /// Slots with a current fault.
    busy: Arc<Mutex<Vec<usize>>>,
    diary: Arc<Mutex<Diary>>,
}

impl Injector {
    pub fn new(
        cluster: &Arc<Cluster>,
        dice: Dice,
        busy: &Arc<Mutex<Vec<usize>>>,
        diary: &Arc<Mutex<Diary>>,
    ) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            dice,
            busy: Arc::clone(busy),
            diary: Arc::clone(diary),
        }
    }

    pub async fn run(mut self, weather: Weather, stop: Arc<AtomicBool>) {
        let faults = possible(&self.cluster, weather);
        while !stop.load(Ordering::SeqCst) {
            let pause = self.dice.millis(10..150);
            tokio::time::sleep(pause).await;
            let (fault, slot) = (self.dice.pick(&faults).copied(), self.slot());
            let Some(fault) = fault else { return };
            let lasts = self.dice.millis(fault.lasts());
            let Some(slot) = self.claim(fault, slot) else {
                continue;
            };
            let at = (slot < usize::MAX)
                .then(|| self.cluster.node(slot))
                .flatten();
            let from = now();
            self.carry_out(fault, slot, lasts).await;
            self.diary.lock().unwrap().push(Entry {
                fault: fault.name(),
                process: at.map(|node| node.number),
                from,
                to: now(),
            });
            self.busy.lock().unwrap().retain(|busy| *busy != slot);
        }
    }

    fn slot(&mut self) -> usize {
        self.dice.below(self.cluster.settings.nodes as u64) as usize
    }

    /// Reserves the slot for the fault, if it is free. The first node is never ended: it takes part
    /// in the whole round.
    fn claim(&self, fault: Fault, slot: usize) -> Option<usize> {
        let slot = match fault {
            Fault::JoinNode => self.cluster.guest_slot(),
            Fault::KillNode if slot == 0 => 1,
            // The store as a whole counts as one more slot.
            Fault::FreezeStore | Fault::KillStore | Fault::FillStore | Fault::LockStore => {
                usize::MAX
            }
            _ => slot,
        };
        let mut busy = self.busy.lock().unwrap();
        let free = !busy.contains(&slot);
        if free {
            busy.push(slot);
        }
        free.then_some(slot)
    }

    async fn carry_out(&mut self, fault: Fault, slot: usize, lasts: Duration) {
        let cluster = Arc::clone(&self.cluster);
        match fault {
            Fault::FreezeNode => {
                if let Some(node) = cluster.node(slot) {
                    node.freeze();
                    tokio::time::sleep(lasts).await;
                    node.thaw();
                }
            }
            Fault::KillNode => {
                cluster.kill_node(slot);
                tokio::time::sleep(lasts).await;
                start(&cluster, slot).await;
            }
            Fault::JoinNode => {
                start(&cluster, slot).await;
                tokio::time::sleep(lasts).await;
                match self.dice.percent(50) {
                    true => cluster.stop_node(slot).await,
                    false => cluster.kill_node(slot),
                }
            }
            Fault::Wire(wire) => {
                if let Some(proxy) = &cluster.slot(slot).proxy {
                    proxy.set(wire);
                    tokio::time::sleep(lasts).await;
                    proxy.set(Wire::Whole);
                }
            }
            Fault::Hinder(how) => hinder(&cluster, slot, how, lasts).await,
            Fault::FreezeStore => cluster.place.freeze(lasts).await,
            Fault::KillStore => cluster.place.kill(lasts).await,
            Fault::FillStore => cluster.fill_store(lasts).await,
            Fault::LockStore => cluster.lock_store(lasts).await,
        }
    }
}

/// Starts a node; retries while the store does not answer.
pub async fn start(cluster: &Cluster, slot: usize) {
    for _ in 0..40 {
        match cluster.start_node(slot).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("a node cannot be started");
}

async fn hinder(cluster: &Cluster, slot: usize, how: &str, lasts: Duration) {
    let Some(node) = cluster.node(slot) else {
        return;
    };
    // An error means that the node, and with it the fault, is gone.
    let _ = node.ask(&format!("hinder {how} 60")).await;
    tokio::time::sleep(lasts).await;
    let _ = node.ask("hinder nothing 0").await;
}
