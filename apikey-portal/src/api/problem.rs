//! Errors of the API, as problem details (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, Denied, Error, KeyId, Policy};
use serde_json::{Map, Value, json};

use crate::error::{Chain, PageError};
use crate::may::Refusal;

/// Why a request to the API failed.
///
/// The body does not have anything that two equal requests do not share: a path, an id, a time. So a key that is not the
/// caller's is answered byte for byte as one that does not exist. The exception is a repeated creation, which names the
/// caller's own key.
#[derive(Debug)]
pub(super) struct ApiError(Box<Problem>);

#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
    /// Further members of the body.
    members: Map<String, Value>,
    headers: HeaderMap,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Problem {
            status,
            code,
            title,
            detail: detail.into(),
            members: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the answer to a request whose key is denied, or missing.
    pub(super) fn denied(denied: &Denied, manager: &ApiKeyManager, policy: &Policy) -> Self {
        let reason = denied.reason();
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut error = Self::new(status, reason.code(), reason.title(), reason.detail());
        error.0.headers = denied.headers(manager, policy);
        error
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            "This does not exist, or you may not see it.",
        )
    }

    pub(super) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// Returns the answer to a body that cannot be read.
    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed-request",
            "Not understood",
            detail,
        )
    }

    /// Returns the answer to a body or a query that can be read, and not used.
    pub(super) fn unusable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unusable-value",
            "Not usable",
            detail,
        )
    }

    /// Returns the answer to a creation that was made before.
    pub(super) fn created_before(id: Option<KeyId>) -> Self {
        let detail = "This request created a key before. Its secret was in that answer alone; rotate the key to get another.";
        let title = "Already created";
        let error = Self::new(StatusCode::CONFLICT, "already-created", title, detail);
        match id {
            Some(id) => error.with_member("key_id", id.as_str()),
            None => error,
        }
    }

    /// Returns the answer to a key that wants to give out or prolong one that ends later.
    pub(super) fn outlives() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "ends-too-late",
            "Not allowed",
            "A key cannot give out or prolong one that ends later than itself. Choose an earlier end, or ask a person.",
        )
    }

    /// Returns the answer to a key that wants to make, or give something to, one that is less restricted.
    pub(super) fn less_restricted() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "less-restricted",
            "Not allowed",
            "A key gives nothing to one of another environment, or with networks or methods that it does not have itself. Choose at most its own, or ask a person.",
        )
    }

    /// Returns the answer to a change with a secret that a rotation superseded.
    pub(super) fn superseded() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "superseded-secret",
            "Not allowed",
            "This key has a new secret, and the old one only reads. Send the new one.",
        )
    }

    pub(super) fn precondition_failed() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "version-changed",
            "Changed meanwhile",
            "The key has another version than `If-Match` names. Read it again, and decide again.",
        )
    }

    fn conflict(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Conflict", detail)
    }

    pub(super) fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Not available now",
            "The keys cannot be read or changed at the moment. Try again shortly.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from(1))
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal-error",
            "Internal error",
            "The server cannot complete the request. Its operator finds the reason in the log.",
        )
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let problem = &*self.0;
        let mut response = HttpResponse::build(problem.status);
        for (name, value) in &problem.headers {
            response.append_header((name, value));
        }
        let mut body = problem.members.clone();
        let kind = format!("urn:problem-type:api-key:{}", problem.code);
        body.insert("type".to_owned(), kind.into());
        body.insert("title".to_owned(), problem.title.into());
        body.insert("status".to_owned(), problem.status.as_u16().into());
        body.insert("detail".to_owned(), json!(problem.detail));
        response
            .content_type("application/problem+json")
            .body(Value::Object(body).to_string())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.title)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::not_found(),
            Refusal::Forbidden => {
                Self::forbidden("Your role does not allow this. An administrator can do it.")
            }
            Refusal::Scopes => Self::new(
                StatusCode::FORBIDDEN,
                "scopes-not-held",
                "Not allowed",
                "The key has, or would get, scopes that you may not give. Somebody who may give all of them can do it.",
            ),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) | Error::OwnerNotFound(_) => Self::not_found(),
            Error::Conflict(_) => Self::conflict(
                "conflict",
                "The key was changed meanwhile. Read it again, and decide again.",
            ),
            Error::Revoked(_) => Self::conflict(
                "revoked",
                "The key is permanently revoked. Create a new one.",
            ),
            Error::InvalidArgument(why) => Self::unusable(why),
            Error::Policy(violation) => {
                let detail = violation.to_string();
                let title = "A rule for API keys does not permit this";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "policy", title, detail)
                    .with_member("rule", violation.code())
            }
            Error::Unsupported(_) => {
                tracing::warn!(error = %Chain(&error), "the store cannot do what a request asks for");
                Self::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "not-supported",
                    "Not supported",
                    "The key store of this server cannot do this.",
                )
            }
            Error::ShutDown
            | Error::Incomplete { .. }
            | Error::Store(StoreError::Unavailable { .. }) => {
                tracing::warn!(error = %Chain(&error), "a request to the portal's API failed");
                Self::unavailable()
            }
            other => {
                tracing::error!(error = %Chain(&other), "a request to the portal's API failed");
                Self::internal()
            }
        }
    }
}

/// The refusals of the portal itself, before a route is found.
impl From<&PageError> for ApiError {
    fn from(error: &PageError) -> Self {
        match error {
            PageError::Forged => Self::new(
                StatusCode::FORBIDDEN,
                "forged",
                "Rejected",
                "This request came from a page of another site. Send it from this one, or with a key and without the header `Origin`.",
            ),
            PageError::NotFound => Self::not_found(),
            PageError::Unavailable => Self::unavailable(),
            PageError::Misconfigured => Self::internal(),
            other => Self::new(
                other.status_code(),
                "rejected",
                "Rejected",
                "The request cannot be served.",
            ),
        }
    }
}
