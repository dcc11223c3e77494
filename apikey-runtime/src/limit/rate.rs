//! Rates: how fast a key may be used.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The largest amount and the largest burst.
const LARGEST: u32 = 1_000_000;

/// The longest time that a burst may take to be worked off: 100 years, in microseconds.
const MAX_BURST: u64 = 100 * 366 * 24 * 3_600 * 1_000_000;

/// The longest window: 366 days.
const MAX_MILLIS: u128 = 366 * 24 * 3_600 * 1_000;

/// A rate: an average number of units a window, and a maximum number at once, the burst.
///
/// Rates use the generic cell rate algorithm (GCRA; ITU-T I.371). Each unit takes up
/// `window / amount` of time, and a request is denied if it would be more than `burst` units ahead
/// of time. So at most `burst + w * amount / window` units pass in any stretch of time `w`. Twice
/// the amount cannot pass at the edge of a window.
///
/// `10/minute` allows 10 units at once and then one every 6 seconds: up to 20 in the first minute
/// after an idle time. With a burst of 1, it allows one every 6 seconds.
///
/// ```
/// use apikey_runtime::Rate;
///
/// let rate: Rate = "100/minute".parse()?;
/// assert_eq!(rate, Rate::per_minute(100));
/// assert_eq!(rate.with_burst(20).burst(), 20);
/// # Ok::<(), apikey_runtime::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    amount: u32,
    window_millis: u64,
    burst: u32,
}

impl Rate {
    /// Creates a rate of `amount` units (1 to 1,000,000) in each `window` (1 ms to 366 days, and at
    /// least a microsecond for each unit). The burst is the amount.
    ///
    /// # Panics
    ///
    /// Panics if either is out of its bounds. In a `const`, this is a compile error.
    #[must_use]
    pub const fn new(amount: u32, window: Duration) -> Self {
        match Self::checked(amount, window) {
            Ok(rate) => rate,
            Err(_) => panic!(
                "a rate is 1 to 1,000,000 in 1 ms to 366 days, as in `Rate::new(100, Duration::from_secs(60))`"
            ),
        }
    }

    const fn checked(amount: u32, window: Duration) -> Result<Self, &'static str> {
        let millis = window.as_millis();
        if amount == 0 || amount > LARGEST {
            return Err("the amount of a rate is 1 to 1,000,000");
        }
        if millis == 0 || millis > MAX_MILLIS {
            return Err("the window of a rate is 1 ms to 366 days");
        }
        if millis * 1_000 < amount as u128 {
            return Err("a rate is one in a microsecond at most");
        }
        Ok(Self {
            amount,
            window_millis: millis as u64,
            burst: amount,
        })
    }

    /// Creates a rate of `amount` units a second.
    ///
    /// # Panics
    ///
    /// Panics as [`new`](Self::new) does.
    #[must_use]
    pub const fn per_second(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(1))
    }

    /// Creates a rate of `amount` units a minute.
    ///
    /// # Panics
    ///
    /// Panics as [`new`](Self::new) does.
    #[must_use]
    pub const fn per_minute(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(60))
    }

    /// Creates a rate of `amount` units an hour.
    ///
    /// # Panics
    ///
    /// Panics as [`new`](Self::new) does.
    #[must_use]
    pub const fn per_hour(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(3_600))
    }

    /// Creates a rate of `amount` units in 24 hours.
    ///
    /// # Panics
    ///
    /// Panics as [`new`](Self::new) does.
    #[must_use]
    pub const fn per_day(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(24 * 3_600))
    }

    /// Sets the maximum number of units at once: 1 to 1,000,000, and at most what the rate allows
    /// in 100 years.
    ///
    /// # Panics
    ///
    /// Panics if `burst` is out of its bounds. In a `const`, this is a compile error.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        assert!(
            self.has_valid_burst(),
            "the burst of a rate is 1 to 1,000,000, and no more than passes in 100 years"
        );
        self
    }

    /// Returns whether the burst is within its bounds.
    const fn has_valid_burst(&self) -> bool {
        self.burst > 0
            && self.burst <= LARGEST
            && self.step_micros().saturating_mul(self.burst as u64) <= MAX_BURST
    }

    /// Returns the units in each window.
    #[must_use]
    pub const fn amount(&self) -> u32 {
        self.amount
    }

    /// Returns the window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis)
    }

    /// Returns the maximum number of units at once.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Returns the time that one unit takes up, in microseconds. It is rounded up, so that the rate
    /// is never exceeded.
    #[must_use]
    pub const fn step_micros(&self) -> u64 {
        (self.window_millis * 1_000).div_ceil(self.amount as u64)
    }

    /// Returns the time that `units` take up, in microseconds.
    pub(crate) fn span(&self, units: u32) -> i64 {
        span(self.step_micros(), units)
    }
}

/// The longest time that units take up, in microseconds. It exceeds the longest burst, and a time
/// can be added to it even in a double, which Redis computes with.
pub(super) const MAX_SPAN: i64 = 1 << 52;

/// Returns the time that `units` of `step` microseconds take up.
pub(super) fn span(step: u64, units: u32) -> i64 {
    let micros = step.saturating_mul(u64::from(units));
    i64::try_from(micros).unwrap_or(i64::MAX).min(MAX_SPAN)
}

impl FromStr for Rate {
    type Err = Error;

    /// Parses `100/minute`, `5/10s` or `20/500ms`: an amount, and a window that is `second`,
    /// `minute`, `hour`, `day`, or a number of `ms`, `s`, `m`, `h`, `d`. A burst other than the
    /// amount follows, as in `100/minute burst 20`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::InvalidArgument(format!(
                "{text:?} is not a rate: {why}; write one as in `100/minute`, `5/10s` or `100/minute burst 20`"
            ))
        };
        let (rate_text, burst) = match text.split_once(" burst ") {
            Some((rate_text, burst)) => (rate_text, Some(burst)),
            None => (text, None),
        };
        let (amount, window) = rate_text
            .split_once('/')
            .ok_or_else(|| invalid("it has no `/`"))?;
        let amount =
            parse_number(amount).ok_or_else(|| invalid("its amount is not a whole number"))?;
        let amount =
            u32::try_from(amount).map_err(|_too_large| invalid("its amount is too large"))?;
        let window = parse_window(window).ok_or_else(|| invalid("its window is neither `second`, `minute`, `hour`, `day` nor a number of `ms`, `s`, `m`, `h`, `d`"))?;
        let rate = Self::checked(amount, window).map_err(invalid)?;
        let Some(burst) = burst else {
            return Ok(rate);
        };
        let burst = parse_number(burst).and_then(|burst| u32::try_from(burst).ok());
        let with_burst = burst.map(|burst| Self { burst, ..rate });
        with_burst.filter(Self::has_valid_burst).ok_or_else(|| {
            invalid("its burst is not 1 to 1,000,000, or more than passes in 100 years")
        })
    }
}

/// Parses a number of digits only.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Parses the length of a window.
pub(super) fn parse_window(text: &str) -> Option<Duration> {
    let millis = match text {
        "second" => 1_000,
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => 86_400_000,
        _ => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (count, unit) = text.split_at(digits);
            let unit = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            parse_number(count)?.checked_mul(unit)?
        }
    };
    Some(Duration::from_millis(millis))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.amount)?;
        match self.window_millis {
            1_000 => f.write_str("second")?,
            60_000 => f.write_str("minute")?,
            3_600_000 => f.write_str("hour")?,
            86_400_000 => f.write_str("day")?,
            millis if millis % 1_000 == 0 => write!(f, "{}s", millis / 1_000)?,
            millis => write!(f, "{millis}ms")?,
        }
        if self.burst == self.amount {
            return Ok(());
        }
        write!(f, " burst {}", self.burst)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
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
    fn a_rate_reads_back_as_it_was_written() {
        for (text, amount, millis, burst) in [
            ("100/minute", 100, 60_000, 100),
            ("5/10s", 5, 10_000, 5),
            ("1/second burst 30", 1, 1_000, 30),
            ("20/500ms", 20, 500, 20),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
            assert_eq!(
                (rate.amount(), rate.window().as_millis(), rate.burst()),
                (amount, millis, burst)
            );
        }
        assert_eq!("60/60s".parse::<Rate>().unwrap().to_string(), "60/minute");
    }

    #[test]
    fn what_is_no_rate_says_what_to_write() {
        for text in [
            "",
            "100",
            "/minute",
            "100/",
            "0/minute",
            "1000001/minute",
            "100/fortnight",
            "-1/s",
            "+1/s",
            "1.5/s",
            "100/0s",
            "100/367d",
            "1000/0ms",
            "100/minute burst 0",
            "100/minute burst",
            "100/minute burst 1000001",
            " 100/minute",
            "100 / minute",
            "2/1µs",
            "99999999999999999999/s",
            "1/99999999999999999999h",
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(
                error.contains("write one as in `100/minute`"),
                "{text}: {error}"
            );
        }
    }
}
