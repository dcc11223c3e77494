//! Nodes that stop between two steps, and come back.

use apikey_runtime::MemoryStore;
use apikey_test_support::soon;
use apikey_test_support::store::{Fault, Gate};

use super::*;
use crate::LEASE;

/// Two nodes on one store, each with its own reader.
struct Two {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    first: Node,
    first_id: NodeId,
    second: Node,
    told_by_first: Told,
    told_by_second: Told,
    reader_of_first: JoinHandle<()>,
}

impl Two {
    /// Starts them. The second reads events when a test [says so](Self::second_listens), so that the first
    /// claims.
    async fn start() -> Self {
        let clock = Arc::new(ManualClock::starting_now());
        let store = Arc::new(MemoryStore::new().with_lease(LEASE));
        let first = Node::start(store.clone(), &clock).await;
        let first_id = first.id().await;
        let second = Node::start(store.clone(), &clock).await;
        let [told_by_first, told_by_second] = [Told::default(), Told::default()];
        Self {
            reader_of_first: first.listen(&told_by_first),
            store,
            clock,
            first,
            first_id,
            second,
            told_by_first,
            told_by_second,
        }
    }

    /// Makes a key due while calls of the first node stop at a gate.
    async fn due(&self) -> KeyId {
        let id = self.first.create(DAY * 40).await;
        self.clock.advance(FIRST);
        id
    }

    fn second_listens(&self) {
        self.second.listen(&self.told_by_second);
    }

    /// The first node does not poll any more, as a process that is stopped, and is removed when its lease
    /// has ended.
    async fn remove_first(&self) -> Arc<Gate> {
        let polls = self.first.store.gate_before(Call::Changes);
        polls.arrived().await;
        self.clock.advance(LEASE + MOMENT);
        let membership = self.store.membership().unwrap();
        membership.leave(&self.first_id).await.unwrap();
        polls
    }

    async fn second_is_quiet(&self) {
        assert!(is_quiet(&[&self.second], &self.told_by_second).await);
    }

    async fn both_are_quiet(&self) {
        assert!(is_quiet(&[&self.first, &self.second], &self.told_by_second).await);
        assert!(self.told_by_first.lock().unwrap().is_empty());
    }
}

#[actix_web::test]
async fn a_node_that_is_removed_between_its_claim_and_the_event_does_not_tell() {
    let two = Two::start().await;
    let find = two.first.store.gate_before(Call::Find);
    let id = two.due().await;
    find.arrived().await;
    two.second_listens();
    two.second_is_quiet().await;

    let polls = two.remove_first().await;
    tells(&two.told_by_second, &[(id, 30)], "taken over").await;
    // It comes back late, before its first poll.
    find.open();
    two.second_is_quiet().await;
    // And joins again.
    polls.open();
    two.both_are_quiet().await;
    two.clock.advance(DAY * 23);
    let by_either = async || {
        let [first, second] = [&two.told_by_first, &two.told_by_second];
        first.lock().unwrap().len() + second.lock().unwrap().len() >= 1
    };
    assert!(within(PATIENCE, by_either).await.is_some());
    is_quiet(&[&two.first, &two.second], &two.told_by_second).await;
    let mut all = two.told_by_first.lock().unwrap().clone();
    all.extend(two.told_by_second.lock().unwrap().iter());
    assert_eq!(all, [(id, 7)]);
}

/// As above, and it is a member again when it goes on.
#[actix_web::test]
async fn a_node_that_joined_again_does_not_tell_what_it_claimed_before() {
    let two = Two::start().await;
    let find = two.first.store.gate_before(Call::Find);
    let id = two.due().await;
    find.arrived().await;
    two.second_listens();
    let polls = two.remove_first().await;
    tells(&two.told_by_second, &[(id, 30)], "taken over").await;
    polls.open();
    two.first.store.polled().await;
    find.open();
    two.both_are_quiet().await;
}

#[actix_web::test]
async fn a_node_that_ends_between_the_event_and_the_note_makes_another_tell_again() {
    let two = Two::start().await;
    let finish = two.first.store.gate_before(Call::FinishNotices);
    let id = two.first.create(DAY * 40).await;
    // The one that plans it.
    finish.arrived().await;
    finish.pass_one();
    two.clock.advance(FIRST);
    finish.arrived().await;
    tells(&two.told_by_first, &[(id, 30)], "told").await;
    two.second_listens();
    two.second_is_quiet().await;
    // Told before the note: the only case of a repetition.
    let polls = two.remove_first().await;
    tells(&two.told_by_second, &[(id, 30)], "told again").await;
    // Its late note does not undo the other's.
    finish.open();
    polls.open();
    two.both_are_quiet().await;
}

#[actix_web::test]
async fn a_note_that_fails_or_whose_answer_is_lost_delays_no_other_key_and_is_not_told_again() {
    for fault in [Fault::Unavailable, Fault::Backend, Fault::AnswerLost] {
        let two = Two::start().await;
        let id = two.first.create(DAY * 40).await;
        let other = two.first.create(DAY * 41).await;
        two.first.looked().await;
        two.first.store.fail(Call::FinishNotices, fault);
        two.clock.advance(FIRST);
        tells(&two.told_by_first, &[(id, 30)], "told").await;
        two.clock.advance(DAY);
        tells(&two.told_by_first, &[(other, 30)], "told too").await;
        two.first.looked().await;
        assert!(two.told_by_first.lock().unwrap().is_empty(), "{fault:?}");
        two.first.store.heal();
        two.second_listens();
        two.both_are_quiet().await;
        two.first.manager.shutdown().await.unwrap();
        two.second_is_quiet().await;
    }
}

#[actix_web::test]
async fn a_claim_whose_answer_was_lost_is_told_once() {
    let two = Two::start().await;
    two.first.store.fail(Call::ClaimNotices, Fault::AnswerLost);
    let id = two.due().await;
    two.first.looked().await;
    two.second_listens();
    two.second_is_quiet().await;
    assert!(two.told_by_first.lock().unwrap().is_empty());
    two.first.store.heal();
    tells(&two.told_by_first, &[(id, 30)], "told").await;
    two.both_are_quiet().await;
}

#[actix_web::test]
async fn a_claim_whose_answer_was_lost_is_given_back_if_the_readers_have_left() {
    let two = Two::start().await;
    two.first.store.fail(Call::ClaimNotices, Fault::AnswerLost);
    let id = two.due().await;
    two.first.looked().await;
    two.reader_of_first.abort();
    two.second_listens();
    two.second_is_quiet().await;
    two.first.store.heal();
    tells(&two.told_by_second, &[(id, 30)], "told").await;
    assert!(two.told_by_first.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn claims_of_keys_that_cannot_be_read_are_given_back_if_the_readers_have_left() {
    let two = Two::start().await;
    two.first.store.fail(Call::Find, Fault::Unavailable);
    let id = two.due().await;
    let least = two.first.store.count(Call::Find) + 2;
    let tried = async || two.first.store.count(Call::Find) >= least;
    assert!(within(PATIENCE, tried).await.is_some());
    two.reader_of_first.abort();
    two.second_listens();
    tells(&two.told_by_second, &[(id, 30)], "told").await;
    assert!(two.told_by_first.lock().unwrap().is_empty());
}

#[actix_web::test]
async fn a_reader_gets_more_events_than_have_room_if_it_reads_in_time() {
    const KEYS: usize = 1_500;
    let two = Two::start().await;
    two.reader_of_first.abort();
    for _ in 0..KEYS {
        two.first.create(DAY * 40).await;
    }
    two.clock.advance(FIRST);
    let mut events = two.second.manager.events();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for told in 0..KEYS {
        let event = soon(events.next()).await.unwrap();
        assert!(
            matches!(event.kind, EventKind::ExpiringSoon { .. }),
            "{told}: {event:?}"
        );
    }
}

#[actix_web::test]
async fn a_node_whose_readers_leave_gives_back_what_it_claimed() {
    let two = Two::start().await;
    let find = two.first.store.gate_before(Call::Find);
    let id = two.due().await;
    find.arrived().await;
    two.second_listens();
    two.reader_of_first.abort();
    let left = async || two.reader_of_first.is_finished();
    assert!(within(PATIENCE, left).await.is_some());
    two.second_is_quiet().await;
    find.open();
    tells(&two.told_by_second, &[(id, 30)], "told").await;
    // Without a reader, the first does not claim.
    let claims = two.first.claims();
    two.second.looked().await;
    assert_eq!(two.first.claims(), claims);
    two.second_is_quiet().await;
    // It claims again with one.
    let told = Told::default();
    two.first.listen(&told);
    two.first.looked().await;
}

#[actix_web::test]
async fn a_shutdown_between_the_event_and_the_note_waits_for_the_note() {
    let two = Two::start().await;
    let id = two.first.create(DAY * 40).await;
    two.first.looked().await;
    let finish = two.first.store.gate_before(Call::FinishNotices);
    two.clock.advance(FIRST);
    finish.arrived().await;
    tells(&two.told_by_first, &[(id, 30)], "told").await;
    two.second_listens();
    let manager = two.first.manager.clone();
    let shutdown = tokio::spawn(async move { manager.shutdown().await });
    two.second_is_quiet().await;
    assert!(!shutdown.is_finished());
    finish.open();
    soon(shutdown).await.unwrap().unwrap();
    two.second_is_quiet().await;
}

#[actix_web::test]
async fn a_read_that_fails_delays_the_event() {
    let two = Two::start().await;
    two.first.store.fail(Call::Find, Fault::Unavailable);
    let id = two.due().await;
    let least = two.first.claims() + 3;
    let tried = within(PATIENCE, async || two.first.claims() >= least).await;
    assert!(tried.is_some());
    assert!(two.told_by_first.lock().unwrap().is_empty());
    two.first.store.heal();
    tells(&two.told_by_first, &[(id, 30)], "told").await;
    two.second_listens();
    two.both_are_quiet().await;
}

#[actix_web::test]
async fn a_key_that_cannot_be_read_delays_no_other() {
    let two = Two::start().await;
    two.first.create(DAY * 40).await;
    let store = &two.first.store;
    let find = store.gate_before(Call::Find);
    store.fail(Call::Find, Fault::Backend);
    two.due().await;
    find.arrived().await;
    store.heal();
    let claim = store.gate_before(Call::ClaimNotices);
    find.open();
    let told = async || two.told_by_first.lock().unwrap().len() == 1;
    assert!(within(PATIENCE, told).await.is_some());
    claim.open();
    let told = async || two.told_by_first.lock().unwrap().len() == 2;
    assert!(within(PATIENCE, told).await.is_some());
}

/// The end is postponed while the node is about to tell the old one.
#[actix_web::test]
async fn an_end_that_changes_after_the_claim_is_not_told() {
    let two = Two::start().await;
    let find = two.first.store.gate_before(Call::Find);
    let id = two.due().await;
    find.arrived().await;
    let later = two.clock.read().now.checked_add(DAY * 60).unwrap();
    let update = two.second.manager.update(id).expires_at(later);
    update.await.unwrap();
    find.open();
    two.second_listens();
    two.both_are_quiet().await;
    two.clock.advance(DAY * 30 + MOMENT);
    let [first, second] = [&two.told_by_first, &two.told_by_second];
    let count = || first.lock().unwrap().len() + second.lock().unwrap().len();
    assert!(within(PATIENCE, async || count() > 0).await.is_some());
    is_quiet(&[&two.first, &two.second], second).await;
    assert_eq!(count(), 1);
}

/// A clock that is a year ahead for a while does not end the notices of keys that live on.
#[actix_web::test]
async fn a_clock_that_is_ahead_for_a_while_loses_no_notice() {
    const YEAR: i64 = 365 * 86_400_000;
    let two = Two::start().await;
    let id = two.first.create(DAY * 40).await;
    two.first.looked().await;
    two.clock.step_wall(YEAR);
    two.first.store.polled().await;
    two.clock.step_wall(-YEAR);
    two.second_listens();
    two.clock.advance(FIRST);
    let [first, second] = [&two.told_by_first, &two.told_by_second];
    let count = || first.lock().unwrap().len() + second.lock().unwrap().len();
    assert!(within(PATIENCE, async || count() > 0).await.is_some());
    let mut all = first.lock().unwrap().clone();
    all.extend(second.lock().unwrap().iter());
    assert_eq!(all, [(id, 30)]);
}
