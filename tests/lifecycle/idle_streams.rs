//! Streams end when their key becomes idle. An open stream is not a use of its key.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes};
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, KeyStore, NewKey, api_key_required};
use apikey_test_support::http::{Client, Server, get_request};
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{PATIENCE, within};
use futures_util::StreamExt;
use futures_util::stream::once;

use crate::HOUR;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Says why it ends.
#[api_key_required]
async fn stream(key: ApiKey) -> HttpResponse {
    let end = key.watch();
    let open = once(ready("open"));
    let body = open.chain(once(async move { end.await.code() }));
    let body = body.map(|text| Ok::<_, actix_web::Error>(Bytes::from(text)));
    HttpResponse::Ok().streaming(body)
}

#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

struct Streaming {
    manager: ApiKeyManager,
    server: Server,
}

impl Streaming {
    async fn start(store: Arc<dyn KeyStore>, clock: &Arc<ManualClock>, patience: Duration) -> Self {
        let config = Config::builder()
            .idle_expiry(DAY)
            .usage_flush_interval(HOUR)
            .watch_patience(patience);
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(store)
            .clock(Arc::clone(clock) as Arc<dyn Clock>)
            .start()
            .await
            .unwrap();
        let app_manager = manager.clone();
        let server = Server::start(move |app| {
            app_manager.init_app(app);
            app.route("/stream", web::get().to(stream))
                .route("/plain", web::get().to(plain));
        });
        Self { manager, server }
    }

    async fn open(&self, key: &NewKey) -> Client {
        let mut client = self.server.connect().await;
        let authorization = format!("Bearer {}", key.expose_secret());
        let request = get_request("/stream", &[("Authorization", &authorization)]);
        client.send(request).await;
        assert_eq!(client.head_only().await.status, 200);
        assert_eq!(client.bytes(9).await, b"4\r\nopen\r\n");
        client
    }

    /// Uses the key beside the stream.
    async fn use_it(&self, key: &NewKey) {
        let answer = self.server.get("/plain", key.expose_secret()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Waits for the body's end, and returns what it says of it.
async fn end(mut stream: Client) -> String {
    let mut said = Vec::new();
    while !said.ends_with(b"0\r\n\r\n") {
        said.extend(stream.bytes(1).await);
    }
    let said = String::from_utf8(said).unwrap();
    said.split("\r\n").nth(1).unwrap().to_owned()
}

#[actix_web::test]
async fn a_stream_ends_with_its_idle_key_and_goes_on_while_the_key_is_used() {
    let clock = Arc::new(ManualClock::starting_now());
    let store = GateStore::new();
    let node = Streaming::start(store.clone(), &clock, HOUR).await;
    let create = async || node.manager.create("a").await.unwrap();
    let (used, unused) = (create().await, create().await);
    let (of_used, of_unused) = (node.open(&used).await, node.open(&unused).await);
    clock.advance(DAY - HOUR);
    node.use_it(&used).await;
    clock.advance(HOUR);
    assert_eq!(end(of_unused).await, "idle");
    // The other one was judged by its last use: each watch wakes at the end of its key.
    let judged = async || store.count(Call::LastUsed) >= 3;
    assert!(within(PATIENCE, judged).await.is_some());
    clock.advance(DAY - HOUR * 2);
    node.use_it(&used).await;
    clock.advance(DAY);
    assert_eq!(end(of_used).await, "idle");
}

/// Whether the key was used elsewhere is not known then.
#[actix_web::test]
async fn a_stream_is_not_said_to_be_idle_while_the_store_does_not_answer() {
    let clock = Arc::new(ManualClock::starting_now());
    let store = GateStore::new();
    let node = Streaming::start(store.clone(), &clock, Duration::from_millis(200)).await;
    let key = node.manager.create("a").await.unwrap();
    let stream = node.open(&key).await;
    store.fail(Call::LastUsed, Fault::Unavailable);
    clock.advance(DAY);
    assert_eq!(end(stream).await, "unknown");
}
