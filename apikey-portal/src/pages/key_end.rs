//! The end of a key in a form.

use std::collections::BTreeSet;
use std::time::Duration;

use apikey_runtime::Timestamp;
use apikey_runtime::manager::IssuePolicy;

use super::moment::has_four_digits;
use super::text;

/// The lifetimes that a form offers, in days.
const LIFETIMES: [u64; 6] = [1, 7, 30, 90, 180, 365];

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The end of a key, as a person chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyEnd {
    /// The policy's default for a new key, and the present end of another.
    Unchanged,
    Never,
    /// This long after the form is sent.
    In(Duration),
    At(Timestamp),
}

/// A box or a button that can be chosen.
#[derive(Debug)]
pub(super) struct FieldChoice {
    pub(super) value: String,
    pub(super) text: String,
    pub(super) is_chosen: bool,
    pub(super) is_allowed: bool,
}

impl KeyEnd {
    /// Reads the code of an end, and the last day of the code `date`; another code does not have a day.
    ///
    /// # Errors
    ///
    /// Returns the fault as a sentence.
    pub(super) fn read(end: &str, date: &str, now: Timestamp) -> Result<Self, String> {
        if end != "date" && !date.is_empty() {
            return Err("A last day is written, and another end is chosen. Choose one.".to_owned());
        }
        match end {
            "" => Ok(Self::Unchanged),
            "never" => Ok(Self::Never),
            "date" => {
                let day = format!("{date}T00:00:00Z").parse::<Timestamp>();
                let end = day.ok().and_then(|day| day.checked_add(DAY));
                let end = end.filter(has_four_digits);
                match end {
                    Some(end) if end > now => Ok(Self::At(end)),
                    Some(_) => Err("The last day is over. Choose a later one.".to_owned()),
                    None => Err("Choose the last day, such as 2027-01-31.".to_owned()),
                }
            }
            seconds => match seconds.parse() {
                Ok(seconds) if seconds > 0 && is_reached(seconds, now) => {
                    Ok(Self::In(Duration::from_secs(seconds)))
                }
                _ => Err("Choose when the key ends.".to_owned()),
            },
        }
    }
}

/// Returns whether a time that is this many seconds away has a year of four digits.
fn is_reached(seconds: u64, now: Timestamp) -> bool {
    let end = now.checked_add(Duration::from_secs(seconds));
    end.as_ref().is_some_and(has_four_digits)
}

/// Returns the ends that the policy permits. `present` is that of a key that exists, and `end` the code that was
/// chosen, or empty.
pub(super) fn end_choices(
    policy: &IssuePolicy,
    present: Option<Option<Timestamp>>,
    end: &str,
    now: Timestamp,
) -> Vec<FieldChoice> {
    let mut lifetimes: BTreeSet<Duration> = LIFETIMES
        .into_iter()
        .map(|days| DAY * u32::try_from(days).unwrap_or(u32::MAX))
        .filter(|life| policy.max_lifetime.is_none_or(|max| *life <= max))
        .collect();
    let others = [policy.default_lifetime, policy.max_lifetime];
    lifetimes.extend(others.into_iter().flatten().filter(is_whole));
    let may_live_on = !policy.lifetime_required && policy.max_lifetime.is_none();
    let standard = match policy.default_lifetime {
        Some(life) => life.as_secs().to_string(),
        None if may_live_on => "never".to_owned(),
        None => {
            let usual = lifetimes.iter().rev().find(|life| **life <= 90 * DAY);
            let life = usual.or(lifetimes.first());
            life.map_or_else(String::new, |life| life.as_secs().to_string())
        }
    };
    let chosen = match (end, present) {
        ("", Some(_)) => "",
        ("", None) => &standard,
        (end, _) => end,
    };
    let mut ends = Vec::new();
    if let Some(present) = present {
        let text = format!("as it is: {}", text::end(present, now));
        ends.push(FieldChoice::of("", &text, chosen.is_empty()));
    }
    for life in lifetimes {
        let seconds = life.as_secs().to_string();
        let is_chosen = seconds == chosen;
        ends.push(FieldChoice::of(
            &seconds,
            &format!("in {}", lifetime(life)),
            is_chosen,
        ));
    }
    if may_live_on {
        ends.push(FieldChoice::of("never", "never", chosen == "never"));
    }
    ends.push(FieldChoice::of(
        "date",
        "after this day (UTC):",
        chosen == "date",
    ));
    ends
}

impl FieldChoice {
    pub(super) fn of(value: &str, text: &str, is_chosen: bool) -> Self {
        Self {
            value: value.to_owned(),
            text: text.to_owned(),
            is_chosen,
            is_allowed: true,
        }
    }
}

/// Returns the first and the last day that a key may end after.
pub(super) fn days(policy: &IssuePolicy, now: Timestamp) -> (String, Option<String>) {
    let last = || {
        let end = now.checked_add(policy.max_lifetime?)?.as_millis();
        let day = end.checked_sub(i64::try_from(DAY.as_millis()).ok()?)?;
        day_of(Timestamp::from_millis(day))
    };
    (day_of(now).unwrap_or_default(), last())
}

/// Returns the day of a time in UTC, as `2026-12-31`; `None` outside of the years 0 to 9999.
fn day_of(time: Timestamp) -> Option<String> {
    let text = time.to_string();
    text.get(..10)
        .filter(|day| day.is_ascii() && text.as_bytes().get(10) == Some(&b'T'))
        .map(str::to_owned)
}

fn is_whole(life: &Duration) -> bool {
    life.as_secs() > 0 && life.subsec_nanos() == 0
}

/// Returns a lifetime in words: `1 year`, `30 days`, `36 hours`.
fn lifetime(life: Duration) -> String {
    let seconds = life.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit));
    match (seconds, unit) {
        (31_536_000, _) => "1 year".to_owned(),
        (_, Some((unit, noun))) => text::counted(seconds / unit, noun),
        (_, None) => text::counted(seconds, "second"),
    }
}

/// Returns what the policy says of the end of a key.
pub(super) fn cap(policy: &IssuePolicy) -> Option<String> {
    match policy.max_lifetime {
        Some(max) => Some(format!("A key may live for at most {}.", lifetime(max))),
        None if policy.lifetime_required => Some("A key must have an end.".to_owned()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(ends: &[FieldChoice]) -> Vec<&str> {
        ends.iter().map(|end| end.value.as_str()).collect()
    }

    fn chosen(ends: &[FieldChoice]) -> Vec<&str> {
        let chosen = ends.iter().filter(|end| end.is_chosen);
        chosen.map(|end| end.text.as_str()).collect()
    }

    fn new_key(policy: &IssuePolicy) -> Vec<FieldChoice> {
        let now = Timestamp::from_millis(0);
        end_choices(policy, None, "", now)
    }

    #[test]
    fn a_form_offers_the_lifetimes_that_the_policy_permits() {
        let free = IssuePolicy::unrestricted();
        let ends = new_key(&free);
        assert_eq!(ends.len(), LIFETIMES.len() + 2);
        assert_eq!(chosen(&ends), ["never"]);
        // The default is selected, and offered if it is not one of the usual ones.
        let ends = new_key(&free.clone().with_default_lifetime(45 * DAY));
        assert_eq!(chosen(&ends), ["in 45 days"]);
        // Neither longer ones than the cap, nor a key without an end.
        let capped = free.clone().with_max_lifetime(36 * DAY / 24);
        assert_eq!(values(&new_key(&capped)), ["86400", "129600", "date"]);
        let capped = free.clone().with_max_lifetime(30 * DAY);
        let ends = new_key(&capped);
        assert_eq!(values(&ends), ["86400", "604800", "2592000", "date"]);
        assert_eq!(chosen(&ends), ["in 30 days"]);
        let ends = new_key(&free.with_lifetime_required(true));
        assert!(!values(&ends).contains(&"never"));
        assert_eq!(chosen(&ends), ["in 90 days"]);
    }

    #[test]
    fn the_end_of_a_key_that_exists_stays_unless_another_is_chosen() {
        let policy = IssuePolicy::unrestricted().with_default_lifetime(30 * DAY);
        let now = Timestamp::from_millis(0);
        let ends = end_choices(&policy, Some(None), "", now);
        assert_eq!(chosen(&ends), ["as it is: does not expire"]);
        let ends = end_choices(&policy, Some(None), "never", now);
        assert_eq!(chosen(&ends), ["never"]);
    }

    #[test]
    fn an_end_is_read_from_its_code() {
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        let read = |end: &str, date: &str| KeyEnd::read(end, date, now).ok();
        assert_eq!(read("", ""), Some(KeyEnd::Unchanged));
        assert_eq!(read("never", ""), Some(KeyEnd::Never));
        assert_eq!(read("86400", ""), Some(KeyEnd::In(DAY)));
        // Today is not over.
        let midnight = "2026-11-27T00:00:00Z".parse().unwrap();
        assert_eq!(read("date", "2026-11-26"), Some(KeyEnd::At(midnight)));
        for (end, date) in [
            ("date", "2026-11-25"),
            ("date", ""),
            ("date", "2026-02-30"),
            ("date", "2026-11-26T"),
            ("0", ""),
            ("-1", ""),
            ("x", ""),
            ("99999999999999999999", ""),
            ("18446744073709551615", ""),
            // Its end is not a time of RFC 3339.
            ("999999999999", ""),
            ("date", "9999-12-31"),
            ("date", "+999999-01-01"),
            // A day that is written is not dropped.
            ("", "2026-12-01"),
            ("never", "2026-12-01"),
            ("86400", "2026-12-01"),
        ] {
            assert_eq!(read(end, date), None, "{end} {date}");
        }
    }
}
