//! Compares two stores, page by page.

use std::cmp::Ordering;
use std::collections::VecDeque;

use apikey_runtime::KeyRecord;
use apikey_runtime::store::{
    CopiedCounter, CopiedEntry, CopiedSecret, CopyItems, CopySection, ListedOwner, NetworkUse,
    SecretUse, StoreCopy, UsageRow,
};

use super::{NAMES, PAGE};
use crate::args::Common;
use crate::failure::Failure;
use crate::notice;
use crate::progress::Progress;

/// An item, which is compared as a whole.
#[derive(Debug, PartialEq)]
pub(super) enum Item {
    Owner(ListedOwner),
    Key(Box<KeyRecord>),
    Secret(CopiedSecret),
    Counter(CopiedCounter),
    Usage(UsageRow),
    Use(SecretUse),
    Network(NetworkUse),
    Entry(Box<CopiedEntry>),
}

/// A section of a store, whose items are read as they are needed.
pub(super) struct Items<'s> {
    store: &'s dyn StoreCopy,
    section: CopySection,
    after: Option<String>,
    is_last: bool,
    pub(super) read: VecDeque<(Vec<u8>, Item)>,
    unreadable: u64,
}

impl<'s> Items<'s> {
    pub(super) fn new(store: &'s dyn StoreCopy, section: CopySection) -> Self {
        Self {
            store,
            section,
            after: None,
            is_last: false,
            read: VecDeque::new(),
            unreadable: 0,
        }
    }

    /// Reads until there is a first item, unless all were taken.
    pub(super) async fn fill(&mut self) -> Result<(), Failure> {
        while self.read.is_empty() && !self.is_last {
            let page = self
                .store
                .read_copy(self.section, self.after.as_deref(), PAGE)
                .await?;
            let left = NAMES.saturating_sub(usize::try_from(self.unreadable).unwrap_or(NAMES));
            for name in page.unreadable.iter().take(left) {
                notice::warn(&format!("{}: `{name}` cannot be read", self.section));
            }
            self.unreadable += page.unreadable.len() as u64;
            self.read.extend(identified(page.items));
            self.is_last = page.next.is_none();
            self.after = page.next;
        }
        Ok(())
    }
}

/// Returns each item after bytes that sort as the items of its section do.
fn identified(items: CopyItems) -> Vec<(Vec<u8>, Item)> {
    let time = |number: i64| (number.cast_unsigned() ^ (1 << 63)).to_be_bytes();
    let bytes = |parts: &[&[u8]]| parts.concat();
    match items {
        CopyItems::Owners(owners) => {
            let item = |owner: ListedOwner| (owner.name.clone().into_bytes(), Item::Owner(owner));
            owners.into_iter().map(item).collect()
        }
        CopyItems::Keys(keys) => {
            let item = |key: KeyRecord| (key.id.as_str().into(), Item::Key(Box::new(key)));
            keys.into_iter().map(item).collect()
        }
        CopyItems::SharedSecrets(secrets) => {
            let item = |one: CopiedSecret| (one.name.clone().into_bytes(), Item::Secret(one));
            secrets.into_iter().map(item).collect()
        }
        CopyItems::LimitCounters(counters) => {
            let item = |one: CopiedCounter| {
                let place = bytes(&[one.key.as_str().as_bytes(), one.name.as_bytes()]);
                (place, Item::Counter(one))
            };
            counters.into_iter().map(item).collect()
        }
        CopyItems::Usage(rows) => {
            let item = |row: UsageRow| {
                let (key, hour) = (row.key.as_str().as_bytes(), &time(row.hour));
                let place = bytes(&[
                    key,
                    hour,
                    row.route.as_bytes(),
                    b"\0",
                    row.outcome.code().as_bytes(),
                ]);
                (place, Item::Usage(row))
            };
            rows.into_iter().map(item).collect()
        }
        CopyItems::SecretUses(uses) => {
            let item = |used: SecretUse| {
                let place = bytes(&[used.key.as_str().as_bytes(), &used.rotations.to_be_bytes()]);
                (place, Item::Use(used))
            };
            uses.into_iter().map(item).collect()
        }
        CopyItems::Networks(uses) => {
            let item = |used: NetworkUse| {
                let place = bytes(&[
                    used.key.as_str().as_bytes(),
                    used.network.to_string().as_bytes(),
                ]);
                (place, Item::Network(used))
            };
            uses.into_iter().map(item).collect()
        }
        CopyItems::Audit(entries) => {
            let item = |one: CopiedEntry| {
                let place = bytes(&[&time(one.entry.at.as_millis()), &one.number.to_be_bytes()]);
                (place, Item::Entry(Box::new(one)))
            };
            entries.into_iter().map(item).collect()
        }
        // A section of a later release.
        _ => Vec::new(),
    }
}

/// Counts the items that only one store has, those that differ, and those that cannot be read.
pub(super) async fn count(
    common: &Common,
    section: CopySection,
    from: &dyn StoreCopy,
    to: &dyn StoreCopy,
) -> Result<u64, Failure> {
    let (mut from, mut to) = (Items::new(from, section), Items::new(to, section));
    let (mut differing, mut compared) = (0, 0);
    let mut progress = Progress::new(common, "items compared", None);
    loop {
        from.fill().await?;
        to.fill().await?;
        let order = match (from.read.front(), to.read.front()) {
            (None, None) => return Ok(differing + from.unreadable + to.unreadable),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let one = from.read.pop_front_if(|_| order.is_le());
        let other = to.read.pop_front_if(|_| order.is_ge());
        let what = match (&one, &other) {
            (Some((_, one)), Some((_, other))) if one == other => None,
            (Some(_), Some(_)) => Some("differs"),
            (Some(_), None) => Some("is not in TO"),
            _ => Some("is only in TO"),
        };
        if let (Some(what), Some((place, _))) = (what, one.or(other)) {
            if differing < NAMES as u64 {
                let name: String = String::from_utf8_lossy(&place).chars().take(100).collect();
                notice::warn(&format!("{section}: `{name}` {what}"));
            }
            differing += 1;
        }
        compared += 1;
        progress.set(compared);
    }
}
