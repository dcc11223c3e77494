//! How fast.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The largest amount, and the largest burst.
const LARGEST: u32 = 1_000_000;

/// The longest that a burst may take to be worked off: 100 years, in microseconds.
const LONGEST_BURST: u64 = 100 * 366 * 24 * 3_600 * 1_000_000;

/// The longest window: 366 days.
const LONGEST_MILLIS: u128 = 366 * 24 * 3_600 * 1_000;

/// A rate: so much in each window on average, and no more than a burst at once.
///
/// It is kept by the generic cell rate algorithm (GCRA; ITU-T I.371): each unit takes up
/// `window / amount` of time, and a request is refused that would be more than `burst` units ahead
/// of the time. So in any stretch of time `w` at most `burst + w * amount / window` units pass;
/// there is no edge of a window at which twice as much would. `10/minute` is 10 at once and then one
/// every 6 seconds, up to 20 in the first minute after a rest; with a burst of 1 it is one every 6
/// seconds.
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
    /// `amount` units (1 to 1,000,000) in each `window` (1 ms to 366 days; no less than a
    /// microsecond for each unit). The burst is the amount.
    ///
    /// # Panics
    ///
    /// Where one is out of its bounds. In a `const` that is an error of the compiler.
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
        if millis == 0 || millis > LONGEST_MILLIS {
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

    /// `amount` in each second.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn per_second(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(1))
    }

    /// `amount` in each minute.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn per_minute(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(60))
    }

    /// `amount` in each hour.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn per_hour(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(3_600))
    }

    /// `amount` in each 24 hours.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub const fn per_day(amount: u32) -> Self {
        Self::new(amount, Duration::from_secs(24 * 3_600))
    }

    /// At most so many units at once: 1 to 1,000,000, and no more than the rate lets through in 100
    /// years.
    ///
    /// # Panics
    ///
    /// Where it is out of its bounds. In a `const` that is an error of the compiler.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        assert!(
            self.holds(),
            "the burst of a rate is 1 to 1,000,000, and no more than passes in 100 years"
        );
        self
    }

    /// Whether the burst is within its bounds.
    const fn holds(&self) -> bool {
        self.burst > 0
            && self.burst <= LARGEST
            && self.step_micros().saturating_mul(self.burst as u64) <= LONGEST_BURST
    }

    /// The units in each window.
    #[must_use]
    pub const fn amount(&self) -> u32 {
        self.amount
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis)
    }

    /// The most units at once.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// The time that one unit takes up, in microseconds, rounded up: never more passes than the
    /// rate says.
    #[must_use]
    pub const fn step_micros(&self) -> u64 {
        (self.window_millis * 1_000).div_ceil(self.amount as u64)
    }

    /// The time that so many units take up, in microseconds.
    pub(crate) fn span(&self, units: u32) -> i64 {
        span(self.step_micros(), units)
    }
}

/// The time that so many units take up, each of them `step` microseconds.
pub(super) fn span(step: u64, units: u32) -> i64 {
    let micros = step.saturating_mul(u64::from(units));
    // More than a burst may take, and such that a time can be added in a double too, in which Redis
    // computes.
    i64::try_from(micros).unwrap_or(i64::MAX).min(1 << 52)
}

impl FromStr for Rate {
    type Err = Error;

    /// Reads `100/minute`, `5/10s`, `20/500ms`: an amount, and a window that is `second`, `minute`,
    /// `hour`, `day`, or a number of `ms`, `s`, `m`, `h`, `d`; and behind it a burst that is not the
    /// amount, as in `100/minute burst 20`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unfit = |why: &str| {
            Error::InvalidArgument(format!(
                "{text:?} is no rate: {why}; write one as in `100/minute`, `5/10s` or `100/minute burst 20`"
            ))
        };
        let (gcra, burst) = match text.split_once(" burst ") {
            Some((gcra, burst)) => (gcra, Some(burst)),
            None => (text, None),
        };
        let (amount, window) = gcra.split_once('/').ok_or_else(|| unfit("it has no `/`"))?;
        let amount = whole(amount).ok_or_else(|| unfit("its amount is no whole number"))?;
        let amount = u32::try_from(amount).map_err(|_| unfit("its amount is too large"))?;
        let window = window_of(window).ok_or_else(|| unfit("its window is no `second`, `minute`, `hour`, `day`, and no number of `ms`, `s`, `m`, `h`, `d`"))?;
        let rate = Self::checked(amount, window).map_err(unfit)?;
        let Some(burst) = burst else {
            return Ok(rate);
        };
        let burst = whole(burst).and_then(|burst| u32::try_from(burst).ok());
        let with_burst = burst.map(|burst| Self { burst, ..rate });
        with_burst.filter(Self::holds).ok_or_else(|| {
            unfit("its burst is not 1 to 1,000,000, or more than passes in 100 years")
        })
    }
}

/// A number written in digits alone.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The length of time that `text` names.
pub(super) fn window_of(text: &str) -> Option<Duration> {
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
            whole(count)?.checked_mul(unit)?
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
