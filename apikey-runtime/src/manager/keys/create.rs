//! Creates keys.

use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use crate::clock::Timestamp;
use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::key::KeyId;
use crate::limit::{Limit, LimitRule};
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call, origin_setters, rule_setters};
use crate::manager::core::missing;
use crate::manager::keys::rules::CallRules;
use crate::manager::new_key::NewKey;
use crate::manager::validate::{check_fields, check_origin, check_span, shallow_member};
use crate::metrics::StoreCall;
use crate::policy::IssuePolicy;
use crate::record::{KeyPatch, KeyRecord};
use crate::scope::Scopes;
use crate::store::WriteOptions;
use crate::util::text::quote;

/// When a key expires.
#[derive(Debug, Clone, Copy)]
enum Expiry {
    /// The policy's default lifetime, if it has one.
    Default,
    Never,
    In(Duration),
    At(Timestamp),
}

/// A call that creates a key; see [`ApiKeyManager::create`]. Resolves to the key with its secret.
///
/// [`guide::fields`](crate::guide::fields) lists the bounds of the fields.
#[derive(Debug)]
#[must_use = "a key is created only when this is awaited"]
pub struct CreateKey {
    manager: ApiKeyManager,
    /// The fields of the new key.
    patch: KeyPatch,
    fault: Option<Error>,
    id: Option<KeyId>,
    prefix: Option<String>,
    expiry: Expiry,
    options: WriteOptions,
    rules: CallRules,
    started: StartedCall<NewKey>,
}

impl CreateKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, label: String) -> Self {
        let mut patch = KeyPatch::new();
        patch.label = Some(label);
        Self {
            manager,
            patch,
            fault: None,
            id: None,
            prefix: None,
            expiry: Expiry::Default,
            options: WriteOptions::new(),
            rules: CallRules::default(),
            started: StartedCall::none(),
        }
    }

    /// Sets the id, so that a call that is made again does not create a second key. If a key has this id
    /// already, revoked or not, the call returns [`Error::Conflict`] and changes nothing. By default, the id
    /// is random.
    ///
    /// Ids are public: they stand in the key itself, in logs and in URLs. Ids of different calls must be
    /// different, and those that people can cause must not be guessable: otherwise one person takes the id of
    /// another's key first. The first 128 bits of an HMAC of what identifies the call do both.
    ///
    /// The id of a key that was [purged](ApiKeyManager::purge) is free. Its former usage and its entries in the audit
    /// log then count as those of the new key.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, Error, KeyId, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let digest_of_the_form = 0x6f0d_8b3c_55e1_4a97_9e02_c1d4_7a36_b8f5_u128;
    /// let id = KeyId::from_u128(digest_of_the_form);
    /// assert_eq!(manager.create("ci").id(id).await?.id(), id);
    /// // The same form, sent again.
    /// let again = manager.create("ci").id(id).await;
    /// assert!(matches!(again, Err(Error::Conflict(taken)) if taken == id));
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn id(mut self, id: KeyId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the owner, in the application's own terms: 1 to 256 bytes. By default, the key does not
    /// have an owner.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.patch.owner = Some(Some(owner.into()));
        self
    }

    /// Sets what the key is for, in words for people: 1 to 1,024 bytes, without control characters. By
    /// default, the key does not have a description.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.patch.description = Some(Some(description.into()));
        self
    }

    /// Sets the scopes; see [`Scopes::new`]. By default, the key does not have any.
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        match Scopes::new(scopes) {
            Ok(scopes) => self.patch.scopes = Some(scopes),
            Err(error) => self.fault = Some(error),
        }
        self
    }

    /// Adds a piece of the application's own data: together at most 16 KiB of JSON, nested at most
    /// 32 levels deep. By default, the key does not have any.
    pub fn metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        match shallow_member(name.into(), value.into()) {
            Ok(member) => self.patch.metadata.get_or_insert_default().extend(member),
            Err(error) => self.fault = Some(error),
        }
        self
    }

    /// Sets the environment, such as `live` or `test`: 1 to 32 ASCII letters, digits, `_` and `-`.
    /// By default, the key does not have one.
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.patch.environment = Some(Some(environment.into()));
        self
    }

    /// Sets the prefix, one of [`Config::prefixes`](crate::Config::prefixes). By default, the first
    /// of them.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Sets the networks from which the key may be used, at most 256. By default, all.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("office").networks(["192.0.2.0/24".parse()?, "2001:db8::/32".parse()?]).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn networks(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.patch.networks = Some(networks.into_iter().collect());
        self
    }

    /// Sets the methods that the key permits, at most 32, such as `GET`, which includes `HEAD`. By
    /// default, all.
    pub fn methods<I>(mut self, methods: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.patch.methods = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Adds a limit, of at most 16. Limits have different names, and a request must keep all of them. By default,
    /// the key does not have its own limits.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore, Quota, Rate};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager
    ///     .create("free")
    ///     .limit("minute", Rate::per_minute(10))
    ///     .limit("daily", Quota::per_day(100))
    ///     .await?;
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn limit(self, name: impl Into<String>, rule: impl Into<LimitRule>) -> Self {
        self.limits([Limit::new(name, rule)])
    }

    /// Adds several limits, such as those of a plan.
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.patch.limits.get_or_insert_default().extend(limits);
        self
    }

    /// Sets the lifetime, which must be greater than zero. By default, that of
    /// [`default_lifetime_hours`](crate::Config#settings); if that is not set, the key never expires.
    pub fn expires_in(mut self, life: Duration) -> Self {
        self.expiry = Expiry::In(life);
        self
    }

    /// Sets the expiry (exclusive), which must lie in the future. By default, as for
    /// [`expires_in`](Self::expires_in).
    pub fn expires_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.expiry = Expiry::At(at.into());
        self
    }

    /// Makes the key never expire, even if there is a default lifetime.
    pub fn never_expires(mut self) -> Self {
        self.expiry = Expiry::Never;
        self
    }

    /// Denies the key before this time. By default, it is valid at once.
    pub fn not_before(mut self, at: impl Into<Timestamp>) -> Self {
        self.patch.not_before = Some(Some(at.into()));
        self
    }

    origin_setters!();
    rule_setters!();

    /// Returns the record that the call would make, by the same checks and rules, and stores nothing. The id is not that of the
    /// key that the call makes, unless it was [set](Self::id).
    ///
    /// # Errors
    ///
    /// Returns each error of the call, except that the id is taken. An owner's live keys are counted as they are now.
    pub async fn preview(self) -> Result<KeyRecord, Error> {
        let manager = self.manager.clone();
        let (record, _secret, options) = self.prepare()?;
        let max = options.live_keys_bound(None, &record, record.created);
        manager.check_room(max, &record).await?;
        Ok(record)
    }

    async fn make(self) -> Result<NewKey, Error> {
        let manager = self.manager.clone();
        let (record, secret, options) = self.prepare()?;
        let record = manager.insert(record, options).await?;
        Ok(NewKey::new(record, secret))
    }

    /// Checks the fields by the rules, and makes a record with a new secret.
    fn prepare(self) -> Result<(KeyRecord, SecretString, WriteOptions), Error> {
        let Self {
            manager,
            patch,
            fault,
            id,
            prefix,
            expiry,
            options,
            rules,
            started: _,
        } = self;
        fault.map_or(Ok(()), Err)?;
        let now = manager.now();
        let config = manager.config();
        let prefix = match prefix.as_deref() {
            None => config.prefix(),
            Some(prefix) if config.accepts_prefix(prefix) => prefix,
            Some(prefix) => {
                return Err(Error::InvalidArgument(format!(
                    "the prefix {} is not one of the configured `prefixes`; add it there, or leave it out",
                    quote(prefix)
                )));
            }
        };
        check_origin(&options.origin)?;
        check_fields(&patch)?;
        manager.check_limits(patch.limits.as_deref().unwrap_or_default())?;
        let rules = rules.resolve(&manager)?;
        let expires = expiry.or_default(&rules.policy).at(now)?;
        check_span(patch.not_before.flatten(), expires)?;
        rules.judge_new(
            now,
            patch.scopes.as_ref().unwrap_or(&Scopes::none()),
            expires,
        )?;
        let options = options.with_max_live_keys(rules.policy.max_live_keys);
        let id = id.map_or_else(|| manager.new_id(), Ok)?;
        let (secret, digest) = manager.new_secret(prefix, id)?;
        let mut record = KeyRecord::new(id, prefix, "", digest, now);
        let version = record.version;
        patch.apply(&mut record, None);
        record.version = version;
        record.updated_by = None;
        record.rotations = 0;
        record.expires = expires;
        record.created_by.clone_from(&options.origin.actor);
        Ok((record, secret, options))
    }
}

impl_call!(
    CreateKey => NewKey,
    |call| Self::new(call.manager.clone(), String::new()),
    Self::make
);

impl ApiKeyManager {
    /// Rejects one more live key of the record's owner, if it has `max` of them.
    pub(super) async fn check_room(
        &self,
        max: Option<u32>,
        record: &KeyRecord,
    ) -> Result<(), Error> {
        let (Some(max), Some(owner)) = (max, &record.owner) else {
            return Ok(());
        };
        match self.live_keys(owner, max).await? >= max {
            true => Err(StoreError::TooManyKeys { max }.into()),
            false => Ok(()),
        }
    }

    async fn insert(&self, record: KeyRecord, options: WriteOptions) -> Result<KeyRecord, Error> {
        self.on_thread(move |core| async move {
            let insert = core.shared.store.insert(&record, &options);
            let outcome = core.shared.call(StoreCall::Insert, insert).await;
            // The id may be cached as unknown.
            core.cache.evict(&record.id);
            outcome.map_err(|error| missing(error, record.id))?;
            tracing::info!(key_id = %record.id, "created");
            core.emit(EventKind::Created, record.id, &options.origin);
            Ok(record)
        })
        .await
    }
}

impl Expiry {
    fn or_default(self, policy: &IssuePolicy) -> Self {
        match (self, policy.default_lifetime) {
            (Self::Default, Some(life)) => Self::In(life),
            (expiry, _) => expiry,
        }
    }

    fn at(self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let at = match self {
            Self::Default | Self::Never => return Ok(None),
            Self::At(at) => at,
            Self::In(life) => now.checked_add(life).ok_or_else(|| {
                Error::InvalidArgument(
                    "the lifetime is too long; write a shorter one, or leave it out for a key that never expires".to_owned(),
                )
            })?,
        };
        if at <= now {
            return Err(Error::InvalidArgument(
                "the key would expire at once; write a time in the future".to_owned(),
            ));
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::BoxError;
    use crate::manager::secret::RandomSource;
    use crate::store::{KeyStore, ListQuery, MemoryStore};
    use std::sync::Arc;

    /// A source that fails after some calls.
    #[derive(Debug)]
    struct FailingSource {
        good: std::sync::atomic::AtomicUsize,
    }

    impl RandomSource for FailingSource {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), BoxError> {
            use std::sync::atomic::Ordering;
            if self.good.fetch_sub(1, Ordering::SeqCst) == 0 {
                return Err("no entropy".into());
            }
            bytes.fill(7);
            Ok(())
        }
    }

    /// F-10: at the id, and at the secret.
    #[actix_web::test]
    async fn f10_a_failing_generator_is_an_error_and_nothing_is_stored() {
        // The first random bits are the node's own id.
        for good in [1, 2] {
            let store = Arc::new(MemoryStore::new());
            let random = FailingSource { good: good.into() };
            let manager = ApiKeyManager::builder()
                .shared_store(store.clone())
                .random(random)
                .start()
                .await
                .unwrap();
            let error = manager.create("x").await.unwrap_err();
            assert!(matches!(error, Error::Random(_)), "{error}");
            let page = store.list(&ListQuery::first(10)).await.unwrap();
            assert!(page.records.is_empty());
        }
    }

    #[test]
    fn an_end_that_cannot_be_is_refused() {
        let now = Timestamp::from_millis(1_000);
        assert!(Expiry::In(Duration::from_secs(u64::MAX)).at(now).is_err());
        assert!(Expiry::In(Duration::ZERO).at(now).is_err());
        assert!(Expiry::At(now).at(now).is_err());
        assert_eq!(
            Expiry::In(Duration::from_millis(1)).at(now).unwrap(),
            Some(Timestamp::from_millis(1_001))
        );
        assert!(check_span(Some(now), Some(now)).is_err());
        assert!(check_span(Some(now), None).is_ok());
    }
}
