//! The fields `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), as
//! structured fields (RFC 9651).

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use sfv::{Integer, KeyRef, ListSerializer, StringRef, key_ref};

use crate::limit::LimitStatus;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

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

fn state(limits: &[LimitStatus]) -> Option<HeaderValue> {
    const KEYS: [&KeyRef; 2] = [key_ref("r"), key_ref("t")];
    field(limits, KEYS, |limit| {
        let time = if limit.allowed {
            limit.reset_after.map(whole_seconds)
        } else {
            limit.retry_after.map(retry_seconds)
        };
        (limit.remaining, time)
    })
}

/// Returns the `Retry-After` of a denial, and the `t` of the limit that denied. A client must not be
/// told to retry before a window ends (section 6.4 of draft 11), so both are one number.
pub(super) fn retry_seconds(time: Duration) -> u64 {
    whole_seconds(time).max(1)
}

/// Rounds up, so that a client that waits for this time does not retry too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
}

fn policy(limits: &[LimitStatus]) -> Option<HeaderValue> {
    const KEYS: [&KeyRef; 2] = [key_ref("q"), key_ref("w")];
    field(limits, KEYS, |limit| {
        (limit.rule.amount(), limit.rule.window_seconds())
    })
}

/// Returns a list of the limits' names, each with one parameter or two; `None` without limits.
///
/// Characters that a string cannot contain are percent-encoded: a route's pattern may have some.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{LimitRule, Quota, Rate};

    fn status(
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
            allowed: true,
            retry_after: Some(Duration::ZERO),
        }
    }

    /// Section 6.4 of draft 11: `t` is not later than `Retry-After`. Other limits keep theirs.
    #[test]
    fn a_limit_that_denied_says_when_to_retry() {
        let mut minute = status("minute", Rate::per_minute(10), 0, Some(60_000));
        let daily = status("daily", Quota::per_day(9), 3, Some(70_000));
        minute.allowed = false;
        for (retry, seconds) in [(0, 1), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            minute.retry_after = Some(Duration::from_nanos(retry));
            let field = state(&[minute.clone(), daily.clone()]).unwrap();
            let expected = format!(r#""minute";r=0;t={seconds}, "daily";r=3;t=70"#);
            assert_eq!(field, expected.as_str());
            assert_eq!(retry_seconds(Duration::from_nanos(retry)), seconds);
        }
        // Waiting does not help, so there is no `Retry-After` either.
        minute.retry_after = None;
        assert_eq!(state(&[minute]).unwrap(), r#""minute";r=0"#);
    }

    #[test]
    fn the_headers_are_those_of_the_draft() {
        let limits = [
            status("daily", Quota::per_day(1_000), 12, Some(3_599_001)),
            status("minute", Rate::per_minute(100).with_burst(20), 19, Some(1)),
            status("credits", Quota::lifetime(5), 0, None),
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
    fn the_fields_have_the_form_of_the_draft() {
        let burst = status("burst", Rate::per_minute(100), 50, Some(30_000));
        let daily = status("daily", Quota::per_day(1_000), 0, None);
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
            let limit = status(name, Quota::lifetime(5), u64::MAX, None);
            let expected = format!("{written};r=999999999999999");
            assert_eq!(state(&[limit]).unwrap(), expected.as_str());
        }
    }
}
