//! Checks of usage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;

use super::records::all;
use super::samples::{ODD_TEXTS, at, id};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::clock::Timestamp;
use crate::denied::DenyReason;
use crate::key::KeyId;
use crate::store::{
    self, KeyStore, NodeId, SecretUse, UsageBatch, UsageQuery, UsageRow, UsageStore,
};

pub(super) const NOT_KEPT: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep usage: `usage` returns `None`");

const ALLOWED: store::Outcome = store::Outcome::Allowed;
const REFUSED: store::Outcome = store::Outcome::Denied(DenyReason::RateLimited);

/// Skips the check if the store does not keep usage. Inserts records with the ids 1 to 5.
macro_rules! keeping {
    ($store:expr) => {
        if $store.usage().is_none() {
            return Ok($crate::store::conformance::usage::NOT_KEPT);
        }
        for number in 1..=5 {
            let record = $crate::store::conformance::samples::plain(number);
            $crate::store::conformance::records::add(&*$store, &record).await?;
        }
    };
}

pub(super) use keeping;

/// Returns the current hour: a store may drop old usage at once.
fn this_hour() -> i64 {
    Timestamp::from(SystemTime::now()).as_millis() / 3_600_000
}

fn row(
    key: u128,
    route: &str,
    hour: i64,
    outcome: store::Outcome,
    (requests, cost): (u64, u64),
) -> UsageRow {
    let mut row = UsageRow::new(id(key), route, hour, outcome);
    (row.requests, row.cost) = (requests, cost);
    row
}

pub(super) fn batch(node: u128, number: u64, rows: Vec<UsageRow>) -> UsageBatch {
    let keep = Duration::from_secs(30 * 24 * 3_600);
    let mut batch = UsageBatch::new(NodeId::from_u128(node), number, keep);
    batch.rows = rows;
    batch
}

pub(super) fn usage_of(store: &dyn KeyStore) -> Result<&dyn UsageStore, Violation> {
    let usage = store.usage();
    usage.or_violation("`usage` must return the same answer at all times")
}

pub(super) async fn offer(store: &dyn KeyStore, batch: &UsageBatch) -> Result<(), Violation> {
    let added = usage_of(store)?.add_usage(batch).await;
    added.or_violation("`add_usage` fails")
}

/// The counts of each row, by key, route, hour and outcome.
type Counts = BTreeMap<(KeyId, String, i64, &'static str), (u64, u64)>;

async fn usage(store: &dyn KeyStore, query: &UsageQuery) -> Result<Counts, Violation> {
    let rows = usage_of(store)?.read_usage(query).await;
    let rows = rows.or_violation("`read_usage` fails")?;
    let mut counts = Counts::new();
    for row in rows {
        let of = (row.key, row.route, row.hour, row.outcome.code());
        ensure!(
            counts
                .insert(of.clone(), (row.requests, row.cost))
                .is_none(),
            "{of:?} must have one row"
        );
    }
    Ok(counts)
}

/// Returns all usage of the keys 1 to 5.
async fn everything(store: &dyn KeyStore) -> Result<Counts, Violation> {
    let keys = (1..=5).map(id).collect();
    usage(
        store,
        &UsageQuery::new(keys, this_hour() - 1_000, this_hour() + 1_000),
    )
    .await
}

/// Returns the sums of `rows`.
fn sums<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> Counts {
    let mut counts = Counts::new();
    for row in rows {
        let of = (row.key, row.route.clone(), row.hour, row.outcome.code());
        let (requests, cost) = counts.entry(of).or_default();
        (*requests, *cost) = (*requests + row.requests, *cost + row.cost);
    }
    counts
}

pub(super) async fn usage_adds_up(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let hour = this_hour();
    let mut rows = Vec::new();
    for (number, route) in (1..).zip(ODD_TEXTS) {
        if !route.contains(char::is_control) {
            rows.push(row(1, route, hour, ALLOWED, (number, 3 * number)));
        }
    }
    for key in 1..=3 {
        for (hour, outcome) in [(hour - 1, ALLOWED), (hour, ALLOWED), (hour, REFUSED)] {
            rows.push(row(key, "/orders/{id}", hour, outcome, (2, 5)));
            rows.push(row(key, "/orders", hour, outcome, (1 << 40, 1 << 50)));
        }
    }
    let mut tasks = JoinSet::new();
    for node in 1..=4 {
        let (store, rows) = (Arc::clone(&store), rows.clone());
        tasks.spawn(async move {
            for number in 1..=5 {
                offer(&*store, &batch(node, number, rows.clone())).await?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    let expected = sums((0..20).flat_map(|_| &rows));
    let found = everything(&*store).await?;
    ensure!(
        found == expected,
        "5 batches of 4 nodes must add up to {expected:?}; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_large_batch_is_added_as_a_whole(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let hour = this_hour();
    let of = |number: usize| {
        let route = format!("/route/{}", number / 5);
        row(
            1 + number as u128 % 5,
            &route,
            hour,
            ALLOWED,
            (1, number as u64),
        )
    };
    let rows: Vec<_> = (0..10_000).map(of).collect();
    offer(&*store, &batch(1, 1, rows.clone())).await?;
    let found = everything(&*store).await?;
    ensure!(
        found == sums(&rows),
        "a batch of 10,000 rows must be added completely; found {} rows, or other counts",
        found.len()
    );
    Ok(CheckVerdict::Passed)
}

/// The answer to the first offer may have been lost.
pub(super) async fn a_batch_that_is_retried_is_added_once(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let hour = this_hour();
    let numbered = |node, number| {
        let mut batch = batch(node, number, vec![row(1, "/", hour, ALLOWED, (1, 2))]);
        batch.last_used = vec![SecretUse::new(id(1), 0, at(1_000), None)];
        batch
    };
    let mut added = 0;
    for (node, number, is_new) in [
        (1, 1, true),
        (1, 1, false),
        (1, 2, true),
        (1, 1, false),
        (2, 1, true),
        (1, 2, false),
        (1, 9, true),
        (1, 8, false),
        (2, 2, true),
    ] {
        offer(&*store, &numbered(node, number)).await?;
        added += u64::from(is_new);
        let found = everything(&*store).await?;
        let expected = sums(&[row(1, "/", hour, ALLOWED, (added, 2 * added))]);
        ensure!(
            found == expected,
            "a batch must count only if its number exceeds the node's last; got {found:?} after \
             batch {number} of node {node}"
        );
    }
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, batch) = (Arc::clone(&store), numbered(3, 1));
        tasks.spawn(async move { offer(&*store, &batch).await });
    }
    all(tasks).await?;
    added += 1;
    let found = everything(&*store).await?;
    ensure!(
        found == sums(&[row(1, "/", hour, ALLOWED, (added, 2 * added))]),
        "a batch offered 8 times concurrently must be added once; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn usage_is_read_for_a_range_of_hours(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let store = &*store;
    let hour = this_hour();
    let rows: Vec<_> = (1..=3)
        .flat_map(|key| (-2..=2).map(move |ahead| (key, hour + ahead)))
        .map(|(key, hour)| row(key, "/", hour, ALLOWED, (1, 1)))
        .collect();
    offer(store, &batch(1, 1, rows.clone())).await?;
    for (keys, from, to) in [
        (vec![1, 2, 3], hour - 2, hour + 3),
        (vec![1, 2, 3], hour - 1, hour + 1),
        (vec![2], hour, hour + 1),
        (vec![2, 2, 3, 2], hour, hour + 1),
        (vec![2], hour, hour),
        (vec![2], hour + 1, hour),
        (vec![4], hour - 2, hour + 3),
        (vec![], hour - 2, hour + 3),
        (vec![3, 1], i64::MIN, i64::MAX),
    ] {
        let keys: Vec<_> = keys.into_iter().map(id).collect();
        let wanted = |row: &&UsageRow| keys.contains(&row.key) && (from..to).contains(&row.hour);
        let expected = sums(rows.iter().filter(wanted));
        let found = usage(store, &UsageQuery::new(keys.clone(), from, to)).await?;
        ensure!(
            found == expected,
            "the usage of {keys:?} from {from} to {to} must be {expected:?}; found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// A store may also have removed old usage by itself.
pub(super) async fn pruning_keeps_recent_usage(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let store = &*store;
    let hour = this_hour();
    let old = [
        row(1, "/", hour - 2, ALLOWED, (1, 1)),
        row(2, "/", hour - 1, REFUSED, (1, 0)),
    ];
    let kept = [
        row(1, "/", hour, ALLOWED, (4, 4)),
        row(2, "/a", hour + 1, REFUSED, (5, 0)),
    ];
    let rows = old.iter().chain(&kept).cloned().collect();
    offer(store, &batch(1, 1, rows)).await?;
    for _ in 0..2 {
        let done = usage_of(store)?.prune_usage(hour).await;
        done.or_violation("`prune_usage` fails")?;
        let mut found = everything(store).await?;
        found.retain(|(_, _, at, _), _| *at >= hour);
        ensure!(
            found == sums(&kept),
            "usage since the given hour must stay; found {found:?}"
        );
    }
    let again = batch(1, 1, kept.to_vec());
    offer(store, &again).await?;
    let mut found = everything(store).await?;
    found.retain(|(_, _, at, _), _| *at >= hour);
    ensure!(
        found == sums(&kept),
        "the number of a recent batch must not be forgotten; found {found:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// The maximum number of steps of a roll-up of the few rows of these checks.
const STEPS: u32 = 100;

/// Rolls the usage of days before `day` up, by two nodes at once.
async fn roll_up(store: &Arc<dyn KeyStore>, day: i64) -> Result<(), Violation> {
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for _ in 0..STEPS {
                let more = usage_of(&*store)?.roll_up_usage(day).await;
                if !more.or_violation("`roll_up_usage` fails")? {
                    return Ok(());
                }
            }
            Err(Violation(format!(
                "`roll_up_usage` must end: it answered `true` {STEPS} times for a few rows"
            )))
        });
    }
    all(tasks).await.map(drop)
}

/// Returns counts with the hours of days before `day` added to the first hour of their day.
fn by_day(counts: Counts, day: i64) -> Counts {
    let mut summed = Counts::new();
    for ((key, route, hour, outcome), (requests, cost)) in counts {
        let start = hour.div_euclid(24);
        let hour = if start < day { start * 24 } else { hour };
        let sum = summed.entry((key, route, hour, outcome)).or_default();
        *sum = (sum.0 + requests, sum.1 + cost);
    }
    summed
}

/// A store may also keep all hours.
pub(super) async fn a_roll_up_keeps_the_sums_of_days(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let day = this_hour().div_euclid(24) - 1;
    let mut rows = Vec::new();
    for (ago, hours) in [
        (4, vec![7]),
        (2, vec![0, 1, 23]),
        (1, vec![0, 5]),
        (0, vec![0, 1, 3]),
    ] {
        for (hour, key) in hours
            .into_iter()
            .flat_map(|hour| (1..=3).map(move |key| (hour, key)))
        {
            let hour = 24 * (day - ago) + hour;
            rows.push(row(key, "/orders/{id}", hour, ALLOWED, (2, 5)));
            rows.push(row(key, "/", hour, ALLOWED, (1 << 40, 0)));
            rows.push(row(key, "/", hour, REFUSED, (3, 0)));
        }
    }
    offer(&*store, &batch(1, 1, rows.clone())).await?;
    // Some days, more days, the same again, and after a late addition to a day that is rolled up.
    for (number, end) in [(2, day - 1), (3, day), (4, day), (5, day)] {
        roll_up(&store, end).await?;
        let found = everything(&*store).await?;
        let recent = |counts: &Counts| {
            let mut counts = counts.clone();
            counts.retain(|(_, _, hour, _), _| *hour >= 24 * end);
            counts
        };
        let expected = sums(&rows);
        ensure!(
            recent(&found) == recent(&expected),
            "a roll-up must leave the hours of later days as they are; found {:?}",
            recent(&found)
        );
        let (found, expected) = (by_day(found, end), by_day(expected, end));
        ensure!(
            found == expected,
            "the sums of the days must be {expected:?} after a roll-up; found {found:?}"
        );
        if number == 4 {
            let late = row(2, "/", 24 * (day - 2) + 9, ALLOWED, (1, 1));
            offer(&*store, &batch(1, number, vec![late.clone()])).await?;
            rows.push(late);
        }
    }
    Ok(CheckVerdict::Passed)
}
