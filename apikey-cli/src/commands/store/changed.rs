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

/// Warns of the first changes that TO's audit log has and FROM's lacks, and returns what there is to say of all, or `None`. A copy
/// could undo them.
///
/// Entries from before FROM's oldest one do not count: FROM may have removed them since an earlier copy. If FROM's log is empty, each
/// entry counts, also one that an earlier copy brought.
pub(super) async fn found(
    from: &dyn StoreCopy,
    to: &dyn StoreCopy,
) -> Result<Option<String>, Failure> {
    let section = CopySection::Audit;
    let (mut from, mut to) = (Items::new(from, section), Items::new(to, section));
    let (mut changes, mut oldest) = (0, None);
    loop {
        to.fill().await?;
        if to.read.is_empty() {
            return Ok(summary(changes, oldest.is_some()));
        }
        from.fill().await?;
        let order = match (from.read.front(), to.read.front()) {
            (None, _) => Ordering::Greater,
            (_, None) => return Ok(summary(changes, oldest.is_some())),
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

fn summary(changes: u64, has_log: bool) -> Option<String> {
    if changes == 0 {
        return None;
    }
    Some(match has_log {
        true => {
            let changes = counted(changes, "change");
            format!("TO was changed since it was copied ({changes} that FROM lacks)")
        }
        false => "FROM's audit log is empty, so it cannot be seen whether TO was changed since it was copied".to_owned(),
    })
}

/// Returns the error of a copy to a store that was changed, or may have been.
pub(super) fn refused(found: &str) -> Failure {
    Failure::with_code(
        exit::CONFLICT,
        format!("{found}, and nothing was copied"),
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
