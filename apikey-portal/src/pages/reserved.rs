//! The fields of a key that only admins change: owner, environment, limits, metadata.

use apikey_runtime::limit::LimitRule;
use apikey_runtime::manager::UpdateKey;
use apikey_runtime::{KeyRecord, Limit, Metadata, Quota, Rate};

use crate::fields::FormFields;

/// The fields, as a person typed them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ReservedInput {
    pub(super) owner: String,
    /// The field is one of `key_fields.html`.
    pub(super) environment: String,
    /// A limit in each line: `daily = quota 1000/day`.
    pub(super) limits: String,
    /// A JSON object, or empty.
    pub(super) metadata: String,
}

/// The fields, read from what a person typed.
pub(super) struct ReservedFields {
    owner: Option<String>,
    environment: Option<String>,
    limits: Vec<Limit>,
    metadata: Metadata,
}

impl ReservedInput {
    pub(super) fn of(record: &KeyRecord) -> Self {
        let limits: Vec<_> = record.limits.iter().map(line).collect();
        let metadata = match record.metadata.is_empty() {
            true => String::new(),
            false => serde_json::to_string_pretty(&record.metadata).unwrap_or_default(),
        };
        Self {
            owner: record.owner.clone().unwrap_or_default(),
            environment: record.environment.clone().unwrap_or_default(),
            limits: limits.join("\n"),
            metadata,
        }
    }

    /// Returns whether a form has one of these fields.
    pub(super) fn is_sent(fields: &FormFields) -> bool {
        let names = ["owner", "environment", "limits", "metadata"];
        names
            .into_iter()
            .any(|name| fields.texts(name).next().is_some())
    }

    /// Returns the fields that a form has, and those of the record that it does not have.
    pub(super) fn read(fields: &FormFields, record: &KeyRecord) -> Self {
        let present = Self::of(record);
        let text = |name, present| match fields.texts(name).next() {
            Some(_) => fields.exact(name).to_owned(),
            None => present,
        };
        Self {
            // Blanks around it belong to an owner.
            owner: text("owner", present.owner),
            environment: text("environment", present.environment).trim().to_owned(),
            limits: text("limits", present.limits),
            metadata: text("metadata", present.metadata).trim().to_owned(),
        }
    }

    /// Reads the fields. The runtime checks their bounds.
    ///
    /// # Errors
    ///
    /// Returns all faults, as sentences.
    pub(super) fn parse(&self) -> Result<ReservedFields, Vec<String>> {
        let mut faults = Vec::new();
        let mut limits = Vec::new();
        let lines = self.limits.lines().map(str::trim);
        for text in lines.filter(|text| !text.is_empty()) {
            match limit(text) {
                Ok(limit) => limits.push(limit),
                Err(fault) => faults.push(fault),
            }
        }
        let metadata = match self.metadata.as_str() {
            "" => Metadata::new(),
            text => serde_json::from_str(text).unwrap_or_else(|error| {
                faults.push(format!(
                    "The metadata is not a JSON object: {error}. Write one such as {{\"plan\": \"pro\"}}."
                ));
                Metadata::new()
            }),
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let set = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Ok(ReservedFields {
            owner: set(&self.owner),
            environment: set(&self.environment),
            limits,
            metadata,
        })
    }
}

impl ReservedFields {
    /// Sets the fields that differ from those of the record.
    pub(super) fn set(self, mut call: UpdateKey, record: &KeyRecord) -> UpdateKey {
        if self.owner != record.owner {
            call = call.owner::<String>(self.owner);
        }
        if self.environment != record.environment {
            call = call.environment::<String>(self.environment);
        }
        if self.limits != record.limits {
            call = call.limits(self.limits);
        }
        if self.metadata != record.metadata {
            call = call.metadata(self.metadata);
        }
        call
    }
}

/// Returns the kind of a rule and the rule: `quota 1000/day`. A rate has the same text without it.
pub(super) fn rule(rule: LimitRule) -> String {
    match rule {
        LimitRule::Quota(quota) => format!("quota {quota}"),
        LimitRule::Rate(rate) => format!("rate {rate}"),
        // A rule of a later release.
        other => other.to_string(),
    }
}

fn line(limit: &Limit) -> String {
    format!("{} = {}", limit.name(), rule(limit.rule()))
}

/// Reads a line: `daily = quota 1000/day`.
fn limit(text: &str) -> Result<Limit, String> {
    let unknown = || {
        format!(
            "{text} is not a limit. Write one in each line, such as minute = rate 100/minute or daily = quota 1000/day."
        )
    };
    let (name, rule) = text.split_once('=').ok_or_else(unknown)?;
    let (kind, rule) = rule.trim().split_once(' ').ok_or_else(unknown)?;
    let rule = match kind {
        "rate" => rule.parse::<Rate>().map(LimitRule::from),
        "quota" => rule.parse::<Quota>().map(LimitRule::from),
        _ => return Err(unknown()),
    };
    let rule = rule.map_err(|error| format!("In the limit {}: {error}.", name.trim()))?;
    Ok(Limit::new(name.trim(), rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_back_from_its_line() {
        for text in [
            "minute = rate 100/minute burst 20",
            "a.b = rate 5/10s",
            "daily = quota 1000/day",
            "roll = quota 100/rolling 86400s",
            "credits = quota 500/lifetime",
        ] {
            assert_eq!(limit(text).map(|limit| line(&limit)).as_deref(), Ok(text));
        }
        for text in ["x", "x = 5/day", "x = rate", "x = rate 5", "x = quota 5/x"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn all_faults_are_told() {
        let input = ReservedInput {
            limits: "x\ny = rate 0/s".to_owned(),
            metadata: "[1]".to_owned(),
            ..ReservedInput::default()
        };
        assert_eq!(input.parse().err().map_or(0, |faults| faults.len()), 3);
    }
}
