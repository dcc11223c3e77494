//! Charts of usage, as SVG inside a page: without styles, scripts or links of their own.
//!
//! What was allowed stands above a line, and what was denied hangs below it, so that a chart says the same
//! without colours. A text is escaped. The page has the numbers in a table too.

use std::fmt::{self, Write as _};

use apikey_runtime::Timestamp;
use apikey_runtime::usage::UsageInterval;
use askama::filters::HtmlSafe;

/// The length of a day.
const DAY_MILLIS: i64 = 24 * 3_600_000;

/// The number of days of a chart.
pub(crate) const DAYS: usize = 30;

/// The requests of a day (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DayCounts {
    /// The start of the day.
    pub(crate) day: Timestamp,
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
}

impl DayCounts {
    /// Returns the date, such as `2026-01-31`.
    pub(crate) fn date(&self) -> String {
        let text = self.day.to_string();
        let date = text.split_once('T').map(|(date, _)| date.to_owned());
        date.unwrap_or(text)
    }
}

/// A drawn chart, whose texts are escaped: a template shows it as it is.
#[derive(Debug)]
pub(crate) struct Chart(String);

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Chart {}

/// Returns the start of the first day of a chart that ends today.
pub(crate) fn first_day(now: Timestamp) -> Timestamp {
    let today = now.as_millis().div_euclid(DAY_MILLIS);
    let first = today.saturating_sub(DAYS as i64 - 1);
    Timestamp::from_millis(first.saturating_mul(DAY_MILLIS))
}

/// Returns each of the last 30 days, the oldest first. A day without usage has zeros.
pub(crate) fn last_days(usage: &[UsageInterval], now: Timestamp) -> Vec<DayCounts> {
    let first = first_day(now).as_millis();
    let starts = (0..DAYS as i64).map(|day| first.saturating_add(day * DAY_MILLIS));
    let counts = |start: i64| {
        let found = usage.iter().find(|day| day.start.as_millis() == start);
        found.map_or((0, 0), |day| (day.counts.requests, day.counts.denials()))
    };
    let day = |start: i64| {
        let (allowed, denied) = counts(start);
        DayCounts {
            day: Timestamp::from_millis(start),
            allowed,
            denied,
        }
    };
    starts.map(day).collect()
}

/// Returns what was allowed and denied on all days.
pub(crate) fn total(days: &[DayCounts]) -> (u64, u64) {
    let sum = |of: fn(&DayCounts) -> u64| days.iter().map(of).fold(0, u64::saturating_add);
    (sum(|day| day.allowed), sum(|day| day.denied))
}

/// Draws a small chart for a row of a list. `name` says whose requests they are.
pub(crate) fn sparkline(name: &str, days: &[DayCounts]) -> Chart {
    const HEIGHT: u64 = 22;
    let scale = Scale::of(days, HEIGHT);
    let allowed = days.iter().map(|day| scale.length(day.allowed));
    let allowed = strokes(allowed, scale.line, ["-", " "]);
    let denied = days.iter().map(|day| scale.length(day.denied));
    let denied = strokes(denied, scale.line, ["", "-"]);
    let width = days.len() * SPARK_STEP;
    let title = title(name, days);
    Chart(format!(
        "<svg class=\"spark\" role=\"img\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\">\
         <title>{title}</title><path class=\"axis\" d=\"M0 {line}h{width}\"/><path class=\"allowed\" d=\"{allowed}\"/>\
         <path class=\"denied\" d=\"{denied}\"/></svg>",
        line = scale.line
    ))
}

/// The width of a day in a small chart.
const SPARK_STEP: usize = 3;

/// Returns a path with a line for each day, from the axis at `y`. Moves are relative, since a list has 3,000 lines.
fn strokes(lengths: impl Iterator<Item = u64>, y: u64, [there, back]: [&str; 2]) -> String {
    let mut path = format!("M1 {y}");
    let (mut gap, mut last) = (0, 0);
    for length in lengths {
        if length > 0 {
            // Writing into a `String` does not fail.
            let _ = write!(path, "m{gap}{back}{last}v{there}{length}");
            (gap, last) = (0, length);
        }
        gap += SPARK_STEP;
    }
    path
}

/// Draws the usage by day. `name` says whose requests they are.
pub(crate) fn bars(name: &str, days: &[DayCounts]) -> Chart {
    const HEIGHT: u64 = 160;
    const STEP: usize = 20;
    let scale = Scale::of(days, HEIGHT);
    let width = days.len() * STEP;
    let mut drawn = String::new();
    for (place, day) in days.iter().enumerate() {
        let x = place * STEP;
        let [up, down] = [scale.length(day.allowed), scale.length(day.denied)];
        // The first rectangle is what a pointer meets.
        let _ = write!(
            drawn,
            "<g><title>{date}: {allowed} allowed, {denied} denied</title>\
             <rect class=\"day\" x=\"{x}\" width=\"{STEP}\" height=\"{HEIGHT}\"/>",
            date = escape(&day.date()),
            allowed = day.allowed,
            denied = day.denied,
        );
        for (class, y, length) in [
            ("allowed", scale.line - up, up),
            ("denied", scale.line, down),
        ] {
            if length > 0 {
                let _ = write!(
                    drawn,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"14\" height=\"{length}\"/>",
                    x = x + 3
                );
            }
        }
        drawn.push_str("</g>");
    }
    Chart(format!(
        "<svg class=\"bars\" role=\"img\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\">\
         <title>{title}</title>{drawn}<path class=\"axis\" d=\"M0 {line}h{width}\"/></svg>",
        title = title(name, days),
        line = scale.line
    ))
}

/// Draws a line for a row of a table: what was allowed, and then what was denied, of `most` requests.
pub(crate) fn share(allowed: u64, denied: u64, most: u64) -> Chart {
    const WIDTH: u128 = 120;
    let length = |count: u64| match u128::from(count) * WIDTH / u128::from(most.max(1)) {
        0 if count > 0 => 1,
        length => length,
    };
    let [allowed, denied] = [length(allowed), length(denied)];
    Chart(format!(
        "<svg class=\"share\" aria-hidden=\"true\" viewBox=\"0 0 {width} 10\" width=\"{width}\" height=\"10\">\
         <rect class=\"allowed\" width=\"{allowed}\" height=\"10\"/>\
         <rect class=\"denied\" x=\"{allowed}\" y=\"3\" width=\"{denied}\" height=\"4\"/></svg>",
        width = WIDTH + 2,
    ))
}

/// Where the line between allowed and denied is, and how long a bar is.
struct Scale {
    line: u64,
    /// The requests of the highest bar and of the deepest.
    span: u128,
    height: u64,
}

impl Scale {
    fn of(days: &[DayCounts], height: u64) -> Self {
        let most = |of: fn(&DayCounts) -> u64| days.iter().map(of).max().unwrap_or(0);
        let [up, down] = [most(|day| day.allowed), most(|day| day.denied)];
        let mut scale = Self {
            line: 0,
            span: (u128::from(up) + u128::from(down)).max(1),
            height,
        };
        scale.line = height - 1 - scale.length(down);
        scale
    }

    /// Returns the length of a bar: zero for none, and at least 2, so that a single request is seen.
    fn length(&self, count: u64) -> u64 {
        // Two bars of the least length fit beside the others, and so does the line.
        let room = u128::from(self.height - 4);
        let length = u128::from(count) * room / self.span;
        match count {
            0 => 0,
            // It is at most the height.
            _ => u64::try_from(length).unwrap_or(0).max(2),
        }
    }
}

/// Returns what a chart says in words.
fn title(name: &str, days: &[DayCounts]) -> String {
    let (allowed, denied) = total(days);
    format!(
        "{}: {allowed} allowed and {denied} denied in {} days",
        escape(name),
        days.len()
    )
}

/// Escapes a text for SVG and HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(counts: &[(u64, u64)]) -> Vec<DayCounts> {
        let day = |(place, (allowed, denied)): (usize, &(u64, u64))| DayCounts {
            day: Timestamp::from_millis(place as i64 * DAY_MILLIS),
            allowed: *allowed,
            denied: *denied,
        };
        counts.iter().enumerate().map(day).collect()
    }

    /// Each bar lies within the picture, whatever the numbers are.
    #[test]
    fn no_bar_leaves_the_picture() {
        for height in [22, 160] {
            for most in [0, 1, 2, 1_000, u64::MAX / 2, u64::MAX] {
                for least in [0, 1, most] {
                    for (allowed, denied) in [(most, least), (least, most)] {
                        let days = days(&[(allowed, 0), (0, denied), (least, least), (1, 1)]);
                        let scale = Scale::of(&days, height);
                        for day in &days {
                            let [up, down] = [day.allowed, day.denied].map(|n| scale.length(n));
                            assert!(up <= scale.line, "{day:?} {height} {up}");
                            assert!(scale.line + down <= height, "{day:?} {height} {down}");
                            assert_eq!((up == 0, down == 0), (day.allowed == 0, day.denied == 0));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn lines_begin_at_the_axis() {
        let lengths = || [0, 3, 0, 12].into_iter();
        assert_eq!(strokes(lengths(), 11, ["-", " "]), "M1 11m3 0v-3m6 3v-12");
        assert_eq!(strokes(lengths(), 11, ["", "-"]), "M1 11m3-0v3m6-3v12");
        assert_eq!(strokes([0; 30].into_iter(), 11, ["-", " "]), "M1 11");
    }

    #[test]
    fn a_hostile_name_is_text() {
        let hostile = "'\"><script>alert(1)</script>&\u{202e}";
        for drawn in [
            sparkline(hostile, &days(&[(1, 2)])),
            bars(hostile, &days(&[(1, 2)])),
        ] {
            let drawn = drawn.to_string();
            assert!(!drawn.contains("<script"), "{drawn}");
            assert!(
                drawn.contains("<title>&#39;&quot;&gt;&lt;script&gt;"),
                "{drawn}"
            );
            assert!(!drawn.contains("style="), "{drawn}");
            assert!(drawn.contains("role=\"img\""), "{drawn}");
        }
    }

    #[test]
    fn each_of_the_last_days_is_there() {
        let now = Timestamp::from_millis(100 * DAY_MILLIS + 5);
        let days = last_days(&[], now);
        assert_eq!(days.len(), DAYS);
        assert_eq!(days[0].day, first_day(now));
        assert_eq!(days[29].day.as_millis(), 100 * DAY_MILLIS);
        assert_eq!(days[29].date(), "1970-04-11");
        assert_eq!(total(&days), (0, 0));
        // The end of time is not a reason to panic.
        for now in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(last_days(&[], now).len(), DAYS);
        }
    }

    #[test]
    fn a_list_of_charts_is_small() {
        let busy = days(&[(u64::MAX, u64::MAX); DAYS]);
        let drawn = sparkline("nightly", &busy).to_string();
        assert!(drawn.len() < 1_200, "{}", drawn.len());
    }
}
