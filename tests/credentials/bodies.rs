//! Keys in bodies: how much of a body is read, and what the handler gets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_web::web::{self, Bytes, ServiceConfig};
use apikey_runtime::{ApiKeyManager, Config, Policy, RequireApiKey, api_key_required};
use apikey_test_support::http::{Answer, Client, Server};
use apikey_test_support::locations::{Location, Traced, Traces, key_locations, percent};
use apikey_test_support::store::GateStore;
use apikey_test_support::{SLACK, forge, manager};

/// Much smaller than the default, so that a test reaches it.
const LIMIT: usize = 4 * 1024;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[api_key_required(location = json("api_key"))]
async fn json_bytes(traced: Traced, body: Bytes) -> Bytes {
    traced.handled();
    body
}

#[api_key_required(location = form("api_key"))]
async fn form_bytes(traced: Traced, body: Bytes) -> Bytes {
    traced.handled();
    body
}

#[api_key_required(location = json("api_key"))]
async fn json_parsed(body: web::Json<serde_json::Value>) -> String {
    body.into_inner().to_string()
}

#[api_key_required(location = form("api_key"))]
async fn form_parsed(body: web::Form<BTreeMap<String, String>>) -> String {
    format!("{:?}", body.into_inner())
}

#[api_key_required(locations = [bearer, json("api_key"), form("api_key")])]
async fn either(traced: Traced, body: Bytes) -> Bytes {
    traced.handled();
    body
}

#[api_key_required(optional, location = json("api_key"))]
async fn optional(key: Option<apikey_runtime::ApiKey>, body: Bytes) -> String {
    let name = key.map_or_else(|| "nobody".to_owned(), |key| key.label().to_owned());
    format!("{name} {}", body.len())
}

async fn raw(traced: Traced, body: Bytes) -> Bytes {
    traced.handled();
    body
}

fn routes(app: &mut ServiceConfig) {
    app.route("/json", web::post().to(json_bytes))
        .route("/form", web::post().to(form_bytes))
        .route("/json/parsed", web::post().to(json_parsed))
        .route("/form/parsed", web::post().to(form_parsed))
        .route("/either", web::post().to(either))
        .route("/optional", web::post().to(optional))
        .route("/open", web::post().to(raw));
    for (name, location) in [("/mw/json", Location::Json), ("/mw/form", Location::Form)] {
        let guard = RequireApiKey::with(Policy::new().locations(key_locations(&[location])));
        let scope = web::scope(name).wrap(guard);
        app.service(scope.route("", web::post().to(raw)));
    }
    let small = web::scope("/small")
        .app_data(web::JsonConfig::default().limit(200))
        .app_data(web::FormConfig::default().limit(200))
        .app_data(web::PayloadConfig::new(200))
        .route("/json", web::post().to(json_bytes))
        .route("/form", web::post().to(form_bytes))
        .route("/json/parsed", web::post().to(json_parsed))
        .route("/form/parsed", web::post().to(form_parsed));
    app.service(small);
}

struct House {
    server: Server,
    traces: Traces,
    key: String,
}

impl House {
    async fn on(manager: ApiKeyManager) -> Self {
        let key = manager.create("a").await.unwrap();
        let traces = Traces::default();
        let seen = traces.clone();
        let server = Server::start(move |app| {
            manager.init_app(app);
            app.app_data(seen.clone());
            routes(app);
        });
        Self {
            server,
            traces,
            key: key.expose_secret().to_owned(),
        }
    }

    /// Starts a server with small limits.
    async fn bounded(time: Duration) -> Self {
        let config = Config::builder().body_limit(LIMIT).body_timeout(time);
        let builder = ApiKeyManager::builder().config(config.build().unwrap());
        let builder = builder.shared_store(GateStore::new());
        Self::on(builder.start().await.unwrap()).await
    }

    async fn new() -> Self {
        Self::on(manager().await).await
    }

    async fn post(&self, path: &str, kind: &str, body: impl AsRef<[u8]>) -> Answer {
        let bytes = post(path, &[("Content-Type", kind)], body.as_ref());
        self.server.send(bytes).await
    }
}

/// Returns the bytes of a `POST` with its length.
fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", length.as_str())]].concat();
    [head(path, &headers).as_bytes(), body].concat()
}

fn head(path: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Returns the bytes of a `POST` in chunks of `size`.
fn chunked(path: &str, kind: &str, body: &[u8], size: usize) -> Vec<u8> {
    let head = head(
        path,
        &[("Content-Type", kind), ("Transfer-Encoding", "chunked")],
    );
    let chunks: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    [head.as_bytes(), &chunks, b"0\r\n\r\n"].concat()
}

#[actix_web::test]
async fn j01_a_name_that_comes_twice_is_400_however_it_is_written() {
    let house = House::new().await;
    let key = &house.key;
    let unknown = forge::unknown();
    for (first, second) in [
        (key, key),
        (key, &unknown),
        (&unknown, key),
        (key, &String::new()),
    ] {
        for (one, other) in [
            ("api_key", "api_key"),
            ("api_key", "api\\u005fkey"),
            ("\\u0061pi_key", "api_key"),
            ("api\\u005Fkey", "api\\u005fkey"),
        ] {
            let body = format!("{{\"{one}\":\"{first}\", \"n\":[1,2], \"{other}\":\"{second}\"}}");
            for path in ["/json", "/mw/json", "/either", "/optional"] {
                let answer = house.post(path, JSON, &body).await;
                answer.refused(400, "multiple-keys");
            }
        }
        for (one, other) in [
            ("api_key", "api_key"),
            ("api_key", "api%5Fkey"),
            ("%61pi_key", "api_key"),
            ("api%5fkey", "api%5Fkey"),
        ] {
            let body = format!("{one}={first}&n=1&{other}={second}");
            for path in ["/form", "/mw/form", "/either"] {
                let answer = house.post(path, FORM, &body).await;
                answer.refused(400, "multiple-keys");
            }
        }
    }
    // A second member counts even if it is not a string.
    for second in ["null", "1", "[]", "{}", "true"] {
        let body = format!("{{\"api_key\":\"{key}\",\"api_key\":{second}}}");
        house
            .post("/json", JSON, &body)
            .await
            .refused(400, "multiple-keys");
    }
    house
        .post("/form", FORM, format!("api_key={key}&api_key"))
        .await
        .refused(400, "multiple-keys");
    assert_eq!(house.traces.counts(), (0, 0));
    // Control: other names may repeat, and so may the key's name at a deeper level.
    let body = format!("{{\"n\":1,\"n\":2,\"api_key\":\"{key}\",\"m\":{{\"api_key\":\"x\"}}}}");
    house.post("/json", JSON, &body).await.says(&body);
    let body = format!("n=1&n=2&api_key={key}&API_KEY=x");
    house.post("/form", FORM, &body).await.says(&body);
}

#[actix_web::test]
async fn j01_a_broken_or_deep_body_is_400_and_an_empty_one_has_no_key() {
    let house = House::new().await;
    let key = &house.key;
    let deep = |levels: usize| {
        let (open, shut) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"api_key\":\"{key}\",\"x\":{open}{shut}}}")
    };
    let objects = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    let broken: Vec<Vec<u8>> = vec![
        format!("{{\"api_key\":\"{key}\"").into(),
        format!("{{\"api_key\":\"{key}\"}} trailing").into(),
        format!("{{\"api_key\":\"{key}\"}}{{}}").into(),
        format!("{{'api_key':'{key}'}}").into(),
        format!("{{api_key:\"{key}\"}}").into(),
        format!("{{\"api_key\":\"{key}\",}}").into(),
        format!("{{\"api_key\":\"{key}\",\"x\":NaN}}").into(),
        format!("{{\"api_key\":\"{key}\",\"x\":\"\\ud800\"}}").into(),
        format!("\u{feff}{{\"api_key\":\"{key}\"}}").into(),
        [
            format!("{{\"api_key\":\"{key}\",\"x\":\"").as_bytes(),
            b"\xff\"}",
        ]
        .concat(),
        format!("{{\"api_key\":\"{key}\"}}\0").into(),
        format!("{{\"api_key\":\"{key}\"}}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect(),
        format!("api_key={key}").into(),
        deep(200).into(),
        deep(30_000).into(),
        format!("{{\"api_key\":\"{key}\",\"x\":{objects}}}").into(),
        objects.into(),
    ];
    for body in &broken {
        for path in ["/json", "/mw/json", "/either", "/optional"] {
            let answer = house.post(path, JSON, body).await;
            answer.refused(400, "malformed-request");
        }
    }
    for broken in [format!("api_key={key}%"), format!("api_key=%ZZ{key}")] {
        for path in ["/form", "/mw/form", "/either"] {
            let answer = house.post(path, FORM, &broken).await;
            answer.refused(400, "malformed-request");
        }
    }
    for nothing in [
        "",
        "   ",
        "{}",
        "[]",
        "null",
        "5",
        "\"text\"",
        "[{\"api_key\":\"x\"}]",
    ] {
        for path in ["/json", "/mw/json", "/either"] {
            let answer = house.post(path, JSON, nothing).await;
            answer.refused(401, "missing-key");
        }
    }
    for nothing in ["", "&&", "=", "n=1", "api_ke=1"] {
        for path in ["/form", "/mw/form", "/either"] {
            let answer = house.post(path, FORM, nothing).await;
            answer.refused(401, "missing-key");
        }
    }
    for no_key in ["null", "5", "true", "[\"k\"]", "{\"a\":1}", "\"\""] {
        let body = format!("{{\"api_key\":{no_key}}}");
        house
            .post("/json", JSON, &body)
            .await
            .refused(401, "invalid-key");
        house
            .post("/optional", JSON, &body)
            .await
            .refused(401, "invalid-key");
    }
    assert_eq!(house.traces.counts(), (0, 0));
    house.post("/optional", JSON, "{}").await.says("nobody 2");
    let fine = deep(100);
    house.post("/json", JSON, &fine).await.says(&fine);
}

#[actix_web::test]
async fn j01_a_body_of_another_type_is_not_looked_into() {
    let house = House::new().await;
    let json = format!("{{\"api_key\":\"{}\"}}", house.key);
    let form = format!("api_key={}", house.key);
    for kind in [
        "text/plain",
        "",
        "application/x-json",
        "multipart/form-data",
        FORM,
    ] {
        for path in ["/json", "/mw/json"] {
            house
                .post(path, kind, &json)
                .await
                .refused(401, "missing-key");
        }
    }
    for kind in ["text/plain", "", "multipart/form-data", JSON] {
        for path in ["/form", "/mw/form"] {
            house
                .post(path, kind, &form)
                .await
                .refused(401, "missing-key");
        }
    }
    for path in ["/json", "/form", "/mw/json", "/mw/form", "/either"] {
        let bytes = post(path, &[], json.as_bytes());
        house.server.send(bytes).await.refused(401, "missing-key");
    }
    assert_eq!(house.traces.counts(), (0, 0));
    for kind in [
        JSON,
        "Application/JSON; charset=utf-8",
        "application/problem+json",
    ] {
        house.post("/json", kind, &json).await.says(&json);
        house.post("/mw/json", kind, &json).await.says(&json);
    }
    for kind in [FORM, "application/X-WWW-form-urlencoded ; charset=utf-8"] {
        house.post("/form", kind, &form).await.says(&form);
        house.post("/mw/form", kind, &form).await.says(&form);
    }
}

#[actix_web::test]
async fn j01_an_encoded_body_is_415_and_nothing_is_inflated() {
    let house = House::new().await;
    let body = format!("{{\"api_key\":\"{}\"}}", house.key);
    for coding in ["gzip", "GZIP", "br", "deflate", "zstd", "identity", "x", ""] {
        for path in ["/json", "/mw/json", "/either", "/optional"] {
            let headers = [("Content-Type", JSON), ("Content-Encoding", coding)];
            let answer = house
                .server
                .send(post(path, &headers, body.as_bytes()))
                .await;
            answer.refused(415, "unsupported-content-encoding");
        }
    }
    assert_eq!(house.traces.counts(), (0, 0));
    // Control: without a key location in the body, the encoding is up to the handler.
    let headers = [("Content-Type", JSON), ("Content-Encoding", "identity")];
    let open = house
        .server
        .send(post("/open", &headers, body.as_bytes()))
        .await;
    open.says(&body);
    house.post("/json", JSON, &body).await.says(&body);
}

/// Returns a body of `length` bytes in total, with the key.
fn json_of(key: &str, length: usize) -> String {
    let frame = format!("{{\"api_key\":\"{key}\",\"pad\":\"\"}}").len();
    format!(
        "{{\"api_key\":\"{key}\",\"pad\":\"{}\"}}",
        "x".repeat(length - frame)
    )
}

#[actix_web::test]
async fn j01_a_body_up_to_its_limit_passes_and_one_byte_more_is_413() {
    let house = House::bounded(Duration::from_secs(20)).await;
    let exact = json_of(&house.key, LIMIT);
    let over = json_of(&house.key, LIMIT + 1);
    for path in ["/json", "/mw/json", "/either"] {
        house.post(path, JSON, &exact).await.says(&exact);
        house
            .post(path, JSON, &over)
            .await
            .refused(413, "body-too-large");
        for size in [1, 1_000, LIMIT + 1] {
            let bytes = chunked(path, JSON, exact.as_bytes(), size);
            house.server.send(bytes).await.says(&exact);
            let mut client = house.server.connect().await;
            client
                .send_in_vain(chunked(path, JSON, over.as_bytes(), size))
                .await;
            client.answer().await.refused(413, "body-too-large");
        }
    }
    let pad = "&pad=".to_owned() + &"x".repeat(LIMIT);
    let form = format!("api_key={}{pad}", house.key);
    house
        .post("/form", FORM, &form)
        .await
        .refused(413, "body-too-large");
    house
        .post("/mw/form", FORM, &form)
        .await
        .refused(413, "body-too-large");
}

/// Bounded memory: the answer arrives although the body never ends.
async fn an_endless_body(house: &House, head: &str, some: &[u8]) -> Result<(), String> {
    let mut client = house.server.connect().await;
    client.send(head).await;
    client.send_in_vain(some).await;
    match tokio::time::timeout(SLACK, client.answer()).await {
        Ok(answer) if answer.status == 413 => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

#[actix_web::test]
async fn j01_a_body_beyond_its_limit_is_not_read_to_its_end() {
    let house = House::bounded(Duration::from_secs(60)).await;
    for path in ["/json", "/mw/json", "/either"] {
        // A stated length is denied before any byte of the body arrives.
        for length in ["4097", "1000000000000", "18446744073709551615"] {
            let stated = head(path, &[("Content-Type", JSON), ("Content-Length", length)]);
            an_endless_body(&house, &stated, b"").await.unwrap();
        }
        // An unstated length is denied as soon as it exceeds the limit.
        let chunked = head(
            path,
            &[("Content-Type", JSON), ("Transfer-Encoding", "chunked")],
        );
        let some = chunk(json_of(&house.key, LIMIT + 1).as_bytes());
        an_endless_body(&house, &chunked, &some).await.unwrap();
    }
    assert_eq!(house.traces.counts(), (0, 0));
    // Control: if the body is not a key location, the server reads on.
    let chunked = head(
        "/open",
        &[("Content-Type", JSON), ("Transfer-Encoding", "chunked")],
    );
    let some = chunk(json_of(&house.key, LIMIT + 1).as_bytes());
    let mut client = house.server.connect().await;
    client.send(&chunked).await;
    client.send(&some).await;
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.body.len(), LIMIT + 1);
}

#[actix_web::test]
async fn j01_a_body_that_does_not_come_in_time_is_408() {
    let house = House::bounded(Duration::from_millis(300)).await;
    let body = format!("{{\"api_key\":\"{}\"}}", house.key);
    for path in ["/json", "/mw/json", "/either"] {
        let length = body.len().to_string();
        let head = head(path, &[("Content-Type", JSON), ("Content-Length", &length)]);
        let mut client = house.server.connect().await;
        client.send(&head).await;
        let (mut bytes, mut answer) = (body.bytes(), None);
        // A byte every 25 ms: all of them would take more than 2 s.
        while let (None, Some(byte)) = (&answer, bytes.next()) {
            client.send_in_vain([byte]).await;
            let soon = tokio::time::timeout(Duration::from_millis(25), client.try_answer());
            answer = soon.await.ok().flatten();
        }
        assert!(bytes.len() > 0, "the answer arrived before the last byte");
        answer.unwrap().refused(408, "body-timeout");
        // The body does not arrive at all.
        let mut client = house.server.connect().await;
        client.send(&head).await;
        client.answer().await.refused(408, "body-timeout");
    }
    assert_eq!(house.traces.counts(), (0, 0));
    // Control: the same bytes, one by one and in time.
    let patient = House::new().await;
    let body = format!("{{\"api_key\":\"{}\"}}", patient.key);
    let mut client = patient.server.connect().await;
    let length = body.len().to_string();
    let headers = [("Content-Type", JSON), ("Content-Length", length.as_str())];
    client.send(head("/json", &headers)).await;
    for byte in body.bytes() {
        client.send([byte]).await;
    }
    client.answer().await.says(&body);
}

#[actix_web::test]
async fn j01_a_body_that_ends_too_early_lets_nobody_in() {
    let house = House::new().await;
    let body = format!("{{\"api_key\":\"{}\"}}", house.key);
    for path in ["/json", "/mw/json"] {
        for headers in [[("Content-Type", JSON), ("Content-Length", "500")]] {
            let mut client = house.server.connect().await;
            client.send(head(path, &headers)).await;
            client.send(&body).await;
            drop(client);
        }
        let mut client = house.server.connect().await;
        let headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")];
        client.send(head(path, &headers)).await;
        client.send(chunk(body.as_bytes())).await;
        client.send("zz\r\n").await;
        let answer = client.try_answer().await;
        assert!(answer.is_none_or(|answer| answer.status == 400));
        // The next request is served.
        house.post(path, JSON, &body).await.says(&body);
    }
    assert_eq!(house.traces.counts(), (2, 2));
}

#[actix_web::test]
async fn the_handler_gets_the_body_unchanged_to_the_byte() {
    let house = House::new().await;
    let key = &house.key;
    let json = format!(
        "\r\n {{ \"z\" : 1.50e3,\t\"api_key\":\"{key}\",\"u\":\"\\u00e9é漢\\/\",\"n\":[ ],\"z\":0 }}\n "
    );
    let form = format!(
        "z=1&&b=%C3%A9+%20&api_key={}&c&=x&b=%zz&d=\u{e9}",
        percent(key)
    );
    let blob: String = "%00%FF".repeat(3_000);
    let long_form = format!("blob={blob}&api_key={key}");
    // First with a cold cache, then warm.
    for _ in 0..2 {
        for (paths, kind, bodies) in [
            (["/json", "/mw/json", "/either"], JSON, vec![&json]),
            (
                ["/form", "/mw/form", "/either"],
                FORM,
                vec![&form, &long_form],
            ),
        ] {
            for (path, body) in paths
                .iter()
                .flat_map(|path| bodies.iter().map(move |body| (path, body)))
            {
                assert_eq!(house.post(path, kind, body).await.body, body.as_bytes());
                for size in [1, 7, 1_000, 1_000_000] {
                    let bytes = chunked(path, kind, body.as_bytes(), size);
                    let answer = house.server.send(bytes).await;
                    assert_eq!(answer.status, 200, "{path} {size}: {answer:?}");
                    assert_eq!(answer.body, body.as_bytes(), "{path} {size}");
                }
            }
        }
    }
    let parsed = house.post(
        "/json/parsed",
        JSON,
        format!("{{\"api_key\":\"{key}\",\"n\":1}}"),
    );
    parsed
        .await
        .says(&format!("{{\"api_key\":\"{key}\",\"n\":1}}"));
    let parsed = house.post("/form/parsed", FORM, format!("n=%C3%A9&api_key={key}"));
    let expected = BTreeMap::from([("api_key", key.as_str()), ("n", "é")]);
    parsed.await.says(&format!("{expected:?}"));
    // The key is in the head, and the body is arbitrary.
    let bearer = format!("Bearer {key}");
    for (kind, body) in [
        (JSON, "{\"n\":1}"),
        (FORM, "n=1"),
        ("text/plain", "\u{1}anything"),
    ] {
        let headers = [("Content-Type", kind), ("Authorization", bearer.as_str())];
        let bytes = post("/either", &headers, body.as_bytes());
        house.server.send(bytes).await.says(body);
    }
}

#[actix_web::test]
async fn the_handlers_own_limits_still_hold() {
    let house = House::new().await;
    let json = json_of(&house.key, 300);
    let form = format!("api_key={}&pad={}", house.key, "x".repeat(200));
    for (path, kind, body) in [
        ("/small/json", JSON, &json),
        ("/small/json/parsed", JSON, &json),
        ("/small/form", FORM, &form),
        ("/small/form/parsed", FORM, &form),
    ] {
        let answer = house.post(path, kind, body).await;
        assert_eq!(answer.status, 413, "{path}: {answer:?}");
        let bytes = chunked(path, kind, body.as_bytes(), 50);
        assert_eq!(house.server.send(bytes).await.status, 413, "{path}");
        // Control: the handler does not have a limit of its own.
        let answer = house
            .post(path.trim_start_matches("/small"), kind, body)
            .await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    // The guard denies a wrong key, whatever the handler would answer about the body.
    let wrong = json_of(&forge::unknown(), 300);
    house
        .post("/small/json/parsed", JSON, &wrong)
        .await
        .refused(401, "invalid-key");
    let parsed = format!("{{\"api_key\":\"{}\"}}", house.key);
    assert_eq!(
        house.post("/small/json/parsed", JSON, &parsed).await.status,
        200
    );
}

#[actix_web::test]
async fn a_connection_goes_on_after_a_body_with_a_key() {
    let house = House::new().await;
    let json = format!("{{\"api_key\":\"{}\"}}", house.key);
    let form = format!("api_key={}", house.key);
    let mut client = house.server.connect().await;
    for _ in 0..3 {
        for (path, kind, body) in [
            ("/json", JSON, &json),
            ("/mw/json", JSON, &json),
            ("/form", FORM, &form),
            ("/mw/form", FORM, &form),
        ] {
            client
                .send(post(path, &[("Content-Type", kind)], body.as_bytes()))
                .await;
            client.answer().await.says(body);
            client.send(chunked(path, kind, body.as_bytes(), 1)).await;
            client.answer().await.says(body);
            // Denied after the body was read; the next request is parsed correctly.
            let wrong = body.replace(&house.key, &forge::unknown());
            client
                .send(post(path, &[("Content-Type", kind)], wrong.as_bytes()))
                .await;
            client.answer().await.refused(401, "invalid-key");
        }
    }
    // Text in a body that looks like a request is not a request.
    let smuggled = format!("{{\"api_key\":\"{}\",\"x\":\"\\r\\n\"}}", house.key);
    let both = [
        post("/json", &[("Content-Type", JSON)], smuggled.as_bytes()),
        post("/json", &[("Content-Type", JSON)], json.as_bytes()),
    ];
    client.send(both.concat()).await;
    client.answer().await.says(&smuggled);
    client.answer().await.says(&json);
}

#[actix_web::test]
async fn what_is_wrong_in_the_head_is_refused_before_the_body_is_read() {
    let house = House::new().await;
    for (key, status, reason) in [("nonsense", 401, "invalid-key"), ("", 401, "invalid-key")] {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("Content-Type", JSON),
            ("Content-Length", "1000"),
            ("Authorization", bearer.as_str()),
        ];
        let mut client = house.server.connect().await;
        client.send(head("/either", &headers)).await;
        answer_within(SLACK, &mut client)
            .await
            .unwrap()
            .refused(status, reason);
    }
    // Control: a valid key in the head, and a body that might hold another.
    let bearer = format!("Bearer {}", house.key);
    let headers = [
        ("Content-Type", JSON),
        ("Content-Length", "7"),
        ("Authorization", bearer.as_str()),
    ];
    let mut client = house.server.connect().await;
    client.send(head("/either", &headers)).await;
    answer_within(Duration::from_millis(900), &mut client)
        .await
        .unwrap_err();
    client.send("{\"n\":1}").await;
    client.answer().await.says("{\"n\":1}");
}

async fn answer_within(limit: Duration, client: &mut Client) -> Result<Answer, String> {
    tokio::time::timeout(limit, client.answer())
        .await
        .map_err(|_| "nothing came".to_owned())
}

/// Many requests at once, each within its limits; a client that disconnects in the middle does not
/// disturb the others.
#[actix_web::test]
async fn j01_bodies_that_are_given_up_half_way_leave_nothing_behind() {
    let house = Arc::new(House::new().await);
    let body = json_of(&house.key, 20_000);
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (house, body, served) = (Arc::clone(&house), body.clone(), Arc::clone(&served));
        tasks.push(actix_web::rt::spawn(async move {
            let bytes = post("/json", &[("Content-Type", JSON)], body.as_bytes());
            let mut client = house.server.connect().await;
            if number % 2 == 0 {
                client.send(&bytes[..bytes.len() / 2]).await;
                return;
            }
            client.send(&bytes).await;
            client.answer().await.says(&body);
            served.fetch_add(1, SeqCst);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(served.load(SeqCst), 10);
    assert_eq!(house.traces.counts(), (10, 10));
}
