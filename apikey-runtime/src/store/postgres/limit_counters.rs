//! What was used of limits: counted by a function of the database, in one step and one round trip.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::error::failed;
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{CounterState, LimitRule, QuotaPeriod};
use crate::store::{Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport};

#[async_trait]
impl LimitStore for PostgresStore {
    fn support(&self) -> LimitSupport {
        LimitSupport::All
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self::charge(&self.running()?.limit_counters, charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self::refill(&self.running()?.limit_counters, key, counter, amount).await
    }
}

async fn charge(pool: &ConnectionPool, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
    // The function is described in the migration that makes it. No time: that of the server.
    const CHARGE: &str = "SELECT now, admitted, tat, period, used, parts, parts_used \
         FROM api_key_charge($1, $2, $3, $4, $5, $6, NULL)";
    if charge.counters.is_empty() {
        return Ok(ChargeOutcome::new(true, Vec::new()));
    }
    let limits: Vec<_> = charge
        .counters
        .iter()
        .map(|counter| LimitArguments::of(counter, charge.cost))
        .collect();
    let column = |value: fn(&LimitArguments) -> i64| limits.iter().map(value).collect::<Vec<_>>();
    let query = || {
        sqlx::query(CHARGE)
            .bind(charge.key.to_string())
            .bind(names(&charge.counters))
            .bind(limits.iter().map(|limit| limit.kind).collect::<Vec<_>>())
            .bind(column(|limit| limit.most))
            .bind(column(|limit| limit.cost))
            .bind(column(|limit| limit.part_millis))
    };
    let charging_failed = |error| failed("charging limits", error);
    let rows = pool.write(query).await.map_err(charging_failed)?;
    answer(charge, &rows).map_err(charging_failed)
}

fn names(counters: &[LimitCounter]) -> Vec<String> {
    let names = counters.iter().map(|counter| counter.name().to_owned());
    names.collect()
}

/// A limit as the function takes it.
struct LimitArguments {
    kind: &'static str,
    /// The amount of a quota; of a rate its burst, in microseconds.
    most: i64,
    /// In the same unit.
    cost: i64,
    /// The length of a part of a rolling window.
    part_millis: i64,
}

impl LimitArguments {
    fn of(counter: &LimitCounter, units: u32) -> Self {
        match counter.rule() {
            LimitRule::Rate(rate) => Self {
                kind: "rate",
                most: rate.span(rate.burst()),
                cost: rate.span(units),
                part_millis: 0,
            },
            LimitRule::Quota(quota) => Self {
                kind: match quota.period() {
                    QuotaPeriod::Day => "day",
                    QuotaPeriod::Month => "month",
                    QuotaPeriod::Rolling(_) => "rolling",
                    QuotaPeriod::Lifetime => "lifetime",
                },
                most: whole(quota.amount()),
                cost: i64::from(units),
                part_millis: quota.period().part_millis().map_or(0, whole),
            },
        }
    }
}

/// The largest number that the database knows stands for all that are larger.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn answer(charge: &Charge, rows: &[PgRow]) -> Result<ChargeOutcome, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut counts = rows.iter().map(count).collect::<Result<Vec<_>, _>>()?;
    Ok(charge.answer(
        first.try_get("admitted")?,
        &mut counts,
        first.try_get("now")?,
    ))
}

fn count(row: &PgRow) -> Result<CounterState, sqlx::Error> {
    let numbers: Vec<i64> = row.try_get("parts")?;
    let uses: Vec<i64> = row.try_get("parts_used")?;
    let uses = uses.into_iter().map(|used| used.max(0).unsigned_abs());
    Ok(CounterState {
        tat: row.try_get("tat")?,
        period: row.try_get("period")?,
        used: row.try_get::<i64, _>("used")?.max(0).unsigned_abs(),
        parts: numbers.into_iter().zip(uses).collect(),
    })
}

async fn refill(
    pool: &ConnectionPool,
    key: &KeyId,
    counter: &LimitCounter,
    amount: u64,
) -> Result<(), StoreError> {
    const RATE: &str = "UPDATE api_key_limit_counters SET tat = 0 WHERE key = $1 AND name = $2";
    // The newest part first: of each as much as those after it have left of the amount.
    const QUOTA: &str = "UPDATE api_key_limit_counters AS counter SET used = greatest(counter.used - $3, 0), \
            (parts, parts_used) = ( \
                SELECT coalesce(array_agg(part.number ORDER BY part.number), '{}'), \
                    coalesce(array_agg(least(part.used, part.so_far - $3) ORDER BY part.number), '{}') \
                FROM (SELECT one.number, one.used, (sum(one.used) OVER (ORDER BY one.number DESC))::bigint AS so_far \
                    FROM unnest(counter.parts, counter.parts_used) AS one(number, used)) AS part \
                WHERE part.so_far > $3) \
         WHERE counter.key = $1 AND counter.name = $2";
    let refill = || match counter.rule() {
        LimitRule::Rate(_) => sqlx::query(RATE).bind(key.as_str()).bind(counter.name()),
        LimitRule::Quota(_) => sqlx::query(QUOTA)
            .bind(key.as_str())
            .bind(counter.name())
            .bind(whole(amount)),
    };
    let refilled = pool.write(refill).await;
    refilled
        .map(drop)
        .map_err(|error| failed("giving back what was used", error))
}
