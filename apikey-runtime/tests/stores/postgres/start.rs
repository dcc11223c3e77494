//! Starting: many at once, on existing tables, and with settings that cannot work.

use std::process::{Command, Stdio};

use apikey_runtime::store::{
    ChangeLog, ChangeSet, ChangedItem, Charge, KeyPatch, LimitCounter, LimitStore, ListQuery,
    ListRange, Membership, StoreError, WriteOptions,
};
use apikey_runtime::{KeyStore, PostgresStore, Quota};

use super::secrets::whole;
use super::{Place, connection, cursor, number, owned_as_read, place, run, server};
use crate::warnings::Warnings;
use crate::{because, id, owned, record};

#[test]
fn ten_stores_that_start_at_once_make_the_tables_once() {
    let Some(server) = server() else { return };
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let place = runtime().block_on(Place::on(server));
    let barrier = std::sync::Barrier::new(10);
    std::thread::scope(|scope| {
        for number in 0..10 {
            let (place, barrier) = (&place, &barrier);
            scope.spawn(move || {
                runtime().block_on(async {
                    let store = place.store();
                    barrier.wait();
                    store.start().await.unwrap();
                    store
                        .insert(&record(number), &WriteOptions::new())
                        .await
                        .unwrap();
                    store.stop().await;
                });
            });
        }
    });
    runtime().block_on(all_ten(&place));
}

async fn all_ten(place: &Place<'_>) {
    let store = place.started().await;
    assert_eq!(
        store
            .list(&ListQuery::first(100))
            .await
            .unwrap()
            .records
            .len(),
        10
    );
    assert_eq!(cursor(&store).await.epoch, 11);
}

/// Names the database, and the key that it adds, to a child process.
const URL: &str = "APIKEY_TEST_POSTGRES_URL";
const KEY: &str = "APIKEY_TEST_POSTGRES_KEY";

/// The child process; not a test by itself.
#[tokio::test]
async fn child_that_starts_and_adds_a_key() {
    let Ok(url) = std::env::var(URL) else { return };
    let key = std::env::var(KEY).unwrap().parse().unwrap();
    let store = PostgresStore::new(url);
    store.start().await.unwrap();
    store
        .insert(&record(key), &WriteOptions::new())
        .await
        .unwrap();
    store.stop().await;
}

#[tokio::test]
async fn ten_processes_that_start_at_once_make_the_tables_once() {
    let place = place!();
    let children: Vec<_> = (0..10)
        .map(|key| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "postgres::start::child_that_starts_and_adds_a_key",
                ])
                .env(URL, place.url())
                .env(KEY, key.to_string())
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    all_ten(&place).await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_of_the_store() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&owned(1, "a"), &WriteOptions::new())
        .await
        .unwrap();
    store.stop().await;
    for outcome in [
        store.find(&id(1)).await.map(drop),
        store.changes(None, None).await.map(drop),
        place.store().insert(&record(2), &WriteOptions::new()).await,
    ] {
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("call `start`"), "{message}");
    }
    store.start().await.unwrap();
    assert_eq!(
        store.find(&id(1)).await.unwrap(),
        Some(owned_as_read(1, "a"))
    );
    store.start().await.unwrap();
}

#[tokio::test]
async fn tables_of_the_first_release_are_brought_up_to_date() {
    let place = place!();
    let mut tool = place.tool().await;
    let first = concat!(
        include_str!("../../../src/store/postgres/migrations/0100_initial.sql"),
        "; INSERT INTO api_keys (id, prefix, label, digest, scopes, metadata, created_at, enabled, version) \
         VALUES ('0000000000000000000009', 'p', 'l', 'd', '', '{}', 0, TRUE, 1); \
         SELECT api_key_append_change('')"
    );
    run(&mut tool, first).await.unwrap();
    let store = place.started().await;
    let found = store.find(&id(9)).await.unwrap().unwrap();
    assert_eq!(found.limits, []);
    let charge = Charge::new(id(9), 1, vec![LimitCounter::new("a", Quota::lifetime(1))]);
    for allowed in [true, false] {
        assert_eq!(store.charge(&charge).await.unwrap().allowed, allowed);
    }
    store.start().await.unwrap();
    let version = "SELECT schema_version::bigint FROM api_key_meta";
    assert_eq!(number(&mut tool, version).await, 109);
    let kinds: Vec<String> = sqlx::query_scalar("SELECT kind FROM api_key_changes ORDER BY epoch")
        .fetch_all(&mut tool)
        .await
        .unwrap();
    assert_eq!(kinds[0], "all");
    let mut later = kinds[1..].to_vec();
    later.sort_unstable();
    assert_eq!(later, ["key", "member"]);
    let since = cursor(&store).await;
    store
        .revoke(&id(9), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(super::changed(&store, &since).await, [id(9)]);
    // A node of that release that still runs can join.
    let join = "SELECT count(*) FROM (SELECT api_key_append_change('')) AS joined";
    assert_eq!(number(&mut tool, join).await, 1);
    let joined = ChangeSet::Entries(vec![ChangedItem::Key(id(9)), ChangedItem::Member]);
    assert_eq!(super::history(&store, &since).await, joined);
    let error = run(&mut tool, "UPDATE api_keys SET limits = '{}'").await;
    assert!(error.unwrap_err().to_string().contains("limits"));
}

/// The tables of an unreleased build are rejected and left unchanged.
#[tokio::test]
async fn tables_of_an_unreleased_build_are_refused() {
    let place = place!();
    let mut tool = place.tool().await;
    let tables = "CREATE TABLE api_key_meta (schema_version integer NOT NULL); \
         INSERT INTO api_key_meta VALUES (3)";
    run(&mut tool, tables).await.unwrap();
    for version in [0, 1, 3, 99] {
        let set = format!("UPDATE api_key_meta SET schema_version = {version}");
        run(&mut tool, &set).await.unwrap();
        let error = place.store().start().await.unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
        assert!(error.to_string().contains("create a new store"), "{error}");
    }
    let made = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    assert_eq!(number(&mut tool, made).await, 1);
}

#[tokio::test]
async fn stores_in_two_schemas_know_nothing_of_each_other() {
    let place = place!();
    let other = Place::on(place.server).await;
    let (here, there) = (place.started().await, other.started().await);
    here.insert(&record(1), &WriteOptions::new()).await.unwrap();
    assert_eq!(there.find(&id(1)).await.unwrap(), None);
    there
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    there
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(here.find(&id(1)).await.unwrap().unwrap().revoked, None);
}

/// A schema that is later inserted before the tables' schema must not split the nodes.
#[tokio::test]
async fn tables_are_found_where_they_are_and_kept_to() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let earlier = Place::on(place.server).await;
    let path =
        format!("-csearch_path=\"{}\",\"{}\"", earlier.schema, place.schema).replace(' ', "\\ ");
    let encoded: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let both = PostgresStore::new(format!("{}?options={encoded}", place.server.url()));
    both.start().await.unwrap();
    assert!(both.find(&id(1)).await.unwrap().is_some());
    let mut tool = earlier.tool().await;
    run(&mut tool, "CREATE TABLE api_keys (id text)")
        .await
        .unwrap();
    assert!(both.find(&id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn tables_of_a_newer_release_are_left_alone() {
    let place = place!();
    place.started().await.stop().await;
    let mut tool = place.tool().await;
    run(&mut tool, "UPDATE api_key_meta SET schema_version = 999")
        .await
        .unwrap();
    let error = place.store().start().await.unwrap_err();
    assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
    assert!(
        error.to_string().contains("take a newer release"),
        "{error}"
    );
    assert_eq!(
        number(&mut tool, "SELECT schema_version::bigint FROM api_key_meta").await,
        999
    );
}

/// A newer release adds a column while older nodes run, with prepared statements.
#[tokio::test]
async fn a_column_that_is_added_meanwhile_breaks_no_prepared_statement() {
    let place = place!();
    let store = place.started().await;
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    let since = cursor(&store).await;
    assert!(store.find(&id(1)).await.unwrap().is_some());
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "ALTER TABLE api_keys ADD more text; ALTER TABLE api_key_changes ADD more text; \
         ALTER TABLE api_key_meta ADD more text; ALTER TABLE api_key_nodes ADD more text",
    )
    .await
    .unwrap();
    assert!(store.find(&id(1)).await.unwrap().is_some());
    store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await
        .unwrap();
    assert_eq!(super::changed(&store, &since).await, [id(1)]);
    run(
        &mut tool,
        "ALTER TABLE api_keys ALTER COLUMN label TYPE varchar",
    )
    .await
    .unwrap();
    assert!(store.find(&id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_schema_or_database_that_cannot_hold_the_tables_is_refused() {
    let place = place!();
    let nowhere = format!("{}?options=-csearch_path%3Dnowhere", place.server.url());
    let error = PostgresStore::new(nowhere).start().await.unwrap_err();
    assert!(error.to_string().contains("no schema"), "{error}");
    assert!(matches!(error, StoreError::InvalidArgument(_)));

    let mut tool = connection(&place.server.url()).await;
    run(
        &mut tool,
        "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0",
    )
    .await
    .unwrap();
    let latin = place.server.url();
    let latin = format!("{}latin", latin.strip_suffix("postgres").unwrap());
    let error = PostgresStore::new(latin).start().await.unwrap_err();
    assert!(error.to_string().contains("LATIN1"), "{error}");
}

/// TLS is required and the server does not support it: nothing is sent in clear text.
#[tokio::test]
async fn a_url_that_requires_tls_gets_it_or_nothing() {
    let place = place!();
    for mode in ["require", "verify-ca", "verify-full"] {
        let store = PostgresStore::new(format!("{}&sslmode={mode}", place.url()));
        let error = store.start().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(whole(&error).contains("TLS"), "{}", whole(&error));
    }
}

/// If the server's default may lose commits, the store's own writes are durable all the same,
/// except for acknowledgements.
#[tokio::test]
async fn a_setting_that_loses_writes_is_warned_of_and_not_followed() {
    let place = place!();
    let (warnings, _guard) = Warnings::capture();
    place.started().await.stop().await;
    assert!(!warnings.text().contains("WARN"), "{}", warnings.text());
    let store = PostgresStore::new(format!("{}%20-csynchronous_commit%3Doff", place.url()));
    store.start().await.unwrap();
    let text = warnings.text();
    assert!(
        text.contains("WARN") && text.contains("synchronous_commit"),
        "{text}"
    );

    let mut tool = place.tool().await;
    run(
        &mut tool,
        "CREATE TABLE seen (place text, setting text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            INSERT INTO seen VALUES (TG_TABLE_NAME || TG_OP, current_setting('synchronous_commit')); RETURN NULL; \
         END $$; \
         CREATE CONSTRAINT TRIGGER zz_seen AFTER INSERT OR UPDATE ON api_keys DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION see(); \
         CREATE CONSTRAINT TRIGGER zz_seen AFTER INSERT OR UPDATE ON api_key_nodes DEFERRABLE INITIALLY DEFERRED \
            FOR EACH ROW EXECUTE FUNCTION see()",
    )
    .await
    .unwrap();
    let node = apikey_runtime::store::NodeId::from_u128(1);
    store
        .insert(&record(1), &WriteOptions::new())
        .await
        .unwrap();
    store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await
        .unwrap();
    store.join(&node).await.unwrap();
    store
        .acknowledge(&node, &cursor(&store).await)
        .await
        .unwrap();
    store.join(&node).await.unwrap();
    let seen: Vec<(String, String)> =
        sqlx::query_as("SELECT place, setting FROM seen ORDER BY ctid")
            .fetch_all(&mut tool)
            .await
            .unwrap();
    let seen: Vec<(&str, &str)> = seen
        .iter()
        .map(|(place, setting)| (&**place, &**setting))
        .collect();
    assert_eq!(
        seen,
        [
            ("api_keysINSERT", "on"),
            ("api_keysUPDATE", "on"),
            ("api_key_nodesINSERT", "on"),
            ("api_key_nodesUPDATE", "off"),
            ("api_key_nodesUPDATE", "on"),
        ]
    );
}

#[tokio::test]
async fn bounds_are_told() {
    let place = place!();
    for (store, told) in [
        (place.store().max_connections(0), "1 to 1000"),
        (place.store().max_connections(1_001), "1 to 1000"),
        (
            place.store().timeout(std::time::Duration::from_millis(9)),
            "10 ms to 60 s",
        ),
    ] {
        let error = store.start().await.unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidArgument(_)) && error.to_string().contains(told),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_text_that_postgres_cannot_keep_and_an_owner_that_is_too_long_are_refused() {
    let place = place!();
    let store = place.started().await;
    let mut nul = record(1);
    nul.label = "a\0b".to_owned();
    let nobody = ListQuery::of(ListRange::Owner("\0".to_owned()), 1);
    for outcome in [
        store.insert(&nul, &WriteOptions::new()).await,
        store.list(&nobody).await.map(drop),
    ] {
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, StoreError::InvalidArgument(reason) if reason.contains("U+0000")),
            "{error:?}"
        );
    }
    for character in ["\u{4e00}", "a"] {
        let longest = 256 / character.len();
        let owner = character.repeat(longest);
        let number = longest as u128;
        store
            .insert(&owned(number, &owner), &WriteOptions::new())
            .await
            .unwrap();
        let read = store.find(&id(number)).await.unwrap();
        assert_eq!(read, Some(owned_as_read(number, &owner)));
        let error = store
            .insert(&owned(1, &(owner + character)), &WriteOptions::new())
            .await;
        let error = whole(&error.unwrap_err());
        assert!(error.contains("an owner has at most 256 bytes"), "{error}");
    }
}
