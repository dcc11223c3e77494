//! Changing and rotating keys, and switching them on and off.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use super::ApiKeyManager;
use super::checks::{
    check_actor, check_environment, check_methods, check_networks, check_span, check_text,
};
use super::confirm::ConfirmedCall;
use super::core::ManagerCore;
use super::create::Work;
use super::new_key::NewKey;
use crate::clock::Timestamp;
use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::record::{KeyPatch, KeyRecord, Metadata, PreviousDigest};
use crate::scope::Scopes;

/// How often a change is tried again that another writer overtook.
const TRIES: usize = 8;

/// A change being made; see [`ApiKeyManager::update`]. Await it for the record as it is then.
#[derive(Debug)]
#[must_use = "nothing is changed until this is awaited"]
pub struct UpdateKey {
    manager: ApiKeyManager,
    id: KeyId,
    patch: KeyPatch,
    fault: Option<Error>,
    actor: Option<String>,
}

impl UpdateKey {
    pub(super) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            patch: KeyPatch::new(),
            fault: None,
            actor: None,
        }
    }

    /// Another label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.patch.label = Some(label.into());
        self
    }

    /// Another owner, or `None` for nobody.
    pub fn owner<S: Into<String>>(mut self, owner: impl Into<Option<S>>) -> Self {
        self.patch.owner = Some(owner.into().map(Into::into));
        self
    }

    /// These scopes, in place of those that the key has.
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

    /// This data, in place of all that the key has.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.patch.metadata = Some(metadata);
        self
    }

    /// Another environment, or `None`.
    pub fn environment<S: Into<String>>(mut self, environment: impl Into<Option<S>>) -> Self {
        self.patch.environment = Some(environment.into().map(Into::into));
        self
    }

    /// These networks, in place of those that the key has; none is all.
    pub fn networks(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.patch.networks = Some(networks.into_iter().collect());
        self
    }

    /// These methods, in place of those that the key has; none is all.
    pub fn methods<I>(mut self, methods: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.patch.methods = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// These limits, in place of those that the key has; none is none of its own. What was used of a
    /// limit counts on where its name and its kind stay.
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.patch.limits = Some(limits.into_iter().collect());
        self
    }

    /// The key ends at this time; a time that is past ends it now.
    pub fn expires_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.patch.expires = Some(Some(at.into()));
        self
    }

    /// The key never ends.
    pub fn never_expires(mut self) -> Self {
        self.patch.expires = Some(None);
        self
    }

    /// The key is refused before this time, or `None` for good at once.
    pub fn not_before(mut self, at: impl Into<Option<Timestamp>>) -> Self {
        self.patch.not_before = Some(at.into());
        self
    }

    /// Who makes the change, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Returns only when the change has reached every node: from then on no check that starts
    /// anywhere goes by the record as it was before. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<KeyRecord, Error> {
        let Self {
            manager,
            id,
            patch,
            fault,
            actor,
        } = self;
        fault.map_or(Ok(()), Err)?;
        check_actor(actor.as_deref())?;
        patch
            .label
            .as_deref()
            .map_or(Ok(()), |label| check_text("label", label))?;
        patch
            .owner
            .iter()
            .flatten()
            .try_for_each(|owner| check_text("owner", owner))?;
        patch
            .environment
            .iter()
            .flatten()
            .try_for_each(|environment| check_environment(environment))?;
        patch.networks.as_deref().map_or(Ok(()), check_networks)?;
        patch.methods.as_deref().map_or(Ok(()), check_methods)?;
        patch
            .limits
            .as_deref()
            .map_or(Ok(()), |limits| manager.check_limits(limits))?;
        manager
            .clone()
            .on_thread(move |core| async move {
                if patch != KeyPatch::new() {
                    let now = manager.now().now;
                    core.patch_within_span(id, patch, now).await?;
                    core.emit(EventKind::Updated, id, actor.as_deref());
                }
                core.find(id).await
            })
            .await
    }
}

impl ManagerCore {
    /// Carries the patch out, unless the key could then never be used: its end lies ahead, and not
    /// after its beginning.
    async fn patch_within_span(
        &self,
        id: KeyId,
        mut patch: KeyPatch,
        now: Timestamp,
    ) -> Result<(), Error> {
        if patch.expires.is_none() && patch.not_before.is_none() {
            return self.patch(id, &patch).await;
        }
        for _ in 0..TRIES {
            let record = self.find(id).await?;
            let end = patch
                .expires
                .unwrap_or(record.expires)
                .filter(|end| *end > now);
            check_span(patch.not_before.unwrap_or(record.not_before), end)?;
            // The other end of the span is what it was when it was looked at.
            patch.expected_version = Some(record.version);
            match self.patch(id, &patch).await {
                Err(Error::Store(StoreError::Conflict)) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Store(StoreError::Conflict))
    }
}

impl IntoFuture for UpdateKey {
    type Output = Result<KeyRecord, Error>;
    type IntoFuture = Work<KeyRecord>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.carry_out())
    }
}

/// A rotation being made; see [`ApiKeyManager::rotate`]. Await it for the key with its new secret.
#[derive(Debug)]
#[must_use = "no secret is made until this is awaited"]
pub struct RotateKey {
    manager: ApiKeyManager,
    id: KeyId,
    grace: Duration,
    actor: Option<String>,
}

impl RotateKey {
    pub(super) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            grace: Duration::ZERO,
            actor: None,
        }
    }

    /// How long the old secret is good beside the new one; never longer than the key itself. By
    /// default, not at all.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Who makes the rotation, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Returns only when the rotation has reached every node: from then on no check that starts
    /// anywhere accepts the old secret after its grace time. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<NewKey, Error> {
        check_actor(self.actor.as_deref())?;
        let manager = self.manager.clone();
        manager.on_thread(move |core| self.rotate(core)).await
    }

    /// The secret is made of the record as it was read, and stored only where it is still that one.
    async fn rotate(self, core: Arc<ManagerCore>) -> Result<NewKey, Error> {
        for _ in 0..TRIES {
            let mut record = core.find_unrevoked(self.id).await?;
            let (secret, patch) = self.turn(&record)?;
            match core.patch(self.id, &patch).await {
                Ok(()) => {
                    tracing::info!(key_id = %self.id, grace = ?self.grace, "rotated");
                    core.emit(EventKind::Rotated, self.id, self.actor.as_deref());
                    patch.apply(&mut record);
                    return Ok(NewKey::new(record, secret));
                }
                Err(Error::Store(StoreError::Conflict)) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::Store(StoreError::Conflict))
    }

    fn turn(&self, record: &KeyRecord) -> Result<(SecretString, KeyPatch), Error> {
        if !self.manager.config().accepts_prefix(&record.prefix) {
            return Err(Error::InvalidArgument(format!(
                "the key's prefix {:?} is none of the configured `prefixes`; add it there, or create a new key",
                record.prefix
            )));
        }
        let (secret, digest) = self.manager.new_secret(&record.prefix, self.id)?;
        let mut patch = KeyPatch::new();
        patch.expected_version = Some(record.version);
        patch.previous = Some(left_behind(record, self.grace, self.manager.now().now)?);
        patch.digest = Some(digest);
        Ok((secret, patch))
    }
}

/// The old digest, and until when it is good: the grace time from `now`, and never longer than the
/// key.
fn left_behind(
    record: &KeyRecord,
    grace: Duration,
    now: Timestamp,
) -> Result<Option<PreviousDigest>, Error> {
    if grace.is_zero() {
        return Ok(None);
    }
    let until = now.checked_add(grace).ok_or_else(|| {
        Error::InvalidArgument(
            "the grace time ends later than time can be told; write a shorter one".to_owned(),
        )
    })?;
    let until = record.expires.map_or(until, |end| until.min(end));
    Ok(Some(PreviousDigest {
        digest: record.digest.clone(),
        until,
    }))
}

impl IntoFuture for RotateKey {
    type Output = Result<NewKey, Error>;
    type IntoFuture = Work<NewKey>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.carry_out())
    }
}

/// A key being switched on or off; see [`ApiKeyManager::enable`] and [`ApiKeyManager::disable`].
#[derive(Debug)]
#[must_use = "nothing is switched until this is awaited"]
pub struct SetKeyEnabled {
    manager: ApiKeyManager,
    id: KeyId,
    enabled: bool,
    actor: Option<String>,
}

impl SetKeyEnabled {
    pub(super) fn new(manager: ApiKeyManager, id: KeyId, enabled: bool) -> Self {
        Self {
            manager,
            id,
            enabled,
            actor: None,
        }
    }

    /// Who switches the key, for those who read [events](crate::ApiKeyManager::events): 1 to 256 bytes. By
    /// default, nobody is named.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Returns only when every node knows: from then on no check that starts anywhere accepts a key
    /// that was switched off. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }
}

impl IntoFuture for SetKeyEnabled {
    type Output = Result<(), Error>;
    type IntoFuture = Work<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                manager,
                id,
                enabled,
                actor,
            } = self;
            check_actor(actor.as_deref())?;
            let mut patch = KeyPatch::new();
            patch.enabled = Some(enabled);
            let kind = if enabled {
                EventKind::Enabled
            } else {
                EventKind::Disabled
            };
            manager
                .on_thread(move |core| async move {
                    core.find_unrevoked(id).await?;
                    core.patch(id, &patch).await?;
                    core.emit(kind, id, actor.as_deref());
                    Ok(())
                })
                .await
        })
    }
}
