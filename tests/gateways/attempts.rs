//! Failed attempts count against the client, and never against the gateway: junk from one blocks no other.

use std::net::SocketAddr;

use actix_web::web;
use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Policy, RequireApiKey};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::log::Log;
use apikey_test_support::{manager_on, soon};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::app::{CLIENT, Call, gateway};

const RATE: &str = "6/hour burst 5";
const OTHER: &str = "192.0.2.8";

/// A manager that trusts `gateway`, a server with a guarded route too, and keys that are not cached.
struct Site {
    manager: ApiKeyManager,
    server: Server,
    store: Arc<MemoryStore>,
}

impl Site {
    async fn trusting(gateway_address: &str) -> Self {
        let store = Arc::new(MemoryStore::new());
        let config = Config::builder()
            .trusted_proxies([gateway_address])
            .forwarded_header("X-Forwarded-For")
            .failed_attempts(RATE);
        let builder = ApiKeyManager::builder().config(config.build().unwrap());
        let builder = builder.shared_store(store.clone());
        let manager = builder.start().await.unwrap();
        let serving = manager.clone();
        let server = Server::start(move |app| {
            app.service(gateway(&serving).mount("/gateway"));
            serving.init_app(app);
            let route = web::resource("/guarded").to(async || "");
            app.service(route.wrap(RequireApiKey::with(Policy::new())));
        });
        Self {
            manager,
            server,
            store,
        }
    }

    /// Returns a key that this manager has not cached.
    async fn cold_key(&self) -> String {
        let other = manager_on(self.store.clone()).await;
        let key = other.create("a").await.unwrap();
        key.expose_secret().to_owned()
    }

    /// Sends keys that are unknown until the call is denied for it.
    async fn flood(&self, call: impl Fn() -> Call) {
        for number in 0..100 {
            let answer = call().key(&unknown(number)).send(&self.server).await;
            match answer.status {
                401 => {}
                429 => return answer.refused(429, "too-many-failed-attempts"),
                // What nginx is told in its place.
                403 => return assert_eq!(answer.header("x-apikey-status"), Some("429")),
                status => panic!("{status}"),
            }
        }
        panic!("100 failed attempts are not too many");
    }

    async fn status(&self, call: Call) -> u16 {
        call.key(&self.cold_key().await)
            .send(&self.server)
            .await
            .status
    }
}

/// Returns a different key each time: one that is remembered as unknown is not counted again.
fn unknown(number: usize) -> String {
    let parts = forge::parts(&forge::unknown());
    let id = format!("{number:0>width$}", width = parts.id.len());
    forge::key(&parts.prefix, &id, &parts.secret)
}

#[actix_web::test]
async fn junk_from_one_client_blocks_no_other() {
    for path in ["/verify", "/verify?for=nginx", "/verify-rule/any/x"] {
        let site = Site::trusting("127.0.0.1").await;
        let blocked = if path.ends_with("nginx") { 403 } else { 429 };
        let folded = || Call::to(path).set("X-Forwarded-For", CLIENT);
        site.flood(folded).await;
        assert_eq!(site.status(Call::to(path)).await, blocked);
        let other = Call::to(path).set("X-Forwarded-For", OTHER);
        assert_eq!(site.status(other.clone()).await, 200);
        // The same count as that of the manager's routes.
        assert_eq!(site.status(Call::to_route("/guarded")).await, 429);
        let other = Call::to_route("/guarded").set("X-Forwarded-For", OTHER);
        assert_eq!(site.status(other).await, 200);
    }
}

/// A gateway that does not say who its client is shares one count with others that do not.
#[actix_web::test]
async fn junk_of_unknown_clients_does_not_count_against_the_gateway() {
    let site = Site::trusting("127.0.0.1").await;
    let unknown = || Call::to("/verify").without("X-Forwarded-For");
    site.flood(unknown).await;
    assert_eq!(site.status(unknown()).await, 429);
    assert_eq!(site.status(Call::to("/verify")).await, 200);
    // The gateway's own address is not blocked: a route counts the unknown clients of a proxy against it.
    let of_gateway = Call::to_route("/guarded").without("X-Forwarded-For");
    assert_eq!(site.status(of_gateway).await, 200);
}

#[actix_web::test]
async fn a_gateway_that_states_no_client_is_reported_with_what_follows() {
    let log = Log::capture();
    let site = Site::trusting("127.0.0.2").await;
    assert_eq!(site.status(Call::to("/verify")).await, 200);
    let said = "a gateway does not say who its client is";
    let follows = "the failed attempts of one client block all";
    assert!(!log.lines(&[said, follows]).is_empty(), "{}", log.text());
}

/// A caller that is not a gateway cannot block the clients of one.
#[actix_web::test]
async fn junk_of_another_caller_counts_against_itself() {
    let site = Site::trusting("127.0.0.2").await;
    site.flood(|| Call::to("/verify")).await;
    assert_eq!(site.status(Call::to("/verify")).await, 429);
    for call in [
        Call::to("/verify"),
        Call::to("/verify").without("X-Forwarded-For"),
    ] {
        let call = call.key(&site.cold_key().await);
        let answer = send_from("127.0.0.2:0", site.server.address, &call).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    drop(site.manager);
}

/// Sends a call from an address of this machine, and returns the beginning of the answer.
async fn send_from(from: &str, to: SocketAddr, call: &Call) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let mut stream = soon(socket.connect(to)).await.unwrap();
    soon(stream.write_all(call.head().as_bytes()))
        .await
        .unwrap();
    let mut begun = vec![0; 64];
    soon(stream.read_exact(&mut begun)).await.unwrap();
    String::from_utf8(begun).unwrap()
}

/// The answer is the same for each text that is not a key, and says nothing of ids.
#[actix_web::test]
async fn junk_is_answered_alike() {
    let site = Site::trusting("127.0.0.1").await;
    let key = site.manager.create("a").await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    let mut answers: Vec<String> = Vec::new();
    for text in ["junk", &*wrong, &*unknown(1)] {
        let answer: Answer = Call::to("/verify").key(text).send(&site.server).await;
        answers.push(answer.timeless());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}
