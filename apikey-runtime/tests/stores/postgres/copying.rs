//! Copies to and from a file.

use std::sync::Arc;

use apikey_runtime::store::{
    CopyItems, CopyOutcome, ListedOwner, OwnerState, OwnerStore, StoreCopy,
};
use apikey_runtime::{KeyRecord, KeyStore, PostgresStore, conformance};

use super::{Place, place, run, server, until_waiting};
use crate::copying::in_file;
use crate::{because, id, record};

#[tokio::test]
async fn a_database_is_copied_to_a_file_and_back() {
    let Some(server) = server() else { return };
    let files = crate::Place::new();
    let in_database = || async {
        let place = Place::on(server).await;
        Arc::new(PostgresStore::new(place.url())) as Arc<dyn KeyStore>
    };
    conformance::copy_between(in_database, || async { in_file(&files) }).await;
    conformance::copy_between(|| async { in_file(&files) }, in_database).await;
}

/// Writes a page while `change` is not committed yet: what the page was compared with is changed before it is written.
async fn written_beside(place: &Place<'_>, change: &str, items: CopyItems) -> CopyOutcome {
    let store = Arc::new(PostgresStore::new(place.url()));
    store.start().await.unwrap();
    let mut tool = place.tool().await;
    run(&mut tool, &format!("BEGIN; {change}")).await.unwrap();
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.write_copy(&items).await })
    };
    until_waiting(place, &mut tool, 1).await;
    run(&mut tool, "COMMIT").await.unwrap();
    writing.await.unwrap().unwrap()
}

/// The record gets the version that a revoked one would have had.
#[tokio::test]
async fn a_key_that_is_changed_at_the_moment_of_a_copy_is_revoked() {
    let place = place!();
    let store = place.started().await;
    let keys = |record: KeyRecord| CopyItems::Keys(vec![record]);
    store.write_copy(&keys(record(1))).await.unwrap();
    let mut revoked = record(1);
    revoked.revoked = Some(because("lost"));
    let change = "UPDATE api_keys SET label = 'another', version = version + 1";
    let outcome = written_beside(&place, change, keys(revoked)).await;
    assert_eq!(outcome.revoked, [id(1).to_string()]);
    let found = store.find(&id(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked, Some(because("lost")));
    assert_eq!(found.label, "another");
    assert_eq!(found.version, record(1).version + 2);
}

#[tokio::test]
async fn an_owner_that_is_changed_at_the_moment_of_a_copy_is_revoked() {
    let place = place!();
    let store = place.started().await;
    let owners = |state| CopyItems::Owners(vec![ListedOwner::new("a", state)]);
    store.write_copy(&owners(OwnerState::new())).await.unwrap();
    let change = "UPDATE api_key_owners SET suspended = TRUE, version = version + 1";
    let copied = OwnerState::new().with_revocations(2);
    let outcome = written_beside(&place, change, owners(copied)).await;
    assert_eq!(outcome.revoked, ["the owner \"a\""]);
    let found = store.find_owner("a").await.unwrap().unwrap();
    let expected = OwnerState::new().with_suspended(true).with_revocations(2);
    assert_eq!(found, expected.with_version(copied.version + 2));
}
