//! Rows of owners: their names, old snapshots, removal, replication, and the upgrade that makes them.

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{ChangeSet, OwnerState, OwnerStore, StoreError, WriteOptions};
use sqlx::PgConnection;

use super::bulk::add;
use super::owners_by_hand::{item, refusal, state};
use super::{Place, cursor, for_reason, history, mark, number, owned_as_read, place, run};
use crate::{id, owned};

/// Owners whose names look like something else.
fn odd_names() -> Vec<String> {
    let bytes: String = (1..=127_u8).map(char::from).collect();
    let mut names: Vec<String> = [
        "0000000000000000000001",
        "acme",
        "ACME",
        "Acme",
        "acme ",
        " acme",
        "a%",
        "a_",
        "%",
        "o'wner",
        "o\"w`ner",
        "'; DROP TABLE api_keys; --",
        "a\nb",
        "a\\b",
        "\t",
        "~",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "İ",
        "i",
        "\u{1F511}",
        "all",
        "member",
        "owner",
        "NULL",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(format!("{bytes}{bytes}xy"));
    names.push("\u{10FFFF}".repeat(64));
    // Equal in the part that the index holds.
    names.extend(["b", "c"].map(|end| "a".repeat(255) + end));
    names
}

#[tokio::test]
async fn an_owner_is_any_text_and_compared_byte_for_byte() {
    let place = place!();
    let store = place.started().await;
    let names = odd_names();
    for (name, key) in names.iter().zip(1..) {
        store
            .insert(&owned(key, name), &WriteOptions::new())
            .await
            .unwrap();
    }
    let since = cursor(&store).await;
    let mut expected = Vec::new();
    for (name, key) in names.iter().zip(1..) {
        store
            .revoke_owner_keys(name, &for_reason(key, name), &ChangeOrigin::new())
            .await
            .unwrap();
        let after = store.find_owner(name).await.unwrap().unwrap();
        assert_eq!(after, state(2, 1), "{name:?}");
        expected.push(item(name, after));
        if key % 2 == 0 {
            mark(&store).await;
        }
        for (other, number) in names.iter().zip(1..) {
            let found = store.find(&id(number)).await.unwrap().unwrap();
            let number = i64::try_from(number).unwrap();
            assert_eq!(
                found.revoked.is_some(),
                number <= key,
                "{other:?} after {name:?}"
            );
            let reason = found.revoked.and_then(|revoked| revoked.reason);
            assert!(number > key || reason.as_ref() == Some(other));
        }
    }
    assert_eq!(history(&store, &since).await, ChangeSet::Entries(expected));
    assert!(matches!(
        store.find_owner("\0").await,
        Err(StoreError::InvalidArgument(_))
    ));
}

/// A transaction with an old snapshot fails: it must not give a key the number of its snapshot.
#[tokio::test]
async fn a_key_takes_no_number_from_an_old_snapshot() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store
        .insert(&owned(2, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let insert = |owner: &str| {
        format!(
            "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version) \
             VALUES ('0000000000000000000009', 'p', 'l', '{owner}', 'd', '', '{{}}', 0, TRUE, 1)"
        )
    };
    let changes = [
        insert("a"),
        insert("new"),
        "UPDATE api_keys SET owner = 'a' WHERE id LIKE '%2'".to_owned(),
        "UPDATE api_keys SET owner = 'b' WHERE id LIKE '%1'".to_owned(),
    ];
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        for (change, number) in changes.iter().zip(10_u128..) {
            let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM api_keys");
            run(&mut tool, &begin).await.unwrap();
            let new = format!(
                "new{}",
                if isolation == "SERIALIZABLE" {
                    " too"
                } else {
                    ""
                }
            );
            let change = change.replace("new", &new);
            if change.contains("new") {
                store
                    .insert(
                        &owned(number + u128::from(isolation == "SERIALIZABLE"), &new),
                        &WriteOptions::new(),
                    )
                    .await
                    .unwrap();
            }
            store
                .revoke_owner_keys("a", &for_reason(1, "lost"), &ChangeOrigin::new())
                .await
                .unwrap();
            let message = refusal(&mut tool, &change).await;
            assert!(message.starts_with("40001"), "{change}: {message}");
        }
    }
    // Without a change in between, it commits.
    run(
        &mut tool,
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM api_keys",
    )
    .await
    .unwrap();
    run(&mut tool, &(insert("a") + "; COMMIT")).await.unwrap();
    assert_eq!(store.find(&id(9)).await.unwrap().unwrap().revoked, None);
}

/// Removing an owner without keys starts its version over: nodes drop what they know of it.
#[tokio::test]
async fn after_the_removal_of_an_owner_nodes_drop_their_cache() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    for removal in ["DELETE FROM api_key_owners", "TRUNCATE api_key_owners"] {
        store
            .insert(&owned(1, "a"), &WriteOptions::new())
            .await
            .unwrap();
        store
            .revoke_owner_keys("a", &for_reason(1, "lost"), &ChangeOrigin::new())
            .await
            .unwrap();
        let since = cursor(&store).await;
        run(&mut tool, "TRUNCATE api_keys").await.unwrap();
        assert_eq!(
            store.find_owner("a").await.unwrap(),
            Some(state(2, 1)),
            "it stays"
        );
        assert_eq!(history(&store, &since).await, ChangeSet::Resync);
        let since = cursor(&store).await;
        run(&mut tool, removal).await.unwrap();
        assert_eq!(
            history(&store, &since).await,
            ChangeSet::Resync,
            "{removal}"
        );
        store
            .insert(&owned(1, "a"), &WriteOptions::new())
            .await
            .unwrap();
        let found = store.find(&id(1)).await.unwrap();
        assert_eq!(
            found,
            Some(owned_as_read(1, "a")),
            "an old revocation does not revoke it"
        );
        run(
            &mut tool,
            "DELETE FROM api_keys; DELETE FROM api_key_owners",
        )
        .await
        .unwrap();
    }
    // A row that says something from the beginning is logged.
    let since = cursor(&store).await;
    let quiet = "INSERT INTO api_key_owners (owner) VALUES ('quiet')";
    run(&mut tool, quiet).await.unwrap();
    let loud = "INSERT INTO api_key_owners (owner, suspended) VALUES ('loud', TRUE)";
    run(&mut tool, loud).await.unwrap();
    let logged = ChangeSet::Entries(vec![item("loud", OwnerState::new().with_suspended(true))]);
    assert_eq!(history(&store, &since).await, logged);
}

/// What runs as a replica is filled and logged too.
#[tokio::test]
async fn a_session_of_replication_fills_numbers_and_logs_owners() {
    let place = place!();
    let store = place.started().await;
    let mut tool = place.tool().await;
    run(&mut tool, "SET session_replication_role = replica")
        .await
        .unwrap();
    add(&mut tool, 1, 1, "'a'", "NULL").await;
    let since = cursor(&store).await;
    run(
        &mut tool,
        "UPDATE api_key_owners SET revocations = 1, suspended = TRUE",
    )
    .await
    .unwrap();
    let now = state(2, 1).with_suspended(true);
    assert_eq!(
        history(&store, &since).await,
        ChangeSet::Entries(vec![item("a", now)])
    );
    // What it copies has its publisher's number; one that is higher than the owner's would never be
    // revoked.
    run(
        &mut tool,
        "INSERT INTO api_keys (id, prefix, label, owner, digest, scopes, metadata, created_at, enabled, version, \
            owner_revocations) \
         SELECT lpad(i::text, 22, '0'), 'p', 'l', 'a', 'd', '', '{}', 0, TRUE, 1, 15 - 5 * i FROM generate_series(2, 3) AS i",
    )
    .await
    .unwrap();
    let found = store.find(&id(2)).await.unwrap().unwrap();
    assert_eq!((found.owner_revocations, found.revoked), (1, None));
    let found = store.find(&id(3)).await.unwrap().unwrap();
    assert!(found.owner_revocations == 0 && found.revoked.is_some());
    // A subscription writes its publisher's number with each update.
    run(
        &mut tool,
        "UPDATE api_keys SET owner_revocations = 5, label = 'x'",
    )
    .await
    .unwrap();
    for (key, number) in [(1, 0), (2, 1), (3, 0)] {
        let found = store.find(&id(key)).await.unwrap().unwrap();
        assert_eq!(
            (found.label.as_str(), found.owner_revocations),
            ("x", number)
        );
    }
    // Negative control.
    run(
        &mut tool,
        "ALTER TABLE api_key_owners ENABLE TRIGGER api_key_owners_changed",
    )
    .await
    .unwrap();
    let since = cursor(&store).await;
    run(&mut tool, "UPDATE api_key_owners SET suspended = FALSE")
        .await
        .unwrap();
    assert_eq!(
        history(&store, &since).await,
        ChangeSet::Entries(Vec::new())
    );
}

/// The tables of the release before, with keys.
async fn older(place: &Place<'_>) -> PgConnection {
    let mut tool = place.tool().await;
    for migration in [
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        include_str!("../../../src/store/postgres/migrations/0101_limit_counters.sql"),
        include_str!("../../../src/store/postgres/migrations/0102_change_log.sql"),
        "UPDATE api_key_meta SET schema_version = 102; \
         INSERT INTO api_key_nodes (id) VALUES ('0000000000000000000001')",
    ] {
        run(&mut tool, migration).await.unwrap();
    }
    tool
}

#[tokio::test]
async fn tables_of_the_release_before_are_brought_up_to_date_with_their_owners() {
    let place = place!();
    let mut tool = older(&place).await;
    let owner =
        "CASE i WHEN 1 THEN NULL WHEN 2 THEN 'o''wner' WHEN 3 THEN repeat('x', 2000) ELSE 'a' END";
    add(&mut tool, 1, 100, owner, "NULL").await;
    let logged = number(&mut tool, "SELECT max(epoch) FROM api_key_changes").await;
    let store = place.started().await;
    assert_eq!(
        cursor(&store).await.epoch,
        logged.unsigned_abs(),
        "it is no change"
    );
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_owners").await,
        3
    );
    assert_eq!(store.find(&id(1)).await.unwrap().unwrap().owner_state, None);
    assert_eq!(
        number(
            &mut tool,
            "SELECT required_protocol::bigint FROM api_key_meta"
        )
        .await,
        2
    );
    assert_eq!(
        number(&mut tool, "SELECT protocol::bigint FROM api_key_nodes").await,
        1
    );
    // An owner that was written by hand, longer than any from now on, can be changed all the same.
    for (key, owner) in [(2, "o'wner"), (3, &*"x".repeat(2000)), (4, "a")] {
        let found = store.find(&id(key)).await.unwrap().unwrap();
        assert_eq!(found.owner_state, Some(state(1, 0)));
        let after = store
            .revoke_owner_keys(owner, &for_reason(1, "lost"), &ChangeOrigin::new())
            .await;
        assert_eq!(after.unwrap(), state(2, 1));
        assert!(
            store
                .find(&id(key))
                .await
                .unwrap()
                .unwrap()
                .revoked
                .is_some()
        );
    }
    assert_eq!(mark(&store).await, 3);
    let live = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL";
    assert_eq!(number(&mut tool, live).await, 1);

    let other = Place::on(place.server).await;
    let mut tool = older(&other).await;
    add(&mut tool, 1, 1, "repeat(md5('x'), 100)", "NULL").await;
    let error = other.store().start().await.unwrap_err();
    let error = super::secrets::whole(&error);
    assert!(error.contains("more than 2600 bytes"), "{error}");
    run(&mut tool, "UPDATE api_keys SET owner = 'short'")
        .await
        .unwrap();
    other.started().await;
}
