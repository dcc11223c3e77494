//! Decisions from the store: a shared poll before a denial that a newer record could overturn, then
//! a read.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cached::allowed_key;
use super::evaluate::{Evaluation, KeyDenial, is_overturnable};
use super::request::{CachedDecision, CachedDenial};
use super::{Allowed, CheckRequest, Verifier};
use crate::cache::{CachedKey, ReadAnswer, ReadError, ReadStamp};
use crate::clock::ClockReading;
use crate::cluster::REQUEST_INTERVAL;
use crate::denied::{Denied, DenyReason};
use crate::policy::RequestInfo;

/// How often a read is repeated if its answer came too late to be trusted. Then the check is denied
/// with 503.
const MAX_READS: usize = 3;

/// How long the last use of an idle key is not read again.
const IDLE_MEMORY: Duration = Duration::from_secs(1);

impl Verifier {
    /// Decides with the store's help, before limits: asks what changed if the cache denied the key, and reads the
    /// store if that does not decide. `earlier` is what the store answered earlier in the same request.
    pub(super) async fn evaluate_with_store<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        denial: Option<&CachedDenial>,
        earlier: Option<&Allowed>,
    ) -> Result<Allowed, Denied> {
        let Some(denial) = denial else {
            return Box::pin(self.read_and_evaluate(request, earlier)).await;
        };
        // The poll and the read take no longer than one call of the store may, after the pause between polls.
        let deadline = self.shared.deadline;
        let until = Instant::now() + REQUEST_INTERVAL + deadline;
        // The secret may be rotated, a scope added, the key enabled: ask what changed before
        // denying.
        // Boxed, so that the future of a check that only reads is small.
        let answered = Box::pin(self.poller.request_poll(until - deadline / 2)).await;
        if let Some(decision) = self.decide_after_poll(request, denial, answered) {
            return decision;
        }
        // Boxed, so that the future of a check that only waits for a poll is small.
        let read = self.read_and_evaluate(request, earlier);
        let read = Box::pin(self.shared.wait_until(until, read));
        read.await
            .unwrap_or_else(|_elapsed| Err(self.deny(request, DenyReason::StoreUnavailable)))
    }

    /// Decides by the cache after a poll that began after the denial. `answered` is whether the store answered the
    /// poll. Returns `None` if the store has to be read.
    fn decide_after_poll<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        denial: &CachedDenial,
        answered: bool,
    ) -> Option<Result<Allowed, Denied>> {
        let denial = match self.check_cache(request, Some(denial)) {
            CachedDecision::Allow(key, at) => return Some(Ok(Allowed::new(key, None, at))),
            // A use of the key is not a change, so its last use is read again.
            CachedDecision::Deny(DenyReason::Idle, now) if !self.is_known_idle(&now.entry) => {
                return None;
            }
            CachedDecision::StillInvalid(_) => KeyDenial::invalid(),
            CachedDecision::Deny(reason, now) if answered => {
                now.note_refused();
                let is_secret = now.matched.is_secret(self.shared.now().now);
                KeyDenial { reason, is_secret }
            }
            // What changed is not known, and the key may be live by now.
            CachedDecision::Deny(..) | CachedDecision::Miss => return None,
        };
        Some(Err(self.deny_key(request, denial)))
    }

    /// Reads the store and decides by its answer, or by the earlier one if that may serve.
    async fn read_and_evaluate<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        earlier: Option<&Allowed>,
    ) -> Result<Allowed, Denied> {
        if let Some(decision) = earlier.and_then(|earlier| self.evaluate_earlier(request, earlier))
        {
            return decision;
        }
        let mut joined_earlier = false;
        for _ in 0..MAX_READS {
            // Without a lease, other nodes do not wait for this one. Only a read that began after
            // the check sees everything that was confirmed before it.
            let now = self.shared.now();
            let alone = request.policy.fresh || !self.loader.cache.lease.holds(now);
            let id = request.credential.id().to_id();
            match self.loader.read(&id, alone).await {
                Err(ReadError) => break,
                Ok(answer) => match self.evaluate_answer(request, &answer) {
                    // It joined a read that may have begun before the key was rotated, enabled and so
                    // on. A second read began after this check, whether it is joined or not. If it
                    // fails, what is true of the key now is not known.
                    Some(Err(denial))
                        if !answer.stamp.own
                            && answer.found.is_some()
                            && !joined_earlier
                            && is_overturnable(denial.reason) =>
                    {
                        joined_earlier = true;
                    }
                    Some(decision) => {
                        return decision.map_err(|denial| self.deny_key(request, denial));
                    }
                    None => {}
                },
            }
        }
        Err(self.deny(request, DenyReason::StoreUnavailable))
    }

    /// Returns whether all uses of the key were read a moment ago, and it is idle by them.
    fn is_known_idle(&self, entry: &CachedKey) -> bool {
        let is_recent = |read: ClockReading| read.elapsed_until(self.shared.now()) < IDLE_MEMORY;
        entry.found_idle().is_some_and(is_recent)
    }

    /// Evaluates what the store answered for an earlier guard. Returns `None` if that answer is
    /// about another key, was overtaken by a change, or may not serve.
    fn evaluate_earlier<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        earlier: &Allowed,
    ) -> Option<Result<Allowed, Denied>> {
        let (record, stamp) = (earlier.key.record(), *earlier.read.as_deref()?);
        let own = stamp.own || !request.policy.fresh;
        let serves = record.id.as_text() == request.credential.id()
            && own
            && self.is_recent(stamp)
            && self.loader.is_current(&record.id, stamp);
        let answer = ReadAnswer {
            stamp,
            found: Some(Arc::clone(record)),
        };
        serves
            .then(|| self.evaluate_answer(request, &answer))
            .flatten()
            .map(|decision| decision.map_err(|denial| self.deny_key(request, denial)))
    }

    /// Returns whether the answer of an earlier read may be used: under a lease, as a cached entry.
    fn is_recent(&self, stamp: ReadStamp) -> bool {
        let (now, lease) = (self.shared.now(), &self.loader.cache.lease);
        let good_for = match lease.length() {
            Some(length) if lease.holds(now) => length,
            Some(_) => Duration::ZERO,
            None => self.shared.deadline,
        };
        stamp.sent.elapsed_until(now) < good_for
    }

    /// Evaluates the store's answer. Returns `None` if the answer is too old to be trusted, or to tell
    /// whether the key is idle.
    fn evaluate_answer<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        answer: &ReadAnswer,
    ) -> Option<Result<Allowed, KeyDenial>> {
        let evaluated = answer.found.as_ref().map(|found| {
            let matched = self.match_digest(request, found);
            let evaluation = Evaluation::new(found, matched, request.policy, request.info);
            (found, evaluation)
        });
        if evaluated.is_none() {
            self.match_dummy(request);
        }
        let now = self.shared.now();
        let age = answer.stamp.sent.elapsed_until(now);
        #[cfg(apikey_faults)]
        let age = crate::faults::age(age);
        let lease = self.loader.cache.lease.length();
        if age >= lease.unwrap_or(self.shared.deadline) {
            return None;
        }
        let changes = self.loader.cache.owner_changes();
        let stale = |found: &Arc<CachedKey>| found.is_owner_stale(changes);
        if answer.found.as_ref().is_some_and(stale) {
            return None;
        }
        let Some((found, evaluation)) = evaluated else {
            return Some(Err(KeyDenial::invalid()));
        };
        match evaluation.decide(now, changes) {
            // The time came after the read, which did not ask for its last use.
            Err(DenyReason::Idle) if found.found_idle().is_none() => None,
            Err(reason) => {
                let is_secret = evaluation.matched.is_secret(now.now);
                Some(Err(KeyDenial { reason, is_secret }))
            }
            Ok(()) => {
                let key = allowed_key(request, found, evaluation);
                Some(Ok(Allowed::new(key, Some(answer.stamp), now)))
            }
        }
    }
}
