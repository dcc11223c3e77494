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
use crate::store::usage::{last_uses, silent_before};
use crate::store::{
    LastUsed, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow, UsageStore,
};

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

    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        networks(&self.pools().await?.reader, keys).await
    }

    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        let pools = self.pools().await?;
        let moved = roll_up(&pools.reader, &pools.limit_counters, day).await;
        self.kept(moved.map_err(|error| failed("rolling usage up to days", error)))
            .await
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

/// The most rows that a step of the roll-up moves.
const ROLL_UP_TOGETHER: i64 = 1_000;

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

/// Adds a row to the one that is there.
macro_rules! add_up {
    () => {
        concat!(
            "ON CONFLICT (key, hour, route, outcome) DO UPDATE SET ",
            sum!("requests"),
            ", ",
            sum!("cost")
        )
    };
}

const ADD: &str = concat!(
    "INSERT INTO api_key_usage (key, route, hour, outcome, requests, cost) ",
    "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?) ",
    "WHERE TRUE ",
    add_up!()
);

/// A key that was removed in the meantime gets no row, which would never be deleted.
const USED: &str = "\
    INSERT INTO api_key_secret_uses (key, rotations, at, network) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) \
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = value ->> 0) \
    ON CONFLICT (key, rotations) DO UPDATE SET at = excluded.at, network = excluded.network WHERE excluded.at > at";

/// Keeps the two latest secrets of each key.
pub(super) const USED_BEFORE: &str = "\
    DELETE FROM api_key_secret_uses AS kept WHERE key IN (SELECT value ->> 0 FROM json_each(?)) AND 1 < \
    (SELECT count(*) FROM api_key_secret_uses WHERE key = kept.key AND rotations > kept.rotations)";

const NETWORKS: &str = "\
    INSERT INTO api_key_networks (key, network, at, day) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) \
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = value ->> 0) \
    ON CONFLICT (key, network) DO UPDATE SET at = excluded.at, day = excluded.day WHERE excluded.at > at";

/// Keeps the 20 latest networks of each key.
pub(super) const NETWORKS_BEFORE: &str = "\
    DELETE FROM api_key_networks WHERE (key, network) IN (SELECT key, network FROM \
    (SELECT key, network, row_number() OVER (PARTITION BY key ORDER BY at DESC, network) AS place \
    FROM api_key_networks WHERE key IN (SELECT value ->> 0 FROM json_each(?))) WHERE place > 20)";

const DAY_MILLIS: i64 = 86_400_000;

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
    for (statement, rows) in statements(batch) {
        sqlx::query(statement)
            .bind(rows)
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await
}

/// Returns the statements that add a batch, each with its rows.
fn statements(batch: &UsageBatch) -> Vec<(&'static str, String)> {
    let counts = batch
        .rows
        .chunks(ADD_TOGETHER)
        .map(|rows| (ADD, counts_text(rows)));
    // Only the third secret can make one superfluous.
    let third = batch.last_used.iter().any(|used| used.rotations > 1);
    let used = batch.last_used.chunks(ADD_TOGETHER).flat_map(|rows| {
        let rows = used_text(rows);
        let before = third.then(|| (USED_BEFORE, rows.clone()));
        [(USED, rows)].into_iter().chain(before)
    });
    let networks = batch.networks.chunks(ADD_TOGETHER).flat_map(|rows| {
        let rows = networks_text(rows);
        [(NETWORKS, rows.clone()), (NETWORKS_BEFORE, rows)]
    });
    counts.chain(used).chain(networks).collect()
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

fn used_text(rows: &[SecretUse]) -> String {
    let rows = rows.iter().map(|used| {
        let (key, rotations) = (used.key.to_string(), saturated(used.rotations));
        (key, rotations, used.at.as_millis(), used.network)
    });
    json(&rows.collect::<Vec<_>>())
}

fn networks_text(rows: &[NetworkUse]) -> String {
    let rows = rows.iter().map(|used| {
        let at = used.at.as_millis();
        (
            used.key.to_string(),
            used.network,
            at,
            at.div_euclid(DAY_MILLIS),
        )
    });
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
    // The first table has what an older release wrote.
    const LAST_USED: &str = "\
        WITH keys (key) AS MATERIALIZED (SELECT value FROM json_each(?)), used AS ( \
        SELECT key, 0 AS rotations, at, network FROM api_key_last_used WHERE key IN (SELECT key FROM keys) UNION ALL \
        SELECT key, rotations, at, network FROM api_key_secret_uses WHERE key IN (SELECT key FROM keys)) \
        SELECT used.*, coalesce(record.rotations, 0) AS present \
        FROM used LEFT JOIN api_keys AS record ON record.id = used.key";
    let rows = sqlx::query(LAST_USED)
        .bind(json(&texts(keys)))
        .fetch_all(reader)
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(used).collect::<Result<Vec<_>, _>>());
    let rows = rows.map_err(|error| failed("reading when keys were last used", error))?;
    Ok(last_uses(rows.into_iter().flatten()))
}

/// Reads the use of a secret, with the present rotations of its key.
fn used(row: &SqliteRow) -> Result<Option<(u64, SecretUse)>, Error> {
    let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let (present, rotations) = (number("present")?, number("rotations")?);
    let at = Timestamp::from_millis(row.try_get("at")?);
    let network = network(row)?;
    Ok(key(row)?.map(|key| (present, SecretUse::new(key, rotations, at, network))))
}

async fn networks(reader: &SqlitePool, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
    const READ: &str = "SELECT key, network, at FROM api_key_networks WHERE key IN (SELECT value FROM json_each(?))";
    let rows = sqlx::query(READ)
        .bind(json(&texts(keys)))
        .fetch_all(reader)
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(network_use).collect::<Result<Vec<_>, _>>());
    let rows = rows.map_err(|error| failed("reading the networks of keys", error))?;
    Ok(rows.into_iter().flatten().collect())
}

/// Reads the use from a network; `None` if the row was written by hand.
fn network_use(row: &SqliteRow) -> Result<Option<NetworkUse>, Error> {
    let at = Timestamp::from_millis(row.try_get("at")?);
    let place = key(row)?.zip(network(row)?);
    Ok(place.map(|(key, network)| NetworkUse::new(key, network, at)))
}

fn network(row: &SqliteRow) -> Result<Option<IpNet>, Error> {
    let network: Option<&str> = row.try_get("network")?;
    Ok(network.and_then(|network| network.parse().ok()))
}

fn key(row: &SqliteRow) -> Result<Option<KeyId>, Error> {
    Ok(KeyId::from_ascii(row.try_get::<&str, _>("key")?.as_bytes()))
}

fn texts(keys: &[KeyId]) -> Vec<&str> {
    keys.iter().map(KeyId::as_str).collect()
}

/// Adds hours of a day before `day` to its first hour. Returns whether there were any.
async fn roll_up(reader: &SqlitePool, writer: &SqlitePool, day: i64) -> Result<bool, Error> {
    // Of each day only the first hour, and the one after it, are looked for.
    const NEXT: &str = "\
        WITH RECURSIVE seen (hour) AS ( \
        SELECT min(hour) FROM api_key_usage WHERE hour > 0 AND hour < ?1 UNION ALL \
        SELECT (SELECT min(hour) FROM api_key_usage WHERE hour > seen.hour AND hour < ?1) \
        FROM seen WHERE seen.hour % 24 = 0) \
        SELECT hour FROM seen WHERE hour % 24 > 0";
    const MOVE: &str = concat!(
        "INSERT INTO api_key_usage (key, route, hour, outcome, requests, cost) ",
        "SELECT key, route, ?1 - ?1 % 24, outcome, requests, cost FROM api_key_usage ",
        "WHERE hour >= ?1 AND hour < ?1 - ?1 % 24 + 24 ORDER BY hour, key, route, outcome LIMIT ?2 ",
        add_up!()
    );
    // The same rows.
    const TAKE: &str = "\
        DELETE FROM api_key_usage WHERE (key, hour, route, outcome) IN \
        (SELECT key, hour, route, outcome FROM api_key_usage \
        WHERE hour >= ?1 AND hour < ?1 - ?1 % 24 + 24 ORDER BY hour, key, route, outcome LIMIT ?2)";
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .bind(day.saturating_mul(24))
        .fetch_optional(reader)
        .await?;
    let Some(hour) = next else {
        return Ok(false);
    };
    let mut transaction = WriteTransaction::begin(writer).await?;
    for statement in [MOVE, TAKE] {
        sqlx::query(statement)
            .bind(hour)
            .bind(ROLL_UP_TOGETHER)
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await?;
    Ok(true)
}

async fn forget(pool: &SqlitePool, hour: i64, now: Timestamp) -> Result<(), StoreError> {
    const FORGET: &str = "\
        DELETE FROM api_key_usage WHERE (key, hour, route, outcome) IN \
        (SELECT key, hour, route, outcome FROM api_key_usage WHERE hour < ? LIMIT ?)";
    const FORGET_NETWORKS: &str = "\
        DELETE FROM api_key_networks WHERE (key, network) IN \
        (SELECT key, network FROM api_key_networks WHERE day < ? LIMIT ?)";
    let forgetting_failed = |error| failed("forgetting usage", error);
    for (statement, before) in [(FORGET, hour), (FORGET_NETWORKS, hour.div_euclid(24))] {
        loop {
            let began = Instant::now();
            let removed = sqlx::query(statement)
                .bind(before)
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
    }
    sqlx::query("DELETE FROM api_key_usage_batches WHERE at < ?")
        .bind(silent_before(hour, now).as_millis())
        .execute(pool)
        .await
        .map_err(forgetting_failed)?;
    Ok(())
}
