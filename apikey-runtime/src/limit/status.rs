//! The status of a limit, as requests and the holder of a key read it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::LimitRule;

/// How a limit stands that a request was counted against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LimitStatus {
    /// The limit's name; for that of a route the handler's name or the route's pattern.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub rule: LimitRule,
    /// How many units could still pass at once.
    pub remaining: u64,
    /// After what time all of it is there again; `None` for never. Serialised as whole seconds,
    /// rounded up.
    #[serde(serialize_with = "as_seconds")]
    pub reset: Option<Duration>,
}

fn as_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0));
    seconds.serialize(serializer)
}
