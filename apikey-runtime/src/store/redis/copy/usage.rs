//! Counts of requests, of a key, by hour, route and outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{Cmd, ParsingError, Value, from_redis_value};

use super::key_page::{self, KeyItem, KeySection, text_of};
use super::of_keys::{of_each, write as run_script};
use crate::clock::millis_i64;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::redis::key_names::KeyNames;
use crate::store::redis::script::{self, ScriptCall};
use crate::store::redis::server::Server;
use crate::store::redis::usage::{DAY_MILLIS, LATEST, counter, field};
use crate::store::redis::usage_days::{days, parsed};
use crate::store::{CopyItems, CopyOutcome, CopyPage, Outcome, UsageRow};

/// A hash: a key, and a day.
type UsageDay = (KeyId, i64);

/// The hours of a day. The number stands for what does not belong to an hour, too.
const HOURS: u8 = 24;

/// The maximum number of fields of a day that is read at once.
const AT_ONCE: usize = 2_000;

/// See [`CopySection::Usage`](crate::store::CopySection::Usage). The parts of a key are its days.
struct UsageSection {
    days: Vec<i64>,
}

pub(super) async fn read(
    server: &Server,
    after: Option<&str>,
    size: usize,
) -> Result<CopyPage, StoreError> {
    let mut days = days(server, UsageSection::DOING, i64::MIN..=i64::MAX).await?;
    days.sort_unstable();
    // A day that was written by hand may have several texts.
    days.dedup();
    key_page::read(server, &UsageSection { days }, after, size).await
}

impl KeySection for UsageSection {
    type Item = UsageRow;
    const DOING: &'static str = "reading usage to copy";
    const ITEM: &'static str = "a count of usage";

    fn parts(&self) -> &[i64] {
        &self.days
    }

    fn exists(&self, names: &KeyNames, id: &[u8]) -> Cmd {
        let mut exists = redis::cmd("EXISTS");
        for day in &self.days {
            exists.arg(names.usage_of(id, *day));
        }
        exists
    }

    fn count(&self, names: &KeyNames, id: &KeyId, day: i64) -> Cmd {
        let mut count = redis::cmd("HLEN");
        count.arg(names.usage(id, day));
        count
    }

    /// Returns the hours of a day that has many fields, and after them what does not belong to an hour.
    fn pieces(&self, count: usize, after: Option<&str>) -> Vec<Option<u8>> {
        let hour = |sort: &str| sort.get(..2)?.parse().ok();
        let first = after.map_or(0, |sort| hour(sort).unwrap_or(HOURS));
        match count > AT_ONCE {
            true => (first..=HOURS).map(Some).collect(),
            false => vec![None],
        }
    }

    fn read(&self, names: &KeyNames, id: &KeyId, day: i64, hour: Option<u8>) -> Cmd {
        let name = names.usage(id, day);
        match hour {
            // By its text, since what is sent together with others cannot be sent again alone.
            Some(hour) => ScriptCall::new(&script::READ_USAGE_HOUR)
                .key(name)
                .argument(hour)
                .by_text(),
            None => {
                let mut read = redis::cmd("HGETALL");
                read.arg(name);
                read
            }
        }
    }

    fn items(
        &self,
        id: &KeyId,
        day: i64,
        read: Value,
    ) -> Result<Vec<KeyItem<UsageRow>>, ParsingError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = from_redis_value(read)?;
        let (mut rows, mut items) = (BTreeMap::<String, UsageRow>::new(), Vec::new());
        for (name, number) in fields {
            // A roll-up that was interrupted may leave a cost without its requests.
            let cost_of = name.strip_prefix(b"c");
            let row = row_of(*id, day, cost_of.unwrap_or(&name));
            let Some((row, number)) = row.zip(parsed(&number)) else {
                let field = text_of(&name);
                let sort = match hour_of(cost_of.unwrap_or(&name)) {
                    Some(hour) => format!("{hour:02}\0{field}"),
                    // After all hours.
                    None => format!("~{field}"),
                };
                items.push(KeyItem { sort, item: None });
                continue;
            };
            let row = rows.entry(sort_text(&row)).or_insert(row);
            match cost_of {
                Some(_) => row.cost = number,
                None => row.requests = number,
            }
        }
        items.extend(rows.into_iter().map(|(sort, row)| KeyItem {
            sort,
            item: Some(row),
        }));
        Ok(items)
    }

    fn page(items: Vec<UsageRow>) -> CopyItems {
        CopyItems::Usage(items)
    }
}

/// Reads the row that a field of a day belongs to, without its counts.
fn row_of(key: KeyId, day: i64, field: &[u8]) -> Option<UsageRow> {
    let hour = hour_of(field)?;
    let mut parts = str::from_utf8(field).ok()?.splitn(3, '|').skip(1);
    let outcome = Outcome::from_code(parts.next()?)?;
    let hour = day.checked_mul(24)?.checked_add(hour.into())?;
    Some(UsageRow::new(key, parts.next()?, hour, outcome))
}

/// Returns the hour of the day at the start of a field, as `read_usage_hour.lua` does.
fn hour_of(field: &[u8]) -> Option<u8> {
    let hour = &field[..field.iter().position(|byte| *byte == b'|')?];
    let is_plain = hour.len() <= 2 && hour.iter().all(u8::is_ascii_digit);
    parsed(hour).filter(|hour| is_plain && *hour < HOURS)
}

/// Returns a text that sorts by hour of the day, route and outcome. A route has no byte 0.
fn sort_text(row: &UsageRow) -> String {
    let hour = row.hour.rem_euclid(24);
    format!("{hour:02}{}\0{}", row.route, row.outcome.code())
}

/// Writes counts, except those of a day that is not kept any more.
pub(super) async fn write(
    server: &Server,
    copied: &[UsageRow],
    keep: Duration,
) -> Result<CopyOutcome, StoreError> {
    let doing = "copying usage";
    let keep = millis_i64(keep);
    let present = present(server, doing, copied).await?;
    let mut of_days = BTreeMap::<UsageDay, Vec<(&UsageRow, Option<UsageRow>)>>::new();
    for (row, present) in copied.iter().zip(present) {
        let place = (row.key, row.hour.div_euclid(24));
        of_days.entry(place).or_default().push((row, present));
    }
    let now = now_millis(server, doing).await?;
    let mut outcome = CopyOutcome::default();
    let mut run = ScriptCall::new(&script::COPY_USAGE).key(server.names.usage_days());
    for ((key, day), rows) in of_days {
        let ends = day.saturating_add(1).saturating_mul(DAY_MILLIS);
        let ends = ends.saturating_add(keep).clamp(1, LATEST);
        if ends <= now {
            outcome.outdated += rows.len() as u64;
            continue;
        }
        let mut fields = Vec::new();
        for (row, present) in rows {
            let name = field(row);
            if outcome.count_value(present.as_ref(), &[], row) {
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

/// Reads of each row what is here already.
async fn present(
    server: &Server,
    doing: &str,
    rows: &[UsageRow],
) -> Result<Vec<Option<UsageRow>>, StoreError> {
    let found: Vec<[Option<Vec<u8>>; 2]> = of_each(server, doing, rows, |row| {
        let (name, day) = (field(row), row.hour.div_euclid(24));
        let mut read = redis::cmd("HMGET");
        read.arg(server.names.usage(&row.key, day));
        read.arg(&name).arg(format!("c{name}"));
        read
    })
    .await?;
    let present = |(row, [requests, cost]): (&UsageRow, [Option<Vec<u8>>; 2])| {
        let mut present = row.clone();
        present.requests = parsed(&requests?)?;
        present.cost = cost.and_then(|cost| parsed(&cost)).unwrap_or(0);
        Some(present)
    };
    Ok(rows.iter().zip(found).map(present).collect())
}

/// Returns the time of the server, by which hashes expire.
async fn now_millis(server: &Server, doing: &str) -> Result<i64, StoreError> {
    let times: Vec<(i64, i64)> = of_each(server, doing, &[()], |()| redis::cmd("TIME")).await?;
    let (seconds, micros) = times.first().copied().unwrap_or_default();
    Ok(seconds * 1_000 + micros / 1_000)
}
