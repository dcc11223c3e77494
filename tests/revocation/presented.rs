//! Revocation and introspection by possession: the whole key is the proof.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::{AuditAction, ChangeChannel, ChangeOrigin};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::events::{Event, EventKind};
use apikey_runtime::key::{KeyHasher, ParsedDigest, Pepper, Sha256Hasher};
use apikey_runtime::manager::PresentedRevocation::{
    AlreadyRevoked, Blocked, GraceEnded, Revoked, Unknown,
};
use apikey_runtime::store::{AuditQuery, BoxError, StoreError};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, Error, KeyId, KeyRecord, KeyStore, MemoryStore, NewKey,
    Timestamp,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::hasher::CountingHasher;
use apikey_test_support::store::{Call, Fault, Forward, Forwarding, GateStore};
use apikey_test_support::{forge, manager, manager_at, manager_on, patient_manager, soon};

const HOUR: Duration = Duration::from_secs(3_600);

const LEASE: Duration = Duration::from_millis(500);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

async fn record(manager: &ApiKeyManager, key: &NewKey) -> KeyRecord {
    soon(manager.get(key.id())).await.unwrap()
}

/// Texts that prove nothing, although some name the key.
fn no_proofs(key: &NewKey) -> Vec<String> {
    let text = key.expose_secret();
    let parts = forge::parts(text);
    let id = key.id();
    let short = &parts.secret[..parts.secret.len() - 1];
    vec![
        String::new(),
        id.to_string(),
        format!("my_api_{id}"),
        forge::key("my_api", &id.to_string(), "x"),
        forge::wrong_secret(text),
        forge::key(&parts.prefix, &parts.id, short),
        forge::key("another", &parts.id, &parts.secret),
        forge::unknown(),
        text[..text.len() - 1].to_owned(),
        format!("{text} "),
        text.to_uppercase(),
        "a".repeat(1 << 20),
    ]
}

#[actix_web::test]
async fn the_whole_key_revokes_it_on_every_store() {
    for fleet in Fleet::every(LEASE).await {
        let (store, name) = (fleet.store(), fleet.name);
        let manager = manager_on(Arc::clone(&store)).await;
        let other = manager_on(fleet.store()).await;
        let key = soon(manager.create("a").owner("acme")).await.unwrap();
        assert_eq!(refusal(&manager, &key).await, None, "{name}");
        assert_eq!(refusal(&other, &key).await, None, "{name}");
        let mut events = manager.events();
        let before = record(&manager, &key).await;
        for text in no_proofs(&key) {
            let outcome = soon(manager.revoke_presented(&text)).await.unwrap();
            assert_eq!(outcome, Unknown, "{name} {text:.80}");
        }
        assert_eq!(record(&manager, &key).await, before, "{name}");

        let origin = ChangeOrigin::new().with_channel(ChangeChannel::LeakReport);
        let revoke = manager.revoke_presented(key.expose_secret());
        let revoke = revoke.origin(origin).actor("ann").reason("leaked");
        let confirmed = soon(revoke.confirmed()).await.unwrap();
        assert_eq!(confirmed.value, Revoked(key.id()), "{name}");
        for manager in [&manager, &other] {
            let refused = refusal(manager, &key).await;
            assert_eq!(refused, Some(DenyReason::Revoked), "{name}");
        }
        let revoked = record(&manager, &key).await.revoked.unwrap();
        assert_eq!(revoked.reason.as_deref(), Some("leaked"), "{name}");
        let event = soon(events.next()).await.unwrap();
        let reason = matches!(&event.kind, EventKind::Revoked { reason, .. } if reason.as_deref() == Some("leaked"));
        assert!(
            reason && event.actor.as_deref() == Some("ann"),
            "{name} {event:?}"
        );
        if let Some(audit) = store.audit() {
            let entry = soon(audit.read_audit(&AuditQuery::newest(1)))
                .await
                .unwrap();
            let entry = &entry.entries[0];
            assert_eq!(entry.action, AuditAction::Revoked, "{name}");
            assert_eq!(entry.origin.channel, ChangeChannel::LeakReport, "{name}");
            assert_eq!(entry.origin.actor.as_deref(), Some("ann"), "{name}");
        }
        let again = manager
            .revoke_presented(key.expose_secret())
            .reason("again");
        assert_eq!(
            soon(again).await.unwrap(),
            AlreadyRevoked(key.id()),
            "{name}"
        );
        let revoked = record(&manager, &key).await.revoked.unwrap();
        assert_eq!(revoked.reason.as_deref(), Some("leaked"), "{name}");
        soon(manager.shutdown()).await.unwrap();
        soon(other.shutdown()).await.unwrap();
    }
}

#[actix_web::test]
async fn a_superseded_secret_ends_its_grace_and_nothing_else_on_every_store() {
    for fleet in Fleet::every(LEASE).await {
        let (store, name) = (fleet.store(), fleet.name);
        let manager = manager_on(Arc::clone(&store)).await;
        let other = manager_on(fleet.store()).await;
        let old = soon(manager.create("a").owner("acme")).await.unwrap();
        let new = soon(manager.rotate(old.id()).grace(HOUR)).await.unwrap();
        for key in [&old, &new] {
            assert_eq!(refusal(&manager, key).await, None, "{name}");
            assert_eq!(refusal(&other, key).await, None, "{name}");
        }
        let before = record(&manager, &old).await;
        let mut events = manager.events();
        let revoke = manager.revoke_presented(old.expose_secret());
        let revoke = revoke.actor("ann").reason("leaked").confirmed();
        let confirmed = soon(revoke).await.unwrap();
        assert_eq!(confirmed.value, GraceEnded(old.id()), "{name}");
        for manager in [&manager, &other] {
            let refused = refusal(manager, &old).await;
            assert_eq!(refused, Some(DenyReason::InvalidKey), "{name}");
            assert_eq!(refusal(manager, &new).await, None, "{name}");
        }
        let after = record(&manager, &old).await;
        assert_eq!(after.revoked, None, "{name}");
        let mut expected = before.clone();
        expected.previous = None;
        expected.version += 1;
        expected.updated_by.clone_from(&after.updated_by);
        assert_eq!(after, expected, "{name}");
        let Event { kind, actor, .. } = soon(events.next()).await.unwrap();
        let reason = matches!(&kind, EventKind::GraceEnded { reason, .. } if reason.as_deref() == Some("leaked"));
        assert!(reason && actor.as_deref() == Some("ann"), "{name} {kind:?}");
        if let Some(audit) = store.audit() {
            let entry = soon(audit.read_audit(&AuditQuery::newest(1)))
                .await
                .unwrap();
            let entry = &entry.entries[0];
            assert_eq!(entry.action, AuditAction::Updated, "{name}");
            assert_eq!(entry.origin.reason.as_deref(), Some("leaked"), "{name}");
            let [field] = &entry.fields[..] else {
                panic!("{name} {entry:?}")
            };
            let change = (
                field.field.as_str(),
                field.before.is_some(),
                field.after.is_some(),
            );
            assert_eq!(change, ("previous_until", true, false), "{name}");
        }
        // Its grace has ended, so it proves nothing; the new one proves the key.
        let again = soon(manager.revoke_presented(old.expose_secret())).await;
        assert_eq!(again.unwrap(), Unknown, "{name}");
        let new_one = soon(manager.revoke_presented(new.expose_secret())).await;
        assert_eq!(new_one.unwrap(), Revoked(old.id()), "{name}");
        soon(manager.shutdown()).await.unwrap();
        soon(other.shutdown()).await.unwrap();
    }
}

/// The secret was the present one when the record was read, and is superseded when it is changed.
#[actix_web::test]
async fn a_rotation_meanwhile_makes_it_the_end_of_a_grace() {
    let store = GateStore::new();
    let manager = patient_manager(Arc::<GateStore>::clone(&store)).await;
    let other = patient_manager(Arc::<GateStore>::clone(&store)).await;
    let old = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::Revoke);
    let revoke = manager.revoke_presented(old.expose_secret());
    let revoke = actix_web::rt::spawn(revoke);
    gate.arrived().await;
    let new = soon(other.rotate(old.id()).grace(HOUR)).await.unwrap();
    gate.open();
    assert_eq!(soon(revoke).await.unwrap().unwrap(), GraceEnded(old.id()));
    assert_eq!(refusal(&manager, &new).await, None);
    assert_eq!(refusal(&manager, &old).await, Some(DenyReason::InvalidKey));
}

/// The other way round: a second rotation, and a revocation, after the record was read.
#[actix_web::test]
async fn a_change_before_the_grace_is_ended_is_kept() {
    let store = GateStore::new();
    let manager = patient_manager(Arc::<GateStore>::clone(&store)).await;
    for revoked in [false, true] {
        let old = manager.create("a").await.unwrap();
        let new = manager.rotate(old.id()).grace(HOUR).await.unwrap();
        let gate = store.gate_before(Call::Update);
        let revoke = actix_web::rt::spawn(manager.revoke_presented(old.expose_secret()));
        gate.arrived().await;
        store.heal();
        if revoked {
            soon(manager.revoke(old.id())).await.unwrap();
        } else {
            soon(manager.rotate(old.id()).grace(HOUR)).await.unwrap();
        }
        gate.open();
        let expected = if revoked {
            AlreadyRevoked(old.id())
        } else {
            Unknown
        };
        assert_eq!(soon(revoke).await.unwrap().unwrap(), expected);
        let refused = revoked.then_some(DenyReason::Revoked);
        assert_eq!(refusal(&manager, &new).await, refused);
    }
}

fn a_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
}

#[actix_web::test]
async fn a_secret_whose_grace_is_over_proves_nothing() {
    let clock = a_clock();
    let manager = manager_at(
        Arc::new(MemoryStore::new()),
        clock.clone() as Arc<dyn Clock>,
    )
    .await;
    let old = manager.create("a").await.unwrap();
    let new = manager.rotate(old.id()).grace(HOUR).await.unwrap();
    clock.advance(HOUR - Duration::from_millis(1));
    let until = manager
        .introspect(old.expose_secret())
        .await
        .unwrap()
        .key
        .unwrap();
    assert_eq!(
        until.superseded_until,
        clock.read().now.checked_add(Duration::from_millis(1))
    );
    let present = manager
        .introspect(new.expose_secret())
        .await
        .unwrap()
        .key
        .unwrap();
    assert_eq!(present.superseded_until, None);
    clock.advance(Duration::from_millis(1));
    let before = record(&manager, &old).await;
    assert!(
        !manager
            .introspect(old.expose_secret())
            .await
            .unwrap()
            .active
    );
    assert_eq!(
        manager.revoke_presented(old.expose_secret()).await.unwrap(),
        Unknown
    );
    assert_eq!(record(&manager, &old).await, before);
    assert_eq!(refusal(&manager, &new).await, None);
}

/// A check of a key that is expired, disabled or suspended denies it. Its holder can still end it.
#[actix_web::test]
async fn a_key_that_is_not_active_is_revoked_too() {
    let clock = a_clock();
    let manager = manager_at(
        Arc::new(MemoryStore::new()),
        clock.clone() as Arc<dyn Clock>,
    )
    .await;
    let create = || manager.create("a").owner("acme");
    let disabled = create().await.unwrap();
    manager.disable(disabled.id()).await.unwrap();
    let later = clock.read().now.checked_add(HOUR * 9).unwrap();
    let future = create().not_before(later).await.unwrap();
    let expired = create().expires_in(HOUR).await.unwrap();
    let suspended = create().await.unwrap();
    manager.suspend_owner("acme").await.unwrap();
    clock.advance(HOUR);
    for key in [&disabled, &future, &expired, &suspended] {
        let answer = manager.introspect(key.expose_secret()).await.unwrap();
        assert_eq!(
            serde_json::to_value(&answer).unwrap(),
            serde_json::json!({ "active": false })
        );
        let outcome = manager.revoke_presented(key.expose_secret()).await.unwrap();
        assert_eq!(outcome, Revoked(key.id()));
    }
    // The owner's revocation counts.
    let key = create().await.unwrap();
    manager.revoke_all("acme").await.unwrap();
    let outcome = manager.revoke_presented(key.expose_secret()).await.unwrap();
    assert_eq!(outcome, AlreadyRevoked(key.id()));
    let purged = manager.create("a").await.unwrap();
    manager.revoke(purged.id()).await.unwrap();
    clock.advance(HOUR);
    manager.purge(clock.read().now).await.unwrap();
    let outcome = manager.revoke_presented(purged.expose_secret()).await;
    assert_eq!(outcome.unwrap(), Unknown);
}

#[actix_web::test]
async fn introspection_says_what_the_holder_may_know_and_nothing_of_others() {
    for fleet in Fleet::every(LEASE).await {
        let (manager, name) = (manager_on(fleet.store()).await, fleet.name);
        let create = manager
            .create("ci \"<b>")
            .owner("acme")
            .description("inner notes");
        let create = create
            .scopes(["orders:read"])
            .metadata("plan", "gold")
            .environment("live");
        let create = create
            .networks(["192.0.2.0/24".parse().unwrap()])
            .methods(["GET"]);
        let key = soon(create.expires_in(HOUR)).await.unwrap();
        let of_record = record(&manager, &key).await;
        let mut events = manager.events();
        let answer = soon(manager.introspect(key.expose_secret())).await.unwrap();
        let said = serde_json::to_value(&answer).unwrap();
        let expected = serde_json::json!({
            "active": true,
            "id": key.id(),
            "label": "ci \"<b>",
            "owner": "acme",
            "scopes": ["orders:read"],
            "environment": "live",
            "networks": ["192.0.2.0/24"],
            "methods": ["GET"],
            "created": of_record.created,
            "expires": of_record.expires,
            "not_before": null,
            "superseded_until": null,
        });
        assert_eq!(said, expected, "{name}");
        for text in no_proofs(&key) {
            let answer = soon(manager.introspect(&text)).await.unwrap();
            let said = serde_json::to_string(&answer).unwrap();
            assert_eq!(said, r#"{"active":false}"#, "{name} {text:.80}");
        }
        // Neither a use, nor a denial, nor a change.
        assert_eq!(manager.last_used(key.id()).await.unwrap(), None, "{name}");
        let usage = manager.usage(key.id()).await.unwrap();
        assert!(usage.rows().is_empty(), "{name}");
        assert_eq!(record(&manager, &key).await, of_record, "{name}");
        manager.disable(key.id()).await.unwrap();
        let event = soon(events.next()).await.unwrap();
        assert_eq!(event.kind, EventKind::Disabled, "{name}");
        soon(manager.shutdown()).await.unwrap();
    }
}

/// Keys of a prefix that is not accepted any more are not active, and can be revoked.
#[actix_web::test]
async fn a_former_prefix_is_not_active_and_is_revoked() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let key = manager_on(Arc::clone(&store))
        .await
        .create("a")
        .await
        .unwrap();
    let config = Config::builder().prefix("new").build().unwrap();
    let renamed = ApiKeyManager::builder().config(config).shared_store(store);
    let renamed = renamed.start().await.unwrap();
    assert!(
        !renamed
            .introspect(key.expose_secret())
            .await
            .unwrap()
            .active
    );
    let outcome = renamed.revoke_presented(key.expose_secret()).await.unwrap();
    assert_eq!(outcome, Revoked(key.id()));
}

/// A hasher of an application, whose digests are texts.
#[derive(Debug)]
struct Reversing;

impl KeyHasher for Reversing {
    fn hash(&self, key: &str) -> Result<String, BoxError> {
        let reversed: String = Sha256Hasher::new().hash(key)?.chars().rev().collect();
        Ok(format!("own${reversed}"))
    }

    fn parse(&self, stored: &str) -> Option<ParsedDigest> {
        stored
            .starts_with("own$")
            .then(|| ParsedDigest::text(stored))
    }

    fn verify(&self, key: &str, digest: &ParsedDigest) -> bool {
        let own = self.hash(key).ok();
        own.as_deref() == digest.as_text()
    }
}

#[actix_web::test]
async fn peppers_and_own_hashers_prove_possession() {
    let pepper = |id: &str| Pepper::new(id, format!("0123456789abcdef-{id}")).unwrap();
    let peppered = |peppers| Sha256Hasher::with_peppers(peppers).unwrap();
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let with = async |hasher: Sha256Hasher| {
        let builder = ApiKeyManager::builder().hasher(hasher);
        builder
            .shared_store(Arc::clone(&store))
            .start()
            .await
            .unwrap()
    };
    let first = with(peppered(vec![pepper("v1")])).await;
    let key = first.create("a").await.unwrap();
    let without = with(Sha256Hasher::new()).await;
    assert!(
        !without
            .introspect(key.expose_secret())
            .await
            .unwrap()
            .active
    );
    let outcome = without.revoke_presented(key.expose_secret()).await.unwrap();
    assert_eq!(outcome, Unknown);
    let second = with(peppered(vec![pepper("v2"), pepper("v1")])).await;
    assert!(second.introspect(key.expose_secret()).await.unwrap().active);
    // The old secret's digest is of another pepper than the new one's.
    let new = second.rotate(key.id()).grace(HOUR).await.unwrap();
    let outcome = second.revoke_presented(key.expose_secret()).await.unwrap();
    assert_eq!(outcome, GraceEnded(key.id()));
    let outcome = second.revoke_presented(new.expose_secret()).await.unwrap();
    assert_eq!(outcome, Revoked(key.id()));

    let builder = ApiKeyManager::builder().hasher(Reversing);
    let own = builder.store(MemoryStore::new()).start().await.unwrap();
    let key = own.create("a").await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    assert_eq!(own.revoke_presented(&wrong).await.unwrap(), Unknown);
    assert!(own.introspect(key.expose_secret()).await.unwrap().active);
    let outcome = own.revoke_presented(key.expose_secret()).await.unwrap();
    assert_eq!(outcome, Revoked(key.id()));
}

/// An unknown id takes as many comparisons as a wrong secret, so that time tells nothing else.
#[actix_web::test]
async fn an_unknown_id_is_compared_as_a_wrong_secret_is() {
    let hasher = CountingHasher::default();
    let builder = ApiKeyManager::builder().hasher(hasher.clone());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    hasher.take();
    for text in [forge::unknown(), forge::wrong_secret(key.expose_secret())] {
        manager.introspect(&text).await.unwrap();
        assert_eq!(hasher.take(), 1);
        manager.revoke_presented(&text).await.unwrap();
        assert_eq!(hasher.take(), 1);
    }
    // Control: a text that is not a key is not compared.
    manager.introspect("my_api").await.unwrap();
    assert_eq!(hasher.take(), 0);
}

/// A store whose records cannot be read.
#[derive(Debug)]
struct Unreadable(MemoryStore);

impl Forward for Unreadable {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Err(StoreError::Corrupt {
            id: id.to_string(),
            reason: "the test says so".to_owned(),
        })
    }
}

/// Nor can a key whose record cannot be read be told from an unknown one.
#[actix_web::test]
async fn an_unreadable_key_is_compared_as_an_unknown_one_is() {
    let hasher = CountingHasher::default();
    let builder = ApiKeyManager::builder().hasher(hasher.clone());
    let store = Forwarding(Unreadable(MemoryStore::new()));
    let manager = builder.store(store).start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    hasher.take();
    for text in [
        key.expose_secret().to_owned(),
        forge::wrong_secret(key.expose_secret()),
    ] {
        assert_eq!(manager.revoke_presented(&text).await.unwrap(), Unknown);
        assert_eq!(hasher.take(), 1);
        assert!(!manager.introspect(&text).await.unwrap().active);
        assert_eq!(hasher.take(), 1);
    }
}

#[actix_web::test]
async fn a_store_that_fails_is_an_error_and_bad_texts_are_refused() {
    let store = GateStore::new();
    let manager = manager_on(Arc::<GateStore>::clone(&store)).await;
    let key = manager.create("a").await.unwrap();
    let text = key.expose_secret();
    store.fail(Call::Find, Fault::Unavailable);
    assert!(matches!(
        manager.introspect(text).await,
        Err(Error::Store(_))
    ));
    let revoke = manager.revoke_presented(text).await;
    assert!(matches!(revoke, Err(Error::Store(_))));
    store.heal();
    for refused in [
        manager.revoke_presented(text).reason("").await,
        manager.revoke_presented(text).actor("a\nb").await,
        manager
            .revoke_presented("no key")
            .actor("x".repeat(257))
            .await,
    ] {
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{refused:?}"
        );
    }
    assert_eq!(refusal(&manager, &key).await, None);
    // O-01: the call does not show the key.
    let call = manager.revoke_presented(text);
    let secret = forge::parts(text).secret;
    assert!(!format!("{call:?}").contains(&secret));
    let sent = store.transcript();
    assert!(!sent.contains(&secret), "{sent}");
}

/// R-12: the failed attempts of a client are counted by its address, and block neither the key nor other clients.
#[actix_web::test]
async fn r12_guesses_are_counted_for_a_client_if_it_is_named() {
    let config = Config::builder().failed_attempts("3/hour burst 3");
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    // Control: a call that is not counted.
    for _ in 0..5 {
        assert_eq!(manager.revoke_presented(&wrong).await.unwrap(), Unknown);
    }
    let address = |text: &str| Some(text.parse().unwrap());
    for client in [address("192.0.2.1"), None] {
        let call = |text| manager.revoke_presented(text).counted_for(client);
        // A text without the form of a key does not cost a read, and does not count.
        assert_eq!(call("my_api").await.unwrap(), Unknown);
        for _ in 0..3 {
            assert_eq!(call(&wrong).await.unwrap(), Unknown, "{client:?}");
        }
        for text in [&wrong, key.expose_secret()] {
            let outcome = call(text).await.unwrap();
            let wait = match outcome {
                Blocked { retry_after } => retry_after,
                other => panic!("{client:?} {other:?}"),
            };
            assert!(!wait.is_zero() && wait <= HOUR, "{wait:?}");
        }
    }
    assert_eq!(refusal(&manager, &key).await, None);
    let other = manager.revoke_presented(key.expose_secret());
    let other = other.counted_for(address("192.0.2.2")).await.unwrap();
    assert_eq!(other, Revoked(key.id()));
}

/// R-12: a right secret is not a guess, so a scanner that reports keys which are revoked already is not blocked.
#[actix_web::test]
async fn r12_keys_that_were_revoked_before_do_not_keep_the_next_one_alive() {
    let config = Config::builder().failed_attempts("3/hour burst 3");
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let (old, live) = (
        manager.create("a").await.unwrap(),
        manager.create("b").await.unwrap(),
    );
    let client = Some("192.0.2.1".parse().unwrap());
    let report = |text| manager.revoke_presented(text).counted_for(client);
    let first = report(old.expose_secret()).await.unwrap();
    assert_eq!(first, Revoked(old.id()));
    for _ in 0..10 {
        let again = report(old.expose_secret()).await.unwrap();
        assert_eq!(again, AlreadyRevoked(old.id()));
    }
    let next = report(live.expose_secret()).await.unwrap();
    assert_eq!(next, Revoked(live.id()));
    // Control: guesses block the address.
    let wrong = forge::wrong_secret(live.expose_secret());
    for _ in 0..3 {
        assert_eq!(report(&wrong).await.unwrap(), Unknown);
    }
    let last = report(old.expose_secret()).await.unwrap();
    assert!(matches!(last, Blocked { .. }), "{last:?}");
}

#[actix_web::test]
async fn a_dropped_call_is_carried_out_once_it_was_started() {
    let store = GateStore::new();
    let manager = patient_manager(Arc::<GateStore>::clone(&store)).await;
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::Revoke);
    let revoke = actix_web::rt::spawn(manager.revoke_presented(key.expose_secret()));
    gate.arrived().await;
    revoke.abort();
    gate.open();
    store.heal();
    let revoked = async || record(&manager, &key).await.revoked.is_some();
    let waited = apikey_test_support::within(apikey_test_support::PATIENCE, revoked).await;
    assert!(waited.is_some());
}

#[actix_web::test]
async fn after_the_shutdown_both_say_so() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    manager.shutdown().await.unwrap();
    let text = key.expose_secret();
    assert!(matches!(
        manager.introspect(text).await,
        Err(Error::ShutDown)
    ));
    let revoke = manager.revoke_presented(text).await;
    assert!(matches!(revoke, Err(Error::ShutDown)));
}
