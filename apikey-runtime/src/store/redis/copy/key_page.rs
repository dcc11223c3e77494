//! Pages of what is kept for each key, in the order of the keys.

use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::copy_rules::{cursor, position};
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::index::id_of;
use crate::store::redis::read::ids;
use crate::store::redis::server::Server;
use crate::store::{CopyItems, CopyPage};

/// How many keys are looked at together.
const STEP: usize = 200;

/// How many keys a page looks at, if they do not fill it.
const MAX_KEYS: usize = 5_000;

/// An item of a key, with the text by which the items of one key are sorted; or the name of one that cannot be read.
pub(super) struct KeyItem<T> {
    pub(super) key: KeyId,
    pub(super) sort: String,
    pub(super) item: Result<T, String>,
}

/// The position after which a page starts: all items of the key, or those up to this text.
type KeyPosition = (KeyId, Option<String>);

/// A page of the items of keys, in the order of these.
pub(super) struct KeyItemsPage<T> {
    after: Option<KeyPosition>,
    size: usize,
    items: Vec<T>,
    unreadable: Vec<String>,
    /// How many keys were looked at.
    seen: usize,
    /// The keys whose items are to be added.
    keys: Vec<KeyId>,
    /// Whether the page has ended, and whether others follow.
    end: Option<bool>,
}

impl<T> KeyItemsPage<T> {
    /// Begins a page of `size` items.
    pub(super) fn new(after: Option<&str>, size: usize) -> Result<Self, StoreError> {
        Ok(Self {
            after: position(after)?,
            size,
            items: Vec::new(),
            unreadable: Vec::new(),
            seen: 0,
            keys: Vec::new(),
            end: None,
        })
    }

    /// Returns the next keys whose items are to be [added](Self::add), unless the page has ended.
    pub(super) async fn keys(&mut self, server: &Server) -> Result<Option<Vec<KeyId>>, StoreError> {
        if self.end.is_some() {
            return Ok(None);
        }
        self.keys = keys(server, self.after.as_ref()).await?;
        if self.keys.is_empty() {
            self.end = Some(false);
            return Ok(None);
        }
        Ok(Some(self.keys.clone()))
    }

    /// Returns how many items fit the page.
    pub(super) fn room(&self) -> usize {
        self.size - self.items.len()
    }

    /// Adds the items of keys, in their order: of all up to `done`.
    pub(super) fn add(&mut self, found: impl IntoIterator<Item = KeyItem<T>>, done: KeyId) {
        for found in found {
            let is_before = matches!(&self.after, Some((key, Some(sort))) if *key == found.key && found.sort <= *sort);
            if is_before {
                continue;
            }
            // An item is left, so the next page starts after the last one of this.
            if self.room() == 0 {
                self.end = Some(true);
                return;
            }
            match found.item {
                Ok(item) => self.items.push(item),
                Err(name) => self.unreadable.push(name),
            }
            self.after = Some((found.key, Some(found.sort)));
        }
        self.seen += self.keys.len();
        if self.keys.len() < STEP && self.keys.last() == Some(&done) {
            self.end = Some(false);
        } else if self.seen >= MAX_KEYS {
            self.end = Some(true);
        }
        self.after = Some((done, None));
    }

    /// Adds the items of all these keys.
    pub(super) fn add_all(&mut self, found: impl IntoIterator<Item = KeyItem<T>>) {
        if let Some(last) = self.keys.last().copied() {
            self.add(found, last);
        }
    }

    pub(super) fn finish(self, items: impl FnOnce(Vec<T>) -> CopyItems) -> CopyPage {
        let next = self.after.filter(|_| self.end == Some(true));
        let mut page = CopyPage::new(items(self.items), next.as_ref().map(cursor));
        page.unreadable = self.unreadable;
        page
    }
}

/// Returns the next keys, by the index.
async fn keys(server: &Server, after: Option<&KeyPosition>) -> Result<Vec<KeyId>, StoreError> {
    let doing = "listing keys to copy";
    let start = match after {
        None => "[i".to_owned(),
        Some((key, None)) => format!("(i{key}"),
        Some((key, Some(_))) => format!("[i{key}"),
    };
    let mut list = redis::cmd("ZRANGE");
    list.arg(server.names.index()).arg(start).arg("(j");
    list.arg(&["BYLEX", "LIMIT", "0"]).arg(STEP);
    let (value, _) = server.calls.call(doing, [list], LONG_DEADLINE).await?.one();
    let entries = ids(doing, value)?;
    let keys = entries.iter().map(|entry| KeyId::from_ascii(id_of(entry)));
    // An entry without an id was written by hand.
    Ok(keys.flatten().collect())
}
