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

pub use forward::{Call, Capability, Forward, Forwarding};
pub use gate::Gate;
pub use lacking::{NoHistory, RecordsOnly, StaleStore, WithoutOwners};

/// A fault of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The store is unavailable; the call is not executed.
    Unavailable,
    /// The store waited for too long; the call is not executed.
    TakesTooLong,
    /// The store fails otherwise; the call is not executed.
    Backend,
    /// The call is executed, and the answer is lost.
    AnswerLost,
    /// The call is not executed, and never returns.
    Hangs,
    /// The call panics.
    Panics,
}

#[derive(Debug, Clone, Default)]
struct Plan {
    before: Option<Arc<Gate>>,
    after: Option<Arc<Gate>>,
    fault: Option<Fault>,
}

/// A store that forwards to another, with the fault or gate that the test planned for each method.
pub type GateStore = Forwarding<Gated>;

pub struct Gated {
    inner: Arc<dyn KeyStore>,
    plans: Mutex<HashMap<Call, Plan>>,
    calls: Mutex<Vec<(Call, String)>>,
    /// Whether the next poll finds another history.
    restored: AtomicBool,
    /// Whether the push is lost.
    deaf: AtomicBool,
    /// Whether many records are read at once.
    batches: AtomicBool,
    /// Whether the next batch of usage is accepted and not added.
    forgetful: AtomicBool,
}

impl GateStore {
    /// Creates one in front of an empty `MemoryStore`.
    pub fn new() -> Arc<Self> {
        Self::around(Arc::new(MemoryStore::new()))
    }

    /// Creates one in front of `inner`.
    pub fn around(inner: Arc<dyn KeyStore>) -> Arc<Self> {
        Arc::new(Self(Gated {
            inner,
            plans: Mutex::default(),
            calls: Mutex::default(),
            restored: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            batches: AtomicBool::new(false),
            forgetful: AtomicBool::new(false),
        }))
    }

    /// Makes the next poll find another history, as after a restore from a dump.
    pub fn restore(&self) {
        self.restored.store(true, SeqCst);
    }

    /// Lets managers that start from now on read many records at once.
    pub fn allow_batches(&self) {
        self.batches.store(true, SeqCst);
    }

    /// Loses the push for managers that start from now on.
    pub fn cut_push(&self) {
        self.deaf.store(true, SeqCst);
    }

    /// Acknowledges the next batch of usage, and does not add it.
    pub fn forget_a_batch(&self) {
        self.forgetful.store(true, SeqCst);
    }

    /// Returns whether that batch has been dropped.
    pub fn has_forgotten(&self) -> bool {
        !self.forgetful.load(SeqCst)
    }

    /// Stops each call before it reaches the store.
    pub fn gate_before(&self, call: Call) -> Arc<Gate> {
        let gate = Gate::new();
        self.plans.lock().unwrap().entry(call).or_default().before = Some(Arc::clone(&gate));
        gate
    }

    /// Stops each call after the store answered, before the caller gets the answer.
    pub fn gate_after(&self, call: Call) -> Arc<Gate> {
        let gate = Gate::new();
        self.plans.lock().unwrap().entry(call).or_default().after = Some(Arc::clone(&gate));
        gate
    }

    /// Makes each call fail.
    pub fn fail(&self, call: Call, fault: Fault) {
        self.plans.lock().unwrap().entry(call).or_default().fault = Some(fault);
    }

    /// Makes every read fail: of records and of the change log.
    pub fn go_down(&self) {
        self.fail(Call::Find, Fault::Unavailable);
        self.fail(Call::FindMany, Fault::Unavailable);
        self.fail(Call::Changes, Fault::Unavailable);
    }

    /// Removes all plans, for calls that begin from now on.
    pub fn heal(&self) {
        self.plans.lock().unwrap().clear();
    }

    /// Returns how often the method was called.
    pub fn count(&self, call: Call) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|(made, _)| *made == call)
            .count()
    }

    /// Returns how often methods about a key were called: without those by which a manager polls
    /// the change log, or writes usage, in the background.
    pub fn count_all(&self) -> usize {
        const BACKGROUND: [Call; 14] = [
            Call::Changes,
            Call::Join,
            Call::Acknowledge,
            Call::Nodes,
            Call::Suspect,
            Call::Dismiss,
            Call::Leave,
            Call::MarkKeys,
            Call::AddUsage,
            Call::RollUpUsage,
            Call::PruneUsage,
            Call::PruneAudit,
            Call::ClaimNotices,
            Call::FinishNotices,
        ];
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .filter(|(made, _)| !BACKGROUND.contains(made))
            .count()
    }

    /// Waits until a manager has polled, after this moment, and applied the answer. From then on it
    /// does not evict what it reads because of earlier changes.
    pub async fn polled(&self) {
        let begun = self.count(Call::Changes);
        // Polls are sequential: the first may be in progress now, the next one begins after now,
        // and has ended when the one after it begins.
        let done = within(PATIENCE, async || self.count(Call::Changes) >= begun + 3).await;
        assert!(done.is_some(), "a manager has not polled");
    }

    /// Returns everything that the store was ever sent.
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

    fn has(&self, capability: Capability) -> bool {
        capability != Capability::BatchReads || self.batches.load(SeqCst)
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
            Some(Fault::TakesTooLong) => {
                return Err(StoreError::Unavailable {
                    reason: "the test says so".to_owned(),
                    source: Some(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut))),
                });
            }
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
    ) -> Result<Changes, StoreError> {
        // Read when the call reaches the store, and not when it reaches the gate in front of it.
        let log = self.inner.change_log().unwrap();
        let ask = async {
            let since = since.filter(|_| !self.restored.swap(false, SeqCst));
            log.changes(since, node).await
        };
        self.around(Call::Changes, || format!("{since:?}"), ask)
            .await
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        if self.forgetful.swap(false, SeqCst) {
            return Ok(());
        }
        let answer = self.inner.usage().unwrap().add_usage(batch);
        self.around(Call::AddUsage, || format!("{batch:?}"), answer)
            .await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        let heard = self.inner.change_log().unwrap().subscribe();
        heard.filter(|_| !self.deaf.load(SeqCst))
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GateStore").field(&self.inner).finish()
    }
}
