//! The one choke point where a decision is made.
//!
//! What comes in is a text that claims to be a key, what the route demands, and who calls; what
//! comes out is the key or a refusal. No other module compares digests, looks at a key's state or
//! at its scopes.

mod attempts;
mod evaluate;
mod limits;
mod record;
mod request;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::api_key::ApiKey;
use crate::cache::{CachedKey, ReadAnswer, ReadError, ReadStamp, Reader};
use crate::clock::ClockReading;
use crate::cluster::ChangePoller;
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::events::EventSender;
use crate::failed_attempts::FailedAttempts;
use crate::key::{ParsedDigest, ParsedKey};
use crate::limiter::{LocalLimiter, Plan, Prefetch};
use crate::policy::{KeyLocation, Policy, RequestInfo};
use crate::usage::Usage;
use evaluate::{DigestMatch, PolicyEvaluation};
use request::CachedDecision;

pub(crate) use limits::limit_statuses;
pub(crate) use record::deny_unmanaged;
pub(crate) use request::{
    Allowed, CheckRequest, Credential, DeferReason, FastPath, VerifiedCredential, no_earlier_check,
};

/// How often a read that came too late to be believed is repeated before the answer is 503.
const READS: usize = 3;

/// All that a decision needs, shared by the manager's thread and its callers.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) config: Config,
    pub(crate) reader: Arc<Reader>,
    pub(crate) poller: ChangePoller,
    pub(crate) events: EventSender,
    pub(crate) usage: Usage,
    /// Whose address has shown how many keys that are none; `None` where that is not counted.
    pub(crate) failed_attempts: Option<FailedAttempts>,
    /// What this process counts by itself.
    pub(crate) local_limiter: LocalLimiter,
    /// What it took ahead of limits that the store counts.
    pub(crate) prefetch: Arc<Prefetch>,
    /// Checks that wait for the store, and what follows from them: a manager that ends waits for
    /// both, so that what was charged is used or given back, and what was let through is counted.
    pub(crate) under_way: TaskTracker,
    /// The limits of keys that have none of their own.
    pub(crate) default_plan: Option<Plan>,
    /// The digest of no key: compared on a miss, so that a miss takes as long as a wrong secret.
    pub(crate) dummy: ParsedDigest,
}

impl Verifier {
    /// Reads a presented text as a key that this route could accept: no I/O, no hashing.
    pub(crate) fn screen<'a>(
        &self,
        text: &'a [u8],
        policy: &Policy,
    ) -> Result<ParsedKey<'a>, Denied> {
        match ParsedKey::parse(text) {
            Some(key) if self.accepts_prefix(key.prefix(), policy) => Ok(key),
            Some(key) => {
                tracing::debug!(key_id = %key.id().to_id(), "refused: a prefix that is not accepted here");
                Err(self.deny(DenyReason::InvalidKey, policy, || Some(key.id().to_id())))
            }
            None => {
                tracing::debug!("refused: not the form of a key, or a wrong checksum");
                Err(self.deny(DenyReason::InvalidKey, policy, || None))
            }
        }
    }

    /// Whether a key with this prefix could pass the route.
    pub(crate) fn accepts_prefix(&self, prefix: &str, policy: &Policy) -> bool {
        self.config.accepts_prefix(prefix) && policy.prefix.is_none_or(|only| only == prefix)
    }

    /// Decides from memory, where memory can: no await, no store, no copy.
    pub(crate) fn try_check<C: RequestInfo>(&self, request: &CheckRequest<'_, C>) -> FastPath {
        if request.policy.fresh {
            return FastPath::Deferred(DeferReason::CacheMiss);
        }
        let begun = self.reader.metrics.begin_check();
        let now = match self.evaluate_cached(request) {
            FastPath::Decided(Ok(allowed)) => self.try_enforce_limits(request, allowed),
            other => other,
        };
        if matches!(now, FastPath::Decided(_)) {
            self.reader.cache.counters.count_hit();
            self.reader.metrics.decided_from_memory(begun);
        }
        now
    }

    fn evaluate_cached<C: RequestInfo>(&self, request: &CheckRequest<'_, C>) -> FastPath {
        match self.check_cache(request) {
            CachedDecision::Allow(key, at) => FastPath::Decided(Ok(Allowed::of(key, None, at))),
            // Revoked is for good, and a route that is set up wrongly stays so; any other refusal a
            // newer record could turn.
            CachedDecision::Deny(reason @ (DenyReason::Revoked | DenyReason::Misconfigured)) => {
                FastPath::Decided(Err(self.refuse(request, reason)))
            }
            CachedDecision::Deny(_) => FastPath::Deferred(DeferReason::RecheckDenial),
            CachedDecision::Miss => FastPath::Deferred(DeferReason::CacheMiss),
        }
    }

    /// Decides with the store's help.
    pub(crate) async fn check<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        why: DeferReason,
    ) -> Result<Allowed, Denied> {
        let Some(_token) = under_way::begin(&self.under_way) else {
            return Err(self.refuse(request, DenyReason::StoreUnavailable));
        };
        let begun = self.reader.metrics.begin_late();
        let decision = self.check_deferred(request, why).await;
        self.reader.metrics.decided_by_store(begun);
        decision
    }

    async fn check_deferred<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        why: DeferReason,
    ) -> Result<Allowed, Denied> {
        let refused = match why {
            DeferReason::ChargeInStore(allowed) => {
                self.reader.cache.counters.count_hit();
                return self.enforce_limits(request, *allowed).await;
            }
            DeferReason::RecheckDenial => true,
            DeferReason::CacheMiss => false,
        };
        self.reader.cache.counters.count_miss();
        let earlier = (request.earlier)(request.info);
        self.reject_if_blocked(request)?;
        let matched = self
            .evaluate_deferred(request, refused, earlier.as_ref())
            .await;
        self.record_failure(request, &matched);
        match self.try_enforce_limits(request, matched?) {
            FastPath::Decided(decision) => decision,
            FastPath::Deferred(DeferReason::ChargeInStore(allowed)) => {
                self.enforce_limits(request, *allowed).await
            }
            // Settling asks for nothing else.
            FastPath::Deferred(_) => Err(self.refuse(request, DenyReason::Misconfigured)),
        }
    }

    /// `refused` is whether memory refuses the key; `earlier` what the store said earlier in the same
    /// request.
    async fn evaluate_deferred<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        refused: bool,
        earlier: Option<&Allowed>,
    ) -> Result<Allowed, Denied> {
        if refused {
            // A rotated secret, a new scope, a key switched on again: ask what changed before
            // refusing.
            let learned = self.poller.request_poll().await;
            match self.check_cache(request) {
                CachedDecision::Allow(key, at) => return Ok(Allowed::of(key, None, at)),
                // A key's time is over, whether or not the store says so.
                CachedDecision::Deny(reason @ (DenyReason::Expired | DenyReason::NotYetValid)) => {
                    return Err(self.refuse(request, reason));
                }
                CachedDecision::Deny(reason) if learned => return Err(self.refuse(request, reason)),
                // What changed is not known: a key that is live by now is not told otherwise.
                CachedDecision::Deny(_) | CachedDecision::Miss => {}
            }
        }
        if let Some(decision) = earlier.and_then(|earlier| self.evaluate_earlier(request, earlier))
        {
            return decision;
        }
        for _ in 0..READS {
            // Without a lease nobody waits for this node: only a read of one's own, which began
            // after the check, tells of all that was confirmed before it.
            let now = self.reader.clock.read();
            let alone = request.policy.fresh || !self.reader.cache.lease.holds(now);
            match self
                .reader
                .read(&request.credential.id().to_id(), alone)
                .await
            {
                Err(ReadError) => break,
                Ok(answer) => {
                    if let Some(decision) = self.evaluate_answer(request, &answer) {
                        return decision;
                    }
                }
            }
        }
        Err(self.refuse(request, DenyReason::StoreUnavailable))
    }

    fn check_cache<C: RequestInfo>(&self, request: &CheckRequest<'_, C>) -> CachedDecision {
        let cache = &self.reader.cache;
        let seen = cache.peek(request.credential.id(), |entry| {
            let matched = self.match_digest(request, entry);
            // The clock is read after the entry and after all that takes time, so an entry that is
            // believed now was under the lease when its facts were used.
            let now = self.reader.clock.read();
            if !cache.lease.holds(now) || entry.is_stale() {
                return CachedDecision::Miss;
            }
            match matched.at(now) {
                Ok(()) => CachedDecision::Allow(ApiKey::new(Arc::clone(entry)), now),
                Err(reason) => CachedDecision::Deny(reason),
            }
        });
        match seen {
            Some(memory) => memory,
            None if cache
                .knows_unknown(&request.credential.id().to_id(), self.reader.clock.read()) =>
            {
                self.match_dummy(request);
                CachedDecision::Deny(DenyReason::InvalidKey)
            }
            None => CachedDecision::Miss,
        }
    }

    /// `None` where what is known is of another key, was overtaken by a change, or may not serve.
    fn evaluate_earlier<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        earlier: &Allowed,
    ) -> Option<Result<Allowed, Denied>> {
        let (record, stamp) = (earlier.key.record(), earlier.read?);
        let own = stamp.own || !request.policy.fresh;
        let serves = record.id.as_text() == request.credential.id()
            && own
            && self.is_recent(stamp)
            && self.reader.is_current(&record.id, stamp);
        let answer = ReadAnswer {
            stamp,
            found: Some(Arc::clone(record)),
        };
        serves
            .then(|| self.evaluate_answer(request, &answer))
            .flatten()
    }

    /// Whether a read that was made earlier may serve: under a lease, as what is in memory may.
    fn is_recent(&self, stamp: ReadStamp) -> bool {
        let (now, lease) = (self.reader.clock.read(), &self.reader.cache.lease);
        let good_for = match lease.length() {
            Some(length) if lease.holds(now) => length,
            Some(_) => Duration::ZERO,
            None => self.reader.deadline,
        };
        passed(stamp.sent, now) < good_for
    }

    /// `None` where the answer is too old to be believed.
    fn evaluate_answer<C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        answer: &ReadAnswer,
    ) -> Option<Result<Allowed, Denied>> {
        let matched = answer
            .found
            .as_ref()
            .map(|found| (found, self.match_digest(request, found)));
        if matched.is_none() {
            self.match_dummy(request);
        }
        let now = self.reader.clock.read();
        let age = passed(answer.stamp.sent, now);
        #[cfg(apikey_faults)]
        let age = crate::faults::age(age);
        let lease = self.reader.cache.lease.length();
        if age >= lease.unwrap_or(self.reader.deadline) {
            return None;
        }
        let decision = match matched {
            None => Err(DenyReason::InvalidKey),
            Some((found, matched)) => matched.at(now).map(|()| {
                let key = ApiKey::new(Arc::clone(found));
                Allowed::of(key, Some(answer.stamp), now)
            }),
        };
        Some(decision.map_err(|reason| self.refuse(request, reason)))
    }

    /// All that can be said of a claim and a record before the time is known.
    fn match_digest<'k, C: RequestInfo>(
        &self,
        request: &CheckRequest<'_, C>,
        key: &'k CachedKey,
    ) -> DigestMatch<'k> {
        let proves = |digest: &ParsedDigest| match request.credential {
            Credential::Presented(presented) => self.reader.hasher.verify(presented.text(), digest),
            Credential::AlreadyVerified(proof) => proof.digest.is(digest),
        };
        DigestMatch {
            key,
            current: proves(&key.digest),
            previous: key
                .previous
                .as_ref()
                .filter(|previous| proves(&previous.0))
                .map(|previous| previous.1),
            policy: PolicyEvaluation::of(key, request.policy, request.info),
        }
    }

    /// As much work as a wrong secret makes.
    fn match_dummy<C: RequestInfo>(&self, request: &CheckRequest<'_, C>) {
        if let Credential::Presented(presented) = request.credential {
            std::hint::black_box(self.reader.hasher.verify(presented.text(), &self.dummy));
        }
    }

    /// What is left of a key that `allowed` was let through with, once its text is gone.
    pub(crate) fn proof(
        &self,
        presented: &ParsedKey<'_>,
        place: Option<KeyLocation<'static>>,
        allowed: &ApiKey,
    ) -> VerifiedCredential {
        let record = allowed.record();
        let previous = record.previous.as_ref().map(|previous| &previous.0);
        let by_previous =
            previous.filter(|digest| self.reader.hasher.verify(presented.text(), digest));
        VerifiedCredential {
            id: presented.id().to_id(),
            prefix: presented.prefix().into(),
            digest: by_previous.unwrap_or(&record.digest).clone(),
            place,
        }
    }
}

/// The time between two readings, by the clock that counted more of it.
fn passed(from: ClockReading, to: ClockReading) -> Duration {
    let uptime = Duration::from_nanos(to.uptime_nanos.saturating_sub(from.uptime_nanos));
    let wall = to.wall.as_millis().saturating_sub(from.wall.as_millis());
    uptime.max(Duration::from_millis(u64::try_from(wall).unwrap_or(0)))
}

/// The decision about a key that a test acts as: all but the secret is judged.
#[cfg(feature = "test-util")]
pub(crate) fn evaluate_acting(
    key: ApiKey,
    policy: &Policy,
    info: &dyn RequestInfo,
) -> Result<Allowed, Denied> {
    let now = crate::clock::Clock::read(&crate::clock::SystemClock::new());
    match PolicyEvaluation::of(key.record(), policy, info).at(key.record(), now) {
        Ok(()) => Ok(Allowed::of(key, None, now)),
        Err(reason) => Err(record::denied(reason, policy)),
    }
}
