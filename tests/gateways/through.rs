//! Requests through nginx and Caddy, as the sample configurations of the docs start them.

use std::sync::Arc;

use apikey_runtime::{KeyStore, Rate};
use apikey_test_support::forge;
use apikey_test_support::http::Answer;
use apikey_test_support::servers::reverse_proxy::ProxyKind;
use apikey_test_support::store::{Call, Fault, GateStore};

use crate::site::{ALICE, MALLORY, Request, Setup, Site, got, header};

/// What a client may write to seem another request than it is.
const FORGED: [(&str, &str); 11] = [
    ("X-Forwarded-Method", "GET"),
    ("X-Original-Method", "GET"),
    ("X-HTTP-Method-Override", "GET"),
    ("X-Forwarded-For", ALICE),
    ("X-Real-IP", ALICE),
    ("Forwarded", "for=127.0.0.2;proto=https"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Uri", "/gateway/verify?cost=0"),
    ("X-Original-Uri", "/gateway/verify?cost=0"),
    ("X-Original-URL", "/gateway/verify?cost=0"),
    ("X-Rewrite-Url", "/gateway/verify?cost=0"),
];

pub fn forged<'a>(method: &'a str, path: &'a str, key: &str) -> Request<'a> {
    let request = Request::new(method, path).key(key);
    FORGED.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    })
}

pub async fn key(site: &Site) -> String {
    let created = site
        .manager
        .create("a")
        .owner("Zoë & co")
        .scopes(["orders:read", "x:y"]);
    created.await.unwrap().expose_secret().to_owned()
}

#[actix_web::test]
async fn the_service_gets_the_request_and_whose_key_it_came_with() {
    for site in Site::every("the service gets the request").await {
        let kind = site.kind;
        let text = key(&site).await;
        let request = Request::new("POST", "/api/orders?page=2&cost=7").key(&text);
        let answer = site.send(ALICE, &request.body("{\"a\":1}")).await;
        let request = got(&answer);
        assert_eq!(request["method"], "POST", "{kind:?}");
        assert_eq!(request["path"], "/api/orders?page=2&cost=7", "{kind:?}");
        assert_eq!(request["body"], "{\"a\":1}", "{kind:?}");
        let id = forge::parts(&text).id;
        assert_eq!(header(&answer, "x-apikey-id"), [id], "{kind:?}");
        assert_eq!(
            header(&answer, "x-apikey-owner"),
            ["Zo%C3%AB%20%26%20co"],
            "{kind:?}"
        );
        assert_eq!(
            header(&answer, "x-apikey-scopes"),
            ["orders:read x:y"],
            "{kind:?}"
        );
        assert!(
            !answer.text().contains(&text),
            "{kind:?}: the service got the key"
        );
    }
}

#[actix_web::test]
async fn the_service_does_not_get_what_a_client_says_of_its_key() {
    for site in Site::every("inbound X-Apikey-*").await {
        let kind = site.kind;
        // Without an owner: nothing replaces what the client wrote.
        let key = site
            .manager
            .create("a")
            .scopes(["orders:read"])
            .await
            .unwrap();
        let mut request = Request::new("GET", "/api/orders").key(key.expose_secret());
        for name in ["Id", "Owner", "Scopes", "Status"] {
            for prefix in [
                "X-Apikey-",
                "x-apikey-",
                "X_Apikey_",
                "X-Apikey_",
                "X_Apikey-",
            ] {
                request = request.header(&format!("{prefix}{name}"), "forged");
            }
        }
        let answer = site.send(ALICE, &request).await;
        assert!(
            !answer.text().contains("forged"),
            "{kind:?} {}",
            answer.text()
        );
        assert_eq!(
            header(&answer, "x-apikey-id"),
            [key.id().to_string()],
            "{kind:?}"
        );
        let owner = header(&answer, "x-apikey-owner").concat();
        assert_eq!(owner, "", "{kind:?}");
    }
}

/// Returns the statuses of requests with these methods, of which each says that it is a `GET`.
pub async fn with_methods(site: &Site, key: &str, methods: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for method in methods {
        let plain = Request::new(method, "/api/orders").key(key);
        let forged = forged(method, "/api/orders", key);
        let hops = "X-Forwarded-Method, X-Forwarded-For, X-Forwarded-Proto, X-Original-Method";
        let without_facts = forged.clone().header("Connection", hops);
        let hops = format!("{hops}, Authorization");
        let without_key = forged.clone().header("Connection", &hops);
        let mut of_method = Vec::new();
        for request in [plain, forged, without_facts, without_key] {
            of_method.push(site.send(ALICE, &request).await.status);
        }
        let plain = of_method[0];
        let (kind, same) = (site.kind, [plain; 3]);
        assert_eq!(of_method[..3], same, "{kind:?} {method}");
        // A header that is taken for hop-by-hop may make the key be missed.
        let last = of_method[3];
        assert!(last == plain || last == 401, "{kind:?} {method} {last}");
        statuses.push(plain);
    }
    statuses
}

#[actix_web::test]
async fn the_methods_of_a_key_are_compared_with_that_of_the_client() {
    for site in Site::every("methods").await {
        let create = |method| {
            site.manager
                .create("a")
                .scopes(["orders:read"])
                .methods([method])
        };
        let reading = create("GET").await.unwrap();
        let posting = create("POST").await.unwrap();
        let heading = create("HEAD").await.unwrap();
        let methods = ["GET", "HEAD", "POST", "DELETE", "PATCH"];
        // A `HEAD` is a `GET` without a body (RFC 9110 section 9.3.2), and not the other way round. The gateways ask with a
        // `GET`.
        for (key, expected) in [
            (reading, [200, 200, 403, 403, 403]),
            (posting, [403, 403, 200, 403, 403]),
            (heading, [403, 200, 403, 403, 403]),
        ] {
            let statuses = with_methods(&site, key.expose_secret(), &methods).await;
            assert_eq!(statuses, expected, "{:?}", site.kind);
        }
    }
}

#[actix_web::test]
async fn the_networks_of_a_key_are_compared_with_the_address_of_the_client() {
    for site in Site::every("networks").await {
        let kind = site.kind;
        let network = format!("{ALICE}/32").parse().unwrap();
        let create = site.manager.create("a").scopes(["orders:read"]);
        let key = create.networks([network]).await.unwrap();
        let key = key.expose_secret();
        assert_eq!(
            site.get(ALICE, "/api/orders", key).await.status,
            200,
            "{kind:?}"
        );
        assert_eq!(
            site.get(MALLORY, "/api/orders", key).await.status,
            403,
            "{kind:?}"
        );
        let answer = site.send(MALLORY, &forged("GET", "/api/orders", key)).await;
        assert_eq!(answer.status, 403, "{kind:?}");
        assert_eq!(site.served().await, 1, "{kind:?}");
    }
}

#[actix_web::test]
async fn a_client_sets_neither_the_scope_nor_the_cost() {
    const PATH: &str = "/api/orders?cost=0&scope=x:y&for=&%26cost=0";
    for site in Site::every("scope and cost").await {
        let kind = site.kind;
        let other = site.manager.create("a").scopes(["x:y"]).await.unwrap();
        for request in [
            Request::new("GET", PATH).key(other.expose_secret()),
            forged("GET", PATH, other.expose_secret()),
        ] {
            assert_eq!(site.send(ALICE, &request).await.status, 403, "{kind:?}");
        }
        let create = site.manager.create("b").scopes(["orders:read"]);
        let key = create
            .limit("all", Rate::per_day(3).with_burst(3))
            .await
            .unwrap();
        for left in [2, 1, 0] {
            let answer = site
                .send(ALICE, &forged("GET", PATH, key.expose_secret()))
                .await;
            assert_eq!(answer.status, 200, "{kind:?}");
            if kind == ProxyKind::Nginx {
                let told = answer.header("ratelimit").unwrap().to_owned();
                assert!(told.contains(&format!("r={left};")), "{told}");
            }
        }
        let answer = site
            .send(ALICE, &forged("GET", PATH, key.expose_secret()))
            .await;
        assert_eq!(answer.status, 429, "{kind:?} {answer:?}");
        assert!(
            answer.header("retry-after").is_some(),
            "{kind:?} {answer:?}"
        );
        assert!(answer.header("ratelimit").is_some(), "{kind:?} {answer:?}");
        assert_eq!(site.served().await, 3, "{kind:?}");
    }
}

/// The failed attempts of a client in an hour.
const ATTEMPTS: u32 = 5;

pub fn few_attempts() -> Setup {
    let mut setup = Setup::default();
    setup.config = setup
        .config
        .failed_attempts(Rate::per_hour(ATTEMPTS).with_burst(ATTEMPTS));
    setup
}

/// Sends junk from one client until it is blocked, not before it has made its [`few_attempts`], and returns the answer
/// to another's first request.
pub async fn after_junk(site: &Site) -> Answer {
    let junk = forge::unknown();
    let request = forged("GET", "/api/orders", &junk);
    let mut sent = 0;
    loop {
        match site.send(MALLORY, &request).await.status {
            401 => sent += 1,
            429 => break,
            status => panic!("{:?} {status}", site.kind),
        }
        // What is refilled meanwhile is allowed, too.
        assert!(sent < 10 * ATTEMPTS, "{:?} blocks nobody", site.kind);
    }
    assert!(sent >= ATTEMPTS, "{:?} {sent}", site.kind);
    let key = key(site).await;
    site.get(ALICE, "/api/orders", &key).await
}

#[actix_web::test]
async fn the_junk_of_a_client_does_not_block_another() {
    for kind in [ProxyKind::Nginx, ProxyKind::Caddy] {
        let Some(site) = Site::start(kind, "junk", few_attempts(), &[]).await else {
            continue;
        };
        assert_eq!(after_junk(&site).await.status, 200, "{kind:?}");
        assert_eq!(site.served().await, 1, "{kind:?}");
    }
}

#[actix_web::test]
async fn a_denied_request_does_not_reach_the_service_and_a_revoked_key_is_denied_at_once() {
    for site in Site::every("denials").await {
        let kind = site.kind;
        let answer = site
            .send(ALICE, &Request::new("POST", "/api/orders").body("x=1"))
            .await;
        assert_eq!(answer.status, 401, "{kind:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{kind:?} {challenge}");
        // The path by which nginx asks is not served to clients, and is not the service's.
        let inner = site.get(ALICE, "/_apikey", &key(&site).await).await;
        assert_eq!(inner.header("x-apikey-id"), None, "{kind:?} {inner:?}");
        let created = site
            .manager
            .create("a")
            .scopes(["orders:read"])
            .await
            .unwrap();
        let text = created.expose_secret();
        assert_eq!(
            site.get(ALICE, "/api/orders", text).await.status,
            200,
            "{kind:?}"
        );
        site.manager.revoke(created.id()).await.unwrap();
        let answer = site.get(ALICE, "/api/orders", text).await;
        assert_eq!(answer.status, 401, "{kind:?}");
        assert!(answer.header("www-authenticate").is_some(), "{kind:?}");
        assert_eq!(site.served().await, 1, "{kind:?}");
    }
}

#[actix_web::test]
async fn without_an_answer_the_gateway_is_closed() {
    for kind in [ProxyKind::Nginx, ProxyKind::Caddy] {
        let store = GateStore::new();
        let setup = Setup {
            store: Arc::<GateStore>::clone(&store) as Arc<dyn KeyStore>,
            ..Setup::default()
        };
        let Some(mut site) = Site::start(kind, "closed", setup, &[]).await else {
            continue;
        };
        let key = key(&site).await;
        store.fail(Call::Find, Fault::Unavailable);
        let answer = site.get(ALICE, "/api/orders", &key).await;
        assert_eq!(answer.status, 503, "{kind:?} {answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{kind:?}");
        store.heal();
        assert_eq!(
            site.get(ALICE, "/api/orders", &key).await.status,
            200,
            "{kind:?}"
        );
        // The application is gone.
        site.application = None;
        let away = match kind {
            ProxyKind::Nginx => 503,
            ProxyKind::Caddy => 502,
        };
        let closed = apikey_test_support::within(apikey_test_support::PATIENCE, async || {
            let status = site.get(ALICE, "/api/orders", &key).await.status;
            assert!([200, away].contains(&status), "{kind:?} {status}");
            status != 200
        });
        assert!(closed.await.is_some(), "{kind:?}");
        let served = site.served().await;
        let answer = site.get(ALICE, "/api/orders", &key).await;
        assert_eq!(answer.status, away, "{kind:?}");
        assert_eq!(site.served().await, served, "{kind:?}");
    }
}
