//! The audit log through a manager, on every store.

use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeChannel, ChangeOrigin};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::manager::AuditRequest;
use apikey_runtime::store::{AuditPage, AuditQuery, StoreError};
use apikey_runtime::{ApiKeyManager, Config, Error, KeyStore, MemoryStore, Timestamp};
use apikey_test_support::store::{Call, Fault, Forward, Forwarding, GateStore, RecordsOnly};
use apikey_test_support::{PATIENCE, later, manager_on, within};

use tokio::time::sleep;

use crate::{HOUR, managers};

async fn follow(request: &AuditRequest, size: u32) -> Vec<AuditEntry> {
    let (mut entries, mut before) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = request.clone().page_size(size).before(before);
        let page = page.await.unwrap();
        assert!(page.entries.len() <= size as usize);
        entries.extend(page.entries);
        before = page.next;
        if before.is_none() {
            return entries;
        }
    }
    panic!("the log does not end");
}

fn origin(actor: &str) -> ChangeOrigin {
    ChangeOrigin::new()
        .with_actor(actor)
        .with_channel(ChangeChannel::Page)
        .with_address("2001:db8::7".parse().unwrap())
        .with_request_id("4bf92f35")
        .with_reason("=HYPERLINK(\"x\")")
}

#[actix_web::test]
async fn each_change_is_one_entry_with_what_the_call_said() {
    for (fleet, manager) in managers().await {
        let id = manager.create("a").owner("acme").origin(origin("anna"));
        let id = id.await.unwrap().id();
        manager
            .update(id)
            .label("b")
            .origin(origin("ben"))
            .await
            .unwrap();
        manager
            .rotate(id)
            .grace(HOUR)
            .origin(origin("ben"))
            .await
            .unwrap();
        manager.disable(id).origin(origin("ben")).await.unwrap();
        manager.enable(id).origin(origin("ben")).await.unwrap();
        manager
            .update(id)
            .owner("globex")
            .origin(origin("ben"))
            .await
            .unwrap();
        manager
            .suspend_owner("globex")
            .origin(origin("ben"))
            .await
            .unwrap();
        manager
            .resume_owner("globex")
            .origin(origin("ben"))
            .await
            .unwrap();
        manager.revoke(id).origin(origin("ben")).await.unwrap();
        // Not a change.
        assert!(!manager.revoke(id).origin(origin("ben")).await.unwrap());
        manager
            .revoke_all("globex")
            .origin(origin("ben"))
            .await
            .unwrap();
        let ended = later(&manager).await;
        assert_eq!(
            manager.purge(ended).origin(origin("carl")).await.unwrap(),
            1
        );

        let mut entries = follow(&manager.audit(), 5).await;
        entries.reverse();
        let actions: Vec<_> = entries.iter().map(|entry| entry.action).collect();
        let expected = [
            AuditAction::Created,
            AuditAction::Updated,
            AuditAction::Rotated,
            AuditAction::Disabled,
            AuditAction::Enabled,
            AuditAction::Updated,
            AuditAction::OwnerSuspended,
            AuditAction::OwnerResumed,
            AuditAction::Revoked,
            AuditAction::OwnerRevoked,
            AuditAction::Purged,
        ];
        assert_eq!(actions, expected, "{}", fleet.name);
        for (place, entry) in entries.iter().enumerate() {
            let actor = ["anna", "ben", "carl"][usize::from(place > 0) + usize::from(place == 10)];
            assert_eq!(entry.origin, origin(actor), "{} {place}", fleet.name);
            let is_of_owner = matches!(place, 6 | 7 | 9);
            assert_eq!(entry.key, Some(id).filter(|_| !is_of_owner), "{place}");
        }
        let given = &entries[5];
        assert_eq!(given.owner.as_deref(), Some("globex"));
        assert_eq!(given.former_owner.as_deref(), Some("acme"));
    }
}

#[actix_web::test]
async fn filters_select_together_and_pages_are_complete() {
    for (fleet, manager) in managers().await {
        let mut ids = Vec::new();
        for (place, owner) in ["acme", "globex", "acme", "globex"].iter().enumerate() {
            let actor = ["anna", "ben"][place / 2];
            let create = manager.create("a").owner(*owner).actor(actor);
            ids.push(create.await.unwrap().id());
        }
        manager
            .update(ids[0])
            .owner("globex")
            .actor("ben")
            .await
            .unwrap();
        manager.suspend_owner("acme").actor("ben").await.unwrap();
        let all = follow(&manager.audit(), 1).await;
        assert_eq!(all.len(), 6, "{}", fleet.name);
        assert_eq!(follow(&manager.audit(), 100).await, all);
        let (first, last) = (all[5].at, all[0].at);
        let count = async |request: AuditRequest| follow(&request, 2).await.len();
        assert_eq!(count(manager.audit().key(ids[0])).await, 2);
        // The key that it gave away, too.
        assert_eq!(count(manager.audit().owner("acme")).await, 4);
        assert_eq!(count(manager.audit().owner("globex")).await, 3);
        assert_eq!(count(manager.audit().owner("acme").actor("ben")).await, 3);
        assert_eq!(count(manager.audit().actor("anna").key(ids[2])).await, 0);
        assert_eq!(count(manager.audit().actor("ANNA")).await, 0);
        let end = last.checked_add(HOUR).unwrap();
        assert_eq!(count(manager.audit().between(first, end)).await, 6);
        assert_eq!(
            count(manager.audit().between(Timestamp::MIN, first)).await,
            0
        );
        let long = "1".repeat(65);
        for request in [
            manager.audit().between(end, first),
            manager.audit().page_size(0),
            manager.audit().page_size(1_001),
            manager.audit().before(String::new()),
            manager.audit().before("' OR 1=1".to_owned()),
            manager.audit().before(long),
        ] {
            let read = request.await;
            assert!(matches!(read, Err(Error::InvalidArgument(_))), "{read:?}");
        }
    }
}

#[actix_web::test]
async fn a_store_without_an_audit_log_says_so() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    manager.create("a").await.unwrap();
    let read = manager.audit().await;
    let Err(Error::Unsupported(said)) = read else {
        panic!("{read:?}");
    };
    assert!(said.contains("KeyStore::audit"), "{said}");
}

/// Answers each query of the log with all of it.
#[derive(Debug)]
struct WrongLog(MemoryStore);

impl Forward for WrongLog {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let all = AuditQuery::newest(query.limit);
        self.0.audit().unwrap().read_audit(&all).await
    }
}

#[actix_web::test]
async fn an_entry_of_another_owner_is_not_an_answer() {
    let manager = manager_on(Arc::new(Forwarding(WrongLog(MemoryStore::new())))).await;
    manager.create("a").owner("acme").await.unwrap();
    let read = manager.audit().owner("globex").await;
    assert!(
        matches!(read, Err(Error::Store(StoreError::Corrupt { .. }))),
        "{read:?}"
    );
    // Control.
    assert_eq!(
        manager.audit().owner("acme").await.unwrap().entries.len(),
        1
    );
}

async fn retaining(store: &Arc<GateStore>, clock: &Arc<ManualClock>) -> ApiKeyManager {
    let config = Config::builder().audit_retention(HOUR * 48);
    ApiKeyManager::builder()
        .config(config.build().unwrap())
        .shared_store(store.clone())
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .start()
        .await
        .unwrap()
}

/// Waits until the log has this many entries.
async fn has(manager: &ApiKeyManager, entries: usize) {
    let done = within(PATIENCE, async || {
        follow(&manager.audit(), 1_000).await.len() == entries
    });
    assert!(done.await.is_some(), "the log has other than {entries}");
}

/// Each manager removes old entries an hour after its start. One at a time runs, so that no other does.
#[actix_web::test]
async fn entries_are_removed_after_their_retention_in_steps() {
    let store = GateStore::around(Arc::new(MemoryStore::new()));
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
    let pruned = async |least: usize| {
        let done = within(PATIENCE, async || store.count(Call::PruneAudit) >= least);
        assert!(done.await.is_some());
    };
    let manager = retaining(&store, &clock).await;
    for _ in 0..2_500 {
        manager.create("a").await.unwrap();
    }
    clock.advance(HOUR * 40);
    let late = manager.create("late").await.unwrap().id();
    pruned(1).await;
    manager.shutdown().await.unwrap();
    // Negative control: within the retention, all stay.
    clock.advance(HOUR * 7);
    let manager = retaining(&store, &clock).await;
    clock.advance(HOUR);
    pruned(2).await;
    has(&manager, 2_501).await;
    manager.shutdown().await.unwrap();
    // A step that fails removes nothing.
    store.fail(Call::PruneAudit, Fault::Unavailable);
    let manager = retaining(&store, &clock).await;
    clock.advance(HOUR);
    pruned(3).await;
    has(&manager, 2_501).await;
    manager.shutdown().await.unwrap();
    store.heal();
    let manager = retaining(&store, &clock).await;
    // A process that does not run for an hour removes nothing, however late it is.
    clock.advance(HOUR - Duration::from_millis(1));
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(store.count(Call::PruneAudit), 3);
    clock.advance(Duration::from_millis(1));
    has(&manager, 1).await;
    assert_eq!(manager.audit().await.unwrap().entries[0].key, Some(late));
    assert_eq!(
        store.count(Call::PruneAudit),
        6,
        "2,500 entries in steps of 1,000"
    );
}
