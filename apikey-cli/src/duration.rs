//! Durations and times in arguments.

use std::time::Duration;

use apikey_runtime::Timestamp;

use crate::failure::Failure;

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Parses a duration such as `90d`, `12h`, `15m`, `30s` or `500ms`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let millis = unit
        .zip(digits.parse::<u64>().ok())
        .and_then(|((_, unit), count)| count.checked_mul(*unit));
    millis.map(Duration::from_millis).ok_or_else(|| {
        "a duration is a whole number and a unit: `90d`, `12h`, `15m`, `30s`; write one of these"
            .to_owned()
    })
}

/// A point in time of an argument: a date, or a duration from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    /// Before or after now, as the option says.
    Span(Duration),
}

/// Parses a date of RFC 3339, such as `2027-01-31T00:00:00Z` or `2027-01-31` (its beginning, in UTC), or a duration.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(span) = parse(text) {
        return Ok(Moment::Span(span));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    whole.parse().map(Moment::At).map_err(|_error| {
        "a time is a date of RFC 3339 (`2027-01-31` or `2027-01-31T12:00:00Z`) or a duration (`90d`); write one of these"
            .to_owned()
    })
}

impl Moment {
    /// Returns the time, or that before `now` by the duration.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Span(span) => {
                let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(now.as_millis().saturating_sub(span))
            }
        }
    }

    /// Returns the time, or that after `now` by the duration.
    ///
    /// # Errors
    ///
    /// Returns an error if that is after the end of time.
    pub(crate) fn after(self, now: Timestamp) -> Result<Timestamp, Failure> {
        match self {
            Self::At(at) => Ok(at),
            Self::Span(span) => now
                .checked_add(span)
                .ok_or_else(|| Failure::usage("the time is too long; write a shorter one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for wrong in [
            "",
            "d",
            "90",
            "9x",
            "-1d",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_a_date_or_a_duration() {
        let day = Moment::At(Timestamp::from_millis(86_400_000));
        assert_eq!(parse_moment("1970-01-02"), Ok(day));
        assert_eq!(parse_moment("1970-01-02T01:00:00+01:00"), Ok(day));
        let now = Timestamp::from_millis(10_000);
        let span = parse_moment("4s").unwrap();
        assert_eq!(span.before(now).as_millis(), 6_000);
        assert_eq!(span.after(now).unwrap().as_millis(), 14_000);
        assert!(parse_moment("tomorrow").is_err());
    }
}
