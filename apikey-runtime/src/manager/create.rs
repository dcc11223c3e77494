//! Making keys.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use ipnet::IpNet;
use rand::{TryCryptoRng, TryRng};
use secrecy::{ExposeSecret, SecretString};

use super::ApiKeyManager;
use super::builder::Random;
use super::checks::{
    check_actor, check_environment, check_methods, check_networks, check_span, check_text,
};
use super::new_key::NewKey;
use crate::clock::Timestamp;
use crate::error::{BoxError, Error};
use crate::events::EventKind;
use crate::key::{KeyId, generate, random_id};
use crate::limit::{Limit, LimitRule};
use crate::metrics::StoreCall;
use crate::record::{KeyRecord, Metadata};
use crate::scope::Scopes;

/// A boxed future, as `IntoFuture` needs one that can be named.
pub(super) type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// When a key ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    In(Duration),
    At(Timestamp),
}

/// A key being made; see [`ApiKeyManager::create`]. Await it.
#[derive(Debug)]
#[must_use = "no key is made until this is awaited"]
pub struct CreateKey {
    manager: ApiKeyManager,
    label: String,
    owner: Option<String>,
    scopes: Result<Scopes, Error>,
    metadata: Metadata,
    environment: Option<String>,
    prefix: Option<String>,
    networks: Vec<IpNet>,
    methods: Vec<String>,
    limits: Vec<Limit>,
    end: End,
    not_before: Option<Timestamp>,
    actor: Option<String>,
}

impl CreateKey {
    pub(super) fn new(manager: ApiKeyManager, label: String) -> Self {
        Self {
            manager,
            label,
            owner: None,
            scopes: Ok(Scopes::none()),
            metadata: Metadata::new(),
            environment: None,
            prefix: None,
            networks: Vec::new(),
            methods: Vec::new(),
            limits: Vec::new(),
            end: End::Never,
            not_before: None,
            actor: None,
        }
    }

    /// Whom the key belongs to, in the application's own terms: 1 to 256 bytes. By default, nobody.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// What the key may do: see [`Scopes::new`]. By default, nothing that a route demands.
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.scopes = Scopes::new(scopes);
        self
    }

    /// One piece of the application's own data. By default, none.
    pub fn metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// A family of keys, such as `live` or `test`: 1 to 32 ASCII letters, digits, `_` and `-`. By
    /// default, none.
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = Some(environment.into());
        self
    }

    /// The prefix, one of [`Config::prefixes`](crate::Config::prefixes). By default, the first of
    /// them.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The networks from which the key may be used. By default, all.
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
        self.networks = networks.into_iter().collect();
        self
    }

    /// The methods that the key is good for, such as `GET`, which includes `HEAD`. By default, all.
    pub fn methods<I>(mut self, methods: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Limits the key; several limits have different names, and a request has to keep to all of them.
    /// By default, the key has no limits of its own.
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
    pub fn limit(mut self, name: impl Into<String>, rule: impl Into<LimitRule>) -> Self {
        self.limits.push(Limit::new(name, rule));
        self
    }

    /// Limits the key to all of these, such as those of a plan.
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.limits.extend(limits);
        self
    }

    /// The key ends this long after it was made; more than nothing. By default, it never ends.
    pub fn expires_in(mut self, life: Duration) -> Self {
        self.end = End::In(life);
        self
    }

    /// The key ends at this time, which lies ahead. By default, it never ends.
    pub fn expires_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.end = End::At(at.into());
        self
    }

    /// The key is refused before this time. By default, it is good at once.
    pub fn not_before(mut self, at: impl Into<Timestamp>) -> Self {
        self.not_before = Some(at.into());
        self
    }

    /// Who makes the key, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    async fn make(self) -> Result<NewKey, Error> {
        let now = self.manager.now().now;
        let config = self.manager.config();
        let prefix = match &self.prefix {
            None => config.prefix(),
            Some(prefix) if config.accepts_prefix(prefix) => prefix,
            Some(prefix) => {
                return Err(Error::InvalidArgument(format!(
                    "the prefix {prefix:?} is none of the configured `prefixes`; add it there, or leave it out"
                )));
            }
        };
        check_actor(self.actor.as_deref())?;
        check_text("label", &self.label)?;
        self.owner
            .as_deref()
            .map_or(Ok(()), |owner| check_text("owner", owner))?;
        self.environment
            .as_deref()
            .map_or(Ok(()), check_environment)?;
        check_networks(&self.networks)?;
        check_methods(&self.methods)?;
        self.manager.check_limits(&self.limits)?;
        let expires = self.end.at(now)?;
        check_span(self.not_before, expires)?;
        let id = random_id(&mut Source(&*self.manager.0.random))
            .map_err(|failed| Error::Random(failed.0))?;
        let (secret, digest) = self.manager.new_secret(prefix, id)?;
        let mut record = KeyRecord::new(id, prefix, self.label, digest, now);
        record.owner = self.owner;
        record.scopes = self.scopes?;
        record.metadata = self.metadata;
        record.environment = self.environment;
        record.networks = self.networks;
        record.methods = self.methods;
        record.limits = self.limits;
        record.expires = expires;
        record.not_before = self.not_before;
        let record = self.manager.insert(record, self.actor).await?;
        Ok(NewKey::new(record, secret))
    }
}

impl IntoFuture for CreateKey {
    type Output = Result<NewKey, Error>;
    type IntoFuture = Work<NewKey>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

impl ApiKeyManager {
    /// A secret of the configured kind for `id`, and its digest.
    pub(super) fn new_secret(
        &self,
        prefix: &str,
        id: KeyId,
    ) -> Result<(SecretString, String), Error> {
        let config = self.config();
        let source = &mut Source(&*self.0.random);
        let secret = generate(
            source,
            prefix,
            id,
            config.secret_charset(),
            config.secret_length(),
        )
        .map_err(|failed| Error::Random(failed.0))?;
        let hasher = &self.0.core.hasher;
        let digest = hasher.hash(secret.expose_secret()).map_err(Error::Hasher)?;
        if hasher
            .prepare(&digest)
            .is_none_or(|prepared| !hasher.verify(secret.expose_secret(), &prepared))
        {
            return Err(Error::Hasher(
                "the hasher does not verify what it has just hashed".into(),
            ));
        }
        Ok((secret, digest))
    }

    async fn insert(&self, record: KeyRecord, actor: Option<String>) -> Result<KeyRecord, Error> {
        self.on_thread(move |core| async move {
            let insert = core.shared.store.insert(&record);
            let outcome = core.shared.call(StoreCall::Insert, insert).await;
            // The id may be remembered as unknown.
            core.cache.evict(&record.id);
            outcome?;
            tracing::info!(key_id = %record.id, "created");
            core.emit(EventKind::Created, record.id, actor.as_deref());
            Ok(record)
        })
        .await
    }
}

impl End {
    fn at(self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let at = match self {
            Self::Never => return Ok(None),
            Self::At(at) => at,
            Self::In(life) => now.checked_add(life).ok_or_else(|| {
                Error::InvalidArgument(
                    "the lifetime ends later than time can be told; leave it out for a key that never ends".to_owned(),
                )
            })?,
        };
        if at <= now {
            return Err(Error::InvalidArgument(
                "the key would end before it begins; write a time that lies ahead".to_owned(),
            ));
        }
        Ok(Some(at))
    }
}

/// A [`Random`] as the generator that keys are made with.
struct Source<'a>(&'a dyn Random);

/// A failing generator's own error.
#[derive(Debug)]
struct Failed(BoxError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl TryRng for Source<'_> {
    type Error = Failed;

    fn try_next_u32(&mut self) -> Result<u32, Failed> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Failed> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Failed> {
        self.0.fill(bytes).map_err(Failed)
    }
}

impl TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{KeyStore, ListQuery, MemoryStore};
    use std::sync::Arc;

    /// A generator that fails, after some good bytes.
    #[derive(Debug)]
    struct Failing {
        good: std::sync::atomic::AtomicUsize,
    }

    impl Random for Failing {
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
            let random = Failing { good: good.into() };
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
        assert!(End::In(Duration::from_secs(u64::MAX)).at(now).is_err());
        assert!(End::In(Duration::ZERO).at(now).is_err());
        assert!(End::At(now).at(now).is_err());
        assert_eq!(
            End::In(Duration::from_millis(1)).at(now).unwrap(),
            Some(Timestamp::from_millis(1_001))
        );
        assert!(check_span(Some(now), Some(now)).is_err());
        assert!(check_span(Some(now), None).is_ok());
    }
}
