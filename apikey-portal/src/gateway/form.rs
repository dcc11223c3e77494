//! Forms with a token, as OAuth's endpoints for tokens take them (RFC 6749 section 5.2 and appendix B).

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Bytes, Payload, PayloadConfig, Query};
use actix_web::{
    FromRequest as _, HttpRequest, HttpResponse, HttpResponseBuilder, Resource, Route, web,
};
use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, Error};
use serde_json::json;

use crate::error::Chain;

/// A body of a request: its fields, in their order.
type Fields = Vec<(String, String)>;

/// Why a request for a token is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenError {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
    /// How long the client has to wait, in seconds.
    retry_after: Option<u64>,
}

impl TokenError {
    fn invalid(status: StatusCode, description: &'static str) -> Self {
        Self {
            status,
            code: "invalid_request",
            description,
            retry_after: None,
        }
    }

    /// The store did not answer. A client has to assume that the token still exists (RFC 7009 section 2.2.1).
    pub(super) fn unavailable(error: &Error) -> Self {
        const WHAT: &str = "a token could not be read or revoked";
        match error {
            Error::Store(StoreError::Unavailable { .. }) => {
                tracing::warn!(error = %Chain(error), "{WHAT}");
            }
            _ => tracing::error!(error = %Chain(error), "{WHAT}"),
        }
        Self::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server cannot read API keys at the moment. Try again shortly.",
            1,
        )
    }

    /// The client has to wait this number of seconds.
    pub(super) fn later(status: StatusCode, description: &'static str, seconds: u64) -> Self {
        Self {
            status,
            code: "temporarily_unavailable",
            description,
            retry_after: Some(seconds),
        }
    }

    pub(super) fn response(&self) -> HttpResponse {
        let mut response = answer(HttpResponse::build(self.status));
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        response.json(json!({ "error": self.code, "error_description": self.description }))
    }
}

/// Returns an answer that is not stored.
pub(super) fn answer(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

/// Returns the resource of an endpoint for forms of at most `max` bytes. It answers another method than `POST` with 405: a
/// token in a URL would be logged.
pub(super) fn resource(path: &str, max: usize, post: Route) -> Resource {
    web::resource(path)
        .app_data(PayloadConfig::new(max))
        .route(post)
        .default_service(web::to(async || {
            let mut response = HttpResponse::MethodNotAllowed();
            response.insert_header((header::ALLOW, "POST")).finish()
        }))
}

/// Returns the token of a form.
///
/// # Errors
///
/// Returns the error to answer. It does not repeat anything of the request.
pub(super) async fn token(
    request: &HttpRequest,
    manager: &ApiKeyManager,
    body: Payload,
) -> Result<String, TokenError> {
    let invalid = |description| Err(TokenError::invalid(StatusCode::BAD_REQUEST, description));
    match fields(request.query_string()) {
        Some(query) if query.iter().all(|(name, _)| name != "token") => {}
        _ => {
            return invalid(
                "The query has a token, or cannot be decoded. Send the token in the body.",
            );
        }
    }
    let body = read(request, manager, body).await?;
    let Some(form) = std::str::from_utf8(&body).ok().and_then(fields) else {
        return invalid(
            "The body cannot be decoded. Send it as `application/x-www-form-urlencoded`.",
        );
    };
    let mut tokens = form.into_iter().filter(|(name, _)| name == "token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token),
        (None, _) => invalid("`token` is missing. Send it in the body."),
        (Some(_), Some(_)) => invalid("`token` is there more than once. Send it once."),
    }
}

fn fields(text: &str) -> Option<Fields> {
    Some(Query::<Fields>::from_query(text).ok()?.into_inner())
}

/// Reads a body, within the time that the configuration grants to bodies with a key.
async fn read(
    request: &HttpRequest,
    manager: &ApiKeyManager,
    body: Payload,
) -> Result<Bytes, TokenError> {
    let headers = request.headers();
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok()?.split(';').next());
    let is_form = media_type.is_some_and(|kind| {
        kind.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if !is_form || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(TokenError::invalid(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Send the body as `application/x-www-form-urlencoded`, without `Content-Encoding`.",
        ));
    }
    let mut body = body.into_inner();
    let read = Bytes::from_request(request, &mut body);
    match actix_web::rt::time::timeout(manager.config().body_timeout(), read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error))
            if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE =>
        {
            Err(TokenError::invalid(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large for a token.",
            ))
        }
        Ok(Err(_broken)) => Err(TokenError::invalid(
            StatusCode::BAD_REQUEST,
            "The body did not arrive as its headers say. Send it again.",
        )),
        Err(_elapsed) => Err(TokenError::invalid(
            StatusCode::REQUEST_TIMEOUT,
            "The body did not arrive in time. Send it again.",
        )),
    }
}
