//! What is kept for each key: limit counters, and its last uses.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::{FromRedisValue, Value, from_redis_value};

use super::key_page::{KeyItem, KeyItemsPage};
use crate::clock::{Timestamp, millis_i64};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::copy_rules::CopyAction;
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::limit_counters::{counter_of, counter_text};
use crate::store::redis::script::{self, ScriptCall};
use crate::store::redis::server::Server;
use crate::store::redis::usage::{LATEST, secret_use, uses_text};
use crate::store::{CopiedCounter, CopyItems, CopyOutcome, CopyPage, NetworkUse, SecretUse};

/// Sends a command for each key, and reads the answers.
pub(super) async fn of_each<T: FromRedisValue, K>(
    server: &Server,
    doing: &str,
    keys: &[K],
    command: impl Fn(&K) -> redis::Cmd,
) -> Result<Vec<T>, StoreError> {
    let commands = keys.iter().map(command);
    let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
    let read = |value: Value| {
        value
            .extract_error()
            .and_then(|value| Ok(from_redis_value(value)?))
    };
    let read: Result<Vec<T>, redis::RedisError> = answers.values.into_iter().map(read).collect();
    Ok(read.map_err(|error| RedisFailure::of(doing, error))?)
}

type FieldTexts = BTreeMap<Vec<u8>, Vec<u8>>;

async fn counters(server: &Server, keys: &[KeyId]) -> Result<Vec<FieldTexts>, StoreError> {
    let doing = "reading limit counters";
    of_each(server, doing, keys, |key| {
        let mut read = redis::cmd("HGETALL");
        read.arg(server.names.limit_counters(key));
        read
    })
    .await
}

pub(super) async fn read_counters(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let mut page = KeyItemsPage::new(after, size)?;
    while let Some(keys) = page.keys(server).await? {
        let found = keys.iter().zip(counters(server, &keys).await?);
        page.add_all(found.flat_map(|(key, fields)| {
            fields.into_iter().map(move |(name, text)| {
                let counted = str::from_utf8(&name).ok().zip(counter_of(&text));
                let counter = counted.map(|(name, state)| CopiedCounter::new(*key, name, state));
                KeyItem {
                    key: *key,
                    sort: String::from_utf8_lossy(&name).into_owned(),
                    item: counter.ok_or_else(|| format!("a limit counter of {key}")),
                }
            })
        }));
    }
    Ok(page.finish(CopyItems::LimitCounters))
}

pub(super) async fn write_counters(
    server: &Server,
    copied: &[CopiedCounter],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying limit counters";
    let keys = distinct(copied.iter().map(|counter| counter.key));
    let present = counters(server, &keys).await?;
    let present: HashMap<_, _> = keys.iter().zip(present).collect();
    let mut outcome = CopyOutcome::default();
    let mut written = BTreeMap::<KeyId, Vec<(&str, String)>>::new();
    for counter in copied {
        let held = present.get(&counter.key);
        let held = held.and_then(|fields| counter_of(fields.get(counter.name.as_bytes())?));
        let Some(text) = counter_text(&counter.state) else {
            continue;
        };
        if outcome.count(
            CopyAction::of_value(held.as_ref(), &counter.state),
            String::new,
        ) {
            let fields = written.entry(counter.key).or_default();
            fields.push((&counter.name, text));
        }
    }
    let mut run = ScriptCall::new(&script::COPY_FIELDS);
    for (key, fields) in written {
        run = run
            .key(server.names.record(&key))
            .key(server.names.limit_counters(&key))
            .argument(2 * fields.len());
        for (name, text) in fields {
            run = run.argument(name).argument(text);
        }
    }
    write(server, doing, run, outcome).await
}

/// Runs a script, if it has something to write.
pub(super) async fn write(
    server: &Server,
    doing: &str,
    run: ScriptCall,
    outcome: CopyOutcome,
) -> Result<CopyOutcome, StoreError> {
    if outcome.written > 0 {
        server.calls.run(doing, &run, LONG_DEADLINE).await?;
    }
    Ok(outcome)
}

/// Returns keys once each. They come in their order.
pub(super) fn distinct(keys: impl Iterator<Item = KeyId>) -> Vec<KeyId> {
    let mut keys: Vec<_> = keys.collect();
    keys.dedup();
    keys
}

/// Reads the last use of each secret, by the number of its rotations.
async fn uses(
    server: &Server,
    keys: &[KeyId],
) -> Result<Vec<BTreeMap<u64, SecretUse>>, StoreError> {
    let doing = "reading when keys were last used";
    let mut read = redis::cmd("HMGET");
    read.arg(server.names.last_used());
    for key in keys {
        read.arg(key.as_str());
    }
    let texts: Vec<Vec<Option<String>>> = of_each(server, doing, &[read], Clone::clone).await?;
    let of_key = |(key, text): (&KeyId, Option<String>)| {
        let text = text.unwrap_or_default();
        let uses = text.split(',').filter_map(|text| secret_use(*key, text));
        uses.map(|used| (used.rotations, used)).collect()
    };
    let texts = texts.into_iter().flatten();
    Ok(keys.iter().zip(texts).map(of_key).collect())
}

pub(super) async fn read_uses(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let mut page = KeyItemsPage::new(after, size)?;
    while let Some(keys) = page.keys(server).await? {
        let uses = uses(server, &keys).await?.into_iter().flatten();
        page.add_all(uses.map(|(rotations, used)| KeyItem {
            key: used.key,
            // As many digits for each number, so that they sort as texts.
            sort: format!("{rotations:020}"),
            item: Ok(used),
        }));
    }
    Ok(page.finish(CopyItems::SecretUses))
}

pub(super) async fn write_uses(
    server: &Server,
    copied: &[SecretUse],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying the last uses of keys";
    let keys = distinct(copied.iter().map(|used| used.key));
    let (mut outcome, mut changed) = (CopyOutcome::default(), Vec::new());
    let mut present: BTreeMap<_, _> = keys.iter().zip(uses(server, &keys).await?).collect();
    for used in copied {
        let Some(held) = present.get_mut(&used.key) else {
            continue;
        };
        let action = CopyAction::of_value(held.get(&used.rotations), used);
        if outcome.count(action, String::new) {
            held.insert(used.rotations, *used);
            changed.push(used.key);
        }
    }
    let mut run = ScriptCall::new(&script::COPY_FIELDS);
    for key in distinct(changed.into_iter()) {
        // The two latest secrets of a key are kept.
        let held = present.remove(&key).unwrap_or_default();
        let mut latest: Vec<_> = held.into_values().rev().take(2).collect();
        // Of equal times, the earlier secret comes first, as in a batch of usage.
        latest.reverse();
        run = run
            .key(server.names.record(&key))
            .key(server.names.last_used())
            .argument(2)
            .argument(key.as_str())
            .argument(uses_text(latest));
    }
    write(server, doing, run, outcome).await
}

/// Reads the networks of keys, by their texts.
async fn networks(
    server: &Server,
    keys: &[KeyId],
) -> Result<Vec<BTreeMap<String, Timestamp>>, StoreError> {
    let doing = "reading the networks of keys";
    let found: Vec<Vec<(Vec<u8>, f64)>> = of_each(server, doing, keys, |key| {
        let mut read = redis::cmd("ZRANGE");
        read.arg(server.names.networks(key)).arg(0).arg(-1);
        read.arg("WITHSCORES");
        read
    })
    .await?;
    let times = found.into_iter().map(|uses| {
        let uses = uses.into_iter().map(|(network, at)| {
            // The times of a sorted set are whole numbers up to 2^53; a later one is rounded.
            #[expect(clippy::cast_possible_truncation)]
            let at = Timestamp::from_millis(at as i64);
            (String::from_utf8_lossy(&network).into_owned(), at)
        });
        uses.collect()
    });
    Ok(times.collect())
}

pub(super) async fn read_networks(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let mut page = KeyItemsPage::new(after, size)?;
    while let Some(keys) = page.keys(server).await? {
        let found = keys.iter().zip(networks(server, &keys).await?);
        page.add_all(found.flat_map(|(key, uses)| {
            uses.into_iter().map(move |(text, at)| {
                let network = text.parse::<ipnet::IpNet>();
                let used = network.map(|network| NetworkUse::new(*key, network, at));
                KeyItem {
                    key: *key,
                    item: used.map_err(|_quotes_it| format!("a network of {key}")),
                    sort: text,
                }
            })
        }));
    }
    Ok(page.finish(CopyItems::Networks))
}

pub(super) async fn write_networks(
    server: &Server,
    copied: &[NetworkUse],
    keep: Duration,
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying the networks of keys";
    let keys = distinct(copied.iter().map(|used| used.key));
    let present: BTreeMap<_, _> = keys.iter().zip(networks(server, &keys).await?).collect();
    let mut outcome = CopyOutcome::default();
    let mut written = BTreeMap::<KeyId, Vec<(i64, String)>>::new();
    for used in copied {
        let text = used.network.to_string();
        let held = present.get(&used.key).and_then(|uses| uses.get(&text));
        if outcome.count(CopyAction::of_value(held, &used.at), String::new) {
            let uses = written.entry(used.key).or_default();
            uses.push((used.at.as_millis(), text));
        }
    }
    let mut run = ScriptCall::new(&script::COPY_NETWORKS).argument(millis_i64(keep).min(LATEST));
    for (key, uses) in written {
        run = run
            .key(server.names.record(&key))
            .key(server.names.networks(&key))
            .argument(2 * uses.len());
        for (at, network) in uses {
            run = run.argument(at).argument(network);
        }
    }
    write(server, doing, run, outcome).await
}
