//! `/introspect` (RFC 7662) and `/revoke` (RFC 7009).

use std::sync::Arc;
use std::time::Duration;

use apikey_portal::Gateway;
use apikey_runtime::clock::ManualClock;
use apikey_runtime::{ApiKeyManager, Config, KeyStore, MemoryStore, Rate};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::locations::base64;
use apikey_test_support::store::{Call, Fault, GateStore};
use serde_json::{Value, json};

/// Returns `Authorization: Basic`, as APISIX's lua-resty-openidc writes it.
fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    format!("Basic {}", base64(pair.as_bytes()))
}

pub fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        app.service(Gateway::new(manager.clone()).mount("/gateway"));
    })
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a form to a path below the mount path, with these headers, from 127.0.0.1.
pub async fn send(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut client = server.connect().await;
    client.send(form(path, headers, body)).await;
    client.answer().await
}

pub fn form(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!("POST /gateway{path} HTTP/1.1\r\nHost: a\r\n");
    if headers.iter().all(|(name, _)| *name != "Content-Type") {
        head += &format!("Content-Type: {FORM}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

pub fn parsed(answer: &Answer) -> Value {
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "{answer:?}"
    );
    serde_json::from_slice(&answer.body).unwrap()
}

/// The key of a gateway that introspects.
async fn caller(manager: &ApiKeyManager) -> String {
    let created = manager
        .create("gateway")
        .scopes(["apikeys:introspect"])
        .await;
    format!("Bearer {}", created.unwrap().expose_secret())
}

/// Introspects a token.
async fn introspect(server: &Server, caller: &str, token: &str) -> Value {
    let body = format!("token={token}&token_type_hint=refresh_token");
    let answer = send(server, "/introspect", &[("Authorization", caller)], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    parsed(&answer)
}

pub async fn manager_at(clock: Arc<ManualClock>) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().store(MemoryStore::new());
    builder.clock(clock).start().await.unwrap()
}

#[actix_web::test]
async fn an_active_key_is_introspected_as_the_rfc_names_it() {
    let clock = Arc::new(ManualClock::starting_now());
    let manager = manager_at(Arc::<ManualClock>::clone(&clock)).await;
    let (server, caller) = (serve(&manager), caller(&manager).await);
    let key = manager.create("a").owner("acme").scopes(["b:w", "a:r"]);
    let key = key.expires_in(Duration::from_secs(3_600)).await.unwrap();
    let record = manager.get(key.id()).await.unwrap();
    let expected = json!({
        "active": true,
        "scope": "a:r b:w",
        "client_id": key.id(),
        "sub": "acme",
        "exp": record.expires.unwrap().as_millis() / 1_000,
        "iat": record.created.as_millis() / 1_000,
        "jti": key.id(),
        "token_type": "Bearer",
    });
    assert_eq!(
        introspect(&server, &caller, key.expose_secret()).await,
        expected
    );
    // The password of Basic, with any user name, as APISIX sends it; it repeats its secret in the body.
    let secret = caller.strip_prefix("Bearer ").unwrap();
    let authorization = basic("apisix", secret);
    let body = format!(
        "client_id=apisix&client_secret={secret}&token={}",
        key.expose_secret()
    );
    let answer = send(
        &server,
        "/introspect",
        &[("Authorization", &authorization)],
        &body,
    )
    .await;
    assert_eq!(parsed(&answer), expected);

    // Without an owner and an end, there are no such members.
    let plain = manager.create("b").await.unwrap();
    let said = introspect(&server, &caller, plain.expose_secret()).await;
    assert_eq!(
        (said.get("sub"), said.get("exp"), &said["scope"]),
        (None, None, &json!(""))
    );

    // A superseded secret ends with its grace.
    let grace = Duration::from_secs(60);
    let new = manager.rotate(key.id()).grace(grace).await.unwrap();
    let until = manager.now().checked_add(grace).unwrap().as_millis() / 1_000;
    let said = introspect(&server, &caller, key.expose_secret()).await;
    assert!((said["exp"].as_i64().unwrap() - until).abs() <= 1, "{said}");
    clock.advance(grace + Duration::from_secs(1));
    let said = introspect(&server, &caller, key.expose_secret()).await;
    assert_eq!(said, json!({ "active": false }));
    assert_eq!(
        introspect(&server, &caller, new.expose_secret()).await["active"],
        true
    );
}

#[actix_web::test]
async fn all_else_is_not_active_and_says_nothing() {
    let manager = manager_at(Arc::new(ManualClock::starting_now())).await;
    let (server, caller) = (serve(&manager), caller(&manager).await);
    let revoked = manager.create("revoked").await.unwrap();
    manager.revoke(revoked.id()).await.unwrap();
    let disabled = manager.create("disabled").await.unwrap();
    manager.disable(disabled.id()).await.unwrap();
    // Their requests are not known: a resource server would accept them from everywhere.
    let networked = manager
        .create("n")
        .networks(["192.0.2.0/24".parse().unwrap()]);
    let networked = networked.await.unwrap();
    let reading = manager.create("m").methods(["GET"]).await.unwrap();
    let active = manager.create("active").await.unwrap();
    for token in [
        revoked.expose_secret(),
        disabled.expose_secret(),
        networked.expose_secret(),
        reading.expose_secret(),
        &forge::wrong_secret(active.expose_secret()),
        &forge::unknown(),
        active.id().as_str(),
        "",
        "%00",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        &"x".repeat(60_000),
    ] {
        let said = introspect(&server, &caller, token).await;
        assert_eq!(said, json!({ "active": false }), "{token:.40}");
    }
    assert_eq!(
        introspect(&server, &caller, active.expose_secret()).await["active"],
        true
    );
    // Neither a use nor a failed attempt.
    assert_eq!(manager.last_used(active.id()).await.unwrap(), None);
}

#[actix_web::test]
async fn only_a_key_with_the_scope_introspects() {
    let manager = manager_at(Arc::new(ManualClock::starting_now())).await;
    let server = serve(&manager);
    let key = manager
        .create("a")
        .scopes(["apikeys:read", "orders:read"])
        .await
        .unwrap();
    let own = format!("Bearer {}", key.expose_secret());
    let body = format!("token={}", key.expose_secret());
    for (authorization, status) in [
        (None, 401),
        (Some(own.clone()), 403),
        (Some(basic("a", key.expose_secret())), 403),
        // The key is the password.
        (Some(basic(key.expose_secret(), "")), 401),
        (Some(format!("Bearer {}", forge::unknown())), 401),
        (Some("Basic x".to_owned()), 401),
        (Some("Digest x".to_owned()), 401),
    ] {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("Authorization", value.as_str()))
            .collect();
        let answer = send(&server, "/introspect", &headers, &body).await;
        assert_eq!(answer.status, status, "{authorization:?}");
        assert!(!answer.text().contains("active"), "{answer:?}");
        if status == 401 {
            let challenges = answer.all("www-authenticate").join(", ");
            assert!(
                challenges.contains("Bearer") && challenges.contains("Basic"),
                "{challenges}"
            );
        }
    }
    let caller = caller(&manager).await;
    let twice = [
        ("Authorization", caller.as_str()),
        ("Authorization", own.as_str()),
    ];
    let answer = send(&server, "/introspect", &twice, &body).await;
    assert_eq!(answer.status, 400);
}

/// The failures of tokens count neither against the caller nor against anybody else.
#[actix_web::test]
async fn what_a_caller_introspects_does_not_block_it() {
    let config = Config::builder().failed_attempts(Rate::per_hour(3).with_burst(3));
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let (server, caller) = (serve(&manager), caller(&manager).await);
    for _ in 0..10 {
        let said = introspect(&server, &caller, &forge::unknown()).await;
        assert_eq!(said, json!({ "active": false }));
    }
    let key = manager.create("a").await.unwrap();
    assert_eq!(
        introspect(&server, &caller, key.expose_secret()).await["active"],
        true
    );
    // Negative control: its own failures are counted.
    let wrong = format!("Bearer {}", forge::unknown());
    let mut last = 0;
    for _ in 0..5 {
        let headers = [("Authorization", wrong.as_str())];
        last = send(&server, "/introspect", &headers, "token=x")
            .await
            .status;
    }
    assert_eq!(last, 429);
}

#[actix_web::test]
async fn a_request_that_is_not_a_form_with_one_token_is_refused() {
    let manager = manager_at(Arc::new(ManualClock::starting_now())).await;
    let (server, caller) = (serve(&manager), caller(&manager).await);
    let key = manager.create("a").await.unwrap();
    let token = format!("token={}", key.expose_secret());
    let twice = format!("{token}&{token}");
    let long = format!("{token}&x={}", "y".repeat(4_096));
    let longer = format!("{token}&x={}", "y".repeat(65_536));
    for path in ["/introspect", "/revoke"] {
        let authorized = ("Authorization", caller.as_str());
        for (more, headers, body, status) in [
            ("", vec![authorized], "", 400),
            ("", vec![authorized], "tokens=a", 400),
            ("", vec![authorized], &twice, 400),
            (&*format!("?{token}"), vec![authorized], "", 400),
            (&*format!("?{token}"), vec![authorized], &token, 400),
            ("?t%6Fken=x", vec![authorized], &token, 400),
            (
                "",
                vec![authorized, ("Content-Type", "application/json")],
                &token,
                415,
            ),
            (
                "",
                vec![authorized, ("Content-Encoding", "gzip")],
                &token,
                415,
            ),
            ("", vec![authorized], &longer, 413),
        ] {
            let answer = send(&server, &format!("{path}{more}"), &headers, body).await;
            assert_eq!(answer.status, status, "{path}{more} {body:.40}");
            assert_eq!(parsed(&answer)["error"], "invalid_request", "{path}{more}");
            assert!(!answer.text().contains(key.expose_secret()), "{answer:?}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            let request = format!(
                "{method} /gateway{path}?{token} HTTP/1.1\r\nHost: a\r\nAuthorization: {caller}\r\n\r\n"
            );
            let answer = server.send(request).await;
            assert_eq!(
                (answer.status, answer.header("allow")),
                (405, Some("POST")),
                "{method} {path}"
            );
        }
    }
    assert_eq!(send(&server, "/revoke", &[], &long).await.status, 413);
    // Nothing of this revoked the key.
    assert!(manager.verify(key.expose_secret()).await.is_ok());
}

#[actix_web::test]
async fn a_store_that_is_away_is_told_so_that_the_client_tries_again() {
    let store = GateStore::new();
    let shared = Arc::<GateStore>::clone(&store) as Arc<dyn KeyStore>;
    let manager = ApiKeyManager::builder()
        .shared_store(shared)
        .start()
        .await
        .unwrap();
    let (server, caller) = (serve(&manager), caller(&manager).await);
    let key = manager.create("a").await.unwrap();
    let token = format!("token={}", key.expose_secret());
    // So that the caller is known.
    introspect(&server, &caller, key.expose_secret()).await;
    store.fail(Call::Find, Fault::Unavailable);
    for path in ["/introspect", "/revoke"] {
        let answer = send(&server, path, &[("Authorization", &caller)], &token).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{path}"
        );
    }
    store.heal();
    assert_eq!(
        introspect(&server, &caller, key.expose_secret()).await["active"],
        true
    );
}
