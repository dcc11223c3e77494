//! Changes attributes of keys.

use ipnet::IpNet;

use super::TRIES;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::events::EventKind;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::manager::ApiKeyManager;
use crate::manager::call::{
    StartedCall, condition_setters, impl_call, origin_setters, rule_setters,
};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::keys::rules::{CallRules, IssueRules};
use crate::manager::validate::{check_fields, check_origin, check_span, shallow};
use crate::record::{KeyPatch, KeyRecord, Metadata};
use crate::scope::Scopes;
use crate::store::WriteOptions;

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
    options: WriteOptions,
    rules: CallRules,
    started: StartedCall<KeyRecord>,
}

impl UpdateKey {
    pub(in crate::manager) fn new(manager: ApiKeyManager, id: KeyId) -> Self {
        Self {
            manager,
            id,
            patch: KeyPatch::new(),
            fault: None,
            options: WriteOptions::new(),
            rules: CallRules::default(),
            started: StartedCall::none(),
        }
    }

    /// Replaces the label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.patch.label = Some(label.into());
        self
    }

    /// Replaces the description; `None` removes it.
    pub fn description<S: Into<String>>(mut self, description: impl Into<Option<S>>) -> Self {
        self.patch.description = Some(description.into().map(Into::into));
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

    origin_setters!();
    condition_setters!();
    rule_setters!();

    /// Waits until the change has reached all nodes: checks that start later, on any node, do not
    /// use the previous record. See [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    /// Returns the record as the call would change it, by the same checks and rules, and changes nothing. The state of its owner
    /// is that of the present one.
    ///
    /// # Errors
    ///
    /// Returns each error of the call. An owner's live keys are counted as they are now.
    pub async fn preview(self) -> Result<KeyRecord, Error> {
        let (manager, change) = self.checked()?;
        let (record, max) = manager
            .on_thread(move |core| async move { core.preview(change).await })
            .await?;
        manager.check_room(max, &record).await?;
        Ok(record)
    }

    async fn carry_out(self) -> Result<KeyRecord, Error> {
        let (manager, change) = self.checked()?;
        manager
            .on_thread(move |core| async move { core.change(change).await })
            .await
    }

    /// Checks what does not depend on the key.
    fn checked(self) -> Result<(ApiKeyManager, KeyChange), Error> {
        let Self {
            manager,
            id,
            patch,
            fault,
            options,
            rules,
            started: _,
        } = self;
        fault.map_or(Ok(()), Err)?;
        check_origin(&options.origin)?;
        check_fields(&patch)?;
        patch
            .limits
            .as_deref()
            .map_or(Ok(()), |limits| manager.check_limits(limits))?;
        let rules = rules.resolve(&manager)?;
        let now = manager.now();
        let change = KeyChange {
            id,
            patch,
            rules,
            options,
            now,
        };
        Ok((manager, change))
    }
}

/// A change of a key that does not depend on what the key is like.
#[derive(Debug)]
struct KeyChange {
    id: KeyId,
    patch: KeyPatch,
    rules: IssueRules,
    options: WriteOptions,
    now: Timestamp,
}

impl KeyChange {
    /// Judges the change of this record, and returns the options with which to write it.
    fn judged(&self, record: &KeyRecord) -> Result<WriteOptions, Error> {
        let Self {
            patch, rules, now, ..
        } = self;
        stays_with_its_owner(record, patch)?;
        check_span_after(record, patch, *now)?;
        rules.judge_change(*now, record, patch)?;
        Ok(rules.bound_change(self.options.clone(), record, patch))
    }
}

impl ManagerCore {
    async fn change(&self, change: KeyChange) -> Result<KeyRecord, Error> {
        let KeyChange {
            id, patch, options, ..
        } = &change;
        if *patch == KeyPatch::new() {
            return self.find_expected(*id, options).await;
        }
        self.patch_as_judged(&change).await?;
        self.emit(EventKind::Updated, *id, &options.origin);
        let changed = self.find(*id).await?;
        stays_with_its_owner(&changed, patch)?;
        // Another writer may have given the key away since.
        let owner = patch.owner.as_ref().unwrap_or(&options.expected_owner);
        match options.expected_owner.is_some() && changed.owner != *owner {
            true => Err(Error::NotFound(*id)),
            false => Ok(changed),
        }
    }

    /// Returns the record as it would be, and the maximum of its owner's live keys if it would be one more.
    async fn preview(&self, change: KeyChange) -> Result<(KeyRecord, Option<u32>), Error> {
        let KeyChange {
            id, patch, options, ..
        } = &change;
        let before = self.find_expected(*id, options).await?;
        if *patch == KeyPatch::new() {
            return Ok((before, None));
        }
        let judged = change.judged(&before)?;
        let mut record = before.clone();
        patch.apply(&mut record, options.origin.actor.as_deref());
        let max = judged.live_keys_bound(Some(&before), &record, change.now);
        Ok((record, max))
    }

    /// Applies the patch to the record that it was judged for: another version is read and judged
    /// again.
    async fn patch_as_judged(&self, change: &KeyChange) -> Result<(), Error> {
        let KeyChange {
            id,
            patch,
            rules,
            options,
            ..
        } = change;
        let is_judged = patch.expires.is_some()
            || patch.not_before.is_some()
            || (patch.scopes.is_some() && rules.restricts_scopes());
        if !is_judged && patch.owner.is_none() {
            return self.patch(*id, patch, options).await;
        }
        for _ in 0..TRIES {
            let record = self.find_expected(*id, options).await?;
            let mut judged = change.judged(&record)?;
            if is_judged {
                judged.expected_version = Some(record.version);
            }
            match self.patch(*id, patch, &judged).await {
                Err(Error::Conflict(_)) if options.expected_version.is_none() => {}
                outcome => return outcome,
            }
        }
        Err(Error::Conflict(*id))
    }
}

/// Rejects a change of the owner of a key that its present owner's revocation ended.
fn stays_with_its_owner(record: &KeyRecord, patch: &KeyPatch) -> Result<(), Error> {
    let state = record.owner_state.unwrap_or_default();
    let stays = state.revokes(record.owner_revocations);
    match &patch.owner {
        Some(owner) if stays && record.owner != *owner => Err(Error::Revoked(record.id)),
        _ => Ok(()),
    }
}

/// Rejects a change after which the key could never be used: its expiry lies in the future, and not
/// after `not_before`.
fn check_span_after(record: &KeyRecord, patch: &KeyPatch, now: Timestamp) -> Result<(), Error> {
    if patch.expires.is_none() && patch.not_before.is_none() {
        return Ok(());
    }
    let end = patch.expires.unwrap_or(record.expires);
    let end = end.filter(|end| *end > now);
    check_span(patch.not_before.unwrap_or(record.not_before), end)
}

impl_call!(
    UpdateKey => KeyRecord,
    |call| Self::new(call.manager.clone(), call.id),
    Self::carry_out
);
