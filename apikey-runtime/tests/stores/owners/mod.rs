//! Owners in a file: what an operator's statements may do, and what processes that share it do at once.

mod by_hand;
mod marking;
mod refused;
mod upgrade;

use apikey_runtime::store::{
    ChangeLog, ChangeSet, ChangedItem, Cursor, KeyPatch, OwnerRevocation, OwnerState, OwnerStore,
    WriteOptions,
};
use apikey_runtime::{KeyRecord, KeyStore, SqliteStore};
use sqlx::SqliteConnection;

use crate::{Place, at, id, owned};

async fn cursor(store: &SqliteStore) -> Cursor {
    store.changes(None, None).await.unwrap().cursor
}

/// Returns the items of the log since `since`.
async fn logged(store: &SqliteStore, since: &Cursor) -> Vec<ChangedItem> {
    match store.changes(Some(since), None).await.unwrap().set {
        ChangeSet::Entries(items) => items,
        ChangeSet::Resync => panic!("the cursor is unknown"),
    }
}

async fn found(store: &SqliteStore, number: u128) -> KeyRecord {
    store.find(&id(number)).await.unwrap().unwrap()
}

async fn state(store: &SqliteStore, owner: &str) -> OwnerState {
    store.find_owner(owner).await.unwrap().unwrap()
}

fn leaving(at_millis: i64, reason: &str) -> OwnerRevocation {
    OwnerRevocation::new(at(at_millis)).with_reason(Some(reason.to_owned()))
}

fn changed(owner: &str, state: OwnerState) -> ChangedItem {
    ChangedItem::Owner {
        owner: owner.to_owned(),
        state,
    }
}

async fn mark_all(store: &SqliteStore) {
    while store.mark_revoked_keys().await.unwrap() {}
}

/// Moves a key to another owner.
async fn give(store: &SqliteStore, number: u128, owner: Option<&str>) {
    let mut patch = KeyPatch::new();
    patch.owner = Some(owner.map(str::to_owned));
    store
        .update(&id(number), &patch, &WriteOptions::new())
        .await
        .unwrap();
}

/// Creates a store with two keys of `a` and one of `b`, and a tool on its file.
async fn stocked() -> (Place, SqliteStore, SqliteConnection) {
    let place = Place::new();
    let store = place.store().await;
    for (number, owner) in (1..).zip(["a", "a", "b"]) {
        store
            .insert(&owned(number, owner), &WriteOptions::new())
            .await
            .unwrap();
    }
    let tool = place.tool().await;
    (place, store, tool)
}
