//! Usage: batches are added, and rows are read by key and hour.

use async_trait::async_trait;
use ipnet::IpNet;
use parking_lot::Mutex;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::error::failed;
use super::limit_counters::whole;
use super::pool::ConnectionPool;
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::store::sql::id;
use crate::store::usage::last_uses;
use crate::store::{
    LastUsed, NetworkUse, Outcome, SecretUse, UsageBatch, UsageQuery, UsageRow, UsageStore,
};

#[async_trait]
impl UsageStore for PostgresStore {
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        add(&self.running()?.keys, batch).await
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        usage(&self.running()?.keys, query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        last_used(&self.running()?.keys, keys).await
    }

    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        networks(&self.running()?.keys, keys).await
    }

    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        roll_up(&self.running()?.keys, day).await
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        let running = self.running()?;
        forget(&running.keys, hour).await?;
        remove_orphans(&running.keys, hour, &running.orphans_searched).await
    }
}

/// How many rows are removed at once: a statement that takes longer than a call may would be ended,
/// and never come to its end.
const REMOVED_AT_ONCE: usize = 5_000;

/// How many last uses are compared with their keys at once.
const SEARCHED_AT_ONCE: i64 = 5_000;

/// How many rows a step of the roll-up moves.
const ROLLED_UP_AT_ONCE: i64 = 1_000;

const HOUR_MILLIS: i64 = 3_600_000;

async fn add(pool: &ConnectionPool, batch: &UsageBatch) -> Result<(), StoreError> {
    const ADD: &str = "\
        SELECT api_key_add_usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
    fn column<R, T>(rows: &[R], value: impl Fn(&R) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    let (rows, last_used, networks) = (&batch.rows, &batch.last_used, &batch.networks);
    let query = || {
        sqlx::query(ADD)
            .bind(batch.node.to_string())
            .bind(whole(batch.number))
            .bind(column(rows, |row| row.key.to_string()))
            .bind(column(rows, |row| row.hour))
            .bind(column(rows, |row| keepable(&row.route)))
            .bind(column(rows, |row| row.outcome.code()))
            .bind(column(rows, |row| whole(row.requests)))
            .bind(column(rows, |row| whole(row.cost)))
            .bind(column(last_used, |last| last.key.to_string()))
            .bind(column(last_used, |last| whole(last.rotations)))
            .bind(column(last_used, |last| last.at.as_millis()))
            .bind(column(last_used, |last| {
                last.network.map(|network| network.to_string())
            }))
            .bind(column(networks, |used| used.key.to_string()))
            .bind(column(networks, |used| used.network.to_string()))
            .bind(column(networks, |used| used.at.as_millis()))
    };
    let added = pool.write(query).await;
    added
        .map(drop)
        .map_err(|error| failed("adding usage", error))
}

/// Returns the route without U+0000: the database would reject it, and the whole batch, at every
/// attempt.
fn keepable(route: &str) -> String {
    route.replace('\0', "\u{fffd}")
}

async fn usage(pool: &ConnectionPool, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    const READ: &str = "SELECT key, hour, route, outcome, requests, cost FROM api_key_usage \
         WHERE key = ANY ($1) AND hour >= $2 AND hour < $3";
    let ask = || {
        sqlx::query(READ)
            .bind(texts(&query.keys))
            .bind(query.from)
            .bind(query.to)
    };
    let reading_failed = |error| failed("reading usage", error);
    let rows = pool.read(ask).await.map_err(reading_failed)?;
    let mut usage = Vec::with_capacity(rows.len());
    for row in &rows {
        usage.extend(usage_row(row).map_err(reading_failed)?);
    }
    Ok(usage)
}

fn texts(keys: &[KeyId]) -> Vec<String> {
    keys.iter().map(KeyId::to_string).collect()
}

/// Reads a row; `None` if its outcome is one of a later release.
fn usage_row(row: &PgRow) -> Result<Option<UsageRow>, sqlx::Error> {
    let (Some(key), Some(outcome)) = (id(row), Outcome::from_code(row.try_get("outcome")?)) else {
        return Ok(None);
    };
    let route: &str = row.try_get("route")?;
    let mut usage = UsageRow::new(key, route, row.try_get("hour")?, outcome);
    usage.requests = row.try_get::<i64, _>("requests")?.unsigned_abs();
    usage.cost = row.try_get::<i64, _>("cost")?.unsigned_abs();
    Ok(Some(usage))
}

async fn last_used(pool: &ConnectionPool, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
    // The first table has what an older release wrote.
    const READ: &str = "\
        SELECT used.*, coalesce(record.rotations, 0) AS present FROM ( \
            SELECT key, 0::bigint AS rotations, at, network FROM api_key_last_used WHERE key = ANY ($1) \
            UNION ALL SELECT key, rotations, at, network FROM api_key_secret_uses WHERE key = ANY ($1) \
        ) AS used LEFT JOIN api_keys AS record ON record.id = used.key";
    let reading_failed = |error| failed("reading when keys were last used", error);
    let ask = || sqlx::query(READ).bind(texts(keys));
    let rows = pool.read(ask).await.map_err(reading_failed)?;
    let uses = rows.iter().map(secret_use).collect::<Result<Vec<_>, _>>();
    Ok(last_uses(
        uses.map_err(reading_failed)?.into_iter().flatten(),
    ))
}

/// Reads the use of a secret, with the present rotations of its key; `None` if its id is not one.
fn secret_use(row: &PgRow) -> Result<Option<(u64, SecretUse)>, sqlx::Error> {
    let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let (present, rotations) = (number("present")?, number("rotations")?);
    let at = Timestamp::from_millis(row.try_get("at")?);
    let network = network(row)?;
    Ok(id(row).map(|key| (present, SecretUse::new(key, rotations, at, network))))
}

async fn networks(pool: &ConnectionPool, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
    // Two batches at once may leave more than 20 for a moment.
    const READ: &str = "SELECT key, network, at FROM ( \
            SELECT key, network, at, row_number() OVER (PARTITION BY key ORDER BY at DESC, network) AS place \
            FROM api_key_networks WHERE key = ANY ($1) \
        ) AS ranked WHERE place <= 20";
    let reading_failed = |error| failed("reading the networks of keys", error);
    let ask = || sqlx::query(READ).bind(texts(keys));
    let rows = pool.read(ask).await.map_err(reading_failed)?;
    let uses = rows.iter().map(network_use).collect::<Result<Vec<_>, _>>();
    Ok(uses
        .map_err(reading_failed)?
        .into_iter()
        .flatten()
        .collect())
}

/// Reads the use from a network; `None` if the row was written by hand.
fn network_use(row: &PgRow) -> Result<Option<NetworkUse>, sqlx::Error> {
    let at = Timestamp::from_millis(row.try_get("at")?);
    let place = id(row).zip(network(row)?);
    Ok(place.map(|(key, network)| NetworkUse::new(key, network, at)))
}

fn network(row: &PgRow) -> Result<Option<IpNet>, sqlx::Error> {
    let network: Option<&str> = row.try_get("network")?;
    Ok(network.and_then(|network| network.parse().ok()))
}

/// Adds hours of a day before `day` to its first hour. Returns whether there were any.
async fn roll_up(pool: &ConnectionPool, day: i64) -> Result<bool, StoreError> {
    // Of each day only the first hour, and the one after it, are looked for. What another node changes at this moment is
    // left to it, or to the next time.
    const ROLL_UP: &str = "\
        WITH RECURSIVE seen (hour) AS ( \
            SELECT min(hour) FROM api_key_usage WHERE hour > 0 AND hour < $1 \
            UNION ALL SELECT (SELECT min(hour) FROM api_key_usage WHERE hour > seen.hour AND hour < $1) \
            FROM seen WHERE seen.hour % 24 = 0 \
        ), next AS ( \
            SELECT hour, hour - hour % 24 AS day FROM seen WHERE hour % 24 > 0 \
        ), taken AS ( \
            DELETE FROM api_key_usage WHERE ctid = ANY (ARRAY( \
                SELECT ctid FROM api_key_usage \
                WHERE hour >= (SELECT hour FROM next) AND hour < (SELECT day + 24 FROM next) \
                ORDER BY hour LIMIT $2 FOR UPDATE SKIP LOCKED)) \
            RETURNING key, route, outcome, requests, cost \
        ), moved AS ( \
            INSERT INTO api_key_usage AS kept (key, hour, route, outcome, requests, cost) \
            SELECT key, (SELECT day FROM next), route, outcome, \
                least(sum(requests), 9223372036854775807)::bigint, least(sum(cost), 9223372036854775807)::bigint \
            FROM taken GROUP BY key, route, outcome ORDER BY key, route, outcome \
            ON CONFLICT (key, hour, route, outcome) DO UPDATE SET \
                requests = least(kept.requests::numeric + excluded.requests, 9223372036854775807)::bigint, \
                cost = least(kept.cost::numeric + excluded.cost, 9223372036854775807)::bigint \
        ) SELECT FROM taken LIMIT 1";
    let query = || {
        sqlx::query(ROLL_UP)
            .bind(day.saturating_mul(24))
            .bind(ROLLED_UP_AT_ONCE)
    };
    let taken = pool.write(query).await;
    let taken = taken.map_err(|error| failed("rolling usage up to days", error))?;
    Ok(!taken.is_empty())
}

async fn forget(pool: &ConnectionPool, hour: i64) -> Result<(), StoreError> {
    // What another node removes at this moment, or adds to, is left to it, or to the next time.
    const OLD: &str = "DELETE FROM api_key_usage WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM api_key_usage WHERE hour < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) \
         RETURNING 1";
    // After a day at the earliest, as `silent_before` has it, and by the clock that wrote the times.
    const SILENT: &str = "DELETE FROM api_key_usage_batches WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM api_key_usage_batches \
            WHERE at < least($1, (extract(epoch FROM now()) * 1000)::bigint - 86400000) \
            LIMIT $2 FOR UPDATE SKIP LOCKED)) \
         RETURNING 1";
    const NETWORKS: &str = "DELETE FROM api_key_networks WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM api_key_networks WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)) \
         RETURNING 1";
    let millis = hour.saturating_mul(HOUR_MILLIS);
    remove(pool, OLD, hour).await?;
    remove(pool, NETWORKS, hour.div_euclid(24)).await?;
    remove(pool, SILENT, millis).await
}

/// Removes last uses from before `hour` of keys that are not there: they were written while their key was removed. Looks at
/// the next [`SEARCHED_AT_ONCE`] last uses, by their index, and notes the last key in `searched`: there are as many as keys, and
/// next to none of them is removed.
async fn remove_orphans(
    pool: &ConnectionPool,
    hour: i64,
    searched: &Mutex<String>,
) -> Result<(), StoreError> {
    const SEARCH: &str = "\
        WITH next AS MATERIALIZED ( \
            SELECT key FROM api_key_secret_uses WHERE key >= $1 ORDER BY key LIMIT $2 \
        ), gone AS ( \
            DELETE FROM api_key_secret_uses WHERE ctid = ANY (ARRAY( \
                SELECT used.ctid FROM api_key_secret_uses AS used \
                WHERE used.key = ANY (ARRAY(SELECT key FROM next)) AND used.at < $3 \
                    AND NOT EXISTS (SELECT FROM api_keys WHERE id = used.key) \
                FOR UPDATE OF used SKIP LOCKED)) \
        ) SELECT max(key) AS last, count(*) AS count FROM next";
    let removing_failed = |error| failed("removing last uses of keys that are gone", error);
    let (start, millis) = (searched.lock().clone(), hour.saturating_mul(HOUR_MILLIS));
    let query = || {
        sqlx::query(SEARCH)
            .bind(start.clone())
            .bind(SEARCHED_AT_ONCE)
            .bind(millis)
    };
    let rows = pool.write(query).await.map_err(removing_failed)?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let count: i64 = row.try_get("count").map_err(removing_failed)?;
    let last: Option<String> = row.try_get("last").map_err(removing_failed)?;
    // The last key is looked at again, since it may have another row.
    let next = last.filter(|_| count == SEARCHED_AT_ONCE);
    *searched.lock() = next.unwrap_or_default();
    Ok(())
}

async fn remove(pool: &ConnectionPool, sql: &'static str, before: i64) -> Result<(), StoreError> {
    let limit = i64::try_from(REMOVED_AT_ONCE).unwrap_or(i64::MAX);
    let query = || sqlx::query(sql).bind(before).bind(limit);
    loop {
        let removed = pool.write(query).await;
        let removed = removed.map_err(|error| failed("removing old usage", error))?;
        if removed.len() < REMOVED_AT_ONCE {
            return Ok(());
        }
    }
}
