//! A check by the facts of a request decides as a route that gets this request, and both count
//! together.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use apikey_runtime::clock::{Clock, ManualClock};
use apikey_runtime::events::EventKind;
use apikey_runtime::manager::{CheckedKey, RequestFacts};
use apikey_runtime::{
    ApiKeyManager, Config, Denied, DenyReason, MemoryStore, NewKey, Policy, Quota, Rate,
    RequireApiKey, ScopeExpr, Timestamp,
};
use apikey_test_support::fleet::Fleet;
use apikey_test_support::http::{Answer, Client, Server};
use apikey_test_support::{forge, manager, not_at_midnight, patient_manager, soon};

const METHODS: Policy = Policy::new().methods(&["POST"]);
const HTTPS: Policy = Policy::new().require_https();
const SCOPE: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
const TEMPLATE: Policy = Policy::new().scopes(ScopeExpr::One("project:{project}:read"));
const ENVIRONMENT: Policy = Policy::new().environment("live");
const PREFIX: Policy = Policy::new().prefix("adm");
const RATE: Policy = Policy::new().rate_limit(Rate::per_hour(2).with_burst(2));
const COSTLY: Policy = Policy::new().cost(4);
const FRESH: Policy = Policy::new().fresh();

const POLICIES: [(&str, Policy); 10] = [
    ("plain", Policy::new()),
    ("methods", METHODS),
    ("https", HTTPS),
    ("scope", SCOPE),
    ("template", TEMPLATE),
    ("environment", ENVIRONMENT),
    ("prefix", PREFIX),
    ("rate", RATE),
    ("costly", COSTLY),
    ("fresh", FRESH),
];

async fn inside() -> &'static str {
    "in"
}

/// Serves each policy at `/{name}/{project}`, behind a proxy that states clients and TLS.
fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        for (name, policy) in POLICIES {
            let route = web::resource(format!("/{name}/{{project}}")).route(web::to(inside));
            app.service(route.wrap(RequireApiKey::with(policy)));
        }
    })
}

async fn proxied() -> ApiKeyManager {
    let config = Config::builder()
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header("Forwarded")
        .failed_attempts("6/hour burst 5");
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    builder.store(MemoryStore::new()).start().await.unwrap()
}

/// A request, as a proxy states it and as facts.
#[derive(Debug, Clone, Copy)]
struct Asked {
    policy: &'static str,
    address: &'static str,
    method: &'static str,
    https: bool,
}

const USUAL: Asked = Asked {
    policy: "plain",
    address: "192.0.2.1",
    method: "GET",
    https: true,
};

async fn of_route(server: &Server, key: &str, asked: Asked) -> Answer {
    let proto = if asked.https { "https" } else { "http" };
    let mut client: Client = server.connect().await;
    let (method, policy, address) = (asked.method, asked.policy, asked.address);
    client
        .send(format!(
            "{method} /{policy}/p1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\
             Forwarded: for={address};proto={proto}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    client.answer().await
}

async fn of_facts(
    manager: &ApiKeyManager,
    key: &str,
    asked: Asked,
) -> (Result<CheckedKey, Denied>, Policy) {
    let (_, policy) = POLICIES
        .into_iter()
        .find(|(name, _)| *name == asked.policy)
        .unwrap();
    let route = format!("/{}/{{project}}", asked.policy);
    let facts = RequestFacts::new()
        .with_address(asked.address.parse().unwrap())
        .with_method(asked.method)
        .with_https(asked.https)
        .with_route(&route)
        .with_path_values(&[("project", "p1")]);
    (soon(manager.check(key, &policy, &facts)).await, policy)
}

/// Returns the answer of the route and that of the facts: the status and the headers.
async fn both(manager: &ApiKeyManager, server: &Server, key: &str, asked: Asked) -> (u16, u16) {
    let route = of_route(server, key, asked).await;
    let (checked, policy) = of_facts(manager, key, asked).await;
    let (status, headers) = match &checked {
        Ok(checked) => (200, checked.headers()),
        Err(denied) => (denied.status(), denied.headers(manager, &policy)),
    };
    if status != 200 {
        let reason = checked.as_ref().unwrap_err().reason();
        assert_eq!(route.problem(), reason.code(), "{asked:?}");
        // What a rate leaves differs by one.
        for name in ["www-authenticate", "cache-control", "vary"] {
            let mut values: Vec<_> = headers
                .get_all(name)
                .map(|value| value.to_str().unwrap())
                .collect();
            values.sort_unstable();
            let mut expected = route.all(name);
            expected.sort_unstable();
            assert_eq!(values, expected, "{name} {asked:?}");
        }
    }
    for name in ["ratelimit-policy", "retry-after"] {
        let value = headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(
            value.is_some(),
            route.header(name).is_some(),
            "{name} {asked:?}"
        );
    }
    (route.status, status)
}

#[actix_web::test]
async fn a_check_by_facts_decides_as_a_route() {
    let manager = proxied().await;
    let server = serve(&manager);
    let create = |label: &str| manager.create(label);
    let networks = ["192.0.2.0/24".parse().unwrap()];
    let key = create("a")
        .scopes(["orders:read", "project:p1:read"])
        .environment("live")
        .await
        .unwrap();
    let at_home = create("a").networks(networks).await.unwrap();
    let posting = create("a").methods(["POST"]).await.unwrap();
    let limited = create("a").limit("daily", Quota::per_day(5)).await.unwrap();
    let (revoked, disabled) = (create("a").await.unwrap(), create("a").await.unwrap());
    manager.revoke(revoked.id()).await.unwrap();
    manager.disable(disabled.id()).await.unwrap();
    let wrong = forge::wrong_secret(key.expose_secret());
    let policy = |policy| Asked { policy, ..USUAL };
    let away = Asked {
        address: "198.51.100.1",
        ..USUAL
    };
    let clear = |policy| Asked {
        policy,
        https: false,
        ..USUAL
    };
    let post = |policy| Asked {
        policy,
        method: "POST",
        ..USUAL
    };
    let text = |key: &NewKey| key.expose_secret().to_owned();
    let cases = [
        (text(&key), USUAL, 200),
        (text(&key), policy("fresh"), 200),
        (
            wrong.clone(),
            Asked {
                address: "203.0.113.1",
                ..USUAL
            },
            401,
        ),
        (
            forge::unknown(),
            Asked {
                address: "203.0.113.2",
                ..USUAL
            },
            401,
        ),
        ("garbage".to_owned(), USUAL, 401),
        (text(&revoked), USUAL, 401),
        (text(&disabled), USUAL, 401),
        (text(&key), policy("prefix"), 401),
        (text(&key), policy("environment"), 200),
        (text(&at_home), policy("environment"), 401),
        (text(&at_home), USUAL, 200),
        (text(&at_home), away, 403),
        (text(&posting), USUAL, 403),
        (text(&posting), post("plain"), 200),
        (text(&key), policy("methods"), 403),
        (text(&key), post("methods"), 200),
        (text(&key), clear("https"), 403),
        (text(&key), policy("https"), 200),
        // TLS comes before the secret.
        (wrong, clear("https"), 403),
        (text(&key), policy("scope"), 200),
        (text(&at_home), policy("scope"), 403),
        (text(&key), policy("template"), 200),
        (text(&at_home), policy("template"), 403),
        (text(&limited), policy("plain"), 200),
        (text(&limited), policy("costly"), 429),
    ];
    for (key, asked, status) in cases {
        let statuses = both(&manager, &server, &key, asked).await;
        assert_eq!(statuses, (status, status), "{asked:?}");
    }
}

#[actix_web::test]
async fn an_unknown_fact_denies_what_depends_on_it() {
    let manager = manager().await;
    let networks = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let at_home = manager.create("a").networks(networks).await.unwrap();
    let getting = manager.create("a").methods(["GET"]).await.unwrap();
    let key = manager
        .create("a")
        .scopes(["project:p1:read"])
        .await
        .unwrap();
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let all = RequestFacts::new()
        .with_address(address)
        .with_method("POST")
        .with_https(true)
        .with_route("/{project}")
        .with_path_values(&[("project", "p1")]);
    let none = RequestFacts::new();
    const NAMED: Policy = RATE.name("named");
    let cases = [
        (&key, Policy::new(), none, None),
        (
            &at_home,
            Policy::new(),
            none.with_method("GET"),
            Some(DenyReason::AddressNotPermitted),
        ),
        (&at_home, Policy::new(), none.with_address(address), None),
        (
            &getting,
            Policy::new(),
            none.with_address(address),
            Some(DenyReason::MethodNotPermitted),
        ),
        (&getting, Policy::new(), none.with_method("HEAD"), None),
        (&key, METHODS, none, Some(DenyReason::MethodNotPermitted)),
        (&key, METHODS, none.with_method("POST"), None),
        (
            &key,
            METHODS,
            none.with_method("post"),
            Some(DenyReason::MethodNotPermitted),
        ),
        (&key, HTTPS, none, Some(DenyReason::HttpsRequired)),
        (&key, HTTPS, none.with_https(true), None),
        (&key, RATE, none, Some(DenyReason::Misconfigured)),
        (
            &key,
            RATE,
            none.with_route(""),
            Some(DenyReason::Misconfigured),
        ),
        (&key, RATE, none.with_route("/{project}"), None),
        (&key, NAMED, none, None),
        (&key, TEMPLATE, none, Some(DenyReason::Misconfigured)),
        (
            &key,
            TEMPLATE,
            none.with_path_values(&[("project", "p1")]),
            None,
        ),
        (
            &key,
            TEMPLATE,
            none.with_path_values(&[("project", "p2")]),
            Some(DenyReason::InsufficientScope),
        ),
        (
            &key,
            TEMPLATE,
            none.with_path_values(&[("project", "p1:x")]),
            Some(DenyReason::InsufficientScope),
        ),
        (
            &key,
            TEMPLATE,
            none.with_path_values(&[("project", "")]),
            Some(DenyReason::InsufficientScope),
        ),
        (&at_home, Policy::new(), all, None),
    ];
    for (key, policy, facts, expected) in cases {
        let checked = manager.check(key.expose_secret(), &policy, &facts).await;
        let reason = checked.as_ref().err().map(Denied::reason);
        assert_eq!(reason, expected, "{policy:?} {facts:?}");
        if let Ok(checked) = checked {
            assert_eq!(checked.key().id(), key.id());
        }
    }
    // An IPv4 address in IPv6 is that address.
    let v4 = ["192.0.2.0/24".parse().unwrap()];
    let v4 = manager.create("a").networks(v4).await.unwrap();
    let mapped = none.with_address("::ffff:192.0.2.7".parse().unwrap());
    let checked = manager
        .check(v4.expose_secret(), &Policy::new(), &mapped)
        .await;
    assert!(checked.is_ok());
}

/// A future that another thread may poll.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

#[actix_web::test]
async fn rates_quotas_and_usage_are_counted_together_with_routes_on_every_store() {
    for fleet in Fleet::every(Duration::from_millis(500)).await {
        not_at_midnight().await;
        let (manager, name) = (patient_manager(fleet.store()).await, fleet.name);
        let server = serve(&manager);
        let key = soon(manager.create("a").limit("daily", Quota::per_day(9)))
            .await
            .unwrap();
        let text = key.expose_secret();
        let asked = Asked {
            policy: "rate",
            ..USUAL
        };
        let get = async || server.get("/rate/p1", text).await;
        assert_eq!(get().await.status, 200, "{name}");
        let facts = RequestFacts::new().with_route("/rate/{project}");
        let checked = soon(sendable(manager.check(text, &RATE, &facts)))
            .await
            .unwrap();
        let limits = checked.limit_status();
        let left: Vec<_> = limits
            .iter()
            .map(|limit| (limit.name.as_str(), limit.remaining))
            .collect();
        assert_eq!(left, [("daily", 7), ("/rate/{project}", 0)], "{name}");
        let headers = checked.headers();
        let policy = r#""daily";q=9;w=86400, "/rate/{project}";q=2;w=3600"#;
        assert_eq!(headers.get("ratelimit-policy").unwrap(), policy, "{name}");
        // Both are used up by both.
        let of_route = get().await;
        of_route.refused(429, "rate-limited");
        let denied = of_facts(&manager, text, asked).await.0.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::RateLimited, "{name}");
        let headers = denied.headers(&manager, &RATE);
        assert!(headers.contains_key("retry-after"), "{name}");
        let policy = headers.get("ratelimit-policy").unwrap().to_str().ok();
        assert_eq!(policy, of_route.header("ratelimit-policy"), "{name}");
        let usage = soon(manager.usage(key.id())).await.unwrap();
        let [route] = &usage.by_route()[..] else {
            panic!("{name} {usage:?}")
        };
        assert_eq!(route.route, "/rate/{project}", "{name}");
        let counts = (route.counts.requests, route.counts.denials());
        assert_eq!(counts, (2, 2), "{name}");
        soon(manager.shutdown()).await.unwrap();
    }
}

/// Failed attempts by facts block the address on routes, and the other way round; a client without an
/// address has a count, too.
#[actix_web::test]
async fn failed_attempts_are_counted_by_address_together_with_routes() {
    let manager = proxied().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let guess =
        |number: usize| forge::key("my_api", &key.id().to_string(), &format!("{number:064}"));
    for number in 0..5 {
        let asked = Asked {
            policy: "plain",
            ..USUAL
        };
        if number % 2 == 0 {
            of_route(&server, &guess(number), asked)
                .await
                .refused(401, "invalid-key");
        } else {
            let denied = of_facts(&manager, &guess(number), asked)
                .await
                .0
                .unwrap_err();
            assert_eq!(denied.reason(), DenyReason::InvalidKey);
        }
    }
    of_route(&server, &guess(5), USUAL)
        .await
        .refused(429, "too-many-failed-attempts");
    let denied = of_facts(&manager, &guess(6), USUAL).await.0.unwrap_err();
    assert_eq!(denied.reason(), DenyReason::TooManyFailedAttempts);
    assert!(
        denied
            .headers(&manager, &Policy::new())
            .contains_key("retry-after")
    );
    let elsewhere = Asked {
        address: "198.51.100.7",
        ..USUAL
    };
    let denied = of_facts(&manager, &guess(7), elsewhere)
        .await
        .0
        .unwrap_err();
    assert_eq!(denied.reason(), DenyReason::InvalidKey);
    // Without an address.
    let unknown = async |number| {
        let facts = RequestFacts::new();
        let checked = manager.check(&guess(number), &Policy::new(), &facts).await;
        checked.unwrap_err().reason()
    };
    for number in 8..13 {
        assert_eq!(unknown(number).await, DenyReason::InvalidKey);
    }
    assert_eq!(unknown(13).await, DenyReason::TooManyFailedAttempts);
    // Control: a check without facts is not counted.
    for number in 14..24 {
        let denied = manager.verify(&guess(number)).await.unwrap_err();
        assert_eq!(denied.reason(), DenyReason::InvalidKey);
    }
}

#[actix_web::test]
async fn the_answer_to_a_check_announces_the_end_and_events_name_the_key() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    let config = Config::builder().deprecation_headers(true).build().unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .clock(Arc::<ManualClock>::clone(&clock));
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let hour = Duration::from_secs(3_600);
    let end = clock.read().now.checked_add(hour * 2).unwrap();
    let hostile: String = "\"; @1\\\u{e9}%0d".chars().cycle().take(200).collect();
    let old = manager.create(hostile).expires_at(end).await.unwrap();
    manager.rotate(old.id()).grace(hour).await.unwrap();
    let facts = RequestFacts::new();
    let checked = manager
        .check(old.expose_secret(), &Policy::new(), &facts)
        .await
        .unwrap();
    let headers = checked.headers();
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    let expected = [
        "api-key-expires: @1700007200",
        "api-key-status: superseded;until=@1700003600",
        "deprecation: @1700000000",
        "sunset: Tue, 14 Nov 2023 23:13:20 GMT",
    ];
    assert_eq!(lines, expected);
    // A key that was readable on the way is named, so that it is replaced.
    let mut events = manager.events();
    let denied = manager.check(old.expose_secret(), &HTTPS, &facts).await;
    assert_eq!(denied.unwrap_err().reason(), DenyReason::HttpsRequired);
    let event = soon(events.next()).await.unwrap();
    assert_eq!(event.key_id, Some(old.id()));
    let denied = matches!(event.kind, EventKind::Denied { reason, .. } if reason == DenyReason::HttpsRequired);
    assert!(denied, "{event:?}");
}
