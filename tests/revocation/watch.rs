//! `ApiKey::watch`: a stream ends when its key may not go on, whoever changed the key.

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, get};
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{
    ApiKey, ApiKeyManager, Config, KeyStore, KeyWatch, MemoryStore, NewKey, Policy, RequireApiKey,
    ScopeExpr, Timestamp, WatchEnd, api_key_required,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::{Client, Server, get_request};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{SLACK, manager, manager_at, manager_on, soon, within};
use futures_util::StreamExt;
use futures_util::stream::{once, repeat};

/// Long enough for every node to acknowledge on a busy machine.
const LEASE: Duration = Duration::from_millis(500);

/// Outlasts every test.
const LONG: Duration = Duration::from_secs(3_600);

/// Says why it ends.
fn stream_of(key: &ApiKey) -> HttpResponse {
    let end = key.watch();
    let open = once(ready("open"));
    let body = open.chain(once(async move { end.await.code() }));
    let body = body.map(|text| Ok::<_, actix_web::Error>(Bytes::from(text)));
    HttpResponse::Ok().streaming(body)
}

#[get("/plain")]
#[api_key_required]
async fn plain(key: ApiKey) -> HttpResponse {
    stream_of(&key)
}

#[get("/scoped")]
#[api_key_required(scope = "feed:read")]
async fn scoped(key: ApiKey) -> HttpResponse {
    stream_of(&key)
}

#[get("/projects/{id}")]
#[api_key_required(scope = "project:{id}:read")]
async fn project(key: ApiKey) -> HttpResponse {
    stream_of(&key)
}

/// Behind a middleware that requires another scope.
#[api_key_required(scope = "feed:read")]
async fn inner(key: ApiKey) -> HttpResponse {
    stream_of(&key)
}

/// A stream without an end of its own.
#[get("/endless")]
#[api_key_required]
async fn endless(key: ApiKey) -> HttpResponse {
    let tick = || once(tokio::time::sleep(Duration::from_millis(20)));
    let ticks = repeat(()).flat_map(move |()| tick());
    let body = ticks.take_until(key.watch());
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .streaming(body.map(|()| Ok::<_, actix_web::Error>(Bytes::from("data: tick\n\n"))))
}

fn serve(manager: &ApiKeyManager) -> Server {
    const OUTER: Policy = Policy::new().scopes(ScopeExpr::One("outer"));
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        let guarded = web::scope("/nested").wrap(RequireApiKey::with(OUTER));
        app.service(plain)
            .service(scoped)
            .service(project)
            .service(endless)
            .service(guarded.route("", web::get().to(inner)));
    })
}

/// An open stream.
struct Stream(Client);

impl Stream {
    async fn open(server: &Server, path: &str, key: &NewKey) -> Self {
        Self::open_with(server, path, key.expose_secret()).await
    }

    async fn open_with(server: &Server, path: &str, secret: &str) -> Self {
        let mut client = server.connect().await;
        let authorization = format!("Bearer {secret}");
        let request = get_request(path, &[("Authorization", &authorization)]);
        client.send(request).await;
        assert_eq!(client.head_only().await.status, 200, "{path}");
        assert_eq!(client.bytes(9).await, b"4\r\nopen\r\n");
        Self(client)
    }

    /// Waits for the body's end, and returns what it says of it.
    async fn end(mut self) -> String {
        let mut said = Vec::new();
        while !said.ends_with(b"0\r\n\r\n") {
            said.extend(self.0.bytes(1).await);
        }
        let said = String::from_utf8(said).unwrap();
        said.split("\r\n").nth(1).unwrap().to_owned()
    }
}

/// Starts a manager that is patient with a store that is away, on a store whose push it may miss.
async fn watching(store: Arc<dyn KeyStore>, is_deaf: bool) -> ApiKeyManager {
    let store = GateStore::around(store);
    if is_deaf {
        store.cut_push();
    }
    let config = Config::builder().watch_patience(LONG).build().unwrap();
    let builder = ApiKeyManager::builder().config(config).shared_store(store);
    builder.start().await.unwrap()
}

/// What ends a stream at this path, and how.
#[derive(Debug, Clone, Copy)]
enum Cause {
    Revoke,
    RevokeOwner,
    Disable,
    SuspendOwner,
    BeginLater,
    EndNow,
    EndSoon,
    RotateAtOnce,
    RotateWithShortGrace,
    LoseScope,
    LoseProject,
    LoseOuterScope,
    Purge,
}

const CAUSES: [(Cause, &str, &str); 13] = [
    (Cause::Revoke, "/plain", "revoked"),
    (Cause::RevokeOwner, "/plain", "revoked"),
    (Cause::Disable, "/plain", "disabled"),
    (Cause::SuspendOwner, "/plain", "disabled"),
    (Cause::BeginLater, "/plain", "disabled"),
    (Cause::EndNow, "/plain", "expired"),
    (Cause::EndSoon, "/plain", "expired"),
    (Cause::RotateAtOnce, "/plain", "grace-over"),
    (Cause::RotateWithShortGrace, "/plain", "grace-over"),
    (Cause::LoseScope, "/scoped", "scope-lost"),
    (Cause::LoseProject, "/projects/7", "scope-lost"),
    (Cause::LoseOuterScope, "/nested", "scope-lost"),
    (Cause::Purge, "/plain", "unknown"),
];

/// What `manager` does to the key. `store` is its store.
async fn change(
    manager: &ApiKeyManager,
    store: &dyn KeyStore,
    cause: Cause,
    key: &NewKey,
    owner: &str,
) {
    let id = key.id();
    let now = Timestamp::from(std::time::SystemTime::now());
    let soon = Timestamp::from_millis(now.as_millis() + 300);
    let later = Timestamp::from_millis(now.as_millis() + 3_600_000);
    let keep = async |scopes: &[&str]| {
        manager.update(id).scopes(scopes.to_vec()).await.unwrap();
    };
    match cause {
        Cause::Revoke => assert!(manager.revoke(id).await.unwrap()),
        Cause::RevokeOwner => assert!(manager.revoke_all(owner).await.unwrap()),
        Cause::Disable => manager.disable(id).await.unwrap(),
        Cause::SuspendOwner => assert!(manager.suspend_owner(owner).await.unwrap()),
        Cause::BeginLater => drop(manager.update(id).not_before(later).await.unwrap()),
        Cause::EndNow => drop(manager.update(id).expires_at(now).await.unwrap()),
        Cause::EndSoon => drop(manager.update(id).expires_at(soon).await.unwrap()),
        Cause::RotateAtOnce => drop(manager.rotate(id).await.unwrap()),
        Cause::RotateWithShortGrace => {
            let grace = Duration::from_millis(300);
            drop(manager.rotate(id).grace(grace).await.unwrap());
        }
        Cause::LoseScope => keep(&["project:7:read", "outer", "feed"]).await,
        Cause::LoseProject => keep(&["project:8:read", "outer", "feed:read"]).await,
        Cause::LoseOuterScope => keep(&["project:7:read", "feed:read"]).await,
        Cause::Purge => {
            // As a node purges whose clock is ahead.
            manager.update(id).expires_at(later).await.unwrap();
            let origin = ChangeOrigin::new();
            let step = store.purge(Timestamp::MAX, None, &origin).await.unwrap();
            assert!(step.keys.contains(&id));
        }
    }
}

async fn create(manager: &ApiKeyManager, owner: &str) -> NewKey {
    let scopes = ["project:7:read", "outer", "feed:read"];
    soon(manager.create("a").owner(owner).scopes(scopes))
        .await
        .unwrap()
}

/// Each end, by a change of another manager, with the push and without it. The control is a stream of
/// another key of another owner, which goes on until it is revoked itself.
#[actix_web::test]
async fn a_stream_ends_for_each_reason_that_another_manager_brings_about() {
    for fleet in Fleet::every(LEASE).await {
        let there = manager_on(fleet.store()).await;
        let store = fleet.store();
        store.start().await.unwrap();
        for is_deaf in [false, true] {
            let here = watching(fleet.store(), is_deaf).await;
            let server = serve(&here);
            for (cause, path, code) in CAUSES {
                let name = format!("{} {is_deaf} {cause:?}", fleet.name);
                let key = create(&there, &name).await;
                let control = create(&there, "control").await;
                let stream = Stream::open(&server, path, &key).await;
                let goes_on = Stream::open(&server, path, &control).await;
                change(&there, &*store, cause, &key, &name).await;
                assert_eq!(stream.end().await, code, "{name}");
                there.revoke(control.id()).await.unwrap();
                assert_eq!(goes_on.end().await, "revoked", "{name}");
            }
            here.shutdown().await.unwrap();
        }
    }
}

#[actix_web::test]
async fn a_rotation_within_its_grace_ends_neither_secret_and_the_second_one_ends_the_first() {
    for fleet in Fleet::every(LEASE).await {
        let (there, name) = (manager_on(fleet.store()).await, fleet.name);
        let here = watching(fleet.store(), false).await;
        let server = serve(&here);
        let first = create(&there, "a").await;
        let before = Stream::open(&server, "/plain", &first).await;
        let second = there.rotate(first.id()).grace(LONG).await.unwrap();
        let old = Stream::open(&server, "/plain", &first).await;
        let new = Stream::open(&server, "/plain", &second).await;
        let third = there.rotate(first.id()).grace(LONG).await.unwrap();
        for stream in [before, old] {
            assert_eq!(stream.end().await, "grace-over", "{name}");
        }
        let newest = Stream::open(&server, "/plain", &third).await;
        there.revoke(first.id()).await.unwrap();
        for stream in [new, newest] {
            assert_eq!(stream.end().await, "revoked", "{name}");
        }
    }
}

/// `take_until` ends the body, which an SSE client sees as the end of the stream.
#[actix_web::test]
async fn the_body_of_a_stream_without_an_end_ends() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let mut client = server.connect().await;
    let authorization = format!("Bearer {}", key.expose_secret());
    let request = get_request("/endless", &[("Authorization", &authorization)]);
    client.send(request).await;
    assert_eq!(client.head_only().await.status, 200);
    let tick = b"C\r\ndata: tick\n\n\r\n";
    for _ in 0..3 {
        assert_eq!(client.bytes(tick.len()).await, tick);
    }
    manager.revoke(key.id()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n0\r\n\r\n") && said != b"0\r\n\r\n" {
        said.extend(client.bytes(1).await);
    }
    // The client comes back, and is denied.
    let headers = [("Authorization", authorization.as_str())];
    let answer = client.get("/endless", &headers).await;
    answer.refused(401, "revoked-key");
}

/// The lease outlasts the step, and no push makes the manager poll, so that nothing else wakes the
/// watch. The control is a key whose end is a second later.
#[actix_web::test]
async fn a_step_of_the_wall_clock_ends_a_key_that_expires() {
    let clock = Arc::new(ManualClock::starting_now());
    let lease = Duration::from_secs(60);
    let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(lease)));
    store.cut_push();
    let manager = manager_at(store, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let life = Duration::from_secs(30);
    let key = manager.create("a").expires_in(life).await.unwrap();
    let later = life + Duration::from_secs(1);
    let other = manager.create("b").expires_in(later).await.unwrap();
    let watch = watched(&manager, &key).await;
    let control = watched(&manager, &other).await;
    judged(&manager).await;
    clock.step_wall(30_000);
    assert_eq!(soon(watch).await, WatchEnd::Expired);
    manager.revoke(other.id()).await.unwrap();
    assert_eq!(soon(control).await, WatchEnd::Revoked);
}

/// Waits until all watches were judged for the first time: that of a later one has ended.
async fn judged(manager: &ApiKeyManager) {
    let key = manager.create("last").await.unwrap();
    let watch = watched(manager, &key).await;
    manager.revoke(key.id()).await.unwrap();
    assert_eq!(soon(watch).await, WatchEnd::Revoked);
}

async fn manager_with(store: Arc<GateStore>, patience: Duration) -> ApiKeyManager {
    let config = Config::builder().watch_patience(patience).build().unwrap();
    let builder = ApiKeyManager::builder().config(config).shared_store(store);
    builder.start().await.unwrap()
}

async fn watched(manager: &ApiKeyManager, key: &NewKey) -> KeyWatch {
    let checked = soon(manager.verify(key.expose_secret())).await.unwrap();
    checked.watch()
}

#[actix_web::test]
async fn while_the_store_is_away_a_watch_ends_after_its_patience() {
    for patience in [Duration::from_millis(300), LONG] {
        let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
        let manager = manager_with(Arc::clone(&store), patience).await;
        let key = manager.create("a").await.unwrap();
        let watch = watched(&manager, &key).await;
        store.go_down();
        let began = Instant::now();
        if patience < LONG {
            assert_eq!(soon(watch).await, WatchEnd::Unknown);
            assert!(began.elapsed() >= patience);
        } else {
            // The control: the lease ends, reads fail, and the patience lasts.
            let reads = store.count(Call::Find);
            let tried = within(SLACK, async || store.count(Call::Find) > reads + 1);
            assert!(tried.await.is_some());
            store.heal();
            manager.revoke(key.id()).await.unwrap();
            assert_eq!(soon(watch).await, WatchEnd::Revoked);
        }
    }
}

/// A known end does not wait for the store.
#[actix_web::test]
async fn a_key_expires_while_the_store_is_away() {
    const LIFE: Duration = Duration::from_secs(600);
    // A watch that begins when the lease has ended knows what the request was allowed by.
    for is_late in [false, true] {
        let store = GateStore::around(Arc::new(MemoryStore::new().with_lease(LEASE)));
        let clock = Arc::new(ManualClock::starting_now());
        let config = Config::builder().watch_patience(LONG).build().unwrap();
        let builder = ApiKeyManager::builder().config(config);
        let builder = builder.shared_store(store.clone());
        let builder = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let manager = builder.start().await.unwrap();
        let key = manager.create("a").expires_in(LIFE).await.unwrap();
        let rotated = manager.create("b").await.unwrap();
        manager.rotate(rotated.id()).grace(LIFE).await.unwrap();
        let mut allowed = Vec::new();
        for key in [&key, &rotated] {
            allowed.push(soon(manager.verify(key.expose_secret())).await.unwrap());
        }
        let mut watches: Vec<_> = match is_late {
            false => allowed.iter().map(ApiKey::watch).collect(),
            true => Vec::new(),
        };
        store.go_down();
        if is_late {
            clock.advance(2 * LEASE);
            watches.extend(allowed.iter().map(ApiKey::watch));
        }
        let watches = futures_util::future::join_all(watches);
        let mut watches = Box::pin(watches);
        // Not before, the control.
        let early = tokio::time::timeout(2 * LEASE, &mut watches).await;
        assert!(early.is_err(), "{early:?}");
        clock.advance(LIFE);
        let ends = soon(watches).await;
        assert_eq!(ends, [WatchEnd::Expired, WatchEnd::GraceOver], "{is_late}");
    }
}

/// The node cannot poll, and does not hear of the change; its reads work.
#[actix_web::test]
async fn the_end_of_the_lease_wakes_a_watch() {
    let shared = Arc::new(MemoryStore::new().with_lease(LEASE));
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    let (here, there) = (
        manager_with(Arc::clone(&store), LONG).await,
        manager_on(shared).await,
    );
    let (key, other) = (
        there.create("a").await.unwrap(),
        there.create("b").await.unwrap(),
    );
    let watch = watched(&here, &key).await;
    let control = watched(&here, &other).await;
    store.fail(Call::Changes, Fault::Unavailable);
    there.revoke(key.id()).await.unwrap();
    assert_eq!(soon(watch).await, WatchEnd::Revoked);
    // A key is read again for as long as there is no lease.
    there.disable(other.id()).await.unwrap();
    assert_eq!(soon(control).await, WatchEnd::Disabled);
}

/// The answer of the poll does not name the key, for the store has another history.
#[actix_web::test]
async fn a_flush_wakes_all_watches_and_reads_64_keys_at_once() {
    const KEYS: usize = 200;
    const AT_ONCE: usize = 64;
    // A lease that does not end meanwhile.
    let shared = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    store.cut_push();
    let config = Config::builder().watch_patience(LONG);
    let config = config
        .store_timeout(Duration::from_secs(60))
        .build()
        .unwrap();
    let here = ApiKeyManager::builder()
        .config(config)
        .shared_store(Arc::clone(&store) as Arc<dyn KeyStore>);
    let here = here.start().await.unwrap();
    let there = manager_on(shared).await;
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        let key = here.create("a").await.unwrap();
        let watch = watched(&here, &key).await;
        keys.push((key, watch));
    }
    let (revoked, others) = keys.split_first_mut().unwrap();
    there.revoke(revoked.0.id()).await.unwrap();
    let gate = store.gate_before(Call::Find);
    let reads = store.count(Call::Find);
    store.restore();
    // A denial asks what changed, and the poll finds the other history.
    let unknown = apikey_test_support::forge::wrong_secret(others[0].0.expose_secret());
    let asked = here.clone();
    let asked = actix_web::rt::spawn(async move { asked.verify(&unknown).await.is_err() });
    for _ in 0..AT_ONCE {
        gate.arrived().await;
    }
    let begun = || store.count(Call::Find) - reads;
    // That of the denial may be one more.
    assert!((AT_ONCE..=AT_ONCE + 1).contains(&begun()), "{}", begun());
    gate.open();
    assert_eq!(soon(&mut revoked.1).await, WatchEnd::Revoked);
    assert!(soon(asked).await.unwrap());
    let all = within(SLACK, async || begun() >= KEYS).await;
    assert!(all.is_some(), "{}", begun());
    // The others go on.
    for (key, watch) in others {
        here.revoke(key.id()).await.unwrap();
        assert_eq!(soon(watch).await, WatchEnd::Revoked);
    }
}

#[actix_web::test]
async fn a_watch_that_starts_after_the_end_ends_at_once() {
    let store = GateStore::new();
    let manager = manager_on(Arc::clone(&store) as Arc<dyn KeyStore>).await;
    let (key, other) = (
        manager.create("a").await.unwrap(),
        manager.create("b").await.unwrap(),
    );
    let checked = manager.verify(key.expose_secret()).await.unwrap();
    let control = manager.verify(other.expose_secret()).await.unwrap();
    manager.revoke(key.id()).await.unwrap();
    // No poll names the key any more.
    store.polled().await;
    assert_eq!(soon(checked.watch()).await, WatchEnd::Revoked);
    let control = control.watch();
    manager.disable(other.id()).await.unwrap();
    assert_eq!(soon(control).await, WatchEnd::Disabled);
}

/// The first read after the key changed its owner is in flight while all keys of the new owner are
/// revoked.
#[actix_web::test]
async fn a_watch_sees_a_change_of_an_owner_that_its_key_has_just_got() {
    let shared = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    let (here, there) = (
        manager_with(Arc::clone(&store), LONG).await,
        manager_on(shared).await,
    );
    let key = there.create("a").owner("former").await.unwrap();
    let watch = watched(&here, &key).await;
    judged(&here).await;
    let gate = store.gate_after(Call::Find);
    there.update(key.id()).owner("new").await.unwrap();
    gate.arrived().await;
    assert!(soon(there.revoke_all("new")).await.unwrap());
    // The answer is from before the revocation.
    gate.open();
    assert_eq!(soon(watch).await, WatchEnd::Revoked);
}

/// The read of a judgement is slow, and the key is rotated meanwhile. The control is a watch of the former secret.
#[actix_web::test]
async fn a_read_from_before_a_rotation_does_not_end_a_watch_of_the_new_secret() {
    let shared = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    let (here, there) = (
        manager_with(Arc::clone(&store), LONG).await,
        manager_on(shared).await,
    );
    let key = there.create("a").await.unwrap();
    let former = watched(&here, &key).await;
    judged(&here).await;
    let gate = store.gate_after(Call::Find);
    there.update(key.id()).label("b").await.unwrap();
    gate.arrived().await;
    store.heal();
    let rotated = here.rotate(key.id()).await.unwrap();
    let new = watched(&here, &rotated).await;
    gate.open();
    // By the judgement that follows.
    assert_eq!(soon(former).await, WatchEnd::GraceOver);
    here.revoke(key.id()).await.unwrap();
    assert_eq!(soon(new).await, WatchEnd::Revoked);
}

/// A later end that this node does not know yet counts: the store is read before the watch ends.
#[actix_web::test]
async fn a_key_whose_end_was_moved_by_another_manager_goes_on() {
    let shared = Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
    let store = GateStore::around(Arc::clone(&shared) as Arc<dyn KeyStore>);
    store.cut_push();
    let clock = Arc::new(ManualClock::starting_now());
    let (here, there) = (
        manager_at(store.clone(), clock.clone()).await,
        manager_at(shared, clock.clone()).await,
    );
    let life = Duration::from_secs(1);
    let key = there.create("a").expires_in(life).await.unwrap();
    let other = there.create("b").expires_in(life).await.unwrap();
    let watch = watched(&here, &key).await;
    let control = watched(&here, &other).await;
    let later = there.now().checked_add(LONG).unwrap();
    there.update(key.id()).expires_at(later).await.unwrap();
    clock.advance(life);
    assert_eq!(soon(control).await, WatchEnd::Expired);
    // Both were read at the end that is known here.
    let read = within(SLACK, async || store.count(Call::Find) >= 4).await;
    assert!(read.is_some());
    here.disable(key.id()).await.unwrap();
    assert_eq!(soon(watch).await, WatchEnd::Disabled);
}

#[actix_web::test]
async fn a_shutdown_ends_all_watches() {
    let store = Arc::new(MemoryStore::new());
    let [here, there] = [
        manager_on(Arc::clone(&store) as Arc<dyn KeyStore>).await,
        manager_on(store).await,
    ];
    let key = here.create("a").await.unwrap();
    let checked = here.verify(key.expose_secret()).await.unwrap();
    let (watch, control) = (checked.watch(), watched(&there, &key).await);
    here.shutdown().await.unwrap();
    assert_eq!(soon(watch).await, WatchEnd::Unknown);
    assert_eq!(soon(checked.watch()).await, WatchEnd::Unknown);
    drop(here);
    assert_eq!(soon(checked.watch()).await, WatchEnd::Unknown);
    // The control: a watch with another manager goes on.
    there.revoke(key.id()).await.unwrap();
    assert_eq!(soon(control).await, WatchEnd::Revoked);
}

#[actix_web::test]
async fn a_manager_that_is_dropped_ends_all_watches() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let watch = watched(&manager, &key).await;
    drop(manager);
    assert_eq!(soon(watch).await, WatchEnd::Unknown);
}

/// The caller's runtime has no timers, and a future that lost a race is polled again.
#[actix_web::test]
async fn a_watch_runs_on_any_runtime_and_is_cancel_safe() {
    let manager = manager().await;
    let (key, other) = (
        manager.create("a").await.unwrap(),
        manager.create("b").await.unwrap(),
    );
    let mut watch = watched(&manager, &key).await;
    let never = watched(&manager, &other).await;
    tokio::select! {
        biased;
        end = &mut watch => panic!("{end:?}"),
        () = ready(()) => {}
    }
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let end = async {
            tokio::select! {
                end = watch => end,
                end = never => end,
                () = pending() => WatchEnd::Unknown,
            }
        };
        send.send(runtime.unwrap().block_on(end)).unwrap();
    });
    manager.revoke(key.id()).await.unwrap();
    assert_eq!(soon(receive).await.unwrap(), WatchEnd::Revoked);
}

/// How long a stream outlives a revocation by another manager. `WATCH_REVOCATIONS=1000` takes more
/// rounds, on a machine that has nothing else to do: then none may exceed the lease. `--nocapture` prints
/// the figures.
#[actix_web::test]
async fn a_watch_does_not_outlive_a_revocation_by_more_than_the_lease() {
    let rounds = std::env::var("WATCH_REVOCATIONS").ok();
    let slack = if rounds.is_some() {
        Duration::ZERO
    } else {
        SLACK
    };
    let rounds = rounds.map_or(20, |rounds| rounds.parse::<usize>().unwrap());
    for fleet in Fleet::every(LEASE).await {
        let there = manager_on(fleet.store()).await;
        for is_deaf in [false, true] {
            let here = watching(fleet.store(), is_deaf).await;
            let mut delays = Vec::new();
            for _ in 0..rounds {
                let key = there.create("a").await.unwrap();
                let watch = watched(&here, &key).await;
                there.revoke(key.id()).await.unwrap();
                let returned = Instant::now();
                assert_eq!(soon(watch).await, WatchEnd::Revoked);
                delays.push(returned.elapsed());
            }
            delays.sort();
            let (median, longest) = (delays[rounds / 2], delays[rounds - 1]);
            println!(
                "{} push cut: {is_deaf}: {rounds} revocations, median {median:?}, longest {longest:?}",
                fleet.name
            );
            assert!(
                median < LEASE + slack,
                "{} {is_deaf}: {median:?}",
                fleet.name
            );
            assert!(
                longest < LEASE + slack,
                "{} {is_deaf}: {longest:?}",
                fleet.name
            );
            here.shutdown().await.unwrap();
        }
    }
}
