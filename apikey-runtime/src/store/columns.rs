//! Converts lists and metadata of a record for stores that keep text.

use ipnet::IpNet;

use crate::error::StoreError;
use crate::limit::{Limit, check_limits};
use crate::record::{Metadata, check_readable};

/// Joins `items` with single spaces.
pub(super) fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// Serializes `metadata` as JSON that [`metadata`] can parse.
pub(super) fn metadata_text(metadata: &Metadata) -> Result<String, StoreError> {
    check_readable(metadata)?;
    serde_json::to_string(metadata)
        .map_err(|error| refused("the metadata cannot be written", error))
}

/// Serializes `limits` as JSON that [`limits`] can parse.
pub(super) fn limits_text(limits: &[Limit]) -> Result<String, StoreError> {
    check_limits(limits).map_err(|error| refused("the limits do not read back", error))?;
    serde_json::to_string(limits).map_err(|error| refused("the limits cannot be written", error))
}

pub(super) fn refused(
    reason: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Backend {
        reason: reason.to_owned(),
        source: Box::new(source),
    }
}

/// A row that is not a valid record.
#[derive(Debug)]
pub(super) struct Broken {
    /// The content of the column `id`.
    pub(super) id: String,
    /// Names the column; never shows its content.
    pub(super) reason: String,
}

impl From<Broken> for StoreError {
    fn from(broken: Broken) -> Self {
        Self::Corrupt {
            id: broken.id,
            reason: broken.reason,
        }
    }
}

/// Omits serde_json's message: it would quote the text, which must not reach a log.
pub(super) fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| {
        format!(
            "`metadata` is not a JSON object (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// Rejects the record if a network cannot be parsed: the key must not become usable from anywhere.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let read = |network: &str| {
        network
            .parse()
            .map_err(|_quotes_it| "`networks` are not networks".to_owned())
    };
    split(text).map(read).collect()
}

/// Rejects the record if a limit cannot be parsed, or could not be counted apart from another: the
/// limit must not be dropped. serde_json's message is omitted, because it would quote the text.
pub(super) fn limits(text: &str) -> Result<Vec<Limit>, String> {
    let limits: Vec<Limit> = serde_json::from_str(text).map_err(|error| {
        format!(
            "`limits` is not a JSON array of limits (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    match check_limits(&limits) {
        Ok(()) => Ok(limits),
        Err(_) => Err("`limits` has too many limits or an invalid name".to_owned()),
    }
}

pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Quota, Rate};

    #[test]
    fn limits_read_back() {
        let written = [
            Limit::new("minute", Rate::per_minute(10).with_burst(3)),
            Limit::new("month", Quota::per_month(5)),
        ];
        assert_eq!(limits(&limits_text(&written).unwrap()).unwrap(), written);
        assert_eq!(limits("[]").unwrap(), []);
    }

    /// Otherwise a mistake in a limit would free the key from it.
    #[test]
    fn limits_that_cannot_be_read_are_not_none() {
        let twice = r#"[{"name":"secret","quota":"1/day"},{"name":"secret","quota":"2/day"}]"#;
        for text in [
            "",
            "null",
            "{}",
            r#"["secret"]"#,
            r#"[{"name":"secret"}]"#,
            r#"[{"name":"secret","quota":"secret/day"}]"#,
            r#"[{"name":"the secret","quota":"1/day"}]"#,
            twice,
        ] {
            let said = limits(text).expect_err(text);
            assert!(
                said.contains("`limits`") && !said.contains("secret"),
                "{said}"
            );
        }
    }
}
