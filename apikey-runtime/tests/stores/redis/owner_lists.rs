//! Lists of owners.

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{OwnerQuery, OwnerState, OwnerStore, WriteOptions};

use super::{redis_server, started};
use crate::owned;
use crate::owner_lists::names;

const OWNERS: &str = "{apikey}:owners";
const INDEX: &str = "{apikey}:index";
const META: &str = "{apikey}:meta";

#[tokio::test]
async fn owners_of_an_older_release_are_listed_after_the_next_start() {
    let server = redis_server!();
    let store = started(&server).await;
    // As a release before this one adds them.
    const ADD: &str = "for i = 1, 1200 do \
        redis.call('HSET', KEYS[1], string.format('owner %04d', i), i % 2 == 0 and '2 0 1' or '1 0 0') end return 'OK'";
    assert_eq!(server.command(&["EVAL", ADD, "1", OWNERS]).text(), "OK");
    let new = owned(1, "owner 0700 b");
    store.insert(&new, &WriteOptions::new()).await.unwrap();
    let all = OwnerQuery::first(1_000);
    // Negative control: nothing has added their entries yet.
    let listed = store.list_owners(&all).await.unwrap();
    assert_eq!(names(&listed.owners), ["owner 0700 b"]);
    store.stop().await;

    let store = started(&server).await;
    let first = store.list_owners(&all).await.unwrap();
    let rest = all.clone().after(first.next.clone());
    let rest = store.list_owners(&rest).await.unwrap();
    assert_eq!((first.owners.len(), rest.owners.len()), (1_000, 201));
    assert_eq!(rest.next, None);
    let suspended = OwnerState::new().with_version(2).with_suspended(true);
    let found = OwnerQuery::first(9).starting_with("owner 070");
    let found = store.list_owners(&found).await.unwrap().owners;
    assert_eq!((&*found[0].name, found[0].state), ("owner 0700", suspended));
    assert_eq!(names(&found[1..3]), ["owner 0700 b", "owner 0701"]);
    store.stop().await;

    // Another start reads the number of owners, and not the owners.
    server.command(&["CONFIG", "RESETSTAT"]);
    started(&server).await.stop().await;
    let stats = server.command(&["INFO", "commandstats"]).text();
    assert!(!stats.contains("cmdstat_hscan"), "{stats}");
}

/// A process of an older release indexes a record, and adds nothing for its owner.
#[tokio::test]
async fn owners_of_records_of_an_older_release_are_listed_after_the_next_start() {
    let server = redis_server!();
    let store = started(&server).await;
    for number in 1..=250 {
        let record = owned(number, &format!("owner {number:03}"));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let origin = ChangeOrigin::new();
    let suspended = store.set_owner_suspended("owner 007", true, &origin);
    assert!(suspended.await.unwrap().1);
    store.stop().await;
    server.command(&["ZREMRANGEBYLEX", INDEX, "[p", "(q"]);
    for number in (1..=250).filter(|number| *number != 7) {
        server.command(&["HDEL", OWNERS, &format!("owner {number:03}")]);
    }
    // Negative control: the pass was made before.
    let store = started(&server).await;
    let all = OwnerQuery::first(1_000);
    let listed = store.list_owners(&all).await.unwrap().owners;
    assert_eq!(names(&listed), ["owner 007"]);
    store.stop().await;

    server.command(&["HDEL", META, "owners"]);
    let store = started(&server).await;
    let listed = store.list_owners(&all).await.unwrap().owners;
    assert_eq!(listed.len(), 250);
    let is_suspended = |place: usize| listed[place].state.suspended;
    assert_eq!((is_suspended(5), is_suspended(6)), (false, true));
}

#[tokio::test]
async fn an_owner_whose_text_is_broken_does_not_hide_others() {
    let server = redis_server!();
    let store = started(&server).await;
    for (number, owner) in (1..).zip(["a", "b", "c"]) {
        let options = WriteOptions::new();
        store.insert(&owned(number, owner), &options).await.unwrap();
    }
    server.command(&["HSET", OWNERS, "b", "broken"]);
    let page = store.list_owners(&OwnerQuery::first(2)).await.unwrap();
    assert_eq!(names(&page.owners), ["a"]);
    assert_eq!(page.unreadable, ["b"]);
    let next = OwnerQuery::first(2).after(page.next);
    let page = store.list_owners(&next).await.unwrap();
    assert_eq!(names(&page.owners), ["c"]);
}
