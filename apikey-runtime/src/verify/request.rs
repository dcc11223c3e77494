//! What is asked, and what may be answered.

use crate::api_key::ApiKey;
use crate::cache::ReadStamp;
use crate::clock::ClockReading;
use crate::denied::{Denied, DenyReason};
use crate::key::{IdText, KeyId, ParsedDigest, ParsedKey};
use crate::limiter::AppliedLimit;
use crate::policy::{KeyLocation, Policy};
use crate::usage::UsageEntry;

/// What one request asks. Generic over the caller, so that a question without a request can be
/// asked from any thread.
pub(crate) struct CheckRequest<'a, C> {
    pub(crate) credential: Credential<'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) info: &'a C,
    /// What another gate decided earlier in the same request, for this manager.
    /// A function, and no closure: the question can be asked from any thread where its caller can.
    pub(crate) earlier: fn(&C) -> Option<Allowed>,
}

/// Nothing was decided earlier.
pub(crate) fn no_earlier_check<C>(_: &C) -> Option<Allowed> {
    None
}

/// Which key the caller claims to have, and what proves it.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// The key itself.
    Presented(ParsedKey<'a>),
    /// The key was proven earlier in this request, and is no longer in it.
    AlreadyVerified(&'a VerifiedCredential),
}

/// What is left of a key that was proven and then taken out of the request.
#[derive(Debug)]
pub(crate) struct VerifiedCredential {
    pub(crate) id: KeyId,
    pub(crate) prefix: Box<str>,
    /// The digest that the key matched.
    pub(crate) digest: ParsedDigest,
    /// Where the key was found; `None` for where the configuration says.
    pub(crate) place: Option<KeyLocation<'static>>,
}

/// A key that may pass.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    pub(crate) key: ApiKey,
    /// How the store was asked, where it was for this decision.
    pub(crate) read: Option<ReadStamp>,
    /// When it was decided.
    pub(crate) at: ClockReading,
    /// The limits that the request was counted against.
    pub(crate) applied: Vec<AppliedLimit>,
    /// Where it counts as usage, once it does.
    pub(crate) usage_entry: Option<UsageEntry>,
}

/// A decision that could be made at once, or not.
pub(crate) enum FastPath {
    Decided(Result<Allowed, Denied>),
    /// The store has to be asked: [`Verifier::check`](super::Verifier::check).
    Deferred(DeferReason),
}

/// DeferReason the store has to be asked.
#[derive(Debug)]
pub(crate) enum DeferReason {
    /// CachedDecision refuses the key, and a newer record could turn that.
    RecheckDenial,
    /// CachedDecision has nothing that may be believed, or may not be asked.
    CacheMiss,
    /// CachedDecision admits the key, whose limits the store counts. What is to be charged is in the bill.
    ChargeInStore(Box<Allowed>),
}

/// What memory says of a key.
pub(super) enum CachedDecision {
    Allow(ApiKey, ClockReading),
    Deny(DenyReason),
    Miss,
}

impl Allowed {
    pub(super) fn of(key: ApiKey, read: Option<ReadStamp>, at: ClockReading) -> Self {
        Self {
            key,
            read,
            at,
            applied: Vec::new(),
            usage_entry: None,
        }
    }
}

impl Credential<'_> {
    pub(super) fn id(&self) -> IdText<'_> {
        match self {
            Self::Presented(key) => key.id(),
            Self::AlreadyVerified(proof) => proof.id.as_text(),
        }
    }
}
