//! Limits in answers: `RateLimit` and `RateLimit-Policy`, as draft-ietf-httpapi-ratelimit-headers-10
//! has them, in structured fields (RFC 9651).

use std::borrow::Cow;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use pin_project_lite::pin_project;
use sfv::{Integer, KeyRef, ListSerializer, StringRef, key_ref};

use super::extension::ApiKeyExt;
use crate::limit::LimitStatus;

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

/// Writes the headers of `limits`, if there are any.
pub(super) fn write_headers(limits: &[LimitStatus], headers: &mut HeaderMap) {
    if limits.is_empty() || headers.contains_key(RATE_LIMIT) {
        return;
    }
    if let (Some(state), Some(policy)) = (state(limits), policy(limits)) {
        headers.insert(RATE_LIMIT, state);
        headers.insert(RATE_LIMIT_POLICY, policy);
    }
}

/// Adds the headers to an answer of a request that was let through.
pub(super) fn add_headers<B>(response: &mut ServiceResponse<B>) {
    let limits = response.limit_status();
    write_headers(&limits, response.headers_mut());
}

fn state(limits: &[LimitStatus]) -> Option<HeaderValue> {
    const KEYS: [&KeyRef; 2] = [key_ref("r"), key_ref("t")];
    let seconds = |time: Duration| u64::try_from(time.as_millis().div_ceil(1_000)).ok();
    field(limits, KEYS, |limit| {
        (limit.remaining, limit.reset_after.and_then(seconds))
    })
}

fn policy(limits: &[LimitStatus]) -> Option<HeaderValue> {
    const KEYS: [&KeyRef; 2] = [key_ref("q"), key_ref("w")];
    field(limits, KEYS, |limit| {
        (limit.rule.amount(), limit.rule.window_seconds())
    })
}

/// Returns a list of the limits' names, each with one parameter or two; `None` without a limit.
///
/// A name is percent-encoded as far as a string cannot hold it: the pattern of a route, for example.
fn field(
    limits: &[LimitStatus],
    keys: [&KeyRef; 2],
    numbers: impl Fn(&LimitStatus) -> (u64, Option<u64>),
) -> Option<HeaderValue> {
    let integer = |number| Integer::try_from(number).unwrap_or(Integer::MAX);
    let mut list = ListSerializer::new();
    for limit in limits {
        let name = Cow::from(utf8_percent_encode(&limit.name, CONTROLS));
        let (first, second) = numbers(limit);
        let item = list.bare_item(StringRef::from_str(&name).ok()?);
        let item = item.parameter(keys[0], integer(first));
        if let Some(second) = second {
            let _ = item.parameter(keys[1], integer(second));
        }
    }
    HeaderValue::try_from(list.finish()?).ok()
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
            reset_after: reset.map(Duration::from_millis),
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
            policy(&limits).unwrap(),
            "\"daily\";q=1000;w=86400, \"minute\";q=100;w=60, \"credits\";q=5"
        );
        assert_eq!(
            state(&limits).unwrap(),
            "\"daily\";r=12;t=3600, \"minute\";r=19;t=1, \"credits\";r=0"
        );
    }

    /// The sections "RateLimit-Policy Field" and "RateLimit Field" of the draft.
    #[test]
    fn the_fields_are_the_examples_of_the_draft() {
        let burst = standing("burst", Rate::per_minute(100), 50, Some(30_000));
        let daily = standing("daily", Quota::per_day(1_000), 0, None);
        assert_eq!(
            policy(&[burst.clone(), daily]).unwrap(),
            r#""burst";q=100;w=60, "daily";q=1000;w=86400"#
        );
        assert_eq!(state(&[burst]).unwrap(), r#""burst";r=50;t=30"#);
        assert_eq!(state(&[]), None);
    }

    /// RFC 9651 sections 4.1.6 (strings) and 4.1.4 (integers: 15 digits at most).
    #[test]
    fn no_name_breaks_out_of_its_string() {
        for (name, written) in [
            ("foo", r#""foo""#),
            (r#"foo "bar""#, r#""foo \"bar\"""#),
            (r"b\a", r#""b\\a""#),
            (" ~%,;", r#"" ~%,;""#),
            ("a\"b\\c\r\nd\u{e9}\u{7f}", r#""a\"b\\c%0D%0Ad%C3%A9%7F""#),
        ] {
            let limit = standing(name, Quota::lifetime(5), u64::MAX, None);
            let expected = format!("{written};r=999999999999999");
            assert_eq!(state(&[limit]).unwrap(), expected.as_str());
        }
    }
}
