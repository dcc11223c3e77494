//! Lists of owners.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{OwnerQuery, OwnerStore};
use apikey_test_support::{PATIENCE, within};
use sqlx::Connection;

use super::{number, place, run};

/// What the server has counted of the table of owners.
macro_rules! counted {
    ($what:literal) => {
        concat!(
            "SELECT coalesce(sum(",
            $what,
            "), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'api_key_owners' AND schemaname = current_schema()"
        )
    };
}

#[tokio::test]
async fn a_page_of_many_owners_is_read_by_the_index() {
    let place = place!();
    let store = place.started().await;
    let mut filler = place.tool().await;
    let add = "INSERT INTO api_key_owners (owner) \
        SELECT 'owner ' || lpad(i::text, 6, '0') FROM generate_series(1, 20000) AS i; ANALYZE api_key_owners";
    run(&mut filler, add).await.unwrap();
    filler.close().await.unwrap();
    // A session reports what it did when it ends.
    let mut tool = place.tool().await;
    let reported = within(PATIENCE, async || {
        number(&mut tool, counted!("n_tup_ins")).await >= 20_000
    });
    assert!(reported.await.is_some());
    let by_index = number(&mut tool, counted!("idx_scan")).await;
    let whole = number(&mut tool, counted!("seq_scan")).await;

    let mut query = OwnerQuery::first(50).starting_with("owner 0199");
    let mut listed = 0;
    loop {
        let page = store.list_owners(&query).await.unwrap();
        listed += page.owners.len();
        if page.next.is_none() {
            break;
        }
        query = query.after(page.next);
    }
    assert_eq!(listed, 100);
    store.stop().await;
    let reported = within(PATIENCE, async || {
        number(&mut tool, counted!("idx_scan")).await >= by_index + 2
    });
    assert!(reported.await.is_some());
    assert_eq!(number(&mut tool, counted!("seq_scan")).await, whole);
}
