//! A store that forwards to another: the only list of all methods of [`KeyStore`].

use std::fmt::{self, Debug};
use std::ops::Deref;

use apikey_runtime::store::{
    ChangeListener, Changes, Charge, ChargeOutcome, Cursor, KeyPatch, LimitCounter, LimitSupport,
    ListQuery, MemberList, Node, NodeId, RecordPage, Revocation, StoreError,
};
use apikey_runtime::usage::{LastUsed, UsageBatch, UsageQuery, UsageRow};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, Timestamp};
use async_trait::async_trait;

/// A method of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Insert,
    Find,
    List,
    Update,
    Revoke,
    RevokeAll,
    Purge,
    Changes,
    Join,
    Acknowledge,
    Nodes,
    Suspect,
    Dismiss,
    Leave,
    Charge,
    Refill,
    AddUsage,
    Usage,
    LastUsed,
    PruneUsage,
}

/// Declares a future of a store's result.
macro_rules! later {
    ($answer:ty) => { impl Future<Output = Result<$answer, StoreError>> + Send };
}

/// Forwards to [`inner`](Forward::inner). A test overrides the methods that it changes, as
/// `async fn`, or wraps all calls at once. [`Forwarding`] is then the store.
pub trait Forward: Debug + Send + Sync + 'static {
    fn inner(&self) -> &dyn KeyStore;

    /// Wraps each call. `arguments` describes the call.
    fn around<T: Send>(
        &self,
        call: Call,
        arguments: impl FnOnce() -> String + Send,
        answer: later!(T),
    ) -> later!(T) {
        let _ = (call, arguments);
        answer
    }

    fn start(&self) -> later!(()) {
        self.inner().start()
    }

    fn insert(&self, record: &KeyRecord) -> later!(()) {
        async move {
            let said = || serde_json::to_string(record).unwrap();
            self.around(Call::Insert, said, self.inner().insert(record))
                .await
        }
    }

    fn find(&self, id: &KeyId) -> later!(Option<KeyRecord>) {
        async move {
            self.around(Call::Find, || id.to_string(), self.inner().find(id))
                .await
        }
    }

    fn list(&self, query: &ListQuery) -> later!(RecordPage) {
        async move {
            let said = || format!("{query:?}");
            self.around(Call::List, said, self.inner().list(query))
                .await
        }
    }

    fn update(&self, id: &KeyId, patch: &KeyPatch) -> later!(()) {
        async move {
            let said = || {
                let previous = patch.previous.as_ref();
                let previous = previous.map(|previous| serde_json::to_string(previous).unwrap());
                let (digest, metadata) = (&patch.digest, &patch.metadata);
                format!("{id} {patch:?} {digest:?} {previous:?} {metadata:?}")
            };
            self.around(Call::Update, said, self.inner().update(id, patch))
                .await
        }
    }

    fn revoke(&self, id: &KeyId, revocation: &Revocation) -> later!(bool) {
        async move {
            let said = || format!("{id} {revocation:?}");
            self.around(Call::Revoke, said, self.inner().revoke(id, revocation))
                .await
        }
    }

    fn revoke_owner(&self, owner: &str, revocation: &Revocation) -> later!(Vec<KeyId>) {
        async move {
            let said = || format!("{owner} {revocation:?}");
            let answer = self.inner().revoke_owner(owner, revocation);
            self.around(Call::RevokeAll, said, answer).await
        }
    }

    fn purge(&self, before: Timestamp) -> later!(Vec<KeyId>) {
        async move {
            let said = || format!("{before:?}");
            self.around(Call::Purge, said, self.inner().purge(before))
                .await
        }
    }

    fn changes(&self, since: Option<&Cursor>, node: Option<&NodeId>) -> later!(Option<Changes>) {
        async move {
            let said = || format!("{since:?}");
            self.around(Call::Changes, said, self.inner().changes(since, node))
                .await
        }
    }

    fn join(&self, node: &NodeId) -> later!(bool) {
        async move {
            self.around(Call::Join, String::new, self.inner().join(node))
                .await
        }
    }

    fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> later!(()) {
        async move {
            let said = || format!("{cursor:?}");
            let answer = self.inner().acknowledge(node, cursor);
            self.around(Call::Acknowledge, said, answer).await
        }
    }

    fn members(&self) -> later!(Option<MemberList>) {
        async move {
            self.around(Call::Nodes, String::new, self.inner().members())
                .await
        }
    }

    fn suspect(&self, seen: &Node) -> later!(()) {
        async move {
            self.around(Call::Suspect, String::new, self.inner().suspect(seen))
                .await
        }
    }

    fn remove_node(&self, seen: &Node) -> later!(()) {
        async move {
            self.around(Call::Dismiss, String::new, self.inner().remove_node(seen))
                .await
        }
    }

    fn leave(&self, node: &NodeId) -> later!(()) {
        async move {
            self.around(Call::Leave, String::new, self.inner().leave(node))
                .await
        }
    }

    fn limit_support(&self) -> LimitSupport {
        self.inner().limit_support()
    }

    fn charge(&self, charge: &Charge) -> later!(ChargeOutcome) {
        async move {
            let said = || format!("{charge:?}");
            self.around(Call::Charge, said, self.inner().charge(charge))
                .await
        }
    }

    fn refill(&self, key: &KeyId, counter: &LimitCounter, amount: u64) -> later!(()) {
        async move {
            let said = || format!("{key} {counter:?} {amount}");
            self.around(
                Call::Refill,
                said,
                self.inner().refill(key, counter, amount),
            )
            .await
        }
    }

    fn supports_usage(&self) -> bool {
        self.inner().supports_usage()
    }

    fn add_usage(&self, batch: &UsageBatch) -> later!(()) {
        async move {
            let said = || format!("{batch:?}");
            self.around(Call::AddUsage, said, self.inner().add_usage(batch))
                .await
        }
    }

    fn usage(&self, query: &UsageQuery) -> later!(Vec<UsageRow>) {
        async move {
            let said = || format!("{query:?}");
            self.around(Call::Usage, said, self.inner().usage(query))
                .await
        }
    }

    fn last_used(&self, keys: &[KeyId]) -> later!(Vec<LastUsed>) {
        async move {
            let said = || format!("{keys:?}");
            self.around(Call::LastUsed, said, self.inner().last_used(keys))
                .await
        }
    }

    fn prune_usage(&self, hour: i64) -> later!(()) {
        async move {
            let said = || hour.to_string();
            self.around(Call::PruneUsage, said, self.inner().prune_usage(hour))
                .await
        }
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        self.inner().subscribe()
    }

    fn stop(&self) -> impl Future<Output = ()> + Send {
        self.inner().stop()
    }
}

/// The store that a [`Forward`] describes.
#[derive(Default)]
pub struct Forwarding<F>(pub F);

impl<F> Deref for Forwarding<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: Debug> Debug for Forwarding<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl<F: Forward> KeyStore for Forwarding<F> {
    async fn start(&self) -> Result<(), StoreError> {
        self.0.start().await
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        self.0.insert(record).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.0.find(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.0.list(query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        self.0.update(id, patch).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        self.0.revoke(id, revocation).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        self.0.revoke_owner(owner, revocation).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        self.0.purge(before).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        self.0.changes(since, node).await
    }

    async fn join(&self, node: &NodeId) -> Result<bool, StoreError> {
        self.0.join(node).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        self.0.acknowledge(node, cursor).await
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        self.0.members().await
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        self.0.suspect(seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        self.0.remove_node(seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.0.leave(node).await
    }

    fn limit_support(&self) -> LimitSupport {
        self.0.limit_support()
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self.0.charge(charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self.0.refill(key, counter, amount).await
    }

    fn supports_usage(&self) -> bool {
        self.0.supports_usage()
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.0.add_usage(batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        self.0.usage(query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        self.0.last_used(keys).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        self.0.prune_usage(hour).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        self.0.subscribe()
    }

    async fn stop(&self) {
        self.0.stop().await;
    }
}
