//! `store copy --verify` names what differs in words.

use apikey_runtime::{ApiKeyManager, SqliteStore};

use crate::program::Program;

#[tokio::test]
async fn what_differs_is_named_in_words() {
    let program = Program::sqlite();
    let server = program.server().await;
    let key = server.create("ci").owner("acme").await.unwrap();
    server.verify(key.expose_secret()).await.unwrap();
    server.usage(key.id()).await.unwrap();
    server.shutdown().await.unwrap();
    let create = ["store", "migrate", "--create", "--sqlite", "new.db"];
    program.run(&create).ok();
    let copy = ["store", "copy", "sqlite:keys.db", "sqlite:new.db"];
    let copy = [&copy[..], &["--verify"]].concat();
    program.run(&copy).ok();

    let store = SqliteStore::new(program.path("new.db"));
    let server = ApiKeyManager::builder().store(store).start().await.unwrap();
    let other = server.create("another").await.unwrap();
    server.verify(other.expose_secret()).await.unwrap();
    server.usage(other.id()).await.unwrap();
    let made = server.audit().await.unwrap().entries[0].at;
    server.shutdown().await.unwrap();
    let ran = program.run(&copy);
    assert_eq!(ran.code, 5, "{ran:?}");
    let (id, hour) = (other.id(), &made.to_string()[..13]);
    for named in [
        format!("keys: `{id}` is only in TO"),
        format!("usage: `{id} {hour}:00:00.000Z"),
        format!("secret_uses: `{id} 0`"),
        format!("audit: `{made} 0`"),
    ] {
        assert!(ran.stderr.contains(&named), "{named} {ran:?}");
    }
    let raw = ['\u{fffd}', '\0'];
    assert!(
        !ran.stderr.contains(raw) && !ran.stderr.contains("\\u{"),
        "{ran:?}"
    );
}
