//! The settings of what is counted: limits, failed attempts and usage.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::checks::fault;
use super::{Config, ConfigBuilder, NetworkPrecision};
use crate::error::Error;
use crate::limit::Rate;

/// How many units a process may take ahead at most.
const BATCHES: RangeInclusive<u32> = 1..=1_000;

/// How often usage may be written, in milliseconds.
const FLUSH_MILLIS: RangeInclusive<u64> = 100..=3_600_000;

/// For how long usage may be kept, in hours: up to ten years.
const RETENTION_HOURS: RangeInclusive<u64> = 1..=87_600;

const HOUR: Duration = Duration::from_secs(3_600);

/// What is counted, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metering {
    default_rate_limit: Option<Rate>,
    failed_attempts: Option<Rate>,
    limit_prefetch: u32,
    usage_flush_interval: Duration,
    usage_retention: Duration,
    usage_network_precision: Option<NetworkPrecision>,
}

impl ConfigBuilder {
    /// How fast a key may be used that has no limits of its own, all routes together: a [`Rate`], or
    /// a text such as `100/minute` or `100/minute burst 20`; `off` for no limit. By default, there
    /// is none.
    #[must_use]
    pub fn default_rate_limit(mut self, rate: impl fmt::Display) -> Self {
        self.default_rate_limit = Some(rate.to_string());
        self
    }

    /// How many keys that are none a client's address may show before its requests are answered
    /// with 429: a [`Rate`], or a text such as `60/minute burst 20`; `off` to count none. Addresses
    /// of IPv6 count by /64. A right key that is in memory passes all the same. By default,
    /// `1000/minute`.
    #[must_use]
    pub fn failed_attempts(mut self, rate: impl fmt::Display) -> Self {
        self.failed_attempts = Some(rate.to_string());
        self
    }

    /// For how many requests a process may take units ahead of the limits that its store counts, in
    /// one call: 1 to 1,000. With 1, each request that is so limited asks the store; with more, fewer
    /// do. No quota is exceeded. What is not used within a second is given back to quotas; a process
    /// that is killed takes it along: at most so many requests' units for each check of the key that was
    /// under way. By default, 1. See [`guide::limits`](crate::guide::limits).
    #[must_use]
    pub fn limit_prefetch(mut self, units: u32) -> Self {
        self.limit_prefetch = Some(units);
        self
    }

    /// How often usage is written to the store, every 100 ms to 1 hour: the most that a crash can
    /// lose of it, while the store takes it. By default, 10 s.
    #[must_use]
    pub fn usage_flush_interval(mut self, interval: Duration) -> Self {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.usage_flush_interval_ms = Some(millis);
        self
    }

    /// For how long usage is kept, 1 hour to 10 years (87,600 hours), in whole hours: a part of one
    /// does not count. A node removes the usage of all nodes that is older, so write the same for each.
    /// By default, 90 days.
    #[must_use]
    pub fn usage_retention(mut self, retention: Duration) -> Self {
        self.usage_retention_hours = Some(retention.as_secs() / HOUR.as_secs());
        self
    }

    /// How precisely a client's network is kept beside when a key was last used: how many bits of
    /// its address, for IPv4 and for IPv6, as in `24/48`; `off` to keep none. By default, `24/48`.
    #[must_use]
    pub fn usage_network_precision(mut self, bits: impl fmt::Display) -> Self {
        self.usage_network_precision = Some(bits.to_string());
        self
    }

    /// Checks the settings of what is counted.
    pub(super) fn metering(&self) -> Result<Metering, Error> {
        let defaults = Metering::default();
        let flush = within(
            "usage_flush_interval_ms",
            self.usage_flush_interval_ms,
            FLUSH_MILLIS,
            "milliseconds); write `10000`",
        )?;
        let retention = within(
            "usage_retention_hours",
            self.usage_retention_hours,
            RETENTION_HOURS,
            "hours); write `2160`",
        )?;
        let batch = within(
            "limit_prefetch",
            self.limit_prefetch,
            BATCHES,
            "units); write `1` to take none ahead",
        )?;
        Ok(Metering {
            default_rate_limit: rate("default_rate_limit", self.default_rate_limit.as_deref())?
                .unwrap_or(defaults.default_rate_limit),
            failed_attempts: rate("failed_attempts", self.failed_attempts.as_deref())?
                .unwrap_or(defaults.failed_attempts),
            limit_prefetch: batch.unwrap_or(defaults.limit_prefetch),
            usage_flush_interval: flush
                .map_or(defaults.usage_flush_interval, Duration::from_millis),
            // At most ten years, by the check.
            usage_retention: retention.map_or(defaults.usage_retention, |hours| {
                Duration::from_secs(hours * HOUR.as_secs())
            }),
            usage_network_precision: precision(self.usage_network_precision.as_deref())?
                .unwrap_or(defaults.usage_network_precision),
        })
    }
}

impl Config {
    /// How fast a key may be used that has no limits of its own; `None` for as fast as it likes.
    #[must_use]
    pub fn default_rate_limit(&self) -> Option<Rate> {
        self.metering.default_rate_limit
    }

    /// How many keys that are none a client's address may show; `None` where they are not counted.
    #[must_use]
    pub fn failed_attempts(&self) -> Option<Rate> {
        self.metering.failed_attempts
    }

    /// How many units of a limit a process may take ahead from its store; 1 for none.
    #[must_use]
    pub fn limit_prefetch(&self) -> u32 {
        self.metering.limit_prefetch
    }

    /// How often usage is written to the store.
    #[must_use]
    pub fn usage_flush_interval(&self) -> Duration {
        self.metering.usage_flush_interval
    }

    /// For how long usage is kept.
    #[must_use]
    pub fn usage_retention(&self) -> Duration {
        self.metering.usage_retention
    }

    /// How precisely a client's network is kept beside when a key was last used; `None` where it is
    /// not kept.
    #[must_use]
    pub fn usage_network_precision(&self) -> Option<NetworkPrecision> {
        self.metering.usage_network_precision
    }
}

impl Default for Metering {
    fn default() -> Self {
        Self {
            default_rate_limit: None,
            failed_attempts: Some(Rate::per_minute(1_000)),
            limit_prefetch: 1,
            usage_flush_interval: Duration::from_secs(10),
            usage_retention: HOUR * 24 * 90,
            usage_network_precision: Some(NetworkPrecision::default()),
        }
    }
}

/// The rate that a setting names; `Some(None)` where it is off.
fn rate(name: &str, text: Option<&str>) -> Result<Option<Option<Rate>>, Error> {
    switchable(text, |text| {
        text.parse().map(Some).or_else(|error| {
            // The error says what is wrong and what to write.
            fault(format!("`{name}`: {error}; or `off`"))
        })
    })
}

/// The precision that the setting names; `Some(None)` where it is off.
fn precision(text: Option<&str>) -> Result<Option<Option<NetworkPrecision>>, Error> {
    switchable(text, |text| {
        match NetworkPrecision::parse(text) {
        Some(precision) => Ok(Some(precision)),
        None => fault(
            "`usage_network_precision` is not two numbers of bits, of 0 to 32 for IPv4 and of 0 to 128 for IPv6; \
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

fn within<N: PartialOrd + fmt::Display>(
    name: &str,
    number: Option<N>,
    bounds: RangeInclusive<N>,
    remedy: &str,
) -> Result<Option<N>, Error> {
    if number.as_ref().is_none_or(|number| bounds.contains(number)) {
        return Ok(number);
    }
    let (least, most) = bounds.into_inner();
    fault(format!("`{name}` lies outside {least} to {most} ({remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(builder: ConfigBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_limited_by_default_but_failed_attempts() {
        let config = Config::default();
        assert_eq!(config.default_rate_limit(), None);
        assert_eq!(config.failed_attempts(), Some(Rate::per_minute(1_000)));
        assert_eq!(config.limit_prefetch(), 1);
        assert_eq!(config.usage_flush_interval().as_millis(), 10_000);
        assert_eq!(config.usage_retention(), HOUR * 2_160);
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
        let keep = |retention| Config::builder().usage_retention(retention);
        for builder in [
            batch(1),
            batch(1_000),
            flush(milli * 100),
            flush(HOUR),
            keep(HOUR),
            keep(day * 3_650),
        ] {
            assert!(builder.clone().build().is_ok(), "{builder:?}");
        }
        for (builder, name) in [
            (batch(0), "limit_prefetch"),
            (batch(1_001), "limit_prefetch"),
            (flush(milli * 99), "usage_flush_interval_ms"),
            (flush(HOUR + milli), "usage_flush_interval_ms"),
            (flush(Duration::MAX), "usage_flush_interval_ms"),
            (keep(HOUR - milli), "usage_retention_hours"),
            (keep(day * 3_651), "usage_retention_hours"),
            (keep(Duration::MAX), "usage_retention_hours"),
        ] {
            let message = message(builder);
            assert!(message.contains(name), "{message}");
            assert!(message.contains("; write `"), "{message}");
        }
    }
}
