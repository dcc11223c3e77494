//! Usage is rolled up in hashes of many fields, by many nodes.

use std::sync::atomic::{AtomicBool, Ordering};

use apikey_runtime::KeyStore;
use apikey_runtime::store::{UsageStore, WriteOptions};

use super::{redis_server, started};
use crate::roll_up::{add, all, check_roll_up, row, today};
use crate::{id, record};

#[tokio::test]
async fn usage_is_rolled_up() {
    let server = redis_server!();
    check_roll_up(&started(&server).await).await;
}

/// A hash of more fields than are read or moved at once; a sum that has no room, a key of another type, and fields by hand;
/// and what comes late.
#[tokio::test]
async fn no_hash_ends_the_roll_up_and_what_comes_late_counts() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=3 {
        let options = WriteOptions::new();
        store.insert(&record(number), &options).await.unwrap();
    }
    let day = today() - 2;
    let route = |number: i64| format!("/{}", number / 23);
    let many = (0..2_300).map(|number| row(1, &route(number), 24 * day + 1 + number % 23, 1));
    let many: Vec<_> = many.collect();
    for rows in many.chunks(1_000) {
        add(&store, rows).await;
    }
    let most = i64::MAX.unsigned_abs();
    let full = [
        row(2, "/", 24 * day, most / 2),
        row(2, "/", 24 * day + 1, 1),
    ];
    add(&store, &full).await;
    let name = |number| format!("{{apikey}}:usage:{}:{day}", id(number));
    let planted = [
        "5|allowed|/planted",
        "a number",
        "5",
        "3",
        "25|allowed|/",
        "3",
    ];
    server
        .command(&[&["HSET", &name(2)], &planted[..]].concat())
        .text();
    let full = ["0|allowed|/", &most.to_string()];
    server
        .command(&[&["HSET", &name(2)], &full[..]].concat())
        .text();
    server.command(&["SET", &name(3), "planted"]).text();
    let expiry = server.command(&["PEXPIRETIME", &name(1)]).text();
    let mut steps = 0;
    while store.roll_up_usage(day + 1).await.unwrap() {
        steps += 1;
        assert!(steps < 10);
    }
    assert_eq!(server.command(&["DEL", &name(3)]).text(), "1");
    let found = all(&store).await;
    let of_first = found.iter().filter(|row| row.key == id(1));
    let rolled: Vec<_> = of_first
        .map(|row| (row.hour, row.requests, row.cost))
        .collect();
    assert_eq!(rolled, [(24 * day, 23, 46); 100]);
    assert_eq!(server.command(&["PEXPIRETIME", &name(1)]).text(), expiry);
    let of_second = found.iter().filter(|row| row.key == id(2));
    let kept: Vec<_> = of_second
        .map(|row| (row.hour - 24 * day, row.requests))
        .collect();
    assert_eq!(kept, [(0, most), (1, 1), (25, 3)]);
    assert_eq!(server.command(&["HLEN", &name(2)]).text(), "7");
    // What comes later stays in its hour, and counts.
    add(&store, &[row(1, "/0", 24 * day + 9, 5)]).await;
    assert!(!store.roll_up_usage(day + 1).await.unwrap());
    let found = all(&store).await;
    let late = found
        .iter()
        .filter(|row| row.key == id(1) && row.route == "/0");
    let late: Vec<_> = late
        .map(|row| (row.hour - 24 * day, row.requests))
        .collect();
    assert_eq!(late, [(0, 23), (9, 5)]);
}

/// The requests of an hour and their cost are in different fields, and are read at any moment of a roll-up.
#[tokio::test]
async fn no_report_misses_a_cost_while_hours_are_rolled_up() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    let day = today() - 2;
    let route = |number: i64| format!("/{}", number / 23);
    let many = (0..4_600).map(|number| row(1, &route(number), 24 * day + 1 + number % 23, 1));
    let many: Vec<_> = many.collect();
    for rows in many.chunks(1_000) {
        add(&store, rows).await;
    }
    let is_rolling = AtomicBool::new(true);
    let roll_up = async {
        while store.roll_up_usage(day + 1).await.unwrap() {}
        is_rolling.store(false, Ordering::SeqCst);
    };
    let read = async {
        let mut is_halfway = false;
        while is_rolling.load(Ordering::SeqCst) {
            let found = all(&store).await;
            let sums = found.iter().fold((0, 0), |(requests, cost), row| {
                (requests + row.requests, cost + row.cost)
            });
            assert_eq!(sums, (4_600, 9_200));
            is_halfway |= (201..4_600).contains(&found.len());
        }
        assert!(is_halfway, "control: a part was read");
    };
    tokio::join!(roll_up, read);
    assert_eq!(all(&store).await.len(), 200);
}

/// A cost that has no room stays with its requests, and requests with their cost.
#[tokio::test]
async fn requests_and_their_cost_stay_together() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    let day = today() - 2;
    let rows = ["/cost", "/requests"].map(|route| row(1, route, 24 * day + 5, 3));
    add(&store, &rows).await;
    let name = format!("{{apikey}}:usage:{}:{day}", id(1));
    let most = i64::MAX.to_string();
    let full = [
        "0|allowed|/cost",
        "1",
        "c0|allowed|/cost",
        &most,
        "0|allowed|/requests",
        &most,
        "c0|allowed|/requests",
        "1",
    ];
    server
        .command(&[&["HSET", &name], &full[..]].concat())
        .text();
    let before = all(&store).await;
    while store.roll_up_usage(day + 1).await.unwrap() {}
    assert_eq!(all(&store).await, before);
    // Control: with room, they move.
    server
        .command(&["HDEL", &name, full[0], full[2], full[4], full[6]])
        .text();
    server.command(&["DEL", "{apikey}:rolled_up_to"]).text();
    while store.roll_up_usage(day + 1).await.unwrap() {}
    let moved = ["/cost", "/requests"].map(|route| row(1, route, 24 * day, 3));
    assert_eq!(all(&store).await, moved);
}

/// All nodes begin in the same moment. Once one of them has gone on, the others leave the work to it until the next hour.
#[tokio::test]
async fn a_node_that_another_is_ahead_of_leaves_the_roll_up_to_it() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    for number in 1..=200 {
        store.insert(&record(number), &options).await.unwrap();
    }
    let day = today() - 2;
    add(&store, &[row(1, "/", 24 * day + 5, 3)]).await;
    let step = || store.roll_up_usage(day + 1);
    let both = tokio::join!(step(), step());
    let went_on = [both.0.unwrap(), both.1.unwrap()];
    assert_eq!(went_on.into_iter().filter(|more| *more).count(), 1);
    // Control: by itself, a node comes to the end.
    let mut steps = 1;
    while step().await.unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 5);
    assert_eq!(all(&store).await, [row(1, "/", 24 * day, 3)]);
}

/// A server on which nothing is counted any more keeps the list of days.
#[tokio::test]
async fn days_whose_usage_has_expired_are_passed_over() {
    let server = redis_server!();
    let store = started(&server).await;
    let options = WriteOptions::new();
    store.insert(&record(1), &options).await.unwrap();
    let day = today() - 2;
    add(&store, &[row(1, "/", 24 * day + 5, 3)]).await;
    let expired = (day - 1).to_string();
    let days = ["ZADD", "{apikey}:usage_days", "1000", &expired];
    assert_eq!(server.command(&days).text(), "1");
    assert!(store.roll_up_usage(day + 1).await.unwrap());
    assert_eq!(all(&store).await, [row(1, "/", 24 * day, 3)]);
    assert!(!store.roll_up_usage(day + 1).await.unwrap());
}
