//! Records in Redis.

mod audit;
mod bulk;
mod connection;
mod connector;
mod copy;
mod error;
mod expiry_notices;
mod history;
mod index;
mod key_names;
mod limit_counters;
mod list;
mod membership;
mod options;
mod owner_list;
mod owners;
mod push;
mod read;
mod record_hash;
mod records;
mod script;
mod server;
mod settings;
mod shared_secrets;
mod usage;
mod usage_days;
mod usage_roll_up;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::RwLock;
use secrecy::{ExposeSecret, SecretString};

use self::connector::Connector;
use self::key_names::KeyNames;
use self::server::Server;
use super::key_store::STOPPED;
use super::schema::{Opening, UpgradeFlag};
use super::{
    AuditStore, BatchReads, BulkStep, ChangeLog, ChangeNotifier, ExpiryNotices, FindResult,
    KeyStore, LimitStore, ListCursor, ListQuery, Membership, OwnerStore, RecordPage,
    SharedSecretStore, StoreCopy, UsageStore, WriteOptions, lease,
};
use crate::audit::ChangeOrigin;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, Revocation};

#[doc = include_str!("docs.md")]
pub struct RedisStore {
    url: SecretString,
    key_prefix: String,
    namespace: String,
    lease: Option<Duration>,
    opening: Opening,
    copied_usage_retention: Duration,
    signal: ChangeNotifier,
    /// The connections, or why there are none, and what to do.
    server: RwLock<Result<Arc<Server>, &'static str>>,
    /// Held while the store starts or stops, so that each of them is done once.
    turn: tokio::sync::Mutex<()>,
    upgrade: UpgradeFlag,
}

/// The default of the setting `usage_retention_hours`.
const DEFAULT_RETENTION: Duration = Duration::from_secs(2_160 * 3_600);

const NOT_STARTED: &str = "the store is not connected; call `start` first, or let a manager do it";

impl RedisStore {
    /// Describes the store in the server at `url`: `redis://user:password@host:6379/0`, with all but
    /// the host left out at will, or `unix:///path/to/socket`. Nothing is opened before
    /// [`start`](KeyStore::start), and a URL that cannot be used is an error there.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            key_prefix: String::new(),
            namespace: key_names::DEFAULT.to_owned(),
            lease: None,
            opening: Opening::default(),
            copied_usage_retention: DEFAULT_RETENTION,
            signal: ChangeNotifier::new(),
            server: RwLock::new(Err(NOT_STARTED)),
            turn: tokio::sync::Mutex::new(()),
            upgrade: UpgradeFlag::default(),
        }
    }

    /// Sets how long a record that was read may be used without being read again: 20 milliseconds to
    /// 60 seconds, otherwise `start` returns an error. It is written to the store and holds for every
    /// node. If it is shorter than before, `start` waits until no node can hold the longer one.
    ///
    /// By default, the store's own; 2 seconds in a new one.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets for how long usage that is [copied](crate::store::StoreCopy) to this store is kept after its day, and networks after the
    /// copy: the manager's [`usage_retention`](crate::Config::usage_retention). Older usage is not copied, since the server
    /// removes it by itself.
    ///
    /// By default, 90 days.
    #[must_use]
    pub fn copied_usage_retention(mut self, retention: Duration) -> Self {
        self.copied_usage_retention = retention;
        self
    }

    /// Sets whether `start` returns an error if the namespace does not have a store. A wrong server or namespace is then
    /// found, in place of a new store without keys.
    ///
    /// By default, `false`: the store is created.
    #[must_use]
    pub fn must_exist(mut self, must_exist: bool) -> Self {
        self.opening.must_exist = must_exist;
        self
    }

    /// Sets whether `start` brings what an older release made up to date. If not, it returns
    /// [`StoreError::Schema`] for such a store, which is left as it is.
    ///
    /// By default, `true`. A tool that is used beside servers sets `false`, and [`must_exist`](Self::must_exist): `start`
    /// then changes nothing that is stored.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.opening.migrate = migrate;
        self
    }

    /// Sets the namespace, so that several stores fit one server: the names of all keys begin with
    /// `{namespace}:`, after the [prefix](Self::key_prefix). With a brace or a control character in
    /// it, `start` returns an error.
    ///
    /// By default, `apikey`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Puts a prefix before the names of all keys and of the channel, as in `app:{apikey}:meta`, so that
    /// they match a pattern of the server's access list such as `~app:*` and `&app:*`. It does not
    /// belong to the hash tag: stores with one namespace share a slot of a cluster, whatever their prefixes.
    /// With a brace, a control character, or one of `*?[]\` in it, `start` returns an error.
    ///
    /// By default, empty.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    async fn open(&self, opening: Opening) -> Result<Server, StoreError> {
        let names = KeyNames::new(&self.key_prefix, &self.namespace)?;
        let connector = Connector::new(self.url.expose_secret(), names.meta())?;
        Server::open(connector, names, opening, self.lease, &self.signal).await
    }

    fn server(&self) -> Result<Arc<Server>, StoreError> {
        let server = self.server.read();
        server.clone().map_err(StoreError::unavailable)
    }
}

#[async_trait]
impl KeyStore for RedisStore {
    async fn start(&self) -> Result<(), StoreError> {
        lease::check(self.lease)?;
        let _turn = self.turn.lock().await;
        if self.server().is_err() {
            let server = self.open(self.opening).await?;
            if self.opening.migrate {
                index::complete_at_start(&server, &self.upgrade).await?;
                expiry_notices::complete(&server, &self.upgrade).await?;
                owner_list::complete(&server, &self.upgrade).await?;
            }
            *self.server.write() = Ok(Arc::new(server));
        }
        Ok(())
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        records::insert(&*self.server()?, record, options).await
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        records::find(&*self.server()?, id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        list::list(&*self.server()?, query).await
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        records::update(&*self.server()?, id, patch, options).await
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        records::revoke(&*self.server()?, id, revocation, options).await
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        bulk::purge(&*self.server()?, before, after, origin).await
    }

    fn is_upgrading(&self) -> bool {
        self.upgrade.is_raised()
    }

    fn batch_reads(&self) -> Option<&dyn BatchReads> {
        Some(self)
    }

    fn change_log(&self) -> Option<&dyn ChangeLog> {
        Some(self)
    }

    fn membership(&self) -> Option<&dyn Membership> {
        Some(self)
    }

    fn owners(&self) -> Option<&dyn OwnerStore> {
        Some(self)
    }

    fn audit(&self) -> Option<&dyn AuditStore> {
        Some(self)
    }

    fn expiry_notices(&self) -> Option<&dyn ExpiryNotices> {
        Some(self)
    }

    fn limits(&self) -> Option<&dyn LimitStore> {
        Some(self)
    }

    fn usage(&self) -> Option<&dyn UsageStore> {
        Some(self)
    }

    fn shared_secrets(&self) -> Option<&dyn SharedSecretStore> {
        Some(self)
    }

    fn copying(&self) -> Option<&dyn StoreCopy> {
        Some(self)
    }

    async fn stop(&self) {
        let _turn = self.turn.lock().await;
        let mut server = self.server.write();
        if server.is_ok() {
            *server = Err(STOPPED);
        }
    }
}

#[async_trait]
impl BatchReads for RedisStore {
    async fn find_many(&self, ids: &[KeyId]) -> Result<Vec<FindResult>, StoreError> {
        records::find_many(&*self.server()?, ids).await
    }
}

impl fmt::Debug for RedisStore {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("key_prefix", &self.key_prefix)
            .field("namespace", &self.namespace)
            .field("lease", &self.lease)
            .field("opening", &self.opening)
            .finish_non_exhaustive()
    }
}
