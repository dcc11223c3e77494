//! What is asked, and what may be answered.

use crate::api_key::ApiKey;
use crate::cache::Asked;
use crate::clock::ClockReading;
use crate::denied::{Denied, DenyReason};
use crate::key::{IdText, KeyId, ParsedDigest, ParsedKey};
use crate::limiter::Line;
use crate::policy::{KeyLocation, Policy};
use crate::usage::Noted;

/// What one request asks. Generic over the caller, so that a question without a request can be
/// asked from any thread.
pub(crate) struct Question<'a, C> {
    pub(crate) claim: Claim<'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) caller: &'a C,
    /// What another gate decided earlier in the same request, for this manager.
    /// A function, and no closure: the question can be asked from any thread where its caller can.
    pub(crate) known: fn(&C) -> Option<Admitted>,
}

/// Nothing was decided earlier.
pub(crate) fn nothing_known<C>(_: &C) -> Option<Admitted> {
    None
}

/// Which key the caller claims to have, and what proves it.
#[derive(Clone, Copy)]
pub(crate) enum Claim<'a> {
    /// The key itself.
    Text(ParsedKey<'a>),
    /// The key was proven earlier in this request, and is no longer in it.
    Proven(&'a Proof),
}

/// What is left of a key that was proven and then taken out of the request.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) id: KeyId,
    pub(crate) prefix: Box<str>,
    /// The digest that the key matched.
    pub(crate) digest: ParsedDigest,
    /// Where the key was found; `None` for where the configuration says.
    pub(crate) place: Option<KeyLocation<'static>>,
}

/// A key that may pass.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) key: ApiKey,
    /// How the store was asked, where it was for this decision.
    pub(crate) read: Option<Asked>,
    /// When it was decided.
    pub(crate) at: ClockReading,
    /// The limits that the request was counted against.
    pub(crate) bill: Vec<Line>,
    /// Where it counts as usage, once it does.
    pub(crate) noted: Option<Noted>,
}

/// A decision that could be made at once, or not.
pub(crate) enum Now {
    Decided(Result<Admitted, Denied>),
    /// The store has to be asked: [`Verifier::decide_late`](super::Verifier::decide_late).
    Ask(Why),
}

/// Why the store has to be asked.
#[derive(Debug)]
pub(crate) enum Why {
    /// Memory refuses the key, and a newer record could turn that.
    Refused,
    /// Memory has nothing that may be believed, or may not be asked.
    Unknown,
    /// Memory admits the key, whose limits the store counts. What is to be charged is in the bill.
    Charge(Box<Admitted>),
}

/// What memory says of a key.
pub(super) enum Memory {
    Allow(ApiKey, ClockReading),
    Refuse(DenyReason),
    Nothing,
}

impl Admitted {
    pub(super) fn of(key: ApiKey, read: Option<Asked>, at: ClockReading) -> Self {
        Self {
            key,
            read,
            at,
            bill: Vec::new(),
            noted: None,
        }
    }
}

impl Claim<'_> {
    pub(super) fn id(&self) -> IdText<'_> {
        match self {
            Self::Text(key) => key.id(),
            Self::Proven(proof) => proof.id.as_text(),
        }
    }
}
