//! What keys used of their limits, in the file.

use std::collections::HashMap;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Error, Row, SqliteExecutor};

use super::error::failed;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::CounterState;
use crate::store::charge::micros;
use crate::store::{Charge, ChargeOutcome, LimitCounter};

/// One text for any number of counts, so it is prepared once. The join is crossed, which SQLite
/// takes as the order in which to do it.
const READ: &str = "\
    SELECT asked.key AS place, arrival, period, used, parts \
    FROM json_each(?) AS asked CROSS JOIN api_key_counts AS count \
    ON count.key = asked.value ->> 0 AND count.name = asked.value ->> 1";

/// A key that was removed in the meantime gets no row, which nobody would remove any more.
const WRITE: &str = "\
    INSERT INTO api_key_counts (key, name, arrival, period, used, parts) \
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 FROM json_each(?) \
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE id = value ->> 0) \
    ON CONFLICT (key, name) DO UPDATE SET \
    arrival = excluded.tat, period = excluded.period, used = excluded.used, parts = excluded.parts";

/// What is to be done with counts.
#[derive(Debug)]
pub(super) enum Work {
    Charge(Charge),
    Refill(KeyId, LimitCounter, u64),
}

/// How all limits of `charge` stand, where it costs nothing: nothing is written.
pub(super) async fn look(
    reader: &SqlitePool,
    charge: &Charge,
    clock: &dyn Clock,
) -> Result<ChargeOutcome, StoreError> {
    let mut counts = Counts::read(reader, charge.names())
        .await
        .map_err(reading_failed)?;
    counts.charge(charge, micros(clock))
}

/// Does all of `work`, one after another, in one transaction. The error of the whole is that of
/// each part; `Ok` holds what came of each.
pub(super) async fn work(
    pool: &SqlitePool,
    work: &[&Work],
    clock: &dyn Clock,
) -> Result<Vec<Result<ChargeOutcome, StoreError>>, Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let names = work.iter().flat_map(|work| work.names());
    let mut counts = Counts::read(&mut *transaction, names).await?;
    // Read while nobody else can charge, so the time does not go back between two who do.
    let now = micros(clock);
    let answers = work.iter().map(|work| counts.work(work, now)).collect();
    if let Some(changed) = counts.changed() {
        sqlx::query(WRITE)
            .bind(changed)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(answers)
}

fn reading_failed(error: Error) -> StoreError {
    failed("reading counts", error)
}

impl Work {
    /// Whose counts, under which names.
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

/// The counts that some work is about.
struct Counts<'a> {
    places: HashMap<(KeyId, &'a str), usize>,
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    count: CounterState,
    changed: bool,
    /// What is there and cannot be read.
    broken: Option<&'static str>,
}

impl<'a> Counts<'a> {
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
        let mut slots = vec![Slot::default(); asked.len()];
        let rows = sqlx::query(READ)
            .bind(json(&asked))
            .fetch_all(executor)
            .await?;
        for row in &rows {
            let place = usize::try_from(row.try_get::<i64, _>("place")?);
            if let Some(slot) = place.ok().and_then(|place| slots.get_mut(place)) {
                *slot = Slot::of(row)?;
            }
        }
        Ok(Self { places, slots })
    }

    fn work(&mut self, work: &Work, now: i64) -> Result<ChargeOutcome, StoreError> {
        match work {
            Work::Charge(charge) => self.charge(charge, now),
            Work::Refill(key, counter, amount) => {
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
        let slot = self
            .place(key, counter)
            .and_then(|place| self.slots.get(place));
        match slot.and_then(|slot| slot.broken) {
            Some(reason) => Err(StoreError::Corrupt {
                id: key.to_string(),
                reason: reason.to_owned(),
            }),
            None => Ok(slot.map(|slot| slot.count.clone()).unwrap_or_default()),
        }
    }

    fn put(&mut self, key: KeyId, counter: &LimitCounter, count: CounterState) {
        let place = self.place(key, counter);
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.changed |= slot.count != count;
            slot.count = count;
        }
    }

    fn place(&self, key: KeyId, counter: &LimitCounter) -> Option<usize> {
        self.places.get(&(key, counter.name())).copied()
    }

    /// What is to be written, if anything.
    fn changed(&self) -> Option<String> {
        let row = |((key, name), place): (&(KeyId, &str), &usize)| {
            let Slot { count, changed, .. } = self.slots.get(*place)?;
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

impl Slot {
    fn of(row: &SqliteRow) -> Result<Self, Error> {
        let used: i64 = row.try_get("used")?;
        let parts = serde_json::from_str(row.try_get("parts")?);
        // A count that cannot be read must not become one of which nothing was used.
        let broken = match (&parts, used) {
            (Err(_), _) => Some("`parts` of a count are no JSON object of whole numbers"),
            (_, ..0) => Some("`used` of a count is negative"),
            _ => None,
        };
        let count = CounterState {
            tat: row.try_get("arrival")?,
            period: row.try_get("period")?,
            used: used.unsigned_abs(),
            parts: parts.unwrap_or_default(),
        };
        Ok(Self {
            count,
            changed: false,
            broken,
        })
    }
}

/// Texts and whole numbers, which JSON can always hold.
pub(super) fn json(rows: &impl serde::Serialize) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}
