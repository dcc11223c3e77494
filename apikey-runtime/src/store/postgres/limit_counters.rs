//! What was used of limits: counted by a function of the database, in one step and one round trip.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};

use super::PostgresStore;
use super::error::{failed, is_of_data};
use super::pool::ConnectionPool;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{CounterState, LimitRule, QuotaPeriod};
use crate::store::charge::corrupt_row;
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
    let rows = pool.write(query).await;
    let rows = rows.map_err(|error| counting_failed("charging limits", &charge.key, error))?;
    answer(charge, &rows)
}

/// Returns the error to report if `doing` failed: a broken counter concerns its key alone.
fn counting_failed(doing: &str, key: &KeyId, error: Error) -> StoreError {
    if is_of_data(&error) {
        return corrupt_row(key);
    }
    failed(doing, error)
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

fn answer(charge: &Charge, rows: &[PgRow]) -> Result<ChargeOutcome, StoreError> {
    let answer_failed = |error| failed("charging limits", error);
    let first = rows.first().ok_or(Error::RowNotFound);
    let first = first.map_err(answer_failed)?;
    let admitted = first.try_get("admitted").map_err(answer_failed)?;
    let now = first.try_get("now").map_err(answer_failed)?;
    let counts: Option<Vec<_>> = rows.iter().map(count).collect();
    let counts = counts.ok_or_else(|| corrupt_row(&charge.key))?;
    Ok(charge.answer(admitted, &counts, now))
}

/// Reads a counter; returns `None` if a charge cannot have written it.
fn count(row: &PgRow) -> Option<CounterState> {
    let number = |column| row.try_get::<i64, _>(column).ok();
    let numbers: Vec<i64> = row.try_get("parts").ok()?;
    let uses: Vec<i64> = row.try_get("parts_used").ok()?;
    let uses = uses.into_iter().map(|used| u64::try_from(used).ok());
    let (length, uses) = (numbers.len(), uses.collect::<Option<Vec<_>>>()?);
    let count = CounterState {
        tat: number("tat")?,
        period: number("period")?,
        used: u64::try_from(number("used")?).ok()?,
        parts: numbers.into_iter().zip(uses).collect(),
    };
    // There are fewer parts than numbers if two of them are of one number.
    (count.parts.len() == length && count.is_in_range()).then_some(count)
}

async fn refill(
    pool: &ConnectionPool,
    key: &KeyId,
    counter: &LimitCounter,
    amount: u64,
) -> Result<(), StoreError> {
    const RATE: &str = "UPDATE api_key_limit_counters SET tat = 0 WHERE key = $1 AND name = $2";
    const QUOTA: &str = "SELECT api_key_refill($1, $2, $3)";
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
        .map_err(|error| counting_failed("giving back what was used", key, error))
}
