//! What stores that keep text make of a record's lists and of its metadata.

use ipnet::IpNet;

use crate::error::StoreError;
use crate::record::Metadata;

/// Separated by single spaces.
pub(super) fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// `metadata` as JSON which [`metadata`] can read back: it stops at 128 levels, and writing does not.
pub(super) fn metadata_text(metadata: &Metadata) -> Result<String, StoreError> {
    let unfit = |error| {
        refused(
            "the metadata does not read back from JSON; nest it less deeply",
            error,
        )
    };
    let text = serde_json::to_string(metadata).map_err(unfit)?;
    serde_json::from_str::<Metadata>(&text).map_err(unfit)?;
    Ok(text)
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

/// A row that is no record.
#[derive(Debug)]
pub(super) struct Broken {
    /// What stands in the column `id`.
    pub(super) id: String,
    /// Names the column; never shows what is in it.
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

/// serde_json's message would quote the text, which is for nobody's log.
pub(super) fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| {
        format!(
            "`metadata` is no JSON object (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// A network that cannot be read must not become "from anywhere".
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let read = |network: &str| {
        network
            .parse()
            .map_err(|_| "`networks` are not networks".to_owned())
    };
    split(text).map(read).collect()
}

pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}
