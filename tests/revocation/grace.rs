//! The end of an old secret's grace before its time.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::{AuditAction, ChangeOrigin};
use apikey_runtime::clock::{ManualClock, Timestamp};
use apikey_runtime::events::{Event, EventKind};
use apikey_runtime::store::{AuditQuery, KeyPatch, KeyStore, PreviousDigest, WriteOptions};
use apikey_runtime::{ApiKeyManager, DenyReason, Error, KeyId, MemoryStore, NewKey};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{manager, manager_at, manager_on, patient_manager, soon};

const HOUR: Duration = Duration::from_secs(3_600);

const LEASE: Duration = Duration::from_millis(500);

async fn refusal(manager: &ApiKeyManager, key: &NewKey) -> Option<DenyReason> {
    let answer = soon(manager.verify(key.expose_secret())).await;
    answer.err().map(|denied| denied.reason())
}

#[actix_web::test]
async fn a_grace_is_ended_and_nothing_else_on_every_store() {
    for fleet in Fleet::every(LEASE).await {
        let (store, name) = (fleet.store(), fleet.name);
        let manager = manager_on(Arc::clone(&store)).await;
        let other = manager_on(fleet.store()).await;
        let old = soon(manager.create("a").owner("acme")).await.unwrap();
        assert!(!soon(manager.end_grace(old.id())).await.unwrap(), "{name}");
        let new = soon(manager.rotate(old.id()).grace(HOUR)).await.unwrap();
        for key in [&old, &new] {
            assert_eq!(refusal(&manager, key).await, None, "{name}");
            assert_eq!(refusal(&other, key).await, None, "{name}");
        }
        let before = soon(manager.get(old.id())).await.unwrap();
        let mut events = manager.events();
        let origin = ChangeOrigin::new().with_actor("ann").with_reason("leaked");
        let end = manager.end_grace(old.id()).origin(origin);
        let end = end.owned_by("acme").if_version(before.version).confirmed();
        assert!(soon(end).await.unwrap().value, "{name}");
        for manager in [&manager, &other] {
            let refused = refusal(manager, &old).await;
            assert_eq!(refused, Some(DenyReason::InvalidKey), "{name}");
            assert_eq!(refusal(manager, &new).await, None, "{name}");
        }
        let after = soon(manager.get(old.id())).await.unwrap();
        let mut expected = before.clone();
        expected.previous = None;
        expected.version += 1;
        expected.updated_by.clone_from(&after.updated_by);
        assert_eq!(after, expected, "{name}");
        let Event { kind, actor, .. } = soon(events.next()).await.unwrap();
        let reason = matches!(&kind, EventKind::GraceEnded { reason, .. } if reason.as_deref() == Some("leaked"));
        assert!(reason && actor.as_deref() == Some("ann"), "{name} {kind:?}");
        if let Some(audit) = store.audit() {
            let page = soon(audit.read_audit(&AuditQuery::newest(1))).await;
            let entry = &page.unwrap().entries[0];
            assert_eq!(entry.action, AuditAction::Updated, "{name}");
            assert_eq!(entry.origin.reason.as_deref(), Some("leaked"), "{name}");
            assert_eq!(entry.fields.len(), 1, "{name}");
            assert_eq!(entry.fields[0].field, "previous_until", "{name}");
        }
        // There is nothing more to end, and nothing is written.
        assert!(!soon(manager.end_grace(old.id())).await.unwrap(), "{name}");
        assert_eq!(soon(manager.get(old.id())).await.unwrap(), after, "{name}");
        soon(manager.shutdown()).await.unwrap();
        soon(other.shutdown()).await.unwrap();
    }
}

#[actix_web::test]
async fn a_grace_that_is_over_is_not_ended_again() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let manager = manager_at(Arc::new(MemoryStore::new()), clock.clone()).await;
    let key = manager.create("a").await.unwrap();
    manager.rotate(key.id()).grace(HOUR).await.unwrap();
    clock.advance(HOUR);
    let before = manager.get(key.id()).await.unwrap();
    assert!(!manager.end_grace(key.id()).await.unwrap());
    assert_eq!(manager.get(key.id()).await.unwrap(), before);
}

/// The caller decided on the grace that was there, and not on that of a rotation since.
#[actix_web::test]
async fn a_grace_that_begins_meanwhile_is_not_ended() {
    let store = GateStore::new();
    let first = patient_manager(Arc::<GateStore>::clone(&store)).await;
    let other = patient_manager(Arc::<GateStore>::clone(&store)).await;
    let key = first.create("a").await.unwrap();
    let second = first.rotate(key.id()).grace(HOUR).await.unwrap();
    let gate = store.gate_after(Call::Find);
    let ending = actix_web::rt::spawn(first.end_grace(key.id()));
    gate.arrived().await;
    store.heal();
    let third = soon(other.rotate(key.id()).grace(HOUR)).await.unwrap();
    gate.open();
    let outcome = soon(ending).await.unwrap();
    let conflict = matches!(outcome, Err(Error::Conflict(id)) if id == key.id());
    assert!(conflict, "{outcome:?}");
    assert_eq!(refusal(&first, &second).await, None);
    assert_eq!(refusal(&first, &third).await, None);
    // Control: another change meanwhile does not keep the grace from its end.
    let gate = store.gate_after(Call::Find);
    let ending = actix_web::rt::spawn(first.end_grace(key.id()));
    gate.arrived().await;
    store.heal();
    soon(other.update(key.id()).label("b")).await.unwrap();
    gate.open();
    assert!(soon(ending).await.unwrap().unwrap());
    let refused = refusal(&first, &second).await;
    assert_eq!(refused, Some(DenyReason::InvalidKey));
}

#[actix_web::test]
async fn a_key_that_is_missing_or_revoked_is_told() {
    let manager = manager().await;
    let missing = KeyId::from_u128(9);
    let outcome = manager.end_grace(missing).await;
    assert!(matches!(outcome, Err(Error::NotFound(id)) if id == missing));
    let key = manager.create("a").await.unwrap();
    manager.rotate(key.id()).grace(HOUR).await.unwrap();
    manager.revoke(key.id()).await.unwrap();
    let outcome = manager.end_grace(key.id()).await;
    assert!(matches!(outcome, Err(Error::Revoked(id)) if id == key.id()));
    let outcome = manager.end_grace(key.id()).actor("a\nb").await;
    assert!(matches!(outcome, Err(Error::InvalidArgument(_))));
}

async fn is_active(manager: &ApiKeyManager, key: &NewKey) -> bool {
    let facts = soon(manager.introspect(key.expose_secret())).await;
    facts.unwrap().active
}

/// A digest that cannot be parsed denies the secret that it is of, and is reported. After its grace it is not parsed.
#[actix_web::test]
async fn a_broken_digest_of_an_old_secret_denies_that_secret_alone() {
    let log = Log::capture();
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let store = Arc::new(MemoryStore::new());
    let first = manager_at(store.clone(), clock.clone()).await;
    let old = first.create("a").await.unwrap();
    let new = first.rotate(old.id()).grace(HOUR).await.unwrap();
    let previous = first.get(old.id()).await.unwrap().previous.unwrap();
    let invalid = Some(DenyReason::InvalidKey);
    let write = async |digest: &str| {
        let mut patch = KeyPatch::new();
        let digest = digest.to_owned();
        let until = previous.until;
        patch.previous = Some(Some(PreviousDigest { digest, until }));
        let (id, options) = (old.id(), WriteOptions::new());
        store.update(&id, &patch, &options).await.unwrap();
        manager_at(store.clone(), clock.clone()).await
    };
    let reports = || log.lines(&["ERROR", old.id().as_str(), "digest"]).len();
    // Control: with the digest as it was, both are allowed.
    let manager = write(&previous.digest).await;
    assert_eq!(refusal(&manager, &old).await, None);
    assert_eq!(refusal(&manager, &new).await, None);
    assert_eq!(reports(), 0);

    let manager = write("md5$00").await;
    for _ in 0..3 {
        assert_eq!(refusal(&manager, &new).await, None);
        assert_eq!(refusal(&manager, &old).await, invalid);
    }
    assert_eq!(reports(), 1, "{}", log.text());
    assert!(is_active(&manager, &new).await);
    assert!(!is_active(&manager, &old).await);

    clock.advance(HOUR);
    let manager = write("md5$01").await;
    let before = reports();
    assert_eq!(refusal(&manager, &new).await, None);
    assert_eq!(refusal(&manager, &old).await, invalid);
    assert!(is_active(&manager, &new).await);
    assert_eq!(reports(), before);
    // Control: a broken digest of the secret that is in force denies the key.
    let mut patch = KeyPatch::new();
    patch.digest = Some("md5$02".to_owned());
    let (id, options) = (old.id(), WriteOptions::new());
    store.update(&id, &patch, &options).await.unwrap();
    let manager = manager_at(store.clone(), clock.clone()).await;
    assert_eq!(refusal(&manager, &new).await, invalid);
    assert!(!is_active(&manager, &new).await);
}
