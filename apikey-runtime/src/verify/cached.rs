//! Decisions from the cache.

use std::sync::Arc;

use super::evaluate::{DigestMatch, PolicyEvaluation, is_overturnable};
use super::request::CachedDecision;
use super::{Allowed, CheckRequest, Credential, DeferReason, FastPath, Verifier};
use crate::api_key::AllowedKey;
use crate::cache::CachedKey;
use crate::denied::DenyReason;
use crate::key::ParsedDigest;
use crate::policy::{FilledTemplates, GuardScopes, RequestInfo};

impl Verifier {
    /// Evaluates what the cache knows, before limits.
    pub(super) fn evaluate_cached<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
    ) -> FastPath {
        match self.check_cache(request) {
            CachedDecision::Allow(key, at) => FastPath::Decided(Ok(Allowed::new(key, None, at))),
            CachedDecision::Deny(reason) if is_overturnable(reason) => {
                FastPath::Deferred(DeferReason::RecheckDenial)
            }
            CachedDecision::Deny(reason) => FastPath::Decided(Err(self.deny(request, reason))),
            CachedDecision::Miss => FastPath::Deferred(DeferReason::CacheMiss),
        }
    }

    /// Looks the credential up in the cache.
    pub(super) fn check_cache<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
    ) -> CachedDecision {
        let cache = &self.loader.cache;
        let decision = cache.peek(request.credential.id(), |entry| {
            let matched = self.match_digest(request, entry);
            // The clock is read after the entry, and after everything that takes time. So an entry
            // that may be trusted now was under the lease when it was used. The count of owners'
            // changes is read after the lease, whose grant follows the changes that it covers.
            let now = self.shared.now();
            if !cache.lease.holds(now) || entry.is_stale() {
                return CachedDecision::Miss;
            }
            let changes = cache.owner_changes();
            if entry.is_owner_stale(changes) {
                return CachedDecision::Miss;
            }
            match matched.decide(now, changes) {
                Ok(()) => {
                    let (is_superseded, filled) = (!matched.current, matched.policy.into_filled());
                    let key = allowed_key(request, entry, is_superseded, filled);
                    CachedDecision::Allow(key, now)
                }
                Err(reason) => CachedDecision::Deny(reason),
            }
        });
        match decision {
            Some(decision) => decision,
            None if cache.knows_unknown(&request.credential.id().to_id(), self.shared.now()) => {
                self.match_dummy(request);
                CachedDecision::Deny(DenyReason::InvalidKey)
            }
            None => CachedDecision::Miss,
        }
    }

    /// Compares the credential with the record's digests, in constant time, and evaluates what does
    /// not depend on the time.
    pub(super) fn match_digest<'k, I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        key: &'k CachedKey,
    ) -> DigestMatch<'k> {
        let matches = |digest: &ParsedDigest| match request.credential {
            Credential::Presented(presented) => self.loader.hasher.verify(presented.text(), digest),
            Credential::AlreadyVerified(credential) => credential.digest.is(digest),
        };
        DigestMatch {
            key,
            current: matches(&key.digest),
            previous: key
                .previous()
                .filter(|previous| matches(&previous.0))
                .map(|previous| previous.1),
            policy: PolicyEvaluation::new(key, request.policy, request.info),
        }
    }

    /// Does as much work as a wrong secret causes.
    pub(super) fn match_dummy<I: RequestInfo>(&self, request: &CheckRequest<'_, I>) {
        if let Credential::Presented(presented) = request.credential {
            std::hint::black_box(self.loader.hasher.verify(presented.text(), &self.dummy));
        }
    }
}

/// Returns the key that a request is allowed with. `filled` are the templates of the route's scopes.
#[inline]
pub(super) fn allowed_key<I>(
    request: &CheckRequest<'_, I>,
    entry: &Arc<CachedKey>,
    is_superseded: bool,
    filled: FilledTemplates,
) -> AllowedKey {
    let earlier = request
        .earlier
        .filter(|earlier| earlier.allowed.key.id() == entry.id);
    let earlier = earlier.map(|earlier| earlier.allowed.key.required_scopes(earlier.scopes));
    let scopes = GuardScopes::of(request.policy.scopes, filled, earlier);
    AllowedKey::new(Arc::clone(entry), is_superseded, scopes)
}
