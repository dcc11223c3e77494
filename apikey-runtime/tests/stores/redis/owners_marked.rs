//! Marking: what a revocation of an owner leaves to do, in steps that any node continues.

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ListQuery, OwnerStore, WriteOptions};
use apikey_runtime::{KeyStore, RedisStore};
use apikey_test_support::servers::redis::{DURABLE, RedisServer, Reply};

use super::bulk::add;
use super::owners::{
    OWNERS, QUEUE, REVOCATIONS, added, because_of, found, left, mark_all, revoked,
};
use super::{cursor, redis_server, soon, started};
use crate::{at, id, owned};

/// Returns how many records hold a revocation themselves.
fn marked(server: &RedisServer) -> usize {
    let marked = server.command(&["ZCARD", "{apikey}:purge_index"]).text();
    marked.parse().unwrap()
}

#[tokio::test]
async fn two_nodes_mark_at_once_and_two_revocations_keep_their_reasons() {
    let server = redis_server!();
    let (store, other) = (started(&server).await, started(&server).await);
    add(&server, 1, 450, "a", "");
    store
        .revoke_owner_keys("a", &left(3_000, "first"), &ChangeOrigin::new())
        .await
        .unwrap();
    // The second comes while the first is being marked.
    assert!(store.mark_revoked_keys().await.unwrap());
    for number in 1_001..=1_150 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
    }
    // Before the place that the first has reached.
    store
        .insert(&owned(0, "a"), &WriteOptions::new())
        .await
        .unwrap();
    other
        .revoke_owner_keys("a", &left(4_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .insert(&owned(2_000, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let before = cursor(&store).await;
    tokio::join!(mark_all(&store), mark_all(&other), mark_all(&store));
    mark_all(&store).await;
    assert_eq!(cursor(&store).await, before);
    assert_eq!(marked(&server), 450 + 151);
    for number in 1..=450 {
        assert_eq!(
            revoked(&store, added(number)).await,
            because_of(3_000, "first")
        );
    }
    for number in (1_001..=1_150).chain([0]) {
        assert_eq!(
            revoked(&store, id(number)).await,
            because_of(4_000, "second")
        );
        assert_eq!(found(&store, number).await.version, 1);
    }
    assert_eq!(revoked(&store, id(2_000)).await, None);
    for key in [REVOCATIONS, QUEUE] {
        assert_eq!(server.command(&["EXISTS", key]).text(), "0", "{key}");
    }
}

#[tokio::test]
async fn another_node_continues_after_a_crash_and_scripts_that_are_forgotten() {
    let mut server = redis_server!(DURABLE);
    let store = started(&server).await;
    add(&server, 1, 350, "a", "");
    store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert!(store.mark_revoked_keys().await.unwrap());
    drop(store);
    server.kill();
    server.restart();
    let store = started(&server).await;
    assert_eq!(marked(&server), 100);
    assert!(store.mark_revoked_keys().await.unwrap());
    assert_eq!(marked(&server), 200, "it continues there");
    loop {
        server.command(&["SCRIPT", "FLUSH"]).text();
        if !store.mark_revoked_keys().await.unwrap() {
            break;
        }
    }
    assert_eq!(marked(&server), 350);
}

/// A server that starts again with an older dump has the owner and its keys as they were then.
#[tokio::test]
async fn a_dump_that_is_restored_between_two_steps_has_all_of_it_or_nothing() {
    let mut server = redis_server!();
    let store = started(&server).await;
    add(&server, 1, 250, "a", "");
    store
        .insert(&owned(1_000, "a"), &WriteOptions::new())
        .await
        .unwrap();
    let restored = async |server: &mut RedisServer, store: &RedisStore| {
        server.kill();
        server.restart();
        soon(async || store.find(&added(1)).await.ok()).await;
    };
    server.command(&["SAVE"]).text();
    store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    assert!(store.mark_revoked_keys().await.unwrap());
    restored(&mut server, &store).await;
    assert_eq!(store.find_owner("a").await.unwrap().unwrap().revocations, 0);
    assert_eq!(revoked(&store, added(1)).await, None);
    assert!(!store.mark_revoked_keys().await.unwrap());

    store
        .revoke_owner_keys("a", &left(4_000, "b"), &ChangeOrigin::new())
        .await
        .unwrap();
    server.command(&["SAVE"]).text();
    assert!(store.mark_revoked_keys().await.unwrap());
    restored(&mut server, &store).await;
    assert_eq!(marked(&server), 0);
    assert_eq!(revoked(&store, added(250)).await, because_of(4_000, "b"));
    mark_all(&store).await;
    assert_eq!(marked(&server), 251);

    server.command(&["FLUSHALL"]).text();
    assert_eq!(store.find_owner("a").await.unwrap(), None);
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(found(&store, 1).await.owner_revocations, 0);
    assert_eq!(revoked(&store, added(1)).await, None);
    assert!(!store.mark_revoked_keys().await.unwrap());
}

/// A step reads ids, and then changes their records. A dump is restored between the two.
#[tokio::test]
async fn a_step_that_comes_too_late_changes_nothing() {
    let server = redis_server!(&[
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "1000")
    ]);
    let store = started(&server).await;
    let revoke = async || {
        server.command(&["FLUSHALL"]).text();
        for number in 1..=3 {
            store
                .insert(&owned(number, "a"), &WriteOptions::new())
                .await
                .unwrap();
        }
        let revocation = left(3_000, "a");
        store
            .revoke_owner_keys("a", &revocation, &ChangeOrigin::new())
            .await
            .unwrap();
    };
    revoke().await;
    let member = format!("o86f7e437faa5a7fc{}", id(2));
    let removed = server.command(&["ZREM", "{apikey}:index", &member]).text();
    assert_eq!(removed, "1");
    mark_all(&store).await;
    assert_eq!(marked(&server), 2);
    // The call that marked two records: seven keys of the store, and theirs.
    let log = server.command(&["SLOWLOG", "GET", "-1"]);
    let commands = log.list().iter().map(|entry| entry.list()[3].list());
    let mut late = commands.filter(|words| words[0].text() == "EVALSHA" && words[2].text() == "9");
    let late = late.next().unwrap().to_vec();
    let late: Vec<&[u8]> = late.iter().map(Reply::bytes).collect();

    revoke().await;
    let answer = server.try_command(&late).unwrap();
    assert_eq!(answer.text(), "done\n1");
    assert_eq!(marked(&server), 0);
    mark_all(&store).await;
    assert_eq!(marked(&server), 3);
    for number in 1..=3 {
        assert_eq!(revoked(&store, id(number)).await, because_of(3_000, "a"));
    }
    let answer = server.try_command(&late).unwrap();
    assert_eq!(answer.text(), "done\n0", "all of it is done");
}

/// Many revocations before the first is marked are removed in steps too.
#[tokio::test]
async fn many_revocations_are_marked_in_one_pass() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=250 {
        store
            .insert(&owned(number, "a"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .revoke_owner_keys("a", &left(number as i64, "a"), &ChangeOrigin::new())
            .await
            .unwrap();
    }
    let mut steps = 1;
    while store.mark_revoked_keys().await.unwrap() {
        steps += 1;
    }
    // A pass for the first, and one for the others, which are then removed in two steps more.
    assert_eq!(steps, 3 + 3 + 2);
    for number in [1, 2, 249, 250] {
        assert_eq!(
            revoked(&store, id(number)).await,
            because_of(number as i64, "a")
        );
    }
    assert_eq!(server.command(&["EXISTS", REVOCATIONS, QUEUE]).text(), "0");
}

/// An owner whose text was broken by hand does not hold up the others.
#[tokio::test]
async fn an_owner_that_cannot_be_read_does_not_hold_up_marking() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "b"), &WriteOptions::new())
        .await
        .unwrap();
    for owner in ["a", "b"] {
        store
            .revoke_owner_keys(owner, &left(3_000, owner), &ChangeOrigin::new())
            .await
            .unwrap();
    }
    server.command(&["HSET", OWNERS, "a", "broken"]).text();
    mark_all(&store).await;
    assert_eq!(marked(&server), 1);
    server.command(&["HSET", OWNERS, "a", "2 1 0"]).text();
    assert_eq!(revoked(&store, id(1)).await, because_of(3_000, "a"));
    store
        .revoke_owner_keys("a", &left(4_000, "again"), &ChangeOrigin::new())
        .await
        .unwrap();
    mark_all(&store).await;
    assert_eq!(marked(&server), 2);
    assert_eq!(revoked(&store, id(1)).await, because_of(3_000, "a"));
}

/// Returns the longest script of each call, in microseconds: the least of some rounds, for a machine that is busy.
async fn longest(server: &RedisServer, store: &RedisStore, at: i64) -> [u64; 4] {
    let slowest = || {
        let log = server.command(&["SLOWLOG", "GET", "-1"]);
        let is_script = |entry: &&Reply| entry.list()[3].list()[0].text().starts_with("EVAL");
        let entries = log.list().iter().filter(is_script);
        let times = entries.map(|entry| entry.list()[2].text().parse::<u64>().unwrap());
        let slowest = times.max().unwrap();
        server.command(&["SLOWLOG", "RESET"]).text();
        slowest
    };
    server.command(&["SLOWLOG", "RESET"]).text();
    let revocation = left(at, "over");
    store
        .revoke_owner_keys("a", &revocation, &ChangeOrigin::new())
        .await
        .unwrap();
    let revoke = slowest();
    store
        .set_owner_suspended("a", true, &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .set_owner_suspended("a", false, &ChangeOrigin::new())
        .await
        .unwrap();
    let suspend = slowest();
    assert!(revoked(store, added(1)).await.is_some());
    let find = slowest();
    store.mark_revoked_keys().await.unwrap();
    [revoke, suspend, find, slowest()]
}

/// No script takes longer because its owner has two hundred times as many keys.
#[tokio::test]
async fn no_script_grows_with_the_size_of_the_owner() {
    let server = redis_server!(&[
        ("slowlog-log-slower-than", "0"),
        ("slowlog-max-len", "1000")
    ]);
    let store = started(&server).await;
    // Each round marks a hundred keys.
    let measured = async |keys: u64| {
        let mut least = [u64::MAX; 4];
        for round in 0..20 {
            if round % (keys / 100) == 0 {
                server.command(&["FLUSHALL"]).text();
                for start in (1..=keys).step_by(10_000) {
                    add(&server, start, keys.min(start + 9_999), "a", "");
                }
            }
            let times = longest(&server, &store, 3_000).await;
            least = std::array::from_fn(|call| least[call].min(times[call]));
        }
        least
    };
    let few = measured(200).await;
    let many = measured(40_000).await;
    println!("revoke, suspend, find, mark: {few:?} microseconds at 200 keys, {many:?} at 40,000");
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < 20 * few.max(20), "{few} and {many} microseconds");
    }
    // Negative control: what looks at each key takes longer with more of them.
    let each = async |keys: u64| {
        server.command(&["FLUSHALL"]).text();
        add(&server, 1, keys, "a", "");
        server.command(&["SLOWLOG", "RESET"]).text();
        const COUNT: &str = "local n = 0 \
            for _, id in ipairs(redis.call('ZRANGE', '{apikey}:index', 0, -1)) do n = n + #id end return n";
        server.command(&["EVAL", COUNT, "0"]).text();
        let log = server.command(&["SLOWLOG", "GET", "1"]);
        log.list()[0].list()[2].text().parse::<u64>().unwrap()
    };
    let (few, many) = (each(200).await, each(20_000).await);
    assert!(many > 20 * few.max(20), "{few} and {many} microseconds");
}

#[tokio::test]
async fn a_list_of_unmarked_keys_is_right_on_every_page() {
    let server = redis_server!();
    let store = started(&server).await;
    add(&server, 1, 250, "a", "");
    store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await
        .unwrap();
    let page = store.list(&ListQuery::first(1_000)).await.unwrap();
    assert_eq!(page.records.len(), 250);
    assert!(page.records.iter().all(|record| {
        let revoked = record.revoked.as_ref();
        revoked.is_some_and(|revocation| revocation.at == at(3_000))
            && record
                .owner_state
                .is_some_and(|state| state.revocations == 1)
    }));
}

/// A number that was raised by hand is not counted up to, step by step.
#[tokio::test]
async fn a_jump_of_the_number_by_hand_is_marked_in_a_few_steps() {
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke_owner_keys("a", &left(3_000, "first"), &ChangeOrigin::new())
        .await
        .unwrap();
    server.command(&["HSET", OWNERS, "a", "3 1000000 0"]).text();
    store
        .revoke_owner_keys("a", &left(4_000, "second"), &ChangeOrigin::new())
        .await
        .unwrap();
    let state = store.find_owner("a").await.unwrap().unwrap();
    assert_eq!(state.revocations, 1_000_001);
    let mut steps = 1;
    while store.mark_revoked_keys().await.unwrap() {
        steps += 1;
        assert!(steps < 10, "it counts up to the number");
    }
    assert_eq!(revoked(&store, id(1)).await, because_of(3_000, "first"));
    assert_eq!(server.command(&["EXISTS", REVOCATIONS, QUEUE]).text(), "0");
}

/// A number that has as many digits as can be read is not raised.
#[tokio::test]
async fn a_number_that_could_not_be_read_is_not_written() {
    const LARGEST: &str = "1 999999999999999999 0";
    let server = redis_server!();
    let store = started(&server).await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    server.command(&["HSET", OWNERS, "a", LARGEST]).text();
    let before = cursor(&store).await;
    let refused = store
        .revoke_owner_keys("a", &left(3_000, "a"), &ChangeOrigin::new())
        .await;
    assert!(
        matches!(
            refused,
            Err(apikey_runtime::store::StoreError::Corrupt { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(server.command(&["HGET", OWNERS, "a"]).text(), LARGEST);
    assert_eq!(server.command(&["EXISTS", REVOCATIONS, QUEUE]).text(), "0");
    assert_eq!(cursor(&store).await, before);
}
