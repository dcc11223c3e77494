use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::watchers::RETRY_PAUSE;
use super::*;
use crate::cache::fence::Fence;
use crate::cache::in_flight::ReadStamp;
use crate::clock::Timestamp;
use crate::key::{KeyId, ParsedDigest};
use crate::policy::RequiredScopes;

const PATIENCE: Duration = Duration::from_secs(3_600);

fn id(number: u128) -> KeyId {
    KeyId::from_u128(number)
}

fn watch(watchers: &Arc<Watchers>, number: u128, owner: Option<&str>) -> KeyWatch {
    let request = WatchedRequest {
        digest: ParsedDigest::text("digest"),
        required: RequiredScopes::None,
    };
    KeyWatch::start(watchers.id(), id(number), owner, request, None)
}

fn end(watch: &mut KeyWatch) -> Option<WatchEnd> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(watch).poll(&mut context) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

fn marked(watchers: &Watchers) -> Vec<KeyId> {
    std::iter::from_fn(|| watchers.next_marked()).collect()
}

fn go_on(watchers: &Watchers, id: &KeyId, known_end: Option<KnownEnd>) {
    assert!(watchers.judge(id, None, None, |_| Ok(known_end), |_| true));
}

fn time(millis: i64, patience: Duration, trust: Option<Duration>) -> WatchTime {
    let clock = crate::clock::ManualClock::at(Timestamp::from_millis(millis));
    WatchTime {
        now: crate::clock::Clock::read(&clock),
        patience,
        trust,
    }
}

/// A read that is sent now.
fn read_at(watchers: &Watchers, millis: i64) -> Option<ReadStamp> {
    Some(ReadStamp {
        sent: time(millis, PATIENCE, None).now,
        last_watch: watchers.last_number(),
        generation: Fence::new(()).enter(|_state, generation| generation),
        own: true,
    })
}

fn is_empty(watchers: &Watchers) -> bool {
    let table = watchers.table.lock();
    let places = [
        table.watches.len(),
        table.keys.len(),
        table.ends.len(),
        usize::from(watchers.count.must_wake()),
    ];
    places == [0; 4]
}

#[test]
fn a_watch_that_is_dropped_leaves_nothing() {
    let watchers = Watchers::new();
    assert!(is_empty(&watchers));
    let (one, other) = (watch(&watchers, 1, None), watch(&watchers, 1, None));
    assert_eq!(marked(&watchers), [id(1)]);
    let known_end = (Timestamp::from_millis(9), WatchEnd::Expired);
    go_on(&watchers, &id(1), Some(known_end));
    drop(one);
    assert!(!is_empty(&watchers));
    drop(other);
    assert!(is_empty(&watchers));
    // Nor does one that has ended, whether it was polled or not.
    let mut polled = watch(&watchers, 2, None);
    let unpolled = watch(&watchers, 2, None);
    marked(&watchers);
    watchers.judge(&id(2), None, None, |_| Err(WatchEnd::Revoked), |_| true);
    assert!(is_empty(&watchers));
    assert_eq!(end(&mut polled), Some(WatchEnd::Revoked));
    assert_eq!(end(&mut polled), Some(WatchEnd::Revoked), "the same again");
    drop((polled, unpolled));
    assert!(is_empty(&watchers));
}

#[test]
fn a_key_that_is_marked_while_it_is_judged_is_judged_again() {
    let watchers = Watchers::new();
    let _watch = watch(&watchers, 1, None);
    assert_eq!(marked(&watchers), [id(1)]);
    watchers.key_changed(&id(1));
    watchers.key_changed(&id(1));
    assert_eq!(marked(&watchers), [], "only one judgement at a time");
    go_on(&watchers, &id(1), None);
    assert_eq!(marked(&watchers), [id(1)]);
    go_on(&watchers, &id(1), None);
    assert_eq!(marked(&watchers), []);
    watchers.key_changed(&id(2));
    assert_eq!(marked(&watchers), [], "it is not watched");
}

#[test]
fn a_change_marks_the_keys_that_it_concerns() {
    let watchers = Watchers::new();
    let _watches = [
        watch(&watchers, 1, Some("ann")),
        watch(&watchers, 2, Some("bob")),
        watch(&watchers, 3, None),
    ];
    for key in marked(&watchers) {
        let owner = [None, Some("ann"), Some("bob"), None][key.to_u128() as usize];
        watchers.judge(&key, owner, None, |_| Ok(None), |_| true);
    }
    watchers.owners_changed(["bob", "eve"].into_iter());
    assert_eq!(marked(&watchers), [id(2)]);
    // A key changes its owner, and is judged.
    watchers.judge(&id(2), Some("ann"), None, |_| Ok(None), |_| true);
    watchers.owners_changed(["bob"].into_iter());
    assert_eq!(marked(&watchers), []);
    watchers.owners_changed(["ann"].into_iter());
    let mut keys = marked(&watchers);
    keys.sort();
    assert_eq!(keys, [id(1), id(2)]);
    for key in keys {
        go_on(&watchers, &key, None);
    }
    watchers.all_changed();
    assert_eq!(marked(&watchers).len(), 3);
}

#[test]
fn a_read_that_is_older_than_a_watch_does_not_end_it() {
    let watchers = Watchers::new();
    let mut before = watch(&watchers, 1, None);
    assert_eq!(marked(&watchers), [id(1)]);
    go_on(&watchers, &id(1), None);
    let read = read_at(&watchers, 0);
    let known_end = Some((Timestamp::from_millis(9), WatchEnd::Expired));
    let request = WatchedRequest {
        digest: ParsedDigest::text("digest"),
        required: RequiredScopes::None,
    };
    let mut after = KeyWatch::start(watchers.id(), id(1), None, request, known_end);
    // The read began before, and is joined now.
    assert_eq!(marked(&watchers), [id(1)]);
    let grace_over = |_: &_| Err(WatchEnd::GraceOver);
    assert!(watchers.judge(&id(1), None, read, grace_over, |_| true));
    assert_eq!(end(&mut before), Some(WatchEnd::GraceOver));
    assert_eq!(end(&mut after), None);
    let next = watchers.until_next_end(Timestamp::from_millis(8));
    assert_eq!(
        next,
        Some(Duration::from_millis(1)),
        "its end is known still"
    );
    assert_eq!(marked(&watchers), [id(1)], "it is judged again");
    // The control: a read that begins now.
    let read = read_at(&watchers, 0);
    assert!(watchers.judge(&id(1), None, read, grace_over, |_| true));
    assert_eq!(end(&mut after), Some(WatchEnd::GraceOver));
    assert!(is_empty(&watchers));
}

#[test]
fn a_change_of_an_owner_marks_the_keys_that_are_being_judged() {
    let watchers = Watchers::new();
    let _watch = watch(&watchers, 1, Some("ann"));
    assert_eq!(marked(&watchers), [id(1)]);
    // The read that is in flight may find the key with another owner, as it was before this.
    watchers.owners_changed(["bob"].into_iter());
    watchers.judge(&id(1), Some("bob"), None, |_| Ok(None), |_| true);
    assert_eq!(marked(&watchers), [id(1)]);
    watchers.judge(&id(1), Some("bob"), None, |_| Ok(None), |_| true);
    watchers.owners_changed(["ann"].into_iter());
    assert_eq!(marked(&watchers), []);
}

#[test]
fn a_known_end_marks_its_key_and_ends_it_if_the_store_is_away() {
    let watchers = Watchers::new();
    let mut one = watch(&watchers, 1, None);
    marked(&watchers);
    let known_end = (Timestamp::from_millis(50), WatchEnd::GraceOver);
    go_on(&watchers, &id(1), Some(known_end));
    watchers.follow_time(&time(49, PATIENCE, None));
    assert_eq!(marked(&watchers), []);
    let next = watchers.until_next_end(Timestamp::from_millis(49));
    assert_eq!(next, Some(Duration::from_millis(1)));
    watchers.follow_time(&time(50, PATIENCE, None));
    assert_eq!(marked(&watchers), [id(1)]);
    // The cache says so, and only a read may.
    let grace_over = |_: &_| Err(WatchEnd::GraceOver);
    assert!(!watchers.judge(&id(1), None, None, grace_over, |_| false));
    assert_eq!(end(&mut one), None);
    watchers.not_judged(&id(1), Timestamp::from_millis(49));
    assert_eq!(end(&mut one), None);
    watchers.not_judged(&id(1), Timestamp::from_millis(50));
    assert_eq!(end(&mut one), Some(WatchEnd::GraceOver));
}

#[test]
fn without_a_lease_a_key_is_trusted_for_as_long_as_its_read() {
    let watchers = Watchers::new();
    let _watch = watch(&watchers, 1, None);
    let trust = Some(Duration::from_millis(20));
    marked(&watchers);
    go_on(&watchers, &id(1), None);
    watchers.follow_time(&time(100, PATIENCE, None));
    assert_eq!(marked(&watchers), []);
    watchers.follow_time(&time(100, PATIENCE, trust));
    assert_eq!(
        marked(&watchers),
        [id(1)],
        "the cache counts under a lease only"
    );
    let read = read_at(&watchers, 100);
    watchers.judge(&id(1), None, read, |_| Ok(None), |_| true);
    watchers.follow_time(&time(119, PATIENCE, trust));
    assert_eq!(marked(&watchers), []);
    watchers.follow_time(&time(120, PATIENCE, trust));
    assert_eq!(marked(&watchers), [id(1)]);
}

#[test]
fn a_key_that_cannot_be_judged_is_given_up() {
    let watchers = Watchers::new();
    for is_taken in [false, true] {
        let mut one = watch(&watchers, 1, None);
        if is_taken {
            marked(&watchers);
        }
        watchers.follow_time(&time(0, PATIENCE, None));
        assert_eq!(end(&mut one), None);
        watchers.follow_time(&time(0, Duration::ZERO, None));
        assert_eq!(end(&mut one), Some(WatchEnd::Unknown));
        marked(&watchers);
    }
    watchers.not_judged(&id(1), Timestamp::from_millis(0));
    assert!(is_empty(&watchers), "the read of a watch that has ended");
    // One that was judged is not.
    let mut one = watch(&watchers, 1, None);
    marked(&watchers);
    go_on(&watchers, &id(1), None);
    watchers.follow_time(&time(0, Duration::ZERO, None));
    assert_eq!(end(&mut one), None);
    // One that failed and was marked again meanwhile is tried again after a pause.
    watchers.key_changed(&id(1));
    marked(&watchers);
    watchers.key_changed(&id(1));
    watchers.not_judged(&id(1), Timestamp::from_millis(0));
    assert_eq!(marked(&watchers), []);
    watchers.table.lock().waiting_since = Instant::now().checked_sub(RETRY_PAUSE);
    watchers.follow_time(&time(0, PATIENCE, None));
    assert_eq!(marked(&watchers), [id(1)]);
}

#[test]
fn a_key_that_waits_for_its_turn_is_patient_while_the_store_answers() {
    let patience = Duration::from_secs(5);
    let past = Instant::now().checked_sub(2 * patience).unwrap();
    let watchers = Watchers::new();
    let [mut one, mut other, _third] = [1, 2, 3].map(|number| watch(&watchers, number, None));
    let answered = |id| {
        let read = read_at(&watchers, 0);
        watchers.judge(&id, None, read, |_| Ok(None), |_| true);
    };
    let keys = marked(&watchers);
    keys.iter().for_each(|id| watchers.needs_read(id));
    let make_wait = |number| {
        let mut table = watchers.table.lock();
        table.keys.get_mut(&id(number)).unwrap().marked = Some(past);
    };
    (1..=3).for_each(make_wait);
    assert_eq!(marked(&watchers), [], "they need a read");
    assert_eq!(watchers.next_to_read(), Some(id(1)));
    answered(id(1));
    watchers.follow_time(&time(0, patience, None));
    assert_eq!((end(&mut one), end(&mut other)), (None, None));
    // A key whose own reads fail does not profit from the answers for others.
    assert_eq!(watchers.next_to_read(), Some(id(2)));
    watchers.table.lock().keys.get_mut(&id(2)).unwrap().judging = Some(past);
    watchers.not_judged(&id(2), Timestamp::from_millis(0));
    watchers.follow_time(&time(0, patience, None));
    assert_eq!(end(&mut other), Some(WatchEnd::Unknown));
    // The store does not answer any more.
    watchers.table.lock().last_answer = Some(past);
    watchers.follow_time(&time(0, patience, None));
    assert_eq!(watchers.next_to_read(), None);
}

#[test]
fn two_judgements_of_a_key_do_not_overlap() {
    let watchers = Watchers::new();
    drop(watch(&watchers, 1, None));
    let first = watch(&watchers, 1, None);
    assert_eq!(watchers.next_marked(), Some(id(1)));
    watchers.key_changed(&id(1));
    assert_eq!(watchers.next_marked(), None, "it was in the queue twice");
    drop(first);
    let _second = watch(&watchers, 1, None);
    assert_eq!(watchers.next_marked(), None, "the read goes on");
    go_on(&watchers, &id(1), None);
    assert_eq!(marked(&watchers), [id(1)]);
    go_on(&watchers, &id(1), None);
    assert_eq!(marked(&watchers), []);
}

#[test]
fn a_manager_that_is_gone_ends_all_watches() {
    let watchers = Watchers::new();
    let (mut one, mut other) = (watch(&watchers, 1, None), watch(&watchers, 2, None));
    watchers.close();
    assert!(is_empty(&watchers));
    let mut later = watch(&watchers, 1, None);
    assert!(is_empty(&watchers));
    for watch in [&mut one, &mut other, &mut later] {
        assert_eq!(end(watch), Some(WatchEnd::Unknown));
    }
    let watchers = Watchers::new();
    let mut one = watch(&watchers, 1, None);
    assert_eq!(end(&mut one), None);
    drop(watchers);
    assert_eq!(end(&mut one), Some(WatchEnd::Unknown));
}

#[test]
fn a_task_that_begins_judges_what_an_earlier_one_was_judging() {
    let watchers = Watchers::new();
    let _watch = watch(&watchers, 1, None);
    assert_eq!(marked(&watchers), [id(1)]);
    watchers.begin();
    assert_eq!(marked(&watchers), [id(1)]);
}

#[test]
fn a_watch_may_move_between_threads() {
    fn is_sendable<T: Send + Sync + Unpin + 'static>() {}
    is_sendable::<KeyWatch>();
}
