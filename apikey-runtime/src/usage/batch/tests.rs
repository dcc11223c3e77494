//! Tests of batches.

use std::cell::Cell;

use super::*;
use crate::denied::DenyReason;
use crate::usage::tally::{UsageEvent, UsageTally};

const NOW: i64 = 5;

thread_local! {
    /// How many cells batches looked at.
    pub(super) static VISITS: Cell<usize> = const { Cell::new(0) };
}

fn pending() -> PendingBatches {
    PendingBatches::new(NodeId::from_u128(9), Duration::from_secs(60))
}

fn record(
    usage_tally: &UsageTally,
    id: u128,
    route: &str,
    millis: i64,
    denied: Option<DenyReason>,
) {
    let used = UsageEvent {
        id: &KeyId::from_u128(id),
        at: Timestamp::from_millis(millis),
        denied,
        cost: 2,
        rotations: 0,
        network: "192.0.2.0/24".parse().ok(),
    };
    usage_tally.record(&used, &|write: &mut dyn FnMut(&str)| write(route));
}

fn next(pending: &mut PendingBatches) -> (Option<UsageBatch>, usize) {
    pending.next(NOW)
}

#[test]
fn batches_are_numbered_bounded_sorted_and_hold_each_count_once() {
    let (usage_tally, mut pending) = (UsageTally::new(), pending());
    for id in 0..15_000 {
        record(&usage_tally, id, "/a", 0, None);
        record(&usage_tally, id, "/a", 0, Some(DenyReason::Expired));
    }
    assert_eq!(pending.add(usage_tally.take()), 0);
    let (mut rows, mut done, mut numbers) = (Vec::new(), 0, Vec::new());
    while let (Some(batch), cells) = next(&mut pending) {
        assert!(batch.rows.len() <= MAX_ROWS && batch.rows.len() == cells * 2);
        let place = |row: &UsageRow| (row.key, row.outcome.code());
        assert!(batch.rows.is_sorted_by_key(place));
        assert!(batch.last_used.is_sorted_by_key(|used| used.key));
        assert_eq!((batch.last_used.len(), batch.keep.as_secs()), (cells, 60));
        done += cells;
        numbers.push(batch.number);
        rows.extend(batch.rows);
    }
    let expected: Vec<_> = (1..=30).collect();
    assert_eq!((done, rows.len(), numbers), (15_000, 30_000, expected));
    rows.dedup_by_key(|row| (row.key, row.outcome));
    assert_eq!(rows.len(), 30_000);
    assert!(rows.iter().all(|row| row.requests == 1));
    // A batch takes a number; a call that finds nothing does not.
    record(&usage_tally, 1, "/a", 0, None);
    pending.add(usage_tally.take());
    assert_eq!(next(&mut pending).0.unwrap().number, 31);
}

/// Cells that are not finished are not visited again for each batch either.
#[test]
fn the_batches_of_a_turn_visit_each_cell_once() {
    let (usage_tally, mut pending) = (UsageTally::new(), pending());
    let hour = NOW * crate::usage::tally::HOUR_MILLIS;
    let below_zero = 2_000;
    for id in 0..20_000 {
        record(&usage_tally, id, "/a", hour, None);
    }
    pending.add(usage_tally.take());
    while next(&mut pending).0.is_some() {}
    for id in 0..below_zero {
        let key = KeyId::from_u128(id);
        let used = UsageEvent {
            id: &key,
            at: Timestamp::from_millis(hour),
            denied: None,
            cost: 2,
            rotations: 0,
            network: None,
        };
        let write = |write: &mut dyn FnMut(&str)| write("/a");
        let entry = usage_tally.record(&used, &write).unwrap();
        usage_tally.adjust(&key, entry, -2, -4);
    }
    for id in below_zero..20_000 {
        record(&usage_tally, id, "/a", hour, None);
    }
    for (turn, rows) in [(1, 18_000), (2, 0)] {
        pending.add(usage_tally.take());
        VISITS.set(0);
        let (mut batches, mut written, mut done) = (0, 0, 0);
        loop {
            let (batch, cells) = next(&mut pending);
            done += cells;
            let Some(batch) = batch else { break };
            batches += 1;
            written += batch.rows.len();
        }
        assert_eq!((written, done), (rows, rows), "{turn}");
        let cells = if turn == 1 { 20_000 } else { 2_000 };
        assert!(VISITS.get() <= cells + batches, "{turn}: {}", VISITS.get());
    }
}

#[test]
fn what_was_taken_at_several_times_becomes_one_row() {
    let (usage_tally, mut pending) = (UsageTally::new(), pending());
    let mut merged = 0;
    for millis in [7, 9, 8] {
        record(&usage_tally, 1, "/a", millis, None);
        record(&usage_tally, 1, "/b", millis, None);
        merged += pending.add(usage_tally.take());
    }
    let (batch, cells) = next(&mut pending);
    let batch = batch.unwrap();
    assert_eq!((merged, cells, batch.rows.len()), (4, 2, 2));
    let counts = batch.rows.iter().map(|row| (row.requests, row.cost));
    assert_eq!(counts.collect::<Vec<_>>(), [(3, 6), (3, 6)]);
    let used = batch.last_used[0];
    let network = used.network.unwrap().to_string();
    assert_eq!((batch.last_used.len(), used.at.as_millis()), (1, 9));
    assert_eq!(network, "192.0.2.0/24");
}

#[test]
fn less_than_nothing_waits_for_what_it_is_set_against_while_that_can_come() {
    let (usage_tally, mut pending) = (UsageTally::new(), pending());
    let hour = NOW * crate::usage::tally::HOUR_MILLIS;
    let id = KeyId::from_u128(1);
    for at in [hour, hour - 1] {
        let used = UsageEvent {
            id: &id,
            at: Timestamp::from_millis(at),
            denied: None,
            cost: 2,
            rotations: 0,
            network: None,
        };
        let write = |write: &mut dyn FnMut(&str)| write("/a");
        let entry = usage_tally.record(&used, &write).unwrap();
        pending.add(usage_tally.take());
        assert!(next(&mut pending).0.is_some());
        usage_tally.adjust(&id, entry, -1, -2);
    }
    pending.add(usage_tally.take());
    assert_eq!(
        next(&mut pending),
        (None, 1),
        "the count of the hour that is over"
    );
    for _ in 0..3 {
        record(&usage_tally, 1, "/a", hour, None);
    }
    pending.add(usage_tally.take());
    let batch = next(&mut pending).0.unwrap();
    assert_eq!((batch.rows[0].requests, batch.rows[0].cost), (2, 4));
    assert_eq!(next(&mut pending), (None, 0));
}

/// Two threads, two routes and two secrets.
#[test]
fn a_batch_has_two_uses_and_twenty_networks_of_a_key() {
    let (usage_tally, mut pending) = (UsageTally::new(), pending());
    let id = KeyId::from_u128(1);
    for at in 0..200_u8 {
        let network = format!("10.{at}.0.0/16").parse().ok();
        let used = UsageEvent {
            id: &id,
            at: Timestamp::from_millis(at.into()),
            denied: None,
            cost: 2,
            rotations: u64::from(at % 3),
            network,
        };
        let route = ["/a", "/b"][usize::from(at % 2)];
        usage_tally.record(&used, &|write: &mut dyn FnMut(&str)| write(route));
        if at == 150 {
            usage_tally.release(pending.add(usage_tally.take()));
        }
    }
    usage_tally.release(pending.add(usage_tally.take()));
    let (batch, cells) = next(&mut pending);
    usage_tally.release(cells);
    assert_eq!(usage_tally.held(), 0);
    let batch = batch.unwrap();
    let uses = batch.last_used.iter();
    let uses: Vec<_> = uses
        .map(|used| (used.rotations, used.at.as_millis()))
        .collect();
    assert_eq!(uses, [(1, 199), (2, 197)]);
    let mut times: Vec<_> = batch
        .networks
        .iter()
        .map(|used| used.at.as_millis())
        .collect();
    times.sort_unstable();
    assert_eq!(times, (180..200).collect::<Vec<_>>());
    assert!(batch.networks.is_sorted_by_key(|used| used.network));
    assert_eq!(next(&mut pending), (None, 0));
}

/// As many as before if keys have two networks each.
#[test]
fn networks_take_few_more_batches() {
    for (networks, batches) in [(1, 3), (2, 3), (4, 6)] {
        let (usage_tally, mut pending) = (UsageTally::new(), pending());
        for id in 0..3_000 {
            for number in 0..networks {
                let used = UsageEvent {
                    id: &KeyId::from_u128(id),
                    at: Timestamp::from_millis(number),
                    denied: None,
                    cost: 2,
                    rotations: 0,
                    network: format!("10.{number}.0.0/16").parse().ok(),
                };
                let write = |write: &mut dyn FnMut(&str)| write("/");
                usage_tally.record(&used, &write);
            }
        }
        pending.add(usage_tally.take());
        let (mut made, mut rows) = (0, 0);
        while let (Some(batch), cells) = next(&mut pending) {
            assert!(batch.networks.len() <= MAX_NETWORK_ROWS);
            usage_tally.release(cells);
            (made, rows) = (made + 1, rows + batch.networks.len());
        }
        assert_eq!((made, rows), (batches, 3_000 * networks as usize));
        assert_eq!(usage_tally.held(), 0);
    }
}
