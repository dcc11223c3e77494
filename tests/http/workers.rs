//! Workers that block or end, and callers that go away: the manager's own thread goes on.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use actix_web::{get, web};
use apikey_runtime::manager::RequestFacts;
use apikey_runtime::store::WriteOptions;
use apikey_runtime::{
    ApiKey, ApiKeyManager, DenyReason, KeyStore, MemoryStore, Policy, SqliteStore, api_key_required,
};
use apikey_test_support::http::{Server, get_request};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{PATIENCE, manager_on, patient_manager, soon, within};

const LONG: Duration = Duration::from_secs(60);

/// Stops its whole worker in a handler until the test lets it go on.
#[derive(Clone)]
struct Stop {
    arrived: SyncSender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Stop {
    fn new() -> (Self, Receiver<()>, SyncSender<()>) {
        let ((arrived, has_arrived), (let_go, go_on)) = (sync_channel(1), sync_channel(1));
        (
            Self {
                arrived,
                go_on: Arc::new(Mutex::new(go_on)),
            },
            has_arrived,
            let_go,
        )
    }
}

/// Blocks the thread, as a handler that computes or reads a file does.
#[get("/block")]
#[api_key_required]
async fn block(key: ApiKey, stop: web::Data<Stop>) -> String {
    stop.arrived.send(()).unwrap();
    stop.go_on.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    key.label().to_owned()
}

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/fresh")]
#[api_key_required(fresh)]
async fn fresh(key: ApiKey) -> String {
    key.label().to_owned()
}

fn serve(manager: &ApiKeyManager, stop: &Stop) -> Server {
    let (manager, stop) = (manager.clone(), stop.clone());
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(web::Data::new(stop.clone()))
            .service((block, who, fresh));
    })
}

fn sqlite() -> (tempfile::TempDir, Arc<dyn KeyStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::new(folder.path().join("keys.db")));
    (folder, store)
}

async fn has_arrived(arrived: Receiver<()>) {
    let wait = move || arrived.recv_timeout(PATIENCE).unwrap();
    actix_web::rt::task::spawn_blocking(wait).await.unwrap();
}

#[actix_web::test]
async fn a_worker_that_is_busy_stalls_no_other() {
    let (_folder, store) = sqlite();
    let manager = manager_on(store).await;
    let key = manager.create("a").await.unwrap();
    let cold = manager.create("cold").await.unwrap();
    let (stop, arrived, let_go) = Stop::new();
    // Two servers of one worker each, so that the thread of each request is known.
    let (busy, other) = (serve(&manager, &stop), serve(&manager, &stop));
    let bearer = format!("Bearer {}", key.expose_secret());
    // The busy worker is the first to need the store.
    let mut blocked = busy.connect().await;
    blocked
        .send(get_request("/block", &[("Authorization", &bearer)]))
        .await;
    has_arrived(arrived).await;

    // Control: requests on that worker itself wait.
    let mut waiting = busy.connect().await;
    waiting
        .send(get_request("/who", &[("Authorization", &bearer)]))
        .await;
    let answer = tokio::time::timeout(Duration::from_millis(300), waiting.answer()).await;
    assert!(answer.is_err(), "the worker is not blocked: {answer:?}");

    // Warm and cold reads, writes and polls go on.
    for _ in 0..3 {
        other.get("/who", key.expose_secret()).await.says("a");
        other.get("/fresh", key.expose_secret()).await.says("a");
        other.get("/who", cold.expose_secret()).await.says("cold");
    }
    let made = soon(async { manager.create("made").await.unwrap() }).await;
    other.get("/who", made.expose_secret()).await.says("made");
    soon(async { manager.revoke(cold.id()).await.unwrap() }).await;
    other
        .get("/who", cold.expose_secret())
        .await
        .refused(401, "revoked-key");

    let_go.send(()).unwrap();
    blocked.answer().await.says("a");
    waiting.answer().await.says("a");
}

#[actix_web::test]
async fn a_worker_that_asked_the_store_and_then_got_busy_stalls_no_one_who_waits_for_the_same_read()
{
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let blocker = manager.create("blocker").await.unwrap();
    let (stop, arrived, let_go) = Stop::new();
    let (busy, other) = (serve(&manager, &stop), serve(&manager, &stop));
    busy.get("/who", blocker.expose_secret())
        .await
        .says("blocker");
    let gate = store.gate_before(Call::Find);
    let bearer = |secret: &str| format!("Bearer {secret}");
    // The busy worker begins the read, and is blocked while it is in flight.
    let mut first = busy.connect().await;
    first
        .send(get_request(
            "/who",
            &[("Authorization", &bearer(key.expose_secret()))],
        ))
        .await;
    gate.arrived().await;
    store.heal();
    let mut blocked = busy.connect().await;
    blocked
        .send(get_request(
            "/block",
            &[("Authorization", &bearer(blocker.expose_secret()))],
        ))
        .await;
    has_arrived(arrived).await;
    // The other worker joins the read.
    let mut second = other.connect().await;
    second
        .send(get_request(
            "/who",
            &[("Authorization", &bearer(key.expose_secret()))],
        ))
        .await;
    gate.open();
    second.answer().await.says("a");
    let_go.send(()).unwrap();
    first.answer().await.says("a");
    blocked.answer().await.says("blocker");
}

#[test]
fn two_runtimes_after_each_other_use_one_manager() {
    let (_folder, store) = sqlite();
    let (stop, ..) = Stop::new();
    let (manager, key) = actix_web::rt::System::new().block_on(async {
        let manager = manager_on(store).await;
        let key = manager.create("a").await.unwrap();
        let server = serve(&manager, &stop);
        server.get("/who", key.expose_secret()).await.says("a");
        (manager, key)
    });
    // The runtime that opened the store has ended by now.
    for round in 0..2 {
        actix_web::rt::System::new().block_on(async {
            let server = serve(&manager, &stop);
            server.get("/who", key.expose_secret()).await.says("a");
            server.get("/fresh", key.expose_secret()).await.says("a");
            let label = format!("made {round}");
            let made = soon(async { manager.create(label.as_str()).await.unwrap() }).await;
            server.get("/who", made.expose_secret()).await.says(&label);
            soon(async { manager.revoke(made.id()).await.unwrap() }).await;
            server
                .get("/fresh", made.expose_secret())
                .await
                .refused(401, "revoked-key");
        });
    }
    // Without actix, too.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        assert!(manager.verify(key.expose_secret()).await.is_ok());
        manager.shutdown().await.unwrap();
    });
}

async fn refusal(manager: &ApiKeyManager, key: &str) -> Option<DenyReason> {
    soon(manager.verify(key))
        .await
        .err()
        .map(|denied| denied.reason())
}

#[actix_web::test]
async fn a_revocation_whose_caller_goes_away_is_carried_out_and_evicts() {
    // Before the commit, and after it.
    for after in [false, true] {
        let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LONG)));
        let manager = patient_manager(store.clone()).await;
        let key = manager.create("a").await.unwrap();
        assert_eq!(refusal(&manager, key.expose_secret()).await, None);
        let gate = if after {
            store.gate_after(Call::Revoke)
        } else {
            store.gate_before(Call::Revoke)
        };
        // A poll cannot be what evicts it from the cache.
        let _never = store.gate_before(Call::Changes);
        let mut revoking = Box::pin(manager.revoke(key.id()).into_future());
        assert!(
            revoking
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        gate.arrived().await;
        drop(revoking);
        gate.open();
        let dead = within(PATIENCE, async || {
            refusal(&manager, key.expose_secret()).await.is_some()
        });
        assert!(dead.await.is_some());
        assert_eq!(
            refusal(&manager, key.expose_secret()).await,
            Some(DenyReason::Revoked)
        );
    }
}

#[actix_web::test]
async fn a_store_that_is_asked_by_its_caller_alone_would_be_left_undone() {
    // Control for the test above: the same without a manager in between.
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let gate = store.gate_before(Call::Revoke);
    let at = apikey_runtime::Timestamp::from_millis(1);
    let (id, revocation) = (
        key.id(),
        apikey_runtime::store::Revocation { at, reason: None },
    );
    let options = WriteOptions::new();
    let mut revoking = store.revoke(&id, &revocation, &options);
    assert!(
        revoking
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    gate.arrived().await;
    drop(revoking);
    gate.open();
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
}

#[actix_web::test]
async fn what_is_under_way_at_a_shutdown_is_finished_first() {
    let (_folder, inner) = sqlite();
    let store = GateStore::around(inner);
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    assert_eq!(refusal(&manager, key.expose_secret()).await, None);
    let gate = store.gate_before(Call::Revoke);
    let (revoking, id) = (manager.clone(), key.id());
    let revoking = tokio::spawn(async move { revoking.revoke(id).await });
    gate.arrived().await;
    let ending = manager.clone();
    let ending = tokio::spawn(async move { ending.shutdown().await });
    tokio::task::yield_now().await;
    gate.open();
    assert!(soon(revoking).await.unwrap().unwrap());
    soon(ending).await.unwrap().unwrap();
    assert_eq!(
        refusal(&manager, key.expose_secret()).await,
        Some(DenyReason::StoreUnavailable)
    );
    assert!(manager.shutdown().await.is_err());
}

/// Returns whether a value can be sent to another thread, at run time instead of as a compiler
/// error.
trait NotSend {
    fn is_send(&self) -> bool {
        false
    }
}

struct Probe<T>(T);

impl<T> NotSend for Probe<T> {}

impl<T: Send> Probe<T> {
    fn is_send(&self) -> bool {
        true
    }
}

#[actix_web::test]
async fn every_call_of_the_manager_can_be_awaited_on_a_runtime_of_many_threads() {
    let manager = manager_on(GateStore::new()).await;
    let key = manager.create("a").await.unwrap();
    let id = key.id();
    assert!(!Probe(std::rc::Rc::new(())).is_send(), "the control");
    assert!(Probe(manager.create("b").into_future()).is_send());
    assert!(Probe(manager.revoke(id).into_future()).is_send());
    assert!(Probe(manager.get(id)).is_send());
    assert!(Probe(manager.shutdown()).is_send());
    assert!(Probe(ApiKeyManager::builder().start()).is_send());
    assert!(
        Probe(manager.verify(key.expose_secret())).is_send(),
        "verify"
    );
    let (policy, facts) = (Policy::new(), RequestFacts::new());
    let check = manager.check(key.expose_secret(), &policy, &facts);
    assert!(Probe(check).is_send(), "check");
    assert!(Probe(manager.introspect(key.expose_secret())).is_send());
    let revoke = manager.revoke_presented(key.expose_secret());
    assert!(Probe(revoke.confirmed().into_future()).is_send());
    assert!(Probe(manager.usage_of(&[id]).into_future()).is_send());
    assert!(Probe(manager.last_used_of(&[id])).is_send());
}
