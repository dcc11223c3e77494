//! Usage: a hash for each key and day, which expires.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;

use async_trait::async_trait;
use redis::Value;

use super::RedisStore;
use super::connection::LONG_DEADLINE;
use super::read::read_value;
use super::script::{self, ScriptCall};
use super::server::Server;
use super::usage_days::{days, parsed};
use super::usage_roll_up;
use crate::clock::{Timestamp, millis_i64};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::{
    LastUsed, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow, UsageStore,
};

#[async_trait]
impl UsageStore for RedisStore {
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        add(&*self.server()?, batch).await
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        read(&*self.server()?, query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        last_used(&*self.server()?, keys).await
    }

    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        networks(&*self.server()?, keys).await
    }

    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        usage_roll_up::step(&*self.server()?, day).await
    }

    /// Does nothing: old counts and networks expire in the server.
    async fn prune_usage(&self, _hour: i64) -> Result<(), StoreError> {
        Ok(())
    }
}

/// For how long the number of a node's last batch is known. A node offers a batch again while it
/// runs, and not for that long.
const NUMBER_KEPT_MILLIS: u64 = 7 * 86_400_000;

pub(super) const DAY_MILLIS: i64 = 86_400_000;

/// The latest expiry: some 30,000 years from now.
pub(super) const LATEST: i64 = 1_000_000_000_000_000;

/// How many hashes are asked for at once.
const AT_ONCE: usize = 500;

/// One script whatever the size: a part of
/// a batch must not be added twice.
async fn add(server: &Server, batch: &UsageBatch) -> Result<(), StoreError> {
    let mut places = BTreeMap::new();
    for row in &batch.rows {
        places.insert((row.key, row.hour.div_euclid(24)), 0);
    }
    let mut secrets = BTreeMap::<_, Vec<_>>::new();
    for used in &batch.last_used {
        secrets.entry(used.key).or_default().push(*used);
    }
    let mut networks = BTreeMap::<_, Vec<_>>::new();
    for used in &batch.networks {
        networks.entry(used.key).or_default().push(used);
    }
    let keep = millis_i64(batch.keep);
    let mut run = ScriptCall::new(&script::ADD_USAGE)
        .key(server.names.usage_batch(&batch.node))
        .key(server.names.usage_days())
        .key(server.names.last_used())
        // Texts of one length are in the order of their numbers.
        .argument(format!("{:020}", batch.number))
        .argument(NUMBER_KEPT_MILLIS)
        .argument(batch.rows.len())
        .argument(places.len())
        .argument(secrets.len())
        .argument(keep.min(LATEST));
    for (number, ((key, day), place)) in (FIRST_PLACE..).zip(&mut places) {
        *place = number;
        let ends = day.saturating_add(1).saturating_mul(DAY_MILLIS);
        run = run
            .key(server.names.usage(key, *day))
            .argument(*day)
            .argument(ends.saturating_add(keep).clamp(1, LATEST));
    }
    for row in &batch.rows {
        run = run
            .argument(places[&(row.key, row.hour.div_euclid(24))])
            .argument(field(row))
            .argument(counter(row.requests))
            .argument(counter(row.cost));
    }
    for (key, uses) in secrets {
        run = run
            .key(server.names.record(&key))
            .argument(key.as_str())
            .argument(uses_text(uses));
    }
    for (key, uses) in networks {
        run = run
            .key(server.names.networks(&key))
            .key(server.names.record(&key))
            .argument(uses.len());
        for used in uses {
            run = run
                .argument(used.at.as_millis())
                .argument(used.network.to_string());
        }
    }
    let doing = "adding usage";
    server.calls.run(doing, &run, LONG_DEADLINE).await?;
    Ok(())
}

/// The place of the first hash of usage among the keys of the script.
const FIRST_PLACE: usize = 4;

/// The largest that Redis counts to.
pub(super) fn counter(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A row's hour of its day, outcome and route, the last of which may hold anything. The field of the
/// cost has a `c` before that.
pub(super) fn field(row: &UsageRow) -> String {
    let hour = row.hour.rem_euclid(24);
    format!("{hour}|{}|{}", row.outcome.code(), row.route)
}

/// The uses of a key's secrets, the latest first: each with its time, network, and number if that is not 0.
pub(super) fn uses_text(mut uses: Vec<SecretUse>) -> String {
    uses.sort_by_key(|used| Reverse(used.at));
    let texts = uses.iter().map(|used| {
        let mut text = used.at.as_millis().to_string();
        if let Some(network) = used.network {
            text += &format!(" {network}");
        }
        if used.rotations > 0 {
            text += &format!(" {}", used.rotations);
        }
        text
    });
    texts.collect::<Vec<_>>().join(",")
}

async fn read(server: &Server, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let doing = "reading usage";
    let mut rows = Vec::new();
    if query.from >= query.to {
        return Ok(rows);
    }
    let days = days(
        server,
        doing,
        query.from.div_euclid(24)..=(query.to - 1).div_euclid(24),
    );
    let days = days.await?;
    let keys: BTreeSet<_> = query.keys.iter().collect();
    let places = keys
        .iter()
        .flat_map(|key| days.iter().map(move |day| (**key, *day)));
    let places: Vec<_> = places.collect();
    for places in places.chunks(AT_ONCE) {
        let commands = places.iter().map(|(key, day)| {
            redis::cmd("HGETALL")
                .arg(server.names.usage(key, *day))
                .to_owned()
        });
        let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
        for ((key, day), value) in places.iter().zip(answers.values) {
            let hash: HashMap<Vec<u8>, Vec<u8>> = read_value(doing, value)?;
            let of_day = rows_of_day(*key, *day, &hash);
            rows.extend(of_day.filter(|row| (query.from..query.to).contains(&row.hour)));
        }
    }
    Ok(rows)
}

/// Reads the rows of a key's day. Skips fields that are not a row, or have an unknown outcome.
pub(super) fn rows_of_day(
    key: KeyId,
    day: i64,
    hash: &HashMap<Vec<u8>, Vec<u8>>,
) -> impl Iterator<Item = UsageRow> {
    hash.iter().filter_map(move |(name, requests)| {
        let mut parts = std::str::from_utf8(name).ok()?.splitn(3, '|');
        let hour: i64 = parts.next()?.parse().ok()?;
        let outcome = Outcome::from_code(parts.next()?)?;
        let hour = day.checked_mul(24)?.checked_add(hour)?;
        let mut row = UsageRow::new(key, parts.next()?, hour, outcome);
        row.requests = parsed(requests)?;
        let cost = hash.get([b"c", name.as_slice()].concat().as_slice());
        row.cost = cost.and_then(|cost| parsed(cost)).unwrap_or(0);
        Some(row)
    })
}

async fn last_used(server: &Server, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
    let doing = "reading when keys were last used";
    let keys: Vec<_> = BTreeSet::from_iter(keys).into_iter().collect();
    let mut found = Vec::new();
    for keys in keys.chunks(AT_ONCE) {
        let mut ask = redis::cmd("HMGET");
        ask.arg(server.names.last_used());
        for key in keys {
            ask.arg(key.as_str());
        }
        let rotations = keys.iter().map(|key| {
            let mut ask = redis::cmd("HGET");
            ask.arg(server.names.record(key)).arg("rotations");
            ask
        });
        let commands = iter::once(ask).chain(rotations);
        let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
        let mut values = answers.values.into_iter();
        let texts = values.next().unwrap_or(Value::Nil);
        let texts: Vec<Option<String>> = read_value(doing, texts)?;
        for ((key, text), rotations) in keys.iter().zip(texts).zip(values) {
            // A key of another type is not a record.
            let rotations = read_value::<Option<Vec<u8>>>(doing, rotations);
            let rotations = rotations.ok().flatten().and_then(|text| parsed(&text));
            let text = text.unwrap_or_default();
            let uses = text.split(',').filter_map(|text| secret_use(**key, text));
            found.extend(LastUsed::of_secrets(**key, rotations.unwrap_or(0), uses));
        }
    }
    Ok(found)
}

/// What [`uses_text`] wrote of a secret.
pub(super) fn secret_use(key: KeyId, text: &str) -> Option<SecretUse> {
    let mut words = text.split(' ');
    let at = Timestamp::from_millis(words.next()?.parse().ok()?);
    let mut used = SecretUse::new(key, 0, at, None);
    for word in words {
        match word.parse() {
            Ok(rotations) => used.rotations = rotations,
            Err(_) => used.network = word.parse().ok(),
        }
    }
    Some(used)
}

async fn networks(server: &Server, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
    let doing = "reading the networks of keys";
    let keys: Vec<_> = BTreeSet::from_iter(keys).into_iter().collect();
    let mut found = Vec::new();
    for keys in keys.chunks(AT_ONCE) {
        let commands = keys.iter().map(|key| {
            let mut ask = redis::cmd("ZRANGE");
            ask.arg(server.names.networks(key)).arg(0).arg(-1);
            ask.arg("WITHSCORES");
            ask
        });
        let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
        for (key, value) in keys.iter().zip(answers.values) {
            let uses: Vec<(Vec<u8>, f64)> = read_value(doing, value)?;
            found.extend(uses.iter().filter_map(|(network, at)| {
                let network = parsed(network)?;
                // The times of a sorted set are whole numbers up to 2^53; a later one is rounded.
                #[expect(clippy::cast_possible_truncation)]
                let at = Timestamp::from_millis(*at as i64);
                Some(NetworkUse::new(**key, network, at))
            }));
        }
    }
    Ok(found)
}
