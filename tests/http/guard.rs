//! The guard: a denied request is not touched.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, get, post, web};
use apikey_runtime::{ApiKey, ApiKeyManager, api_key_required};
use apikey_test_support::http::{Server, post_head};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{SLACK, forge, manager, patient_manager, timeless_manager};
use serde::Deserialize;

/// Counts how often an extractor of the handler, and a handler, began.
#[derive(Debug, Clone, Default)]
struct Traces {
    extracted: Arc<AtomicUsize>,
    handled: Arc<AtomicUsize>,
}

impl Traces {
    fn counts(&self) -> (usize, usize) {
        (self.extracted.load(SeqCst), self.handled.load(SeqCst))
    }
}

/// An extractor that leaves a trace, and lets its handler leave one.
struct Traced(Traces);

impl FromRequest for Traced {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let traces = request.app_data::<Traces>().unwrap();
        traces.extracted.fetch_add(1, SeqCst);
        ready(Ok(Self(traces.clone())))
    }
}

impl Traced {
    fn handled(&self) {
        self.0.handled.fetch_add(1, SeqCst);
    }
}

/// For negative controls: a guard as one argument among others, with a store that never reports
/// that a key is missing. So all effects of such a request come from the other arguments.
struct FirstArgument;

impl FromRequest for FirstArgument {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let key = request.headers().contains_key("authorization");
        Box::pin(async move {
            if key {
                Ok(Self)
            } else {
                std::future::pending().await
            }
        })
    }
}

#[derive(Deserialize)]
struct Order {
    item: String,
}

#[post("/guarded")]
#[api_key_required]
async fn guarded(traced: Traced, order: web::Json<Order>) -> String {
    traced.handled();
    order.into_inner().item
}

#[post("/unguarded")]
async fn unguarded(_guard: FirstArgument, traced: Traced, order: web::Json<Order>) -> String {
    traced.handled();
    order.into_inner().item
}

#[api_key_required]
#[post("/below")]
async fn below(traced: Traced, order: web::Json<Order>) -> String {
    traced.handled();
    order.into_inner().item
}

fn serve(manager: &ApiKeyManager, traces: &Traces) -> Server {
    let (manager, traces) = (manager.clone(), traces.clone());
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(traces.clone())
            .service((guarded, below, unguarded));
    })
}

async fn a_broken_body_without_a_key(server: &Server, path: &str) -> Result<(), String> {
    let answer = server.post(path, None, "{ broken").await;
    if answer.status == 401 {
        Ok(())
    } else {
        Err(format!("{answer:?}"))
    }
}

#[actix_web::test]
async fn m01_without_a_key_a_broken_body_is_401() {
    let server = serve(&manager().await, &Traces::default());
    a_broken_body_without_a_key(&server, "/guarded")
        .await
        .unwrap();
    a_broken_body_without_a_key(&server, "/below")
        .await
        .unwrap();
    a_broken_body_without_a_key(&server, "/unguarded")
        .await
        .expect_err("the control");
    let key = manager().await.create("other").await.unwrap();
    server
        .post("/guarded", key.expose_secret(), "{ broken")
        .await
        .refused(401, "invalid-key");
}

#[actix_web::test]
async fn m01_with_a_key_a_broken_body_is_the_extractors_own_400() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, &Traces::default());
    for _ in 0..2 {
        assert_eq!(
            server
                .post("/guarded", key.expose_secret(), "{ broken")
                .await
                .status,
            400
        );
        server
            .post("/guarded", key.expose_secret(), r#"{"item":"tea"}"#)
            .await
            .says("tea");
    }
}

/// Sends a head that announces a long body, and one byte of the body; the rest never comes.
async fn a_slow_body(
    server: &Server,
    path: &str,
    key: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    let mut client = server.connect().await;
    client.send(post_head(path, key, 100_000)).await;
    client.send("{").await;
    match tokio::time::timeout(limit, client.answer()).await {
        Ok(answer) if answer.status == 401 => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[actix_web::test]
async fn m02_without_a_key_a_slow_body_is_401_at_once_and_unread() {
    let traces = Traces::default();
    let server = serve(&manager().await, &traces);
    for path in ["/guarded", "/below"] {
        a_slow_body(&server, path, None, SLACK).await.unwrap();
    }
    // The slow path: the store is asked, and does not know the key.
    a_slow_body(&server, "/guarded", Some(&forge::unknown()), SLACK)
        .await
        .unwrap();
    assert_eq!(traces.counts(), (0, 0));
    a_slow_body(&server, "/unguarded", None, Duration::from_millis(900))
        .await
        .expect_err("the control");
}

#[actix_web::test]
async fn m03_without_a_key_no_extractor_of_the_handler_runs() {
    let traces = Traces::default();
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, &traces);
    let body = r#"{"item":"tea"}"#;
    for path in ["/guarded", "/below"] {
        for refused in [None, Some(forge::unknown()), Some("nonsense".to_owned())] {
            assert_eq!(
                server.post(path, refused.as_deref(), body).await.status,
                401
            );
        }
    }
    assert_eq!(traces.counts(), (0, 0));
    assert_eq!(
        server.post("/unguarded", None, "{ broken").await.status,
        400
    );
    assert_eq!(traces.counts(), (1, 0), "the control");
    server
        .post("/guarded", key.expose_secret(), body)
        .await
        .says("tea");
    assert_eq!(traces.counts(), (2, 1));
}

#[actix_web::test]
async fn m03_while_the_store_is_asked_no_extractor_of_the_handler_runs() {
    let traces = Traces::default();
    let store = GateStore::new();
    let manager = patient_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager, &traces);
    let gate = store.gate_before(Call::Find);
    let mut client = server.connect().await;
    let body = r#"{"item":"tea"}"#;
    client
        .send(post_head("/guarded", key.expose_secret(), body.len()))
        .await;
    client.send(body).await;
    gate.arrived().await;
    assert_eq!(traces.counts(), (0, 0));
    gate.open();
    client.answer().await.says("tea");
    assert_eq!(traces.counts(), (1, 1));
}

#[actix_web::test]
async fn m04_without_a_manager_the_answer_is_500_and_the_handler_has_not_run() {
    let traces = Traces::default();
    let key = manager().await.create("a").await.unwrap();
    let configured = traces.clone();
    let server = Server::start(move |app| {
        app.app_data(configured.clone()).service((guarded, below));
    });
    for path in ["/guarded", "/below"] {
        for key in [None, Some(key.expose_secret())] {
            server
                .post(path, key, r#"{"item":"tea"}"#)
                .await
                .refused(500, "no-manager");
        }
    }
    assert_eq!(traces.counts(), (0, 0));
}

#[get("/panics")]
#[api_key_required]
async fn panics() -> &'static str {
    panic!("a handler that panics");
}

#[get("/fine")]
#[api_key_required]
async fn fine(key: ApiKey) -> String {
    key.label().to_owned()
}

#[actix_web::test]
async fn m09_after_a_handler_that_panics_the_next_request_is_served() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service((panics, fine));
    });
    let bearer = format!("Bearer {}", key.expose_secret());
    let request = apikey_test_support::http::get_request("/panics", &[("Authorization", &bearer)]);
    // First with a cold cache, then warm.
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send(&request).await;
        assert!(
            client
                .try_answer()
                .await
                .is_none_or(|answer| answer.status == 500)
        );
        server.get("/fine", key.expose_secret()).await.says("a");
        server.get("/fine", None).await.refused(401, "missing-key");
    }
}

#[actix_web::test]
async fn m09_after_a_client_that_goes_away_while_the_store_is_asked_the_next_request_is_served() {
    let traces = Traces::default();
    let store = GateStore::new();
    let manager = timeless_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.polled().await;
    let server = serve(&manager, &traces);
    let gate = store.gate_before(Call::Find);
    let mut gone = server.connect().await;
    gone.send(post_head("/guarded", key.expose_secret(), 100))
        .await;
    gone.send("{").await;
    gate.arrived().await;
    drop(gone);
    // The same key, while the read that the other request started is still in flight.
    let mut next = server.connect().await;
    let body = r#"{"item":"tea"}"#;
    next.send(post_head("/guarded", key.expose_secret(), body.len()))
        .await;
    next.send(body).await;
    gate.open();
    next.answer().await.says("tea");
    server
        .post("/guarded", key.expose_secret(), body)
        .await
        .says("tea");
    assert_eq!(traces.handled.load(SeqCst), 2);
    assert_eq!(
        store.count(Call::Find),
        1,
        "the read continued without its first caller"
    );
}

#[get("/nobody")]
async fn nobody_checked(traced: Traced, _key: ApiKey) -> &'static str {
    traced.handled();
    "unreachable"
}

#[get("/maybe")]
async fn maybe_checked(key: Option<ApiKey>) -> &'static str {
    if key.is_some() { "some" } else { "none" }
}

#[actix_web::test]
async fn m11_the_extractor_in_an_unguarded_handler_refuses() {
    let traces = Traces::default();
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let (configured, seen) = (manager.clone(), traces.clone());
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(seen.clone())
            .service((nobody_checked, maybe_checked, fine));
    });
    let bearer = format!("Bearer {}", key.expose_secret());
    let mut client = server.connect().await;
    // After a checked request on the same connection: a request's key is its own.
    client
        .get("/fine", &[("Authorization", &bearer)])
        .await
        .says("a");
    client
        .get("/nobody", &[("Authorization", &bearer)])
        .await
        .refused(500, "misconfigured-route");
    client
        .get("/maybe", &[("Authorization", &bearer)])
        .await
        .says("none");
    assert_eq!(traces.handled.load(SeqCst), 0);
}
