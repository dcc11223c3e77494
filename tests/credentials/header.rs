//! The header that carries the key, byte by byte.

use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, get};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, api_key_required};
use apikey_test_support::hasher::CountingHasher;
use apikey_test_support::http::{Answer, Server, get_request};
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{forge, manager};

#[get("/secure")]
#[api_key_required]
async fn secure(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/header")]
#[api_key_required(location = header("X-API-Key"))]
async fn in_header(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/scheme")]
#[api_key_required(location = header("Authorization", scheme = "ApiKey"))]
async fn with_scheme(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/either")]
#[api_key_required(locations = [bearer, header("X-API-Key")])]
async fn either(key: ApiKey) -> String {
    key.label().to_owned()
}

#[get("/optional")]
#[api_key_required(optional)]
async fn optional(key: Option<ApiKey>) -> String {
    key.map_or("anonymous".to_owned(), |key| key.label().to_owned())
}

#[get("/open")]
async fn open(_request: HttpRequest) -> &'static str {
    "open"
}

fn routes(manager: &ApiKeyManager) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let manager = manager.clone();
    move |app| {
        manager.init_app(app);
        app.service((secure, in_header, with_scheme, either, optional, open));
    }
}

async fn send(server: &Server, path: &str, header: &str, value: &[u8]) -> Answer {
    let request = [
        b"GET ",
        path.as_bytes(),
        b" HTTP/1.1\r\nHost: localhost\r\n",
        header.as_bytes(),
    ];
    let mut client = server.connect().await;
    client
        .send(
            [
                request.concat(),
                b": ".to_vec(),
                value.to_vec(),
                b"\r\n\r\n".to_vec(),
            ]
            .concat(),
        )
        .await;
    client.answer().await
}

#[actix_web::test]
async fn h06_the_scheme_is_compared_without_regard_to_case() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = Server::start(routes(&manager));
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {}", key.expose_secret());
        server
            .get_with("/secure", &[("Authorization", &value)])
            .await
            .says("a");
        server
            .get_with("/secure", &[("aUTHORIZATION", &value)])
            .await
            .says("a");
    }
    let value = format!("apikey {}", key.expose_secret());
    server
        .get_with("/scheme", &[("Authorization", &value)])
        .await
        .says("a");
    // The key itself is case-sensitive.
    server
        .get("/secure", key.expose_secret().to_lowercase().as_str())
        .await
        .refused(401, "invalid-key");
}

#[actix_web::test]
async fn h07_spaces_may_follow_the_scheme_and_nothing_else_may() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let server = Server::start(routes(&manager));
    for value in [
        format!("Bearer    {key}"),
        format!("Bearer {key}   "),
        format!(" \tBearer {key}"),
    ] {
        server
            .get_with("/secure", &[("Authorization", &value)])
            .await
            .says("a");
    }
    for value in [
        format!("Bearer\t{key}"),
        format!("Bearer \t{key}"),
        format!("Bearer{key}"),
        format!("Bearer,{key}"),
        format!("Bearer {key} {key}"),
        format!("Bearer {key},{key}"),
        format!("Bearer \"{key}\""),
        format!("Bearer Bearer {key}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        key.to_owned(),
    ] {
        let answer = server
            .get_with("/secure", &[("Authorization", &value)])
            .await;
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
        answer.problem();
    }
}

#[actix_web::test]
async fn h07_another_scheme_is_no_key_of_ours() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = Server::start(routes(&manager));
    for scheme in ["Basic", "ApiKey", "Digest", "Bearer2", "Bear"] {
        let value = format!("{scheme} {}", key.expose_secret());
        let answer = server
            .get_with("/secure", &[("Authorization", &value)])
            .await;
        answer.refused(401, "missing-key");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[actix_web::test]
async fn h09_bytes_above_127_are_a_wrong_key_and_not_an_absent_one() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let server = Server::start(routes(&manager));
    for byte in 0x80..=0xFF_u8 {
        let value = [b"Bearer ", key.expose_secret().as_bytes(), &[byte]].concat();
        send(&server, "/secure", "Authorization", &value)
            .await
            .refused(401, "invalid-key");
        send(&server, "/optional", "Authorization", &value)
            .await
            .refused(401, "invalid-key");
        send(&server, "/header", "X-API-Key", &value[7..])
            .await
            .refused(401, "invalid-key");
    }
    for alone in [&b"Bearer \xFF"[..], b"Bearer \xC3\xA9"] {
        send(&server, "/optional", "Authorization", alone)
            .await
            .refused(401, "invalid-key");
        // A bad key is not skipped in favour of a valid one at the next location: that would be a
        // second key.
        let value = [alone, b"\r\nX-API-Key: ", key.expose_secret().as_bytes()].concat();
        send(&server, "/either", "Authorization", &value)
            .await
            .refused(400, "multiple-keys");
    }
}

#[actix_web::test]
async fn h11_a_key_of_a_mebibyte_is_refused_before_any_hashing() {
    let hasher = CountingHasher::default();
    let store = GateStore::new();
    let manager = ApiKeyManager::builder()
        .hasher(hasher.clone())
        .shared_store(store.clone());
    let manager = manager.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    let server = Server::start(routes(&manager));
    let calls = store.count_all();
    hasher.take();

    // As much as actix reads of a head, and with a valid checksum, so that only the length is
    // wrong.
    let id = key.id().to_string();
    let long = forge::key("my_api", &id, &"a".repeat(60_000));
    server
        .get("/secure", long.as_str())
        .await
        .refused(401, "invalid-key");

    let longest = forge::key("my_api", &id, &"a".repeat(1 << 20));
    let denied = manager.verify(&longest).await.unwrap_err();
    assert_eq!(denied.status(), 401);
    let mut client = server.connect().await;
    client
        .send_in_vain(get_request(
            "/secure",
            &[("Authorization", &format!("Bearer {longest}"))],
        ))
        .await;
    if let Some(answer) = client.try_answer().await {
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!((hasher.take(), store.count_all() - calls), (0, 0));

    server.get("/secure", key.expose_secret()).await.says("a");
    assert_ne!(hasher.take(), 0, "control: the counter works");
}

#[test]
fn h13_a_realm_that_would_break_the_header_is_an_error_of_the_configuration() {
    for realm in ["a\"b", "a\r\nSet-Cookie: x=1", "a\nb", "a\\", "\0", "é", ""] {
        let error = Config::builder().realm(realm).build().unwrap_err();
        assert!(error.to_string().contains("realm"), "{error}");
        let data = serde_json::json!({ "realm": realm }).to_string();
        assert!(serde_json::from_str::<Config>(&data).is_err(), "{realm:?}");
    }
}

#[actix_web::test]
async fn h13_a_good_realm_stands_in_every_challenge() {
    let config = Config::builder().realm("Orders (v2)").build().unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .shared_store(GateStore::new());
    let server = Server::start(routes(&builder.start().await.unwrap()));
    let answer = server.get("/secure", None).await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"Orders (v2)\"")
    );
    let answer = server.get("/header", None).await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some("ApiKey realm=\"Orders (v2)\"")
    );
}

#[actix_web::test]
async fn h15_an_empty_header_is_a_wrong_key_and_asks_no_store() {
    let store = GateStore::new();
    let manager = apikey_test_support::manager_on(store.clone()).await;
    let server = Server::start(routes(&manager));
    for value in ["", " ", "\t"] {
        send(&server, "/header", "X-API-Key", value.as_bytes())
            .await
            .refused(401, "invalid-key");
    }
    assert_eq!(store.count(Call::Find), 0);
}

#[actix_web::test]
async fn h20_each_request_of_a_connection_is_judged_by_itself() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let bearer = format!("Bearer {}", key.expose_secret());
    let server = Server::start(routes(&manager));
    let mut client = server.connect().await;
    for _ in 0..3 {
        client
            .get("/secure", &[("Authorization", &bearer)])
            .await
            .says("a");
        client.get("/secure", &[]).await.refused(401, "missing-key");
        client.get("/open", &[]).await.says("open");
    }
    // The same requests in one packet.
    let good = get_request("/secure", &[("Authorization", &bearer)]);
    let none = get_request("/secure", &[]);
    client.send(format!("{good}{none}{good}")).await;
    client.answer().await.says("a");
    client.answer().await.refused(401, "missing-key");
    client.answer().await.says("a");
}

#[actix_web::test]
async fn l03_a_second_key_is_one_too_many_even_where_it_is_the_same() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let (key, bearer) = (
        key.expose_secret(),
        format!("Bearer {}", key.expose_secret()),
    );
    let server = Server::start(routes(&manager));
    let twice = [
        ("Authorization", bearer.as_str()),
        ("Authorization", &bearer),
    ];
    server
        .get_with("/secure", &twice)
        .await
        .refused(400, "multiple-keys");
    let bad = forge::unknown();
    for other in [key, bad.as_str(), ""] {
        let both = [("Authorization", bearer.as_str()), ("X-API-Key", other)];
        server
            .get_with("/either", &both)
            .await
            .refused(400, "multiple-keys");
        // That header is not one of the route's locations, so it does not hold a second key.
        server.get_with("/secure", &both).await.says("a");
    }
    let mixed = [
        ("Authorization", "Basic eDp5"),
        ("Authorization", bearer.as_str()),
    ];
    server
        .get_with("/secure", &mixed)
        .await
        .refused(400, "multiple-keys");
    let answer = server.get_with("/secure", &twice).await;
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer error=\"invalid_request\"")
    );
}

#[actix_web::test]
async fn a_header_and_its_scheme_are_where_the_configuration_says() {
    let config = Config::builder()
        .header_name("X-Token")
        .header_type("Key")
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .shared_store(GateStore::new());
    let manager = builder.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    let server = Server::start(routes(&manager));
    let value = format!("key {}", key.expose_secret());
    server
        .get_with("/secure", &[("x-token", &value)])
        .await
        .says("a");
    server
        .get("/secure", key.expose_secret())
        .await
        .refused(401, "missing-key");
    assert_eq!(
        server.get("/secure", None).await.header("www-authenticate"),
        Some("Key")
    );
    // The route's own location takes precedence over the configured one.
    server
        .get_with("/header", &[("X-API-Key", key.expose_secret())])
        .await
        .says("a");
}

#[actix_web::test]
async fn l11_a_request_for_the_head_alone_is_guarded_as_a_get() {
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.route("/", actix_web::web::head().to(secure_head));
    });
    let head = |key: &str| format!("HEAD / HTTP/1.1\r\nHost: localhost\r\n{key}\r\n");
    let mut client = server.connect().await;
    client.send(head("")).await;
    assert!(status_line(&mut client).await.contains(" 401 "));
    let mut client = server.connect().await;
    client
        .send(head(&format!(
            "Authorization: Bearer {}\r\n",
            key.expose_secret()
        )))
        .await;
    assert!(status_line(&mut client).await.contains(" 204 "));
}

#[api_key_required]
async fn secure_head() -> actix_web::HttpResponse {
    actix_web::HttpResponse::NoContent().finish()
}

/// For an answer without a body, whatever its stated length.
async fn status_line(client: &mut apikey_test_support::http::Client) -> String {
    client.head_only().await.status_line
}
