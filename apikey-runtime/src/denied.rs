//! Reasons to deny a request, in words that its client may read.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::limit::LimitStatus;
use crate::policy::ScopeExpr;
use crate::scope::Scopes;

/// Declares [`DenyReason`] from its table: the docs of each reason, and the content of its
/// response.
macro_rules! deny_reasons {
    ($(
        $(#[doc = $doc:literal])+
        $reason:ident: $status:literal, $code:literal, $title:literal, $detail:literal;
    )+) => {
        /// The reason why a request is denied.
        ///
        /// An unknown key, a malformed key, a wrong secret and a key of another environment share
        /// one reason, so that a client without the right secret learns nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DenyReason {$(
            $(#[doc = $doc])+
            #[doc = concat!("Status ", $status, ".")]
            $reason,
        )+}

        impl DenyReason {
            /// All reasons, in the order of their numbers.
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

/// The content of the response to a reason.
struct Row {
    status: u16,
    code: &'static str,
    title: &'static str,
    detail: &'static str,
}

// Each row has a reason, and the status, code, title and detail of its response.
deny_reasons! {
    /// The request does not have a key.
    MissingKey: 401, "missing-key", "API key required",
        "This resource requires an API key. Send one with the request.";
    /// The presented credential is not a key that this route accepts.
    InvalidKey: 401, "invalid-key", "Invalid API key",
        "The API key is not accepted here. Check that it is complete and meant for this service.";
    /// The key is correct but has expired.
    Expired: 401, "expired-key", "Expired API key",
        "The API key has expired. Ask for a new one.";
    /// The key is correct but not valid yet.
    NotYetValid: 401, "key-not-yet-valid", "API key not yet valid",
        "The API key is not valid yet. Try again later.";
    /// The key is correct but was not used for too long.
    Idle: 401, "idle-key", "Unused API key",
        "The API key was not used for too long. Its issuer can enable it again.";
    /// The key is correct but was revoked.
    Revoked: 401, "revoked-key", "Revoked API key",
        "The API key was revoked. Ask for a new one.";
    /// The key is correct but disabled.
    Disabled: 401, "disabled-key", "Disabled API key",
        "The API key is disabled. Ask its issuer.";
    /// The request has more than one key.
    MultipleKeys: 400, "multiple-keys", "More than one API key",
        "The request has more than one API key. Send one, in one place.";
    /// The request's credentials cannot be parsed: invalid percent-encoding, or an invalid body.
    MalformedRequest: 400, "malformed-request", "Malformed request",
        "The API key cannot be read from the request. Check how it is encoded.";
    /// The body exceeds the size up to which it is searched for a key.
    BodyTooLarge: 413, "body-too-large", "Body too large",
        "The body is too large to be searched for an API key. Send a smaller one.";
    /// The body did not arrive in time.
    BodyTimeout: 408, "body-timeout", "Body timeout",
        "The body with the API key did not arrive in time. Try again.";
    /// The body is to be searched for a key, and has a content encoding.
    UnsupportedContentEncoding: 415, "unsupported-content-encoding", "Unsupported content encoding",
        "The body with the API key is encoded. Send it without `Content-Encoding`.";
    /// The key may not be used from the client's address.
    AddressNotPermitted: 403, "address-not-permitted", "Address not permitted",
        "The API key may not be used from this address.";
    /// The key may not be used for the request's method.
    MethodNotPermitted: 403, "method-not-permitted", "Method not permitted for this API key",
        "The API key may not be used for this method here.";
    /// The key came in clear text, but the route requires TLS.
    HttpsRequired: 403, "https-required", "HTTPS required",
        "The API key was sent in clear text. Use HTTPS, and replace the key.";
    /// The key does not have the scopes that the route requires.
    InsufficientScope: 403, "insufficient-scope", "Insufficient scope",
        "The API key does not have the scope that this resource requires.";
    /// The key exceeded a rate, its own or the route's.
    RateLimited: 429, "rate-limited", "Too many requests",
        "The API key is used too fast. Wait as long as `Retry-After` says. Without `Retry-After`, the request costs more than the key may use at once.";
    /// The key has used up a quota.
    QuotaExceeded: 429, "quota-exceeded", "Quota exceeded",
        "The API key has used up a quota. Wait as long as `Retry-After` says. Without `Retry-After`, ask for a larger quota.";
    /// The client's address made too many failed attempts.
    TooManyFailedAttempts: 429, "too-many-failed-attempts", "Too many failed attempts",
        "Too many requests with invalid API keys came from this address. Wait as long as `Retry-After` says.";
    /// The request reached a guarded handler, but a manager is not installed.
    NoManager: 500, "no-manager", "Server misconfigured",
        "The server is not set up to check API keys here.";
    /// The route's policy cannot be evaluated; the log says what to fix.
    Misconfigured: 500, "misconfigured-route", "Server misconfigured",
        "The server is not set up to check API keys here.";
    /// The key store did not answer.
    StoreUnavailable: 503, "store-unavailable", "API keys cannot be checked now",
        "The server cannot check API keys at the moment. Try again shortly.";
}

impl DenyReason {
    /// Returns the status of the response.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// Returns the reason as a word for programs, such as `expired-key`: the last part of the
    /// problem's type, and the word in the log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Returns the reason as a short title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// Returns what the client can do.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        self.row().detail
    }
}

/// Serialises as its [code](DenyReason::code).
impl serde::Serialize for DenyReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A denied request, which an [error handler](crate::ApiKeyManagerBuilder::error_handler) turns
/// into a response.
#[derive(Debug, Clone)]
pub struct Denied {
    reason: DenyReason,
    required: DemandedScopes,
    retry: Option<Duration>,
    limits: Vec<LimitStatus>,
    /// Whether the credential is a secret of its key nevertheless.
    has_secret: bool,
    /// What the web framework adds for an error handler.
    web_extension: Option<Arc<dyn Any + Send + Sync>>,
}

/// The scopes that a denied key lacked.
#[derive(Debug, Clone)]
enum DemandedScopes {
    /// Those of the route's policy.
    Route(Option<ScopeExpr>),
    /// Those of the policy, and those that the request required besides.
    Both(Box<(Option<ScopeExpr>, Scopes)>),
}

impl Denied {
    pub(crate) fn new(reason: DenyReason) -> Self {
        Self {
            reason,
            required: DemandedScopes::Route(None),
            retry: None,
            limits: Vec::new(),
            has_secret: false,
            web_extension: None,
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

    pub(crate) fn with_secret(mut self) -> Self {
        self.has_secret = true;
        self
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.has_secret
    }

    pub(crate) fn requiring(mut self, scopes: Option<ScopeExpr>) -> Self {
        self.required = DemandedScopes::Route(scopes);
        self
    }

    pub(crate) fn requiring_all(mut self, scopes: &Scopes) -> Self {
        if let DemandedScopes::Route(route) = self.required {
            self.required = DemandedScopes::Both(Box::new((route, scopes.clone())));
        }
        self
    }

    pub(crate) fn set_web_extension(&mut self, extension: Arc<dyn Any + Send + Sync>) {
        self.web_extension = Some(extension);
    }

    pub(crate) fn web_extension<T: 'static>(&self) -> Option<&T> {
        self.web_extension.as_deref()?.downcast_ref()
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> DenyReason {
        self.reason
    }

    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reason.status()
    }

    /// Returns the scopes that the route or the check requires, for [`DenyReason::InsufficientScope`];
    /// without those under `not`.
    #[must_use]
    pub fn required_scopes(&self) -> Vec<&str> {
        let mut required = Vec::new();
        let (route, given) = match &self.required {
            DemandedScopes::Route(route) => (*route, None),
            DemandedScopes::Both(both) => (both.0, Some(&both.1)),
        };
        if let Some(scopes) = route {
            scopes.required(&mut required);
        }
        for scope in given.into_iter().flat_map(Scopes::iter) {
            if !required.contains(&scope) {
                required.push(scope);
            }
        }
        required
    }

    /// Returns how long to wait before the next attempt, if waiting helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            DenyReason::StoreUnavailable => Some(Duration::from_secs(1)),
            _ => self.retry,
        }
    }

    /// Returns the status of the limits, for [`DenyReason::RateLimited`] and
    /// [`DenyReason::QuotaExceeded`].
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
