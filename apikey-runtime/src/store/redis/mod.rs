//! Records in Redis.

mod counts;
mod door;
mod error;
mod history;
mod link;
mod names;
mod push;
mod record;
mod script;
mod server;
mod settings;
mod statements;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};

use self::door::Door;
use self::names::Names;
use self::server::Server;
use super::{
    ChangeListener, ChangeNotifier, Changes, Charge, ChargeOutcome, Cursor, KeyStore, LastUsed,
    LimitCounter, LimitSupport, ListQuery, MemberList, Node, NodeId, RecordPage, UsageBatch,
    UsageQuery, UsageRow, lease,
};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

#[doc = include_str!("docs.md")]
pub struct RedisStore {
    url: SecretString,
    namespace: String,
    lease: Option<Duration>,
    signal: ChangeNotifier,
    server: RwLock<Option<Arc<Server>>>,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: tokio::sync::Mutex<()>,
}

impl RedisStore {
    /// Describes the store in the server at `url`: `redis://user:password@host:6379/0`, with all but
    /// the host left out at will, or `unix:///path/to/socket`. Nothing is opened before
    /// [`start`](KeyStore::start), and a URL that cannot be used is an error there.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            namespace: names::DEFAULT.to_owned(),
            lease: None,
            signal: ChangeNotifier::new(),
            server: RwLock::new(None),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Lets a record that was read be used for `lease` without being read again: 20 milliseconds to
    /// 60 seconds, or `start` is an error. It is written to the store and holds for all that use it.
    /// Where it is shorter than before, `start` waits until the longer one can hold nowhere.
    ///
    /// By default, what the store says; 2 seconds where it is new.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Lets the names of all keys begin with `{namespace}:`, so that several stores fit one server.
    /// A text without braces and control characters, or `start` is an error.
    ///
    /// By default, `apikey`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    fn server(&self) -> Result<Arc<Server>, StoreError> {
        let server = self.server.read();
        server.clone().ok_or_else(|| {
            StoreError::unavailable(
                "there is no connection; call `start` first, or let a manager do it",
            )
        })
    }

    fn replace_server(&self, server: Option<Arc<Server>>) {
        let mut current = self.server.write();
        *current = server;
    }
}

#[async_trait]
impl KeyStore for RedisStore {
    async fn start(&self) -> Result<(), StoreError> {
        lease::check(self.lease)?;
        let _turn = self.turn.lock().await;
        if self.server().is_err() {
            let names = Names::new(&self.namespace)?;
            let door = Door::new(self.url.expose_secret(), names.meta())?;
            let server = Server::open(door, names, self.lease, &self.signal).await?;
            self.replace_server(Some(Arc::new(server)));
        }
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord) -> Result<(), StoreError> {
        statements::insert(&*self.server()?, record).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        statements::find(&*self.server()?, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        statements::list(&*self.server()?, query).await
    }

    async fn update(&self, id: &KeyId, patch: &KeyPatch) -> Result<(), StoreError> {
        statements::update(&*self.server()?, id, patch).await
    }

    async fn revoke(&self, id: &KeyId, revocation: &Revocation) -> Result<bool, StoreError> {
        statements::revoke(&*self.server()?, id, revocation).await
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
    ) -> Result<Vec<KeyId>, StoreError> {
        statements::revoke_owner(&*self.server()?, owner, revocation).await
    }

    async fn purge(&self, before: Timestamp) -> Result<Vec<KeyId>, StoreError> {
        statements::purge(&*self.server()?, before).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Option<Changes>, StoreError> {
        history::changes(&*self.server()?, since, node)
            .await
            .map(Some)
    }

    async fn join(&self, node: &NodeId) -> Result<bool, StoreError> {
        history::join(&*self.server()?, node).await?;
        Ok(true)
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        history::acknowledge(&*self.server()?, node, cursor).await
    }

    async fn members(&self) -> Result<Option<MemberList>, StoreError> {
        history::nodes(&*self.server()?).await.map(Some)
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        history::suspect(&*self.server()?, seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        history::remove_node(&*self.server()?, seen).await
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        history::leave(&*self.server()?, node).await
    }

    fn limit_support(&self) -> LimitSupport {
        LimitSupport::All
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        counts::charge(&*self.server()?, charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        counts::refill(&*self.server()?, key, counter, amount).await
    }

    fn supports_usage(&self) -> bool {
        true
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        usage::add(&*self.server()?, batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        usage::read(&*self.server()?, query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        usage::last_used(&*self.server()?, keys).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        Some(self.signal.subscribe())
    }

    async fn stop(&self) {
        let _turn = self.turn.lock().await;
        self.replace_server(None);
    }
}

impl fmt::Debug for RedisStore {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("namespace", &self.namespace)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
