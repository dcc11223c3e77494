//! Why a request is refused, in the words that its client may read.

use std::time::Duration;

use crate::limit::LimitRule;
use crate::policy::ScopeExpr;

/// Why a request is refused.
///
/// An unknown key, a malformed one, a wrong secret and a key of another family are one reason, so
/// that who has not the right secret learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenyReason {
    /// No key came with the request. 401.
    MissingKey,
    /// What came is no key that this route accepts. 401.
    InvalidKey,
    /// The key is right and its time is over. 401.
    Expired,
    /// The key is right and its time has not come. 401.
    NotYetValid,
    /// The key is right and was revoked. 401.
    Revoked,
    /// The key is right and is switched off. 401.
    Disabled,
    /// More than one key came with the request. 400.
    MultipleKeys,
    /// The request's credentials cannot be read: a broken percent-encoding, a broken body. 400.
    MalformedRequest,
    /// The body is longer than a body is read in which a key is looked for. 413.
    BodyTooLarge,
    /// The body did not come in time. 408.
    BodyTimeout,
    /// The body is compressed, and a key is looked for in it. 415.
    UnsupportedContentEncoding,
    /// The key may not be used from the client's address. 403.
    AddressNotPermitted,
    /// The key is not good for the request's method. 403.
    MethodNotPermitted,
    /// The key came in clear text where the route demands TLS. 403.
    HttpsRequired,
    /// The key does not hold the scopes that the route demands. 403.
    InsufficientScope,
    /// The key, or the key on this route, is used too fast. 429.
    RateLimited,
    /// The key has used up a quota. 429.
    QuotaExceeded,
    /// The client's address has shown too many keys that are none. 429.
    TooManyFailedAttempts,
    /// The request reached a guarded handler and no manager was found. 500.
    NoManager,
    /// The route's demand cannot be judged; the log says what to mend. 500.
    Misconfigured,
    /// The key store gave no answer. 503.
    StoreUnavailable,
}

impl DenyReason {
    /// All of them.
    pub(crate) const ALL: [Self; 21] = [
        Self::MissingKey,
        Self::InvalidKey,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::Disabled,
        Self::MultipleKeys,
        Self::MalformedRequest,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::UnsupportedContentEncoding,
        Self::AddressNotPermitted,
        Self::MethodNotPermitted,
        Self::HttpsRequired,
        Self::InsufficientScope,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::TooManyFailedAttempts,
        Self::NoManager,
        Self::Misconfigured,
        Self::StoreUnavailable,
    ];

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::MultipleKeys | Self::MalformedRequest => 400,
            Self::MissingKey
            | Self::InvalidKey
            | Self::Expired
            | Self::NotYetValid
            | Self::Revoked
            | Self::Disabled => 401,
            Self::AddressNotPermitted
            | Self::MethodNotPermitted
            | Self::HttpsRequired
            | Self::InsufficientScope => 403,
            Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UnsupportedContentEncoding => 415,
            Self::RateLimited | Self::QuotaExceeded | Self::TooManyFailedAttempts => 429,
            Self::NoManager | Self::Misconfigured => 500,
            Self::StoreUnavailable => 503,
        }
    }

    /// The reason as one word for programs, such as `expired`: the last part of the problem's type,
    /// and what the log says.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingKey => "missing-key",
            Self::InvalidKey => "invalid-key",
            Self::Expired => "expired-key",
            Self::NotYetValid => "key-not-yet-valid",
            Self::Revoked => "revoked-key",
            Self::Disabled => "disabled-key",
            Self::MultipleKeys => "multiple-keys",
            Self::MalformedRequest => "malformed-request",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::UnsupportedContentEncoding => "unsupported-content-encoding",
            Self::AddressNotPermitted => "address-not-permitted",
            Self::MethodNotPermitted => "method-not-permitted",
            Self::HttpsRequired => "https-required",
            Self::InsufficientScope => "insufficient-scope",
            Self::RateLimited => "rate-limited",
            Self::QuotaExceeded => "quota-exceeded",
            Self::TooManyFailedAttempts => "too-many-failed-attempts",
            Self::NoManager => "no-manager",
            Self::Misconfigured => "misconfigured-route",
            Self::StoreUnavailable => "store-unavailable",
        }
    }

    /// The reason as a short title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::MissingKey => "API key required",
            Self::InvalidKey => "Invalid API key",
            Self::Expired => "Expired API key",
            Self::NotYetValid => "API key not yet valid",
            Self::Revoked => "Revoked API key",
            Self::Disabled => "Disabled API key",
            Self::MultipleKeys => "More than one API key",
            Self::MalformedRequest => "Malformed request",
            Self::BodyTooLarge => "Body too long",
            Self::BodyTimeout => "Body too slow",
            Self::UnsupportedContentEncoding => "Encoded body",
            Self::AddressNotPermitted => "Address not allowed",
            Self::MethodNotPermitted => "Method not allowed for this API key",
            Self::HttpsRequired => "TLS required",
            Self::InsufficientScope => "Insufficient scope",
            Self::RateLimited => "Too many requests",
            Self::QuotaExceeded => "Quota used up",
            Self::TooManyFailedAttempts => "Too many failed attempts",
            Self::NoManager | Self::Misconfigured => "Server misconfigured",
            Self::StoreUnavailable => "API keys cannot be checked now",
        }
    }

    /// What the client can do about it.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::MissingKey => {
                "This resource needs an API key, and the request has none where it is looked for."
            }
            Self::InvalidKey => {
                "The API key is not accepted here. Check that it is complete and meant for this service."
            }
            Self::Expired => "The API key has expired. Ask for a new one.",
            Self::NotYetValid => "The API key is not valid yet. Try again later.",
            Self::Revoked => "The API key was revoked. Ask for a new one.",
            Self::Disabled => "The API key is switched off. Ask its issuer.",
            Self::MultipleKeys => "The request has more than one API key. Send one, in one place.",
            Self::MalformedRequest => {
                "The API key cannot be read from the request. Check how it is encoded."
            }
            Self::BodyTooLarge => "The body is too long to be searched for an API key. Send less.",
            Self::BodyTimeout => "The body with the API key did not come in time. Try again.",
            Self::UnsupportedContentEncoding => {
                "The body with the API key is encoded. Send it as it is."
            }
            Self::AddressNotPermitted => "The API key may not be used from this address.",
            Self::MethodNotPermitted => "The API key is not good for this method here.",
            Self::HttpsRequired => {
                "The API key came in clear text. Use https, and replace the key."
            }
            Self::InsufficientScope => {
                "The API key does not have the scope that this resource needs."
            }
            Self::RateLimited => {
                "The API key is used too fast. Wait as long as `Retry-After` says, and send less; where it says nothing, the request costs more than the key may ever use at once."
            }
            Self::QuotaExceeded => {
                "The API key has used up what it may use. Wait as long as `Retry-After` says; where it says nothing, ask for more."
            }
            Self::TooManyFailedAttempts => {
                "Too many requests with wrong API keys came from this address. Wait as long as `Retry-After` says."
            }
            Self::NoManager | Self::Misconfigured => {
                "The server is not set up to check API keys here."
            }
            Self::StoreUnavailable => {
                "The server cannot check API keys at the moment. Try again shortly."
            }
        }
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
    wanted: Option<ScopeExpr>,
    retry: Option<Duration>,
    limits: Vec<LimitStatus>,
}

/// How a limit stands that a request was counted against.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LimitStatus {
    /// The limit's name; for that of a route the handler's name or the route's pattern.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub rule: LimitRule,
    /// How many units could still pass at once.
    pub remaining: u64,
    /// After what time all of it is there again; `None` for never. Serialised as whole seconds,
    /// rounded up.
    #[serde(serialize_with = "as_seconds")]
    pub reset: Option<Duration>,
}

fn as_seconds<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    serde::Serialize::serialize(&seconds, serializer)
}

impl Denied {
    pub(crate) fn new(reason: DenyReason) -> Self {
        Self {
            reason,
            wanted: None,
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

    pub(crate) fn wanting(mut self, scopes: Option<ScopeExpr>) -> Self {
        self.wanted = scopes;
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
        let mut wanted = Vec::new();
        if let Some(scopes) = self.wanted {
            scopes.wanted(&mut wanted);
        }
        wanted
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
