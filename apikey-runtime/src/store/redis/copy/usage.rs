//! Counts of requests, of a key, by hour, route and outcome.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::key_page::{KeyItem, KeyItemsPage};
use super::of_keys::{of_each, write as run_script};
use crate::clock::millis_i64;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::copy_rules::CopyAction;
use crate::store::redis::script::{self, ScriptCall};
use crate::store::redis::server::Server;
use crate::store::redis::usage::{DAY_MILLIS, LATEST, counter, field, rows_of_day};
use crate::store::redis::usage_days::days;
use crate::store::{CopyItems, CopyOutcome, CopyPage, UsageRow};

/// A hash: a key, and a day.
type UsageDay = (KeyId, i64);

/// What a hash of usage holds.
type DayFields = HashMap<Vec<u8>, Vec<u8>>;

pub(super) async fn read(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let doing = "reading usage to copy";
    let mut days = days(server, doing, i64::MIN..=i64::MAX).await?;
    days.sort_unstable();
    let mut page = KeyItemsPage::new(after, size)?;
    while let Some(keys) = page.keys(server).await? {
        let (mut items, mut done) = (Vec::new(), keys[0]);
        let used = used_keys(server, doing, &keys, &days).await?;
        for (key, is_used) in keys.iter().zip(used) {
            done = *key;
            if is_used {
                items.extend(items_of(server, doing, *key, &days).await?);
            }
            // Items before the position are of the first key.
            if items.len() > page.room() && done != keys[0] {
                break;
            }
        }
        page.add(items, done);
    }
    Ok(page.finish(CopyItems::Usage))
}

/// Returns of each key whether it has any usage.
async fn used_keys(
    server: &Server,
    doing: &str,
    keys: &[KeyId],
    days: &[i64],
) -> Result<Vec<bool>, StoreError> {
    if days.is_empty() {
        return Ok(vec![false; keys.len()]);
    }
    of_each(server, doing, keys, |key| {
        let mut exists = redis::cmd("EXISTS");
        for day in days {
            exists.arg(server.names.usage(key, *day));
        }
        exists
    })
    .await
    .map(|counts: Vec<u64>| counts.into_iter().map(|count| count > 0).collect())
}

async fn read_days(
    server: &Server,
    doing: &str,
    places: &[UsageDay],
) -> Result<Vec<DayFields>, StoreError> {
    of_each(server, doing, places, |(key, day)| {
        let mut read = redis::cmd("HGETALL");
        read.arg(server.names.usage(key, *day));
        read
    })
    .await
}

/// Reads the counts of one key, sorted by hour, route and outcome.
async fn items_of(
    server: &Server,
    doing: &str,
    key: KeyId,
    days: &[i64],
) -> Result<Vec<KeyItem<UsageRow>>, StoreError> {
    let places: Vec<_> = days.iter().map(|day| (key, *day)).collect();
    let hashes = read_days(server, doing, &places).await?;
    let rows = days
        .iter()
        .zip(&hashes)
        .flat_map(|(day, hash)| rows_of_day(key, *day, hash));
    let item = |row: UsageRow| KeyItem {
        key,
        sort: sort_text(&row),
        item: Ok(row),
    };
    let mut items: Vec<_> = rows.map(item).collect();
    items.sort_unstable_by(|one, other| one.sort.cmp(&other.sort));
    Ok(items)
}

/// Returns a text that sorts by hour, route and outcome. A route has no byte 0.
fn sort_text(row: &UsageRow) -> String {
    let hour = row.hour.cast_unsigned() ^ (1 << 63);
    format!("{hour:016x}{}\0{}", row.route, row.outcome.code())
}

/// Writes counts, except those of a day that is not kept any more.
pub(super) async fn write(
    server: &Server,
    copied: &[UsageRow],
    keep: Duration,
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying usage";
    let keep = millis_i64(keep);
    let mut of_days = BTreeMap::<UsageDay, Vec<&UsageRow>>::new();
    for row in copied {
        let place = (row.key, row.hour.div_euclid(24));
        of_days.entry(place).or_default().push(row);
    }
    let places: Vec<_> = of_days.keys().copied().collect();
    let present = read_days(server, doing, &places).await?;
    let now = now_millis(server, doing).await?;
    let mut outcome = CopyOutcome::default();
    let mut run = ScriptCall::new(&script::COPY_USAGE).key(server.names.usage_days());
    for (((key, day), rows), hash) in of_days.into_iter().zip(present) {
        let ends = day.saturating_add(1).saturating_mul(DAY_MILLIS);
        let ends = ends.saturating_add(keep).clamp(1, LATEST);
        if ends <= now {
            outcome.outdated += rows.len() as u64;
            continue;
        }
        let held: HashMap<_, _> = rows_of_day(key, day, &hash)
            .map(|row| (field(&row), row))
            .collect();
        let mut fields = Vec::new();
        for row in rows {
            let name = field(row);
            let present = held.get(&name);
            if outcome.count(CopyAction::of_value(present, row), String::new) {
                if row.cost > 0 || present.is_some_and(|present| present.cost > 0) {
                    fields.push((format!("c{name}"), counter(row.cost)));
                }
                fields.push((name, counter(row.requests)));
            }
        }
        if !fields.is_empty() {
            run = run
                .key(server.names.record(&key))
                .key(server.names.usage(&key, day))
                .argument(day)
                .argument(ends)
                .argument(2 * fields.len());
            for (name, number) in fields {
                run = run.argument(name).argument(number);
            }
        }
    }
    run_script(server, doing, run, outcome).await
}

/// Returns the time of the server, by which hashes expire.
async fn now_millis(server: &Server, doing: &str) -> Result<i64, StoreError> {
    let times: Vec<(i64, i64)> = of_each(server, doing, &[()], |()| redis::cmd("TIME")).await?;
    let (seconds, micros) = times.first().copied().unwrap_or_default();
    Ok(seconds * 1_000 + micros / 1_000)
}
