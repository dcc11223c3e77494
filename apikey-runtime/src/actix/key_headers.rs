//! Limits in answers: `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10
//! has them, in structured fields (RFC 9651).

use std::fmt::Write as _;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage};
use pin_project_lite::pin_project;

use super::check::Verified;
use crate::api_key::ApiKey;
use crate::limit::LimitStatus;
use crate::verify::limit_statuses;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Middleware that tells clients how their limits stand: `RateLimit` and `RateLimit-Policy` on
/// answers to requests that were let through.
///
/// A guard in an attribute cannot touch its handler's answer, so an app with limits on keys or
/// routes is wrapped in this once. [`RequireApiKey`](crate::RequireApiKey) does the same by itself,
/// and refusals have the headers anyway. Headers that an answer has already stay as they are. A page
/// of another origin sees them where CORS exposes them (`Access-Control-Expose-Headers`).
///
/// ```
/// use actix_web::App;
/// use apikey_runtime::KeyHeaders;
///
/// let app = App::new().wrap(KeyHeaders);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "middleware does nothing until an app or a scope is wrapped in it"]
pub struct KeyHeaders;

impl ApiKey {
    /// How the limits stand that this request was counted against: those of its key and its route.
    /// Empty where there are none, or no key was checked.
    #[must_use]
    pub fn limit_status(request: &impl HttpMessage) -> Vec<LimitStatus> {
        let extensions = request.extensions();
        let allowed = extensions
            .get::<Verified>()
            .map(|verified| &verified.allowed);
        allowed.map_or_else(Vec::new, limit_statuses)
    }
}

/// Writes the headers of `limits`, where there are any.
pub(super) fn write_headers(limits: &[LimitStatus], headers: &mut HeaderMap) {
    if limits.is_empty() || headers.contains_key(RATE_LIMIT) {
        return;
    }
    let values = (
        HeaderValue::try_from(state(limits)),
        HeaderValue::try_from(policy(limits)),
    );
    // Both are printable ASCII.
    if let (Ok(state), Ok(policy)) = values {
        headers.insert(RATE_LIMIT, state);
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
}

/// Adds the headers to an answer of a request that was let through.
pub(super) fn add_headers<B>(response: &mut ServiceResponse<B>) {
    let limits = ApiKey::limit_status(response.request());
    write_headers(&limits, response.headers_mut());
}

fn state(limits: &[LimitStatus]) -> String {
    list(limits, |limit, text| {
        let _ = write!(text, ";r={}", limit.remaining);
        if let Some(reset) = limit.reset {
            let _ = write!(text, ";t={}", reset.as_millis().div_ceil(1_000));
        }
    })
}

fn policy(limits: &[LimitStatus]) -> String {
    list(limits, |limit, text| {
        let _ = write!(text, ";q={}", limit.rule.amount());
        if let Some(window) = limit.rule.window_seconds() {
            let _ = write!(text, ";w={window}");
        }
    })
}

/// A list of strings with parameters. Writing to a `String` cannot fail.
fn list(limits: &[LimitStatus], parameters: impl Fn(&LimitStatus, &mut String)) -> String {
    let mut text = String::new();
    for limit in limits {
        if !text.is_empty() {
            text.push_str(", ");
        }
        write_string(&limit.name, &mut text);
        parameters(limit, &mut text);
    }
    text
}

/// A string of RFC 9651 section 3.3.3: printable ASCII, with `"` and `\` escaped. What else stands in
/// a name, of a route's pattern say, is percent-encoded.
fn write_string(name: &str, text: &mut String) {
    text.push('"');
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text.push('"');
}

impl<S, B> Transform<S, ServiceRequest> for KeyHeaders
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type InitError = ();
    type Transform = KeyHeadersService<S>;
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(KeyHeadersService { service }))
    }
}

/// What [`KeyHeaders`] makes of a service.
#[doc(hidden)]
#[derive(Debug)]
pub struct KeyHeadersService<S> {
    service: S,
}

impl<S, B> Service<ServiceRequest> for KeyHeadersService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = KeyHeadersFuture<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        KeyHeadersFuture {
            next: self.service.call(request),
        }
    }
}

pin_project! {
    /// The future of [`KeyHeadersService`].
    #[doc(hidden)]
    pub struct KeyHeadersFuture<F> {
        #[pin]
        next: F,
    }
}

impl<F, B> Future for KeyHeadersFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().next.poll(context).map_ok(|mut response| {
            add_headers(&mut response);
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limit::{LimitRule, Quota, Rate};

    fn standing(
        name: &str,
        rule: impl Into<LimitRule>,
        remaining: u64,
        reset: Option<u64>,
    ) -> LimitStatus {
        LimitStatus {
            name: name.to_owned(),
            rule: rule.into(),
            remaining,
            reset: reset.map(Duration::from_millis),
        }
    }

    #[test]
    fn the_headers_are_those_of_the_draft() {
        let limits = [
            standing("daily", Quota::per_day(1_000), 12, Some(3_599_001)),
            standing("minute", Rate::per_minute(100).with_burst(20), 19, Some(1)),
            standing("credits", Quota::lifetime(5), 0, None),
        ];
        assert_eq!(
            policy(&limits),
            "\"daily\";q=1000;w=86400, \"minute\";q=100;w=60, \"credits\";q=5"
        );
        assert_eq!(
            state(&limits),
            "\"daily\";r=12;t=3600, \"minute\";r=19;t=1, \"credits\";r=0"
        );
    }

    #[test]
    fn no_name_breaks_out_of_its_string() {
        let mut text = String::new();
        write_string("a\"b\\c\r\nd\u{e9}\u{7f}", &mut text);
        assert_eq!(text, r#""a\"b\\c%0D%0Ad%C3%A9%7F""#);
    }
}
