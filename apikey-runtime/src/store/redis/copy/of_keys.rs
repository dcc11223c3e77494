//! What is kept for each key: limit counters, and its last uses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, ParsingError, ToRedisArgs, Value, from_redis_value};

use super::key_page::{self, KeyItem, KeySection, text_of};
use crate::clock::{Timestamp, millis_i64};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::redis::connection::LONG_DEADLINE;
use crate::store::redis::error::RedisFailure;
use crate::store::redis::key_names::KeyNames;
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

/// The only part of a key, in sections that do not have several.
const WHOLE: [i64; 1] = [0];

/// Returns a command for one key of the server.
fn command(word: &str, name: impl ToRedisArgs) -> Cmd {
    let mut command = redis::cmd(word);
    command.arg(name);
    command
}

/// See [`CopySection::LimitCounters`](crate::store::CopySection::LimitCounters).
struct CounterSection;

impl KeySection for CounterSection {
    type Item = CopiedCounter;
    const DOING: &'static str = "reading limit counters";
    const ITEM: &'static str = "a limit counter";

    fn parts(&self) -> &[i64] {
        &WHOLE
    }

    fn exists(&self, names: &KeyNames, id: &[u8]) -> Cmd {
        command("EXISTS", names.limit_counters_of(id))
    }

    fn count(&self, names: &KeyNames, id: &KeyId, _part: i64) -> Cmd {
        command("HLEN", names.limit_counters(id))
    }

    fn read(&self, names: &KeyNames, id: &KeyId, _part: i64, _piece: Option<u8>) -> Cmd {
        command("HGETALL", names.limit_counters(id))
    }

    fn items(
        &self,
        id: &KeyId,
        _part: i64,
        read: Value,
    ) -> Result<Vec<KeyItem<CopiedCounter>>, ParsingError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = from_redis_value(read)?;
        let counters = fields.into_iter().map(|(name, text)| {
            let counted = str::from_utf8(&name).ok().zip(counter_of(&text));
            KeyItem {
                sort: text_of(&name),
                item: counted.map(|(name, state)| CopiedCounter::new(*id, name, state)),
            }
        });
        Ok(counters.collect())
    }

    fn page(items: Vec<CopiedCounter>) -> CopyItems {
        CopyItems::LimitCounters(items)
    }
}

pub(super) async fn read_counters(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    key_page::read(server, &CounterSection, after, size).await
}

pub(super) async fn write_counters(
    server: &Server,
    copied: &[CopiedCounter],
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying limit counters";
    let present: Vec<Option<Vec<u8>>> = of_each(server, doing, copied, |counter| {
        let mut read = command("HGET", server.names.limit_counters(&counter.key));
        read.arg(&counter.name);
        read
    })
    .await?;
    let mut outcome = CopyOutcome::default();
    let mut written = BTreeMap::<KeyId, Vec<(&str, String)>>::new();
    for (counter, present) in copied.iter().zip(present) {
        let held = present.and_then(|text| counter_of(&text));
        let held = held.map(|state| CopiedCounter::new(counter.key, &counter.name, state));
        let Some(text) = counter_text(&counter.state) else {
            continue;
        };
        if outcome.count_value(held.as_ref(), &[], counter) {
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

/// Returns keys once each.
pub(super) fn distinct(keys: impl Iterator<Item = KeyId>) -> Vec<KeyId> {
    Vec::from_iter(keys.collect::<BTreeSet<_>>())
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

/// See [`CopySection::SecretUses`](crate::store::CopySection::SecretUses).
struct UseSection;

impl KeySection for UseSection {
    type Item = SecretUse;
    const DOING: &'static str = "reading when keys were last used";
    const ITEM: &'static str = "a last use";

    fn parts(&self) -> &[i64] {
        &WHOLE
    }

    fn exists(&self, names: &KeyNames, id: &[u8]) -> Cmd {
        let mut exists = command("HEXISTS", names.last_used());
        exists.arg(id);
        exists
    }

    fn count(&self, names: &KeyNames, id: &KeyId, _part: i64) -> Cmd {
        self.exists(names, id.as_str().as_bytes())
    }

    fn read(&self, names: &KeyNames, id: &KeyId, _part: i64, _piece: Option<u8>) -> Cmd {
        let mut read = command("HGET", names.last_used());
        read.arg(id.as_str());
        read
    }

    fn items(
        &self,
        id: &KeyId,
        _part: i64,
        read: Value,
    ) -> Result<Vec<KeyItem<SecretUse>>, ParsingError> {
        let text: Option<Vec<u8>> = from_redis_value(read)?;
        let text = text.unwrap_or_default();
        let mut items = Vec::new();
        let mut uses = BTreeMap::new();
        for text in String::from_utf8_lossy(&text).split(',') {
            match secret_use(*id, text).filter(|_| is_whole(text)) {
                Some(used) => drop(uses.insert(used.rotations, used)),
                None => items.push(KeyItem {
                    sort: text.to_owned(),
                    item: None,
                }),
            }
        }
        // As many digits for each number, so that they sort as texts.
        items.extend(uses.into_iter().map(|(rotations, used)| KeyItem {
            sort: format!("{rotations:020}"),
            item: Some(used),
        }));
        Ok(items)
    }

    fn page(items: Vec<SecretUse>) -> CopyItems {
        CopyItems::SecretUses(items)
    }
}

/// Returns whether each word of a use can be read: the time, and a network or a number.
fn is_whole(text: &str) -> bool {
    let is_read = |word: &str| word.parse::<u64>().is_ok() || word.parse::<ipnet::IpNet>().is_ok();
    text.split(' ').skip(1).all(is_read)
}

pub(super) async fn read_uses(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    key_page::read(server, &UseSection, after, size).await
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
        let of_key: Vec<_> = held.values().collect();
        if outcome.count_value(held.get(&used.rotations), &of_key, used) {
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

/// Reads the networks of a key, by their texts.
fn networks_of(read: Value) -> Result<BTreeMap<String, Timestamp>, ParsingError> {
    let found: Vec<(Vec<u8>, f64)> = from_redis_value(read)?;
    let uses = found.into_iter().map(|(network, at)| {
        // The times of a sorted set are whole numbers up to 2^53; a later one is rounded.
        #[expect(clippy::cast_possible_truncation)]
        let at = Timestamp::from_millis(at as i64);
        (String::from_utf8_lossy(&network).into_owned(), at)
    });
    Ok(uses.collect())
}

/// See [`CopySection::Networks`](crate::store::CopySection::Networks).
struct NetworkSection;

impl KeySection for NetworkSection {
    type Item = NetworkUse;
    const DOING: &'static str = "reading the networks of keys";
    const ITEM: &'static str = "a network";

    fn parts(&self) -> &[i64] {
        &WHOLE
    }

    fn exists(&self, names: &KeyNames, id: &[u8]) -> Cmd {
        command("EXISTS", names.networks_of(id))
    }

    fn count(&self, names: &KeyNames, id: &KeyId, _part: i64) -> Cmd {
        command("ZCARD", names.networks(id))
    }

    fn read(&self, names: &KeyNames, id: &KeyId, _part: i64, _piece: Option<u8>) -> Cmd {
        let mut read = command("ZRANGE", names.networks(id));
        read.arg(0).arg(-1).arg("WITHSCORES");
        read
    }

    fn items(
        &self,
        id: &KeyId,
        _part: i64,
        read: Value,
    ) -> Result<Vec<KeyItem<NetworkUse>>, ParsingError> {
        let uses = networks_of(read)?.into_iter().map(|(text, at)| {
            let network = text.parse::<ipnet::IpNet>().ok();
            KeyItem {
                sort: text,
                item: network.map(|network| NetworkUse::new(*id, network, at)),
            }
        });
        Ok(uses.collect())
    }

    fn page(items: Vec<NetworkUse>) -> CopyItems {
        CopyItems::Networks(items)
    }
}

pub(super) async fn read_networks(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    key_page::read(server, &NetworkSection, after, size).await
}

pub(super) async fn write_networks(
    server: &Server,
    copied: &[NetworkUse],
    keep: Duration,
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying the networks of keys";
    let keys = distinct(copied.iter().map(|used| used.key));
    let read = |key: &KeyId| NetworkSection.read(&server.names, key, WHOLE[0], None);
    let found: Vec<Value> = of_each(server, doing, &keys, read).await?;
    let mut of_keys = HashMap::<KeyId, Vec<NetworkUse>>::new();
    for (key, found) in keys.iter().zip(found) {
        let uses = networks_of(found).map_err(|error| RedisFailure::of(doing, error.into()))?;
        let network = |(text, at): (String, _)| Some(NetworkUse::new(*key, text.parse().ok()?, at));
        of_keys.insert(*key, uses.into_iter().filter_map(network).collect());
    }
    let mut outcome = CopyOutcome::default();
    let mut written = BTreeMap::<KeyId, Vec<(i64, String)>>::new();
    for used in copied {
        let of_key: Vec<_> = of_keys.get(&used.key).into_iter().flatten().collect();
        let held = of_key.iter().find(|held| held.network == used.network);
        if outcome.count_value(held.copied(), &of_key, used) {
            let uses = written.entry(used.key).or_default();
            uses.push((used.at.as_millis(), used.network.to_string()));
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
