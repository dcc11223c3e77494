//! Quotas: how much a key may be used.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rate::{parse_number, parse_window};
use crate::error::Error;

/// The largest amount: the largest integer of a structured field (RFC 9651 section 3.3.1), which
/// every store counts exactly.
const LARGEST: u64 = 999_999_999_999_999;

/// The bounds of a rolling window.
const ROLLING_MILLIS: RangeInclusive<u128> = 1_000..=366 * 86_400_000;

/// The number of parts of a rolling window.
pub(super) const PARTS: u64 = 60;

/// A quota: a maximum number of units in a period.
///
/// ```
/// use apikey_runtime::Quota;
/// use apikey_runtime::limit::QuotaPeriod;
/// use std::time::Duration;
///
/// assert_eq!("50000/month".parse::<Quota>()?, Quota::per_month(50_000));
/// let rolling: Quota = "100/rolling 24h".parse()?;
/// assert_eq!(rolling.period(), QuotaPeriod::Rolling(Duration::from_secs(24 * 3_600)));
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    amount: u64,
    period: QuotaPeriod,
}

/// The period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuotaPeriod {
    /// A day, from midnight to midnight UTC.
    Day,
    /// A calendar month, UTC.
    Month,
    /// Any window of this length, 1 second to 366 days.
    ///
    /// It is counted in sixtieths. Used units are available again once the whole sixtieth in which
    /// they were used has left the window.
    Rolling(Duration),
    /// The lifetime of the key: credits, until the quota is raised or refilled.
    Lifetime,
}

impl Quota {
    /// Creates a quota of `amount` units a day, from midnight to midnight UTC.
    ///
    /// # Panics
    ///
    /// Panics unless `amount` is 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn per_day(amount: u64) -> Self {
        Self::new(amount, QuotaPeriod::Day)
    }

    /// Creates a quota of `amount` units a calendar month, UTC.
    ///
    /// # Panics
    ///
    /// Panics unless `amount` is 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn per_month(amount: u64) -> Self {
        Self::new(amount, QuotaPeriod::Month)
    }

    /// Creates a quota of `amount` units in any window of this length, 1 second to 366 days.
    ///
    /// # Panics
    ///
    /// Panics unless `amount` is 1 to 999,999,999,999,999 and `window` is within its bounds.
    #[must_use]
    pub const fn rolling(amount: u64, window: Duration) -> Self {
        Self::new(amount, QuotaPeriod::Rolling(window))
    }

    /// Creates a quota of `amount` units for the lifetime of a key.
    ///
    /// # Panics
    ///
    /// Panics unless `amount` is 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn lifetime(amount: u64) -> Self {
        Self::new(amount, QuotaPeriod::Lifetime)
    }

    const fn new(amount: u64, period: QuotaPeriod) -> Self {
        match Self::checked(amount, period) {
            Ok(quota) => quota,
            Err(_) => {
                panic!(
                    "a quota is 1 to 999,999,999,999,999, and a rolling window is 1 second to 366 days"
                )
            }
        }
    }

    const fn checked(amount: u64, period: QuotaPeriod) -> Result<Self, &'static str> {
        if amount == 0 || amount > LARGEST {
            return Err("the amount of a quota is 1 to 999,999,999,999,999");
        }
        if let QuotaPeriod::Rolling(window) = period {
            let millis = window.as_millis();
            if millis < *ROLLING_MILLIS.start() || millis > *ROLLING_MILLIS.end() {
                return Err("a rolling window is 1 second to 366 days");
            }
        }
        Ok(Self { amount, period })
    }

    /// Returns the amount.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Returns the period.
    #[must_use]
    pub const fn period(&self) -> QuotaPeriod {
        self.period
    }
}

impl QuotaPeriod {
    /// Returns the length in seconds, rounded up; `None` for a lifetime, and for a month, whose
    /// length varies.
    pub(super) fn seconds(self) -> Option<u64> {
        match self {
            Self::Day => Some(86_400),
            Self::Rolling(window) => Some(window.as_millis().div_ceil(1_000) as u64),
            Self::Month | Self::Lifetime => None,
        }
    }

    /// Returns the length of one part of a rolling window, in milliseconds, rounded up; `None` for
    /// other periods.
    #[must_use]
    pub fn part_millis(self) -> Option<u64> {
        match self {
            Self::Rolling(window) => Some((window.as_millis() as u64).div_ceil(PARTS)),
            _ => None,
        }
    }
}

impl FromStr for Quota {
    type Err = Error;

    /// Parses `1000/day`, `50000/month`, `100/rolling 24h` (with `second`, `minute`, `hour`, `day`,
    /// or a number of `ms`, `s`, `m`, `h`, `d`), or `500/lifetime`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::InvalidArgument(format!(
                "{text:?} is not a quota: {why}; write one as in `1000/day`, `50000/month`, `100/rolling 24h` or `500/lifetime`"
            ))
        };
        let (amount, period) = text
            .split_once('/')
            .ok_or_else(|| invalid("it has no `/`"))?;
        let amount =
            parse_number(amount).ok_or_else(|| invalid("its amount is not a whole number"))?;
        let period = match period {
            "day" => QuotaPeriod::Day,
            "month" => QuotaPeriod::Month,
            "lifetime" => QuotaPeriod::Lifetime,
            other => other
                .strip_prefix("rolling ")
                .and_then(parse_window)
                .map(QuotaPeriod::Rolling)
                .ok_or_else(|| invalid("its period is unknown"))?,
        };
        Self::checked(amount, period).map_err(invalid)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.amount;
        match self.period {
            QuotaPeriod::Day => write!(f, "{amount}/day"),
            QuotaPeriod::Month => write!(f, "{amount}/month"),
            QuotaPeriod::Rolling(window) if window.subsec_millis() == 0 => {
                write!(f, "{amount}/rolling {}s", window.as_secs())
            }
            QuotaPeriod::Rolling(window) => write!(f, "{amount}/rolling {}ms", window.as_millis()),
            QuotaPeriod::Lifetime => write!(f, "{amount}/lifetime"),
        }
    }
}

impl Serialize for Quota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_reads_back_as_it_was_written() {
        for text in [
            "1000/day",
            "50000/month",
            "100/rolling 86400s",
            "5/rolling 1500ms",
            "500/lifetime",
            "999999999999999/day",
        ] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quota_says_what_to_write() {
        for text in [
            "",
            "day",
            "0/day",
            "1000000000000000/day",
            "5/week",
            "5/rolling",
            "5/rolling 1ms",
            "5/rolling 367d",
            "-5/day",
            "5/ day",
            "5/day/month",
        ] {
            let error = text.parse::<Quota>().unwrap_err().to_string();
            assert!(
                error.contains("write one as in `1000/day`"),
                "{text}: {error}"
            );
        }
    }
}
