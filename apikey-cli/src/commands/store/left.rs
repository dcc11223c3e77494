//! What stays valid in TO after a copy.

use std::cmp::Ordering;
use std::time::SystemTime;

use apikey_runtime::Timestamp;
use apikey_runtime::store::{CopySection, StoreCopy};

use super::NAMES;
use super::verify::{Item, Items};
use crate::failure::Failure;
use crate::notice;

/// The items of a section that a copy left valid in TO.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// How many are live, and FROM does not have them: it may have revoked and removed them.
    pub(super) only_in_to: u64,
    /// How many are revoked or suspended in FROM alone.
    pub(super) valid: u64,
}

/// Compares the keys or owners of both stores.
pub(super) async fn count(
    section: CopySection,
    from: &dyn StoreCopy,
    to: &dyn StoreCopy,
) -> Result<Left, Failure> {
    let (mut from, mut to) = (Items::new(from, section), Items::new(to, section));
    let mut left = Left::default();
    let now = Timestamp::from(SystemTime::now());
    loop {
        from.fill().await?;
        to.fill().await?;
        let order = match (from.read.front(), to.read.front()) {
            (_, None) => return Ok(left),
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let one = from.read.pop_front_if(|_| order.is_le());
        let other = to.read.pop_front_if(|_| order.is_ge());
        let (number, place, what) = match (one, other) {
            (Some((place, one)), Some((_, other))) if is_valid_in_to(&one, &other) => (
                &mut left.valid,
                place,
                "is revoked or suspended in FROM, still valid in TO: revoke or suspend it there",
            ),
            (None, Some((place, other))) if is_live(&other, now) => {
                (&mut left.only_in_to, place, "is only in TO")
            }
            _ => continue,
        };
        if *number < NAMES as u64 {
            let name: String = String::from_utf8_lossy(&place).chars().take(100).collect();
            notice::warn(&format!("{section}: `{name}` {what}"));
        }
        *number += 1;
    }
}

fn is_live(item: &Item, now: Timestamp) -> bool {
    match item {
        Item::Key(key) => key.is_live(now),
        Item::Owner(owner) => !owner.state.suspended,
        _ => false,
    }
}

fn is_valid_in_to(from: &Item, to: &Item) -> bool {
    match (from, to) {
        (Item::Key(from), Item::Key(to)) => from.revoked.is_some() && to.revoked.is_none(),
        (Item::Owner(from), Item::Owner(to)) => {
            from.state.revocations > to.state.revocations
                || from.state.suspended && !to.state.suspended
        }
        _ => false,
    }
}
