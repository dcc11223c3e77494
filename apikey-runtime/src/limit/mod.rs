//! Rates and quotas as data, and the pure steps that count them.

mod calendar;
mod counter;
mod gcra;
mod quota;
mod quota_count;
mod rate;
mod state;
mod status;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use gcra::Gcra;
pub use quota::{Quota, QuotaPeriod};
pub use rate::Rate;
pub(crate) use state::MAX_MILLIS;
pub use state::{CounterState, LimitDecision};
pub use status::LimitStatus;

use crate::error::Error;
use crate::util::text::quote;

/// The maximum number of limits of a key.
pub(crate) const MAX_LIMITS: usize = 16;

/// The maximum length of a limit's name, in bytes.
pub(crate) const MAX_NAME_LEN: usize = 64;

/// A named limit of a key: a rate or a quota.
///
/// ```
/// use apikey_runtime::{Limit, Quota, Rate};
///
/// let limits = [
///     Limit::new("minute", Rate::per_minute(10)),
///     Limit::new("daily", Quota::per_day(100)),
/// ];
/// assert_eq!(limits[1].name(), "daily");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    name: String,
    #[serde(flatten)]
    rule: LimitRule,
}

/// The rule of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitRule {
    /// How fast a key may be used.
    Rate(Rate),
    /// How much a key may be used in total, or in a period.
    Quota(Quota),
}

impl Limit {
    /// Creates a limit. Clients read its name in `RateLimit-Policy`, and it is counted under this
    /// name.
    ///
    /// A name is 1 to 64 ASCII letters, digits, `-`, `_` and `.`; creating a key with another name
    /// fails.
    #[must_use]
    pub fn new(name: impl Into<String>, rule: impl Into<LimitRule>) -> Self {
        Self {
            name: name.into(),
            rule: rule.into(),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the rule.
    #[must_use]
    pub fn rule(&self) -> LimitRule {
        self.rule
    }
}

/// Rejects limits that cannot be distinguished or stored.
pub(crate) fn check_limits(limits: &[Limit]) -> Result<(), Error> {
    if limits.len() > MAX_LIMITS {
        return Err(Error::InvalidArgument(format!(
            "a key has at most {MAX_LIMITS} limits, and {} were given; leave some out",
            limits.len()
        )));
    }
    for (index, limit) in limits.iter().enumerate() {
        let name = &limit.name;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(plain) {
            return Err(Error::InvalidArgument(format!(
                "the name of a limit is 1 to {MAX_NAME_LEN} ASCII letters, digits, `-`, `_` and `.`, and not {}; write \
                 one as in `daily`",
                quote(name)
            )));
        }
        if limits[..index].iter().any(|other| other.name == *name) {
            return Err(Error::InvalidArgument(format!(
                "two limits have the name `{name}`; give each its own"
            )));
        }
    }
    Ok(())
}

impl From<Rate> for LimitRule {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl From<Quota> for LimitRule {
    fn from(quota: Quota) -> Self {
        Self::Quota(quota)
    }
}

impl LimitRule {
    /// Returns the number of units in a window (`q` of `RateLimit-Policy`).
    #[must_use]
    pub fn amount(self) -> u64 {
        match self {
            Self::Rate(rate) => u64::from(rate.amount()),
            Self::Quota(quota) => quota.amount(),
        }
    }

    /// Returns the window in whole seconds, rounded up; `None` for a month or a lifetime.
    #[must_use]
    pub fn window_seconds(self) -> Option<u64> {
        match self {
            Self::Rate(rate) => Some(rate.window().as_millis().div_ceil(1_000) as u64),
            Self::Quota(quota) => quota.period().seconds(),
        }
    }

    /// Returns the kind of the rule. It is part of the counter's name, so that counters of
    /// different kinds are never mixed up.
    pub(crate) fn kind(self) -> Cow<'static, str> {
        match self {
            Self::Rate(_) => Cow::Borrowed("rate"),
            Self::Quota(quota) => match quota.period() {
                QuotaPeriod::Day => Cow::Borrowed("day"),
                QuotaPeriod::Month => Cow::Borrowed("month"),
                QuotaPeriod::Lifetime => Cow::Borrowed("lifetime"),
                QuotaPeriod::Rolling(window) => {
                    Cow::Owned(format!("rolling-{}", window.as_millis()))
                }
            },
        }
    }

    /// Returns the largest cost that the rule can allow at once.
    #[must_use]
    pub fn largest_cost(self) -> u64 {
        match self {
            Self::Rate(rate) => u64::from(rate.burst()),
            Self::Quota(quota) => quota.amount(),
        }
    }
}

impl fmt::Display for LimitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => rate.fmt(f),
            Self::Quota(quota) => quota.fmt(f),
        }
    }
}
