//! How much in all.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rate::{whole, window_of};
use crate::error::Error;

/// The largest amount: the largest integer of a structured field (RFC 9651 section 3.3.1), which
/// every store can count exactly.
const LARGEST: u64 = 999_999_999_999_999;

/// The shortest and the longest rolling window.
const ROLLING_MILLIS: RangeInclusive<u128> = 1_000..=366 * 86_400_000;

/// How many parts a rolling window is counted in.
pub(super) const PARTS: u64 = 60;

/// A quota: so much in a period, and never more.
///
/// ```
/// use apikey_runtime::{QuotaPeriod, Quota};
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

/// What a quota is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuotaPeriod {
    /// A day from midnight to midnight, UTC.
    Day,
    /// A month of the calendar, UTC.
    Month,
    /// Any stretch of this length, 1 second to 366 days. It is counted in sixtieths: what was used
    /// is given back when the sixtieth in which it was used has left the window as a whole.
    Rolling(Duration),
    /// For good: credits, until the quota is raised or refilled.
    Lifetime,
}

impl Quota {
    /// So much in a day, midnight to midnight, UTC.
    ///
    /// # Panics
    ///
    /// Where `amount` is not 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn per_day(amount: u64) -> Self {
        Self::new(amount, QuotaPeriod::Day)
    }

    /// So much in a month of the calendar, UTC.
    ///
    /// # Panics
    ///
    /// Where `amount` is not 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn per_month(amount: u64) -> Self {
        Self::new(amount, QuotaPeriod::Month)
    }

    /// So much in any stretch of `window`: 1 second to 366 days.
    ///
    /// # Panics
    ///
    /// Where one is out of its bounds; `amount` is 1 to 999,999,999,999,999.
    #[must_use]
    pub const fn rolling(amount: u64, window: Duration) -> Self {
        Self::new(amount, QuotaPeriod::Rolling(window))
    }

    /// So much for good.
    ///
    /// # Panics
    ///
    /// Where `amount` is not 1 to 999,999,999,999,999.
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

    /// How much.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// In what period.
    #[must_use]
    pub const fn period(&self) -> QuotaPeriod {
        self.period
    }
}

impl QuotaPeriod {
    /// Its length in seconds, rounded up; `None` for good, and for a month, whose length differs.
    pub(super) fn seconds(self) -> Option<u64> {
        match self {
            Self::Day => Some(86_400),
            Self::Rolling(window) => Some(window.as_millis().div_ceil(1_000) as u64),
            Self::Month | Self::Lifetime => None,
        }
    }

    /// The length of one part of a rolling window, in milliseconds, rounded up: `None` for the
    /// others.
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

    /// Reads `1000/day`, `50000/month`, `100/rolling 24h` (with `second`, `minute`, `hour`, `day`,
    /// or a number of `ms`, `s`, `m`, `h`, `d`), `500/lifetime`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unfit = |why: &str| {
            Error::InvalidArgument(format!(
                "{text:?} is no quota: {why}; write one as in `1000/day`, `50000/month`, `100/rolling 24h` or `500/lifetime`"
            ))
        };
        let (amount, period) = text.split_once('/').ok_or_else(|| unfit("it has no `/`"))?;
        let amount = whole(amount).ok_or_else(|| unfit("its amount is no whole number"))?;
        let period = match period {
            "day" => QuotaPeriod::Day,
            "month" => QuotaPeriod::Month,
            "lifetime" => QuotaPeriod::Lifetime,
            other => other
                .strip_prefix("rolling ")
                .and_then(window_of)
                .map(QuotaPeriod::Rolling)
                .ok_or_else(|| unfit("its period is none"))?,
        };
        Self::checked(amount, period).map_err(unfit)
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
