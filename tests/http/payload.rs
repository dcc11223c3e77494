//! The body of a request that had to wait for the store.

use std::sync::Arc;

use actix_web::{get, post, web};
use apikey_runtime::{ApiKey, ApiKeyManager, NewKey, api_key_required};
use apikey_test_support::http::{Client, Server, get_request, post_head};
use apikey_test_support::store::{Call, Gate, GateStore};
use apikey_test_support::{forge, timeless_manager};

#[post("/reads")]
#[api_key_required]
async fn reads(body: web::Bytes) -> String {
    sum_of(&body)
}

#[post("/streams")]
#[api_key_required]
async fn streams(body: web::Payload) -> Result<String, actix_web::Error> {
    Ok(sum_of(
        &body
            .to_bytes()
            .await
            .map_err(actix_web::error::ErrorBadRequest)?,
    ))
}

#[post("/ignores")]
#[api_key_required]
async fn ignores(key: ApiKey) -> String {
    key.label().to_owned()
}

#[post("/limited")]
#[api_key_required]
async fn limited(body: web::Json<Vec<u8>>) -> String {
    sum_of(&body)
}

/// The same handler without a guard, for comparison.
#[post("/free")]
async fn free() -> &'static str {
    "free"
}

#[get("/open")]
async fn open() -> &'static str {
    "open"
}

fn sum_of(body: &[u8]) -> String {
    format!("{} {:08x}", body.len(), forge::crc32(body))
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(web::PayloadConfig::new(1 << 20));
        app.app_data(web::JsonConfig::default().limit(100));
        app.service((reads, streams, ignores, limited, free, open));
    })
}

async fn setup() -> (Arc<GateStore>, NewKey, Server) {
    let store = GateStore::new();
    let manager = timeless_manager(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    store.polled().await;
    (store, key, serve(&manager))
}

/// Adjacent bytes differ, so that a lost or duplicated chunk is detected.
fn body(length: usize) -> String {
    (0..length)
        .map(|at| char::from(b'a' + (at * at % 26) as u8))
        .collect()
}

/// Sends the head, and the body in two parts: one before the store answers, one after.
async fn around_the_gate(client: &mut Client, gate: &Gate, head: String, body: &str) {
    let (early, late) = body.split_at(body.len() / 2);
    client.send(head).await;
    client.send(early).await;
    gate.arrived().await;
    gate.open();
    client.send(late).await;
}

#[actix_web::test]
async fn a_body_that_came_while_the_store_was_asked_reaches_the_handler_whole() {
    for path in ["/reads", "/streams"] {
        for length in [0, 1, 1_000, 100_000, 700_000] {
            let (store, key, server) = setup().await;
            let gate = store.gate_after(Call::Find);
            let mut client = server.connect().await;
            let (key, body) = (key.expose_secret(), body(length));
            around_the_gate(&mut client, &gate, post_head(path, key, length), &body).await;
            client.answer().await.says(&sum_of(body.as_bytes()));
            // Warm, on the same connection.
            client
                .post(path, key, &body)
                .await
                .says(&sum_of(body.as_bytes()));
        }
    }
}

/// The framing of a body. If actix answers before it has read the body, it closes the connection
/// for a stated length, and drains a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

impl Framing {
    fn request(self, path: &str, key: Option<&str>, body: &str) -> String {
        let head = post_head(path, key, body.len());
        match self {
            Self::Length => head + body,
            Self::Chunked => {
                let length = format!("Content-Length: {}", body.len());
                let chunk = match body.len() {
                    0 => String::new(),
                    length => format!("{length:x}\r\n{body}\r\n"),
                };
                head.replace(&length, "Transfer-Encoding: chunked") + &chunk + "0\r\n\r\n"
            }
        }
    }
}

/// Returns whether a connection stays open after `path` received a body that its handler does not
/// read.
async fn goes_on_after(
    server: &Server,
    path: &str,
    key: Option<&str>,
    how: Framing,
    body: &str,
) -> bool {
    let mut client = server.connect().await;
    client.send(how.request(path, key, body)).await;
    client.answer().await;
    client.send_in_vain(get_request("/open", &[])).await;
    client
        .try_answer()
        .await
        .is_some_and(|answer| answer.text() == "open")
}

#[actix_web::test]
async fn a_connection_goes_on_behind_the_gate_where_it_does_without() {
    for (how, length) in [
        (Framing::Length, 0),
        (Framing::Length, 10),
        (Framing::Length, 20_000),
        (Framing::Chunked, 0),
        (Framing::Chunked, 10),
        (Framing::Chunked, 20_000),
    ] {
        let (store, key, server) = setup().await;
        let (key, body, unknown) = (key.expose_secret(), body(length), forge::unknown());
        let without = goes_on_after(&server, "/free", None, how, &body).await;
        assert!(
            without || (how, length > 0) == (Framing::Length, true),
            "{how:?} {length}"
        );
        for key in [None, Some("nonsense")] {
            let refused = goes_on_after(&server, "/ignores", key, how, &body).await;
            assert_eq!(refused, without, "{key:?} {how:?} {length}");
        }
        // Cold cache, then warm.
        for key in [key, key, &unknown, &unknown] {
            let asked = goes_on_after(&server, "/ignores", Some(key), how, &body).await;
            assert!(asked || !without, "{key} {how:?} {length}");
        }
        assert_eq!(store.count(Call::Find), 2);
    }
}

#[actix_web::test]
async fn a_chunked_body_reaches_the_handler_whole() {
    let (store, key, server) = setup().await;
    let gate = store.gate_after(Call::Find);
    let mut client = server.connect().await;
    client
        .send(format!(
            "POST /reads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            key.expose_secret()
        ))
        .await;
    gate.arrived().await;
    gate.open();
    client.send("2\r\nde\r\n0\r\n\r\n").await;
    client.answer().await.says(&sum_of(b"abcde"));
    client
        .post("/reads", key.expose_secret(), "f")
        .await
        .says(&sum_of(b"f"));
}

#[actix_web::test]
async fn the_extractors_own_limits_hold_behind_the_gate() {
    let (_store, key, server) = setup().await;
    let long = format!("[{}1]", "1,".repeat(100));
    // Cold cache, then warm.
    for _ in 0..2 {
        assert_eq!(
            server
                .post("/limited", key.expose_secret(), &long)
                .await
                .status,
            413
        );
        server
            .post("/limited", key.expose_secret(), "[97]")
            .await
            .says(&sum_of(b"a"));
    }
}

#[actix_web::test]
async fn expect_100_continue_is_answered_and_the_body_follows() {
    let (store, key, server) = setup().await;
    let gate = store.gate_after(Call::Find);
    let mut client = server.connect().await;
    let head = post_head("/reads", key.expose_secret(), 5);
    client
        .send(head.replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1))
        .await;
    gate.arrived().await;
    gate.open();
    let interim = client.head_only().await;
    assert_eq!(interim.status, 100, "{interim:?}");
    client.send("abcde").await;
    client.answer().await.says(&sum_of(b"abcde"));
}
