//! The table of settings: their names in code, in data and in the environment.

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::unknown::suggestion;
use crate::clock::millis_u64;

/// Declares [`ConfigBuilder`] and [`SETTINGS`].
///
/// A row is `method(argument: type) => name: type = value;`. The name is that of the setting in
/// data and, in capital letters, in the environment.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $method:ident($argument:ident: $from:ty) => $name:ident: $to:ty = $value:expr;
    )+) => {
        /// Settings that are not validated yet; see [`Config`](super::Config).
        ///
        /// A later source replaces an earlier one: `toml::from_str::<ConfigBuilder>(&file)?` reads
        /// a file, [`with_env`](Self::with_env) replaces what the environment sets, and the other
        /// methods replace what the code sets.
        #[derive(Debug, Clone, Default)]
        pub struct ConfigBuilder {
            $(pub(super) $name: Option<$to>,)+
            /// The settings whose values come from the environment, for messages.
            pub(super) from_env: Vec<&'static str>,
        }

        impl ConfigBuilder {$(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $method(mut self, $argument: $from) -> Self {
                self.$name = Some($value);
                self.from_env.retain(|name| *name != stringify!($name));
                self
            }
        )+}

        impl<'de> Visitor<'de> for SettingsVisitor {
            type Value = ConfigBuilder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ConfigBuilder, A::Error> {
                let mut builder = ConfigBuilder::default();
                let mut seen = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        $(stringify!($name) => builder.$name = map.next_value()?,)+
                        other => {
                            let hint = suggestion(other, NAMES, str::to_owned);
                            let message = format!("the setting `{other}` is not known; {hint}");
                            return Err(A::Error::custom(message));
                        }
                    }
                    if seen.contains(&name) {
                        return Err(A::Error::custom(format_args!("`{name}` is set twice; set it once")));
                    }
                    seen.push(name);
                }
                Ok(builder)
            }
        }

        /// The name of every setting in data, in the order of the table.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),+];

        /// Every setting, in the order of the table.
        pub(super) const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            read: |builder, text| {
                builder.$name = Some(<$to>::from_text(text)?);
                Ok(())
            },
        }),+];
    };
}

/// Reads settings by their names.
struct SettingsVisitor;

// Written by hand, since a derived one lists all names if one is unknown, and does not suggest any.
impl<'de> Deserialize<'de> for ConfigBuilder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

/// A setting, read by its name.
pub(super) struct Setting {
    /// The name in data.
    pub(super) name: &'static str,
    /// Reads the text of an environment variable into the builder.
    pub(super) read: fn(&mut ConfigBuilder, String) -> Result<(), &'static str>,
}

// `SETTINGS.md` describes the same settings; a test compares them.
settings! {
    /// Sets the default location of the key: `header`, `basic` (the user name of Basic
    /// credentials), `websocket` (the subprotocol after `bearer`), `query`, `cookie`, `json` or
    /// `form` (in the body); case-insensitive. By default, `header`.
    location(location: impl Into<String>) => location: String = location.into();

    /// Sets the header that carries the key. By default, `Authorization`.
    header_name(name: impl Into<String>) => header_name: String = name.into();

    /// Sets the scheme before the key in that header; an empty text means that the header contains
    /// only the key. By default, `Bearer` in `Authorization`, and empty in other headers.
    header_type(scheme: impl Into<String>) => header_type: String = scheme.into();

    /// Sets the name of the parameter, cookie, member or field that carries the key, if
    /// [`location`](ConfigBuilder::location) is one of these: 1 to 64 ASCII letters, digits, `_`,
    /// `-` and `.`. By default, `api_key`.
    param_name(name: impl Into<String>) => param_name: String = name.into();

    /// Sets the prefix of new keys, and the only accepted one: 1 to 32 ASCII letters, digits and
    /// `_`. By default, `my_api`.
    prefix(prefix: impl Into<String>) => prefix: String = prefix.into();

    /// Sets all accepted prefixes; the first is for new keys. It replaces
    /// [`prefix`](ConfigBuilder::prefix), so that old keys stay valid after a rename.
    prefixes(prefixes: impl IntoIterator<Item = impl Into<String>>) =>
        prefixes: Vec<String> = prefixes.into_iter().map(Into::into).collect();

    /// Sets the number of characters of a new secret: at most 256, and enough for 128 bits. By
    /// default, 64.
    secret_length(characters: usize) => secret_length: usize = characters;

    /// Sets the alphabet of a new secret; see [`Charset`](crate::key::Charset). By default, `ascii_62`.
    secret_charset(charset: impl Into<String>) => secret_charset: String = charset.into();

    /// Sets the realm that a 401 names: printable ASCII without `"` and `\`. By default, a 401 does
    /// not name a realm.
    realm(realm: impl Into<String>) => realm: String = realm.into();

    /// Sets how many days before the end of a key its holder is told that it ends: at most 10
    /// numbers, each 1 to 3,650, none of them twice, in any order. Within the largest, responses have
    /// the header `Api-Key-Expires`; see [`guide::end_of_a_key`](crate::guide::end_of_a_key). An empty
    /// list disables it. By default, 30, 7 and 1.
    expiry_notice_days(days: impl IntoIterator<Item = u32>) =>
        expiry_notice_days: Vec<u32> = days.into_iter().collect();

    /// Sets how often a node with a reader of [events](crate::ApiKeyManager::events) looks for keys that expire soon,
    /// 100 ms to 1 hour: so late can an [`ExpiringSoon`](crate::events::EventKind::ExpiringSoon) event be. Each
    /// such node makes one store call at this interval. By default, 60 s.
    expiry_notice_interval(interval: Duration) =>
        expiry_notice_interval_ms: u64 = millis_u64(interval);

    /// Sets whether responses within the notice also have `Deprecation` (RFC 9745) and `Sunset`
    /// (RFC 8594), which many clients read; see
    /// [`guide::end_of_a_key`](crate::guide::end_of_a_key). By default, `false`.
    deprecation_headers(send: bool) => deprecation_headers: bool = send;

    /// Sets the networks of the trusted proxies, such as `10.0.0.0/8`; a single address is a
    /// network of one. The word `unix` trusts the peers of Unix sockets. Requires [`forwarded_header`](ConfigBuilder::forwarded_header). By default,
    /// proxies are not trusted and forwarded headers are ignored.
    trusted_proxies(networks: impl IntoIterator<Item = impl Into<String>>) =>
        trusted_proxies: Vec<String> = networks.into_iter().map(Into::into).collect();

    /// Sets the only header in which the proxies are trusted: `Forwarded` or `X-Forwarded-For`. It
    /// has no default.
    forwarded_header(header: impl Into<String>) => forwarded_header: String = header.into();

    /// Sets the maximum size of a body that is searched for the key, 1 byte to 16 MiB; a larger
    /// body is denied with 413. By default, 64 KiB.
    body_limit(bytes: usize) => body_limit: usize = bytes;

    /// Sets how long such a body may take to arrive, 1 ms to 60 s; a slower body is denied with
    /// 408. By default, 5 s.
    body_timeout(timeout: Duration) => body_timeout_ms: u64 = millis_u64(timeout);

    /// Sets how long a store call may take, 1 ms to 60 s; the request is then denied with 503.
    /// Writing usage, which requests do not wait for, may take ten times as long. By default, 2 s.
    store_timeout(timeout: Duration) => store_timeout_ms: u64 = millis_u64(timeout);

    /// Sets how long a start waits for a store that is slow to start, or to answer the first poll,
    /// 1 ms to 1 hour. A store may take a minute more to start, since one whose lease was lowered
    /// waits until the longer leases have ended, and these last a minute at most. It does not end a store that brings the
    /// tables of an older release up to date, which the log says. After a second, the log says what the start waits for, and how long. A store that refuses (the connection,
    /// the password) ends the start at once. By default, 30 s.
    start_timeout(timeout: Duration) => start_timeout_ms: u64 = millis_u64(timeout);

    /// Sets how long a [watch](crate::ApiKey::watch) waits for a store that does not answer, 1 ms to 1 hour,
    /// before it ends with [`WatchEnd::Unknown`](crate::WatchEnd::Unknown). It counts from the end of
    /// the lease, or from a change of the key that cannot be read. A stream may outlive a revocation by
    /// this much and a lease. By default, 5 s.
    watch_patience(patience: Duration) => watch_patience_ms: u64 = millis_u64(patience);

    /// Sets the maximum number of cached keys; 0 disables the cache. By default, 100,000.
    cache_capacity(keys: usize) => cache_capacity: usize = keys;

    /// Sets the rate of keys without limits of their own, across all routes: a
    /// [`Rate`](crate::Rate), or a text such as `100/minute` or `100/minute burst 20`; `off` for
    /// unlimited. By default, `off`.
    default_rate_limit(rate: impl fmt::Display) => default_rate_limit: String = rate.to_string();

    /// Sets the rate of failed attempts that a client's address is allowed before its requests are
    /// denied with 429: a [`Rate`](crate::Rate), or a text such as `60/minute burst 20`; `off` to
    /// disable counting. IPv6 addresses are counted by /64. A valid key that is cached is still
    /// allowed. By default, `1000/minute`.
    failed_attempts(rate: impl fmt::Display) => failed_attempts: String = rate.to_string();

    /// Sets for how many requests a process may prefetch units of the limits that its store counts,
    /// in one call: 1 to 1,000.
    ///
    /// With 1, each request with such limits queries the store; with more, fewer requests do. A
    /// quota is never exceeded. Units that are not used within a second are refunded to quotas, except
    /// at the very end of a period. A process that is killed loses them: at most this many requests'
    /// units for each check of the key that was in progress. Nothing is prefetched for requests with a
    /// rolling quota. By default, 1. See [`guide::limits`](crate::guide::limits).
    limit_prefetch(units: u32) => limit_prefetch: u32 = units;

    /// Sets a name that tells the limit counters of this service from those of others on the same
    /// store: at most 64 ASCII letters, digits, `-`, `_` and `.`. If it is empty, the counters
    /// are shared with other services that do not set it.
    ///
    /// The rates of routes and [`default_rate_limit`](ConfigBuilder::default_rate_limit) are counted
    /// under it, so use the same name in all processes of a service. A key's own limits are counted
    /// for all services together. By default, empty.
    counter_namespace(name: impl Into<String>) => counter_namespace: String = name.into();

    /// Sets how often usage is written to the store, 100 ms to 1 hour. While the store accepts
    /// usage, a crash loses at most this much of it. By default, 10 s.
    usage_flush_interval(interval: Duration) =>
        usage_flush_interval_ms: u64 = millis_u64(interval);

    /// Sets how long usage is kept, 1 hour to 10 years (87,600 hours), rounded down to whole hours.
    ///
    /// A node removes the older usage of all nodes, so use the same value on each. By default, 90
    /// days.
    usage_retention(retention: Duration) =>
        usage_retention_hours: u64 = retention.as_secs() / 3_600;

    /// Sets after how long usage is kept by day (UTC) instead of by hour, 1 hour to 10 years (87,600
    /// hours), rounded down to whole hours. It counts from the end of the day.
    ///
    /// A node rolls up the usage of all nodes, so use the same value on each. Hours are kept as long
    /// as days if it is as long as [`usage_retention`](Self::usage_retention). By default, 7 days.
    usage_roll_up_after(age: Duration) =>
        usage_roll_up_after_hours: u64 = age.as_secs() / 3_600;

    /// Sets how much of a client's network is kept with the last use of a key: the number of bits
    /// of its address, for IPv4 and for IPv6, as in `24/48`; `off` to keep nothing. By default,
    /// `24/48`.
    usage_network_precision(bits: impl fmt::Display) =>
        usage_network_precision: String = bits.to_string();

    /// Sets the longest lifetime of a key, measured from the call that sets its expiry: 1 hour to 100
    /// years (876,000 hours), rounded down to whole hours. Keys must then expire. By default, any.
    ///
    /// This setting and the next four are the rules for issuing keys: see
    /// [`IssuePolicy`](crate::manager::IssuePolicy).
    max_lifetime(lifetime: Duration) => max_lifetime_hours: u64 = lifetime.as_secs() / 3_600;

    /// Sets the lifetime of a new key whose call does not set one: 1 hour to 100 years, at most the
    /// longest, rounded down to whole hours. By default, such a key never expires.
    default_lifetime(lifetime: Duration) =>
        default_lifetime_hours: u64 = lifetime.as_secs() / 3_600;

    /// Sets whether keys must expire. By default, `false`.
    lifetime_required(required: bool) => lifetime_required: bool = required;

    /// Sets the maximum number of an owner's live keys, 1 to 100,000: those that are neither revoked
    /// nor expired. Keys without an owner are not counted. By default, any number.
    max_keys_per_owner(keys: u32) => max_keys_per_owner: u32 = keys;

    /// Sets the scopes that keys may have, at most 256. A segment `{name}` stands for any one segment,
    /// as in `project:{id}:read`. By default, all.
    allowed_scopes(scopes: impl IntoIterator<Item = impl Into<String>>) =>
        allowed_scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();

    /// Sets after how long without a use a key is idle, and denied: 24 hours to 100 years (876,000 hours),
    /// rounded down to whole hours. By default, never. See
    /// [`guide::end_of_a_key`](crate::guide::end_of_a_key).
    ///
    /// The store must keep usage. Use the same value in all processes.
    idle_expiry(unused: Duration) => idle_expiry_hours: u64 = unused.as_secs() / 3_600;

    /// Sets how long entries of the [audit log](crate::ApiKeyManager::audit) are kept, 24 hours to 10
    /// years (87,600 hours), rounded down to whole hours.
    ///
    /// A node removes the older entries of all nodes, so use the same value in all processes. It begins
    /// when it has run for an hour. By default, 365 days.
    audit_retention(retention: Duration) =>
        audit_retention_hours: u64 = retention.as_secs() / 3_600;
}

/// Parses the text of an environment variable. The error says what to write.
trait FromText: Sized {
    fn from_text(text: String) -> Result<Self, &'static str>;
}

const NOT_A_NUMBER: &str = "is not a whole number in range; write digits only";

impl FromText for String {
    fn from_text(text: String) -> Result<Self, &'static str> {
        Ok(text)
    }
}

/// A list is separated by commas.
impl FromText for Vec<String> {
    fn from_text(text: String) -> Result<Self, &'static str> {
        Ok(text.split(',').map(|one| one.trim().to_owned()).collect())
    }
}

/// A list is separated by commas, and an empty text is an empty list.
impl FromText for Vec<u32> {
    fn from_text(text: String) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Ok(Self::new());
        }
        let numbers = text.split(',').map(|number| number.trim().parse());
        let numbers = numbers.collect::<Result<_, std::num::ParseIntError>>();
        numbers.map_err(
            |_not_numbers| "is not a list of whole numbers in range; write them as in `30,7,1`",
        )
    }
}

impl FromText for usize {
    fn from_text(text: String) -> Result<Self, &'static str> {
        text.parse().map_err(|_not_a_number| NOT_A_NUMBER)
    }
}

impl FromText for u32 {
    fn from_text(text: String) -> Result<Self, &'static str> {
        text.parse().map_err(|_not_a_number| NOT_A_NUMBER)
    }
}

impl FromText for u64 {
    fn from_text(text: String) -> Result<Self, &'static str> {
        text.parse().map_err(|_not_a_number| NOT_A_NUMBER)
    }
}

impl FromText for bool {
    fn from_text(text: String) -> Result<Self, &'static str> {
        let text = text.to_ascii_lowercase();
        let parsed = text.parse();
        parsed.map_err(|_not_a_bool| "is neither `true` nor `false`; write one of them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Returns the name and the default of each row ``| `name` | .. | `default` |``.
    fn documented() -> impl Iterator<Item = (&'static str, &'static str)> {
        let rows = include_str!("../../SETTINGS.md").lines();
        rows.filter_map(|row| {
            let (name, rest) = row.strip_prefix("| `")?.split_once('`')?;
            let (_, default) = rest.trim_end_matches([' ', '|']).rsplit_once("| ")?;
            Some((name, default))
        })
    }

    #[test]
    fn the_documented_settings_are_those_of_the_table() {
        let documented: Vec<_> = documented().map(|(name, _)| name).collect();
        let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(documented, names);
    }

    #[test]
    fn the_documented_defaults_are_those_of_the_code() {
        for ((name, default), setting) in documented().zip(SETTINGS) {
            let mut builder = Config::builder();
            if default != "not set" {
                let text = default.trim_matches('`').to_owned();
                (setting.read)(&mut builder, text).unwrap();
            }
            assert_eq!(builder.build().unwrap(), Config::default(), "{name}");
        }
    }

    #[test]
    fn a_namespace_of_counters_has_its_bounds_and_characters() {
        let long = "a".repeat(65);
        for name in ["a:b", "a/b", "a b", "\u{e9}", "a\n", long.as_str()] {
            let built = Config::builder().counter_namespace(name).build();
            let message = built.unwrap_err().to_string();
            assert!(
                message.contains("`counter_namespace` is at most 64"),
                "{message}"
            );
        }
        let data = r#"{ "counter_namespace": "eu-1.orders_v2" }"#;
        let config: Config = serde_json::from_str(data).unwrap();
        assert_eq!(config.counter_namespace(), "eu-1.orders_v2");
        let empty = Config::builder().counter_namespace("").build().unwrap();
        assert_eq!(empty, Config::default());
    }
}
