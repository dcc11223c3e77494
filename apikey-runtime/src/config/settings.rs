//! The table of settings: their names in code, in data and in the environment.

use std::fmt;
use std::num::ParseIntError;
use std::time::Duration;

use serde::Deserialize;

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
        /// Settings that are not checked yet; see [`Config`](super::Config).
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct ConfigBuilder {
            $(pub(super) $name: Option<$to>,)+
        }

        impl ConfigBuilder {$(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $method(mut self, $argument: $from) -> Self {
                self.$name = Some($value);
                self
            }
        )+}

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

/// One setting, as it is read by its name.
pub(super) struct Setting {
    /// The name in data.
    pub(super) name: &'static str,
    /// Reads the text of an environment variable into the builder.
    pub(super) read: fn(&mut ConfigBuilder, String) -> Result<(), ParseIntError>,
}

// `SETTINGS.md` describes the same ones; a test compares them.
settings! {
    /// Where the key is looked for on a route that does not say: `header`, `basic` (the user name
    /// of Basic credentials), `query`, `cookie`, `json` or `form` (in the body), in any case of
    /// letters. By default, `header`.
    location(location: impl Into<String>) => location: String = location.into();

    /// The header that carries the key. By default, `Authorization`.
    header_name(name: impl Into<String>) => header_name: String = name.into();

    /// The scheme before the key in that header; empty for none. By default, `Bearer` in
    /// `Authorization` and none in any other header.
    header_type(scheme: impl Into<String>) => header_type: String = scheme.into();

    /// The name of the parameter, cookie, member or field that carries the key, where
    /// [`location`](ConfigBuilder::location) is such a one: 1 to 64 ASCII letters, digits, `_`, `-`
    /// and `.`. By default, `api_key`.
    param_name(name: impl Into<String>) => param_name: String = name.into();

    /// The prefix of keys, and the only one that is accepted: 1 to 32 ASCII letters, digits and
    /// `_`. By default, `my_api`.
    prefix(prefix: impl Into<String>) => prefix: String = prefix.into();

    /// All prefixes that are accepted; the first is that of new keys. Instead of
    /// [`prefix`](ConfigBuilder::prefix), so that a rename keeps old keys.
    prefixes(prefixes: impl IntoIterator<Item = impl Into<String>>) =>
        prefixes: Vec<String> = prefixes.into_iter().map(Into::into).collect();

    /// How many characters a new secret has: at most 256, and at least as many as make 128 bits. By
    /// default, 64.
    secret_length(characters: usize) => secret_length: usize = characters;

    /// Of what characters a new secret is made: see [`Charset`](crate::Charset). By default,
    /// `ascii_62`.
    secret_charset(charset: impl Into<String>) => secret_charset: String = charset.into();

    /// The realm that a 401 names: printable ASCII without `"` and `\`. By default, none.
    realm(realm: impl Into<String>) => realm: String = realm.into();

    /// The networks of the proxies that are believed, such as `10.0.0.0/8`; a single address is a
    /// network of one. Needs [`forwarded_header`](ConfigBuilder::forwarded_header). By default,
    /// none: forwarded headers are ignored.
    trusted_proxies(networks: impl IntoIterator<Item = impl Into<String>>) =>
        trusted_proxies: Vec<String> = networks.into_iter().map(Into::into).collect();

    /// The header in which they are believed: `Forwarded` or `X-Forwarded-For`, and no other. There
    /// is no default.
    forwarded_header(header: impl Into<String>) => forwarded_header: String = header.into();

    /// How many bytes of a body are read at most to look for the key, from 1 to 16 MiB; more is
    /// answered with 413. By default, 64 KiB.
    body_limit(bytes: usize) => body_limit: usize = bytes;

    /// How long such a body may take, from 1 ms to 60 s; longer is answered with 408. By default, 5
    /// s.
    body_timeout(timeout: Duration) => body_timeout_ms: u64 = millis_u64(timeout);

    /// How long a call of the store may take, from 1 ms to 60 s; then the request is answered with
    /// 503. Writing usage, which no request waits for, may take ten times as long. By default, 2 s.
    store_timeout(timeout: Duration) => store_timeout_ms: u64 = millis_u64(timeout);

    /// How many keys are kept in memory at most; 0 turns the cache off. By default, 100,000.
    cache_capacity(keys: usize) => cache_capacity: usize = keys;

    /// How fast a key may be used that has no limits of its own, all routes together: a
    /// [`Rate`](crate::Rate), or a text such as `100/minute` or `100/minute burst 20`; `off` for no
    /// limit. By default, there is none.
    default_rate_limit(rate: impl fmt::Display) => default_rate_limit: String = rate.to_string();

    /// How many keys that are none a client's address may show before its requests are answered
    /// with 429: a [`Rate`](crate::Rate), or a text such as `60/minute burst 20`; `off` to count
    /// none. Addresses of IPv6 count by /64. A right key that is in memory passes all the same. By
    /// default, `1000/minute`.
    failed_attempts(rate: impl fmt::Display) => failed_attempts: String = rate.to_string();

    /// For how many requests a process may take units ahead of the limits that its store counts, in
    /// one call: 1 to 1,000. With 1, each request that is so limited asks the store; with more,
    /// fewer do. No quota is exceeded. What is not used within a second is given back to quotas; a
    /// process that is killed takes it along: at most so many requests' units for each check of the
    /// key that was under way. By default, 1. See [`guide::limits`](crate::guide::limits).
    limit_prefetch(units: u32) => limit_prefetch: u32 = units;

    /// How often usage is written to the store, every 100 ms to 1 hour: the most that a crash can
    /// lose of it, while the store takes it. By default, 10 s.
    usage_flush_interval(interval: Duration) =>
        usage_flush_interval_ms: u64 = millis_u64(interval);

    /// For how long usage is kept, 1 hour to 10 years (87,600 hours), in whole hours: a part of one
    /// does not count. A node removes the usage of all nodes that is older, so write the same for
    /// each. By default, 90 days.
    usage_retention(retention: Duration) =>
        usage_retention_hours: u64 = retention.as_secs() / 3_600;

    /// How precisely a client's network is kept beside when a key was last used: how many bits of
    /// its address, for IPv4 and for IPv6, as in `24/48`; `off` to keep none. By default, `24/48`.
    usage_network_precision(bits: impl fmt::Display) =>
        usage_network_precision: String = bits.to_string();
}

/// Reads the text of an environment variable.
trait FromText: Sized {
    fn from_text(text: String) -> Result<Self, ParseIntError>;
}

impl FromText for String {
    fn from_text(text: String) -> Result<Self, ParseIntError> {
        Ok(text)
    }
}

/// A list is separated by commas.
impl FromText for Vec<String> {
    fn from_text(text: String) -> Result<Self, ParseIntError> {
        Ok(text.split(',').map(|one| one.trim().to_owned()).collect())
    }
}

impl FromText for usize {
    fn from_text(text: String) -> Result<Self, ParseIntError> {
        text.parse()
    }
}

impl FromText for u32 {
    fn from_text(text: String) -> Result<Self, ParseIntError> {
        text.parse()
    }
}

impl FromText for u64 {
    fn from_text(text: String) -> Result<Self, ParseIntError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The name and the default of each row ``| `name` | .. | `default` |``.
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
}
