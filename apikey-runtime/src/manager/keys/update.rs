//! Changes attributes of keys.

use ipnet::IpNet;

use super::TRIES;
use crate::clock::Timestamp;
use crate::error::{Error, StoreError};
use crate::events::EventKind;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::validate::{check_actor, check_fields, check_span, shallow};
use crate::record::{KeyPatch, KeyRecord, Metadata};
use crate::scope::Scopes;

/// A call that changes a key; see [`ApiKeyManager::update`]. Resolves to the changed record.
///
/// The bounds of the fields are those of a [new key](crate::guide::fields).
#[derive(Debug)]
#[must_use = "the key is changed only when this is awaited"]
pub struct UpdateKey {
    manager: ApiKeyManager,
    id: KeyId,
    patch: KeyPatch,
    fault: Option<Error>,
    actor: Option<String>,
    started: StartedCall<KeyRecord>,
}

impl UpdateKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            patch: KeyPatch::new(),
            fault: None,
            actor: None,
            started: StartedCall::none(),
        }
    }

    /// Replaces the label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.patch.label = Some(label.into());
        self
    }

    /// Replaces the owner; `None` removes it.
    ///
    /// A key that a [revocation of all its owner's keys](ApiKeyManager::revoke_all) ended stays with
    /// this owner, and the call returns [`Error::Revoked`].
    pub fn owner<S: Into<String>>(mut self, owner: impl Into<Option<S>>) -> Self {
        self.patch.owner = Some(owner.into().map(Into::into));
        self
    }

    /// Replaces the scopes.
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

    /// Replaces all of the application's data.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        match shallow(metadata) {
            Ok(metadata) => self.patch.metadata = Some(metadata),
            Err(error) => self.fault = Some(error),
        }
        self
    }

    /// Replaces the environment; `None` removes it.
    pub fn environment<S: Into<String>>(mut self, environment: impl Into<Option<S>>) -> Self {
        self.patch.environment = Some(environment.into().map(Into::into));
        self
    }

    /// Replaces the networks. An empty list permits all.
    pub fn networks(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.patch.networks = Some(networks.into_iter().collect());
        self
    }

    /// Replaces the methods. An empty list permits all.
    pub fn methods<I>(mut self, methods: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.patch.methods = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Replaces the limits. With an empty list, the key does not have its own limits. If a limit
    /// keeps its name and kind, what was used of it still counts.
    pub fn limits(mut self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.patch.limits = Some(limits.into_iter().collect());
        self
    }

    /// Replaces the expiry (exclusive). A time in the past makes the key expire now.
    pub fn expires_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.patch.expires = Some(Some(at.into()));
        self
    }

    /// Removes the expiry: the key never expires.
    pub fn never_expires(mut self) -> Self {
        self.patch.expires = Some(None);
        self
    }

    /// Denies the key before this time; `None` makes it valid at once.
    pub fn not_before(mut self, at: impl Into<Option<Timestamp>>) -> Self {
        self.patch.not_before = Some(at.into());
        self
    }

    /// Sets the actor that the change's [events](crate::ApiKeyManager::events) name: 1 to 256 bytes.
    /// By default, they do not name one.
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Waits until the change has reached all nodes: checks that start later, on any node, do not
    /// use the previous record. See [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
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
            started: _,
        } = self;
        fault.map_or(Ok(()), Err)?;
        check_actor(actor.as_deref())?;
        check_fields(&patch)?;
        patch
            .limits
            .as_deref()
            .map_or(Ok(()), |limits| manager.check_limits(limits))?;
        manager
            .clone()
            .on_thread(move |core| async move {
                let owner = patch.owner.clone();
                if owner.is_some() {
                    core.find_given(id, owner.as_ref()).await?;
                }
                let is_change = patch != KeyPatch::new();
                if is_change {
                    let now = manager.now().now;
                    core.patch_within_span(id, patch, now).await?;
                }
                let changed = core.find_given(id, owner.as_ref()).await?;
                if is_change {
                    core.emit(EventKind::Updated, id, actor.as_deref());
                }
                Ok(changed)
            })
            .await
    }
}

impl ManagerCore {
    /// Reads the record of a key that is given to `owner`. A key that its present owner's revocation
    /// ended stays with this owner.
    async fn find_given(
        &self,
        id: KeyId,
        owner: Option<&Option<String>>,
    ) -> Result<KeyRecord, Error> {
        let record = self.find(id).await?;
        let state = record.owner_state.unwrap_or_default();
        let stays = state.revokes(record.owner_revocations);
        match owner {
            Some(owner) if stays && record.owner != *owner => Err(Error::Revoked(id)),
            _ => Ok(record),
        }
    }

    /// Applies the patch, unless the key could then never be used: its expiry lies in the future,
    /// and not after `not_before`.
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
            // The other end of the span must not have changed since it was read.
            patch.expected_version = Some(record.version);
            match self.patch(id, &patch).await {
                Err(Error::Store(StoreError::Conflict)) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Store(StoreError::Conflict))
    }
}

impl_call!(
    UpdateKey => KeyRecord,
    |call| Self::new(call.manager.clone(), call.id),
    Self::carry_out
);
