//! The input of a check, and its results.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::evaluate::DigestMatch;
use crate::api_key::AllowedKey;
use crate::cache::{CachedKey, ReadStamp};
use crate::clock::ClockReading;
use crate::denied::{Denied, DenyReason};
use crate::key::{IdText, KeyId, ParsedDigest, ParsedKey};
use crate::limiter::AppliedLimit;
use crate::policy::{KeyLocation, Policy, ScopeExpr};
use crate::usage::UsageEntry;

/// One check: a credential against a route's policy. Generic over the request, so that a check
/// without a request can be made from any thread.
pub(crate) struct CheckRequest<'a, I> {
    pub(crate) credential: Credential<'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) info: &'a I,
    /// What an earlier guard of the same request, with the same manager, allowed.
    pub(crate) earlier: Option<&'a EarlierGuard>,
}

/// What an earlier guard of a request allowed.
pub(crate) struct EarlierGuard {
    pub(crate) allowed: Allowed,
    /// The scopes of its policy.
    pub(crate) scopes: Option<ScopeExpr>,
}

/// The credential of a request.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// A key that the request presents.
    Presented(ParsedKey<'a>),
    /// A key that an earlier guard verified and took out of the request.
    AlreadyVerified(&'a VerifiedCredential),
}

/// What remains of a key that was verified and then taken out of the request.
#[derive(Debug)]
pub(crate) struct VerifiedCredential {
    pub(crate) id: KeyId,
    pub(crate) prefix: Box<str>,
    /// The digest that the key matched.
    pub(crate) digest: ParsedDigest,
    /// The location of the key; `None` stands for the configured one.
    pub(crate) location: Option<KeyLocation<'static>>,
}

/// A key that was allowed.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    pub(crate) key: AllowedKey,
    /// The read that this decision rests on, if the store was read for it. Boxed, because a decision from
    /// the cache is moved often, and has none.
    pub(crate) read: Option<Box<ReadStamp>>,
    /// The time of the decision.
    pub(crate) at: ClockReading,
    /// The limits that the request was charged against.
    pub(crate) applied: Vec<AppliedLimit>,
    /// The usage entry that counts this request, once it is counted.
    pub(crate) usage_entry: Option<UsageEntry>,
}

/// The result of a check that does not wait.
pub(crate) enum FastPath {
    Decided(Result<Allowed, Denied>),
    /// The store is needed: see [`Verifier::check`](super::Verifier::check).
    Deferred(DeferReason),
}

/// Why a check needs the store.
#[derive(Debug)]
pub(crate) enum DeferReason {
    /// The cache denies the key, and a newer record could allow it.
    RecheckDenial(CachedDenial),
    /// The cache does not have an entry that may be trusted, or may not be used.
    CacheMiss,
    /// The cache allows the key, and the store counts its limits.
    ChargeInStore(Box<Allowed>),
}

/// What a denial by the cache rests on.
#[derive(Debug)]
pub(crate) struct CachedDenial {
    pub(super) entry: Arc<CachedKey>,
    pub(super) matched: DigestMatch,
    /// The mark of the presented text, if that was not a secret of the key.
    pub(super) mark: Option<NonZeroU64>,
}

/// What the cache says of a key.
pub(super) enum CachedDecision {
    Allow(AllowedKey, ClockReading),
    Deny(DenyReason, CachedDenial),
    /// A denial as invalid that holds without a poll: the same text was denied after one, or the store was asked
    /// for the id and did not know it.
    StillInvalid(ClockReading),
    Miss,
}

impl Allowed {
    #[inline]
    pub(super) fn new(key: AllowedKey, read: Option<ReadStamp>, at: ClockReading) -> Self {
        Self {
            key,
            read: read.map(Box::new),
            at,
            applied: Vec::new(),
            usage_entry: None,
        }
    }

    /// Returns the number of rotations that created the secret.
    #[inline]
    pub(super) fn rotations(&self) -> u64 {
        let present = self.key.record().rotations();
        present.saturating_sub(u64::from(self.key.is_superseded()))
    }
}

impl Credential<'_> {
    pub(super) fn id(&self) -> IdText<'_> {
        match self {
            Self::Presented(key) => key.id(),
            Self::AlreadyVerified(credential) => credential.id.as_text(),
        }
    }
}

impl<I> CheckRequest<'_, I> {
    /// Returns what an earlier guard allowed, if it is about the key of this id.
    pub(super) fn earlier_for(&self, id: KeyId) -> Option<&Allowed> {
        let earlier = self.earlier.map(|earlier| &earlier.allowed);
        earlier.filter(|earlier| earlier.key.id() == id)
    }
}
