//! Times on pages, and texts in addresses.

use std::fmt;

use apikey_runtime::Timestamp;
use askama::filters::HtmlSafe;

use super::text;

/// The milliseconds of a day.
pub(crate) const DAY: i64 = 86_400_000;

/// A time on a page: words, with the exact time behind them. A template shows it as an element `time`.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    /// In RFC 3339's format.
    pub(crate) exact: String,
    pub(crate) words: String,
}

impl Moment {
    /// Shows how long ago a time was.
    pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Self {
        Self {
            exact: at.to_string(),
            words: text::ago(at, now),
        }
    }

    /// Shows the end of a key: `ends in 6 days`, `ended 2 hours ago`.
    pub(crate) fn end(at: Timestamp, now: Timestamp) -> Self {
        Self {
            exact: at.to_string(),
            words: text::end(Some(at), now),
        }
    }

    /// Shows the time itself, to the minute (UTC).
    pub(crate) fn exact(at: Timestamp) -> Self {
        Self {
            exact: at.to_string(),
            words: utc(&at.to_string(), "2026-01-31T12:00".len()),
        }
    }
}

/// Returns a time in UTC up to a number of characters: `2026-01-31 12:00 UTC`.
fn utc(exact: &str, length: usize) -> String {
    let text = exact.get(..length).unwrap_or(exact);
    format!("{} UTC", text.replace('T', " "))
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = utc(&self.exact, "2026-01-31T12:00:00".len());
        write!(
            f,
            "<time datetime=\"{}\" title=\"{title}\">{}</time>",
            self.exact, self.words
        )
    }
}

/// It has digits, and words of the portal.
impl HtmlSafe for Moment {}

/// Returns the time that a text tells: RFC 3339's, or a date (UTC): its first moment, or as an end the one after
/// its last.
pub(crate) fn time(text: &str, is_end: bool) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time).filter(has_four_digits);
    }
    let day: Timestamp = format!("{text}T00:00:00Z").parse().ok()?;
    let millis = day.as_millis().checked_add(if is_end { DAY } else { 0 })?;
    Some(Timestamp::from_millis(millis)).filter(has_four_digits)
}

/// Returns whether the year of a time is 0 to 9999: RFC 3339 (section 5.6) does not have others.
pub(crate) fn has_four_digits(time: &Timestamp) -> bool {
    (-62_167_219_200_000..=253_402_300_799_999).contains(&time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_time_is_behind_the_words() {
        let at = Timestamp::from_millis(61_000);
        let now = Timestamp::from_millis(181_000);
        assert_eq!(
            Moment::ago(at, now).to_string(),
            "<time datetime=\"1970-01-01T00:01:01.000Z\" title=\"1970-01-01 00:01:01 UTC\">2 minutes ago</time>"
        );
        assert!(
            Moment::exact(at)
                .to_string()
                .contains(">1970-01-01 00:01 UTC<")
        );
        assert!(Moment::end(at, now).to_string().contains(">ended 2"));
    }

    #[test]
    fn a_day_is_whole_and_a_time_is_exact() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        assert_eq!(time("2026-01-31", false), at("2026-01-31T00:00:00Z"));
        assert_eq!(time("2026-01-31", true), at("2026-02-01T00:00:00Z"));
        assert_eq!(
            time("2026-01-31T01:02:03Z", true),
            at("2026-01-31T01:02:03Z")
        );
        for first in ["0000-01-01", "9999-12-31"] {
            let first = time(first, false).unwrap();
            let outside = match first.as_millis() > 0 {
                true => first.as_millis() + DAY,
                false => first.as_millis() - 1,
            };
            assert!(!has_four_digits(&Timestamp::from_millis(outside)));
        }
        assert_eq!(time("9999-12-31", true), None);
        for odd in [
            "+10000-01-01T00:00:00Z",
            "9999-12-31T23:59:60Z",
            "+999999-01-01",
            "31.1.2026",
            "2026-02-30",
            "today",
            "2026-01-31T",
        ] {
            assert_eq!(time(odd, false), None, "{odd}");
        }
    }
}
