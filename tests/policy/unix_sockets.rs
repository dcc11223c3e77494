//! Clients without an address: a Unix socket with and without trust, a connection that was reset, and
//! a request that a test makes.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpServer, test, web};
use apikey_runtime::clock::ManualClock;
use apikey_runtime::events::EventKind;
use apikey_runtime::{
    ApiKeyManager, Config, ConfigBuilder, DenyReason, KeyStore, MemoryStore, NewKey,
    api_key_required,
};
use apikey_test_support::http::{Answer, Server, UnixServer, get_request};
use apikey_test_support::{forge, manager_on, soon};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A burst of five. The clock stands still.
const RATE: &str = "5/hour";

#[api_key_required]
async fn plain(request: HttpRequest, unknown: web::Data<AtomicUsize>) -> &'static str {
    if request.peer_addr().is_none() {
        unknown.fetch_add(1, SeqCst);
    }
    "in"
}

#[api_key_required(require_https)]
async fn secure() -> &'static str {
    "in"
}

/// A manager, and the number of requests without a peer that were allowed.
#[derive(Clone)]
struct House {
    manager: ApiKeyManager,
    unknown: web::Data<AtomicUsize>,
    /// Created before the manager started, so that no change evicts them from its cache.
    keys: Arc<[NewKey; 3]>,
}

impl House {
    async fn with(config: ConfigBuilder) -> Self {
        let config = config.failed_attempts(RATE).build().unwrap();
        // Outlasts the test, so that the manager does not poll by itself.
        let store: Arc<dyn KeyStore> =
            Arc::new(MemoryStore::new().with_lease(Duration::from_secs(60)));
        let earlier = manager_on(Arc::clone(&store)).await;
        let keys = [
            earlier.create("a").await.unwrap(),
            earlier.create("b").await.unwrap(),
            restricted(&earlier).await,
        ];
        let manager = ApiKeyManager::builder()
            .config(config)
            .shared_store(store)
            .clock(Arc::new(ManualClock::starting_now()));
        Self {
            manager: manager.start().await.unwrap(),
            unknown: web::Data::new(AtomicUsize::new(0)),
            keys: Arc::new(keys),
        }
    }

    async fn trusting(proxies: &[&str], header: &str) -> Self {
        let config = Config::builder().trusted_proxies(proxies.iter().copied());
        Self::with(config.forwarded_header(header)).await
    }

    fn configure(&self, app: &mut web::ServiceConfig) {
        self.manager.init_app(app);
        app.app_data(self.unknown.clone())
            .route("/plain", web::get().to(plain))
            .route("/secure", web::get().to(secure));
    }

    fn serve(&self) -> UnixServer {
        let house = self.clone();
        UnixServer::start(move |app| house.configure(app))
    }

    async fn restricted(&self) -> NewKey {
        restricted(&self.manager).await
    }
}

/// Creates a key for clients in `192.0.2.0/24` only.
async fn restricted(manager: &ApiKeyManager) -> NewKey {
    let networks = ["192.0.2.0/24".parse().unwrap()];
    manager.create("c").networks(networks).await.unwrap()
}

/// Returns a key that was never issued, another for each number.
fn guess(number: usize) -> String {
    forge::key("my_api", &format!("{number:022}"), &"y".repeat(64))
}

async fn get(server: &UnixServer, path: &str, key: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [headers, &[("Authorization", bearer.as_str())]].concat();
    server.get_with(path, &headers).await
}

#[actix_web::test]
async fn the_limit_on_guesses_holds_for_all_clients_of_a_unix_socket_together() {
    let house = House::with(Config::builder()).await;
    let server = house.serve();
    let [cached, cold, _] = &*house.keys;
    get(&server, "/plain", cached.expose_secret(), &[])
        .await
        .says("in");
    for number in 0..5 {
        // A header that is not trusted does not make another client of this one.
        let forged = format!("192.0.2.{number}");
        get(
            &server,
            "/plain",
            &guess(number),
            &[("X-Forwarded-For", &forged)],
        )
        .await
        .refused(401, "invalid-key");
    }
    for (number, key) in [guess(5), guess(6), cold.expose_secret().to_owned()]
        .iter()
        .enumerate()
    {
        let forged = format!("192.0.2.{}", 100 + number);
        get(&server, "/plain", key, &[("X-Forwarded-For", &forged)])
            .await
            .refused(429, "too-many-failed-attempts");
    }
    // A valid key that is cached is still allowed.
    get(&server, "/plain", cached.expose_secret(), &[])
        .await
        .says("in");
    // A check without a request is the application's, which is not a client.
    let denied = house.manager.verify(&guess(7)).await.unwrap_err();
    assert_eq!(denied.reason(), DenyReason::InvalidKey);
}

#[actix_web::test]
async fn a_client_with_an_address_is_not_blocked_by_those_without() {
    let house = House::with(Config::builder()).await;
    let (unix, tcp) = (house.serve(), house.clone());
    let tcp = Server::start(move |app| tcp.configure(app));
    for number in 0..6 {
        get(&unix, "/plain", &guess(number), &[]).await;
    }
    get(&unix, "/plain", &guess(6), &[])
        .await
        .refused(429, "too-many-failed-attempts");
    tcp.get("/plain", guess(7).as_str())
        .await
        .refused(401, "invalid-key");
}

#[actix_web::test]
async fn a_trusted_unix_socket_names_the_clients_whose_guesses_are_counted() {
    let house = House::trusting(&["unix"], "X-Forwarded-For").await;
    let server = house.serve();
    let flood = async |from: &str| {
        for number in 0..10 {
            let headers = [("X-Forwarded-For", from)];
            match get(&server, "/plain", &guess(number), &headers)
                .await
                .status
            {
                401 => {}
                429 => return number,
                status => panic!("{status}"),
            }
        }
        10
    };
    assert_eq!(flood("203.0.113.9").await, 5);
    assert_eq!(flood("203.0.113.10").await, 5);
    // Entries that a client forges stand further left.
    assert_eq!(flood("192.0.2.1, 203.0.113.9").await, 0);
    // What the proxy does not state readably is one more client.
    assert_eq!(flood("unknown").await, 5);
    assert_eq!(flood("_hidden").await, 0);
}

#[actix_web::test]
async fn networks_are_compared_with_the_client_that_a_trusted_unix_socket_names() {
    let trusted = House::trusting(&["unix"], "X-Forwarded-For").await;
    let key = trusted.restricted().await;
    let server = trusted.serve();
    let from = async |address: &str| {
        let headers = [("X-Forwarded-For", address)];
        get(&server, "/plain", key.expose_secret(), &headers).await
    };
    from("192.0.2.7").await.says("in");
    from("203.0.113.9, 192.0.2.7").await.says("in");
    for address in ["203.0.113.9", "192.0.2.7, 203.0.113.9", "unknown", ""] {
        from(address).await.refused(403, "address-not-permitted");
    }
    // A chain: the socket's peer, and one more proxy in front of it.
    let chain = House::trusting(&["unix", "10.0.0.0/8"], "X-Forwarded-For").await;
    let (key, server) = (chain.restricted().await, chain.serve());
    let headers = [("X-Forwarded-For", "192.0.2.7, 10.1.1.1")];
    get(&server, "/plain", key.expose_secret(), &headers)
        .await
        .says("in");
    // Without trust in Unix sockets, what headers say is ignored.
    for config in [
        Config::builder(),
        Config::builder()
            .trusted_proxies(["0.0.0.0/0", "::/0"])
            .forwarded_header("X-Forwarded-For"),
    ] {
        let house = House::with(config).await;
        let (key, server) = (house.restricted().await, house.serve());
        let headers = [("X-Forwarded-For", "192.0.2.7")];
        get(&server, "/plain", key.expose_secret(), &headers)
            .await
            .refused(403, "address-not-permitted");
    }
}

#[actix_web::test]
async fn https_is_what_a_trusted_unix_socket_states() {
    const BY_FORWARDED: [(&str, &str); 1] = [("Forwarded", "for=203.0.113.9;proto=https")];
    const BY_X: [(&str, &str); 2] = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
    ];
    for (header, headers, other) in [
        ("Forwarded", &BY_FORWARDED[..], &BY_X[..]),
        ("X-Forwarded-For", &BY_X[..], &BY_FORWARDED[..]),
    ] {
        let house = House::trusting(&["unix"], header).await;
        let key = house.manager.create("a").await.unwrap();
        let server = house.serve();
        get(&server, "/secure", key.expose_secret(), headers)
            .await
            .says("in");
        for headers in [&[][..], other] {
            get(&server, "/secure", key.expose_secret(), headers)
                .await
                .refused(403, "https-required");
        }
        // Without trust.
        let house = House::trusting(&["10.0.0.0/8"], header).await;
        let key = house.manager.create("a").await.unwrap();
        let server = house.serve();
        get(&server, "/secure", key.expose_secret(), headers)
            .await
            .refused(403, "https-required");
    }
}

/// A request that a test makes does not have a peer.
#[actix_web::test]
async fn a_request_without_a_peer_is_treated_like_one_of_a_unix_socket() {
    for (trusted, networks, limited) in [(true, 200, 401), (false, 403, 429)] {
        let house = if trusted {
            House::trusting(&["unix"], "X-Forwarded-For").await
        } else {
            House::with(Config::builder()).await
        };
        let key = house.restricted().await;
        let app = App::new().configure(|app| house.configure(app));
        let app = test::init_service(app).await;
        let ask = async |key: &str, from: &str| {
            let request = test::TestRequest::get()
                .uri("/plain")
                .insert_header(("Authorization", format!("Bearer {key}")))
                .insert_header(("X-Forwarded-For", from));
            let answer = test::call_service(&app, request.to_request()).await;
            answer.status().as_u16()
        };
        assert_eq!(ask(key.expose_secret(), "192.0.2.7").await, networks);
        for number in 0..5 {
            assert_eq!(ask(&guess(number), "192.0.2.7").await, 401);
        }
        assert_eq!(ask(&guess(5), "192.0.2.8").await, limited);
    }
}

/// A client that resets its connection has no address any more when the server looks, and what it
/// sent before is served. It must not pass for the trusted peer of a Unix socket.
#[actix_web::test]
async fn a_tcp_connection_that_was_reset_is_not_a_unix_socket() {
    let house = House::trusting(&["unix"], "X-Forwarded-For").await;
    let [free, _, restricted] = &*house.keys;
    for key in [free, restricted] {
        house.manager.verify(key.expose_secret()).await.ok();
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut events = house.manager.events();
    // Sent and reset before the server accepts the first connection.
    for key in [free, restricted] {
        let bearer = format!("Bearer {}", key.expose_secret());
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-Forwarded-For", "192.0.2.7"),
        ];
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let mut client = client.await.unwrap();
        let request = get_request("/plain", &headers);
        client.write_all(request.as_bytes()).await.unwrap();
        client.set_zero_linger().unwrap();
    }
    let serving = house.clone();
    let server = HttpServer::new(move || {
        let house = serving.clone();
        App::new().configure(move |app| house.configure(app))
    });
    let server = server
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap();
    let _server = Server::of(server.addrs()[0], server.run());
    let event = soon(events.next()).await.unwrap();
    let reason = DenyReason::AddressNotPermitted;
    assert!(
        matches!(event.kind, EventKind::Denied { reason: why, .. } if why == reason),
        "{event:?}"
    );
    // Control: the request whose key does not have networks was allowed, without an address.
    assert_eq!(house.unknown.load(SeqCst), 1);
}
