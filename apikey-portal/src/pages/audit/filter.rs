//! Which entries the address of the audit page asks for.

use apikey_runtime::{KeyId, Timestamp};
use serde::Deserialize;

use crate::pages::moment::time;
use crate::pages::text::{encode_value, set};

/// The ends of the years that texts of times have: 0001-01-01 and 9999-12-31.
const ENDS: [Timestamp; 2] = [
    Timestamp::from_millis(-62_135_596_800_000),
    Timestamp::from_millis(253_402_300_799_999),
];

/// What the address asks for, as it was written. An empty parameter is not set.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AuditFilter {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) owner: String,
    #[serde(default)]
    pub(super) actor: String,
    #[serde(default)]
    pub(super) from: String,
    #[serde(default)]
    pub(super) to: String,
    #[serde(default)]
    pub(super) before: String,
}

/// What the address asks for, except for the owner.
#[derive(Debug, Default, Clone)]
pub(super) struct AskedEntries {
    pub(super) key: Option<KeyId>,
    pub(super) actor: Option<String>,
    pub(super) span: Option<(Timestamp, Timestamp)>,
    pub(super) before: Option<String>,
}

impl AuditFilter {
    /// Returns what is asked for.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, and what to write.
    pub(super) fn query(&self) -> Result<AskedEntries, Vec<String>> {
        let mut faults = Vec::new();
        let key = set(&self.key).map(str::parse).transpose();
        let key = key.unwrap_or_else(|_| {
            faults.push(
                "One key is needed whose id is or begins so; copy the id from the page of the key, or leave the field empty."
                    .to_owned(),
            );
            None
        });
        let mut read = |text, name: &str, end| match set(text).map(|text| time(text, end)) {
            Some(None) => {
                faults.push(format!(
                    "The {name} is not a date; write one such as 2026-01-31."
                ));
                None
            }
            read => read.flatten(),
        };
        let (from, to) = (
            read(&self.from, "first day", false),
            read(&self.to, "last day", true),
        );
        let span = match (from, to) {
            (None, None) => None,
            (from, to) => Some((from.unwrap_or(ENDS[0]), to.unwrap_or(ENDS[1]))),
        };
        if span.is_some_and(|(from, to)| from >= to) {
            faults.push("The last day is before the first one; exchange them.".to_owned());
        }
        match faults.is_empty() {
            true => Ok(AskedEntries {
                key,
                actor: set(&self.actor).map(str::to_owned),
                span,
                before: set(&self.before).map(str::to_owned),
            }),
            false => Err(faults),
        }
    }

    /// Returns the parameters for a link to the same entries, without the position.
    pub(super) fn parameters(&self) -> String {
        let all = [
            ("key", &self.key),
            ("owner", &self.owner),
            ("actor", &self.actor),
            ("from", &self.from),
            ("to", &self.to),
        ];
        let set = all.into_iter().filter(|(_, text)| !text.is_empty());
        set.map(|(name, text)| format!("{name}={}&", encode_value(text)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_and_a_link_repeats_what_was_written() {
        let filter = AuditFilter {
            key: "x".to_owned(),
            owner: "a/b&c=\u{e9}".to_owned(),
            from: "2026-02-01".to_owned(),
            to: "soon".to_owned(),
            ..AuditFilter::default()
        };
        assert_eq!(filter.query().unwrap_err().len(), 2);
        assert_eq!(
            filter.parameters(),
            "key=x&owner=a%2Fb%26c%3D%C3%A9&from=2026-02-01&to=soon&"
        );
        let filter = AuditFilter {
            from: "2026-02-02".to_owned(),
            to: "2026-02-01".to_owned(),
            ..AuditFilter::default()
        };
        assert_eq!(filter.query().unwrap_err().len(), 1);
    }
}
