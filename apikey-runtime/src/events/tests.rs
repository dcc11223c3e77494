use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;

fn event(number: u64) -> Event {
    Event {
        at: Timestamp::from_millis(number as i64),
        kind: EventKind::Created,
        key_id: None,
        owner: None,
        actor: None,
    }
}

fn emit(sender: &EventSender, numbers: std::ops::Range<u64>) {
    for number in numbers {
        sender.emit(|| event(number));
    }
}

/// Counts wake-ups.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(events: &mut EventStream, waker: &Waker) -> Poll<Option<Event>> {
    Pin::new(events).poll_next(&mut Context::from_waker(waker))
}

/// Reads what is available: the times of events, or how many were lost.
fn read_all(events: &mut EventStream) -> Vec<Result<i64, u64>> {
    let mut read = Vec::new();
    while let Poll::Ready(Some(event)) = poll(events, Waker::noop()) {
        read.push(match event.kind {
            EventKind::Lagged { count } => Err(count),
            _ => Ok(event.at.as_millis()),
        });
    }
    read
}

#[test]
fn with_nobody_listening_no_event_is_made_or_kept() {
    let sender = EventSender::default();
    sender.emit(|| panic!("made in vain"));
    let mut events = sender.subscribe();
    emit(&sender, 0..3);
    drop(sender.subscribe());
    assert_eq!(read_all(&mut events), [Ok(0), Ok(1), Ok(2)]);
    emit(&sender, 3..5);
    assert!(sender.has_readers() && sender.emit(|| event(5)));
    drop(events);
    assert!(!sender.has_readers() && !sender.emit(|| panic!("made in vain")));
    // A later reader does not get earlier events.
    assert_eq!(read_all(&mut sender.subscribe()), []);
}

#[test]
fn each_reader_hears_what_was_told_since_it_began() {
    let sender = EventSender::default();
    let mut first = sender.subscribe();
    emit(&sender, 0..1);
    let mut second = sender.subscribe();
    emit(&sender, 1..2);
    assert_eq!(read_all(&mut second), [Ok(1)]);
    assert_eq!(read_all(&mut first), [Ok(0), Ok(1)]);
}

#[test]
fn a_slow_reader_loses_the_oldest_and_learns_how_many() {
    let sender = EventSender::default();
    let (mut slow, mut quick) = (sender.subscribe(), sender.subscribe());
    let room = ROOM as u64;
    emit(&sender, 0..room);
    assert_eq!(read_all(&mut quick).len(), ROOM, "as many as fit");
    emit(&sender, room..room + 7);
    let read = read_all(&mut slow);
    assert_eq!(read[0], Err(7));
    assert_eq!(read[1..].len(), ROOM);
    assert_eq!((read[1], read[ROOM]), (Ok(7), Ok(room as i64 + 6)));
    assert_eq!(
        read_all(&mut quick).len(),
        7,
        "a quick reader loses nothing"
    );
}

#[test]
fn a_reader_that_waits_is_woken_by_an_event_and_by_the_end() {
    let sender = EventSender::default();
    let mut events = sender.subscribe();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for round in 0..3 {
        // Polled twice by the same reader, which is woken once.
        assert!(poll(&mut events, &waker).is_pending());
        assert!(poll(&mut events, &waker).is_pending());
        assert_eq!(woken.0.load(Ordering::SeqCst), round);
        emit(&sender, 0..1);
        assert_eq!(woken.0.load(Ordering::SeqCst), round + 1);
        assert!(poll(&mut events, &waker).is_ready());
    }
    assert!(poll(&mut events, &waker).is_pending());
    drop(sender);
    assert_eq!(woken.0.load(Ordering::SeqCst), 4);
    assert_eq!(poll(&mut events, &waker), Poll::Ready(None));
    assert_eq!(poll(&mut events, &waker), Poll::Ready(None));
}

#[test]
fn what_was_told_before_the_end_can_still_be_read() {
    let sender = EventSender::default();
    let mut events = sender.subscribe();
    emit(&sender, 0..2);
    sender.close();
    emit(&sender, 2..3);
    assert_eq!(read_all(&mut events), [Ok(0), Ok(1)]);
    assert_eq!(poll(&mut events, Waker::noop()), Poll::Ready(None));
}

#[test]
fn an_event_is_one_flat_object() {
    let told = Event {
        at: Timestamp::from_millis(5),
        kind: EventKind::Denied {
            reason: DenyReason::Expired,
        },
        key_id: Some(KeyId::from_u128(1)),
        owner: None,
        actor: None,
    };
    let json = serde_json::to_value(&told).unwrap();
    let expected = serde_json::json!({
        "at": "1970-01-01T00:00:00.005Z", "kind": "denied", "reason": "expired-key",
        "key_id": KeyId::from_u128(1).as_str(), "owner": null, "actor": null,
    });
    assert_eq!(json, expected);
    let created = serde_json::to_value(event(1)).unwrap();
    assert_eq!(created["kind"], "created");
}

/// tokio lets a task make so many reads in one poll, and then has it yield.
#[test]
fn a_reader_that_has_to_yield_learns_how_many_it_missed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for budget_used in 0..140 {
        let sender = EventSender::default();
        let mut events = sender.subscribe();
        emit(&sender, 0..ROOM as u64 + 7);
        let first = runtime.block_on(async {
            tokio::spawn(async move {
                for _ in 0..budget_used {
                    tokio::task::coop::consume_budget().await;
                }
                events.next().await
            })
            .await
        });
        let kind = first.unwrap().unwrap().kind;
        assert_eq!(kind, EventKind::Lagged { count: 7 }, "{budget_used}");
    }
}
