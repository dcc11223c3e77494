//! Configuration: the names and defaults of flask-api-key, validated once.

mod builder;
mod checks;
mod env;
mod expiry_notice;
mod issue;
mod precision;
mod proxies;
mod service_links;
mod settings;
mod unknown;

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::key::Charset;
use crate::limit::Rate;
use crate::policy::{IssuePolicy, KeyLocation};

pub use precision::NetworkPrecision;
pub use proxies::ForwardedHeader;
pub(crate) use proxies::TrustedProxies;
pub use settings::ConfigBuilder;

/// The validated, read-only settings of a manager.
///
/// A `Config` is created in code ([`Config::builder`]), from data (it implements [`Deserialize`]),
/// or from the environment ([`Config::from_env`]). [`ConfigBuilder::with_env`] merges the three.
/// Names and defaults are those of flask-api-key.
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
///
/// # Settings
///
#[doc = include_str!("../../SETTINGS.md")]
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ConfigBuilder")]
pub struct Config {
    place: LocationKind,
    header_name: String,
    /// The name in lower case, for lookups in requests.
    header_key: String,
    header_type: Option<String>,
    param_name: String,
    prefixes: Vec<String>,
    secret_length: usize,
    secret_charset: Charset,
    realm: Option<String>,
    /// The longest first.
    expiry_notice_days: Vec<u32>,
    expiry_notice_interval: Duration,
    deprecation_headers: bool,
    trusted_proxies: TrustedProxies,
    forwarded_header: Option<ForwardedHeader>,
    body_limit: usize,
    body_timeout: Duration,
    store_timeout: Duration,
    start_timeout: Duration,
    watch_patience: Duration,
    cache_capacity: usize,
    default_rate_limit: Option<Rate>,
    failed_attempts: Option<Rate>,
    limit_prefetch: u32,
    counter_namespace: String,
    usage_flush_interval: Duration,
    usage_retention: Duration,
    usage_roll_up_after: Duration,
    usage_network_precision: Option<NetworkPrecision>,
    issue_policy: IssuePolicy,
    idle_expiry: Option<Duration>,
    audit_retention: Duration,
}

/// The default location of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocationKind {
    Header,
    Basic,
    WebSocket,
    Query,
    Cookie,
    Json,
    Form,
}

/// Locations by the names in the configuration.
const LOCATION_KINDS: [(&str, LocationKind); 7] = [
    ("header", LocationKind::Header),
    ("basic", LocationKind::Basic),
    ("websocket", LocationKind::WebSocket),
    ("query", LocationKind::Query),
    ("cookie", LocationKind::Cookie),
    ("json", LocationKind::Json),
    ("form", LocationKind::Form),
];

impl Config {
    /// Creates a builder with the defaults.
    #[must_use]
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Returns the name of the location that a route uses by default: `header`, `basic`,
    /// `websocket`, `query`, `cookie`, `json` or `form`.
    #[must_use]
    pub fn location_name(&self) -> &'static str {
        LOCATION_KINDS
            .iter()
            .find(|(_, place)| *place == self.place)
            .map_or("header", |(name, _)| name)
    }

    /// Returns the header that carries the key, if the location is a header.
    #[must_use]
    pub fn header_name(&self) -> &str {
        &self.header_name
    }

    /// Returns the scheme before the key in that header; `None` if the header contains only the
    /// key.
    #[must_use]
    pub fn header_type(&self) -> Option<&str> {
        self.header_type.as_deref()
    }

    /// Returns the name of the parameter, cookie, member or field that carries the key, if the
    /// location is one of these.
    #[must_use]
    pub fn param_name(&self) -> &str {
        &self.param_name
    }

    /// Returns the prefix of new keys.
    #[must_use]
    pub fn prefix(&self) -> &str {
        // `build` rejects an empty list.
        self.prefixes.first().map_or("", String::as_str)
    }

    /// Returns all accepted prefixes; the first is for new keys.
    #[must_use]
    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    /// Returns the number of characters of a new secret.
    #[must_use]
    pub fn secret_length(&self) -> usize {
        self.secret_length
    }

    /// Returns the alphabet of a new secret.
    #[must_use]
    pub fn secret_charset(&self) -> &Charset {
        &self.secret_charset
    }

    /// Returns the realm that a 401 names (RFC 9110 section 11.5).
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// Returns how many days before the end of a key its holder is told, the largest number first.
    #[must_use]
    pub fn expiry_notice_days(&self) -> &[u32] {
        &self.expiry_notice_days
    }

    /// Returns how often a node with a reader of events looks for keys that expire soon.
    #[must_use]
    pub fn expiry_notice_interval(&self) -> Duration {
        self.expiry_notice_interval
    }

    /// Returns whether responses within the notice have `Deprecation` and `Sunset`, too.
    #[must_use]
    pub fn deprecation_headers(&self) -> bool {
        self.deprecation_headers
    }

    /// Returns the networks of the trusted proxies.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies.networks
    }

    /// Returns whether the peers of Unix sockets are trusted proxies.
    #[must_use]
    pub fn trusts_unix_sockets(&self) -> bool {
        self.trusted_proxies.unix
    }

    /// Returns the header in which the trusted proxies name their clients.
    #[must_use]
    pub fn forwarded_header(&self) -> Option<ForwardedHeader> {
        self.forwarded_header
    }

    /// Returns the maximum size in bytes of a body that is searched for a key.
    #[must_use]
    pub fn body_limit(&self) -> usize {
        self.body_limit
    }

    /// Returns how long such a body may take to arrive.
    #[must_use]
    pub fn body_timeout(&self) -> Duration {
        self.body_timeout
    }

    /// Returns how long a store call may take before it counts as failed.
    #[must_use]
    pub fn store_timeout(&self) -> Duration {
        self.store_timeout
    }

    /// Returns how long a start waits for a slow store; see
    /// [`ConfigBuilder::start_timeout`].
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// Returns how long a watch waits for a store that does not answer; see
    /// [`ConfigBuilder::watch_patience`].
    #[must_use]
    pub fn watch_patience(&self) -> Duration {
        self.watch_patience
    }

    /// Returns the maximum number of cached keys.
    #[must_use]
    pub fn cache_capacity(&self) -> usize {
        self.cache_capacity
    }

    /// Returns the rate of keys without limits of their own; `None` for unlimited.
    #[must_use]
    pub fn default_rate_limit(&self) -> Option<Rate> {
        self.default_rate_limit
    }

    /// Returns the rate of failed attempts that a client's address is allowed; `None` if they are
    /// not counted.
    #[must_use]
    pub fn failed_attempts(&self) -> Option<Rate> {
        self.failed_attempts
    }

    /// Returns how many requests' units a process may prefetch from the store; 1 disables
    /// prefetching.
    #[must_use]
    pub fn limit_prefetch(&self) -> u32 {
        self.limit_prefetch
    }

    /// Returns the name that tells the limit counters of this service from those of others on the
    /// same store. It is empty if it is not set.
    #[must_use]
    pub fn counter_namespace(&self) -> &str {
        &self.counter_namespace
    }

    /// Returns how often usage is written to the store.
    #[must_use]
    pub fn usage_flush_interval(&self) -> Duration {
        self.usage_flush_interval
    }

    /// Returns how long usage is kept.
    #[must_use]
    pub fn usage_retention(&self) -> Duration {
        self.usage_retention
    }

    /// Returns after how long usage is kept by day instead of by hour.
    #[must_use]
    pub fn usage_roll_up_after(&self) -> Duration {
        self.usage_roll_up_after
    }

    /// Returns how much of a client's network is kept with the last use of a key; `None` if it is
    /// not kept.
    #[must_use]
    pub fn usage_network_precision(&self) -> Option<NetworkPrecision> {
        self.usage_network_precision
    }

    /// Returns the rules for issuing keys.
    #[must_use]
    pub fn issue_policy(&self) -> &IssuePolicy {
        &self.issue_policy
    }

    /// Returns after how long without a use a key is idle, and denied; `None` if never.
    #[must_use]
    pub fn idle_expiry(&self) -> Option<Duration> {
        self.idle_expiry
    }

    /// Returns how long entries of the audit log are kept.
    #[must_use]
    pub fn audit_retention(&self) -> Duration {
        self.audit_retention
    }

    /// Returns the location that a route uses by default.
    pub(crate) fn location(&self) -> KeyLocation<'_> {
        let name = self.param_name.as_str();
        match self.place {
            LocationKind::Header => KeyLocation::Header {
                name: &self.header_key,
                scheme: self.header_type.as_deref(),
            },
            LocationKind::Basic => KeyLocation::Basic,
            LocationKind::WebSocket => KeyLocation::WebSocket,
            LocationKind::Query => KeyLocation::Query { name },
            LocationKind::Cookie => KeyLocation::Cookie { name },
            LocationKind::Json => KeyLocation::Json { name },
            LocationKind::Form => KeyLocation::Form { name },
        }
    }

    /// Returns the trusted proxies and their header; `None` if proxies are not trusted.
    pub(crate) fn proxies(&self) -> Option<(ForwardedHeader, &TrustedProxies)> {
        self.forwarded_header
            .map(|header| (header, &self.trusted_proxies))
    }

    pub(crate) fn accepts_prefix(&self, prefix: &str) -> bool {
        self.prefixes.iter().any(|accepted| accepted == prefix)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            place: LocationKind::Header,
            header_name: "Authorization".to_owned(),
            header_key: "authorization".to_owned(),
            header_type: Some("Bearer".to_owned()),
            param_name: "api_key".to_owned(),
            prefixes: vec!["my_api".to_owned()],
            secret_length: 64,
            secret_charset: Charset::default(),
            realm: None,
            expiry_notice_days: vec![30, 7, 1],
            expiry_notice_interval: Duration::from_secs(60),
            deprecation_headers: false,
            trusted_proxies: TrustedProxies::default(),
            forwarded_header: None,
            body_limit: 64 * 1024,
            body_timeout: Duration::from_secs(5),
            store_timeout: Duration::from_secs(2),
            start_timeout: Duration::from_secs(30),
            watch_patience: Duration::from_secs(5),
            cache_capacity: 100_000,
            default_rate_limit: None,
            failed_attempts: Some(Rate::per_minute(1_000)),
            limit_prefetch: 1,
            counter_namespace: String::new(),
            usage_flush_interval: Duration::from_secs(10),
            usage_retention: Duration::from_hours(24 * 90),
            usage_roll_up_after: Duration::from_hours(24 * 7),
            usage_network_precision: Some(NetworkPrecision::default()),
            issue_policy: IssuePolicy::unrestricted(),
            idle_expiry: None,
            audit_retention: Duration::from_hours(24 * 365),
        }
    }
}
