//! Stores for tests: one that counts, records, fails, hangs or stops at a gate; one that is stale.

mod forward;
mod gate;
mod lacking;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use apikey_runtime::store::{ChangeListener, Changes, Cursor, NodeId, StoreError};
use apikey_runtime::usage::UsageBatch;
use apikey_runtime::{KeyStore, MemoryStore};

use super::{PATIENCE, within};

pub use forward::{Call, Forward, Forwarding};
pub use gate::Gate;
pub use lacking::{NoHistory, RecordsOnly, StaleStore};

/// How a method goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Cannot be reached; nothing is done.
    Unavailable,
    /// Something else; nothing is done.
    Backend,
    /// Does it, and the answer is lost.
    AnswerLost,
    /// Does nothing, for ever.
    Hangs,
    /// Panics.
    Panics,
}

#[derive(Debug, Clone, Default)]
struct Plan {
    before: Option<Arc<Gate>>,
    after: Option<Arc<Gate>>,
    fault: Option<Fault>,
}

/// A store that forwards to another, and does to each call what the test planned for its method.
pub type GateStore = Forwarding<Gated>;

pub struct Gated {
    inner: Arc<dyn KeyStore>,
    plans: Mutex<HashMap<Call, Plan>>,
    calls: Mutex<Vec<(Call, String)>>,
    /// Whether the next poll finds a history that does not fit.
    restored: AtomicBool,
    /// Whether no push comes through.
    deaf: AtomicBool,
    /// Whether the next batch of usage is taken and not added.
    forgetful: AtomicBool,
}

impl GateStore {
    /// In front of an empty store in memory.
    pub fn new() -> Arc<Self> {
        Self::around(Arc::new(MemoryStore::new()))
    }

    /// In front of `inner`.
    pub fn around(inner: Arc<dyn KeyStore>) -> Arc<Self> {
        Arc::new(Self(Gated {
            inner,
            plans: Mutex::default(),
            calls: Mutex::default(),
            restored: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            forgetful: AtomicBool::new(false),
        }))
    }

    /// Lets the next poll find a history that does not fit, as after a restore from a dump.
    pub fn restore(&self) {
        self.restored.store(true, SeqCst);
    }

    /// Lets no push through to managers that start from now on.
    pub fn cut_push(&self) {
        self.deaf.store(true, SeqCst);
    }

    /// Says of the next batch of usage that it was added, and does not add it.
    pub fn forget_a_batch(&self) {
        self.forgetful.store(true, SeqCst);
    }

    /// Whether a batch was forgotten that was to be.
    pub fn has_forgotten(&self) -> bool {
        !self.forgetful.load(SeqCst)
    }

    /// Stops each call before it reaches the store.
    pub fn gate_before(&self, call: Call) -> Arc<Gate> {
        let gate = Gate::new();
        self.plans.lock().unwrap().entry(call).or_default().before = Some(Arc::clone(&gate));
        gate
    }

    /// Stops each call when the store has answered, and the answer is on its way.
    pub fn gate_after(&self, call: Call) -> Arc<Gate> {
        let gate = Gate::new();
        self.plans.lock().unwrap().entry(call).or_default().after = Some(Arc::clone(&gate));
        gate
    }

    /// Lets each call go wrong.
    pub fn fail(&self, call: Call, fault: Fault) {
        self.plans.lock().unwrap().entry(call).or_default().fault = Some(fault);
    }

    /// Lets every read go wrong: of records and of the history.
    pub fn go_down(&self) {
        self.fail(Call::Find, Fault::Unavailable);
        self.fail(Call::Changes, Fault::Unavailable);
    }

    /// No plans any more, for calls that begin from now on.
    pub fn heal(&self) {
        self.plans.lock().unwrap().clear();
    }

    /// How often the method was called.
    pub fn count(&self, call: Call) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|(made, _)| *made == call)
            .count()
    }

    /// How often any method about a key was called: not those by which a manager follows the
    /// history, or tells of usage, in the background.
    pub fn count_all(&self) -> usize {
        const BACKGROUND: [Call; 9] = [
            Call::Changes,
            Call::Join,
            Call::Acknowledge,
            Call::Nodes,
            Call::Suspect,
            Call::Dismiss,
            Call::Leave,
            Call::AddUsage,
            Call::PruneUsage,
        ];
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(made, _)| !BACKGROUND.contains(made))
            .count()
    }

    /// Waits until a manager has asked what changed, after this moment, and has taken in the
    /// answer. From then on it does not drop what it reads because of changes that were made
    /// before.
    pub async fn polled(&self) {
        let begun = self.count(Call::Changes);
        // Polls come one after another: the first may be under way now, the next begins after now,
        // and is done when the one after it begins.
        let done = within(PATIENCE, async || self.count(Call::Changes) >= begun + 3).await;
        assert!(done.is_some(), "nobody asks what changed");
    }

    /// Everything that the store was ever told.
    pub fn transcript(&self) -> String {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(call, said)| format!("{call:?} {said}\n"))
            .collect()
    }
}

impl Forward for Gated {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn around<T: Send>(
        &self,
        call: Call,
        arguments: impl FnOnce() -> String + Send,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.calls.lock().unwrap().push((call, arguments()));
        let plan = self
            .plans
            .lock()
            .unwrap()
            .get(&call)
            .cloned()
            .unwrap_or_default();
        if let Some(gate) = plan.before {
            gate.pass().await;
        }
        match plan.fault {
            Some(Fault::Unavailable) => return Err(StoreError::unavailable("the test says so")),
            Some(Fault::Backend) => {
                let source = "the test says so".into();
                return Err(StoreError::Backend {
                    reason: "a test".to_owned(),
                    source,
                });
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Panics) => panic!("the test says so"),
            Some(Fault::AnswerLost) | None => {}
        }
        let answer = work.await;
        if let Some(gate) = plan.after {
            gate.pass().await;
        }
        match plan.fault {
            Some(Fault::AnswerLost) => Err(StoreError::unavailable("the answer is lost")),
            _ => answer,
        }
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        // Looked at where the store is reached, and not where a gate is before it.
        let ask = async {
            let since = since.filter(|_| !self.restored.swap(false, SeqCst));
            self.inner.changes(since, node).await
        };
        self.around(Call::Changes, || format!("{since:?}"), ask)
            .await
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        if self.forgetful.swap(false, SeqCst) {
            return Ok(());
        }
        let answer = self.inner.add_usage(batch);
        self.around(Call::AddUsage, || format!("{batch:?}"), answer)
            .await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        self.inner.subscribe().filter(|_| !self.deaf.load(SeqCst))
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GateStore").field(&self.inner).finish()
    }
}
