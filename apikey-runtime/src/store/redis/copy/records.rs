//! Records, owners and shared secrets.

use std::collections::{BTreeMap, HashMap};

use redis::from_redis_value;

use super::key_page::{bytes_of, entries, text_of};
use crate::audit::ChangeOrigin;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyRecord, OwnerState};
use crate::store::copy_rules::{self, CopyAction, busy, cursor, position, record_weight};
use crate::store::redis::RedisStore;
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::options::ChangeOptions;
use crate::store::redis::read::{read, unreadable_owner};
use crate::store::redis::record_hash::{self, RecordFields, owner_state};
use crate::store::redis::script;
use crate::store::redis::server::{Server, TRIES};
use crate::store::shared_secret_store::secret_of;
use crate::store::{CopiedSecret, CopyItems, CopyOutcome, CopyPage, ListedOwner};

/// Keys of the store that a copy of records needs.
const KEYS: usize = 6;

/// How many records one script reads.
const READ_STEP: usize = 100;

pub(super) async fn write_keys(
    server: &Server,
    keys: &[KeyRecord],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying keys";
    let mut options = ChangeOptions::of_origin(&ChangeOrigin::new());
    for record in keys {
        options.fold(record.label.as_bytes());
    }
    for _ in 0..TRIES {
        let (mut outcome, present) = (
            CopyOutcome::default(),
            present_keys(server, doing, keys).await?,
        );
        let written = keys
            .iter()
            .filter_map(|record| outcome.count_record(present.get(&record.id), record));
        let written: Vec<_> = written.collect();
        if written.is_empty() {
            return Ok(outcome);
        }
        let mut run = server
            .write(&script::COPY_RECORDS, KEYS)?
            .keys(written.iter().map(|record| server.names.record(&record.id)))
            .argument(options.text());
        for record in written {
            let version = present.get(&record.id).map(|present| present.version);
            let fields = RecordFields::of_record(&record)?.set;
            run = run
                .argument(record.id.as_str())
                .argument(version.map_or_else(String::new, |version| version.to_string()))
                .argument(record.owner_revocations)
                .argument(2 * fields.len());
            for (name, value) in fields {
                run = run.argument(name).argument(value);
            }
        }
        let reply = server
            .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
            .await?;
        match reply.word.as_str() {
            "fold" => reply.rest.iter().for_each(|label| options.fold(label)),
            "changed" => {}
            _ => return Ok(outcome),
        }
    }
    Err(busy(doing))
}

/// Reads the records that are here already.
async fn present_keys(
    server: &Server,
    doing: &str,
    keys: &[KeyRecord],
) -> Result<HashMap<KeyId, KeyRecord>, StoreError> {
    let ids: Vec<_> = keys.iter().map(|record| record.id).collect();
    let mut present = HashMap::new();
    for ids in ids.chunks(READ_STEP) {
        let hashes = read(server, doing, ids, LONG_DEADLINE).await?;
        for (id, hash) in ids.iter().zip(hashes) {
            let hash = hash?;
            if !hash.is_empty() {
                present.insert(*id, record_hash::record(*id, &hash)?);
            }
        }
    }
    Ok(present)
}

/// Reads records in steps, so that a page of large ones ends in time.
pub(super) async fn read_keys(
    store: &RedisStore,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let (mut records, mut unreadable, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut next = after.map(str::to_owned);
    for _ in 0..size.div_ceil(READ_STEP) {
        let step = READ_STEP.min(size - records.len());
        let page = copy_rules::read_keys(store, next.as_deref(), step).await?;
        if let CopyItems::Keys(keys) = page.items {
            bytes += keys.iter().map(record_weight).sum::<usize>();
            records.extend(keys);
        }
        unreadable.extend(page.unreadable);
        next = page.next;
        let is_full = records.len() == size || bytes >= CopyPage::MAX_BYTES;
        if next.is_none() || is_full {
            break;
        }
    }
    let mut page = CopyPage::new(CopyItems::Keys(records), next);
    page.unreadable = unreadable;
    Ok(page)
}

/// Reads owners. An entry that is not a text is named if the store has something of it.
pub(super) async fn read_owners(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let doing = "reading owners to copy";
    let start = match position::<String>(after)? {
        None => b"[".to_vec(),
        Some(after) => [b"(", bytes_of(&after)?.as_slice()].concat(),
    };
    let mut names = entries(server, doing, b'p', start, size + 1).await?;
    let is_longer = names.len() > size;
    names.truncate(size);
    let next = names.last().filter(|_| is_longer);
    let next = next.map(|name| cursor(&text_of(name)));
    let texts = owner_texts(server, doing, &names).await?;
    let (mut owners, mut unreadable) = (Vec::new(), Vec::new());
    for (name, text) in names.into_iter().zip(texts) {
        let state = text.as_deref().map_or(Some(OwnerState::new()), state_of);
        match (String::from_utf8(name), state) {
            (Ok(name), Some(state)) => owners.push(ListedOwner::new(name, state)),
            (Ok(name), None) => unreadable.push(name),
            (Err(name), _) if text.is_some() => {
                unreadable.push(String::from_utf8_lossy(name.as_bytes()).into_owned());
            }
            (Err(_), _) => {}
        }
    }
    let mut page = CopyPage::new(CopyItems::Owners(owners), next);
    page.unreadable = unreadable;
    Ok(page)
}

fn state_of(text: &[u8]) -> Option<OwnerState> {
    str::from_utf8(text).ok().and_then(owner_state)
}

/// Reads what there is of owners.
async fn owner_texts(
    server: &Server,
    doing: &str,
    names: &[impl AsRef<[u8]>],
) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut read = redis::cmd("HMGET");
    read.arg(server.names.owners());
    for name in names {
        read.arg(name.as_ref());
    }
    let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
    let texts = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    Ok(texts)
}

pub(super) async fn write_owners(
    server: &Server,
    owners: &[ListedOwner],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying owners";
    let names: Vec<_> = owners.iter().map(|owner| owner.name.as_str()).collect();
    for _ in 0..TRIES {
        let texts = owner_texts(server, doing, &names).await?;
        let mut outcome = CopyOutcome::default();
        let mut run = server.write(&script::COPY_OWNERS, KEYS)?;
        for (owner, text) in owners.iter().zip(texts) {
            let state = text.as_deref().map(state_of);
            let state = state
                .map(|state| state.ok_or_else(|| unreadable_owner(server)))
                .transpose()?;
            if let Some(state) = outcome.count_owner(state, owner) {
                run = run
                    .argument(owner.name.as_str())
                    .argument(text.unwrap_or_default())
                    .argument(owner_text(state));
            }
        }
        if outcome.written == 0 {
            return Ok(outcome);
        }
        let reply = server
            .run_with_history(&server.calls, doing, run, LONG_DEADLINE)
            .await?;
        if reply.word == "done" {
            return Ok(outcome);
        }
    }
    Err(busy(doing))
}

/// Writes what [`owner_state`] reads.
fn owner_text(state: OwnerState) -> String {
    let suspended = u8::from(state.suspended);
    format!("{} {} {suspended}", state.version, state.revocations)
}

pub(super) async fn read_secrets(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let after: Option<String> = position(after)?;
    let after = after.map(|after| bytes_of(&after)).transpose()?;
    let mut found = secrets(server).await?;
    found.retain(|name, _| after.as_ref().is_none_or(|after| name > after));
    let last = found.keys().nth(size - 1).filter(|_| found.len() > size);
    let next = last.map(|name| cursor(&text_of(name)));
    let (mut secrets, mut unreadable) = (Vec::new(), Vec::new());
    for (name, secret) in found.into_iter().take(size) {
        let text = String::from_utf8_lossy(&name).into_owned();
        match secret_of(&text, &secret) {
            Ok(secret) if text.as_bytes() == name => secrets.push(CopiedSecret::new(text, secret)),
            _ => unreadable.push(text),
        }
    }
    let mut page = CopyPage::new(CopyItems::SharedSecrets(secrets), next);
    page.unreadable = unreadable;
    Ok(page)
}

pub(super) async fn write_secrets(
    server: &Server,
    copied: &[CopiedSecret],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying shared secrets";
    let (present, mut outcome) = (secrets(server).await?, CopyOutcome::default());
    let mut write = redis::cmd("HSET");
    write.arg(server.names.shared_secrets());
    for one in copied {
        let present = present.get(one.name.as_bytes()).map(Vec::as_slice);
        let action = CopyAction::of_value(present.as_ref(), &&one.secret[..]);
        if outcome.count(action, String::new) {
            write.arg(&one.name).arg(&one.secret[..]);
        }
    }
    if outcome.written > 0 {
        let (value, _) = server
            .calls
            .call(doing, [write], LONG_DEADLINE)
            .await?
            .one();
        value
            .extract_error()
            .map_err(|error| RedisFailure::of(doing, error))?;
    }
    Ok(outcome)
}

/// Reads all shared secrets. Each part of an application has one, so they are few.
async fn secrets(server: &Server) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
    let doing = "reading shared secrets";
    let mut read = redis::cmd("HGETALL");
    read.arg(server.names.shared_secrets());
    let (value, _) = server.calls.call(doing, [read], LONG_DEADLINE).await?.one();
    let secrets = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    Ok(secrets)
}
