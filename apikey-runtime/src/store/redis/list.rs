//! Listing, page by page, and reading the index.

use redis::from_redis_value;

use super::connection::LONG_DEADLINE;
use super::error::RedisFailure;
use super::index::{self, sortable, time_of};
use super::read::read;
use super::record_hash::{self, RecordHash};
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::{ErrorChain, StoreError};
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::columns::Broken;
use crate::store::paging::page_size;
use crate::store::{ListCursor, ListQuery, ListRange, RecordPage, SortValue, fold_label};

/// How often the index is read for a page, or until there is a place to go on from. A page for which this was too few ends
/// early.
const READS: usize = 20;

/// How many entries are read at once at least.
const LEAST_READ: usize = 20;

/// How many records one script reads.
const READ_STEP: usize = 100;

/// The bytes of an id.
const ID: usize = 22;

/// What follows all bytes of a time and an id.
const END: [u8; 9] = [255; 9];

/// A range of the index. The bounds leave out what all its entries begin with.
#[derive(Debug)]
struct IndexRange<'a> {
    kind: &'static str,
    owner: Option<&'a str>,
    low: Vec<u8>,
    high: Vec<u8>,
    /// Whether the last come first, which is then where a page continues.
    is_descending: bool,
}

impl<'a> IndexRange<'a> {
    fn of(query: &'a ListQuery) -> Self {
        let (kind, owner) = match &query.range {
            ListRange::All => ("c", None),
            ListRange::Owner(owner) => ("t", Some(owner.as_str())),
            ListRange::Label(_) => ("f", None),
            ListRange::Id(_) => ("i", None),
            ListRange::Expires { .. } => ("x", None),
        };
        let (low, high) = match &query.range {
            ListRange::All | ListRange::Owner(_) => (Vec::new(), END.to_vec()),
            ListRange::Label(beginning) => with_prefix(escaped(beginning)),
            ListRange::Id(beginning) => with_prefix(beginning.clone().into_bytes()),
            ListRange::Expires { from, to } => (sortable(*from).to_vec(), sortable(*to).to_vec()),
        };
        let mut range = Self {
            kind,
            owner,
            low: [b"[", low.as_slice()].concat(),
            high: [b"(", high.as_slice()].concat(),
            is_descending: owner.is_some() || kind == "c",
        };
        if let Some(after) = query.after.as_ref().map(place_of) {
            range.continue_after(&after);
        }
        range
    }

    /// Continues after an entry, unless the range starts behind it.
    fn continue_after(&mut self, entry: &[u8]) {
        let bound = [b"(", entry].concat();
        match self.is_descending {
            true if bound[1..] < self.high[1..] => self.high = bound,
            false if bound[1..] >= self.low[1..] => self.low = bound,
            _ => {}
        }
    }

    fn call(&self, server: &Server, count: usize) -> ScriptCall {
        let names = server.names.of_records();
        ScriptCall::new(&script::SELECT_RANGE)
            .keys(names.into_iter().take(6))
            .argument(self.kind)
            .argument(u8::from(self.owner.is_some()))
            .argument(self.owner.unwrap_or_default())
            .argument(self.low.as_slice())
            .argument(self.high.as_slice())
            .argument(u8::from(self.is_descending))
            .argument(count)
    }
}

/// The bounds of texts that begin so.
fn with_prefix(beginning: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let mut end = beginning.clone();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end = END.to_vec(),
    }
    (beginning, end)
}

/// A folded label as an entry has it, so that a byte 0 after it sorts before all that may continue it.
fn escaped(label: &str) -> Vec<u8> {
    let bytes = label.bytes();
    bytes
        .flat_map(|byte| std::iter::once(byte).chain((byte == 0).then_some(255)))
        .collect()
}

/// Where the record of a position stands in its range.
fn place_of(cursor: &ListCursor) -> Vec<u8> {
    let id = cursor.id.as_str().as_bytes();
    match &cursor.sort {
        SortValue::None => id.to_vec(),
        SortValue::Time(time) => [&sortable(*time), id].concat(),
        SortValue::Label(label) => [escaped(label).as_slice(), b"\0", id].concat(),
    }
}

/// Reads the position of an entry. Returns `None` if it was written by hand, and does not have an id.
fn position_of(range: &ListRange, place: &[u8]) -> Option<ListCursor> {
    let (sort, id) = place.split_at_checked(place.len().checked_sub(ID)?)?;
    let id = KeyId::from_ascii(id)?;
    let sort = match range {
        ListRange::Id(_) if !sort.is_empty() => return None,
        ListRange::Id(_) => SortValue::None,
        ListRange::Label(_) => {
            let label = String::from_utf8_lossy(sort.strip_suffix(b"\0")?);
            SortValue::Label(label.replace("\0\u{fffd}", "\0"))
        }
        ListRange::All | ListRange::Owner(_) | ListRange::Expires { .. } => {
            SortValue::Time(time_of(sort)?)
        }
    };
    Some(ListCursor::new(sort, id))
}

/// A part of the index: where each entry stands, in the order of the range.
#[derive(Debug)]
struct Selected {
    /// What all entries begin with.
    stem: Vec<u8>,
    places: Vec<Vec<u8>>,
    /// Whether records of an older release are not yet in the range.
    is_incomplete: bool,
}

async fn select(
    server: &Server,
    doing: &str,
    range: &IndexRange<'_>,
    count: usize,
) -> Result<Selected, StoreError> {
    let run = range.call(server, count);
    let (value, _) = server.calls.run(doing, &run, LONG_DEADLINE).await?;
    let failed = |error: redis::ParsingError| RedisFailure::of(doing, error.into());
    let parts: [Vec<Vec<u8>>; 3] = from_redis_value(value).map_err(failed)?;
    let [mut stem, places, unindexed] = parts;
    Ok(Selected {
        stem: stem.pop().unwrap_or_default(),
        places,
        is_incomplete: !unindexed.is_empty(),
    })
}

/// A record that was listed, or why it cannot be read.
type ListedRecord = (ListCursor, Result<KeyRecord, Broken>);

pub(super) async fn list(server: &Server, query: &ListQuery) -> Result<RecordPage, StoreError> {
    let doing = "listing records";
    let size = page_size(query);
    let mut range = IndexRange::of(query);
    let mut found: Vec<ListedRecord> = Vec::new();
    let (mut next, mut odd) = (None, Vec::new());
    for read in 1.. {
        // One more than fit the page, which tells whether more follow.
        let count = (size + 1).saturating_sub(found.len()).max(LEAST_READ);
        let selected = select(server, doing, &range, count).await?;
        if read == 1 && selected.is_incomplete && is_completed(server).await {
            continue;
        }
        let is_last = selected.places.len() < count;
        if let Some(last) = selected.places.last() {
            range.continue_after(last);
        }
        let mut positions = Vec::new();
        for place in selected.places {
            match position_of(&query.range, &place) {
                Some(position) => positions.push(position),
                None => odd.push(place),
            }
        }
        next = positions.last().cloned().or(next);
        let (listed, stale) = read_listed(server, doing, positions, query).await?;
        found.extend(listed);
        remove_stale(server, &selected.stem, &stale).await;
        if is_last || found.len() > size {
            let page = page(found, size);
            return with_odd(server, doing, query, page, odd).await;
        }
        // An entry that was written by hand is not a position to continue after.
        if read >= READS && next.is_some() {
            break;
        }
    }
    let mut page = page(found, size);
    page.next = next;
    with_odd(server, doing, query, page, odd).await
}

/// Names the records whose ids are not valid: those of the index of ids, which alone has the ids as they are.
async fn with_odd(
    server: &Server,
    doing: &str,
    query: &ListQuery,
    mut page: RecordPage,
    mut odd: Vec<Vec<u8>>,
) -> Result<RecordPage, StoreError> {
    // The others are read again with the next page.
    let is_before = |id: &[u8]| {
        let next = page.next.as_ref();
        next.is_none_or(|next| id < next.id.as_str().as_bytes())
    };
    odd.retain(|id| matches!(query.range, ListRange::Id(_)) && is_before(id));
    for odd in odd.chunks(READ_STEP) {
        let commands = odd.iter().map(|id| {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(server.names.record_of(id));
            exists
        });
        let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
        for (id, value) in odd.iter().zip(answers.values) {
            let count: u64 = value
                .extract_error()
                .and_then(|value| Ok(from_redis_value(value)?))
                .map_err(|error| RedisFailure::of(doing, error))?;
            if count > 0 {
                page.unreadable
                    .push(String::from_utf8_lossy(id).into_owned());
            }
        }
    }
    Ok(page)
}

/// Reads the records at `positions`. Returns those that are there, and the positions at which none is any more.
async fn read_listed(
    server: &Server,
    doing: &str,
    positions: Vec<ListCursor>,
    query: &ListQuery,
) -> Result<(Vec<ListedRecord>, Vec<ListCursor>), StoreError> {
    let (mut listed, mut stale) = (Vec::new(), Vec::new());
    for positions in positions.chunks(READ_STEP) {
        let ids: Vec<_> = positions.iter().map(|position| position.id).collect();
        let hashes = read(server, doing, &ids, LONG_DEADLINE).await?;
        for (position, hash) in positions.iter().zip(hashes) {
            let record = match hash {
                Ok(hash) if hash.is_empty() => None,
                Ok(hash) => match record_hash::record(position.id, &hash) {
                    Ok(record) => fits(&query.range, position, &record).then_some(Ok(record)),
                    Err(broken) => may_fit(&query.range, &hash).then_some(Err(broken)),
                },
                Err(broken) => Some(Err(broken)),
            };
            match record {
                Some(record) => listed.push((position.clone(), record)),
                None => stale.push(position.clone()),
            }
        }
    }
    Ok((listed, stale))
}

/// Whether a record is still in the range, and at this position.
fn fits(range: &ListRange, position: &ListCursor, record: &KeyRecord) -> bool {
    range.contains(record) && range.cursor_of(record) == *position
}

/// Whether a record that cannot be read may be one of the range.
fn may_fit(range: &ListRange, hash: &RecordHash) -> bool {
    let field = |name: &str| hash.get(name.as_bytes()).map(Vec::as_slice);
    match range {
        ListRange::Owner(owner) => field("owner") == Some(owner.as_bytes()),
        ListRange::Label(beginning) => field("label").is_some_and(|label| {
            fold_label(&String::from_utf8_lossy(label)).starts_with(beginning)
        }),
        ListRange::All | ListRange::Id(_) | ListRange::Expires { .. } => true,
    }
}

/// Indexes the records that an older release has written. A list does not fail if this does: a server without memory for a
/// write can still be read from.
async fn is_completed(server: &Server) -> bool {
    let completed = index::complete(server).await;
    if let Err(error) = &completed {
        tracing::warn!(error = %ErrorChain(error), "a list may lack records of an older release");
    }
    completed.is_ok()
}

/// Removes entries that do not fit their records, which a process of an older release, or a change by hand, leaves behind. A
/// list does not fail if this does.
async fn remove_stale(server: &Server, stem: &[u8], stale: &[ListCursor]) {
    let entry = |position: &ListCursor| {
        let id = position.id.as_str().as_bytes().to_vec();
        ([stem, place_of(position).as_slice()].concat(), id)
    };
    let stale: Vec<_> = stale.iter().map(entry).collect();
    for stale in stale.chunks(index::STEP) {
        if let Err(error) = index::reindex(server, stale).await {
            tracing::debug!(error = %ErrorChain(&error), "entries of the index that do not fit stay");
        }
    }
}

fn page(mut found: Vec<ListedRecord>, size: usize) -> RecordPage {
    let mut page = RecordPage::default();
    if found.len() > size {
        found.truncate(size);
        page.next = found.last().map(|(position, _)| position.clone());
    }
    for (_, record) in found {
        match record {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
    page
}
