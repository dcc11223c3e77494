//! Checks of settings, with their error messages.

use std::fmt;
use std::ops::RangeInclusive;

use super::{LOCATION_KINDS, LocationKind, NetworkPrecision};
use crate::error::Error;
use crate::key::{Charset, check_prefix};
use crate::limit::Rate;

/// The minimum entropy of a secret, in bits: what NIST SP 800-57 part 1 (table 2) demands of
/// symmetric keys.
const MIN_SECRET_BITS: u32 = 128;

/// The maximum length of a secret, in characters.
const MAX_SECRET_LEN: usize = 256;

pub(super) fn fault<T>(message: String) -> Result<T, Error> {
    Err(Error::Config(message))
}

pub(super) fn check(name: &str, outcome: Result<(), &'static str>) -> Result<(), Error> {
    outcome.map_err(|why| Error::Config(format!("`{name}` {why}")))
}

pub(super) fn place(location: Option<&str>) -> Result<LocationKind, Error> {
    let Some(location) = location else {
        return Ok(LocationKind::Header);
    };
    let named = LOCATION_KINDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(location));
    named.map(|(_, place)| *place).ok_or_else(|| {
        let known = LOCATION_KINDS
            .map(|(name, _)| format!("`{name}`"))
            .join(", ");
        Error::Config(format!(
            "`location` is not a known location; write one of {known}"
        ))
    })
}

/// Checks a name that is used without encoding in a query, a cookie or a form.
pub(super) fn check_param(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || !is_plain(name) {
        return Err(
            "is 1 to 64 ASCII letters, digits, `_`, `-` and `.`; write a name such as `api_key`",
        );
    }
    Ok(())
}

/// Checks the namespace of counters. It must not contain the `:` that ends it in their names.
pub(super) fn check_namespace(name: &str) -> Result<(), &'static str> {
    if is_plain(name) {
        return Ok(());
    }
    Err(
        "is at most 64 ASCII letters, digits, `_`, `-` and `.`; write the name of the service, such as `orders`",
    )
}

fn is_plain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.len() <= 64 && name.bytes().all(fits)
}

/// Checks a token (RFC 9110 section 5.6.2): the name of a header, or a scheme.
pub(super) fn token(text: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(
            "is not a token of RFC 9110; write letters, digits and `-`, as in `X-API-Key` or `Bearer`",
        );
    }
    if text.len() > 64 {
        return Err("is longer than 64 characters; shorten it");
    }
    Ok(())
}

pub(super) fn check_secret(length: usize, charset: &Charset) -> Result<(), Error> {
    if length > MAX_SECRET_LEN {
        return fault(format!(
            "`secret_length` is {length}; write at most {MAX_SECRET_LEN}"
        ));
    }
    let bits = charset.entropy_bits(length);
    if bits < MIN_SECRET_BITS {
        let per_symbol = (charset.symbols().len() as f64).log2();
        let enough = (f64::from(MIN_SECRET_BITS) / per_symbol).ceil();
        return fault(format!(
            "`secret_length` {length} of the `secret_charset` `{}` has {bits} bits of entropy, and {MIN_SECRET_BITS} are needed; write at least {enough}",
            charset.name()
        ));
    }
    Ok(())
}

/// Checks the realm. It is written into a quoted string (RFC 9110 section 5.6.4), so characters
/// that would end the string or the header are rejected here.
pub(super) fn check_realm(realm: &str) -> Result<(), Error> {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if realm.is_empty() || realm.len() > 128 || !realm.bytes().all(fits) {
        return fault("`realm` is 1 to 128 printable ASCII characters without `\"` and `\\`; leave the others out".to_owned());
    }
    Ok(())
}

pub(super) fn prefixes(
    one: Option<String>,
    several: Option<Vec<String>>,
) -> Result<Option<Vec<String>>, Error> {
    let name = match several {
        Some(_) => "prefixes",
        None => "prefix",
    };
    let prefixes = match (one, several) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return fault("`prefix` and `prefixes` are both set; keep `prefixes`, whose first is for new keys".to_owned());
        }
        (Some(one), None) => vec![one],
        (None, Some(several)) => several,
    };
    if prefixes.is_empty() {
        return fault("`prefixes` is empty; write at least one, as in `my_api`".to_owned());
    }
    for prefix in &prefixes {
        check(name, check_prefix(prefix))?;
    }
    let mut sorted: Vec<&String> = prefixes.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => fault(format!(
            "`prefixes` names `{}` twice; name it once",
            pair[0]
        )),
        None => Ok(Some(prefixes)),
    }
}

/// Parses a rate; `Some(None)` is `off`.
pub(super) fn rate(name: &str, text: Option<&str>) -> Result<Option<Option<Rate>>, Error> {
    switchable(text, |text| {
        text.parse().map(Some).or_else(|error| {
            // The error says what is wrong and what to write.
            fault(format!("`{name}`: {error}; or `off`"))
        })
    })
}

/// Parses a precision; `Some(None)` is `off`.
pub(super) fn precision(text: Option<&str>) -> Result<Option<Option<NetworkPrecision>>, Error> {
    switchable(text, |text| {
        match NetworkPrecision::parse(text) {
        Some(precision) => Ok(Some(precision)),
        None => fault(
            "`usage_network_precision` is not two numbers of bits, 0 to 32 for IPv4 and 0 to 128 for IPv6; \
             write them as in `24/48`, or `off`"
                .to_owned(),
        ),
    }
    })
}

fn switchable<T>(
    text: Option<&str>,
    read: impl FnOnce(&str) -> Result<Option<T>, Error>,
) -> Result<Option<Option<T>>, Error> {
    match text {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("off") => Ok(Some(None)),
        Some(text) => read(text).map(Some),
    }
}

/// Rejects a number out of its bounds. The message has the unit and what to write instead.
pub(super) fn within<N: PartialOrd + fmt::Display>(
    name: &str,
    number: Option<N>,
    bounds: RangeInclusive<N>,
    (unit, remedy): (&str, &str),
) -> Result<Option<N>, Error> {
    if number.as_ref().is_none_or(|number| bounds.contains(number)) {
        return Ok(number);
    }
    let (least, most) = bounds.into_inner();
    fault(format!(
        "`{name}` is outside {least} to {most} ({unit}); write {remedy}"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigBuilder};

    const HOUR: Duration = Duration::from_hours(1);

    fn message(builder: ConfigBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_flask_api_keys() {
        let config = Config::builder().build().unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            (config.header_name(), config.header_type()),
            ("Authorization", Some("Bearer"))
        );
        assert_eq!((config.prefix(), config.secret_length()), ("my_api", 64));
        assert_eq!(config.secret_charset().name(), "ascii_62");
    }

    /// H-13.
    #[test]
    fn h13_a_realm_that_would_break_the_header_is_refused() {
        for realm in ["a\"b", "a\r\nSet-Cookie: x", "a\\", "", "ä", "a\0"] {
            assert!(
                message(Config::builder().realm(realm)).contains("realm"),
                "{realm:?}"
            );
        }
        assert!(Config::builder().realm("My API (v2)").build().is_ok());
    }

    #[test]
    fn a_short_secret_is_refused_with_the_length_that_would_do() {
        assert!(message(Config::builder().secret_length(21)).contains("write at least 22"));
        assert!(Config::builder().secret_length(22).build().is_ok());
        assert!(
            message(Config::builder().secret_charset("hex").secret_length(31))
                .contains("at least 32")
        );
        assert!(message(Config::builder().secret_length(257)).contains("at most 256"));
        assert!(message(Config::builder().secret_length(0)).contains("at least 22"));
    }

    #[test]
    fn names_that_are_no_tokens_are_refused() {
        for name in ["", "X API", "X-Key:", "ä", "a\r\nb", &"a".repeat(65)] {
            assert!(
                message(Config::builder().header_name(name)).contains("header_name"),
                "{name:?}"
            );
        }
        assert!(message(Config::builder().header_type("Bear er")).contains("header_type"));
        assert!(message(Config::builder().location("nowhere")).contains("`header`"));
    }

    #[test]
    fn a_scheme_is_the_default_in_authorization_only() {
        let plain = Config::builder().header_name("X-API-Key").build().unwrap();
        assert_eq!(plain.header_type(), None);
        let with = Config::builder()
            .header_name("X-API-Key")
            .header_type("Key")
            .build()
            .unwrap();
        assert_eq!(with.header_type(), Some("Key"));
        let bare = Config::builder().header_type("").build().unwrap();
        assert_eq!(bare.header_type(), None);
    }

    #[test]
    fn prefixes_are_checked_one_by_one() {
        assert!(message(Config::builder().prefix("1a")).contains("letter"));
        assert!(message(Config::builder().prefix("a_")).contains("ends with"));
        assert!(message(Config::builder().prefix("a-b")).contains("characters other"));
        assert!(message(Config::builder().prefixes(Vec::<String>::new())).contains("empty"));
        assert!(message(Config::builder().prefixes(["a", "b", "a"])).contains("twice"));
        assert!(message(Config::builder().prefix("a").prefixes(["b"])).contains("both"));
    }

    #[test]
    fn any_place_can_be_the_default() {
        for (name, _) in LOCATION_KINDS {
            let config = Config::builder()
                .location(name.to_uppercase())
                .build()
                .unwrap();
            assert_eq!(config.location_name(), name);
        }
        assert!(message(Config::builder().param_name("a b")).contains("param_name"));
        assert!(message(Config::builder().body_limit(0)).contains("body_limit"));
        assert!(
            message(Config::builder().body_timeout(Duration::ZERO)).contains("body_timeout_ms")
        );
    }

    #[test]
    fn data_with_an_unknown_name_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{ "header_nam": "X" }"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("header_nam") && error.contains("header_name"),
            "{error}"
        );
        let error = serde_json::from_str::<Config>(r#"{ "secret_length": 3 }"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("entropy"), "{error}");
    }

    #[test]
    fn nothing_is_limited_by_default_but_failed_attempts() {
        let config = Config::default();
        assert_eq!(config.default_rate_limit(), None);
        assert_eq!(config.failed_attempts(), Some(Rate::per_minute(1_000)));
        assert_eq!(config.limit_prefetch(), 1);
        assert_eq!(config.usage_flush_interval().as_millis(), 10_000);
        assert_eq!(config.usage_retention(), HOUR * 2_160);
        assert_eq!(config.usage_roll_up_after(), HOUR * 168);
        let precision = config.usage_network_precision().unwrap();
        assert_eq!((precision.ipv4(), precision.ipv6()), (24, 48));
    }

    #[test]
    fn a_rate_is_a_text_or_a_rate_and_can_be_off() {
        let rate = Rate::per_minute(100).with_burst(20);
        let by_text = Config::builder().default_rate_limit("100/minute burst 20");
        let by_rate = Config::builder().default_rate_limit(rate);
        let data = r#"{ "default_rate_limit": "100/60s burst 20" }"#;
        let by_data: Config = serde_json::from_str(data).unwrap();
        for config in [by_text.build().unwrap(), by_rate.build().unwrap(), by_data] {
            assert_eq!(config.default_rate_limit(), Some(rate));
        }
        let config = Config::builder()
            .default_rate_limit("OFF")
            .failed_attempts("off")
            .usage_network_precision("off")
            .build()
            .unwrap();
        assert_eq!(
            (config.default_rate_limit(), config.failed_attempts()),
            (None, None)
        );
        assert_eq!(config.usage_network_precision(), None);
    }

    #[test]
    fn a_rate_that_is_none_is_named_with_what_to_write() {
        for text in [
            "",
            "100",
            "0/minute",
            "100/fortnight",
            "none",
            "-1/s",
            "100/minute burst 0",
        ] {
            for (name, builder) in [
                (
                    "`default_rate_limit`",
                    Config::builder().default_rate_limit(text),
                ),
                ("`failed_attempts`", Config::builder().failed_attempts(text)),
            ] {
                let message = message(builder);
                assert!(message.contains(name), "{message}");
                assert!(message.contains("as in `100/minute`"), "{message}");
                assert!(message.ends_with("or `off`"), "{message}");
            }
        }
    }

    #[test]
    fn numbers_have_their_bounds() {
        let (day, milli) = (HOUR * 24, Duration::from_millis(1));
        let batch = |units| Config::builder().limit_prefetch(units);
        let flush = |interval| Config::builder().usage_flush_interval(interval);
        let look = |interval| Config::builder().expiry_notice_interval(interval);
        let keep = |retention| Config::builder().usage_retention(retention);
        let roll_up = |age| Config::builder().usage_roll_up_after(age);
        for builder in [
            batch(1),
            batch(1_000),
            flush(milli * 100),
            flush(HOUR),
            look(milli * 100),
            look(HOUR),
            keep(HOUR),
            keep(day * 3_650),
            roll_up(HOUR),
            roll_up(day * 3_650),
        ] {
            assert!(builder.clone().build().is_ok(), "{builder:?}");
        }
        for (builder, name) in [
            (batch(0), "limit_prefetch"),
            (batch(1_001), "limit_prefetch"),
            (flush(milli * 99), "usage_flush_interval_ms"),
            (flush(HOUR + milli), "usage_flush_interval_ms"),
            (flush(Duration::MAX), "usage_flush_interval_ms"),
            (look(milli * 99), "expiry_notice_interval_ms"),
            (look(HOUR + milli), "expiry_notice_interval_ms"),
            (keep(HOUR - milli), "usage_retention_hours"),
            (keep(day * 3_651), "usage_retention_hours"),
            (keep(Duration::MAX), "usage_retention_hours"),
            (roll_up(HOUR - milli), "usage_roll_up_after_hours"),
            (roll_up(Duration::MAX), "usage_roll_up_after_hours"),
        ] {
            let message = message(builder);
            assert!(message.contains(name), "{message}");
            assert!(message.contains("; write `"), "{message}");
        }
    }
}
