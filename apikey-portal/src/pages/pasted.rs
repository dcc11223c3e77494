//! A key or its id in a field for searching, as people copy them from pages.

use super::text::{ID_LEN, after_prefix};
use crate::visit::Visit;

/// Returns a text without the ellipsis that pages add to the beginning of a key.
pub(super) fn cleaned<'t>(visit: &Visit, text: &'t str) -> &'t str {
    let text = text.trim();
    let short = text.trim_end_matches(['.', '\u{2026}']);
    // A name may end with dots.
    match after_prefix(visit.state.manager.config(), short) {
        Some(_) => short,
        None => text.trim_end_matches('\u{2026}'),
    }
}

/// Returns the beginning of an id in a text: of `prefix_id`, or of an id alone, from 3 characters on.
pub(super) fn id_in<'t>(visit: &Visit, text: &'t str) -> Option<&'t str> {
    let id = after_prefix(visit.state.manager.config(), text).unwrap_or(text);
    let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    ((3..=ID_LEN).contains(&id.len()) && is_id).then_some(id)
}
