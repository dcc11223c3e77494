//! The part of a page's path that names a key, an owner or a file.

use std::ops::Deref;

use serde::Deserialize;

/// The part of a path that names a key, an owner or a file, decoded. The application's own scopes around the portal may
/// have other parts.
#[derive(Debug, Deserialize)]
pub(crate) struct PathPart {
    #[serde(alias = "owner_name", alias = "asset_name")]
    key_id: String,
}

impl Deref for PathPart {
    type Target = str;

    fn deref(&self) -> &str {
        &self.key_id
    }
}

/// Returns the pattern of a path that the API documents. The names of its parts are such that the application's scopes
/// around the portal hardly have them too, which actix-web does not accept.
pub(crate) fn named(path: &str) -> String {
    path.replace("{id}", "{key_id}")
        .replace("{owner}", "{owner_name}")
}
