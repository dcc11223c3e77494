//! Listing, page by page, and reading the index.

use redis::{Value, from_redis_value};

use super::connection::LONG_DEADLINE;
use super::error::RedisFailure;
use super::record_hash::{self, RecordHash};
use super::records::read;
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::KeyRecord;
use crate::store::columns::Broken;
use crate::store::paging::page_size;
use crate::store::{ListQuery, RecordPage};

/// A range of the index.
#[derive(Debug, Clone, Copy)]
pub(super) enum IndexRange<'a> {
    All,
    Owner(&'a str),
    Label(&'a str),
}

/// Ids at `place`, in their order, after `after`; at most `count`.
pub(super) async fn select(
    server: &Server,
    doing: &str,
    place: IndexRange<'_>,
    after: &[u8],
    count: usize,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let (kind, text) = match place {
        IndexRange::All => ("i", ""),
        IndexRange::Owner(owner) => ("o", owner),
        IndexRange::Label(label) => ("l", label),
    };
    let run = ScriptCall::new(&script::SELECT_IDS)
        .key(server.names.index())
        .argument(kind)
        .argument(text)
        .argument(after)
        .argument(count);
    let (value, _) = server.calls.run(doing, &run, LONG_DEADLINE).await?;
    Ok(ids(doing, value)?)
}

pub(super) fn ids(doing: &str, value: Value) -> Result<Vec<Vec<u8>>, RedisFailure> {
    value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))
}

pub(super) async fn list(server: &Server, query: &ListQuery) -> Result<RecordPage, StoreError> {
    let doing = "listing records";
    let size = page_size(query);
    let place = match (&query.owner, &query.label) {
        (Some(owner), _) => IndexRange::Owner(owner),
        (None, Some(label)) => IndexRange::Label(label),
        (None, None) => IndexRange::All,
    };
    let mut found = Vec::new();
    // Where a page that ends early goes on. An entry of the index that is not an id was written by hand, and is not a place.
    let mut next = None;
    let mut after = query.after.map(|id| id.as_str().as_bytes().to_vec());
    for read in 1.. {
        // One more than fit the page, which tells whether more follow.
        let count = (size + 1).saturating_sub(found.len()).max(LEAST_READ);
        let from = after.as_deref().unwrap_or_default();
        let ids = select(server, doing, place, from, count).await?;
        let is_last = ids.len() < count;
        after = ids.last().cloned();
        let ids: Vec<_> = ids.iter().filter_map(|id| KeyId::from_ascii(id)).collect();
        next = ids.last().copied().or(next);
        found.extend(read_listed(server, doing, ids, query).await?);
        if is_last || found.len() > size {
            return Ok(page(found, size));
        }
        if read >= READS && next.is_some() {
            break;
        }
    }
    let mut page = page(found, size);
    page.next = next;
    Ok(page)
}

/// How often records are read for a page, or until there is a place to go on from. A page for which these were too few
/// that match ends early.
const READS: usize = 20;

/// How many records are read at once at least.
const LEAST_READ: usize = 100;

/// How many records one script reads.
const READ_STEP: usize = 100;

/// A record that was listed, or why it cannot be read.
type ListedRecord = (KeyId, Result<KeyRecord, Broken>);

/// Those of `ids` that are there by now, and still what was asked for.
async fn read_listed(
    server: &Server,
    doing: &str,
    ids: Vec<KeyId>,
    query: &ListQuery,
) -> Result<Vec<ListedRecord>, StoreError> {
    let fits = |hash: &RecordHash| {
        let is = |name: &[u8], text: &Option<String>| {
            text.as_ref()
                .is_none_or(|text| hash.get(name).is_some_and(|found| found == text.as_bytes()))
        };
        !hash.is_empty() && is(b"owner", &query.owner) && is(b"label", &query.label)
    };
    let mut listed = Vec::new();
    for ids in ids.chunks(READ_STEP) {
        let hashes = read(server, doing, ids, LONG_DEADLINE).await?;
        for (id, hash) in ids.iter().zip(hashes) {
            match hash {
                Ok(hash) if fits(&hash) => listed.push((*id, record_hash::record(*id, &hash))),
                Ok(_) => {}
                Err(broken) => listed.push((*id, Err(broken))),
            }
        }
    }
    Ok(listed)
}

fn page(mut found: Vec<ListedRecord>, size: usize) -> RecordPage {
    let mut page = RecordPage::default();
    if found.len() > size {
        found.truncate(size);
        page.next = found.last().map(|(id, _)| *id);
    }
    for (_, record) in found {
        match record {
            Ok(record) => page.records.push(record),
            Err(broken) => page.unreadable.push(broken.id),
        }
    }
    page
}
