//! Denials that are repeated without the store: of the same wrong secret, and of an id that the store did not know
//! a moment ago. They count as failed attempts, as those that ask the store do.

use std::sync::Arc;
use std::time::Duration;

use actix_web::get;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, DenyReason, KeyStore, MemoryStore, NewKey, Policy,
    api_key_required,
};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, forge, manager_on, within};

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

/// A manager under a clock that stands still, and a lease that outlasts the test: it does not poll by itself.
struct House {
    manager: ApiKeyManager,
    store: Arc<GateStore>,
    clock: Arc<ManualClock>,
    server: Server,
    key: NewKey,
}

impl House {
    /// Permits `failed_attempts` to an address.
    async fn under(failed_attempts: &str) -> Self {
        let lease = Duration::from_secs(60);
        let inner: Arc<dyn KeyStore> = Arc::new(MemoryStore::new().with_lease(lease));
        // By another manager, so that this one does not follow a change of its own meanwhile.
        let key = manager_on(Arc::clone(&inner)).await.create("a").await;
        let store = GateStore::around(inner);
        let clock = Arc::new(ManualClock::starting_now());
        let config = Config::builder().failed_attempts(failed_attempts);
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(store.clone())
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .start()
            .await
            .unwrap();
        let serving = manager.clone();
        let server = Server::start(move |app| {
            serving.init_app(app);
            app.service(who);
        });
        Self {
            manager,
            store,
            clock,
            server,
            key: key.unwrap(),
        }
    }

    fn secret(&self) -> &str {
        self.key.expose_secret()
    }

    /// Returns how often the store was asked for a record, or for what changed. An entry that a change evicts only
    /// now is read, and one that stays is polled for.
    fn asked(&self) -> usize {
        self.store.count(Call::Find) + self.store.count(Call::Changes)
    }

    async fn get(&self, key: &str) -> Answer {
        self.server.get("/who", key).await
    }

    /// Shows an invalid key; returns how often the store was asked.
    async fn asked_for(&self, key: &str) -> usize {
        let before = self.asked();
        self.get(key).await.refused(401, "invalid-key");
        self.asked() - before
    }
}

/// Returns a well-formed key that the store does not know.
fn guess(number: usize) -> String {
    forge::key("my_api", &format!("{number:022}"), &"y".repeat(64))
}

/// The store is asked for the same wrong secret once. Each time counts, and the last answer is that of a
/// blocked client.
#[actix_web::test]
async fn r12_a_wrong_secret_that_is_shown_again_is_denied_at_once_and_counts_each_time() {
    let house = House::under("6/minute burst 5").await;
    house.get(house.secret()).await.says("a");
    let wrong = forge::wrong_secret(house.secret());
    assert!(
        house.asked_for(&wrong).await > 0,
        "a newer record could allow it"
    );
    assert_eq!(house.asked_for(&wrong).await, 0);
    // Another text could be a secret that is newer than the entry.
    let id = house.key.id().to_string();
    let other = forge::key("my_api", &id, &"z".repeat(64));
    assert!(house.asked_for(&other).await > 0);
    assert_eq!(house.asked_for(&other).await, 0);
    assert_eq!(house.asked_for(&other).await, 0);
    let before = house.asked();
    let answer = house.get(other.as_str()).await;
    answer.refused(429, "too-many-failed-attempts");
    assert_eq!(house.asked(), before);
    house.get(house.secret()).await.says("a");
}

/// A denial that needs no poll holds for the entry alone, which a change ends.
#[actix_web::test]
async fn a_wrong_secret_is_asked_for_again_after_a_change_of_its_key() {
    let house = House::under("off").await;
    house.get(house.secret()).await.says("a");
    let wrong = forge::wrong_secret(house.secret());
    assert!(house.asked_for(&wrong).await > 0);
    assert_eq!(house.asked_for(&wrong).await, 0);
    // Control: the mark is of the text, and does not hide a secret.
    house.get(house.secret()).await.says("a");
    let rotated = house.manager.rotate(house.key.id()).await.unwrap();
    let secret = rotated.expose_secret();
    house.get(secret).await.says("a");
    assert!(
        house.asked_for(&wrong).await > 0,
        "the new entry does not know it"
    );
    // The old secret was right once, and is a text like any other now.
    assert!(house.asked_for(house.secret()).await > 0);
    // A poll that the rotation triggered may still come.
    let known = within(PATIENCE, async || {
        house.asked_for(house.secret()).await == 0
    })
    .await;
    assert!(known.is_some());
    house.get(secret).await.says("a");
}

/// A secret whose grace is over matches its key still, and no call prolongs the grace. The control is a change of the key.
#[actix_web::test]
async fn a_secret_after_its_grace_is_asked_for_once() {
    let house = House::under("off").await;
    let grace = Duration::from_secs(5);
    let rotating = house.manager.rotate(house.key.id()).grace(grace);
    let new = rotating.await.unwrap();
    // By its poll, the manager has followed the rotation: the entry stays that has both secrets.
    let wrong = forge::wrong_secret(house.secret());
    assert!(house.asked_for(&wrong).await > 0);
    house.get(house.secret()).await.says("a");
    house.clock.advance(grace);
    assert!(house.asked_for(house.secret()).await > 0);
    // A poll that the rotation triggered may still come.
    let known = within(PATIENCE, async || {
        house.get(new.expose_secret()).await.says("a");
        house.asked_for(house.secret()).await == 0
    });
    assert!(known.await.is_some());
    house
        .manager
        .update(house.key.id())
        .label("b")
        .await
        .unwrap();
    assert!(house.asked_for(house.secret()).await > 0);
    house.get(new.expose_secret()).await.says("b");
}

/// Another manager may give the key this environment at any time, and the grant works at once.
#[actix_web::test]
async fn a_key_of_another_environment_is_asked_for_each_time() {
    const LIVE: Policy = Policy::new().environment("live");
    let house = House::under("off").await;
    for _ in 0..3 {
        let before = house.asked();
        let denied = house.manager.verify_for(house.secret(), &LIVE).await;
        assert_eq!(
            denied.err().map(|denied| denied.reason()),
            Some(DenyReason::InvalidKey)
        );
        assert!(house.asked() > before);
    }
}

#[actix_web::test]
async fn an_unknown_id_that_is_remembered_is_denied_without_a_poll() {
    let house = House::under("off").await;
    let key = guess(0);
    house.get(&key).await.refused(401, "invalid-key");
    assert_eq!(house.asked_for(&key).await, 0);
    // It is remembered for a second.
    house.clock.advance(Duration::from_secs(1));
    assert!(house.asked_for(&key).await > 0);
}
