//! The status of a limit, as a handler or the holder of a key reads it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::LimitRule;

/// The status of a limit that a request counted against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LimitStatus {
    /// The limit's name; for the rate of a route, the handler's name or the route's pattern.
    pub name: String,
    /// The limit's rule.
    #[serde(flatten)]
    pub rule: LimitRule,
    /// The units that could still be used at once.
    pub remaining: u64,
    /// The time until all units are available again; `None` for never. Serialised as whole seconds,
    /// rounded up.
    #[serde(serialize_with = "as_seconds")]
    pub reset_after: Option<Duration>,
    /// Whether the limit allowed the request. Not serialised.
    #[serde(skip)]
    pub allowed: bool,
    /// The time until the request would be allowed: zero if it was, `None` for never. Not
    /// serialised.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

fn as_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    seconds.serialize(serializer)
}
