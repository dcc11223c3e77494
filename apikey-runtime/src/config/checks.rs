//! What a setting may be, and what is said of one that cannot work.

use std::time::Duration;

use ipnet::IpNet;

use super::{ForwardedHeader, PLACES, Place};
use crate::error::Error;
use crate::key::{Charset, check_prefix};
use crate::record::is_mapped;

/// The least entropy of a secret, in bits: what symmetric keys are held to (NIST SP 800-57 part 1,
/// table 2).
const MIN_SECRET_BITS: u32 = 128;

/// The longest secret, in characters.
const MAX_SECRET_LEN: usize = 256;

/// The largest body that is read to look for a key, in bytes: 16 MiB.
const MAX_BODY_LIMIT: usize = 16 << 20;

pub(super) fn fault<T>(message: String) -> Result<T, Error> {
    Err(Error::Config(message))
}

pub(super) fn check(name: &str, outcome: Result<(), &'static str>) -> Result<(), Error> {
    outcome.map_err(|why| Error::Config(format!("`{name}` {why}")))
}

pub(super) fn place(location: Option<&str>) -> Result<Place, Error> {
    let Some(location) = location else {
        return Ok(Place::Header);
    };
    let named = PLACES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(location));
    named.map(|(_, place)| *place).ok_or_else(|| {
        let known = PLACES.map(|(name, _)| format!("`{name}`")).join(", ");
        Error::Config(format!(
            "`location` is none that is known; write one of {known}"
        ))
    })
}

/// A name that needs no encoding in a query, a cookie or a form.
pub(super) fn check_param(name: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(
            "is 1 to 64 ASCII letters, digits, `_`, `-` and `.`; write a name such as `api_key`",
        );
    }
    Ok(())
}

pub(super) fn proxies(
    networks: Option<Vec<String>>,
    header: Option<String>,
) -> Result<(Vec<IpNet>, Option<ForwardedHeader>), Error> {
    let networks = networks.unwrap_or_default();
    let networks: Vec<IpNet> = networks
        .iter()
        .map(|text| network(text))
        .collect::<Result<_, _>>()?;
    let header = match header.map(|header| header.to_ascii_lowercase()).as_deref() {
        None => None,
        Some("forwarded") => Some(ForwardedHeader::Forwarded),
        Some("x-forwarded-for") => Some(ForwardedHeader::XForwardedFor),
        Some(_) => {
            return fault(
                "`forwarded_header` is none that is known; write `Forwarded` or `X-Forwarded-For`"
                    .to_owned(),
            );
        }
    };
    match (networks.is_empty(), header) {
        (false, None) => fault(
            "`trusted_proxies` are set and `forwarded_header` is not; \
             write the one that the proxies set, `Forwarded` or `X-Forwarded-For`"
                .to_owned(),
        ),
        (true, Some(_)) => fault(
            "`forwarded_header` is set and `trusted_proxies` are not; \
             write the proxies' networks, such as `10.0.0.0/8`"
                .to_owned(),
        ),
        _ => Ok((networks, header)),
    }
}

/// A network, or an address as a network of one.
fn network(text: &str) -> Result<IpNet, Error> {
    let address = || {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| IpNet::from(address.to_canonical()))
    };
    let own = |network: &IpNet| !is_mapped(network);
    text.parse().ok().or_else(address).filter(own).ok_or_else(|| {
        Error::Config(
            "one of `trusted_proxies` is no network; write addresses such as `10.0.0.0/8` or `192.0.2.1`".to_owned(),
        )
    })
}

/// A token of RFC 9110 section 5.6.2: what a header's name and a scheme are made of.
pub(super) fn token(text: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err(
            "is no token of RFC 9110; write letters, digits and `-`, as in `X-API-Key` or `Bearer`",
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
            "`secret_length` {length} of `{}` has {bits} bits of entropy, and {MIN_SECRET_BITS} are needed; write at least {enough}",
            charset.name()
        ));
    }
    Ok(())
}

/// The realm stands in a quoted string (RFC 9110 section 5.6.4); what would end it, or the header,
/// is refused here.
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
    let prefixes = match (one, several) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return fault("`prefix` and `prefixes` are both set; keep `prefixes`, its first is that of new keys".to_owned());
        }
        (Some(one), None) => vec![one],
        (None, Some(several)) => several,
    };
    if prefixes.is_empty() {
        return fault("`prefixes` is empty; write at least one, as in `my_api`".to_owned());
    }
    for prefix in &prefixes {
        check("prefix", check_prefix(prefix))?;
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

pub(super) fn check_size(body_limit: usize) -> Result<(), Error> {
    if (1..=MAX_BODY_LIMIT).contains(&body_limit) {
        return Ok(());
    }
    fault(format!(
        "`body_limit` lies outside 1 to {MAX_BODY_LIMIT} (bytes); write `65536`"
    ))
}

pub(super) fn millis(name: &str, millis: Option<u64>) -> Result<Option<Duration>, Error> {
    match millis {
        None => Ok(None),
        Some(millis @ 1..=60_000) => Ok(Some(Duration::from_millis(millis))),
        Some(_) => fault(format!(
            "`{name}` lies outside 1 to 60000 (milliseconds); write `2000`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigBuilder};

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
    fn proxies_and_their_header_go_together() {
        let proxied = |networks: &[&str], header: &str| {
            let builder = Config::builder().trusted_proxies(networks.iter().copied());
            builder.forwarded_header(header).build()
        };
        let config = proxied(&["10.0.0.0/8", "192.0.2.1", "fd00::/8"], "x-forwarded-for").unwrap();
        assert_eq!(config.trusted_proxies().len(), 3);
        assert_eq!(
            config.forwarded_header(),
            Some(ForwardedHeader::XForwardedFor)
        );
        assert!(
            message(Config::builder().trusted_proxies(["10.0.0.0/8"])).contains("forwarded_header")
        );
        assert!(
            message(Config::builder().forwarded_header("Forwarded")).contains("trusted_proxies")
        );
        assert!(proxied(&["10.0.0.0/33"], "Forwarded").is_err());
        assert!(proxied(&["10.0.0.0/8"], "X-Real-IP").is_err());
    }

    #[test]
    fn any_place_can_be_the_default() {
        for (name, _) in PLACES {
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
}
