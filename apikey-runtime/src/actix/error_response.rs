//! Responses to errors of the manager, for handlers that return them with `?`.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};

use crate::error::{Error, ErrorChain, StoreError};

/// What a client learns of an error.
struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Cow<'static, str>,
}

const NOT_FOUND: Problem = Problem {
    status: StatusCode::NOT_FOUND,
    code: "not-found",
    title: "API key not found",
    detail: Cow::Borrowed("An API key with this id does not exist."),
};

const CONFLICT: Problem = Problem {
    status: StatusCode::CONFLICT,
    code: "conflict",
    title: "Conflict",
    detail: Cow::Borrowed("The API key was changed or revoked meanwhile. Read it again."),
};

const OWNER_NOT_FOUND: Problem = Problem {
    status: StatusCode::NOT_FOUND,
    code: "owner-not-found",
    title: "Owner not found",
    detail: Cow::Borrowed("An owner with this name has never had an API key."),
};

const INVALID_ARGUMENT: Problem = Problem {
    status: StatusCode::BAD_REQUEST,
    code: "invalid-argument",
    title: "Invalid argument",
    detail: Cow::Borrowed("A value in the request cannot be used for an API key."),
};

const UNAVAILABLE: Problem = Problem {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "unavailable",
    title: "API keys are not available now",
    detail: Cow::Borrowed(
        "The server cannot read or change API keys at the moment. Try again shortly.",
    ),
};

const INTERNAL: Problem = Problem {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "internal-error",
    title: "Internal server error",
    detail: Cow::Borrowed("The server cannot complete the request."),
};

impl Problem {
    fn of(error: &Error) -> Self {
        match error {
            Error::NotFound(_) | Error::Store(StoreError::NotFound) => NOT_FOUND,
            Error::OwnerNotFound(_) => OWNER_NOT_FOUND,
            Error::Revoked(_) | Error::Conflict(_) | Error::Store(StoreError::Conflict) => CONFLICT,
            Error::Policy(violation) => Self {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                code: "policy",
                title: "A rule for API keys does not permit this",
                detail: Cow::Owned(violation.to_string()),
            },
            Error::InvalidArgument(_) => INVALID_ARGUMENT,
            Error::ShutDown
            | Error::Incomplete { .. }
            | Error::Store(StoreError::Unavailable { .. }) => UNAVAILABLE,
            _ => INTERNAL,
        }
    }
}

/// Lets a handler write `manager.get(id).await?`.
///
/// The response has problem details (RFC 9457): 404 for a key or an owner that does not exist, 409 for a
/// key that was changed or revoked, 422 with the rule in words for a key that would break a
/// [rule](crate::manager::IssuePolicy), 400 for an invalid argument, 503 with `Retry-After` if the store is
/// unavailable, the manager was shut down, or a bulk change is incomplete, and 500 otherwise. The error's own
/// text is for developers, except for that of a rule. It is logged with its sources, and does not become
/// part of the response.
///
/// ```
/// use actix_web::{Responder, web};
/// use apikey_runtime::{ApiKeyManager, Error, KeyId};
///
/// async fn label(manager: web::Data<ApiKeyManager>, id: web::Path<KeyId>) -> Result<impl Responder, Error> {
///     Ok(manager.get(*id).await?.label)
/// }
/// ```
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        Problem::of(self).status
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem::of(self);
        let status = problem.status.as_u16();
        let error = ErrorChain(self).to_string();
        match problem.status {
            StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(error, "a handler failed"),
            StatusCode::SERVICE_UNAVAILABLE => tracing::warn!(error, "a handler failed"),
            _ => tracing::debug!(error, status, "a handler denied a request"),
        }
        let mut response = HttpResponse::build(problem.status);
        response
            .insert_header((
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            ))
            .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        if problem.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, HeaderValue::from(1)));
        }
        let body = serde_json::json!({
            "type": format!("urn:problem-type:api-key:{}", problem.code),
            "title": problem.title,
            "status": status,
            "detail": problem.detail,
        });
        response.body(body.to_string())
    }
}
