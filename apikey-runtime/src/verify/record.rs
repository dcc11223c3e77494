//! What follows from a decision: each way out of a check is counted, logged and reported here.

use super::evaluate::KeyDenial;
use super::{Allowed, CheckRequest, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::events::{Event, EventKind};
use crate::key::KeyId;
use crate::policy::{Policy, RequestInfo};
use crate::usage::UsageEntry;

impl Verifier {
    /// Records that a key is allowed: the last step of a check.
    pub(super) fn allow<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &mut Allowed,
    ) {
        tracing::debug!(key_id = %allowed.key.id(), "allowed");
        self.shared.metrics.allowed();
        if self.usage.is_enabled() {
            allowed.usage_entry = self.record_usage(request, allowed);
        }
    }

    /// Counts the request as usage of the key, once however many guards it passes.
    fn record_usage<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        allowed: &Allowed,
    ) -> Option<UsageEntry> {
        let (id, cost) = (&allowed.key.record().id, request.policy.cost);
        match request
            .earlier_for(*id)
            .and_then(|earlier| earlier.usage_entry)
        {
            Some(entry) => Some(self.usage.record_again(id, entry, cost)),
            None => self.usage.record_allowed(
                (id, allowed.rotations()),
                allowed.at.now,
                cost,
                request.info,
            ),
        }
    }

    /// Records that a request without a key is allowed.
    pub(crate) fn allow_anonymous(&self) {
        tracing::debug!("allowed: anonymous");
        self.shared.metrics.anonymous();
    }

    /// Denies a check.
    pub(super) fn deny<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        reason: DenyReason,
    ) -> Denied {
        let id = || request.credential.id().to_id();
        if self.usage.counts(reason) {
            let now = self.shared.now().now;
            self.usage.record_denied(&id(), now, reason, request.info);
        }
        tracing::debug!(key_id = %id(), reason = reason.code(), "denied");
        let denied = self.record_denial(reason, request.policy, || Some(id()));
        match request.info.required_scopes() {
            Some(given) if reason == DenyReason::InsufficientScope => denied.requiring_all(given),
            _ => denied,
        }
    }

    /// Denies a check of a key by its record.
    pub(super) fn deny_key<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        denial: KeyDenial,
    ) -> Denied {
        let denied = self.deny(request, denial.reason);
        match denial.is_secret {
            true => denied.with_secret(),
            false => denied,
        }
    }

    /// Records a denial, with or without a check before it. `id` is called only if the
    /// events have subscribers.
    pub(crate) fn record_denial(
        &self,
        reason: DenyReason,
        policy: &Policy,
        id: impl FnOnce() -> Option<KeyId>,
    ) -> Denied {
        self.shared.metrics.denied(reason);
        self.events.emit(|| Event {
            at: self.shared.now().now,
            kind: EventKind::Denied { reason },
            key_id: id(),
            owner: None,
            actor: None,
        });
        denied(reason, policy)
    }
}

/// Denies a request without a manager, and so without an event stream.
pub(crate) fn deny_unmanaged(reason: DenyReason) -> Denied {
    crate::metrics::denied_without_manager(reason);
    Denied::new(reason)
}

pub(super) fn denied(reason: DenyReason, policy: &Policy) -> Denied {
    let required = (reason == DenyReason::InsufficientScope)
        .then_some(policy.scopes)
        .flatten();
    Denied::new(reason).requiring(required)
}
