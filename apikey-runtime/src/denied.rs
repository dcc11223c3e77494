//! Why a request is refused, in the words that its client may read.

use std::time::Duration;

use crate::limit::LimitStatus;
use crate::policy::ScopeExpr;

/// Declares [`DenyReason`] from its table: for each reason its docs, and what its response says.
macro_rules! deny_reasons {
    ($(
        $(#[doc = $doc:literal])+
        $reason:ident: $status:literal, $code:literal, $title:literal, $detail:literal;
    )+) => {
        /// Why a request is refused.
        ///
        /// An unknown key, a malformed one, a wrong secret and a key of another family are one
        /// reason, so that who has not the right secret learns nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DenyReason {$(
            $(#[doc = $doc])+
            #[doc = concat!("Status ", $status, ".")]
            $reason,
        )+}

        impl DenyReason {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: [Self; [$($code),+].len()] = [$(Self::$reason),+];

            const fn row(self) -> Row {
                match self {$(
                    Self::$reason => Row {
                        status: $status,
                        code: $code,
                        title: $title,
                        detail: $detail,
                    },
                )+}
            }
        }
    };
}

/// What the response to one reason says.
struct Row {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
}

// Each row: the reason, and the status, code, title and detail of its response.
deny_reasons! {
    /// No key came with the request.
    MissingKey: 401, "missing-key", "API key required",
        "This resource needs an API key, and the request has none where it is looked for.";
    /// What came is no key that this route accepts.
    InvalidKey: 401, "invalid-key", "Invalid API key",
        "The API key is not accepted here. Check that it is complete and meant for this service.";
    /// The key is right and its time is over.
    Expired: 401, "expired-key", "Expired API key",
        "The API key has expired. Ask for a new one.";
    /// The key is right and its time has not come.
    NotYetValid: 401, "key-not-yet-valid", "API key not yet valid",
        "The API key is not valid yet. Try again later.";
    /// The key is right and was revoked.
    Revoked: 401, "revoked-key", "Revoked API key",
        "The API key was revoked. Ask for a new one.";
    /// The key is right and is switched off.
    Disabled: 401, "disabled-key", "Disabled API key",
        "The API key is switched off. Ask its issuer.";
    /// More than one key came with the request.
    MultipleKeys: 400, "multiple-keys", "More than one API key",
        "The request has more than one API key. Send one, in one place.";
    /// The request's credentials cannot be read: a broken percent-encoding, a broken body.
    MalformedRequest: 400, "malformed-request", "Malformed request",
        "The API key cannot be read from the request. Check how it is encoded.";
    /// The body is longer than a body is read in which a key is looked for.
    BodyTooLarge: 413, "body-too-large", "Body too long",
        "The body is too long to be searched for an API key. Send less.";
    /// The body did not come in time.
    BodyTimeout: 408, "body-timeout", "Body too slow",
        "The body with the API key did not come in time. Try again.";
    /// The body is compressed, and a key is looked for in it.
    UnsupportedContentEncoding: 415, "unsupported-content-encoding", "Encoded body",
        "The body with the API key is encoded. Send it as it is.";
    /// The key may not be used from the client's address.
    AddressNotPermitted: 403, "address-not-permitted", "Address not allowed",
        "The API key may not be used from this address.";
    /// The key is not good for the request's method.
    MethodNotPermitted: 403, "method-not-permitted", "Method not allowed for this API key",
        "The API key is not good for this method here.";
    /// The key came in clear text where the route demands TLS.
    HttpsRequired: 403, "https-required", "TLS required",
        "The API key came in clear text. Use https, and replace the key.";
    /// The key does not hold the scopes that the route demands.
    InsufficientScope: 403, "insufficient-scope", "Insufficient scope",
        "The API key does not have the scope that this resource needs.";
    /// The key, or the key on this route, is used too fast.
    RateLimited: 429, "rate-limited", "Too many requests",
        "The API key is used too fast. Wait as long as `Retry-After` says, and send less; where it says nothing, the request costs more than the key may ever use at once.";
    /// The key has used up a quota.
    QuotaExceeded: 429, "quota-exceeded", "Quota used up",
        "The API key has used up what it may use. Wait as long as `Retry-After` says; where it says nothing, ask for more.";
    /// The client's address has shown too many keys that are none.
    TooManyFailedAttempts: 429, "too-many-failed-attempts", "Too many failed attempts",
        "Too many requests with wrong API keys came from this address. Wait as long as `Retry-After` says.";
    /// The request reached a guarded handler and no manager was found.
    NoManager: 500, "no-manager", "Server misconfigured",
        "The server is not set up to check API keys here.";
    /// The route's demand cannot be judged; the log says what to mend.
    Misconfigured: 500, "misconfigured-route", "Server misconfigured",
        "The server is not set up to check API keys here.";
    /// The key store gave no answer.
    StoreUnavailable: 503, "store-unavailable", "API keys cannot be checked now",
        "The server cannot check API keys at the moment. Try again shortly.";
}

impl DenyReason {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// The reason as one word for programs, such as `expired-key`: the last part of the problem's type,
    /// and what the log says.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The reason as a short title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// What the client can do about it.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        self.row().detail
    }
}

/// As its [code](DenyReason::code).
impl serde::Serialize for DenyReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A refusal: what an [error handler](crate::ApiKeyManagerBuilder::error_handler) makes a response
/// of.
#[derive(Debug, Clone)]
pub struct Denied {
    reason: DenyReason,
    required: Option<ScopeExpr>,
    retry: Option<Duration>,
    limits: Vec<LimitStatus>,
}

impl Denied {
    pub(crate) fn new(reason: DenyReason) -> Self {
        Self {
            reason,
            required: None,
            retry: None,
            limits: Vec::new(),
        }
    }

    pub(crate) fn retrying(mut self, after: Option<Duration>) -> Self {
        self.retry = after;
        self
    }

    pub(crate) fn with_limits(mut self, limits: Vec<LimitStatus>) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn requiring(mut self, scopes: Option<ScopeExpr>) -> Self {
        self.required = scopes;
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> DenyReason {
        self.reason
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reason.status()
    }

    /// The scopes that the route demands, for [`DenyReason::InsufficientScope`]; those under `not`
    /// are left out.
    #[must_use]
    pub fn required_scopes(&self) -> Vec<&'static str> {
        let mut required = Vec::new();
        if let Some(scopes) = self.required {
            scopes.required(&mut required);
        }
        required
    }

    /// After what time a client may try again, where waiting helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            DenyReason::StoreUnavailable => Some(Duration::from_secs(1)),
            _ => self.retry,
        }
    }

    /// How the limits stand, for [`DenyReason::RateLimited`] and [`DenyReason::QuotaExceeded`].
    #[must_use]
    pub fn limits(&self) -> &[LimitStatus] {
        &self.limits
    }
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason.title())
    }
}

impl std::error::Error for Denied {}
