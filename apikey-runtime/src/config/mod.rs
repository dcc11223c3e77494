//! What is configured: names and defaults of flask-api-key, checked once.

mod env;
mod names;

use std::time::Duration;

use serde::Deserialize;

use crate::error::Error;
use crate::key::{Charset, check_prefix};
use crate::policy::Location;

pub(crate) use names::closest;

/// The least entropy of a secret, in bits (RFC 4086 section 8.2.1 asks 128 for a key that lasts).
const MIN_SECRET_BITS: u32 = 128;

/// The longest secret, in characters.
const MAX_SECRET_LEN: usize = 256;

/// The settings of a manager: checked, and read-only from then on.
///
/// Made from code ([`Config::builder`]), from data (it implements [`Deserialize`]), or from the
/// environment ([`Config::from_env`]). The names are those of flask-api-key, and so are the
/// defaults.
///
/// ```
/// use apikey_runtime::Config;
///
/// let config = Config::builder().prefix("acme").header_name("X-API-Key").build()?;
/// assert_eq!((config.header_name(), config.header_type()), ("X-API-Key", None));
///
/// let config: Config = serde_json::from_str(r#"{ "prefixes": ["acme", "my_api"], "secret_length": 43 }"#)?;
/// assert_eq!((config.prefix(), config.secret_length()), ("acme", 43));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ConfigBuilder")]
pub struct Config {
    header_name: String,
    /// The name in lower case, as requests are searched for it.
    header_key: String,
    header_type: Option<String>,
    prefixes: Vec<String>,
    secret_length: usize,
    secret_charset: Charset,
    realm: Option<String>,
    store_timeout: Duration,
    cache_capacity: usize,
}

/// Where a key is looked for by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
}

/// Settings that are not checked yet; see [`Config`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigBuilder {
    location: Option<String>,
    header_name: Option<String>,
    header_type: Option<String>,
    prefix: Option<String>,
    prefixes: Option<Vec<String>>,
    secret_length: Option<usize>,
    secret_charset: Option<String>,
    realm: Option<String>,
    store_timeout_ms: Option<u64>,
    cache_capacity: Option<usize>,
}

impl Config {
    /// The defaults, to be changed.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The header that carries the key.
    #[must_use]
    pub fn header_name(&self) -> &str {
        &self.header_name
    }

    /// The scheme before the key in that header; `None` where the header is the key and nothing
    /// else.
    #[must_use]
    pub fn header_type(&self) -> Option<&str> {
        self.header_type.as_deref()
    }

    /// The prefix of new keys.
    #[must_use]
    pub fn prefix(&self) -> &str {
        // `build` admits no empty list.
        self.prefixes.first().map_or("", String::as_str)
    }

    /// All prefixes that are accepted; the first is that of new keys.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// How many characters a new secret has.
    #[must_use]
    pub fn secret_length(&self) -> usize {
        self.secret_length
    }

    /// Of what characters a new secret is made.
    #[must_use]
    pub fn secret_charset(&self) -> &Charset {
        &self.secret_charset
    }

    /// The realm that a 401 names (RFC 9110 section 11.5).
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// How long a call of the store may take before it counts as failed.
    #[must_use]
    pub fn store_timeout(&self) -> Duration {
        self.store_timeout
    }

    /// How many keys are kept in memory at most.
    #[must_use]
    pub fn cache_capacity(&self) -> usize {
        self.cache_capacity
    }

    /// Where the key is looked for on a route that does not say.
    pub(crate) fn location(&self) -> Location<'_> {
        Location::Header {
            name: &self.header_key,
            scheme: self.header_type.as_deref(),
        }
    }

    pub(crate) fn accepts_prefix(&self, prefix: &str) -> bool {
        self.prefixes.iter().any(|accepted| accepted == prefix)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header_name: "Authorization".to_owned(),
            header_key: "authorization".to_owned(),
            header_type: Some("Bearer".to_owned()),
            prefixes: vec!["my_api".to_owned()],
            secret_length: 64,
            secret_charset: Charset::default(),
            realm: None,
            store_timeout: Duration::from_secs(2),
            cache_capacity: 100_000,
        }
    }
}

impl ConfigBuilder {
    /// Where the key is looked for on a route that does not say: `header`, in any case of letters.
    /// By default, `header`.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// The header that carries the key. By default, `Authorization`.
    #[must_use]
    pub fn header_name(mut self, name: impl Into<String>) -> Self {
        self.header_name = Some(name.into());
        self
    }

    /// The scheme before the key in that header; empty for none. By default, `Bearer` in
    /// `Authorization` and none in any other header.
    #[must_use]
    pub fn header_type(mut self, scheme: impl Into<String>) -> Self {
        self.header_type = Some(scheme.into());
        self
    }

    /// The prefix of keys, and the only one that is accepted: 1 to 32 ASCII letters, digits and
    /// `_`. By default, `my_api`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// All prefixes that are accepted; the first is that of new keys. Instead of
    /// [`prefix`](ConfigBuilder::prefix), so that a rename keeps old keys.
    #[must_use]
    pub fn prefixes<I>(mut self, prefixes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.prefixes = Some(prefixes.into_iter().map(Into::into).collect());
        self
    }

    /// How many characters a new secret has: at most 256, and at least as many as make 128 bits. By
    /// default, 64.
    #[must_use]
    pub fn secret_length(mut self, characters: usize) -> Self {
        self.secret_length = Some(characters);
        self
    }

    /// Of what characters a new secret is made: see [`Charset`]. By default, `ascii_62`.
    #[must_use]
    pub fn secret_charset(mut self, charset: impl Into<String>) -> Self {
        self.secret_charset = Some(charset.into());
        self
    }

    /// The realm that a 401 names: printable ASCII without `"` and `\`. By default, none.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// How long a call of the store may take, from 1 ms to 60 s; then the request is answered with
    /// 503. By default, 2 s.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How many keys are kept in memory at most; 0 turns the cache off. By default, 100,000.
    #[must_use]
    pub fn cache_capacity(mut self, keys: usize) -> Self {
        self.cache_capacity = Some(keys);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for the first that cannot work; the message says what to write.
    pub fn build(self) -> Result<Config, Error> {
        let Place::Header = place(self.location.as_deref())?;
        let defaults = Config::default();
        let header_name = match self.header_name {
            Some(name) => checked("header_name", token(&name), name)?,
            None => defaults.header_name,
        };
        let header_key = header_name.to_ascii_lowercase();
        let header_type = match self.header_type {
            Some(scheme) if scheme.is_empty() => None,
            Some(scheme) => Some(checked("header_type", token(&scheme), scheme)?),
            None => (header_key == "authorization").then(|| "Bearer".to_owned()),
        };
        let secret_charset = match self.secret_charset {
            Some(charset) => charset.parse()?,
            None => defaults.secret_charset,
        };
        let secret_length = self.secret_length.unwrap_or(defaults.secret_length);
        check_secret(secret_length, &secret_charset)?;
        if let Some(realm) = &self.realm {
            check_realm(realm)?;
        }
        Ok(Config {
            header_name,
            header_key,
            header_type,
            prefixes: prefixes(self.prefix, self.prefixes)?.unwrap_or(defaults.prefixes),
            secret_length,
            secret_charset,
            realm: self.realm,
            store_timeout: store_timeout(self.store_timeout_ms)?.unwrap_or(defaults.store_timeout),
            cache_capacity: self.cache_capacity.unwrap_or(defaults.cache_capacity),
        })
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = Error;

    fn try_from(builder: ConfigBuilder) -> Result<Self, Error> {
        builder.build()
    }
}

fn fault<T>(message: String) -> Result<T, Error> {
    Err(Error::Config(message))
}

fn checked<T>(name: &str, check: Result<(), &'static str>, value: T) -> Result<T, Error> {
    check.map_err(|why| Error::Config(format!("`{name}` {why}")))?;
    Ok(value)
}

fn place(location: Option<&str>) -> Result<Place, Error> {
    match location.map(str::to_ascii_lowercase).as_deref() {
        None | Some("header") => Ok(Place::Header),
        Some(_) => fault("`location` is none that is known; write `header`".to_owned()),
    }
}

/// A token of RFC 9110 section 5.6.2: what a header's name and a scheme are made of.
fn token(text: &str) -> Result<(), &'static str> {
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

fn check_secret(length: usize, charset: &Charset) -> Result<(), Error> {
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
fn check_realm(realm: &str) -> Result<(), Error> {
    let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if realm.is_empty() || realm.len() > 128 || !realm.bytes().all(fits) {
        return fault("`realm` is 1 to 128 printable ASCII characters without `\"` and `\\`; leave the others out".to_owned());
    }
    Ok(())
}

fn prefixes(
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
        checked("prefix", check_prefix(prefix), ())?;
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

fn store_timeout(millis: Option<u64>) -> Result<Option<Duration>, Error> {
    match millis {
        None => Ok(None),
        Some(millis @ 1..=60_000) => Ok(Some(Duration::from_millis(millis))),
        Some(_) => fault(
            "`store_timeout_ms` lies outside 1 to 60000 (milliseconds); write `2000`".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(message(Config::builder().location("nowhere")).contains("write `header`"));
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
