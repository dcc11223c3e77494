//! What comes of a request: each way out is counted, and each refusal told, here and nowhere else.

use super::{Admitted, Question, Verifier};
use crate::denied::{Denied, DenyReason};
use crate::events::{Event, EventKind};
use crate::key::KeyId;
use crate::policy::{Caller, Policy};
use crate::usage::Noted;

impl Verifier {
    /// A key is let through: the last word.
    pub(super) fn admit<C: Caller>(
        &self,
        question: &Question<'_, C>,
        mut admitted: Admitted,
    ) -> Admitted {
        tracing::debug!(key_id = %admitted.key.id(), "allowed");
        self.reader.metrics.allowed();
        if self.usage.is_kept() {
            admitted.noted = self.note(question, &admitted);
        }
        admitted
    }

    /// Counts the request as usage of the key, once however many gates it passes.
    fn note<C: Caller>(&self, question: &Question<'_, C>, admitted: &Admitted) -> Option<Noted> {
        let (id, cost) = (&admitted.key.facts().id, question.policy.cost);
        let same = |known: &Admitted| known.key.facts().id == *id;
        match (question.known)(question.caller)
            .filter(same)
            .and_then(|known| known.noted)
        {
            Some(noted) => Some(self.usage.note_again(id, noted, cost)),
            None => self
                .usage
                .note_allowed(id, admitted.at.now, cost, question.caller),
        }
    }

    /// A request without a key is let through.
    pub(crate) fn admit_anonymous(&self) {
        tracing::debug!("allowed: anonymous");
        self.reader.metrics.anonymous();
    }

    pub(super) fn refuse<C: Caller>(
        &self,
        question: &Question<'_, C>,
        reason: DenyReason,
    ) -> Denied {
        let id = || question.claim.id().to_id();
        if self.usage.counts(reason) {
            let now = self.reader.clock.read().now;
            self.usage.note_refused(&id(), now, reason, question.caller);
        }
        tracing::debug!(key_id = %id(), reason = reason.code(), "refused");
        self.deny(reason, question.policy, || Some(id()))
    }

    /// Refuses, whether or not it came to a question. `id` is asked for only where somebody listens.
    pub(crate) fn deny(
        &self,
        reason: DenyReason,
        policy: &Policy,
        id: impl FnOnce() -> Option<KeyId>,
    ) -> Denied {
        self.reader.metrics.refused(reason);
        self.teller.tell(|| Event {
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
