//! A store in whose way things can be put: what a bad network does to a store that has none.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::{
    ChangeListener, ChangeNotifier, Changes, Charge, ChargeOutcome, Cursor, KeyId, KeyPatch,
    KeyRecord, KeyStore, LastUsed, LimitCounter, LimitSupport, ListQuery, MemberList, Node, NodeId,
    RecordPage, Revocation, StoreError, Timestamp, UsageBatch, UsageQuery, UsageRow,
};
use async_trait::async_trait;
use tokio::time::Instant;

use super::careless::Charging;

/// What is done to the calls of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    Nothing,
    /// Fails at once; nothing is done.
    Cut,
    /// Never answers; nothing is done.
    Hang,
    /// Does it, and the answer is lost.
    AnswerLost,
    /// Half of this time on the way there, and half on the way back.
    Slow(Duration),
    /// The answers about single keys are on their way back for this long.
    LateFind(Duration),
    /// The push is not heard.
    Deaf,
}

impl Hindrance {
    pub fn named(name: &str, time: Duration) -> Option<Self> {
        Some(match name {
            "nothing" => Self::Nothing,
            "cut" => Self::Cut,
            "hang" => Self::Hang,
            "answer-lost" => Self::AnswerLost,
            "slow" => Self::Slow(time),
            "late-find" => Self::LateFind(time),
            "deaf" => Self::Deaf,
            _ => return None,
        })
    }
}

/// The longest that calls are waited for which began before a hindrance.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hands on to a store, past the hindrance.
pub struct Hindered {
    inner: Arc<dyn KeyStore>,
    charging: Charging,
    hindrance: Arc<Mutex<Hindrance>>,
    /// How many answers about single keys the store has given.
    finds: AtomicU64,
    /// How many calls are under way that nothing hinders.
    free: AtomicUsize,
}

impl Hindered {
    pub fn new(inner: Arc<dyn KeyStore>, charging: Charging) -> Arc<Self> {
        Arc::new(Self {
            inner,
            charging,
            hindrance: Arc::new(Mutex::new(Hindrance::Nothing)),
            finds: AtomicU64::new(0),
            free: AtomicUsize::new(0),
        })
    }

    /// From now on, this. Returns when no call is under way any more that began before, so that a
    /// node that is cut off learns nothing by one of those; a store that hangs is not waited for.
    pub async fn hinder(&self, hindrance: Hindrance) {
        *self.hindrance.lock().unwrap() = hindrance;
        if is_free(hindrance) {
            return;
        }
        let begun = Instant::now();
        while self.free.load(Ordering::SeqCst) > 0 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many answers about single keys the store has given, those on their way included.
    pub fn finds(&self) -> u64 {
        self.finds.load(Ordering::SeqCst)
    }

    fn now(&self) -> Hindrance {
        *self.hindrance.lock().unwrap()
    }

    /// Looks at what is in the way and counts the call, in one step.
    fn set_out(&self) -> (Hindrance, Option<UnderWay<'_>>) {
        let hindrance = self.hindrance.lock().unwrap();
        let under_way = is_free(*hindrance).then(|| UnderWay::on(&self.free));
        (*hindrance, under_way)
    }

    async fn pass<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::unavailable("the way to the store is cut");
        let (hindrance, _under_way) = self.set_out();
        match hindrance {
            Hindrance::Cut => Err(gone()),
            Hindrance::Hang => std::future::pending().await,
            Hindrance::AnswerLost => work.await.and(Err(gone())),
            Hindrance::Slow(time) => {
                tokio::time::sleep(time / 2).await;
                let answer = work.await;
                tokio::time::sleep(time / 2).await;
                answer
            }
            Hindrance::Nothing | Hindrance::LateFind(_) | Hindrance::Deaf => work.await,
        }
    }
}

#[async_trait]
impl KeyStore for Hindered {
    async fn start(&self) -> Result<(), StoreError> {
        self.inner.start().await
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        self.pass(self.inner.insert(record)).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let answer = self.pass(self.inner.find(id)).await;
        self.finds.fetch_add(1, Ordering::SeqCst);
        if let Hindrance::LateFind(time) = self.now() {
            tokio::time::sleep(time).await;
        }
        answer
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.pass(self.inner.list(query)).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.pass(self.inner.update(id, patch)).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.pass(self.inner.revoke(id, revocation)).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        self.pass(self.inner.revoke_owner(owner, revocation)).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        self.pass(self.inner.purge(before)).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        self.pass(self.inner.changes(since, node)).await
    }

    async fn join(&self, node: &NodeId) -> Result<bool, StoreError> {
        self.pass(self.inner.join(node)).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        self.pass(self.inner.acknowledge(node, cursor)).await
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        self.pass(self.inner.members()).await
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        self.pass(self.inner.suspect(seen)).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        self.pass(self.inner.remove_node(seen)).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.pass(self.inner.leave(node)).await
    }

    fn limit_support(&self) -> LimitSupport {
        self.inner.limit_support()
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self.pass(self.charging.charge(&*self.inner, charge)).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self.pass(self.inner.refill(key, counter, amount)).await
    }

    fn supports_usage(&self) -> bool {
        self.inner.supports_usage()
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.pass(self.inner.add_usage(batch)).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        self.pass(self.inner.usage(query)).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        self.pass(self.inner.last_used(keys)).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        self.pass(self.inner.prune_usage(hour)).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        let mut heard = self.inner.subscribe()?;
        let (signal, hindrance) = (ChangeNotifier::new(), Arc::clone(&self.hindrance));
        let listener = signal.subscribe();
        tokio::spawn(async move {
            loop {
                heard.notified().await;
                if *hindrance.lock().unwrap() != Hindrance::Deaf {
                    signal.notify();
                }
            }
        });
        Some(listener)
    }

    async fn stop(&self) {
        self.inner.stop().await;
    }
}

/// Whether calls go through as they are.
fn is_free(hindrance: Hindrance) -> bool {
    matches!(hindrance, Hindrance::Nothing | Hindrance::Deaf)
}

/// A call under way, counted until it is dropped.
struct UnderWay<'c>(&'c AtomicUsize);

impl<'c> UnderWay<'c> {
    fn on(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Hindered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hindered")
            .field("inner", &self.inner)
            .field("hindrance", &self.now())
            .finish()
    }
}
