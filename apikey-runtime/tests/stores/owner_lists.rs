//! Lists of owners in a file.

use apikey_runtime::store::{ListedOwner, OwnerQuery, OwnerState, OwnerStore, WriteOptions};
use apikey_runtime::{KeyStore, SqliteStore};

use crate::{Place, owned, run};

/// Returns the names of a page.
pub(crate) fn names(owners: &[ListedOwner]) -> Vec<&str> {
    owners.iter().map(|owner| &*owner.name).collect()
}

#[tokio::test]
async fn an_owner_that_cannot_be_read_does_not_hide_others() {
    let place = Place::new();
    let store = place.store().await;
    for (number, owner) in (1..).zip(["a", "b", "c", "d"]) {
        let options = WriteOptions::new();
        store.insert(&owned(number, owner), &options).await.unwrap();
    }
    let mut tool = place.tool().await;
    let damage = "PRAGMA ignore_check_constraints = ON; \
        DROP TRIGGER api_key_owners_kept; \
        UPDATE api_key_owners SET version = -1 WHERE owner = 'b'; \
        INSERT INTO api_key_owners (owner) VALUES (CAST(x'63ff' AS TEXT))";
    run(&mut tool, damage).await.unwrap();
    let all = store.list_owners(&OwnerQuery::first(10)).await.unwrap();
    assert_eq!(names(&all.owners), ["a", "c", "d"]);
    assert_eq!(all.unreadable, ["b", "c\u{fffd}"]);
    assert_eq!(all.owners[0].state, OwnerState::new());
    // The pages go on after them.
    let (mut listed, mut next) = (Vec::new(), None);
    loop {
        let query = OwnerQuery::first(2).after(next);
        let page = store.list_owners(&query).await.unwrap();
        listed.extend(page.owners);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(names(&listed), ["a", "c", "d"]);
}

/// The order is that of the encoding: each owner is listed once, and found by its beginning.
#[tokio::test]
async fn a_file_in_utf16_lists_each_owner_once() {
    for encoding in [
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE application (id INTEGER)",
        "PRAGMA encoding = 'UTF-16be'; CREATE TABLE application (id INTEGER)",
    ] {
        let place = Place::new();
        std::fs::write(place.file(), "").unwrap();
        run(&mut place.tool().await, encoding).await.unwrap();
        let store: SqliteStore = place.store().await;
        let owners = [
            "a",
            "ab",
            "aé",
            "a\u{fffd}",
            "a\u{10ffff}",
            "b",
            "Ābc",
            "\u{10ffff}",
        ];
        for (number, owner) in (1..).zip(owners) {
            let options = WriteOptions::new();
            store.insert(&owned(number, owner), &options).await.unwrap();
        }
        for (beginning, count) in [("", 8), ("a", 5), ("ab", 1), ("a\u{10ffff}", 1), ("x", 0)] {
            let (mut listed, mut next) = (Vec::new(), None);
            for _ in 0..10 {
                let query = OwnerQuery::first(2).starting_with(beginning).after(next);
                let page = store.list_owners(&query).await.unwrap();
                listed.extend(page.owners);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            let mut found = names(&listed);
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), count, "{beginning:?}: {listed:?}");
            assert_eq!(listed.len(), count, "{beginning:?}: {listed:?}");
        }
    }
}
