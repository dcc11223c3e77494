//! Decisions from the cache.

use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::Arc;

use super::evaluate::{DigestMatch, Evaluation, is_overturnable};
use super::request::{CachedDecision, CachedDenial};
use super::{CheckRequest, Credential, DeferReason, FastPath, Verifier};
use crate::api_key::AllowedKey;
use crate::cache::CachedKey;
use crate::clock::ClockReading;
use crate::denied::{Denied, DenyReason};
use crate::key::{ParsedDigest, ParsedKey};
use crate::policy::{GuardScopes, RequestInfo};

impl Verifier {
    /// Evaluates a decision of the cache that is not to allow the key.
    pub(super) fn evaluate_denial<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        decision: CachedDecision,
    ) -> FastPath {
        match decision {
            CachedDecision::StillInvalid(at) => {
                FastPath::Decided(Err(self.deny_again(request, at)))
            }
            CachedDecision::Deny(reason, denial) if is_overturnable(reason) => {
                FastPath::Deferred(DeferReason::RecheckDenial(denial))
            }
            CachedDecision::Deny(reason, _) => FastPath::Decided(Err(self.deny(request, reason))),
            // An entry that allows the key is not passed to this function.
            CachedDecision::Allow(..) | CachedDecision::Miss => {
                FastPath::Deferred(DeferReason::CacheMiss)
            }
        }
    }

    /// Denies an invalid key without the store: as the store's help does, the denial counts against the client's
    /// address, and a blocked client learns that it is blocked.
    fn deny_again<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        at: ClockReading,
    ) -> Denied {
        if let Err(blocked) = self.reject_if_blocked(request, || at) {
            return blocked;
        }
        let denied = self.deny(request, DenyReason::InvalidKey);
        self.record_failure(request, &denied, || at);
        denied
    }

    /// Looks the credential up in the cache, unless the policy demands that the store is read.
    ///
    /// # Errors
    ///
    /// Returns the denial if the credential does not have the form of a key, or has a wrong checksum: a typo never
    /// reaches the store.
    #[inline]
    pub(super) fn check_cache_and_form<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
    ) -> Result<CachedDecision, Denied> {
        let decision = match request.policy.fresh {
            true => CachedDecision::Miss,
            false => self.check_cache(request, None),
        };
        match &request.credential {
            Credential::Presented(presented)
                if decision.may_be_malformed() && !presented.is_correct() =>
            {
                // A known id costs a comparison too.
                if matches!(decision, CachedDecision::Miss) {
                    self.match_dummy(request);
                }
                Err(self.deny_malformed(request.policy))
            }
            _ => Ok(decision),
        }
    }

    /// Looks the credential up in the cache. `earlier` is a denial of the same credential: it is compared again only
    /// if the entry is another one by now.
    pub(super) fn check_cache<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        earlier: Option<&CachedDenial>,
    ) -> CachedDecision {
        let cache = &self.loader.cache;
        let decision = cache.peek(request.credential.id(), |entry| {
            let matched = match earlier {
                Some(denial) if Arc::ptr_eq(&denial.entry, entry) => denial.matched,
                _ => self.match_digest(request, entry),
            };
            let evaluation = Evaluation::new(entry, matched, request.policy, request.info);
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
            match evaluation.decide(now, changes) {
                Ok(()) => CachedDecision::Allow(allowed_key(request, entry, evaluation), now),
                Err(reason) => {
                    let mark = match matched.is_secret(now.now) {
                        true => None,
                        false => self.mark(request),
                    };
                    if mark.is_some_and(|mark| entry.was_refused(mark)) {
                        return CachedDecision::StillInvalid(now);
                    }
                    let entry = Arc::clone(entry);
                    let denial = CachedDenial {
                        entry,
                        matched,
                        mark,
                    };
                    CachedDecision::Deny(reason, denial)
                }
            }
        });
        if let Some(decision) = decision {
            return decision;
        }
        let now = self.shared.now();
        if !cache.knows_unknown(&request.credential.id().to_id(), now) {
            return CachedDecision::Miss;
        }
        self.match_dummy(request);
        CachedDecision::StillInvalid(now)
    }

    /// Returns the mark of the presented text; `None` if the text was taken out of the request. Of two texts with one
    /// mark, each is compared with the digests before its mark counts, so neither is taken for a secret or against one.
    fn mark<I: RequestInfo>(&self, request: &CheckRequest<'_, I>) -> Option<NonZeroU64> {
        match &request.credential {
            Credential::Presented(presented) => {
                NonZeroU64::new(self.marks.hash_one(presented.bytes()))
            }
            Credential::AlreadyVerified(_) => None,
        }
    }

    /// Compares the credential with the record's digests, in constant time.
    pub(super) fn match_digest<I: RequestInfo>(
        &self,
        request: &CheckRequest<'_, I>,
        key: &CachedKey,
    ) -> DigestMatch {
        let matches = |digest: &ParsedDigest| match request.credential {
            Credential::Presented(presented) => self.has_digest(&presented, digest),
            Credential::AlreadyVerified(credential) => credential.digest.is(digest),
        };
        let current = matches(&key.digest);
        let previous = key.previous().filter(|previous| matches(&previous.0));
        match previous {
            _ if current => DigestMatch::Current,
            Some((_, until)) => DigestMatch::Previous(*until),
            None => DigestMatch::Nothing,
        }
    }

    /// Does as much work as a wrong secret causes.
    pub(super) fn match_dummy<I: RequestInfo>(&self, request: &CheckRequest<'_, I>) {
        if let Credential::Presented(presented) = request.credential {
            std::hint::black_box(self.has_digest(&presented, &self.dummy));
        }
    }

    #[inline]
    fn has_digest(&self, presented: &ParsedKey<'_>, digest: &ParsedDigest) -> bool {
        match &self.sha256 {
            Some(hasher) => hasher.matches(presented.bytes(), digest),
            None => self.loader.hasher.verify(presented.text(), digest),
        }
    }
}

impl CachedDecision {
    /// Returns whether the credential may be a text that is not a key, if its form was not checked. A digest that
    /// matches is that of a key.
    fn may_be_malformed(&self) -> bool {
        match self {
            Self::StillInvalid(_) | Self::Miss => true,
            Self::Deny(_, denial) => denial.is_of_wrong_secret(),
            Self::Allow(..) => false,
        }
    }
}

impl CachedDenial {
    /// Returns whether the credential matches none of the record's digests, whatever the time.
    fn is_of_wrong_secret(&self) -> bool {
        self.matched == DigestMatch::Nothing
    }

    /// Notes a text that is not a secret of its key, or not any more, by a poll that began after it was presented.
    pub(super) fn note_refused(&self) {
        if let Some(mark) = self.mark {
            self.entry.note_refused(mark);
        }
    }
}

/// Returns the key that a request is allowed with.
#[inline]
pub(super) fn allowed_key<I: RequestInfo>(
    request: &CheckRequest<'_, I>,
    entry: &Arc<CachedKey>,
    evaluation: Evaluation<'_>,
) -> AllowedKey {
    let is_superseded = evaluation.matched != DigestMatch::Current;
    let filled = evaluation.policy.into_filled();
    let earlier = request
        .earlier
        .filter(|earlier| earlier.allowed.key.id() == entry.id);
    let earlier = earlier.map(|earlier| earlier.allowed.key.required_scopes(earlier.scopes));
    let given = request.info.required_scopes();
    let scopes = GuardScopes::of(request.policy.scopes, filled, given, earlier);
    AllowedKey::new(Arc::clone(entry), is_superseded, scopes)
}
