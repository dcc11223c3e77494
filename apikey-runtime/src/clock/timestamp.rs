//! Points in time, and their text in RFC 3339's format.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::calendar::{first_day_of, month_of};

const DAY_MILLIS: i64 = 86_400_000;

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// A timestamp is displayed, parsed and serialized in RFC 3339's format. Displayed texts are in UTC
/// and have milliseconds, so that those of the years 0 to 9999 sort as their times do.
///
/// ```
/// use apikey_runtime::Timestamp;
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// let at = Timestamp::from(UNIX_EPOCH + Duration::from_secs(2));
/// assert_eq!(at.as_millis(), 2_000);
/// assert_eq!(SystemTime::from(at), UNIX_EPOCH + Duration::from_secs(2));
///
/// assert_eq!(at.to_string(), "1970-01-01T00:00:02.000Z");
/// assert_eq!("1970-01-01T01:00:02+01:00".parse(), Ok(at));
/// ```
///
/// RFC 3339 has four digits for a year. A year outside of 0 to 9999 is written with a sign, as in
/// ISO 8601 (`+10000-01-01T00:00:00.000Z`), and parsed too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time, about 292 million years from now.
    pub const MAX: Self = Self(i64::MAX);

    /// The earliest time, about 292 million years ago.
    pub const MIN: Self = Self(i64::MIN);

    /// Creates the time `millis` milliseconds after 1970-01-01T00:00:00Z, or before it if negative.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z, negative before it.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Adds `span`; returns `None` if the result is later than [`Timestamp::MAX`].
    #[must_use]
    pub fn checked_add(self, span: Duration) -> Option<Self> {
        let millis = i64::try_from(span.as_millis()).ok()?;
        self.0.checked_add(millis).map(Self)
    }
}

/// Rounds down to a millisecond after 1970, and up before it.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis_i64(after)),
            Err(before) => Self(-millis_i64(before.duration())),
        }
    }
}

/// Returns the same time. If the platform's range is smaller, a time beyond it becomes the end of
/// the year 9999, or the year 1601.
impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        // Windows counts from 1601.
        const SECONDS_FROM_1601: Duration = Duration::from_secs(11_644_473_600);
        const SECONDS_TO_9999: Duration = Duration::from_secs(253_402_300_799);
        let span = Duration::from_millis(time.0.unsigned_abs());
        if time.0 < 0 {
            let time = UNIX_EPOCH.checked_sub(span);
            time.unwrap_or_else(|| UNIX_EPOCH - SECONDS_FROM_1601)
        } else {
            let time = UNIX_EPOCH.checked_add(span);
            time.unwrap_or_else(|| UNIX_EPOCH + SECONDS_TO_9999)
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, millis) = (self.0.div_euclid(DAY_MILLIS), self.0.rem_euclid(DAY_MILLIS));
        let month = month_of(day);
        let (year, of_year) = (1970 + month.div_euclid(12), month.rem_euclid(12) + 1);
        let of_month = day - first_day_of(month) + 1;
        match year {
            0..=9_999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "-{of_year:02}-{of_month:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// A text is not a time in RFC 3339's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a time; write it as in RFC 3339: `2026-01-31T12:00:00Z`")]
pub struct ParseTimestampError;

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Parses RFC 3339's `date-time` (section 5.6) with any offset. A fraction of a second is
    /// truncated to milliseconds. A leap second (`23:59:60` in UTC) becomes the second after it.
    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text).ok_or(ParseTimestampError)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let rest = &mut text.as_bytes();
    let year = year(rest)?;
    literal(rest, b"-")?;
    let of_year = number(rest, 2, 1..=12)?;
    literal(rest, b"-")?;
    let month = (year - 1970) * 12 + of_year - 1;
    let days = first_day_of(month + 1) - first_day_of(month);
    let day = first_day_of(month) + number(rest, 2, 1..=days)? - 1;
    literal(rest, b"Tt ")?;
    let hour = number(rest, 2, 0..=23)?;
    literal(rest, b":")?;
    let minute = number(rest, 2, 0..=59)?;
    literal(rest, b":")?;
    let second = number(rest, 2, 0..=60)?;
    let millis = fraction(rest)?;
    let minutes = hour * 60 + minute - offset_minutes(rest)?;
    let leaps = second == 60;
    if !rest.is_empty() || (leaps && minutes.rem_euclid(24 * 60) != 24 * 60 - 1) {
        return None;
    }
    let of_day = (minutes * 60 + second) * 1_000 + millis;
    let total = i128::from(day) * i128::from(DAY_MILLIS) + i128::from(of_day);
    i64::try_from(total).ok().map(Timestamp)
}

/// Takes one of the bytes `any`.
fn literal(rest: &mut &[u8], any: &[u8]) -> Option<u8> {
    let (first, tail) = rest.split_first()?;
    any.contains(first).then_some(())?;
    *rest = tail;
    Some(*first)
}

/// Takes `digits` digits, whose number must lie in `range`.
fn number(rest: &mut &[u8], digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    head.iter().all(u8::is_ascii_digit).then_some(())?;
    *rest = tail;
    let number = std::str::from_utf8(head).ok()?.parse().ok()?;
    range.contains(&number).then_some(number)
}

/// Takes four digits, or a sign and 4 to 9 digits.
fn year(rest: &mut &[u8]) -> Option<i64> {
    let Some(sign) = literal(rest, b"+-") else {
        return number(rest, 4, 0..=9_999);
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let year = number(
        rest,
        Some(digits).filter(|digits| (4..=9).contains(digits))?,
        0..=i64::MAX,
    )?;
    Some(if sign == b'-' { -year } else { year })
}

/// Takes a fraction of a second, if there is one, and returns its whole milliseconds.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    if literal(rest, b".").is_none() {
        return Some(0);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    let digit = |at: usize| head.get(at).map_or(0, |digit| i64::from(digit - b'0'));
    (digits > 0).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
}

/// Takes the offset from UTC, and returns its minutes.
fn offset_minutes(rest: &mut &[u8]) -> Option<i64> {
    let sign = literal(rest, b"Zz+-")?;
    if sign.eq_ignore_ascii_case(&b'Z') {
        return Some(0);
    }
    let hours = number(rest, 2, 0..=23)?;
    literal(rest, b":")?;
    let minutes = hours * 60 + number(rest, 2, 0..=59)?;
    Some(if sign == b'-' { -minutes } else { minutes })
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// Returns the whole milliseconds of `span`, at most `u64::MAX`.
pub(crate) fn millis_u64(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the whole milliseconds of `span`, at most `i64::MAX`.
pub(crate) fn millis_i64(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lifetime_past_the_end_of_time_is_none() {
        let now = Timestamp::from(SystemTime::now());
        assert_eq!(now.checked_add(Duration::from_secs(u64::MAX)), None);
        assert_eq!(Timestamp::MAX.checked_add(Duration::from_millis(1)), None);
    }

    /// The examples of RFC 3339 section 5.8, and the bounds of the calendar.
    #[test]
    fn known_texts() {
        for (text, millis, shown) in [
            (
                "1985-04-12T23:20:50.52Z",
                482_196_050_520,
                "1985-04-12T23:20:50.520Z",
            ),
            (
                "1996-12-19T16:39:57-08:00",
                851_042_397_000,
                "1996-12-20T00:39:57.000Z",
            ),
            (
                "1990-12-31T23:59:60Z",
                662_688_000_000,
                "1991-01-01T00:00:00.000Z",
            ),
            (
                "1990-12-31T15:59:60-08:00",
                662_688_000_000,
                "1991-01-01T00:00:00.000Z",
            ),
            (
                "1937-01-01T12:00:27.87+00:20",
                -1_041_337_172_130,
                "1937-01-01T11:40:27.870Z",
            ),
            (
                "2000-02-29t00:00:00.0009z",
                951_782_400_000,
                "2000-02-29T00:00:00.000Z",
            ),
            (
                "2023-11-14 22:13:20-00:00",
                1_700_000_000_000,
                "2023-11-14T22:13:20.000Z",
            ),
            (
                "0000-01-01T00:00:00Z",
                -62_167_219_200_000,
                "0000-01-01T00:00:00.000Z",
            ),
            (
                "9999-12-31T23:59:59.999Z",
                253_402_300_799_999,
                "9999-12-31T23:59:59.999Z",
            ),
            (
                "+10000-01-01T00:00:00Z",
                253_402_300_800_000,
                "+10000-01-01T00:00:00.000Z",
            ),
            (
                "-0001-12-31T23:59:59.999Z",
                -62_167_219_200_001,
                "-0001-12-31T23:59:59.999Z",
            ),
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(text.parse(), Ok(time), "{text}");
            assert_eq!(time.to_string(), shown);
        }
    }

    #[test]
    fn other_texts_are_not_times() {
        for text in [
            "",
            "2023",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:60:00Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13:61Z",
            "2023-02-29T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-04-31T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+01",
            "2023-11-14T22:13:20Zx",
            " 2023-11-14T22:13:20Z",
            "+023-11-14T22:13:20Z",
            "23-11-14T22:13:20Z",
            "+999999999-01-01T00:00:00Z",
            "2023-11-14T+2:13:20Z",
            "２０２３-11-14T22:13:20Z",
        ] {
            assert_eq!(
                text.parse::<Timestamp>(),
                Err(ParseTimestampError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_serialized_time_is_its_text() {
        let text = serde_json::to_string(&Timestamp::from_millis(5)).unwrap();
        assert_eq!(text, r#""1970-01-01T00:00:00.005Z""#);
        assert_eq!(
            serde_json::from_str::<Timestamp>(&text)
                .unwrap()
                .as_millis(),
            5
        );
        assert!(serde_json::from_str::<Timestamp>("5").is_err());
    }

    proptest! {
        #[test]
        fn a_time_reads_back_from_its_text(millis: i64, near in -100_000_000_000_000i64..300_000_000_000_000) {
            for time in [millis, near, i64::MIN, i64::MAX].map(Timestamp::from_millis) {
                prop_assert_eq!(time.to_string().parse(), Ok(time));
            }
        }

        #[test]
        fn texts_of_utc_sort_as_their_times(left in 0i64..253_402_300_799_999, right in 0i64..253_402_300_799_999) {
            let text = |millis| Timestamp::from_millis(millis).to_string();
            prop_assert_eq!(text(left).cmp(&text(right)), left.cmp(&right));
        }

        #[test]
        fn the_systems_time_and_back(millis: i64, near in -100_000_000_000_000i64..300_000_000_000_000) {
            for time in [millis, near].map(Timestamp::from_millis) {
                // Unix counts seconds in 64 bits.
                #[cfg(unix)]
                prop_assert_eq!(Timestamp::from(SystemTime::from(time)), time);
                let _ = SystemTime::from(time);
            }
        }

        #[test]
        fn no_text_breaks_the_parser(text: String, digits in "[-+0-9TZ:. ]{0,40}") {
            let _ = (text.parse::<Timestamp>(), digits.parse::<Timestamp>());
        }
    }
}
