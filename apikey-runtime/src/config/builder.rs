//! Settings on their way to a [`Config`].

use std::time::Duration;

use serde::Deserialize;

use super::Config;
use super::checks::{
    check, check_param, check_realm, check_secret, check_size, millis, place, prefixes, proxies,
    token,
};
use crate::error::Error;
use crate::key::Charset;

/// Settings that are not checked yet; see [`Config`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigBuilder {
    pub(super) location: Option<String>,
    pub(super) header_name: Option<String>,
    pub(super) header_type: Option<String>,
    pub(super) param_name: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) prefixes: Option<Vec<String>>,
    pub(super) secret_length: Option<usize>,
    pub(super) secret_charset: Option<String>,
    pub(super) realm: Option<String>,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) forwarded_header: Option<String>,
    pub(super) body_limit: Option<usize>,
    pub(super) body_timeout_ms: Option<u64>,
    pub(super) store_timeout_ms: Option<u64>,
    pub(super) cache_capacity: Option<usize>,
    pub(super) default_rate_limit: Option<String>,
    pub(super) failed_attempts: Option<String>,
    pub(super) limit_prefetch: Option<u32>,
    pub(super) usage_flush_interval_ms: Option<u64>,
    pub(super) usage_retention_hours: Option<u64>,
    pub(super) usage_network_precision: Option<String>,
}

impl ConfigBuilder {
    /// Where the key is looked for on a route that does not say: `header`, `basic` (the user name
    /// of Basic credentials), `query`, `cookie`, `json` or `form` (in the body), in any case of
    /// letters. By default, `header`.
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

    /// The name of the parameter, cookie, member or field that carries the key, where
    /// [`location`](ConfigBuilder::location) is such a one: 1 to 64 ASCII letters, digits, `_`, `-`
    /// and `.`. By default, `api_key`.
    #[must_use]
    pub fn param_name(mut self, name: impl Into<String>) -> Self {
        self.param_name = Some(name.into());
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
    /// 503. Writing usage, which no request waits for, may take ten times as long. By default, 2 s.
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

    /// The networks of the proxies that are believed, such as `10.0.0.0/8`; a single address is a
    /// network of one. Needs [`forwarded_header`](ConfigBuilder::forwarded_header). By default,
    /// none: forwarded headers are ignored.
    #[must_use]
    pub fn trusted_proxies<I>(mut self, networks: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.trusted_proxies = Some(networks.into_iter().map(Into::into).collect());
        self
    }

    /// The header in which they are believed: `Forwarded` or `X-Forwarded-For`, and no other. There
    /// is no default.
    #[must_use]
    pub fn forwarded_header(mut self, header: impl Into<String>) -> Self {
        self.forwarded_header = Some(header.into());
        self
    }

    /// How many bytes of a body are read at most to look for the key, from 1 to 16 MiB; more is
    /// answered with 413. By default, 64 KiB.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = Some(bytes);
        self
    }

    /// How long such a body may take, from 1 ms to 60 s; longer is answered with 408. By default, 5
    /// s.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout_ms = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for the first that cannot work; the message says what to write.
    pub fn build(self) -> Result<Config, Error> {
        let defaults = Config::default();
        let metering = self.metering()?;
        let header_name = self.header_name.unwrap_or(defaults.header_name);
        check("header_name", token(&header_name))?;
        let header_key = header_name.to_ascii_lowercase();
        let header_type = match self.header_type {
            Some(scheme) if scheme.is_empty() => None,
            Some(scheme) => check("header_type", token(&scheme)).map(|()| Some(scheme))?,
            None => (header_key == "authorization").then(|| "Bearer".to_owned()),
        };
        let param_name = self.param_name.unwrap_or(defaults.param_name);
        check("param_name", check_param(&param_name))?;
        let secret_charset = self
            .secret_charset
            .map_or(Ok(Charset::default()), |text| text.parse())?;
        let secret_length = self.secret_length.unwrap_or(defaults.secret_length);
        check_secret(secret_length, &secret_charset)?;
        self.realm.as_deref().map_or(Ok(()), check_realm)?;
        let (trusted_proxies, forwarded_header) =
            proxies(self.trusted_proxies, self.forwarded_header)?;
        let body_limit = self.body_limit.unwrap_or(defaults.body_limit);
        check_size(body_limit)?;
        let body_timeout = millis("body_timeout_ms", self.body_timeout_ms)?;
        let store_timeout = millis("store_timeout_ms", self.store_timeout_ms)?;
        Ok(Config {
            place: place(self.location.as_deref())?,
            header_name,
            header_key,
            header_type,
            param_name,
            prefixes: prefixes(self.prefix, self.prefixes)?.unwrap_or(defaults.prefixes),
            secret_length,
            secret_charset,
            realm: self.realm,
            trusted_proxies,
            forwarded_header,
            body_limit,
            body_timeout: body_timeout.unwrap_or(defaults.body_timeout),
            store_timeout: store_timeout.unwrap_or(defaults.store_timeout),
            cache_capacity: self.cache_capacity.unwrap_or(defaults.cache_capacity),
            metering,
        })
    }
}

impl TryFrom<ConfigBuilder> for Config {
    type Error = Error;

    fn try_from(builder: ConfigBuilder) -> Result<Self, Error> {
        builder.build()
    }
}
