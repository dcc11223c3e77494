//! Keys as text: `{prefix}_{id}_{secret}{checksum}`.
//!
//! ASCII letters, digits and `_` only, so that a double click selects the whole and nothing needs
//! escaping.

mod charset;
mod checksum;
mod digest;
mod format;
mod generate;
mod id;

pub use crate::key_id::KeyId;
pub use charset::Charset;
pub use digest::{KeyHasher, ParsedDigest, Pepper, Sha256Hasher};

pub(crate) use crate::key_id::IdText;
pub(crate) use format::{OwnedKey, ParsedKey, check_prefix};
pub(crate) use generate::{generate, random_id};
