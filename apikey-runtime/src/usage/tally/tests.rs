//! Tests of the tally.

use super::*;
use crate::store::{MAX_NETWORKS, SecretUse};

const ROUTE: &[&str] = &["/orders/", "{", "id", "}"];

fn record(
    usage_tally: &UsageTally,
    id: u128,
    route: &[&str],
    at: i64,
    denied: Option<DenyReason>,
) -> Option<UsageEntry> {
    let used = UsageEvent {
        id: &KeyId::from_u128(id),
        at: Timestamp::from_millis(at),
        denied,
        cost: 3,
        rotations: 0,
        network: None,
    };
    let write = |write: &mut dyn FnMut(&str)| route.iter().for_each(|piece| write(piece));
    usage_tally.record(&used, &write)
}

fn allow(usage_tally: &UsageTally, id: u128, at: i64) -> Option<UsageEntry> {
    record(usage_tally, id, ROUTE, at, None)
}

#[test]
fn requests_count_by_key_route_hour_and_outcome() {
    let usage_tally = UsageTally::new();
    let expired = Some(DenyReason::Expired);
    for _ in 0..3 {
        allow(&usage_tally, 1, 5);
        record(&usage_tally, 1, ROUTE, HOUR_MILLIS - 1, expired);
        allow(&usage_tally, 2, 5);
        record(&usage_tally, 1, &["/"], 5, None);
        allow(&usage_tally, 1, -1);
    }
    let mut taken = usage_tally.take();
    taken.sort_by_key(|cell| (cell.id(), cell.hour(), cell.route.len()));
    let cells = taken
        .iter()
        .map(|cell| (&*cell.route, cell.hour(), cell.tally.allowed));
    assert_eq!(
        cells.collect::<Vec<_>>(),
        [
            ("/orders/{id}", -1, 3),
            ("/", 0, 3),
            ("/orders/{id}", 0, 3),
            ("/orders/{id}", 0, 3)
        ]
    );
    let tally = &taken[2].tally;
    assert_eq!(
        (tally.cost, &*tally.denied),
        (9, &[(DenyReason::Expired, 3)][..])
    );
    let (secrets, networks) = tally.last.clone().into_rows(KeyId::from_u128(1));
    let used = SecretUse::new(KeyId::from_u128(1), 0, Timestamp::from_millis(5), None);
    assert_eq!((secrets, networks), (vec![used], vec![]));
    assert_eq!(usage_tally.held(), 4, "taken, not released");
    assert!(usage_tally.take().is_empty());
}

/// More threads than shards, and cells are taken meanwhile: no request is lost or counted twice.
#[test]
fn every_request_of_every_thread_is_taken_once() {
    let (usage_tally, threads) = (UsageTally::new(), SHARDS as u128 + 20);
    let mut taken = Vec::new();
    std::thread::scope(|scope| {
        let work = |thread: u128| {
            let usage_tally = &usage_tally;
            move || {
                for at in 0..1_000 {
                    allow(usage_tally, thread % 7, at);
                }
            }
        };
        let all: Vec<_> = (0..threads).map(|one| scope.spawn(work(one))).collect();
        while !all.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            taken.extend(usage_tally.take());
        }
    });
    taken.extend(usage_tally.take());
    let sum: i64 = taken.iter().map(|cell| cell.tally.allowed).sum();
    assert_eq!(sum, threads as i64 * 1_000);
    assert_eq!(usage_tally.held(), taken.len());
    usage_tally.release(taken.len());
    assert_eq!((usage_tally.held(), usage_tally.lost()), (0, 0));
}

#[test]
fn with_little_room_routes_fold_into_one_and_then_requests_go_uncounted() {
    let usage_tally = UsageTally::new();
    let keys = 0..MAX_CELLS as u128 * 2;
    let entry: Vec<_> = keys.map(|id| allow(&usage_tally, id, 0)).collect();
    assert!(entry[..MAX_CELLS].iter().all(Option::is_some));
    assert!(entry[MAX_CELLS..].iter().all(Option::is_none));
    assert_eq!(
        (usage_tally.held(), usage_tally.lost()),
        (MAX_CELLS, MAX_CELLS as u64)
    );
    // A key that has a cell is still counted, on any route.
    let last = MAX_CELLS as u128 - 1;
    assert!(record(&usage_tally, last, &["/other"], 0, None).is_some());
    let taken = usage_tally.take();
    let folded = taken.iter().filter(|cell| &*cell.route == "*").count();
    assert_eq!((taken.len(), folded), (MAX_CELLS, MAX_CELLS - FOLDED_FROM));
    assert_eq!(taken[MAX_CELLS - 1].tally.allowed, 2);
    // Taking the cells does not make room: they are still held.
    assert_eq!(allow(&usage_tally, last + 1, 0), None);
    usage_tally.release(taken.len());
    assert!(allow(&usage_tally, last + 1, 0).is_some());
}

#[test]
fn what_is_taken_back_is_set_against_what_was_counted_wherever_that_is_now() {
    let usage_tally = UsageTally::new();
    let entry = allow(&usage_tally, 1, 0).unwrap();
    let id = KeyId::from_u128(1);
    usage_tally.adjust(&id, entry, -1, -3);
    assert_eq!(usage_tally.take()[0].tally.allowed, 0);
    usage_tally.adjust(&id, entry, -1, -3);
    let late = &usage_tally.take()[0];
    assert_eq!(
        (late.tally.allowed, late.tally.cost, &*late.route),
        (-1, -3, "/orders/{id}")
    );
}

/// When the tally is so full that new cells do not distinguish routes.
#[test]
fn what_is_taken_back_is_set_against_its_own_route_while_others_are_folded() {
    let usage_tally = UsageTally::new();
    let (id, entry) = (KeyId::from_u128(1), allow(&usage_tally, 1, 0).unwrap());
    usage_tally.release(usage_tally.take().len());
    for other in 2..=FOLDED_FROM as u128 + 1 {
        allow(&usage_tally, other, 0);
    }
    let folded = allow(&usage_tally, 1, 0).unwrap();
    assert_ne!(folded.route, entry.route);
    usage_tally.adjust(&id, entry, -1, -3);
    let routes = |usage_tally: &UsageTally| -> Vec<_> {
        let own = usage_tally
            .take()
            .into_iter()
            .filter(|cell| cell.id() == id);
        own.map(|cell| (cell.route.to_string(), cell.tally.allowed))
            .collect()
    };
    let expected = [("*".to_owned(), 1), ("/orders/{id}".to_owned(), -1)];
    assert_eq!(routes(&usage_tally), expected);
    // Likewise for a request that was folded.
    usage_tally.adjust(&id, folded, -1, -3);
    assert_eq!(routes(&usage_tally), [("*".to_owned(), -1)]);
}

#[test]
fn the_last_use_is_the_latest_whichever_is_counted_last() {
    let (usage_tally, at) = (UsageTally::new(), |tally: &RouteCounts| {
        let (secrets, _) = tally.last.clone().into_rows(KeyId::from_u128(1));
        secrets[0].at.as_millis()
    });
    for time in [5, 9, 7] {
        allow(&usage_tally, 1, time);
    }
    let mut tally = usage_tally.take().remove(0).tally;
    assert_eq!(at(&tally), 9);
    allow(&usage_tally, 1, 8);
    tally.merge(usage_tally.take().remove(0).tally);
    assert_eq!((at(&tally), tally.allowed), (9, 4));
}

fn from_network(usage_tally: &UsageTally, (id, rotations): (u128, u64), at: i64, network: u32) {
    let network = ipnet::Ipv4Net::new(network.into(), 32).unwrap();
    let used = UsageEvent {
        id: &KeyId::from_u128(id),
        at: Timestamp::from_millis(at),
        denied: None,
        cost: 3,
        rotations,
        network: Some(network.into()),
    };
    let write = |write: &mut dyn FnMut(&str)| write("/");
    usage_tally.record(&used, &write);
}

/// A flood of networks takes as much memory as a few, and the latest stay.
#[test]
fn a_flood_of_networks_of_one_key_is_bounded() {
    let usage_tally = UsageTally::new();
    for (at, network) in (0..).zip(0..100_000) {
        from_network(&usage_tally, (1, u64::from(network % 2)), at, network);
    }
    let held = usage_tally.held();
    assert!(held <= 2 + MAX_NETWORKS, "{held}");
    let cell = usage_tally.take().remove(0);
    assert_eq!(cell.tally.cells(), held);
    let (secrets, networks) = cell.tally.last.into_rows(KeyId::from_u128(1));
    let times: Vec<_> = secrets.iter().map(|used| used.at.as_millis()).collect();
    assert_eq!(times, [99_998, 99_999]);
    let mut times: Vec<_> = networks.iter().map(|used| used.at.as_millis()).collect();
    times.sort_unstable();
    assert_eq!(times, (99_980..100_000).collect::<Vec<_>>());
    usage_tally.release(held);
    assert_eq!((usage_tally.held(), usage_tally.lost()), (0, 0));
}

/// Networks of many keys are given up before any count is.
#[test]
fn a_flood_of_networks_of_many_keys_costs_no_count() {
    let usage_tally = UsageTally::new();
    for key in 0..10_000 {
        for network in 0..30 {
            from_network(&usage_tally, (key, 0), i64::from(network), network);
        }
    }
    let held = usage_tally.held();
    assert!(held <= FOLDED_FROM + 10_000, "{held}");
    assert_eq!(usage_tally.lost(), 0);
    let taken = usage_tally.take();
    let counted: i64 = taken.iter().map(|cell| cell.tally.allowed).sum();
    assert_eq!((taken.len(), counted), (10_000, 300_000));
    let last = taken.into_iter().last().unwrap().tally.last;
    let (_, networks) = last.into_rows(KeyId::from_u128(1));
    let last = networks.iter().map(|used| used.at.as_millis()).max();
    assert_eq!(last, Some(29), "the last network is kept without room");
}
