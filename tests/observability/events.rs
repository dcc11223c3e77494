//! The event stream: what happened to which key and by which actor, after it happened; and never a
//! secret.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{get, post, rt, web};
use apikey_runtime::events::{Event, EventKind, EventStream};
use apikey_runtime::{
    ApiKeyManager, Config, DenyReason, Error, KeyId, MemoryStore, Policy, RequireApiKey, Timestamp,
    api_key_required,
};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::store::{Call, Fault, GateStore, WithoutOwners};
use apikey_test_support::{forge, later, manager, manager_on, patient_manager, soon};

const NOTHING: [&str; 0] = [];

/// Long enough for an event that must not arrive.
const NEVER: Duration = Duration::from_millis(50);

async fn next(events: &mut EventStream) -> Event {
    soon(events.next()).await.expect("the stream has ended")
}

/// Returns the events so far, as text; the last one is the creation of a key that this function
/// makes.
async fn told(events: &mut EventStream, manager: &ApiKeyManager) -> Vec<String> {
    let mark = manager.create("a mark").actor("mark").await.unwrap().id();
    let mut all = Vec::new();
    loop {
        let event = next(events).await;
        if event.key_id == Some(mark) {
            return all;
        }
        all.push(words(&event));
    }
}

fn words(event: &Event) -> String {
    let json = serde_json::to_value(event).unwrap();
    let text = |name: &str| json[name].as_str().unwrap_or("-").to_owned();
    format!("{} {} by {}", text("kind"), text("reason"), text("actor"))
}

fn reason(event: &Event) -> Option<DenyReason> {
    match event.kind {
        EventKind::Denied { reason, .. } => Some(reason),
        _ => None,
    }
}

#[actix_web::test]
async fn every_change_is_told_in_order_with_its_key_and_its_actor() {
    let manager = manager().await;
    let mut events = manager.events();
    let before = Timestamp::from(std::time::SystemTime::now());
    let key = manager.create("a").owner("o").actor("ann").await.unwrap();
    let id = key.id();
    manager.update(id).label("b").actor("bob").await.unwrap();
    manager.rotate(id).actor("cyd").await.unwrap();
    manager.disable(id).actor("dan").await.unwrap();
    manager.enable(id).actor("eve").confirmed().await.unwrap();
    let revoke = manager.revoke(id).reason("leaked").actor("fay");
    assert!(revoke.await.unwrap());
    let ended = later(&manager).await;
    let removed = manager.purge(ended).actor("gil").await.unwrap();
    assert_eq!(removed, 1);
    let expected = [
        "created - by ann",
        "updated - by bob",
        "rotated - by cyd",
        "disabled - by dan",
        "enabled - by eve",
        "revoked leaked by fay",
        "purged - by gil",
    ];
    for expected in expected {
        let event = next(&mut events).await;
        assert_eq!(words(&event), expected);
        assert_eq!(event.key_id, Some(id));
        assert!(event.at >= before);
    }
    assert!(told(&mut events, &manager).await.is_empty());
}

#[actix_web::test]
async fn a_revocation_of_many_is_told_of_each_if_the_store_does_not_keep_owners() {
    let manager = manager_on(Arc::new(WithoutOwners::default())).await;
    let mut ids = Vec::new();
    for owner in ["o", "o", "other"] {
        ids.push(manager.create("a").owner(owner).await.unwrap().id());
    }
    manager.revoke(ids[0]).await.unwrap();
    let mut events = manager.events();
    let revoked = manager.revoke_all("o").reason("gone").actor("ann");
    assert!(revoked.await.unwrap());
    let event = next(&mut events).await;
    assert_eq!(event.key_id, Some(ids[1]), "the first was revoked before");
    assert_eq!(words(&event), "revoked gone by ann");
    manager.revoke(ids[2]).await.unwrap();
    assert_eq!(told(&mut events, &manager).await, ["revoked - by -"]);
}

#[actix_web::test]
async fn a_change_of_an_owner_is_told_once_and_names_it() {
    let manager = manager().await;
    for owner in ["o", "o", "other"] {
        manager.create("a").owner(owner).await.unwrap();
    }
    let mut events = manager.events();
    let owners_told = async |events: &mut EventStream| {
        let event = next(events).await;
        assert_eq!((event.key_id, event.owner.as_deref()), (None, Some("o")));
        words(&event)
    };
    assert!(manager.suspend_owner("o").actor("ann").await.unwrap());
    assert_eq!(owners_told(&mut events).await, "owner_suspended - by ann");
    assert!(!manager.suspend_owner("o").actor("bob").await.unwrap());
    let resumed = manager.resume_owner("o").actor("cyd").confirmed();
    assert!(resumed.await.unwrap().value);
    assert_eq!(owners_told(&mut events).await, "owner_resumed - by cyd");
    assert!(!manager.resume_owner("o").await.unwrap());
    for reason in ["gone", "again"] {
        let revoked = manager.revoke_all("o").reason(reason).actor("dan");
        assert!(revoked.await.unwrap());
        let expected = format!("owner_revoked {reason} by dan");
        assert_eq!(owners_told(&mut events).await, expected);
    }
    assert!(!manager.revoke_all("nobody").await.unwrap());
    assert!(manager.suspend_owner("nobody").await.is_err());
    assert_eq!(told(&mut events, &manager).await, NOTHING);
}

#[actix_web::test]
async fn what_changes_nothing_tells_nothing() {
    let manager = manager().await;
    let key = manager.create("a").owner("o").await.unwrap();
    let id = key.id();
    manager.revoke(id).await.unwrap();
    let mut events = manager.events();
    assert!(!manager.revoke(id).actor("ann").await.unwrap());
    assert!(!manager.revoke_all("nobody").await.unwrap());
    let same = manager.update(id).await.unwrap();
    let preview = manager.update(id).actor("ann").preview().await.unwrap();
    assert_eq!(preview, same);
    assert_eq!(manager.purge(Timestamp::MIN).await.unwrap(), 0);
    assert!(matches!(manager.rotate(id).await, Err(Error::Revoked(_))));
    assert!(matches!(manager.enable(id).await, Err(Error::Revoked(_))));
    let nobody = KeyId::from_u128(7);
    assert!(manager.revoke(nobody).await.is_err());
    assert!(manager.update(nobody).label("b").await.is_err());
    assert!(manager.disable(nobody).await.is_err());
    assert_eq!(told(&mut events, &manager).await, NOTHING);
}

#[actix_web::test]
async fn an_actor_that_could_forge_a_line_is_refused_before_the_store_is_asked() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let id = manager.create("a").await.unwrap().id();
    let mut events = manager.events();
    let calls = store.count_all();
    for wrong in ["", "a\nb", "\u{1b}[31m", &"a".repeat(257)] {
        let outcomes = [
            manager.create("b").actor(wrong).await.map(drop),
            manager.update(id).label("b").actor(wrong).await.map(drop),
            manager.rotate(id).actor(wrong).await.map(drop),
            manager.enable(id).actor(wrong).await,
            manager.disable(id).actor(wrong).await,
            manager.revoke(id).actor(wrong).await.map(drop),
            manager.revoke_all("o").actor(wrong).await.map(drop),
            manager.suspend_owner("o").actor(wrong).await.map(drop),
            manager.resume_owner("o").actor(wrong).await.map(drop),
            manager.purge(Timestamp::MIN).actor(wrong).await.map(drop),
        ];
        for outcome in outcomes {
            assert!(
                matches!(outcome, Err(Error::InvalidArgument(_))),
                "{wrong:?}"
            );
        }
    }
    assert_eq!(store.count_all(), calls);
    assert_eq!(told(&mut events, &manager).await, NOTHING);
}

#[actix_web::test]
async fn a_change_that_fails_tells_nothing() {
    for fault in [
        Fault::Unavailable,
        Fault::Backend,
        Fault::AnswerLost,
        Fault::Hangs,
    ] {
        let store = GateStore::new();
        let config = Config::builder().store_timeout(Duration::from_millis(100));
        let builder = ApiKeyManager::builder().config(config.build().unwrap());
        let manager = builder.shared_store(store.clone()).start().await.unwrap();
        let id = manager.create("a").owner("o").await.unwrap().id();
        let mut events = manager.events();
        for call in [
            Call::Insert,
            Call::Update,
            Call::Revoke,
            Call::RevokeOwnerKeys,
            Call::SuspendOwner,
            Call::Purge,
        ] {
            store.fail(call, fault);
        }
        assert!(manager.create("b").await.is_err());
        assert!(manager.update(id).label("b").await.is_err());
        // It asks the store what became of it: nobody else has the new secret.
        let is_made = fault == Fault::AnswerLost;
        assert_eq!(manager.rotate(id).await.is_ok(), is_made, "{fault:?}");
        assert!(manager.enable(id).await.is_err());
        assert!(manager.disable(id).await.is_err());
        assert!(manager.revoke_all("o").await.is_err());
        assert!(manager.suspend_owner("o").await.is_err());
        assert!(manager.revoke(id).await.is_err());
        assert!(manager.purge(Timestamp::MIN).await.is_err());
        store.heal();
        let told_of = told(&mut events, &manager).await;
        assert_eq!(
            told_of.len(),
            usize::from(is_made),
            "{fault:?}: {told_of:?}"
        );
        // Control: the same calls without faults.
        let other = manager.create("b").owner("p").await.unwrap().id();
        manager.update(other).label("c").await.unwrap();
        manager.revoke_all("p").await.unwrap();
        assert_eq!(told(&mut events, &manager).await.len(), 3, "{fault:?}");
    }
}

#[actix_web::test]
async fn a_change_is_told_when_the_store_has_it_and_memory_has_dropped_it() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    manager.verify(key.expose_secret()).await.unwrap();
    let mut events = manager.events();
    let gate = store.gate_after(Call::Revoke);
    let revoking = rt::spawn(manager.revoke(key.id()).into_future());
    gate.arrived().await;
    // The store has executed the call, and its answer is in transit.
    let early = tokio::time::timeout(NEVER, events.next()).await;
    assert!(early.is_err(), "{early:?}");
    gate.open();
    assert_eq!(words(&next(&mut events).await), "revoked - by -");
    // Whether or not the call has returned to its caller.
    let denied = manager.verify(key.expose_secret()).await.unwrap_err();
    assert_eq!(denied.reason(), DenyReason::Revoked);
    assert!(soon(revoking).await.unwrap().unwrap());
}

#[actix_web::test]
async fn a_call_whose_future_is_dropped_still_tells() {
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let mut events = manager.events();
    let gate = store.gate_before(Call::Revoke);
    let revoking = rt::spawn(manager.revoke(key.id()).actor("ann").into_future());
    gate.arrived().await;
    revoking.abort();
    assert!(revoking.await.unwrap_err().is_cancelled());
    gate.open();
    assert_eq!(words(&next(&mut events).await), "revoked - by ann");
}

#[actix_web::test]
async fn a_read_that_is_given_up_loses_no_event() {
    let manager = manager().await;
    let mut events = manager.events();
    assert!(tokio::time::timeout(NEVER, events.next()).await.is_err());
    manager.create("a").actor("ann").await.unwrap();
    assert_eq!(words(&next(&mut events).await), "created - by ann");
}

#[get("/plain")]
#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[get("/scoped")]
#[api_key_required(scope = "b")]
async fn scoped() -> &'static str {
    "in"
}

#[post("/methods")]
#[api_key_required(methods(GET))]
async fn methods() -> &'static str {
    "in"
}

#[get("/secure")]
#[api_key_required(require_https)]
async fn secure() -> &'static str {
    "in"
}

#[get("/query")]
#[api_key_required(location = query("api_key"))]
async fn query() -> &'static str {
    "in"
}

#[post("/body")]
#[api_key_required(location = json("api_key"))]
async fn body() -> &'static str {
    "in"
}

/// In a const, since the attribute rejects the text on this route.
const MISCONFIGURED: &str = "project:{nothing}:read";

#[get("/template")]
#[api_key_required(scope = MISCONFIGURED)]
async fn template() -> &'static str {
    "in"
}

#[get("/optional")]
#[api_key_required(optional)]
async fn optional() -> &'static str {
    "in"
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        let guard = RequireApiKey::with(Policy::new()).strip_credential();
        app.service((
            plain, scoped, methods, secure, query, body, template, optional,
        ));
        app.service(web::scope("/wrapped").service(plain).wrap(guard));
    })
}

/// Asserts that a denial over HTTP is one event, with the reason of the answer and this key.
async fn refused(events: &mut EventStream, answer: Answer, id: Option<KeyId>) -> DenyReason {
    let event = next(events).await;
    let reason = reason(&event).unwrap_or_else(|| panic!("{event:?}"));
    assert_eq!(answer.problem(), reason.code());
    assert_eq!((event.key_id, event.actor), (id, None), "{reason:?}");
    reason
}

fn bearer(key: &str) -> String {
    format!("GET /plain HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n")
}

#[actix_web::test]
async fn every_refusal_over_http_is_one_event_with_the_reason_of_the_answer() {
    use DenyReason as R;
    let store = GateStore::new();
    let config = Config::builder()
        .body_timeout(Duration::from_millis(300))
        .body_limit(1_000)
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder().config(config);
    let manager = builder.shared_store(store.clone()).start().await.unwrap();
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let (text, id) = (key.expose_secret(), Some(key.id()));
    let office = ["192.0.2.0/24".parse().unwrap()];
    let elsewhere = manager.create("b").networks(office).await.unwrap();
    let later = manager.create("c").not_before(Timestamp::MAX).await;
    let later = later.unwrap();
    let mut events = manager.events();
    let mut seen = Vec::new();
    let mut saw = |reason: R, expected: R| {
        assert_eq!(reason, expected);
        seen.push(reason);
    };

    // Before a key is known.
    for path in ["/plain", "/wrapped/plain"] {
        let answer = server.get(path, None).await;
        saw(refused(&mut events, answer, None).await, R::MissingKey);
        let typo = format!("{text}x");
        let answer = server.get(path, typo.as_str()).await;
        saw(refused(&mut events, answer, None).await, R::InvalidKey);
    }
    let twice = format!("{}Authorization: Bearer {text}\r\n\r\n", bearer(text));
    let answer = server.send(twice).await;
    saw(refused(&mut events, answer, None).await, R::MultipleKeys);
    let answer = server.get("/query?api_key=%ZZ", None).await;
    saw(
        refused(&mut events, answer, None).await,
        R::MalformedRequest,
    );
    let answer = server.get("/secure", text).await;
    saw(refused(&mut events, answer, id).await, R::HttpsRequired);
    let long = format!("{{\"api_key\": \"{}\"}}", "x".repeat(1_000));
    let answer = server.post("/body", None, &long).await;
    saw(refused(&mut events, answer, None).await, R::BodyTooLarge);
    let head = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let slow = format!("{head}Content-Length: 10\r\n\r\n{{");
    let answer = server.send(slow).await;
    saw(refused(&mut events, answer, None).await, R::BodyTimeout);
    let packed = format!("{head}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{{}}");
    let answer = server.send(packed).await;
    saw(
        refused(&mut events, answer, None).await,
        R::UnsupportedContentEncoding,
    );

    // Because of the key itself.
    let other = forge::parts(text);
    let family = forge::key("other", &other.id, &other.secret);
    let answer = server.get("/plain", family.as_str()).await;
    saw(refused(&mut events, answer, id).await, R::InvalidKey);
    let wrong = forge::wrong_secret(text);
    let answer = server.get("/plain", wrong.as_str()).await;
    saw(refused(&mut events, answer, id).await, R::InvalidKey);
    let unknown = KeyId::from_u128(77);
    let unheard = forge::key("my_api", unknown.as_str(), &other.secret);
    let answer = server.get("/wrapped/plain", unheard.as_str()).await;
    saw(
        refused(&mut events, answer, Some(unknown)).await,
        R::InvalidKey,
    );
    let inside = format!("{{\"api_key\": \"{wrong}\"}}");
    let answer = server.post("/body", None, &inside).await;
    saw(refused(&mut events, answer, id).await, R::InvalidKey);
    let answer = server.get("/scoped", text).await;
    saw(refused(&mut events, answer, id).await, R::InsufficientScope);
    let answer = server.post("/methods", text, "").await;
    saw(
        refused(&mut events, answer, id).await,
        R::MethodNotPermitted,
    );
    let answer = server.get("/template", text).await;
    saw(refused(&mut events, answer, id).await, R::Misconfigured);
    let answer = server.get("/plain", elsewhere.expose_secret()).await;
    let own = Some(elsewhere.id());
    saw(
        refused(&mut events, answer, own).await,
        R::AddressNotPermitted,
    );
    let answer = server.get("/plain", later.expose_secret()).await;
    let own = Some(later.id());
    saw(refused(&mut events, answer, own).await, R::NotYetValid);

    // Because of a change; the event of the change comes first.
    let now = Timestamp::from(std::time::SystemTime::now());
    manager
        .update(later.id())
        .not_before(None)
        .expires_at(now)
        .await
        .unwrap();
    assert_eq!(next(&mut events).await.kind, EventKind::Updated);
    let answer = server.get("/plain", later.expose_secret()).await;
    saw(refused(&mut events, answer, own).await, R::Expired);
    manager.disable(key.id()).await.unwrap();
    assert_eq!(next(&mut events).await.kind, EventKind::Disabled);
    let answer = server.get("/plain", text).await;
    saw(refused(&mut events, answer, id).await, R::Disabled);
    manager.revoke(key.id()).await.unwrap();
    assert_eq!(words(&next(&mut events).await), "revoked - by -");
    // The first from the store, the second from the cache.
    for _ in 0..2 {
        let answer = server.get("/plain", text).await;
        saw(refused(&mut events, answer, id).await, R::Revoked);
    }
    store.go_down();
    let cold = forge::key("my_api", KeyId::from_u128(78).as_str(), &other.secret);
    let answer = server.get("/plain", cold.as_str()).await;
    let own = Some(KeyId::from_u128(78));
    saw(refused(&mut events, answer, own).await, R::StoreUnavailable);
    store.heal();

    assert_eq!(told(&mut events, &manager).await, NOTHING, "one each");
    seen.sort_by_key(|reason| reason.code());
    seen.dedup();
    assert_eq!(seen.len(), 17, "all reasons except for `NoManager`");
}

#[actix_web::test]
async fn who_is_let_through_makes_no_event() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let mut events = manager.events();
    for _ in 0..2 {
        server.get("/plain", key.expose_secret()).await.says("in");
        server.get("/optional", None).await.says("in");
        let answer = server.get("/wrapped/plain", key.expose_secret()).await;
        answer.says("in");
    }
    manager.verify(key.expose_secret()).await.unwrap();
    assert_eq!(told(&mut events, &manager).await, NOTHING);
    // Control: another request of the same client is an event.
    server.get("/plain", None).await.refused(401, "missing-key");
    assert_eq!(
        told(&mut events, &manager).await,
        ["denied missing-key by -"]
    );
}

#[actix_web::test]
async fn a_check_by_the_application_is_told_too() {
    let manager = manager().await;
    let mut events = manager.events();
    assert!(manager.verify("nonsense").await.is_err());
    assert_eq!(
        told(&mut events, &manager).await,
        ["denied invalid-key by -"]
    );
}

#[actix_web::test]
async fn a_slow_reader_learns_how_many_it_missed_and_nobody_waits_for_it() {
    let manager = manager().await;
    let (mut slow, mut other) = (manager.events(), manager.events());
    const ROOM: u64 = 1024;
    for _ in 0..ROOM + 5 {
        assert!(manager.verify("nonsense").await.is_err());
    }
    for events in [&mut slow, &mut other] {
        let missed = next(events).await;
        assert!(
            matches!(missed.kind, EventKind::Lagged { count: 5, .. }),
            "{missed:?}"
        );
        assert_eq!((missed.key_id, missed.actor), (None, None));
        for _ in 0..ROOM {
            assert_eq!(reason(&next(events).await), Some(DenyReason::InvalidKey));
        }
        assert!(tokio::time::timeout(NEVER, events.next()).await.is_err());
    }
}

#[actix_web::test]
async fn shutdown_ends_the_stream_when_all_of_it_is_read() {
    let manager = manager().await;
    let mut events = manager.events();
    let mut waiting = manager.events();
    let waits = rt::spawn(async move {
        let first = waiting.next().await;
        (first, waiting.next().await)
    });
    let key = manager.create("a").await.unwrap();
    manager.shutdown().await.unwrap();
    // It is denied, and the stream has ended.
    assert!(manager.verify(key.expose_secret()).await.is_err());
    assert_eq!(words(&next(&mut events).await), "created - by -");
    assert_eq!(soon(events.next()).await, None);
    assert_eq!(soon(events.next()).await, None);
    let (first, second) = soon(waits).await.unwrap();
    assert_eq!(
        (first.map(|event| words(&event)), second),
        (Some("created - by -".to_owned()), None)
    );
    assert_eq!(soon(manager.events().next()).await, None);
}

#[actix_web::test]
async fn the_stream_ends_with_a_manager_that_nobody_holds_any_more() {
    let manager = ApiKeyManager::builder().store(MemoryStore::new());
    let manager = manager.start().await.unwrap();
    let mut events = manager.events();
    drop(manager);
    assert_eq!(soon(events.next()).await, None);
}

#[actix_web::test]
async fn events_of_two_managers_on_one_store_are_apart() {
    let store = Arc::new(MemoryStore::new());
    let (here, there) = (manager_on(store.clone()).await, manager_on(store).await);
    let mut events = here.events();
    there.create("a").await.unwrap();
    assert_eq!(told(&mut events, &here).await, NOTHING);
}
