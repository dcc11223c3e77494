//! What no statement may do.

use apikey_runtime::KeyStore;
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    ChangeLog, ChangeSet, KeyPatch, ListQuery, ListRange, OwnerState, OwnerStore, StoreError,
    WriteOptions,
};

use super::{changed, cursor, found, leaving, logged, mark_all, stocked};
use crate::{Place, id, number, owned, record, run};

/// Statements that would bring a dead key back, or hide what was revoked.
const REFUSED: [&str; 20] = [
    "UPDATE api_keys SET owner_revocations = 1 WHERE id LIKE '%1'",
    "UPDATE api_keys SET owner_revocations = 7",
    "UPDATE OR REPLACE api_keys SET owner_revocations = 1",
    "UPDATE OR IGNORE api_keys SET owner_revocations = 1 WHERE id LIKE '%1'",
    "UPDATE api_keys SET owner = owner, owner_revocations = 1 WHERE id LIKE '%1'",
    "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%1'",
    "REPLACE INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
     VALUES ('0000000000000000000001', 'p', 'l', 'd', '', '{}', 0, 1, 1)",
    "INSERT INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%1' ON CONFLICT (id) DO UPDATE SET owner_revocations = 1",
    "UPDATE api_key_owners SET revocations = 0",
    "UPDATE api_key_owners SET revocations = revocations - 1, version = version + 1 WHERE owner = 'a'",
    "UPDATE api_key_owners SET version = 1, suspended = 1 WHERE owner = 'a'",
    "UPDATE api_key_owners SET owner = 'c' WHERE owner = 'a'",
    "UPDATE OR REPLACE api_key_owners SET owner = 'a' WHERE owner = 'b'",
    "UPDATE api_key_owners SET owner = 'A' WHERE owner = 'a'",
    "INSERT INTO api_key_owners (owner) VALUES ('a')",
    "INSERT OR REPLACE INTO api_key_owners (owner) VALUES ('a')",
    "INSERT OR REPLACE INTO api_key_owners (owner, version, revocations) VALUES ('a', 9, 9)",
    "DELETE FROM api_key_owners WHERE owner = 'a'",
    "DELETE FROM api_key_owners",
    "DELETE FROM api_key_owner_revocations",
];

#[tokio::test]
async fn no_statement_by_hand_brings_a_dead_key_back() {
    let (_place, store, mut tool) = stocked().await;
    let left = leaving(5_000, "left");
    let state = store
        .revoke_owner_keys("a", &left, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    for recursive in [
        "PRAGMA recursive_triggers = OFF",
        "PRAGMA recursive_triggers = ON",
    ] {
        run(&mut tool, recursive).await.unwrap();
        for statement in REFUSED {
            let message = run(&mut tool, statement)
                .await
                .expect_err(statement)
                .to_string();
            let causes = [
                "create a new key",
                "create new keys",
                "update it",
                "delete them",
                "still to be marked",
            ];
            assert!(
                causes.iter().any(|cause| message.contains(cause)),
                "{statement}: {message}"
            );
            let key = found(&store, 1).await;
            assert_eq!(
                (key.owner_state, key.revoked),
                (Some(state), Some(left.of_key())),
                "{statement}"
            );
        }
    }
    assert_eq!(cursor(&store).await, since);
    for statement in [
        "UPDATE api_key_owners SET suspended = 2",
        "UPDATE api_key_owners SET version = version + 1001",
        "UPDATE api_key_owners SET revocations = revocations + 1001",
        "INSERT INTO api_key_owners (owner, revocations) VALUES ('big', 1001)",
        "UPDATE api_key_owners SET revocations = 'x'",
        "INSERT INTO api_key_owners (owner, revocations) VALUES ('c', -1)",
        "INSERT INTO api_key_owner_revocations (owner, number, at) VALUES ('c', 0, 1)",
    ] {
        run(&mut tool, statement).await.expect_err(statement);
    }
}

/// Negative control: each refusal is a trigger's.
#[tokio::test]
async fn without_the_triggers_these_statements_bring_keys_back() {
    for (trigger, statement) in [
        (
            "api_keys_number_kept",
            "UPDATE api_keys SET owner_revocations = 1 WHERE id LIKE '%1'",
        ),
        (
            "api_keys_revoked_not_replaced",
            "INSERT OR REPLACE INTO api_keys SELECT * FROM api_keys WHERE id LIKE '%1'",
        ),
        (
            "api_key_owners_kept",
            "UPDATE api_key_owners SET revocations = 0",
        ),
        (
            "api_key_owners_not_replaced",
            "INSERT OR REPLACE INTO api_key_owners (owner) VALUES ('a')",
        ),
        ("api_key_owners_named", "DELETE FROM api_key_owners"),
    ] {
        let (_place, store, mut tool) = stocked().await;
        store
            .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
            .await
            .unwrap();
        let drop = format!("DROP TRIGGER {trigger}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop))
            .execute(&mut tool)
            .await
            .unwrap();
        run(&mut tool, statement).await.unwrap();
        assert_eq!(found(&store, 1).await.revoked, None, "{trigger}");
    }
}

/// The last statement that deletes an owner's row makes nodes forget its version.
#[tokio::test]
async fn an_owner_without_keys_can_be_deleted_and_nodes_forget_it() {
    let (_place, store, mut tool) = stocked().await;
    store
        .revoke_owner_keys("b", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    store
        .set_owner_suspended("b", true, &ChangeOrigin::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    run(&mut tool, "DELETE FROM api_keys WHERE owner = 'b'")
        .await
        .unwrap();
    assert!(
        store.find_owner("b").await.unwrap().is_some(),
        "it stays without keys"
    );
    run(&mut tool, "DELETE FROM api_key_owners WHERE owner = 'b'")
        .await
        .unwrap();
    let changes = store.changes(Some(&since), None).await.unwrap();
    assert_eq!(changes.set, ChangeSet::Resync);
    assert_eq!(
        number(&mut tool, "SELECT count(*) FROM api_key_owner_revocations").await,
        0
    );
    store
        .insert(&owned(3, "b"), &WriteOptions::new())
        .await
        .unwrap();
    let key = found(&store, 3).await;
    assert_eq!(
        (key.owner_state, key.revoked),
        (Some(OwnerState::new()), None)
    );
}

/// An owner is any text: that of a key id, of 256 bytes, and of characters that a statement or a log may
/// take for its own.
#[tokio::test]
async fn an_owner_is_any_text_of_256_bytes_and_is_compared_byte_for_byte() {
    let place = Place::new();
    let store = place.store().await;
    let longest = [
        "x".repeat(256),
        "é".repeat(128),
        "🔑".repeat(64),
        "\u{0}".repeat(256),
    ];
    let mut owners = vec![
        id(1).to_string(),
        "acme".into(),
        "Acme".into(),
        "acme ".into(),
        "acme\u{0}".into(),
        "acme\u{0}b".into(),
        "é".into(),
        "e\u{301}".into(),
        "İ".into(),
        String::new(),
        "~".into(),
        "'; DROP TABLE api_keys; --".into(),
        "\"".into(),
        "\n\r\t".into(),
        "%_*?[a]".into(),
        "\u{feff}\u{202e}\u{10ffff}".into(),
        "{ns}:owners".into(),
        "NULL".into(),
    ];
    owners.extend(longest);
    for (number, owner) in (1..).zip(&owners) {
        store
            .insert(&owned(number, owner), &WriteOptions::new())
            .await
            .unwrap();
    }
    let count = owners.len() as u128;
    for (number, owner) in (1..).zip(&owners) {
        let since = cursor(&store).await;
        let suspended = OwnerState::new().with_version(2).with_suspended(true);
        assert_eq!(
            store
                .set_owner_suspended(owner, true, &ChangeOrigin::new())
                .await
                .unwrap(),
            (suspended, true)
        );
        let state = store
            .revoke_owner_keys(owner, &leaving(5_000, owner), &ChangeOrigin::new())
            .await
            .unwrap();
        assert_eq!(
            state,
            suspended.with_version(3).with_revocations(1),
            "{owner:?}"
        );
        let item = changed(owner, state);
        assert_eq!(
            logged(&store, &since).await,
            [item.clone(), item],
            "{owner:?}"
        );
        for other in 1..=count {
            let key = found(&store, other).await;
            assert_eq!(
                key.revoked.is_some(),
                other <= number,
                "{owner:?}: {:?}",
                key.owner
            );
            assert_eq!(key.owner_state.unwrap().suspended, other <= number);
        }
    }
    mark_all(&store).await;
    for (number, owner) in (1..).zip(&owners) {
        let key = found(&store, number).await;
        assert_eq!(
            key.revoked,
            Some(leaving(5_000, owner).of_key()),
            "{owner:?}"
        );
        let of_owner = ListQuery::of(ListRange::Owner(owner.clone()), 10);
        assert_eq!(store.list(&of_owner).await.unwrap().records, [key]);
    }
    assert_eq!(store.find_owner("acm").await.unwrap(), None);
    for unknown in ["", "nobody"] {
        let place = Place::new();
        let store = place.store().await;
        let missing = store
            .revoke_owner_keys(unknown, &leaving(1, "x"), &ChangeOrigin::new())
            .await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
        let missing = store
            .set_owner_suspended(unknown, false, &ChangeOrigin::new())
            .await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
    }

    let long = store
        .insert(&owned(500, &"x".repeat(257)), &WriteOptions::new())
        .await
        .unwrap_err();
    assert!(matches!(&long, StoreError::InvalidArgument(_)), "{long:?}");
    assert!(long.to_string().contains("at most 256 bytes"), "{long}");
    let mut patch = KeyPatch::new();
    patch.owner = Some(Some("é".repeat(129)));
    let long = store.update(&id(1), &patch, &WriteOptions::new()).await;
    assert!(
        long.is_ok(),
        "a key that its owner revoked stays with it: {long:?}"
    );
    store
        .insert(&record(501), &WriteOptions::new())
        .await
        .unwrap();
    let long = store
        .update(&id(501), &patch, &WriteOptions::new())
        .await
        .unwrap_err();
    assert!(long.to_string().contains("at most 256 bytes"), "{long}");
    assert_eq!(found(&store, 501).await.owner, None);
}

/// Such a text is not one for this process: it costs that owner only.
#[tokio::test]
async fn an_owner_that_is_not_utf8_stops_no_other() {
    let (_place, store, mut tool) = stocked().await;
    let broken = "UPDATE api_keys SET owner = CAST(x'2fff' AS TEXT) WHERE id LIKE '%2'";
    run(&mut tool, broken).await.unwrap();
    let since = cursor(&store).await;
    store
        .revoke_owner_keys("a", &leaving(5_000, "left"), &ChangeOrigin::new())
        .await
        .unwrap();
    let revoked = "UPDATE api_key_owners SET revocations = 1 WHERE owner = CAST(x'2fff' AS TEXT)";
    run(&mut tool, revoked).await.unwrap();
    let changes = store.changes(Some(&since), None).await.unwrap();
    assert_eq!(changes.set, ChangeSet::Resync);
    mark_all(&store).await;
    let marked = "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL";
    assert_eq!(number(&mut tool, marked).await, 2);
    assert!(found(&store, 1).await.revoked.is_some());
}
