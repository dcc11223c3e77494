//! What is told, on every store.

use apikey_runtime::Config;
use apikey_runtime::events::EventKind;
use apikey_test_support::soon;
use apikey_test_support::store::RecordsOnly;

use super::*;
use crate::fleets;

#[actix_web::test]
async fn of_three_nodes_one_tells_each_threshold_and_a_later_end_arms_it_again() {
    for fleet in fleets().await {
        let at = fleet.name;
        let clock = Arc::new(ManualClock::starting_now());
        let told = Told::default();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let node = Node::start(fleet.store(), &clock).await;
            node.listen(&told);
            nodes.push(node);
        }
        let all: Vec<&Node> = nodes.iter().collect();
        let long = nodes[0].create(DAY * 40).await;
        let middle = nodes[1].create(DAY * 20).await;
        let short = nodes[2].create(HOUR).await;
        nodes[0].manager.create("never").await.unwrap();
        assert!(is_quiet(&all, &told).await, "{at}");

        clock.advance(FIRST);
        tells(&told, &[(long, 30)], at).await;
        assert!(is_quiet(&all, &told).await, "{at}");
        clock.advance(DAY * 3);
        tells(&told, &[(middle, 7)], at).await;
        clock.advance(DAY * 6);
        tells(&told, &[(middle, 1)], at).await;
        assert!(is_quiet(&all, &told).await, "{at}");

        // A later end is told from its first threshold on, a removed one is not told.
        let later = clock.read().now.checked_add(DAY * 8).unwrap();
        let update = nodes[2].manager.update(middle).expires_at(later);
        update.await.unwrap();
        let update = nodes[0].manager.update(long).never_expires();
        update.await.unwrap();
        clock.advance(DAY + MOMENT);
        tells(&told, &[(middle, 7)], at).await;
        clock.advance(DAY * 6);
        tells(&told, &[(middle, 1)], at).await;
        assert!(is_quiet(&all, &told).await, "{at}");
        clock.advance(DAY * 60);
        assert!(is_quiet(&all, &told).await, "{at}");
        nodes[0].manager.get(short).await.unwrap();
    }
}

/// Neither an epoch is taken nor the record changed nor an audit entry written.
#[actix_web::test]
async fn telling_does_not_change_the_key() {
    for fleet in fleets().await {
        let clock = Arc::new(ManualClock::starting_now());
        let node = Node::start(fleet.store(), &clock).await;
        let mut events = node.manager.events();
        let id = node.create(DAY * 40).await;
        assert_eq!(soon(events.next()).await.unwrap().kind, EventKind::Created);
        let membership = node.store.membership().unwrap();
        let head = async || membership.members().await.unwrap().cursor;
        let before = (node.manager.get(id).await.unwrap(), head().await);
        clock.advance(FIRST);
        let event = soon(events.next()).await.unwrap();
        let EventKind::ExpiringSoon { days, expires, .. } = event.kind else {
            panic!("{event:?}");
        };
        assert_eq!((days, Some(expires)), (30, before.0.expires));
        assert_eq!(event.key_id, Some(id));
        node.looked().await;
        let after = (node.manager.get(id).await.unwrap(), head().await);
        assert_eq!(after, before, "{}", fleet.name);
        let audit = node.manager.audit().key(id).await.unwrap();
        assert_eq!(audit.entries.len(), 1, "{}", fleet.name);
    }
}

#[actix_web::test]
async fn revoked_and_removed_keys_are_not_told_and_disabled_and_suspended_ones_are() {
    for fleet in fleets().await {
        let clock = Arc::new(ManualClock::starting_now());
        let node = Node::start(fleet.store(), &clock).await;
        let manager = &node.manager;
        let created = async |owner: &str| {
            let key = manager.create("a").owner(owner).expires_in(DAY * 40);
            key.await.unwrap().id()
        };
        let [revoked, purged, disabled] =
            [created("a").await, created("a").await, created("a").await];
        let (of_revoked, of_suspended) = (created("b").await, created("c").await);
        manager.revoke(purged).await.unwrap();
        clock.advance(Duration::from_millis(1));
        assert_eq!(manager.purge(manager.now()).await.unwrap(), 1);
        manager.revoke(revoked).await.unwrap();
        manager.disable(disabled).await.unwrap();
        manager.revoke_all("b").await.unwrap();
        manager.suspend_owner("c").await.unwrap();

        let told = Told::default();
        node.listen(&told);
        clock.advance(FIRST);
        let expected = [(disabled, 30), (of_suspended, 30)];
        tells(&told, &expected, fleet.name).await;
        assert!(is_quiet(&[&node], &told).await, "{}", fleet.name);
        // The notices of the revoked keys are gone.
        clock.advance(DAY * 23);
        let expected = [(disabled, 7), (of_suspended, 7)];
        tells(&told, &expected, fleet.name).await;
        manager.get(of_revoked).await.unwrap();
    }
}

#[actix_web::test]
async fn what_nodes_missed_is_told_late_and_in_order() {
    for fleet in fleets().await {
        let clock = Arc::new(ManualClock::starting_now());
        let node = Node::start(fleet.store(), &clock).await;
        let mut ids = Vec::new();
        for _ in 0..230 {
            ids.push(node.create(DAY * 40).await);
        }
        node.manager.shutdown().await.unwrap();
        assert_eq!(node.claims(), 0, "without a reader of events");
        clock.advance(DAY * 34);
        let node = Node::start(fleet.store(), &clock).await;
        let told = Told::default();
        node.listen(&told);
        let done = within(PATIENCE, async || told.lock().unwrap().len() >= 460).await;
        assert!(done.is_some(), "{}", fleet.name);
        assert!(node.claims() >= 3, "a step is 100 keys");
        let order: Vec<u32> = (told.lock().unwrap().iter())
            .filter(|(key, _)| *key == ids[0])
            .map(|(_, days)| *days)
            .collect();
        assert_eq!(order, [30, 7]);
        let expected: Vec<_> = ids.iter().flat_map(|id| [(*id, 30), (*id, 7)]).collect();
        tells(&told, &expected, fleet.name).await;
        assert!(is_quiet(&[&node], &told).await, "{}", fleet.name);
    }
}

#[actix_web::test]
async fn thresholds_are_those_of_the_configuration() {
    for fleet in fleets().await {
        let clock = Arc::new(ManualClock::starting_now());
        let builder = Config::builder().expiry_notice_interval(Duration::from_millis(100));
        let days = |days: &'static [u32]| builder.clone().expiry_notice_days(days.iter().copied());
        let off = Node::with(days(&[]).build().unwrap(), fleet.store(), &clock).await;
        let two = days(&[2]).build().unwrap();
        let two = Node::with(two, fleet.store(), &clock).await;
        let (none, told) = (Told::default(), Told::default());
        off.listen(&none);
        two.listen(&told);
        let id = off.create(DAY * 8).await;
        clock.advance(DAY * 6 + MOMENT);
        tells(&told, &[(id, 2)], fleet.name).await;
        clock.advance(DAY);
        assert!(is_quiet(&[&two], &told).await, "{}", fleet.name);
        assert_eq!(off.claims(), 0, "{}", fleet.name);
        assert!(none.lock().unwrap().is_empty());
    }
}

#[actix_web::test]
async fn a_store_without_notices_tells_nothing() {
    let clock = Arc::new(ManualClock::starting_now());
    let node = Node::start(Arc::new(RecordsOnly::default()), &clock).await;
    let told = Told::default();
    node.listen(&told);
    node.manager.create("a").expires_in(DAY * 40).await.unwrap();
    clock.advance(FIRST);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(told.lock().unwrap().is_empty());
}
