//! The id of a request, which its answer and the audit log name.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use apikey_runtime::audit::ChangeOrigin;
use rand::TryRng as _;
use rand::rngs::SysRng;

const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, once it is known.
#[derive(Debug, Clone)]
struct RequestId(String);

/// Returns the id that the request states in `X-Request-Id`, if it is plain, or makes one. Each call returns the same id.
pub(crate) fn of(request: &HttpRequest) -> String {
    if let Some(RequestId(id)) = request.extensions().get() {
        return id.clone();
    }
    let stated = ChangeOrigin::of_request(request).request_id;
    let id = stated.unwrap_or_else(random);
    request.extensions_mut().insert(RequestId(id.clone()));
    id
}

/// Adds the id to an answer.
pub(crate) fn write(id: &str, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(NAME, value);
    }
}

fn random() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = SysRng.try_fill_bytes(&mut bytes) {
        tracing::error!(%error, "the system does not give random bytes");
    }
    format!("{:032x}", u128::from_be_bytes(bytes))
}
