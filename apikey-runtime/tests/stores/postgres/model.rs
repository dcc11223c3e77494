//! The database function that counts, compared with this crate's `CounterState`, at times that the
//! test sets.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use apikey_runtime::limit::{CounterState, LimitRule, QuotaPeriod};
use apikey_runtime::store::{Charge, LimitCounter, LimitStore, WriteOptions};
use apikey_runtime::{KeyStore, Quota, Rate};
use sqlx::{PgConnection, Row};

use super::place;
use crate::{id, record};

pub(super) const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// 2026-11-22T00:00:00Z.
pub(super) const START: i64 = 20_779 * DAY;

/// Rates of one name: from burst to burst they deny, cap, or carry on.
const CHANGED: [Rate; 4] = [
    Rate::per_second(20).with_burst(8),
    Rate::per_minute(4),
    Rate::per_minute(4).with_burst(6),
    Rate::per_hour(3),
];

/// The same numbers in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// Returns some limits in any order. A name can have several rules, as when a limit is changed.
    fn counters(&mut self) -> Vec<LimitCounter> {
        let rolling = |dice: &mut Self, seconds| {
            Quota::rolling(3 + dice.below(6), Duration::from_secs(seconds))
        };
        let mut counters = vec![
            LimitCounter::new("fast", Rate::per_second(20).with_burst(8)),
            LimitCounter::new("slow", self.one(&[Rate::per_minute(4), Rate::per_hour(3)])),
            LimitCounter::new("changed", self.one(&CHANGED)),
            LimitCounter::new("daily", Quota::per_day(4 + self.below(8))),
            LimitCounter::new("monthly", Quota::per_month(6 + self.below(10))),
            LimitCounter::new("credits", Quota::lifetime(10 + self.below(300))),
            LimitCounter::new("hour", rolling(self, 3_600)),
            LimitCounter::new("two days", rolling(self, 2 * 86_400)),
        ];
        for index in (1..counters.len()).rev() {
            counters.swap(
                index,
                usize::try_from(self.below(index as u64 + 1)).unwrap(),
            );
        }
        counters.truncate(1 + usize::try_from(self.below(4)).unwrap());
        counters
    }

    /// Returns how much later the next charge is; sometimes a clock is set back, or a month passes.
    fn pause(&mut self) -> i64 {
        let sign = if self.below(12) == 0 { -1 } else { 1 };
        let longest = self.one(&[
            SECOND / 10,
            SECOND,
            60 * SECOND,
            3_600 * SECOND,
            DAY,
            32 * DAY,
        ]);
        sign * i64::try_from(self.below(longest.unsigned_abs())).unwrap()
    }
}

/// Returns the last microsecond of a day, of a month, or of the time in which a part of a rolling
/// window still counts; or the first microsecond after it.
fn edge(dice: &mut Dice, now: i64) -> i64 {
    let after = |length: i64| (now / length + 1) * length;
    let (part, long_part) = (60 * SECOND, 48 * 60 * SECOND);
    let edges = [
        after(DAY),
        // 2026-12-01, 2027-03-01, 2028-03-01 (after a leap day).
        (20_788 * DAY).max(now),
        (20_878 * DAY).max(now),
        (21_244 * DAY).max(now),
        after(part) + 60 * part,
        after(part) + 60 * part,
        after(long_part) + 60 * long_part,
    ];
    dice.one(&edges) - i64::try_from(dice.below(2)).unwrap()
}

/// Calls the function itself, at `now`.
pub(super) async fn asked(
    tool: &mut PgConnection,
    charge: &Charge,
    now: i64,
) -> (bool, Vec<CounterState>) {
    let lines = charge.counters.iter().map(|counter| match counter.rule() {
        LimitRule::Rate(rate) => {
            let micros = |units: u32| i64::from(units) * i64::try_from(rate.step_micros()).unwrap();
            ("rate", micros(rate.burst()), micros(charge.cost), 0)
        }
        LimitRule::Quota(quota) => {
            let kind = match quota.period() {
                QuotaPeriod::Day => "day",
                QuotaPeriod::Month => "month",
                QuotaPeriod::Lifetime => "lifetime",
                _ => "rolling",
            };
            let part = quota.period().part_millis().unwrap_or(0);
            let amount = i64::try_from(quota.amount()).unwrap();
            let cost = i64::from(charge.cost);
            (kind, amount, cost, i64::try_from(part).unwrap())
        }
        _ => unreachable!(),
    });
    let lines: Vec<_> = lines.collect();
    let names: Vec<_> = charge
        .counters
        .iter()
        .map(|counter| counter.name())
        .collect();
    let rows = sqlx::query("SELECT * FROM api_key_charge($1, $2, $3, $4, $5, $6, $7)")
        .bind(charge.key.as_str())
        .bind(names)
        .bind(lines.iter().map(|line| line.0).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.1).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.2).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.3).collect::<Vec<_>>())
        .bind(now)
        .fetch_all(tool)
        .await
        .unwrap();
    assert!(rows.iter().all(|row| row.get::<i64, _>("now") == now));
    let counts = rows.iter().map(count).collect();
    (rows[0].get("admitted"), counts)
}

fn count(row: &sqlx::postgres::PgRow) -> CounterState {
    let numbers: Vec<i64> = row.get("parts");
    let uses: Vec<i64> = row.get("parts_used");
    let uses = uses.into_iter().map(i64::unsigned_abs);
    let mut count = CounterState::default();
    count.tat = row.get("tat");
    count.period = row.get("period");
    count.used = row.get::<i64, _>("used").unsigned_abs();
    count.parts = numbers.into_iter().zip(uses).collect::<BTreeMap<_, _>>();
    count
}

/// Returns all stored counters by name, without those in their initial state.
async fn kept(tool: &mut PgConnection) -> HashMap<String, CounterState> {
    let rows =
        sqlx::query("SELECT * FROM api_key_limit_counters WHERE key = $1").bind(id(1).as_str());
    let rows = rows.fetch_all(tool).await.unwrap();
    let counts = rows.iter().map(|row| (row.get("name"), count(row)));
    counts
        .filter(|(_, count)| *count != CounterState::default())
        .collect()
}

#[tokio::test]
async fn the_function_counts_as_the_model_does() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    let (mut allowed, mut refused) = (0, 0);
    for round in 0..40 {
        store
            .insert(&record(1), &WriteOptions::new())
            .await
            .unwrap();
        let mut dice = Dice(round);
        let (mut now, mut model) = (START, HashMap::<String, CounterState>::new());
        for step in 0..60 {
            now = match dice.below(5) {
                0 => edge(&mut dice, now),
                _ => now + dice.pause(),
            };
            let said = format!("round {round}, step {step}, at {now}");
            let cost = dice.one(&[0, 1, 1, 1, 2, 5, 9]);
            let charge = Charge::new(id(1), cost, dice.counters());
            let mut counts: Vec<_> = charge
                .counters
                .iter()
                .map(|counter| model.remove(counter.name()).unwrap_or_default())
                .collect();
            let expected = charge.apply(&mut counts, now).allowed;
            let answer = asked(&mut tool, &charge, now).await;
            assert_eq!(answer, (expected, counts.clone()), "{said}: {charge:?}");
            if expected {
                allowed += 1;
            } else {
                refused += 1;
            }
            let names = charge
                .counters
                .iter()
                .map(|counter| counter.name().to_owned());
            model.extend(names.zip(counts));
            if dice.below(6) == 0 {
                let counter = &charge.counters[0];
                let amount = dice.below(8);
                store.refill(&id(1), counter, amount).await.unwrap();
                let count = model.get_mut(counter.name()).unwrap();
                count.refill(counter.rule(), amount);
            }
            model.retain(|_, count| *count != CounterState::default());
            assert_eq!(kept(&mut tool).await, model, "{said}: {charge:?}");
        }
        // Its counts are deleted with it.
        place_anew(&mut tool).await;
    }
    assert!(
        allowed > 500 && refused > 500,
        "{allowed} and {refused}: neither is rare"
    );
}

async fn place_anew(tool: &mut PgConnection) {
    super::run(tool, "DELETE FROM api_keys").await.unwrap();
    assert_eq!(kept(tool).await, HashMap::new());
}
