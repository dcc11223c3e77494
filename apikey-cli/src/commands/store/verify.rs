//! Compares two stores, page by page.

use std::cmp::Ordering;
use std::collections::VecDeque;

use apikey_runtime::store::{
    CopiedCounter, CopiedEntry, CopiedSecret, CopyItems, CopySection, ListedOwner, NetworkUse,
    SecretUse, StoreCopy, UsageRow,
};
use apikey_runtime::{KeyRecord, Timestamp};

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
    pub(super) read: VecDeque<PlacedItem>,
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
            self.read.extend(identified(page.items)?);
            self.is_last = page.next.is_none();
            self.after = page.next;
        }
        Ok(())
    }
}

/// An item after bytes that sort as the items of its section do.
type PlacedItem = (Vec<u8>, Item);

/// Returns each item with its place.
///
/// # Errors
///
/// Returns an error for items of a kind that this release does not know: they would count as the same.
fn identified(items: CopyItems) -> Result<Vec<PlacedItem>, Failure> {
    Ok(match items {
        CopyItems::Owners(owners) => {
            placed(owners, |one| one.name.clone().into_bytes(), Item::Owner)
        }
        CopyItems::Keys(keys) => placed(
            keys,
            |one| one.id.as_str().into(),
            |one| Item::Key(Box::new(one)),
        ),
        CopyItems::SharedSecrets(secrets) => {
            placed(secrets, |one| one.name.clone().into_bytes(), Item::Secret)
        }
        CopyItems::LimitCounters(counters) => placed(
            counters,
            |one| [one.key.as_str(), &one.name].concat().into_bytes(),
            Item::Counter,
        ),
        CopyItems::Usage(rows) => placed(rows, place_of_usage, Item::Usage),
        CopyItems::SecretUses(uses) => placed(
            uses,
            |one| [one.key.as_str().as_bytes(), &one.rotations.to_be_bytes()].concat(),
            Item::Use,
        ),
        CopyItems::Networks(uses) => placed(
            uses,
            |one| format!("{}{}", one.key, one.network).into_bytes(),
            Item::Network,
        ),
        CopyItems::Audit(entries) => placed(
            entries,
            |one| [sorted(one.entry.at.as_millis()), one.number.to_be_bytes()].concat(),
            |one| Item::Entry(Box::new(one)),
        ),
        unknown => {
            return Err(Failure::new(format!(
                "the section `{}` cannot be compared by this release",
                unknown.section()
            ))
            .remedy("use an `apikey` of the servers' release"));
        }
    })
}

fn placed<T>(
    items: Vec<T>,
    place: impl Fn(&T) -> Vec<u8>,
    item: impl Fn(T) -> Item,
) -> Vec<PlacedItem> {
    let placed = |one| (place(&one), item(one));
    items.into_iter().map(placed).collect()
}

fn place_of_usage(row: &UsageRow) -> Vec<u8> {
    let (key, hour) = (row.key.as_str().as_bytes(), sorted(row.hour));
    let (route, outcome) = (row.route.as_bytes(), row.outcome.code().as_bytes());
    [key, &hour, route, b"\0", outcome].concat()
}

/// Returns bytes that sort as the numbers do.
fn sorted(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

impl Item {
    /// Returns what identifies the item in its section, in words.
    fn name(&self) -> String {
        match self {
            Self::Owner(one) => one.name.clone(),
            Self::Key(one) => one.id.to_string(),
            Self::Secret(one) => one.name.clone(),
            Self::Counter(one) => format!("{} {}", one.key, one.name),
            Self::Usage(one) => {
                let hour = Timestamp::from_millis(one.hour.saturating_mul(3_600_000));
                format!("{} {hour} {} {}", one.key, one.route, one.outcome.code())
            }
            Self::Use(one) => format!("{} {}", one.key, one.rotations),
            Self::Network(one) => format!("{} {}", one.key, one.network),
            Self::Entry(one) => format!("{} {}", one.entry.at, one.number),
        }
    }
}

/// Counts the items that only one store has, those that differ, and those that cannot be read. Usage before the hour `oldest` may be
/// missing in TO, where a server would remove it.
pub(super) async fn count(
    common: &Common,
    section: CopySection,
    from: &dyn StoreCopy,
    to: &dyn StoreCopy,
    oldest: i64,
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
            (Some((_, Item::Usage(row))), None) if row.hour < oldest => None,
            (Some(_), None) => Some("is not in TO"),
            _ => Some("is only in TO"),
        };
        if let (Some(what), Some((_, item))) = (what, one.or(other)) {
            if differing < NAMES as u64 {
                let name: String = item.name().chars().take(100).collect();
                notice::warn(&format!("{section}: `{name}` {what}"));
            }
            differing += 1;
        }
        compared += 1;
        progress.set(compared);
    }
}
