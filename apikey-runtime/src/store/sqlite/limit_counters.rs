//! The limit counters of keys, in the file.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row, SqliteExecutor};

use super::SqliteStore;
use super::error::failed;
use super::transaction::WriteTransaction;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::CounterState;
use crate::store::charge::{corrupt_row, micros};
use crate::store::{Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport};

#[async_trait]
impl LimitStore for SqliteStore {
    fn support(&self) -> LimitSupport {
        LimitSupport::Quotas
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let pools = self.pools().await?;
        if charge.cost == 0 {
            return look(&pools.reader, charge, &**self.limit_clock()).await;
        }
        let operation = CounterOperation::Charge(charge.clone());
        self.kept(pools.group_commit.run(operation).await).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        let refill = CounterOperation::Refill(*key, counter.clone(), amount);
        let refilled = self.pools().await?.group_commit.run(refill).await;
        self.kept(refilled).await.map(drop)
    }
}

/// One text for any number of counters, so it is prepared once. SQLite runs a CROSS JOIN in the order
/// in which it is written.
const READ: &str = "\
    SELECT asked.key AS place, tat, period, used, parts \
    FROM json_each(?) AS asked CROSS JOIN api_key_limit_counters AS counter \
    ON counter.key = asked.value ->> 0 AND counter.name = asked.value ->> 1";

/// A key that was removed in the meantime gets no row, which would never be deleted.
const WRITE: &str = "\
    INSERT INTO api_key_limit_counters (key, name, tat, period, used, parts) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?) \
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = value ->> 0) \
    ON CONFLICT (key, name) DO UPDATE SET \
    tat = excluded.tat, period = excluded.period, used = excluded.used, parts = excluded.parts";

/// A change of limit counters.
#[derive(Debug)]
pub(super) enum CounterOperation {
    Charge(Charge),
    Refill(KeyId, LimitCounter, u64),
}

/// Returns the decision on `charge`, which costs nothing: nothing is written.
async fn look(
    reader: &SqlitePool,
    charge: &Charge,
    clock: &dyn Clock,
) -> Result<ChargeOutcome, StoreError> {
    let mut counters = CounterBatch::read(reader, charge.names())
        .await
        .map_err(reading_failed)?;
    counters.charge(charge, micros(clock))
}

/// Runs all operations, one after another, in one transaction. An error is that of every operation;
/// `Ok` holds the result of each.
pub(super) async fn run_all(
    pool: &SqlitePool,
    operations: &[&CounterOperation],
    clock: &dyn Clock,
) -> Result<Vec<Result<ChargeOutcome, StoreError>>, Error> {
    let mut transaction = WriteTransaction::begin(pool).await?;
    let names = operations.iter().flat_map(|operation| operation.names());
    let mut counters = CounterBatch::read(transaction.connection(), names).await?;
    // Read under the lock, so that the time does not go back between two transactions.
    let now = micros(clock);
    let results = operations
        .iter()
        .map(|operation| counters.run(operation, now))
        .collect();
    if let Some(changed) = counters.changed() {
        sqlx::query(WRITE)
            .bind(changed)
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await?;
    Ok(results)
}

fn reading_failed(error: Error) -> StoreError {
    failed("reading limit counters", error)
}

impl CounterOperation {
    /// Returns the keys and names of its counters.
    fn names(&self) -> Box<dyn Iterator<Item = (KeyId, &str)> + Send + '_> {
        match self {
            Self::Charge(charge) => Box::new(charge.names()),
            Self::Refill(key, counter, _) => Box::new(std::iter::once((*key, counter.name()))),
        }
    }
}

impl Charge {
    fn names(&self) -> impl Iterator<Item = (KeyId, &str)> + Send {
        self.counters
            .iter()
            .map(|counter| (self.key, counter.name()))
    }
}

/// The counters that some operations need.
struct CounterBatch<'a> {
    places: HashMap<(KeyId, &'a str), usize>,
    counters: Vec<LoadedCounter>,
}

#[derive(Clone, Default)]
struct LoadedCounter {
    count: CounterState,
    changed: bool,
    /// Whether a charge cannot have written the row.
    broken: bool,
}

impl<'a> CounterBatch<'a> {
    async fn read(
        executor: impl SqliteExecutor<'_>,
        names: impl Iterator<Item = (KeyId, &'a str)>,
    ) -> Result<Self, Error> {
        let (mut places, mut asked) = (HashMap::new(), Vec::new());
        for (key, name) in names {
            places.entry((key, name)).or_insert_with(|| {
                asked.push((key.to_string(), name));
                asked.len() - 1
            });
        }
        let mut counters = vec![LoadedCounter::default(); asked.len()];
        let rows = sqlx::query(READ)
            .bind(json(&asked))
            .fetch_all(executor)
            .await?;
        for row in &rows {
            let place = usize::try_from(row.try_get::<i64, _>("place")?);
            if let Some(counter) = place.ok().and_then(|place| counters.get_mut(place)) {
                *counter = LoadedCounter::of(row)?;
            }
        }
        Ok(Self { places, counters })
    }

    fn run(&mut self, operation: &CounterOperation, now: i64) -> Result<ChargeOutcome, StoreError> {
        match operation {
            CounterOperation::Charge(charge) => self.charge(charge, now),
            CounterOperation::Refill(key, counter, amount) => {
                let mut count = self.count(*key, counter)?;
                count.refill(counter.rule(), *amount);
                self.put(*key, counter, count);
                Ok(ChargeOutcome::new(true, Vec::new()))
            }
        }
    }

    fn charge(&mut self, charge: &Charge, now: i64) -> Result<ChargeOutcome, StoreError> {
        let counts = charge
            .counters
            .iter()
            .map(|counter| self.count(charge.key, counter));
        let mut counts = counts.collect::<Result<Vec<_>, _>>()?;
        let charged = charge.apply(&mut counts, now);
        if charged.allowed && charge.cost > 0 {
            for (counter, count) in charge.counters.iter().zip(counts) {
                self.put(charge.key, counter, count);
            }
        }
        Ok(charged)
    }

    fn count(&self, key: KeyId, counter: &LimitCounter) -> Result<CounterState, StoreError> {
        let counter = self
            .place(key, counter)
            .and_then(|place| self.counters.get(place));
        match counter {
            // A counter that cannot be read must not become an unused one.
            Some(counter) if counter.broken => Err(corrupt_row(&key)),
            Some(counter) => Ok(counter.count.clone()),
            None => Ok(CounterState::default()),
        }
    }

    fn put(&mut self, key: KeyId, counter: &LimitCounter, count: CounterState) {
        let place = self.place(key, counter);
        if let Some(counter) = place.and_then(|place| self.counters.get_mut(place)) {
            counter.changed |= counter.count != count;
            counter.count = count;
        }
    }

    fn place(&self, key: KeyId, counter: &LimitCounter) -> Option<usize> {
        self.places.get(&(key, counter.name())).copied()
    }

    /// Returns the changed rows as JSON, if there are any.
    fn changed(&self) -> Option<String> {
        let row = |((key, name), place): (&(KeyId, &str), &usize)| {
            let LoadedCounter { count, changed, .. } = self.counters.get(*place)?;
            let used = i64::try_from(count.used).unwrap_or(i64::MAX);
            changed.then(|| {
                let (arrival, period) = (count.tat, count.period);
                json(&(key.as_str(), name, arrival, period, used, &count.parts))
            })
        };
        let rows: Vec<_> = self.places.iter().filter_map(row).collect();
        (!rows.is_empty()).then(|| format!("[{}]", rows.join(",")))
    }
}

impl LoadedCounter {
    fn of(row: &SqliteRow) -> Result<Self, Error> {
        let used: i64 = row.try_get("used")?;
        let parts = serde_json::from_str(row.try_get("parts")?).ok();
        let readable = parts.is_some() && used >= 0;
        let count = CounterState {
            tat: row.try_get("tat")?,
            period: row.try_get("period")?,
            used: used.unsigned_abs(),
            parts: parts.unwrap_or_default(),
        };
        Ok(Self {
            changed: false,
            broken: !readable || !count.is_in_range(),
            count,
        })
    }
}

/// Encodes texts and whole numbers, which JSON can always hold.
pub(super) fn json(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}
