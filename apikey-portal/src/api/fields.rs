//! The fields of a key in bodies.

use std::str::FromStr;
use std::time::Duration;

use apikey_runtime::{Limit, Metadata, Timestamp};

use super::body::{Member, Members};
use super::problem::ApiError;
use crate::pages::moment::has_four_digits;

/// The fields of a key that a body states. `null` clears one.
#[derive(Debug)]
pub(super) struct StatedFields {
    pub(super) label: Option<String>,
    pub(super) description: Member<String>,
    pub(super) owner: Member<String>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) environment: Member<String>,
    pub(super) networks: Option<Vec<String>>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) limits: Option<Vec<Limit>>,
    pub(super) metadata: Member<Metadata>,
    pub(super) not_before: Member<Timestamp>,
    pub(super) expires: StatedEnd,
}

/// What a body says of the end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatedEnd {
    Unstated,
    Never,
    At(Timestamp),
}

const TEXTS: &str = "a list of texts";
const TIME: &str = "a time in the form of RFC 3339, such as `2026-01-31T12:00:00Z`";

impl StatedFields {
    /// Takes the fields. `now` is the time from which `expires_in` counts.
    pub(super) fn take(members: &mut Members, now: Timestamp) -> Result<Self, ApiError> {
        Ok(Self {
            label: members.text("label")?,
            description: members.take("description", "a text")?,
            owner: members.take("owner", "a text")?,
            scopes: list(members.take("scopes", TEXTS)?),
            environment: members.take("environment", "a text")?,
            networks: list(members.take("networks", TEXTS)?),
            methods: list(members.take("methods", TEXTS)?),
            limits: list(members.take(
                "limits",
                "a list of limits, such as `{\"name\": \"daily\", \"quota\": \"1000/day\"}`",
            )?),
            metadata: members.take("metadata", "an object")?,
            not_before: time(members, "not_before")?,
            expires: end(members, now)?,
        })
    }

    /// Returns whether a field is stated that only an administrator may set when a key is created.
    pub(super) fn reserved_of_new(&self) -> bool {
        self.limits.is_some() || self.metadata.is_some()
    }

    /// Returns whether a field is stated that only an administrator may change.
    pub(super) fn reserved(&self) -> bool {
        self.reserved_of_new()
            || self.owner.is_some()
            || self.environment.is_some()
            || self.not_before.is_some()
    }
}

/// Takes `null` for an empty list.
fn list<T>(member: Member<Vec<T>>) -> Option<Vec<T>> {
    member.map(Option::unwrap_or_default)
}

/// Takes a time of the years 0 to 9999.
pub(super) fn time(
    members: &mut Members,
    name: &'static str,
) -> Result<Member<Timestamp>, ApiError> {
    let time: Member<Timestamp> = members.take(name, TIME)?;
    match time.as_ref().and_then(Option::as_ref) {
        Some(time) if !has_four_digits(time) => Err(not_a_time(name)),
        _ => Ok(time),
    }
}

pub(super) fn not_a_time(name: &str) -> ApiError {
    ApiError::unusable(format!("`{name}` is not {TIME}."))
}

fn end(members: &mut Members, now: Timestamp) -> Result<StatedEnd, ApiError> {
    let at = time(members, "expires_at")?;
    let seconds: Option<u64> = members.value("expires_in", "a whole number of seconds")?;
    match (at, seconds) {
        (Some(_), Some(_)) => Err(ApiError::unusable(
            "`expires_at` and `expires_in` are both stated; state one.",
        )),
        (Some(at), None) => Ok(at.map_or(StatedEnd::Never, StatedEnd::At)),
        (None, Some(seconds)) => match now.checked_add(Duration::from_secs(seconds)) {
            Some(at) if has_four_digits(&at) => Ok(StatedEnd::At(at)),
            _ => Err(ApiError::unusable(
                "`expires_in` is too long; write a shorter time.",
            )),
        },
        (None, None) => Ok(StatedEnd::Unstated),
    }
}

/// Returns the networks of their texts.
pub(super) fn networks<T: FromStr>(texts: &[String]) -> Result<Vec<T>, ApiError> {
    let network = |text: &String| {
        text.parse().map_err(|_not_a_network| {
            ApiError::unusable(
                "`networks` has a text that is not a network; write each as in `192.0.2.0/24` or `2001:db8::/32`.",
            )
        })
    };
    texts.iter().map(network).collect()
}

/// Applies a merge patch to an object (RFC 7396 section 2).
pub(super) fn merge(target: &mut Metadata, patch: Metadata) {
    for (name, value) in patch {
        match value {
            serde_json::Value::Null => {
                target.remove(&name);
            }
            serde_json::Value::Object(patch) => {
                let mut inner = match target.remove(&name) {
                    Some(serde_json::Value::Object(inner)) => inner,
                    _ => Metadata::new(),
                };
                merge(&mut inner, patch);
                target.insert(name, serde_json::Value::Object(inner));
            }
            value => {
                target.insert(name, value);
            }
        }
    }
}
