//! The format of keys, seen from outside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{get, web};
use apikey_runtime::key::{KeyHasher, ParsedDigest, Pepper, Sha256Hasher};
use apikey_runtime::store::{BoxError, WriteOptions};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, DenyReason, Error, KeyId, KeyRecord, KeyStore, MemoryStore,
    Timestamp, api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{forge, manager, manager_on};

#[get("/secure")]
#[api_key_required]
async fn secure(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/admin")]
#[api_key_required(prefix = "adm")]
async fn admin(key: ApiKey) -> String {
    key.label().to_owned()
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app: &mut web::ServiceConfig| {
        manager.init_app(app);
        app.service((secure, admin));
    })
}

#[actix_web::test]
async fn f01_keys_and_checksums_are_those_of_the_description() {
    assert_eq!(forge::crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(forge::base62(0xCBF4_3926), "3jZRME");
    assert_eq!(forge::base62(u32::MAX), "4gfFC3");
    let manager = manager().await;
    for _ in 0..50 {
        let key = manager.create("a").await.unwrap();
        let text = key.expose_secret();
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{text}"
        );
        let parts = forge::parts(text);
        assert_eq!(
            (parts.prefix.as_str(), parts.id.len(), parts.secret.len()),
            ("my_api", 22, 64)
        );
        assert_eq!(parts.id, key.id().to_string());
        assert_eq!(forge::sealed(&text[..text.len() - 6]), text);
    }
}

#[actix_web::test]
async fn f01_a_forged_key_with_the_right_digest_is_as_good_as_a_generated_one() {
    // Independent of the crate's own writer: keys that another program wrote are accepted.
    let store = Arc::new(MemoryStore::new());
    let text = forge::key("my_api", "0000000000000000000007", &"s".repeat(43));
    let digest = Sha256Hasher::new().hash(&text).unwrap();
    let id: KeyId = "0000000000000000000007".parse().unwrap();
    let record = KeyRecord::new(id, "my_api", "other", digest, Timestamp::from_millis(0));
    store.insert(&record, &WriteOptions::new()).await.unwrap();
    assert_eq!(
        manager_on(store).await.verify(&text).await.unwrap().label(),
        "other"
    );
}

#[actix_web::test]
async fn f03_checksums_that_overflow_never_reach_the_store() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let calls = store.count_all();
    let body = &key.expose_secret()[..key.expose_secret().len() - 6];
    for sum in ["zzzzzz", "4gfFC4", "000000", "......", "      "] {
        assert!(
            manager.verify(&format!("{body}{sum}")).await.is_err(),
            "{sum}"
        );
    }
    assert_eq!(store.count_all(), calls);
}

/// Returns all single typing errors of `key`.
fn slips(key: &str) -> BTreeSet<Vec<u8>> {
    let key = key.as_bytes();
    let mut slips = BTreeSet::new();
    for at in 0..key.len() {
        for with in *b"aZ0_-" {
            let mut changed = key.to_vec();
            changed[at] = with;
            let mut added = key.to_vec();
            added.insert(at, with);
            slips.extend([changed, added]);
        }
        let mut swapped = key.to_vec();
        swapped.swap(at, (at + 1) % key.len());
        let mut dropped = key.to_vec();
        dropped.remove(at);
        slips.extend([swapped, dropped]);
    }
    slips.remove(key);
    slips
}

/// The digest of a key in memory is compared before the checksum is looked at. A typo asks for nothing all the same.
#[actix_web::test]
async fn f04_a_slip_in_a_key_in_memory_asks_the_store_for_nothing() {
    let inner = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let key = manager_on(inner.clone()).await.create("a").await.unwrap();
    let store = GateStore::around(inner);
    let manager = manager_on(store.clone()).await;
    manager.verify(key.expose_secret()).await.unwrap();
    let asked = || (store.count_all(), store.count(Call::Changes));
    let before = asked();
    for slip in slips(key.expose_secret()) {
        let slip = String::from_utf8(slip).unwrap();
        let denied = manager.verify(&slip).await.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::InvalidKey, "{slip}");
    }
    assert_eq!(asked(), before);
    // Control: a wrong secret asks what changed.
    let wrong = forge::wrong_secret(key.expose_secret());
    manager.verify(&wrong).await.unwrap_err();
    assert_ne!(asked(), before);
}

/// Hashes the beginning of a key only.
#[derive(Debug)]
struct Beginning;

fn beginning(key: &str) -> &str {
    key.get(..60).unwrap_or(key)
}

impl KeyHasher for Beginning {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        Sha256Hasher::new().hash(beginning(key))
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        Sha256Hasher::new().parse(stored)
    }

    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool {
        Sha256Hasher::new().verify(beginning(key), digest)
    }
}

/// Not even with the digests of the built-in one.
#[actix_web::test]
async fn a_hasher_that_ignores_a_part_of_the_key_does_not_accept_a_slip_there() {
    let store = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let start = async || {
        let builder = ApiKeyManager::builder().hasher(Beginning);
        builder.shared_store(store.clone()).start().await.unwrap()
    };
    // By another manager, so that this one does not follow a change, and the key stays in memory.
    let key = start().await.create("a").await.unwrap();
    let (manager, text) = (start().await, key.expose_secret());
    manager.verify(text).await.unwrap();
    for slip in slips(text) {
        let slip = String::from_utf8(slip).unwrap();
        assert!(manager.verify(&slip).await.is_err(), "{slip}");
    }
}

#[actix_web::test]
async fn f04_one_character_changed_swapped_dropped_or_added_is_refused_without_asking_the_store() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    let mut client = server.connect().await;
    store.polled().await;
    let before = store.count_all();
    for (count, slip) in slips(key.expose_secret()).into_iter().enumerate() {
        let slip = String::from_utf8(slip).unwrap();
        let denied = manager.verify(&slip).await.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::InvalidKey, "{slip}");
        if count % 10 == 0 {
            let bearer = format!("Bearer {slip}");
            client
                .get("/secure", &[("Authorization", &bearer)])
                .await
                .refused(401, "invalid-key");
        }
    }
    assert_eq!(
        store.count_all(),
        before,
        "a typing error never reaches the store"
    );
    server.get("/secure", key.expose_secret()).await.says("a");
    assert_eq!(store.count(Call::Find), 1, "control: the counter works");
}

#[actix_web::test]
async fn f06_another_prefix_or_a_part_of_one_is_refused() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    let parts = forge::parts(key.expose_secret());
    for prefix in [
        "my",
        "my_ap",
        "my_api2",
        "my_api_",
        "my_api_v2",
        "api",
        "MY_API",
        "",
        "_my_api",
    ] {
        let forged = forge::key(prefix, &parts.id, &parts.secret);
        server
            .get("/secure", forged.as_str())
            .await
            .refused(401, "invalid-key");
    }
    assert_eq!(store.count(Call::Find), 0);
    // Control: a key forged with the right prefix equals the key.
    let same = forge::key("my_api", &parts.id, &parts.secret);
    server.get("/secure", same.as_str()).await.says("a");
}

#[actix_web::test]
async fn f06_a_rename_keeps_old_keys_and_a_route_may_take_one_family_only() {
    let store = GateStore::new();
    let old = manager_on(store.clone()).await.create("old").await.unwrap();
    let config = Config::builder()
        .prefixes(["acme", "my_api", "adm"])
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder().config(config).shared_store(store);
    let manager = builder.start().await.unwrap();
    let new = manager.create("new").await.unwrap();
    let adm = manager.create("adm").prefix("adm").await.unwrap();
    assert!(new.expose_secret().starts_with("acme_"));
    assert!(matches!(
        manager.create("x").prefix("other").await,
        Err(Error::InvalidArgument(_))
    ));
    let server = serve(&manager);
    for key in [&old, &new, &adm] {
        server
            .get("/secure", key.expose_secret())
            .await
            .says(key.label());
    }
    server.get("/admin", adm.expose_secret()).await.says("adm");
    for key in [&old, &new] {
        server
            .get("/admin", key.expose_secret())
            .await
            .refused(401, "invalid-key");
    }
}

#[actix_web::test]
async fn f07_the_id_of_one_key_with_the_secret_of_another_is_answered_as_unknown() {
    let manager = manager().await;
    let a = manager.create("a").await.unwrap();
    let b = manager.create("b").await.unwrap();
    let server = serve(&manager);
    let (of_a, of_b) = (
        forge::parts(a.expose_secret()),
        forge::parts(b.expose_secret()),
    );
    let unknown = server.get("/secure", forge::unknown().as_str()).await;
    unknown.refused(401, "invalid-key");
    for (id, secret) in [(&of_a.id, &of_b.secret), (&of_b.id, &of_a.secret)] {
        // Cold cache, then warm.
        for _ in 0..2 {
            let crossed = server
                .get("/secure", forge::key("my_api", id, secret).as_str())
                .await;
            assert_eq!(crossed.timeless(), unknown.timeless());
        }
    }
}

#[actix_web::test]
async fn f07_a_stored_digest_is_no_key() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let digest = key.export().digest;
    let hex = digest.strip_prefix("sha256$").unwrap();
    for text in [
        digest.clone(),
        hex.to_owned(),
        forge::key("my_api", &key.id().to_string(), hex),
        forge::key("my_api", &key.id().to_string(), &hex.to_uppercase()),
    ] {
        assert_eq!(
            manager.verify(&text).await.unwrap_err().reason(),
            DenyReason::InvalidKey
        );
    }
}

/// Fails, or does not recognise its own digest.
#[derive(Debug)]
struct BrokenHasher {
    fails: bool,
}

impl KeyHasher for BrokenHasher {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        match self.fails && key.starts_with("my_api_") {
            true => Err("out of order".into()),
            false => Ok("own$x".to_owned()),
        }
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        Some(ParsedDigest::text(stored))
    }

    fn verify(&self, _key: &str, _digest: &ParsedDigest) -> bool {
        false
    }
}

#[actix_web::test]
async fn f10_what_fails_while_a_key_is_made_is_an_error_and_nothing_is_stored() {
    for fails in [true, false] {
        let store = GateStore::new();
        let builder = ApiKeyManager::builder().hasher(BrokenHasher { fails });
        let manager = builder.shared_store(store.clone()).start().await.unwrap();
        assert!(matches!(manager.create("a").await, Err(Error::Hasher(_))));
        assert_eq!(store.count(Call::Insert), 0);
    }
}

#[actix_web::test]
async fn f13_a_digest_of_an_unknown_or_weak_kind_refuses_that_key_and_is_logged() {
    let log = Log::capture();
    let store = Arc::new(MemoryStore::new());
    let manager = manager_on(store.clone()).await;
    let good = manager.create("good").await.unwrap();
    let server = serve(&manager);
    let hex = "0".repeat(64);
    let digests = [
        "",
        &hex,
        &format!("md5${}", &hex[..32]),
        &format!("sha1${}", &hex[..40]),
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("plain${hex}"),
        format!("hmac-sha256$v9${hex}"),
        format!("sha256${hex}0"),
    ]);
    for (number, digest) in digests.enumerate() {
        let id = KeyId::from_u128(number as u128 + 1);
        let record = KeyRecord::new(id, "my_api", "bad", digest, Timestamp::from_millis(0));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
        let key = forge::key("my_api", id.as_str(), &"s".repeat(64));
        server
            .get("/secure", key.as_str())
            .await
            .refused(401, "invalid-key");
        assert_eq!(
            log.lines(&["ERROR", id.as_str(), "digest"]).len(),
            1,
            "{}",
            log.text()
        );
    }
    server
        .get("/secure", good.expose_secret())
        .await
        .says("good");
    assert!(log.lines(&["ERROR", good.id().as_str()]).is_empty());
}

#[actix_web::test]
async fn f14_keys_under_an_older_pepper_still_verify_under_a_newer() {
    let pepper = |id: &str| Pepper::new(id, format!("sixteen bytes or more: {id}")).unwrap();
    let start = async |store: &Arc<GateStore>, peppers| {
        let hasher = Sha256Hasher::with_peppers(peppers).unwrap();
        let builder = ApiKeyManager::builder()
            .hasher(hasher)
            .shared_store(store.clone());
        builder.start().await.unwrap()
    };
    let store = GateStore::new();
    let plain = manager_on(store.clone())
        .await
        .create("plain")
        .await
        .unwrap();
    let old = start(&store, vec![pepper("v1")])
        .await
        .create("old")
        .await
        .unwrap();
    assert!(old.export().digest.starts_with("hmac-sha256$v1$"));

    let manager = start(&store, vec![pepper("v2"), pepper("v1")]).await;
    let new = manager.create("new").await.unwrap();
    assert!(new.export().digest.starts_with("hmac-sha256$v2$"));
    let server = serve(&manager);
    for key in [&plain, &old, &new] {
        server
            .get("/secure", key.expose_secret())
            .await
            .says(key.label());
        let wrong = forge::wrong_secret(key.expose_secret());
        server
            .get("/secure", wrong.as_str())
            .await
            .refused(401, "invalid-key");
    }
    // Control: without the old pepper, its keys are denied.
    let manager = start(&store, vec![pepper("v2")]).await;
    serve(&manager)
        .get("/secure", old.expose_secret())
        .await
        .refused(401, "invalid-key");
}

#[actix_web::test]
async fn secrets_of_other_lengths_and_alphabets_stay_good_under_other_settings() {
    let store = GateStore::new();
    let config = Config::builder()
        .secret_charset("hex")
        .secret_length(32)
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .shared_store(store.clone());
    let old = builder.start().await.unwrap().create("old").await.unwrap();
    let parts = forge::parts(old.expose_secret());
    assert!(
        parts.secret.len() == 32
            && parts
                .secret
                .bytes()
                .all(|byte| b"0123456789abcdef".contains(&byte))
    );
    assert_eq!(
        manager_on(store)
            .await
            .verify(old.expose_secret())
            .await
            .unwrap()
            .label(),
        "old"
    );
}
