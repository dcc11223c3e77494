//! The verifier: the one place where a decision about a credential is made.
//!
//! The input is a credential, the route's policy, and facts about the request. The output is the
//! key or a denial. Other modules neither compare digests nor evaluate a key's state, restrictions
//! and scopes.
//!
//! [`Verifier::try_check`] decides at once if the cache suffices, and [`Verifier::check`] decides
//! with the store's help otherwise.

mod attempts;
mod cached;
mod deferred;
mod evaluate;
mod limits;
mod possession;
mod record;
mod registry;
mod request;
mod store_backed;
mod watch;

use std::sync::Arc;

use tokio_util::task::TaskTracker;

#[cfg(feature = "test-util")]
use crate::api_key::AllowedKey;
use crate::cache::{CachedKey, Loader, WatchersId};
use crate::cluster::ChangePoller;
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::events::EventSender;
use crate::failed_attempts::FailedAttempts;
use crate::key::{ParsedDigest, ParsedKey, Sha256Hasher};
use crate::limiter::{LocalLimiter, Plan, Prefetch};
use crate::policy::{KeyLocation, Policy, RequestInfo};
use crate::shared::Shared;
use crate::usage::Usage;

pub(crate) use limits::limit_statuses;
pub(crate) use possession::Possession;
pub(crate) use record::deny_unmanaged;
pub(crate) use request::{
    Allowed, CheckRequest, Credential, DeferReason, EarlierGuard, FastPath, VerifiedCredential,
};
use request::{CachedDecision, CachedDenial};

/// Decides about credentials. The manager's thread and the workers share it.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) config: Config,
    pub(crate) shared: Arc<Shared>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) poller: Arc<ChangePoller>,
    pub(crate) events: Arc<EventSender>,
    pub(crate) usage: Arc<Usage>,
    /// Failed attempts by address; `None` if they are not counted.
    pub(crate) failed_attempts: Option<FailedAttempts>,
    /// The limits that this process counts by itself.
    pub(crate) local_limiter: LocalLimiter,
    /// The units that were prefetched from limits which the store counts.
    pub(crate) prefetch: Arc<Prefetch>,
    /// Checks that wait for the store, and what follows from them. The manager's shutdown waits
    /// for both, so that a charge is used or refunded, and an allowed request is counted.
    pub(crate) deferred: TaskTracker,
    /// The limits of keys without their own limits.
    pub(crate) default_plan: Option<Plan>,
    /// A dummy digest, compared on a miss, so that a miss takes as long as a wrong secret.
    pub(crate) dummy: ParsedDigest,
    /// The hasher, if it is the built-in one. Another one may ignore a part of a key.
    pub(crate) sha256: Option<Sha256Hasher>,
    /// Makes marks of texts that are not secrets, by a seed of this process.
    pub(crate) marks: foldhash::fast::RandomState,
}

impl Verifier {
    /// Parses a presented text as a key with one of this route's prefixes, without I/O and hashing.
    ///
    /// # Errors
    ///
    /// Returns the denial if the text does not have the form of a key, or if the prefix is another
    /// one.
    pub(crate) fn parse<'a>(
        &self,
        text: &'a [u8],
        policy: &Policy,
    ) -> Result<ParsedKey<'a>, Denied> {
        match ParsedKey::parse(text) {
            Some(key) if self.accepts_prefix(key.prefix(), policy) => Ok(key),
            Some(key) => {
                tracing::debug!(key_id = %key.id().to_id(), "denied: the prefix is not accepted here");
                Err(self.record_denial(DenyReason::InvalidKey, policy, || Some(key.id().to_id())))
            }
            None => Err(self.deny_malformed(policy)),
        }
    }

    /// Parses a presented text for [`try_check`](Self::try_check), which checks the rest of its form unless the
    /// cache knows the key.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`parse`](Self::parse).
    pub(crate) fn parse_for_lookup<'a>(
        &self,
        text: &'a [u8],
        policy: &Policy,
    ) -> Result<ParsedKey<'a>, Denied> {
        if self.sha256.is_some() && !policy.fresh {
            let accepted = self.config.prefixes().iter().map(String::as_str);
            let mut accepted =
                accepted.filter(|prefix| policy.prefix.is_none_or(|only| only == *prefix));
            if let Some(key) = accepted.find_map(|prefix| ParsedKey::for_lookup(text, prefix)) {
                return Ok(key);
            }
        }
        self.parse(text, policy)
    }

    /// Denies a text that is not a key.
    fn deny_malformed(&self, policy: &Policy) -> Denied {
        tracing::debug!("denied: not the form of a key, or a wrong checksum");
        self.record_denial(DenyReason::InvalidKey, policy, || None)
    }

    /// Returns whether the configuration and the route accept keys with this prefix.
    pub(crate) fn accepts_prefix(&self, prefix: &str, policy: &Policy) -> bool {
        self.config.accepts_prefix(prefix) && policy.prefix.is_none_or(|only| only == prefix)
    }

    /// Returns where watches of the keys are kept.
    pub(crate) fn watchers_id(&self) -> WatchersId {
        self.loader.cache.watchers.id()
    }

    /// Decides from the cache if possible, without an await, a store call or a copy of a record.
    pub(crate) fn try_check<I: RequestInfo>(&self, request: &CheckRequest<'_, I>) -> FastPath {
        let timer = self.shared.metrics.begin_check();
        let decision = match self.check_cache_and_form(request) {
            Ok(decision) => decision,
            Err(denied) => return FastPath::Decided(Err(denied)),
        };
        let result = match decision {
            CachedDecision::Allow(key, at) => {
                self.try_enforce_limits(request, Allowed::new(key, None, at))
            }
            denial => self.evaluate_denial(request, denial),
        };
        if matches!(result, FastPath::Decided(_)) {
            self.loader.cache.counters.count_hit();
            self.shared.metrics.decided_from_cache(timer);
        }
        result
    }

    /// Decides with the store's help, after [`try_check`](Self::try_check) deferred.
    ///
    /// # Errors
    ///
    /// Returns the denial.
    pub(crate) async fn check<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        reason: DeferReason,
    ) -> Result<Allowed, Denied> {
        let Some(_token) = deferred::begin(&self.deferred) else {
            return Err(self.deny(request, DenyReason::StoreUnavailable));
        };
        let timer = self.shared.metrics.begin_deferred();
        let decision = match reason {
            DeferReason::ChargeInStore(allowed) => {
                self.loader.cache.counters.count_hit();
                Box::pin(self.enforce_limits(request, *allowed)).await
            }
            DeferReason::RecheckDenial(denial) => self.check_store(request, Some(&denial)).await,
            DeferReason::CacheMiss => self.check_store(request, None).await,
        };
        self.shared.metrics.decided_by_store(timer);
        decision
    }

    /// `denial` is that of the cache, if it denies the key.
    async fn check_store<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        denial: Option<&CachedDenial>,
    ) -> Result<Allowed, Denied> {
        self.loader.cache.counters.count_miss();
        self.reject_if_blocked(request, || self.shared.now())?;
        let earlier = request.earlier.map(|earlier| &earlier.allowed);
        let decision = self.evaluate_with_store(request, denial, earlier).await;
        if let Err(denied) = &decision {
            self.record_failure(request, denied, || self.shared.now());
        }
        match self.try_enforce_limits(request, decision?) {
            FastPath::Decided(decision) => decision,
            FastPath::Deferred(DeferReason::ChargeInStore(allowed)) => {
                Box::pin(self.enforce_limits(request, *allowed)).await
            }
            // Limits do not defer for other reasons.
            FastPath::Deferred(_) => Err(self.deny(request, DenyReason::Misconfigured)),
        }
    }

    /// Makes the credential that remains of a key after it is taken out of its request.
    pub(crate) fn verified_credential(
        &self,
        presented: &ParsedKey<'_>,
        location: Option<KeyLocation<'static>>,
        record: &CachedKey,
    ) -> VerifiedCredential {
        let previous = record.previous().map(|previous| &previous.0);
        let matched_previous =
            previous.filter(|digest| self.loader.hasher.verify(presented.text(), digest));
        VerifiedCredential {
            id: presented.id().to_id(),
            prefix: presented.prefix().into(),
            digest: matched_previous.unwrap_or(&record.digest).clone(),
            location,
        }
    }

    /// Rejects new deferred checks, and waits for those in progress.
    pub(crate) async fn finish_deferred(&self) {
        self.deferred.close();
        self.deferred.wait().await;
    }
}

/// Decides about a key that a test acts as: everything but the secret is evaluated.
#[cfg(feature = "test-util")]
pub(crate) fn evaluate_acting(
    key: &Arc<CachedKey>,
    policy: &Policy,
    info: &dyn RequestInfo,
) -> Result<Allowed, Denied> {
    let now = crate::clock::Clock::read(&crate::clock::SystemClock::new());
    let evaluation = evaluate::PolicyEvaluation::new(key, policy, info);
    let changes = crate::cache::OwnerChanges::default();
    match evaluation.decide(key, now, changes) {
        Ok(()) => {
            let key = AllowedKey::new(Arc::clone(key), false, None);
            Ok(Allowed::new(key, None, now))
        }
        Err(reason) => Err(record::denied(reason, policy)),
    }
}
