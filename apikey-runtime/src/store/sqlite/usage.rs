//! Usage, in the file.

use std::time::Instant;

use async_trait::async_trait;
use ipnet::IpNet;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row};

use super::SqliteStore;
use super::error::failed;
use super::limit_counters::json;
use super::transaction::WriteTransaction;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::usage::silent_before;
use crate::store::{LastUsed, Outcome, UsageBatch, UsageQuery, UsageRow, UsageStore};

#[async_trait]
impl UsageStore for SqliteStore {
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let pools = self.pools().await?;
        let now = self.limit_clock().read().now;
        let added = add(&pools.limit_counters, batch, now).await;
        self.kept(added).await
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        usage(&self.pools().await?.reader, query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        last_used(&self.pools().await?.reader, keys).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        forget(
            &self.pools().await?.limit_counters,
            hour,
            self.limit_clock().read().now,
        )
        .await
    }
}

/// The most rows that are removed at once, so that other writers do not wait long.
const FORGET_TOGETHER: i64 = 1_000;

/// The most rows that are added by one statement.
const ADD_TOGETHER: usize = 1_000;

/// Changes a row if the batch is new.
const NUMBER: &str = "\
    INSERT INTO api_key_usage_batches (node, number, at) VALUES (?, ?, ?) \
    ON CONFLICT (node) DO UPDATE SET number = excluded.number, at = excluded.at WHERE excluded.number > number";

/// A sum that has no room stays at the largest: SQLite would make a float of it.
macro_rules! sum {
    ($column:literal) => {
        concat!(
            $column,
            " = CASE WHEN ",
            $column,
            " > 9223372036854775807 - excluded.",
            $column,
            " THEN 9223372036854775807 ELSE ",
            $column,
            " + excluded.",
            $column,
            " END"
        )
    };
}

const ADD: &str = concat!(
    "INSERT INTO api_key_usage (key, route, hour, outcome, requests, cost) ",
    "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?) ",
    "WHERE TRUE ON CONFLICT (key, hour, route, outcome) DO UPDATE SET ",
    sum!("requests"),
    ", ",
    sum!("cost")
);

/// A key that was removed in the meantime gets no row, which would never be deleted.
const USED: &str = "\
    INSERT INTO api_key_last_used (key, at, network) \
    SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) \
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = value ->> 0) \
    ON CONFLICT (key) DO UPDATE SET at = excluded.at, network = excluded.network WHERE excluded.at > at";

async fn add(pool: &SqlitePool, batch: &UsageBatch, now: Timestamp) -> Result<(), StoreError> {
    added(pool, batch, now)
        .await
        .map_err(|error| failed("adding usage", error))
}

async fn added(pool: &SqlitePool, batch: &UsageBatch, now: Timestamp) -> Result<(), Error> {
    let mut transaction = WriteTransaction::begin(pool).await?;
    let numbered = sqlx::query(NUMBER)
        .bind(batch.node.as_str())
        .bind(saturated(batch.number))
        .bind(now.as_millis())
        .execute(transaction.connection())
        .await?;
    if numbered.rows_affected() == 0 {
        // Nothing was written, so the commit writes nothing either.
        return transaction.commit().await;
    }
    let counts = batch
        .rows
        .chunks(ADD_TOGETHER)
        .map(|rows| (ADD, counts_text(rows)));
    let used = batch
        .last_used
        .chunks(ADD_TOGETHER)
        .map(|rows| (USED, used_text(rows)));
    for (statement, rows) in counts.chain(used) {
        sqlx::query(statement)
            .bind(rows)
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await
}

fn counts_text(rows: &[UsageRow]) -> String {
    let rows = rows.iter().map(|row| {
        let (requests, cost) = (saturated(row.requests), saturated(row.cost));
        (
            row.key.to_string(),
            &row.route,
            row.hour,
            row.outcome.code(),
            requests,
            cost,
        )
    });
    json(&rows.collect::<Vec<_>>())
}

fn used_text(rows: &[LastUsed]) -> String {
    let rows = rows
        .iter()
        .map(|used| (used.key.to_string(), used.at.as_millis(), used.network));
    json(&rows.collect::<Vec<_>>())
}

fn saturated(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn usage(reader: &SqlitePool, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    const USAGE: &str = "\
        SELECT key, route, hour, outcome, requests, cost FROM api_key_usage \
        WHERE key IN (SELECT value FROM json_each(?)) AND hour >= ? AND hour < ?";
    let rows = sqlx::query(USAGE)
        .bind(json(&texts(&query.keys)))
        .bind(query.from)
        .bind(query.to)
        .fetch_all(reader)
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(row).collect::<Result<Vec<_>, _>>());
    let rows = rows.map_err(|error| failed("reading usage", error))?;
    Ok(rows.into_iter().flatten().collect())
}

/// Reads a row; `None` if it was written by a later release, or by hand.
fn row(row: &SqliteRow) -> Result<Option<UsageRow>, Error> {
    let Some(key) = key(row)? else {
        return Ok(None);
    };
    let Some(outcome) = Outcome::from_code(row.try_get("outcome")?) else {
        return Ok(None);
    };
    let route: &str = row.try_get("route")?;
    let mut read = UsageRow::new(key, route, row.try_get("hour")?, outcome);
    read.requests = row.try_get::<i64, _>("requests")?.unsigned_abs();
    read.cost = row.try_get::<i64, _>("cost")?.unsigned_abs();
    Ok(Some(read))
}

async fn last_used(reader: &SqlitePool, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
    const LAST_USED: &str = "SELECT key, at, network FROM api_key_last_used WHERE key IN (SELECT value FROM json_each(?))";
    let rows = sqlx::query(LAST_USED)
        .bind(json(&texts(keys)))
        .fetch_all(reader)
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(used).collect::<Result<Vec<_>, _>>());
    let rows = rows.map_err(|error| failed("reading when keys were last used", error))?;
    Ok(rows.into_iter().flatten().collect())
}

fn used(row: &SqliteRow) -> Result<Option<LastUsed>, Error> {
    let network: Option<&str> = row.try_get("network")?;
    let network = network.and_then(|network| network.parse::<IpNet>().ok());
    let at = Timestamp::from_millis(row.try_get("at")?);
    Ok(key(row)?.map(|key| LastUsed::new(key, at, network)))
}

fn key(row: &SqliteRow) -> Result<Option<KeyId>, Error> {
    Ok(KeyId::from_ascii(row.try_get::<&str, _>("key")?.as_bytes()))
}

fn texts(keys: &[KeyId]) -> Vec<&str> {
    keys.iter().map(KeyId::as_str).collect()
}

async fn forget(pool: &SqlitePool, hour: i64, now: Timestamp) -> Result<(), StoreError> {
    const FORGET: &str = "\
        DELETE FROM api_key_usage WHERE (key, hour, route, outcome) IN \
        (SELECT key, hour, route, outcome FROM api_key_usage WHERE hour < ? LIMIT ?)";
    let forgetting_failed = |error| failed("forgetting usage", error);
    loop {
        let began = Instant::now();
        let removed = sqlx::query(FORGET)
            .bind(hour)
            .bind(FORGET_TOGETHER)
            .execute(pool)
            .await
            .map_err(forgetting_failed)?;
        if removed.rows_affected() < FORGET_TOGETHER.unsigned_abs() {
            break;
        }
        // Otherwise other processes would hardly ever find the file unlocked.
        tokio::time::sleep(began.elapsed()).await;
    }
    sqlx::query("DELETE FROM api_key_usage_batches WHERE at < ?")
        .bind(silent_before(hour, now).as_millis())
        .execute(pool)
        .await
        .map_err(forgetting_failed)?;
    Ok(())
}
