//! Versions of keys as entity tags (RFC 9110 sections 8.8.3 and 13.1.1).

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use apikey_runtime::{Error, KeyRecord};

use super::problem::ApiError;

/// Whether a request names the version that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// It names the version that was read.
    Met,
    /// It does not name one.
    None,
}

impl Precondition {
    /// Compares `If-Match` with the version of a record.
    ///
    /// # Errors
    ///
    /// Returns 412 if it names other versions.
    pub(super) fn of(request: &HttpRequest, record: &KeyRecord) -> Result<Self, ApiError> {
        let mut values = request.headers().get_all(header::IF_MATCH).peekable();
        if values.peek().is_none() {
            return Ok(Self::None);
        }
        let own = tag(record.version);
        let mut tags = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        match tags.any(|stated| matches!(stated.trim(), "*") || stated.trim() == own) {
            true => Ok(Self::Met),
            false => Err(ApiError::precondition_failed()),
        }
    }

    /// Rejects a request that does not name a version.
    pub(super) fn required(self) -> Result<(), ApiError> {
        match self {
            Self::Met => Ok(()),
            Self::None => Err(ApiError::new(
                StatusCode::PRECONDITION_REQUIRED,
                "version-required",
                "Version required",
                "Read the key, and send the change with its `ETag` in `If-Match`, so that it does not undo one of somebody else.",
            )),
        }
    }

    /// Returns the answer to a change that failed: a change since the record was read fails what the request demands.
    pub(super) fn failed(self, error: Error) -> ApiError {
        match (self, error) {
            (Self::Met, Error::Conflict(_)) => ApiError::precondition_failed(),
            (_, error) => error.into(),
        }
    }
}

fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// Returns the entity tag of a version.
pub(super) fn etag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&tag(version)).unwrap_or(HeaderValue::from_static("\"0\""))
}
