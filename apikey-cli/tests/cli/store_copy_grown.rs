//! What grew in TO since a copy stays.

use apikey_runtime::limit::CounterState;
use apikey_runtime::store::{
    CopiedCounter, CopyItems, NetworkUse, Outcome, SecretUse, StoreCopy, UsageRow,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, SqliteStore, Timestamp};

use crate::program::Program;

/// Writes values of a key: this many units, requests and milliseconds.
async fn write(program: &Program, name: &str, size: u32) {
    let key = KeyId::from_u128(7);
    let at = Timestamp::from_millis(1_700_000_000_000);
    let record = KeyRecord::new(key, "my_api", "a label", "sha256$00", at);
    let mut state = CounterState::default();
    state.used = size.into();
    let mut row = UsageRow::new(key, "/", 472_222, Outcome::Allowed);
    row.requests = size.into();
    let used = Timestamp::from_millis(at.as_millis() + i64::from(size));
    let network = "192.0.2.0/24".parse().unwrap();
    let store = SqliteStore::new(program.path(name));
    store.start().await.unwrap();
    for items in [
        CopyItems::Keys(vec![record]),
        CopyItems::LimitCounters(vec![CopiedCounter::new(key, "all/life", state)]),
        CopyItems::Usage(vec![row]),
        CopyItems::SecretUses(vec![SecretUse::new(key, 0, used, None)]),
        CopyItems::Networks(vec![NetworkUse::new(key, network, used)]),
    ] {
        store.write_copy(&items).await.unwrap();
    }
    store.stop().await;
}

#[tokio::test]
async fn what_grew_in_the_copy_is_kept_and_named() {
    let program = Program::sqlite();
    for name in ["keys.db", "new.db"] {
        let create = ["store", "migrate", "--create", "--sqlite", name];
        program.run(&create).ok();
    }
    write(&program, "keys.db", 5).await;
    let copy = [
        "store",
        "copy",
        "sqlite:keys.db",
        "sqlite:new.db",
        "--output",
        "csv",
    ];
    program.run(&copy).ok();
    write(&program, "new.db", 9).await;
    let sections = ["limit_counters", "usage", "secret_uses", "networks"];
    for _ in 0..2 {
        let ran = program.run(&copy);
        assert_eq!(ran.code, 5, "{ran:?}");
        for section in sections {
            let kept = format!("{section},1,0,0,1,0,\r\n");
            assert!(ran.stdout.contains(&kept), "{ran:?}");
        }
        for name in [
            "the limit counter all/life of",
            "the usage of",
            "the last use of secret 0 of",
        ] {
            assert!(ran.stderr.contains(name), "{ran:?}");
        }
    }
    // With more in FROM than in TO, the same copy writes: the control.
    write(&program, "keys.db", 12).await;
    let written = program.run(&copy).ok();
    for section in sections {
        let row = format!("{section},1,1,0,0,0,\r\n");
        assert!(written.contains(&row), "{written}");
    }
}
