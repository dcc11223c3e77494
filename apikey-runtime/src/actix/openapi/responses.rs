//! The responses of a guard, as a document describes them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use utoipa::IntoResponses;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, Header, RefOr};

use super::guard_entry::GuardEntry;
use crate::actix::policy::RoutePolicy;
use crate::actix::response::problem_type;
use crate::denied::DenyReason;

/// The responses of a guard to denied requests: 400, 401, 403, 429 and 503, with problem details
/// (RFC 9457) and the headers that the guard sends.
///
/// The attribute adds them to the `#[utoipa::path]` below it, and
/// [`ApiKeySecurity`](super::ApiKeySecurity) to that above it. A response that the application wrote
/// for one of these statuses is kept.
///
/// With `BODY`, the key is read from the body, which adds 408, 413 and 415. With `CUSTOM`, an error
/// handler makes the responses, and so their content is not described.
///
/// ```
/// use apikey_runtime::openapi::ApiKeyResponses;
/// use utoipa::IntoResponses;
///
/// let statuses: Vec<_> = <ApiKeyResponses>::responses().into_keys().collect();
/// assert_eq!(statuses, ["400", "401", "403", "429", "503"]);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ApiKeyResponses<const BODY: bool = false, const CUSTOM: bool = false>;

impl<const BODY: bool, const CUSTOM: bool> IntoResponses for ApiKeyResponses<BODY, CUSTOM> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses(BODY, CUSTOM)
    }
}

/// The responses of the guard with the policy `P` above the `#[utoipa::path]` that made the type `D`. The
/// attribute writes them into it.
#[doc(hidden)]
#[derive(Debug)]
pub struct GuardResponses<P, D>(PhantomData<fn() -> (P, D)>);

impl<P: RoutePolicy, D: utoipa::Path + 'static> IntoResponses for GuardResponses<P, D> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        GuardEntry::add::<P, D>();
        responses(false, P::ON_ERROR.is_some())
    }
}

/// The statuses, with what a reader of the document needs to know.
const STATUSES: [(u16, &str); 5] = [
    (
        400,
        "The request has more than one API key, or one that cannot be read.",
    ),
    (401, "The request does not have a valid API key."),
    (403, "The API key does not permit this request."),
    (
        429,
        "A limit of the API key is used up, or its client made too many failed attempts.",
    ),
    (503, "API keys cannot be checked at the moment."),
];

/// Those that only a guard with a key in the body sends.
const BODY_STATUSES: [(u16, &str); 3] = [
    (408, "The body did not arrive in time."),
    (413, "The body is too large to be searched for an API key."),
    (
        415,
        "The body is to be searched for an API key, and has a content encoding.",
    ),
];

/// Returns the responses by status.
pub(super) fn responses(body: bool, custom: bool) -> BTreeMap<String, RefOr<Response>> {
    let of_body = BODY_STATUSES.into_iter().filter(|_| body);
    STATUSES
        .into_iter()
        .chain(of_body)
        .map(|(status, description)| {
            let response = response(status, description, custom);
            (status.to_string(), response.into())
        })
        .collect()
}

fn response(status: u16, description: &str, custom: bool) -> ResponseBuilder {
    let mut response = ResponseBuilder::new().description(description);
    if !custom {
        let content = ContentBuilder::new().schema(Some(problem(status))).build();
        response = response.content("application/problem+json", content);
    }
    for (name, text) in headers(status) {
        response = response.header(*name, header(name, text));
    }
    response
}

/// Returns the headers of a response that say more than its status.
fn headers(status: u16) -> &'static [(&'static str, &'static str)] {
    const CHALLENGES: (&str, &str) = (
        "WWW-Authenticate",
        "A challenge for each authentication scheme that the route accepts (RFC 9110 section 11.6.1).",
    );
    const RETRY_AFTER: (&str, &str) = (
        "Retry-After",
        "How many seconds to wait before the next attempt, if waiting helps.",
    );
    match status {
        400 | 401 | 403 => &[CHALLENGES],
        429 => &[
            RETRY_AFTER,
            (
                "RateLimit",
                "What is left of each limit (`r`), and the seconds until more is (`t`).",
            ),
            (
                "RateLimit-Policy",
                "The amount (`q`) and the seconds (`w`) of each limit.",
            ),
        ],
        503 => &[RETRY_AFTER],
        _ => &[],
    }
}

fn header(name: &str, description: &str) -> Header {
    let kind = if name == "Retry-After" {
        Type::Integer
    } else {
        Type::String
    };
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .description(Some(description))
        .build()
}

/// Returns the schema of the problem details of a status.
fn problem(status: u16) -> Object {
    let reasons = DenyReason::ALL
        .into_iter()
        .filter(|reason| reason.status() == status);
    let types = reasons.map(problem_type);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let uri = text().format(Some(SchemaFormat::Custom("uri".to_owned())));
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([status]));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("type", uri.enum_values(Some(types)))
        .property("title", text())
        .property("status", number)
        .property("detail", text())
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
        .build()
}
