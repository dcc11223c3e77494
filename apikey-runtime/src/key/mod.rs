//! The text of keys: `{prefix}_{id}_{secret}{checksum}`.
//!
//! It contains only ASCII letters, digits and `_`, so that a double click selects all of it and
//! nothing needs escaping.

mod charset;
mod checksum;
mod digest;
mod format;
mod generate;
mod id;
mod sha256;

pub use crate::error::BoxError;
pub use crate::key_id::KeyId;
pub use charset::Charset;
pub use digest::{KeyHasher, ParsedDigest, Pepper, Sha256Hasher};

pub(crate) use crate::key_id::IdText;
#[cfg(test)]
pub(crate) use digest::COMPARISONS;
pub(crate) use format::{OwnedKey, ParsedKey, check_prefix};
pub(crate) use generate::{generate, random_id};

/// Returns whether `text` has the form of a key and a correct checksum, whatever its prefix. No store is asked: it may not be
/// a key all the same.
///
/// ```
/// use apikey_runtime::key::is_well_formed;
///
/// assert!(!is_well_formed("my_api_0000000000000000000007_cut"));
/// ```
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    ParsedKey::parse(text.as_bytes()).is_some()
}
