//! As on SQLite: a connection on which a transaction failed is used by no later call.

use apikey_runtime::KeyStore;

use super::place;
use crate::postgres::{number, run};
use crate::transactions::{WRITES, Write, begin};

const TABLES: [&str; 5] = [
    "api_keys",
    "api_key_owners",
    "api_key_limit_counters",
    "api_key_secret_uses",
    "api_key_nodes",
];

/// Returns the statements that let every write fail with this code, at its statement or at its
/// COMMIT.
fn fill(code: &str, at_commit: bool) -> String {
    let function = format!(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{code}'; END $$; "
    );
    let trigger = |table| match at_commit {
        false => format!(
            "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION full_disk(); "
        ),
        true => format!(
            "CREATE CONSTRAINT TRIGGER full_disk AFTER INSERT OR UPDATE OR DELETE ON {table} \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION full_disk(); "
        ),
    };
    TABLES
        .map(trigger)
        .into_iter()
        .fold(function, |all, one| all + &one)
}

#[tokio::test]
async fn after_a_transaction_that_failed_the_next_call_succeeds() {
    let place = place!();
    let store = place.store().max_connections(1);
    store.start().await.unwrap();
    begin(&store).await;
    let mut tool = place.tool().await;
    let mut attempt = 10;
    // disk_full, check_violation, and one whose connection ends.
    for code in ["53100", "23514", "57P01"] {
        for at_commit in [false, true] {
            run(&mut tool, &fill(code, at_commit)).await.unwrap();
            for write in WRITES
                .into_iter()
                .filter(|write| !matches!(write, Write::Revoke))
            {
                for _ in 0..3 {
                    attempt += 1;
                    let error = write.run(&store, attempt).await.unwrap_err();
                    let source = std::error::Error::source(&error).unwrap().to_string();
                    assert!(source.contains(code), "{write:?}: {error}: {source}");
                }
            }
            let free = "DROP FUNCTION full_disk CASCADE";
            run(&mut tool, free).await.unwrap();
            for write in WRITES {
                attempt += 1;
                let done = write.run(&store, attempt).await;
                assert!(
                    done.is_ok(),
                    "{write:?} after {code}, {at_commit}: {done:?}"
                );
            }
        }
    }
    let added = "SELECT sum(requests)::bigint FROM api_key_usage";
    assert_eq!(number(&mut tool, added).await, 6);
}
