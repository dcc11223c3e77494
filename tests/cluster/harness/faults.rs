//! What is done to nodes, wires and the store while keys are checked and changed.

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

/// A fault that is done for a while, and then undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A node stands still, and then goes on as if nothing had been.
    FreezeNode,
    /// A node ends without a warning, and another starts in its place.
    KillNode,
    /// A node joins, and leaves again.
    JoinNode,
    /// The wire of a node.
    Wire(Wire),
    /// The calls of a node's store, where there is no wire.
    Hinder(&'static str),
    FreezeStore,
    KillStore,
    /// The store refuses what is written.
    FillStore,
    /// Somebody else holds the file's lock for writing.
    LockStore,
}

/// All faults that were done.
pub type Diary = Vec<Entry>;

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Entry {
    pub fault: String,
    /// The node that was there when it began; `None` for the store's faults.
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

    /// How long it lasts, in milliseconds: from much shorter than a lease of 200 ms to longer than
    /// the wait for a confirmation.
    fn lasts(self) -> Range<u64> {
        match self {
            Self::KillNode | Self::KillStore => 10..400,
            Self::FreezeStore | Self::FillStore | Self::LockStore => 20..500,
            _ => 20..700,
        }
    }
}

/// Which faults are done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// None: what is confirmed is acknowledged.
    Calm,
    /// The same nodes are there all the time.
    Rough,
    /// All: a node that was killed is on the list for a while, and each confirmation waits a lease
    /// out.
    Storm,
}

/// All faults that can be done to this cluster, and that its settings allow.
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

/// Does faults, one after another, until it is told to stop; what is done is undone then.
pub struct Injector {
    cluster: Arc<Cluster>,
    dice: Dice,
    /// Slots that have a fault.
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

    /// The slot for the fault, unless it has one. The first node is never ended: it saw the whole
    /// of a round.
    fn claim(&self, fault: Fault, slot: usize) -> Option<usize> {
        let slot = match fault {
            Fault::JoinNode => self.cluster.guest_slot(),
            Fault::KillNode if slot == 0 => 1,
            // The store as a whole counts as one place more.
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

/// Starts a node, again and again while the store does not let it.
pub async fn start(cluster: &Cluster, slot: usize) {
    for _ in 0..40 {
        match cluster.start_node(slot).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("no node starts any more");
}

async fn hinder(cluster: &Cluster, slot: usize, how: &str, lasts: Duration) {
    let Some(node) = cluster.node(slot) else {
        return;
    };
    // Errors say that the node is gone, and its hindrance with it.
    let _ = node.ask(&format!("hinder {how} 60")).await;
    tokio::time::sleep(lasts).await;
    let _ = node.ask("hinder nothing 0").await;
}
