//! What `/revoke` ends, and for whom its failures count.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::clock::ManualClock;
use apikey_runtime::{ApiKeyManager, Config, KeyStore, MemoryStore, Rate};
use apikey_test_support::forge;
use apikey_test_support::http::Client;
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, Fault, GateStore};

use crate::oauth::{form, manager_at, parsed, send, serve};

#[actix_web::test]
async fn the_holder_of_a_key_revokes_it_and_learns_nothing_of_others() {
    let manager = manager_at(Arc::new(ManualClock::starting_now())).await;
    let server = serve(&manager);
    // Its restrictions do not matter: whoever finds a leaked key is elsewhere.
    let create = manager
        .create("a")
        .networks(["192.0.2.0/24".parse().unwrap()]);
    let key = create.methods(["GET"]).await.unwrap();
    let other = manager.create("b").await.unwrap();
    let revoke = async |token: &str| {
        let answer = send(
            &server,
            "/revoke",
            &[],
            &format!("token={token}&token_type_hint=x"),
        )
        .await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        (answer.status, answer.timeless())
    };
    let (status, done) = revoke(key.expose_secret()).await;
    assert_eq!(status, 200, "{done}");
    let record = manager.get(key.id()).await.unwrap();
    let revoked = record.revoked.unwrap();
    assert_eq!(revoked.reason.as_deref(), Some("revoked by its holder"));
    for token in [
        key.expose_secret(),
        &forge::wrong_secret(other.expose_secret()),
        &forge::unknown(),
        other.id().as_str(),
        "",
        "no%20key",
    ] {
        assert_eq!(revoke(token).await, (200, done.clone()), "{token}");
    }
    assert!(manager.verify(other.expose_secret()).await.is_ok());
    let page = manager.audit().key(key.id()).await.unwrap();
    let entry = page.entries.first().unwrap();
    assert_eq!(
        entry
            .origin
            .address
            .map(|address| address.to_string())
            .as_deref(),
        Some("127.0.0.1")
    );
}

#[actix_web::test]
async fn a_superseded_secret_ends_its_grace_and_nothing_else() {
    let manager = manager_at(Arc::new(ManualClock::starting_now())).await;
    let server = serve(&manager);
    let old = manager.create("a").await.unwrap();
    let new = manager
        .rotate(old.id())
        .grace(Duration::from_secs(3_600))
        .await
        .unwrap();
    let body = format!("token={}", old.expose_secret());
    assert_eq!(send(&server, "/revoke", &[], &body).await.status, 200);
    assert!(manager.verify(old.expose_secret()).await.is_err());
    assert!(manager.verify(new.expose_secret()).await.is_ok());
}

#[actix_web::test]
async fn guesses_at_revoke_are_counted_by_address_and_block_no_other() {
    let config = Config::builder().failed_attempts(Rate::per_hour(3).with_burst(3));
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let right = format!("token={}", key.expose_secret());
    let from = async |source: &str, body: &str| {
        let mut client = Client::connect_from(source.parse().unwrap(), server.address).await;
        client.send(form("/revoke", &[], body)).await;
        client.answer().await
    };
    let guess = format!("token={}", forge::wrong_secret(key.expose_secret()));
    for _ in 0..3 {
        assert_eq!(from("127.0.0.3", &guess).await.status, 200);
    }
    for body in [&guess, &right] {
        let answer = from("127.0.0.3", body).await;
        assert_eq!(answer.status, 429, "{answer:?}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&wait), "{wait}");
        assert_eq!(parsed(&answer)["error"], "temporarily_unavailable");
    }
    assert!(manager.verify(key.expose_secret()).await.is_ok());
    // Another address is not blocked, and the key is revoked there. That it is revoked already does not count.
    for _ in 0..5 {
        assert_eq!(from("127.0.0.2", &right).await.status, 200);
        assert!(manager.verify(key.expose_secret()).await.is_err());
    }
    // Control: guesses of that address do.
    for status in [200, 200, 200, 429] {
        assert_eq!(from("127.0.0.2", &guess).await.status, status);
    }
}

/// A store that is away passes by itself; what else fails does not.
#[actix_web::test]
async fn a_failure_is_logged_with_its_causes_and_as_an_error_unless_the_store_is_away() {
    let log = Log::capture();
    let store = GateStore::new();
    let shared = Arc::<GateStore>::clone(&store) as Arc<dyn KeyStore>;
    let builder = ApiKeyManager::builder().shared_store(shared);
    let manager = builder.start().await.unwrap();
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let body = format!("token={}", key.expose_secret());
    for (fault, level, cause) in [
        (Fault::TakesTooLong, "WARN", "timed out"),
        (Fault::Backend, "ERROR", "the test says so"),
    ] {
        store.fail(Call::Find, fault);
        assert_eq!(send(&server, "/revoke", &[], &body).await.status, 503);
        let lines = log.lines(&[level, "a token could not be read or revoked", cause]);
        assert_eq!(lines.len(), 1, "{level} {}", log.text());
    }
}
