//! What must not be shown: the password of the URL, and the contents of records.

use apikey_runtime::store::{KeyPatch, StoreError, WriteOptions};
use apikey_runtime::{KeyStore, PostgresStore};
use apikey_test_support::servers::postgres::PASSWORD;

use super::{place, run};
use crate::{id, owned};

/// Returns an error's text, sources included.
pub(super) fn whole(error: &StoreError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}

/// O-01.
#[tokio::test]
async fn o01_neither_a_store_nor_its_errors_show_the_password() {
    let place = place!();
    let host = format!("127.0.0.1:{}", place.server.port());
    assert!(!format!("{:?}", place.store()).contains(PASSWORD));
    assert!(format!("{:?}", place.store()).contains("127.0.0.1"));
    for url in [
        format!("postgres://keeper:{PASSWORD}x@{host}/postgres"),
        format!("postgres://nobody:{PASSWORD}@{host}/postgres"),
        format!("postgres://keeper:{PASSWORD}@{host}/no-database"),
        format!("postgres://keeper:{PASSWORD}@127.0.0.1:1/postgres"),
        format!("postgres://keeper:{PASSWORD}@{host}x/postgres"),
        format!("postgres://keeper@{host}/postgres?pasword={PASSWORD}"),
        format!("postgres://keeper@{host}/postgres?{PASSWORD}"),
        format!("postgres://keeper@{host}/postgres?sslmode={PASSWORD}"),
        format!("postgres://keeper@{host}/postgres?port={PASSWORD}"),
        format!("mysql://keeper:{PASSWORD}@{host}/postgres"),
        format!("keeper:{PASSWORD}@{host}"),
        PASSWORD.to_owned(),
    ] {
        let store = PostgresStore::new(&url);
        let error = store.start().await.unwrap_err();
        let said = format!("{} {store:?}", whole(&error));
        assert!(!said.contains(PASSWORD), "{said}");
        let invalid = matches!(error, StoreError::InvalidArgument(_));
        assert!(
            invalid || matches!(error, StoreError::Unavailable { .. }),
            "{said}"
        );
    }
}

/// PostgreSQL quotes the whole row in the detail of some errors.
#[tokio::test]
async fn o01_no_error_shows_a_value_of_a_record() {
    let place = place!();
    let store = place.started().await;
    let mut record = owned(1, "planted-owner");
    record.digest = "planted-digest".to_owned();
    store.insert(&record, &WriteOptions::new()).await.unwrap();
    let mut tool = place.tool().await;
    run(
        &mut tool,
        "ALTER TABLE api_keys ADD CHECK (label <> 'planted-label')",
    )
    .await
    .unwrap();
    let mut patch = KeyPatch::new();
    patch.label = Some("planted-label".to_owned());
    let mut other = record.clone();
    other.id = id(2);
    other.label = "planted-label".to_owned();
    for error in [
        store
            .update(&id(1), &patch, &WriteOptions::new())
            .await
            .unwrap_err(),
        store
            .insert(&other, &WriteOptions::new())
            .await
            .unwrap_err(),
    ] {
        let said = whole(&error);
        assert!(matches!(error, StoreError::Backend { .. }), "{said}");
        assert!(
            said.contains("23514") && !said.contains("planted"),
            "{said}"
        );
    }
    assert!(
        !whole(
            &store
                .insert(&record, &WriteOptions::new())
                .await
                .unwrap_err()
        )
        .contains("planted")
    );
}
