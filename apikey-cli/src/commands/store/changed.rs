//! What was changed in TO since a copy.

use std::cmp::Ordering;

use apikey_runtime::audit::AuditEntry;
use apikey_runtime::store::{CopySection, StoreCopy};

use super::NAMES;
use super::verify::{Item, Items};
use crate::exit;
use crate::failure::Failure;
use crate::notice;
use crate::text::counted;

/// Warns of the first changes that TO's audit log has and FROM's lacks, and returns how many there are. A copy could undo them.
///
/// Entries from before FROM's oldest one do not count: FROM may have removed them since an earlier copy.
pub(super) async fn count(from: &dyn StoreCopy, to: &dyn StoreCopy) -> Result<u64, Failure> {
    let section = CopySection::Audit;
    let (mut from, mut to) = (Items::new(from, section), Items::new(to, section));
    let (mut changes, mut oldest) = (0, None);
    loop {
        to.fill().await?;
        if to.read.is_empty() {
            return Ok(changes);
        }
        from.fill().await?;
        let order = match (from.read.front(), to.read.front()) {
            (None, _) => Ordering::Greater,
            (_, None) => return Ok(changes),
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        oldest = oldest.or_else(|| from.read.front().map(|(place, _)| place.clone()));
        let one = from.read.pop_front_if(|_| order.is_le());
        let Some((place, Item::Entry(entry))) = to.read.pop_front_if(|_| order.is_ge()) else {
            continue;
        };
        let is_copied = matches!(&one, Some((_, Item::Entry(one))) if *one == entry);
        if is_copied || oldest.as_ref().is_some_and(|oldest| place < *oldest) {
            continue;
        }
        if changes < NAMES as u64 {
            notice::warn(&told(&entry.entry));
        }
        changes += 1;
    }
}

/// Returns the error of a copy to a store that was changed.
pub(super) fn refused(changes: u64) -> Failure {
    let changes = counted(changes, "change");
    Failure::with_code(
        exit::CONFLICT,
        format!("TO was changed since it was copied ({changes} that FROM lacks), and nothing was copied"),
    )
    .remedy("copy to a new store; with `--force`, later versions in FROM overwrite what was changed in TO, and keys that TO removed are back")
}

fn told(entry: &AuditEntry) -> String {
    let key = entry.key.map(|key| format!(" of the key `{key}`"));
    let owner = entry.owner.as_ref();
    let owner = owner.map(|owner| format!(" of the owner `{owner}`"));
    format!(
        "only in TO: {} at {}{}",
        entry.action.code(),
        entry.at,
        key.or(owner).unwrap_or_default()
    )
}
