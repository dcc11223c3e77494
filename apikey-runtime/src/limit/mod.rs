//! What a key or a route is limited to: rates and quotas, as data, and how each is counted.

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
pub use state::{CounterState, LimitDecision};
pub use status::LimitStatus;

use crate::error::Error;

/// The most limits that one key may have.
pub(crate) const MOST_LIMITS: usize = 16;

/// The longest name of a limit, in bytes.
pub(crate) const MAX_NAME_LEN: usize = 64;

/// A limit of a key: a rate or a quota, under a name of its own.
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

/// What a limit holds a key to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitRule {
    /// How fast.
    Rate(Rate),
    /// How much in all, or in a day or a month.
    Quota(Quota),
}

impl Limit {
    /// A limit of that name: what clients read in `RateLimit-Policy`, and under which it is counted.
    /// A name is 1 to 64 ASCII letters, digits, `-`, `_` and `.`; a key is not made with another.
    #[must_use]
    pub fn new(name: impl Into<String>, rule: impl Into<LimitRule>) -> Self {
        Self {
            name: name.into(),
            rule: rule.into(),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds a key to.
    #[must_use]
    pub fn rule(&self) -> LimitRule {
        self.rule
    }
}

/// Refuses limits that cannot be counted apart, or stored.
pub(crate) fn check_limits(limits: &[Limit]) -> Result<(), Error> {
    if limits.len() > MOST_LIMITS {
        return Err(Error::InvalidArgument(format!(
            "a key has at most {MOST_LIMITS} limits; leave some out"
        )));
    }
    for (index, limit) in limits.iter().enumerate() {
        let name = &limit.name;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(plain) {
            return Err(Error::InvalidArgument(format!(
                "the name of a limit is 1 to {MAX_NAME_LEN} letters, digits, `-`, `_` and `.`; write one as in `daily`"
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
    /// The number that clients are told (`q` of `RateLimit-Policy`): how much in a window.
    #[must_use]
    pub fn amount(self) -> u64 {
        match self {
            Self::Rate(rate) => u64::from(rate.amount()),
            Self::Quota(quota) => quota.amount(),
        }
    }

    /// The window that it is for, in whole seconds, rounded up; `None` where there is none.
    #[must_use]
    pub fn window_seconds(self) -> Option<u64> {
        match self {
            Self::Rate(rate) => Some(rate.window().as_millis().div_ceil(1_000) as u64),
            Self::Quota(quota) => quota.period().seconds(),
        }
    }

    /// The kind, as a part of the name under which it is counted: counts of different kinds cannot be
    /// read as each other's.
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

    /// The largest cost that it could ever admit at once.
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
