//! The headers that announce the end of a key: `Api-Key-Expires` and `Api-Key-Status`, and by option
//! `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).
//!
//! Dates are those of structured fields (RFC 9651 section 3.3.7), in whole seconds, rounded down: a
//! client that renews its key in time is never late. Nothing of a key's texts is in them.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, HttpDate};
use sfv::{Date, Integer, ItemSerializer, key_ref, token_ref};

use crate::clock::Timestamp;
use crate::config::Config;
use crate::verify::Allowed;

const API_KEY_EXPIRES: HeaderName = HeaderName::from_static("api-key-expires");
const API_KEY_STATUS: HeaderName = HeaderName::from_static("api-key-status");
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// The last second of the year 9999, the last that an HTTP date can have (RFC 9110 section 5.6.7).
const MAX_HTTP_SECONDS: u64 = 253_402_300_799;

/// What the response to an allowed request says of the end of its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyNotice {
    /// The key's expiry, if it is near.
    expires: Option<Timestamp>,
    /// The end of the presented secret's grace, if a rotation superseded it.
    superseded: Option<Timestamp>,
    /// The beginning of the notice, if `Deprecation` and `Sunset` are sent.
    deprecated: Option<Timestamp>,
}

impl KeyNotice {
    /// Returns what is to be announced. Compares one timestamp if that is nothing, which is usual.
    #[inline]
    pub(super) fn of(allowed: &Allowed, config: &Config) -> Option<Box<Self>> {
        let (key, now) = (allowed.key.record(), allowed.at.now);
        // A key may become idle before it expires, which is not announced.
        let near =
            config.is_expiry_near(key.ends_at(), now) && config.is_expiry_near(key.expires(), now);
        (near || allowed.key.is_superseded()).then(|| Self::new(allowed, config, near))
    }

    #[cold]
    fn new(allowed: &Allowed, config: &Config, near: bool) -> Box<Self> {
        let record = allowed.key.record();
        let expires = near.then(|| record.expires());
        let superseded = allowed.key.superseded();
        let deprecated = || {
            // When a secret was superseded is not kept, so its beginning is that of its notice.
            let start = config.notice_start(expires.or(superseded)?);
            Some(start.max(record.created).min(allowed.at.now))
        };
        Box::new(Self {
            expires,
            superseded,
            deprecated: config.deprecation_headers().then(deprecated).flatten(),
        })
    }

    /// Writes the headers that the response does not have.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let mut add = |name, value: Option<HeaderValue>| {
            if let Some(value) = value.filter(|_| !headers.contains_key(&name)) {
                headers.insert(name, value);
            }
        };
        add(API_KEY_EXPIRES, self.expires.and_then(date_field));
        add(API_KEY_STATUS, self.superseded.and_then(superseded_field));
        if self.deprecated.is_some() {
            let end = self.expires.into_iter().chain(self.superseded).min();
            add(DEPRECATION, self.deprecated.and_then(date_field));
            add(SUNSET, end.and_then(http_date));
        }
    }
}

/// Returns whole seconds since 1970, rounded down; `None` beyond 15 digits (RFC 9651 section 3.3.1).
fn date(time: Timestamp) -> Option<Date> {
    let seconds = Integer::try_from(time.as_millis().div_euclid(1_000)).ok()?;
    Some(Date::from_unix_seconds(seconds))
}

fn date_field(time: Timestamp) -> Option<HeaderValue> {
    let field = ItemSerializer::new().bare_item(date(time)?).finish();
    HeaderValue::try_from(field).ok()
}

fn superseded_field(until: Timestamp) -> Option<HeaderValue> {
    let field = ItemSerializer::new().bare_item(token_ref("superseded"));
    let field = field.parameter(key_ref("until"), date(until)?).finish();
    HeaderValue::try_from(field).ok()
}

/// Returns the date in the form of `Sunset` (RFC 8594 section 3); `None` outside of 1970 to 9999.
fn http_date(time: Timestamp) -> Option<HeaderValue> {
    let seconds = u64::try_from(time.as_millis().div_euclid(1_000)).ok()?;
    let seconds = Some(seconds).filter(|seconds| *seconds <= MAX_HTTP_SECONDS)?;
    let date = HttpDate::from(UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?);
    HeaderValue::try_from(date.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MILLIS: i64 = 86_400_000;

    fn written(notice: KeyNotice) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        notice.write(&mut headers);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let mut written: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        written.sort();
        written
    }

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(millis))
    }

    /// The examples of RFC 9745 section 2.1 and RFC 8594 section 3.
    #[test]
    fn the_fields_have_the_form_of_their_rfcs() {
        let deprecated = date_field(Timestamp::from_millis(1_688_169_599_999)).unwrap();
        assert_eq!(deprecated, "@1688169599");
        let sunset = http_date(Timestamp::from_millis(1_546_300_799_000)).unwrap();
        assert_eq!(sunset, "Mon, 31 Dec 2018 23:59:59 GMT");
        let status = superseded_field(Timestamp::from_millis(-1)).unwrap();
        assert_eq!(status, "superseded;until=@-1");
    }

    /// Neither a clock that is wrong by ages nor a record by hand makes a header that is malformed.
    #[test]
    fn a_time_that_a_field_cannot_have_is_left_out() {
        for millis in [
            i64::MIN,
            -1_000_000_000_000_001_000,
            1_000_000_000_000_000_000,
            i64::MAX,
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(
                (date_field(time), http_date(time)),
                (None, None),
                "{millis}"
            );
        }
        let last = Timestamp::from_millis(253_402_300_799_999);
        assert_eq!(http_date(last).unwrap(), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(http_date(Timestamp::from_millis(253_402_300_800_000)), None);
        assert_eq!(http_date(Timestamp::from_millis(-1)), None);
    }

    #[test]
    fn sunset_is_the_first_end_and_a_header_that_is_there_stays() {
        let notice = KeyNotice {
            expires: at(2 * DAY_MILLIS),
            superseded: at(DAY_MILLIS),
            deprecated: at(0),
        };
        let expected = [
            ("api-key-expires", "@172800"),
            ("api-key-status", "superseded;until=@86400"),
            ("deprecation", "@0"),
            ("sunset", "Fri, 02 Jan 1970 00:00:00 GMT"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(written(notice), expected);
        let mut headers = HeaderMap::new();
        headers.insert(SUNSET, HeaderValue::from_static("of the handler"));
        notice.write(&mut headers);
        assert_eq!(headers.get(SUNSET).unwrap(), "of the handler");
        let silent = KeyNotice {
            deprecated: None,
            ..notice
        };
        assert_eq!(written(silent), expected[..2]);
    }
}
