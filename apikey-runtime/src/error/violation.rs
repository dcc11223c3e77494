//! Violations of the rules for issuing keys, in words that a page can show.

use std::fmt;
use std::time::Duration;

/// The number of scopes that a message names.
const NAMED: usize = 3;

/// The rule of an [`IssuePolicy`](crate::manager::IssuePolicy) that a call would break.
///
/// Its text is for the person who asked for the key: what the rule is, and what to do. A page can
/// show it. The only words of the request in it are scopes.
///
/// ```
/// use apikey_runtime::manager::PolicyViolation;
///
/// let violation = PolicyViolation::TooManyKeys { max: 3 };
/// let text = "the owner has 3 live keys, and may not have more; revoke a key that is not used";
/// assert_eq!(violation.to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyViolation {
    /// The key would live longer than permitted.
    LifetimeTooLong {
        /// The longest lifetime, from the call on.
        max: Duration,
    },
    /// The key would never expire.
    LifetimeRequired {
        /// The longest lifetime, from the call on; `None` permits any.
        max: Option<Duration>,
    },
    /// The owner has as many live keys as permitted.
    TooManyKeys {
        /// The maximum number of live keys.
        max: u32,
    },
    /// The key would have scopes that keys may not have.
    ScopesNotAllowed {
        /// These scopes, in byte order.
        scopes: Vec<String>,
    },
    /// The key would have scopes that the one who grants them does not hold.
    ScopesNotHeld {
        /// These scopes, in byte order.
        scopes: Vec<String>,
    },
}

impl PolicyViolation {
    /// Returns a short name of the rule for programs, such as `too_many_keys`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LifetimeTooLong { .. } => "lifetime_too_long",
            Self::LifetimeRequired { .. } => "lifetime_required",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::ScopesNotAllowed { .. } => "scopes_not_allowed",
            Self::ScopesNotHeld { .. } => "scopes_not_held",
        }
    }
}

impl fmt::Display for PolicyViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LifetimeTooLong { max } => write!(
                f,
                "a key may live for at most {}; choose an earlier expiry",
                words(*max)
            ),
            Self::LifetimeRequired { max: Some(max) } => write!(
                f,
                "a key must have an expiry; choose one within {}",
                words(*max)
            ),
            Self::LifetimeRequired { max: None } => {
                f.write_str("a key must have an expiry; choose one")
            }
            Self::TooManyKeys { max } => write!(
                f,
                "the owner has {}, and may not have more; revoke a key that is not used",
                counted(u64::from(*max), "live key")
            ),
            Self::ScopesNotAllowed { scopes } => write!(
                f,
                "a key may not have {}; choose scopes that are allowed",
                named(scopes)
            ),
            Self::ScopesNotHeld { scopes } => write!(
                f,
                "only a holder of {} can grant it to a key; choose scopes that you hold",
                named(scopes)
            ),
        }
    }
}

/// Formats the first scopes, and the number of the others.
fn named(scopes: &[String]) -> String {
    let quoted = scopes.iter().take(NAMED).map(|scope| format!("`{scope}`"));
    let list = quoted.collect::<Vec<_>>().join(", ");
    let noun = if scopes.len() == 1 { "scope" } else { "scopes" };
    match scopes.len().saturating_sub(NAMED) {
        0 => format!("the {noun} {list}"),
        more => format!("the {noun} {list} and {more} more"),
    }
}

/// Formats a span in the largest unit that divides it.
fn words(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let units = [
        (86_400_000, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1_000, "second"),
    ];
    let unit = units.into_iter().find(|(unit, _)| millis % unit == 0);
    let (unit, noun) = unit.unwrap_or((1, "millisecond"));
    counted(millis / unit, noun)
}

/// Returns a number and its noun, such as `1 key` and `2 keys`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("s{number}")).collect()
    }

    /// Each says what the rule is, then what to do, in one line.
    #[test]
    fn a_page_can_show_each_violation() {
        let day = Duration::from_hours(24);
        for (violation, text) in [
            (
                PolicyViolation::LifetimeTooLong { max: 30 * day },
                "a key may live for at most 30 days; choose an earlier expiry",
            ),
            (
                PolicyViolation::LifetimeRequired {
                    max: Some(Duration::from_hours(36)),
                },
                "a key must have an expiry; choose one within 36 hours",
            ),
            (
                PolicyViolation::LifetimeRequired { max: None },
                "a key must have an expiry; choose one",
            ),
            (
                PolicyViolation::TooManyKeys { max: 1 },
                "the owner has 1 live key, and may not have more; revoke a key that is not used",
            ),
            (
                PolicyViolation::ScopesNotAllowed { scopes: scopes(1) },
                "a key may not have the scope `s0`; choose scopes that are allowed",
            ),
            (
                PolicyViolation::ScopesNotHeld {
                    scopes: scopes(256),
                },
                "only a holder of the scopes `s0`, `s1`, `s2` and 253 more can grant it to a key; choose scopes \
                 that you hold",
            ),
        ] {
            assert_eq!(violation.to_string(), text);
        }
    }

    #[test]
    fn a_span_is_written_in_its_largest_unit() {
        for (millis, text) in [
            (86_400_000, "1 day"),
            (90 * 60_000, "90 minutes"),
            (1_500, "1500 milliseconds"),
            (1_000, "1 second"),
        ] {
            assert_eq!(words(Duration::from_millis(millis)), text);
        }
    }
}
