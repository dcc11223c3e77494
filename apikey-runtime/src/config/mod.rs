//! What is configured: names and defaults of flask-api-key, checked once.

mod builder;
mod checks;
mod env;
mod precision;
mod proxies;
mod settings;

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::key::Charset;
use crate::limit::Rate;
use crate::policy::KeyLocation;

pub use precision::NetworkPrecision;
pub use proxies::ForwardedHeader;
pub use settings::ConfigBuilder;

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
/// let data = r#"{ "prefixes": ["acme", "my_api"], "secret_length": 43 }"#;
/// let config: Config = serde_json::from_str(data)?;
/// assert_eq!((config.prefix(), config.secret_length()), ("acme", 43));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ConfigBuilder")]
pub struct Config {
    place: Place,
    header_name: String,
    /// The name in lower case, as requests are searched for it.
    header_key: String,
    header_type: Option<String>,
    param_name: String,
    prefixes: Vec<String>,
    secret_length: usize,
    secret_charset: Charset,
    realm: Option<String>,
    trusted_proxies: Vec<IpNet>,
    forwarded_header: Option<ForwardedHeader>,
    body_limit: usize,
    body_timeout: Duration,
    store_timeout: Duration,
    cache_capacity: usize,
    default_rate_limit: Option<Rate>,
    failed_attempts: Option<Rate>,
    limit_prefetch: u32,
    usage_flush_interval: Duration,
    usage_retention: Duration,
    usage_network_precision: Option<NetworkPrecision>,
}

/// Where a key is looked for by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Basic,
    Query,
    Cookie,
    Json,
    Form,
}

/// Places by the names that are configured.
const PLACES: [(&str, Place); 6] = [
    ("header", Place::Header),
    ("basic", Place::Basic),
    ("query", Place::Query),
    ("cookie", Place::Cookie),
    ("json", Place::Json),
    ("form", Place::Form),
];

impl Config {
    /// The defaults, to be changed.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Where the key is looked for on a route that does not say: `header`, `basic`, `query`,
    /// `cookie`, `json` or `form`.
    #[must_use]
    pub fn location_name(&self) -> &'static str {
        PLACES
            .iter()
            .find(|(_, place)| *place == self.place)
            .map_or("header", |(name, _)| name)
    }

    /// The header that carries the key, where that is in a header.
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

    /// The name of the parameter, cookie, member or field that carries the key, where that is in
    /// one.
    #[must_use]
    pub fn param_name(&self) -> &str {
        &self.param_name
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

    /// The networks of the proxies that are believed.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }

    /// The header in which they are believed.
    #[must_use]
    pub fn forwarded_header(&self) -> Option<ForwardedHeader> {
        self.forwarded_header
    }

    /// How many bytes of a body are read at most, where the key is looked for in it.
    #[must_use]
    pub fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// How long such a body may take.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        self.body_timeout
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

    /// How fast a key may be used that has no limits of its own; `None` for as fast as it likes.
    #[must_use]
    pub fn default_rate_limit(&self) -> Option<Rate> {
        self.default_rate_limit
    }

    /// How many keys that are none a client's address may show; `None` where they are not counted.
    #[must_use]
    pub fn failed_attempts(&self) -> Option<Rate> {
        self.failed_attempts
    }

    /// How many units of a limit a process may take ahead from its store; 1 for none.
    #[must_use]
    pub fn limit_prefetch(&self) -> u32 {
        self.limit_prefetch
    }

    /// How often usage is written to the store.
    #[must_use]
    pub fn usage_flush_interval(&self) -> Duration {
        self.usage_flush_interval
    }

    /// For how long usage is kept.
    #[must_use]
    pub fn usage_retention(&self) -> Duration {
        self.usage_retention
    }

    /// How precisely a client's network is kept beside when a key was last used; `None` where it is
    /// not kept.
    #[must_use]
    pub fn usage_network_precision(&self) -> Option<NetworkPrecision> {
        self.usage_network_precision
    }

    /// Where the key is looked for on a route that does not say.
    pub(crate) fn location(&self) -> KeyLocation<'_> {
        let name = self.param_name.as_str();
        match self.place {
            Place::Header => KeyLocation::Header {
                name: &self.header_key,
                scheme: self.header_type.as_deref(),
            },
            Place::Basic => KeyLocation::Basic,
            Place::Query => KeyLocation::Query { name },
            Place::Cookie => KeyLocation::Cookie { name },
            Place::Json => KeyLocation::Json { name },
            Place::Form => KeyLocation::Form { name },
        }
    }

    /// The proxies that are believed, and in what; `None` where there are none.
    pub(crate) fn proxies(&self) -> Option<(ForwardedHeader, &[IpNet])> {
        self.forwarded_header
            .map(|header| (header, self.trusted_proxies.as_slice()))
    }

    pub(crate) fn accepts_prefix(&self, prefix: &str) -> bool {
        self.prefixes.iter().any(|accepted| accepted == prefix)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            place: Place::Header,
            header_name: "Authorization".to_owned(),
            header_key: "authorization".to_owned(),
            header_type: Some("Bearer".to_owned()),
            param_name: "api_key".to_owned(),
            prefixes: vec!["my_api".to_owned()],
            secret_length: 64,
            secret_charset: Charset::default(),
            realm: None,
            trusted_proxies: Vec::new(),
            forwarded_header: None,
            body_limit: 64 * 1024,
            body_timeout: Duration::from_secs(5),
            store_timeout: Duration::from_secs(2),
            cache_capacity: 100_000,
            default_rate_limit: None,
            failed_attempts: Some(Rate::per_minute(1_000)),
            limit_prefetch: 1,
            usage_flush_interval: Duration::from_secs(10),
            usage_retention: Duration::from_hours(24 * 90),
            usage_network_precision: Some(NetworkPrecision::default()),
        }
    }
}
