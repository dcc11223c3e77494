//! The requests that Envoy, Traefik and APISIX send, as their sources write them, to the application: the sample
//! configurations of the docs with a client's request.

use apikey_portal::{Gateway, GatewayRule};
use apikey_runtime::{ApiKeyManager, Policy, Rate, ScopeExpr};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Server};

use crate::app::{manager, manager_with, trusting};

const READ: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        let rule = GatewayRule::new(READ).own_method();
        let tls = GatewayRule::new(READ.require_https()).own_method();
        let gateway = Gateway::new(manager.clone())
            .rule("orders", rule)
            .rule("tls", tls);
        app.service(gateway.mount("/gateway"));
    })
}

/// A client's request, as it reaches a gateway.
struct Sent<'a> {
    client: &'a str,
    method: &'a str,
    /// With the query.
    path: &'a str,
    key: &'a str,
    proto: &'a str,
    /// What the client wrote besides.
    more: &'a str,
}

impl<'a> Sent<'a> {
    fn new(method: &'a str, key: &'a str) -> Self {
        Self {
            client: "192.0.2.7",
            method,
            path: "/api/orders?page=2&cost=0&scope=x:y",
            key,
            proto: "http",
            more: "",
        }
    }
}

/// Each gateway, with what it sends for a client's request.
type Replay = (&'static str, fn(&Sent<'_>) -> String);

const REPLAYS: [Replay; 4] = [
    ("Envoy", envoy),
    ("Envoy before 1.28", old_envoy),
    ("Traefik", traefik),
    ("APISIX", apisix),
];

/// The client's method, the prefix with the client's path and query, the headers that Envoy always sends, and those of
/// `allowed_headers`. Envoy's `use_remote_address` appends the client to what it wrote, and writes the scheme.
fn envoy(sent: &Sent<'_>) -> String {
    envoy_to("orders", "", sent)
}

/// This one appends its own address, too (envoyproxy/envoy#21519), which the tests trust.
fn old_envoy(sent: &Sent<'_>) -> String {
    envoy_to("orders", ",127.0.0.1", sent)
}

fn old_envoy_elsewhere(sent: &Sent<'_>) -> String {
    envoy_to("orders", ",10.0.0.9", sent)
}

fn envoy_to(rule: &str, own: &str, sent: &Sent<'_>) -> String {
    let Sent {
        client,
        method,
        path,
        key,
        proto,
        ..
    } = sent;
    format!(
        "{method} /gateway/verify-rule/{rule}{path} HTTP/1.1\r\nhost: api.example\r\ncontent-length: 0\r\n\
         authorization: Bearer {key}\r\nx-forwarded-for: 198.51.100.1,{client}{own}\r\nx-forwarded-proto: {proto}\r\n\
         x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 200\r\n\r\n"
    )
}

/// A `GET` of the fixed address; with `authRequestHeaders`, only these of the client, and what Traefik states.
fn traefik(sent: &Sent<'_>) -> String {
    let Sent {
        client,
        method,
        path,
        key,
        proto,
        ..
    } = sent;
    format!(
        "GET /gateway/verify?scope=orders:read HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\n\
         Authorization: Bearer {key}\r\nX-Forwarded-For: {client}\r\nX-Forwarded-Host: api.example\r\n\
         X-Forwarded-Method: {method}\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: {proto}\r\n\
         X-Forwarded-Server: traefik-1\r\nX-Forwarded-Uri: {path}\r\nAccept-Encoding: gzip\r\n\r\n"
    )
}

/// Without `authRequestHeaders`, all headers of the client.
fn traefik_with_all(sent: &Sent<'_>) -> String {
    traefik(sent).replace("User-Agent: ", &format!("{}User-Agent: ", sent.more))
}

/// A `GET` of the fixed address, with `request_headers` of the client, and what APISIX states.
fn apisix(sent: &Sent<'_>) -> String {
    let Sent {
        client,
        method,
        path,
        key,
        proto,
        ..
    } = sent;
    format!(
        "GET /gateway/verify?scope=orders:read HTTP/1.1\r\nX-Forwarded-Host: api.example\r\nX-Forwarded-Uri: {path}\r\n\
         X-Forwarded-Proto: {proto}\r\nX-Forwarded-For: {client}\r\nX-Forwarded-Method: {method}\r\n\
         Authorization: Bearer {key}\r\nUser-Agent: lua-resty-http/0.17.2 (Lua) ngx_lua/10026\r\nHost: 127.0.0.1:8080\r\n\r\n"
    )
}

async fn replay(server: &Server, request: fn(&Sent<'_>) -> String, sent: &Sent<'_>) -> Answer {
    server.send(request(sent)).await
}

#[actix_web::test]
async fn an_accepted_key_is_a_200_with_what_the_service_needs() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager
        .create("a")
        .owner("acme")
        .scopes(["orders:read"])
        .await
        .unwrap();
    for (name, request) in REPLAYS {
        for method in ["GET", "POST", "DELETE"] {
            let answer = replay(&server, request, &Sent::new(method, key.expose_secret())).await;
            assert_eq!(answer.status, 200, "{name} {method} {answer:?}");
            assert_eq!(
                answer.header("x-apikey-id"),
                Some(key.id().as_str()),
                "{name}"
            );
            assert_eq!(answer.header("x-apikey-owner"), Some("acme"), "{name}");
            assert_eq!(
                answer.header("x-apikey-scopes"),
                Some("orders:read"),
                "{name}"
            );
        }
    }
}

#[actix_web::test]
async fn the_original_request_is_judged() {
    let manager = manager().await;
    let server = serve(&manager);
    let create = |label| manager.create(label).scopes(["orders:read"]);
    let reading = create("reading").methods(["GET"]).await.unwrap();
    let posting = create("posting").methods(["POST"]).await.unwrap();
    let near = create("near")
        .networks(["192.0.2.0/24".parse().unwrap()])
        .await
        .unwrap();
    let other = manager.create("other").scopes(["x:y"]).await.unwrap();
    for (name, request) in REPLAYS {
        for (key, method, client, status) in [
            (&reading, "GET", "192.0.2.7", 200),
            (&reading, "DELETE", "192.0.2.7", 403),
            (&posting, "POST", "192.0.2.7", 200),
            (&posting, "GET", "192.0.2.7", 403),
            (&near, "GET", "192.0.2.7", 200),
            (&near, "GET", "203.0.113.7", 403),
            // The client's query has the scope that the key has, and the cost 0.
            (&other, "GET", "192.0.2.7", 403),
        ] {
            let mut sent = Sent::new(method, key.expose_secret());
            sent.client = client;
            let answer = replay(&server, request, &sent).await;
            assert_eq!(answer.status, status, "{name} {method} {client} {answer:?}");
        }
    }
}

#[actix_web::test]
async fn a_client_sets_neither_the_cost_nor_the_path_of_the_rule() {
    let manager = manager().await;
    let server = serve(&manager);
    for (name, request) in REPLAYS {
        let create = manager.create(name).scopes(["orders:read"]);
        let key = create
            .limit("all", Rate::per_day(2).with_burst(2))
            .await
            .unwrap();
        let sent = Sent::new("GET", key.expose_secret());
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(replay(&server, request, &sent).await.status);
        }
        assert_eq!(statuses, [200, 200, 429], "{name}");
    }
    // The path of Envoy's client is not normalized.
    let weak = manager.create("weak").scopes(["x:y"]).await.unwrap();
    for path in [
        "/../../verify",
        "/../verify?scope=x:y",
        "/%2e%2e/%2e%2e/verify",
        "//",
        "/?",
        "/../orders/../../verify?for=nginx",
    ] {
        let mut sent = Sent::new("GET", weak.expose_secret());
        sent.path = path;
        let answer = replay(&server, envoy, &sent).await;
        assert_eq!(answer.status, 403, "{path} {answer:?}");
    }
}

/// Envoy passes on what the answer is, except that 5xx is its `status_on_error`.
#[actix_web::test]
async fn a_rule_for_tls_needs_the_scheme_that_the_gateway_states() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").scopes(["orders:read"]).await.unwrap();
    let mut sent = Sent::new("POST", key.expose_secret());
    for (proto, status) in [("http", 403), ("https", 200)] {
        sent.proto = proto;
        let answer = server.send(envoy_to("tls", "", &sent)).await;
        assert_eq!(answer.status, status, "{proto}");
    }
}

/// Traefik passes on all headers of its client by default. One that contradicts what Traefik states makes the method
/// unknown, and does not replace it.
#[actix_web::test]
async fn a_contradicting_header_of_the_client_is_not_believed() {
    let manager = manager().await;
    let server = serve(&manager);
    let create = manager.create("a").scopes(["orders:read"]);
    let key = create.methods(["GET"]).await.unwrap();
    let mut sent = Sent::new("DELETE", key.expose_secret());
    sent.more =
        "X-Original-Method: GET\r\nForwarded: for=192.0.2.7;proto=https\r\nX-Apikey-Id: forged\r\n";
    let answer = replay(&server, traefik_with_all, &sent).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    // Another method that the client states is no help to a key that may do what it does.
    sent.method = "GET";
    sent.more = "";
    assert_eq!(replay(&server, traefik_with_all, &sent).await.status, 200);
}

#[actix_web::test]
async fn the_junk_of_a_client_does_not_block_another() {
    let config = trusting("X-Forwarded-For").failed_attempts(Rate::per_hour(3).with_burst(3));
    let manager = manager_with(config).await;
    let server = serve(&manager);
    let junk = forge::unknown();
    for (at, (name, request)) in REPLAYS.into_iter().enumerate() {
        let client = format!("203.0.113.{at}");
        let mut sent = Sent::new("GET", &junk);
        sent.client = &client;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(replay(&server, request, &sent).await.status);
        }
        assert_eq!(statuses, [401, 401, 401, 429], "{name}");
        let key = manager.create("a").scopes(["orders:read"]).await.unwrap();
        let answer = replay(&server, request, &Sent::new("GET", key.expose_secret())).await;
        assert_eq!(answer.status, 200, "{name}");
    }
}

/// Negative control: a request that does not come from a trusted gateway states nothing.
#[actix_web::test]
async fn control_without_trust_the_facts_are_unknown() {
    let config = apikey_runtime::Config::builder().trusted_proxies(["192.0.2.200"]);
    let manager = manager_with(config.forwarded_header("X-Forwarded-For")).await;
    let server = serve(&manager);
    let create = |label| manager.create(label).scopes(["orders:read"]);
    let plain = create("plain").await.unwrap();
    let reading = create("reading").methods(["GET"]).await.unwrap();
    let near = create("near")
        .networks(["192.0.2.0/24".parse().unwrap()])
        .await
        .unwrap();
    for (name, request) in REPLAYS {
        for (key, status) in [(&plain, 200), (&reading, 403), (&near, 403)] {
            let answer = replay(&server, request, &Sent::new("GET", key.expose_secret())).await;
            assert_eq!(answer.status, status, "{name} {answer:?}");
        }
    }
}

/// Negative control: the own address of an Envoy before 1.28 is the client, if it is not trusted.
#[actix_web::test]
async fn control_an_address_that_old_envoy_appends_is_the_client_unless_it_is_trusted() {
    let networks = ["127.0.0.0/8", "10.0.0.9"];
    for (trusted, status) in [(&networks[..1], 403), (&networks[..], 200)] {
        let config = apikey_runtime::Config::builder().trusted_proxies(trusted.iter().copied());
        let manager = manager_with(config.forwarded_header("X-Forwarded-For")).await;
        let server = serve(&manager);
        let create = manager.create("near").scopes(["orders:read"]);
        let near = create.networks(["192.0.2.0/24".parse().unwrap()]);
        let near = near.await.unwrap();
        let sent = Sent::new("GET", near.expose_secret());
        let answer = replay(&server, old_envoy_elsewhere, &sent).await;
        assert_eq!(answer.status, status, "{trusted:?} {answer:?}");
    }
}
