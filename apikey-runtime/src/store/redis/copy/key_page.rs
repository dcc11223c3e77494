//! Pages of what is kept for each key, in the order of the keys.
//!
//! The keys are those of the index. An entry that does not lead to a record is passed over, as what is left of a removed key.

use redis::{Cmd, ParsingError, Value, from_redis_value};

use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::copy_rules::{another_position, cursor, position};
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::key_names::KeyNames;
use crate::store::redis::read::ids;
use crate::store::redis::server::Server;
use crate::store::{CopyItems, CopyPage};
use crate::util::text::quote;

/// How many keys are looked at together at most. The first steps are smaller, since a few keys may fill the page.
const STEP: usize = 200;

/// How many parts are counted together at most. The first steps are smaller, since a few parts may fill the page.
const COUNTED: usize = 2_000;

/// How much larger a step is than the one before.
const GROWTH: usize = 8;

/// How many keys a page looks at, if they do not fill it.
const MAX_KEYS: usize = 5_000;

/// A section of a copy that has items of keys, in parts: each is read by one command.
pub(super) trait KeySection: Sync {
    type Item: Send;

    /// What is done, for errors.
    const DOING: &'static str;

    /// What an item is, for the name of one that cannot be read.
    const ITEM: &'static str;

    /// Returns the parts, in the order of their items.
    fn parts(&self) -> &[i64];

    /// Returns a command that answers 0 if the store does not have an item of the key.
    fn exists(&self, names: &KeyNames, id: &[u8]) -> Cmd;

    /// Returns a command that answers about how many items a part has.
    fn count(&self, names: &KeyNames, id: &KeyId, part: i64) -> Cmd;

    /// Returns the pieces in which a part with this number of items is read, from the one that has the item after this text. `None` stands for
    /// all of it.
    fn pieces(&self, _count: usize, _after: Option<&str>) -> Vec<Option<u8>> {
        vec![None]
    }

    /// Returns a command that reads a part, or a piece of it.
    fn read(&self, names: &KeyNames, id: &KeyId, part: i64, piece: Option<u8>) -> Cmd;

    /// Returns the items of a part that was read.
    fn items(
        &self,
        id: &KeyId,
        part: i64,
        read: Value,
    ) -> Result<Vec<KeyItem<Self::Item>>, ParsingError>;

    /// Returns the items of a page.
    fn page(items: Vec<Self::Item>) -> CopyItems;
}

/// An item, with the text by which the items of its part are sorted. `None` stands for one that cannot be read.
pub(super) struct KeyItem<T> {
    pub(super) sort: String,
    pub(super) item: Option<T>,
}

/// The position after which a page starts: all items of an entry of the index, or those up to this text of this part.
type KeyPosition = (String, Option<(i64, String)>);

/// A part of a key, or all of an entry whose id is not valid.
#[derive(Debug, Clone)]
struct PartPlace {
    id: Vec<u8>,
    key: Option<KeyId>,
    part: i64,
    piece: Option<u8>,
    /// About how many items it has; `None` if it cannot be read.
    count: Option<usize>,
}

/// A page of the items of keys, in the order of these.
struct KeyItemsPage<T> {
    after: Option<KeyPosition>,
    size: usize,
    items: Vec<T>,
    unreadable: Vec<String>,
    /// The bytes of the items, as far as they differ in that.
    bytes: usize,
    /// Whether an item is left that does not fit.
    is_cut: bool,
}

/// Reads a page of `size` items.
pub(super) async fn read<S: KeySection>(
    server: &Server,
    section: &S,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let mut page = KeyItemsPage::new(after, size)?;
    let (mut seen, mut step, mut counted) = (0, 1, 1);
    while page.room() > 0 && seen < MAX_KEYS {
        let entries = entries(server, S::DOING, b'i', start(page.after.as_ref())?, step).await?;
        let places = places(server, section, &entries, page.after.as_ref()).await?;
        let mut rest = places.as_slice();
        while !rest.is_empty() && page.room() > 0 {
            let (now, later) = rest.split_at(rest.len().min(counted));
            page.add_all(server, section, now).await?;
            (rest, counted) = (later, COUNTED.min(GROWTH * counted));
        }
        if page.is_cut || !rest.is_empty() {
            break;
        }
        let last = entries.last().map(|id| (text_of(id), None));
        page.after = last.or(page.after);
        if entries.len() < step {
            return Ok(page.finish(false, S::page));
        }
        seen += entries.len();
        step = STEP.min(GROWTH * step);
    }
    Ok(page.finish(true, S::page))
}

/// Returns how many places are read at once: those that fit, and the first in any case.
fn fitting(places: &[PartPlace], room: usize) -> usize {
    let mut sum = 0;
    let fits = places.iter().take_while(|place| {
        sum += place.count.unwrap_or(1);
        sum <= room
    });
    fits.count().max(1)
}

impl<T> KeyItemsPage<T> {
    fn new(after: Option<&str>, size: usize) -> Result<Self, StoreError> {
        Ok(Self {
            after: position(after)?,
            size,
            items: Vec::new(),
            unreadable: Vec::new(),
            bytes: 0,
            is_cut: false,
        })
    }

    /// Returns how many items fit. One that cannot be read takes as much room as the others.
    fn room(&self) -> usize {
        match self.bytes < CopyPage::MAX_BYTES {
            true => self.size - self.items.len() - self.unreadable.len(),
            false => 0,
        }
    }

    /// Reads places, and adds their items, until the page has ended.
    async fn add_all<S: KeySection<Item = T>>(
        &mut self,
        server: &Server,
        section: &S,
        places: &[PartPlace],
    ) -> Result<(), StoreError> {
        let counted = counted(server, section, places, self.after.as_ref()).await?;
        let mut rest = counted.as_slice();
        while !rest.is_empty() {
            if self.room() == 0 {
                self.is_cut = true;
                break;
            }
            let (now, later) = rest.split_at(fitting(rest, self.room()));
            let found = read_places(server, section, now).await?;
            for (place, items) in now.iter().zip(found) {
                self.add(S::ITEM, place, items);
            }
            rest = later;
        }
        Ok(())
    }

    /// Adds the items of a place, unless the page has ended.
    fn add(&mut self, item: &str, place: &PartPlace, found: Vec<KeyItem<T>>) {
        let id = text_of(&place.id);
        for found in found {
            let is_before = matches!(&self.after, Some((at, Some((part, sort))))
                if *at == id && (place.part, &found.sort) <= (*part, sort));
            if is_before || self.is_cut {
                continue;
            }
            // The next page starts after the last item of this one.
            if self.room() == 0 {
                self.is_cut = true;
                return;
            }
            match found.item {
                Some(item) => self.items.push(item),
                None => self.unreadable.push(format!("{item} of {}", name(place))),
            }
            self.bytes += size_of::<T>() + found.sort.len();
            self.after = Some((id.clone(), Some((place.part, found.sort))));
        }
    }

    fn finish(self, has_more: bool, items: impl FnOnce(Vec<T>) -> CopyItems) -> CopyPage {
        let next = self.after.filter(|_| has_more);
        let mut page = CopyPage::new(items(self.items), next.as_ref().map(cursor));
        page.unreadable = self.unreadable;
        page
    }
}

fn name(place: &PartPlace) -> String {
    match place.key {
        Some(key) => key.to_string(),
        None => quote(&String::from_utf8_lossy(&place.id)),
    }
}

/// Returns bytes as a text that sorts as they do.
pub(super) fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Returns the bytes of [`text_of`].
pub(super) fn bytes_of(text: &str) -> Result<Vec<u8>, StoreError> {
    let bytes = text.chars().map(|c| u8::try_from(u32::from(c)));
    let bytes: Result<_, _> = bytes.collect();
    bytes.map_err(|_another_text| another_position())
}

/// Returns the next entries of one kind in the index, without the kind. Each may have been written by hand. `start` is `[` or `(`, and
/// the entry from which, or after which, they are read.
pub(super) async fn entries(
    server: &Server,
    doing: &str,
    kind: u8,
    start: Vec<u8>,
    count: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (bracket, entry) = start.split_at(1);
    let mut list = redis::cmd("ZRANGE");
    list.arg(server.names.index())
        .arg([bracket, &[kind], entry].concat())
        .arg(&[b'(', kind + 1][..]);
    list.arg(&["BYLEX", "LIMIT", "0"]).arg(count);
    let (value, _) = server.calls.call(doing, [list], LONG_DEADLINE).await?.one();
    let entries = ids(doing, value)?.into_iter();
    Ok(entries.map(|entry| entry[1..].to_vec()).collect())
}

/// Returns where the entries of a page start.
fn start(after: Option<&KeyPosition>) -> Result<Vec<u8>, StoreError> {
    Ok(match after {
        None => b"[".to_vec(),
        Some((id, None)) => [b"(", bytes_of(id)?.as_slice()].concat(),
        Some((id, Some(_))) => [b"[", bytes_of(id)?.as_slice()].concat(),
    })
}

/// Sends commands. The answer is `None` to one that found a value of another type.
async fn answers(
    server: &Server,
    doing: &str,
    commands: impl IntoIterator<Item = Cmd>,
) -> Result<Vec<Option<Value>>, StoreError> {
    let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
    let readable = |value: Value| match value {
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(None),
        value => value.extract_error().map(Some),
    };
    let answers: Result<Vec<_>, _> = answers.values.into_iter().map(readable).collect();
    Ok(answers.map_err(|error| RedisFailure::of(doing, error))?)
}

/// As [`answers`], for answers that are numbers.
async fn numbers(
    server: &Server,
    doing: &str,
    commands: impl IntoIterator<Item = Cmd>,
) -> Result<Vec<Option<usize>>, StoreError> {
    let answers = answers(server, doing, commands).await?.into_iter();
    let numbers: Result<Vec<_>, _> = answers
        .map(|answer| answer.map(from_redis_value).transpose())
        .collect();
    Ok(numbers.map_err(|error| RedisFailure::of(doing, error.into()))?)
}

/// Returns what there is to read of the keys that have a record, without the parts before the position.
async fn places<S: KeySection>(
    server: &Server,
    section: &S,
    ids: &[Vec<u8>],
    after: Option<&KeyPosition>,
) -> Result<Vec<PartPlace>, StoreError> {
    let names = &server.names;
    if section.parts().is_empty() {
        return Ok(Vec::new());
    }
    let commands = ids.iter().flat_map(|id| {
        let mut record = redis::cmd("EXISTS");
        record.arg(names.record_of(id));
        [record, section.exists(names, id)]
    });
    let found = numbers(server, S::DOING, commands).await?;
    let mut places = Vec::new();
    for (id, found) in ids.iter().zip(found.chunks(2)) {
        if found.contains(&Some(0)) {
            continue;
        }
        let place = |key, part| PartPlace {
            id: id.clone(),
            key,
            part,
            piece: None,
            count: None,
        };
        let first = match after {
            Some((at, Some((part, _)))) if *at == text_of(id) => *part,
            _ => i64::MIN,
        };
        match KeyId::from_ascii(id) {
            Some(key) => {
                let parts = section.parts().iter().filter(|part| **part >= first);
                places.extend(parts.map(|part| place(Some(key), *part)));
            }
            None => places.push(place(None, i64::MIN)),
        }
    }
    Ok(places)
}

/// Returns the places that have items, with their counts, in the pieces in which they are read.
async fn counted<S: KeySection>(
    server: &Server,
    section: &S,
    places: &[PartPlace],
    after: Option<&KeyPosition>,
) -> Result<Vec<PartPlace>, StoreError> {
    let commands = places
        .iter()
        .filter_map(|place| Some(section.count(&server.names, &place.key?, place.part)));
    let mut counts = numbers(server, S::DOING, commands).await?.into_iter();
    let mut counted = Vec::new();
    for place in places {
        let count = place.key.and_then(|_| counts.next().flatten());
        let after = match after {
            Some((at, Some((part, sort)))) if *part == place.part && *at == text_of(&place.id) => {
                Some(sort.as_str())
            }
            _ => None,
        };
        let pieces = match (place.key, count) {
            (Some(_), Some(0)) => Vec::new(),
            (Some(_), Some(count)) => section.pieces(count, after),
            _ => vec![None],
        };
        let count = count.map(|count| count.div_ceil(pieces.len().max(1)));
        counted.extend(pieces.into_iter().map(|piece| PartPlace {
            piece,
            count,
            ..place.clone()
        }));
    }
    Ok(counted)
}

/// Returns the items of each place, in their order.
async fn read_places<S: KeySection>(
    server: &Server,
    section: &S,
    places: &[PartPlace],
) -> Result<Vec<Vec<KeyItem<S::Item>>>, StoreError> {
    let key = |place: &PartPlace| place.key.filter(|_| place.count.is_some());
    let commands = places.iter().filter_map(|place| {
        Some(section.read(&server.names, &key(place)?, place.part, place.piece))
    });
    let mut read = answers(server, S::DOING, commands).await?.into_iter();
    let items = |place: &PartPlace| {
        let Some((key, read)) = key(place).and_then(|key| Some((key, read.next()??))) else {
            let sort = String::new();
            return Ok(vec![KeyItem { sort, item: None }]);
        };
        let mut items = section.items(&key, place.part, read)?;
        items.sort_unstable_by(|one, other| one.sort.cmp(&other.sort));
        Ok(items)
    };
    let items: Result<Vec<_>, ParsingError> = places.iter().map(items).collect();
    Ok(items.map_err(|error| RedisFailure::of(S::DOING, error.into()))?)
}
