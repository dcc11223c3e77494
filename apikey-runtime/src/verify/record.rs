//! What comes of a request: each way out is counted, and each refusal told, here and nowhere else.

use super::{Allowed, CheckRequest, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::events::{Event, EventKind};
use crate::key::KeyId;
use crate::policy::{Policy, RequestInfo};
use crate::usage::UsageEntry;

impl Verifier {
    /// A key is let through: the last word.
    pub(super) fn allow<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        mut allowed: Allowed,
    ) -> Allowed {
        tracing::debug!(key_id = %allowed.key.id(), "allowed");
        self.reader.metrics.allowed();
        if self.usage.is_enabled() {
            allowed.usage_entry = self.note(request, &allowed);
        }
        allowed
    }

    /// Counts the request as usage of the key, once however many gates it passes.
    fn note<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        allowed: &Allowed,
    ) -> Option<UsageEntry> {
        let (id, cost) = (&allowed.key.record().id, request.policy.cost);
        let same = |earlier: &Allowed| earlier.key.record().id == *id;
        match (request.earlier)(request.info)
            .filter(same)
            .and_then(|earlier| earlier.usage_entry)
        {
            Some(usage_entry) => Some(self.usage.record_again(id, usage_entry, cost)),
            None => self
                .usage
                .record_allowed(id, allowed.at.now, cost, request.info),
        }
    }

    /// A request without a key is let through.
    pub(crate) fn allow_anonymous(&self) {
        tracing::debug!("allowed: anonymous");
        self.reader.metrics.anonymous();
    }

    pub(super) fn refuse<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        reason: DenyReason,
    ) -> Denied {
        let id = || request.credential.id().to_id();
        if self.usage.counts(reason) {
            let now = self.reader.clock.read().now;
            self.usage.record_denied(&id(), now, reason, request.info);
        }
        tracing::debug!(key_id = %id(), reason = reason.code(), "refused");
        self.deny(reason, request.policy, || Some(id()))
    }

    /// Refuses, whether or not it came to a question. `id` is asked for only where somebody listens.
    pub(crate) fn deny(
        &self,
        reason: DenyReason,
        policy: &Policy,
        id: impl FnOnce() -> Option<KeyId>,
    ) -> Denied {
        self.reader.metrics.refused(reason);
        self.events.emit(|| Event {
            at: self.reader.clock.read().now,
            kind: EventKind::Denied { reason },
            key_id: id(),
            actor: None,
        });
        denied(reason, policy)
    }
}

/// The refusal of a request for which no manager was found: there is nobody to tell.
pub(crate) fn deny_unmanaged(reason: DenyReason) -> Denied {
    crate::metrics::refused_without_manager(reason);
    Denied::new(reason)
}

pub(super) fn denied(reason: DenyReason, policy: &Policy) -> Denied {
    let wanted = (reason == DenyReason::InsufficientScope)
        .then_some(policy.scopes)
        .flatten();
    Denied::new(reason).wanting(wanted)
}
