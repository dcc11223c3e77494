//! The examples and README's program, each as a process, driven over HTTP.

mod gateway;
mod portal;
#[cfg(unix)]
mod readme;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apikey_test_support::fleet::{postgres, redis};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Client};
use apikey_test_support::locations::{Location, Message};
use apikey_test_support::soon;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Builds the binaries of the examples beside the tests and returns their directory. `cargo test`
/// builds only binaries of the test's own package. With these options the build has the features of
/// `cargo test --workspace --all-features` and reuses its dependencies: `--examples` adds the
/// dev-dependencies.
static BINARIES: LazyLock<PathBuf> = LazyLock::new(|| {
    let profile = profile_directory();
    let mut cargo = cargo();
    cargo.args("build --workspace --all-features --bins --examples".split(' '));
    cargo.args(profile.ends_with("release").then_some("--release"));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    profile
});

/// Returns the directory of this test's profile, such as `target/debug`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.to_owned()
}

/// Returns a cargo without the variables that `cargo test` sets. Build scripts that watch them, such
/// as that of `ring`, would run again.
fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.env_remove("CARGO_MANIFEST_DIR");
    cargo
}

fn binary(name: &str) -> PathBuf {
    BINARIES.join(name)
}

/// A store whose disk is busy may take longer than the default of 2 s.
const STORE_TIMEOUT: (&str, &str) = ("ACTIX_API_KEY_STORE_TIMEOUT_MS", "60000");

/// A running example, which is killed when this is dropped.
struct Example {
    child: Child,
    addresses: Vec<SocketAddr>,
    /// The lines that it printed before it listened.
    printed: Vec<String>,
    /// Kept open, so that it can go on printing.
    _output: BufReader<ChildStdout>,
}

impl Example {
    /// Starts it, and waits until it listens on this number of addresses.
    async fn start(name: &str, ports: usize, variables: &[(&str, &Path)]) -> Self {
        let mut command = Command::new(binary(name));
        command
            .env("PORT", "0")
            .env(STORE_TIMEOUT.0, STORE_TIMEOUT.1);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let read = tokio::task::spawn_blocking(move || {
            let (mut addresses, mut printed) = (Vec::new(), Vec::new());
            while addresses.len() < ports {
                let mut line = String::new();
                if output.read_line(&mut line).unwrap() == 0 {
                    break;
                }
                let line = line.trim_end();
                match line.split_once(" on http://") {
                    Some((_, address)) => addresses.push(address.parse().unwrap()),
                    None => printed.push(line.to_owned()),
                }
            }
            (addresses, printed, output)
        });
        let (addresses, printed, output) = soon(read).await.unwrap();
        let example = Self {
            child,
            addresses,
            printed,
            _output: output,
        };
        assert_eq!(example.addresses.len(), ports, "{:?}", example.printed);
        example
    }

    /// Returns the keys that it printed, by name.
    fn keys(&self) -> HashMap<String, String> {
        let pairs = self.printed.iter().filter_map(|line| line.split_once(": "));
        pairs
            .filter(|(_, key)| key.starts_with("my_api_") || key.split('_').count() == 3)
            .map(|(name, key)| (name.to_owned(), key.to_owned()))
            .collect()
    }

    /// Asks it to stop, and waits for its end.
    #[cfg(unix)]
    async fn stop(mut self) {
        terminate(&mut self.child).await;
    }

    async fn send(&self, message: Message) -> Answer {
        self.send_to(0, message).await
    }

    async fn send_to(&self, at: usize, message: Message) -> Answer {
        let mut client = Client::connect(self.addresses[at]).await;
        client.send(message.bytes()).await;
        client.answer().await
    }

    async fn get(&self, path: &str, key: Option<&str>) -> Answer {
        let message = Message::get(path);
        self.send(key.map_or(message.clone(), |key| message.with(Location::Bearer, key)))
            .await
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a process to stop, and waits for its end.
#[cfg(unix)]
async fn terminate(child: &mut Child) {
    let id = i32::try_from(child.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let ended = apikey_test_support::within(apikey_test_support::PATIENCE, async || {
        child.try_wait().unwrap().is_some()
    });
    assert!(ended.await.is_some(), "it goes on");
}

fn run(name: &str, arguments: &[&str], variables: &[(&str, &Path)]) -> (bool, String) {
    let mut command = Command::new(binary(name));
    command
        .args(arguments)
        .env(STORE_TIMEOUT.0, STORE_TIMEOUT.1);
    command.envs(variables.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text += &String::from_utf8_lossy(&output.stderr);
    }
    (output.status.success(), text)
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[actix_web::test]
async fn quickstart_shows_its_first_key_once_and_makes_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let variables = [("APIKEYS_DB", path.as_path())];
    let first = Example::start("quickstart", 1, &variables).await;
    let text = first.printed.join("\n");
    assert!(text.contains("MY_FIRST_KEY") && text.contains("curl -H 'Authorization: Bearer "));
    let key = first.keys().remove("key").unwrap();
    assert_eq!(first.get("/", None).await.status, 200);
    let secure = first.get("/api/v1/secure", Some(&key)).await;
    assert_eq!(
        (secure.status, parsed(&secure)),
        (200, json!({ "foo": "bar" }))
    );
    let secure = "/api/v1/secure";
    first.get(secure, None).await.refused(401, "missing-key");
    let wrong = forge::wrong_secret(&key);
    first
        .get(secure, Some(&wrong))
        .await
        .refused(401, "invalid-key");

    // Another process uses the same file while the server runs.
    let (fine, made) = run("quickstart", &["new-key", "CI"], &variables);
    let made = made.trim().strip_prefix("key: ").unwrap().to_owned();
    assert!(fine);
    assert_eq!(first.get(secure, Some(&made)).await.status, 200);
    drop(first);

    // A later start, after the first was killed.
    let later = Example::start("quickstart", 1, &variables).await;
    let text = later.printed.join("\n");
    assert!(text.contains("cannot be shown again") && !text.contains(&forge::parts(&key).secret));
    assert!(!later.keys().contains_key("key"));
    for key in [&key, &made] {
        assert_eq!(later.get(secure, Some(key)).await.status, 200);
    }
    let (fine, _) = run("quickstart", &["no-such-command"], &variables);
    assert!(!fine);
    // S-01.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(&forge::parts(&key).secret));
    }
    // Control: the file is the one with the keys.
    assert!(std::fs::read(&path).is_ok_and(|bytes| !bytes.is_empty()));
}

#[actix_web::test]
async fn orders_lists_its_guarded_handlers() {
    let (fine, listed) = run("orders", &["routes"], &[]);
    assert!(fine);
    let listed: Vec<_> = listed.lines().collect();
    assert_eq!(listed.len(), 17, "{listed:?}");
    assert!(listed.contains(&"orders::list_orders [GET /orders] orders:read"));
    assert!(
        listed.contains(&"orders::project [GET /projects/{project_id}] project:{project_id}:read")
    );
    assert!(listed.contains(&"orders::post_only [] "));
}

#[actix_web::test]
async fn orders_has_a_route_for_each_option_and_a_key_for_each_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let orders = Example::start("orders", 1, &[("APIKEYS_DB", &path)]).await;
    let keys = orders.keys();
    let key = |name: &str| keys.get(name).map(String::as_str).unwrap();
    assert_eq!(keys.len(), 10, "{keys:?}");

    assert_eq!(orders.get("/open", None).await.text(), "open\n");
    for (name, status, reason) in [
        ("reader", 200, ""),
        ("writer", 200, ""),
        ("rotated-old", 200, ""),
        ("rotated-new", 200, ""),
        ("loopback", 200, ""),
        ("elsewhere", 403, "address-not-permitted"),
        ("project7", 403, "insufficient-scope"),
        ("expired", 401, "expired-key"),
        ("revoked", 401, "revoked-key"),
        ("disabled", 401, "disabled-key"),
    ] {
        for _ in 0..2 {
            let answer = orders.get("/orders", Some(key(name))).await;
            if status == 200 {
                assert_eq!(answer.status, 200, "{name}: {answer:?}");
                assert_eq!(parsed(&answer), json!([{ "item": "tea", "quantity": 2 }]));
            } else {
                answer.refused(status, reason);
            }
        }
    }
    orders
        .get("/orders", None)
        .await
        .refused(401, "missing-key");
    orders
        .get("/orders", Some("nonsense"))
        .await
        .refused(401, "invalid-key");

    let order = |key: &str| {
        let message = Message::post("/orders").member("\"item\":\"tea\",\"quantity\":3");
        message.with(Location::Bearer, key)
    };
    orders
        .send(order(key("reader")))
        .await
        .refused(403, "insufficient-scope");
    let placed = orders.send(order(key("writer"))).await;
    assert_eq!(
        (placed.status, parsed(&placed)),
        (201, json!({ "item": "tea", "quantity": 3 }))
    );
    orders
        .send(Message::post("/orders").member("broken"))
        .await
        .refused(401, "missing-key");

    let project = orders.get("/projects/7", Some(key("project7"))).await;
    assert_eq!(
        (project.status, parsed(&project)),
        (200, json!({ "project": "7" }))
    );
    for other in ["/projects/8", "/projects/7%2F8", "/projects/*"] {
        orders
            .get(other, Some(key("project7")))
            .await
            .refused(403, "insufficient-scope");
    }
    orders
        .get("/projects/7", Some(key("reader")))
        .await
        .refused(403, "insufficient-scope");
    let reader = key("reader");
    orders
        .get("/reports", Some(reader))
        .await
        .refused(403, "insufficient-scope");
    orders
        .get("/reports", Some(key("writer")))
        .await
        .says("reports");
    orders.get("/fresh", Some(reader)).await.says("fresh");
    for _ in 0..2 {
        orders.get("/search", Some(reader)).await.says("found");
    }
    orders
        .get("/search", Some(reader))
        .await
        .refused(429, "rate-limited");
    let whoami = parsed(&orders.get("/whoami", Some(reader)).await);
    assert_eq!(whoami["label"], "reader");
    assert_eq!(
        (&whoami["owner"], &whoami["scopes"]),
        (&json!("alice"), &json!(["orders:read"]))
    );
    assert_eq!(whoami["id"], forge::parts(reader).id);
    orders.get("/optional", None).await.says("anonymous");
    orders.get("/optional", Some(reader)).await.says("reader");
    orders
        .get("/optional", Some("nonsense"))
        .await
        .refused(401, "invalid-key");

    for (path, location) in [
        ("/header", Location::Header),
        ("/query", Location::Query),
        ("/cookie", Location::Cookie),
        ("/basic", Location::Basic),
        ("/anywhere", Location::Bearer),
        ("/anywhere", Location::Header),
        ("/anywhere", Location::Query),
    ] {
        orders
            .send(Message::get(path).with(location, reader))
            .await
            .says("reader");
        let unknown = Message::get(path).with(location, &forge::unknown());
        orders.send(unknown).await.refused(401, "invalid-key");
        orders.get(path, None).await.refused(401, "missing-key");
        let twice = Message::get(path)
            .with(location, reader)
            .with(location, reader);
        orders.send(twice).await.refused(400, "multiple-keys");
    }
    let own_scheme = Message::get("/apikey").header("Authorization", &format!("ApiKey {reader}"));
    orders.send(own_scheme).await.says("reader");
    orders
        .get("/apikey", Some(reader))
        .await
        .refused(401, "missing-key");
    let two = Message::get("/anywhere")
        .with(Location::Bearer, reader)
        .with(Location::Query, reader);
    orders.send(two).await.refused(400, "multiple-keys");

    let rest = Message::post("/json")
        .member("\"n\":1")
        .with(Location::Json, reader);
    let rest = orders.send(rest).await;
    assert_eq!((rest.status, parsed(&rest)), (200, json!({ "n": 1 })));
    let rest = Message::post("/form")
        .field("n=%C3%A9")
        .with(Location::Form, reader);
    let rest = orders.send(rest).await;
    assert_eq!((rest.status, parsed(&rest)), (200, json!({ "n": "é" })));
    for (path, location) in [("/json", Location::Json), ("/form", Location::Form)] {
        let unknown = Message::post(path).with(location, &forge::unknown());
        orders.send(unknown).await.refused(401, "invalid-key");
        orders
            .send(Message::post(path))
            .await
            .refused(401, "missing-key");
    }

    let post = |method: &str| Message::new(method, "/post-only").with(Location::Bearer, reader);
    orders.send(post("POST")).await.says("reader");
    for method in ["GET", "PUT", "DELETE"] {
        orders
            .send(post(method))
            .await
            .refused(403, "method-not-permitted");
    }
    let scoped = orders.get("/scoped/a/b", Some(reader)).await;
    assert_eq!(parsed(&scoped), json!({ "tail": "a/b", "key": "reader" }));
    for path in ["/scoped/a", "/scoped/", "/%73coped/a", "/scoped/../open"] {
        orders.get(path, None).await.refused(401, "missing-key");
    }
}

#[actix_web::test]
async fn live_ends_a_websocket_and_a_stream_when_another_process_revokes_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let variables = [("APIKEYS_DB", path.as_path())];
    let live = Example::start("live", 1, &variables).await;
    let key = live.keys().remove("key").unwrap();
    let printed = live.printed.join("\n");
    let id = printed.rsplit_once("revoke ").unwrap().1;

    let mut events = Client::connect(live.addresses[0]).await;
    let request = Message::get("/events").with(Location::Bearer, &key);
    events.send(request.bytes()).await;
    let head = events.head_only().await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let tick = b"C\r\ndata: tick\n\n\r\n";
    assert_eq!(events.bytes(tick.len()).await, tick);

    let mut chat = Client::connect(live.addresses[0]).await;
    let request = Message::get("/chat")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", &format!("bearer, {key}"));
    chat.send(request.bytes()).await;
    assert_eq!(chat.head_only().await.status, 101);
    // A text of a client, whose mask is zero, and its echo (RFC 6455 section 5.2).
    chat.send(b"\x81\x82\0\0\0\0hi").await;
    assert_eq!(chat.bytes(4).await, b"\x81\x02hi");

    let (fine, text) = run("live", &["revoke", id], &variables);
    assert!(fine, "{text}");
    // A close with the code 4001 and a reason.
    assert_eq!(chat.bytes(11).await, b"\x88\x09\x0f\xa1revoked");
    let mut rest = Vec::new();
    while !rest.ends_with(b"0\r\n\r\n") {
        rest.extend(events.bytes(1).await);
    }
    let ticks = rest.strip_suffix(b"0\r\n\r\n").unwrap();
    assert!(ticks.chunks(tick.len()).all(|one| one == tick), "{rest:?}");
    live.get("/events", Some(&key))
        .await
        .refused(401, "revoked-key");
    let (fine, _) = run("live", &["revoke"], &variables);
    assert!(!fine);
}

#[actix_web::test]
async fn openapi_serves_a_document_that_says_which_key_each_route_needs() {
    let notes = Example::start("openapi", 1, &[]).await;
    let document = parsed(&notes.get("/openapi.json", None).await);
    let (fine, printed) = run("openapi", &["document"], &[]);
    assert!(fine, "{printed}");
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), document);

    let (reader, writer) = (&notes.keys()["reader"], &notes.keys()["writer"]);
    for (path, method, security, expected) in [
        (
            "/notes",
            "get",
            json!([{ "api_key": ["notes:read"] }]),
            [401, 200, 200],
        ),
        (
            "/notes",
            "post",
            json!([{ "api_key": ["notes:write"] }]),
            [401, 403, 201],
        ),
        (
            "/notes/newest",
            "get",
            json!([{ "api_key": [] }, {}]),
            [200, 200, 200],
        ),
        (
            "/admin/count",
            "get",
            json!([{ "api_key": ["notes:admin"] }]),
            [401, 403, 200],
        ),
    ] {
        let operation = &document["paths"][path][method];
        assert_eq!(operation["security"], security, "{method} {path}");
        for (key, status) in [None, Some(reader), Some(writer)].into_iter().zip(expected) {
            let message = Message::new(&method.to_uppercase(), path);
            let message = match method {
                "post" => message.member("\"text\":\"tea\""),
                _ => message,
            };
            let message = key.map_or(message.clone(), |key| message.with(Location::Bearer, key));
            let answer = notes.send(message).await;
            assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
            let documented = &operation["responses"][status.to_string()];
            assert!(documented.is_object(), "{method} {path}: {status}");
        }
    }
    let scheme = &document["components"]["securitySchemes"]["api_key"];
    assert_eq!(scheme["scheme"], "bearer", "{scheme}");
}

#[actix_web::test]
async fn app_factory_serves_two_apps_each_with_its_own_keys() {
    let factory = Example::start("app_factory", 2, &[]).await;
    let keys = factory.keys();
    let ask = async |at: usize, path: &str, key: &str| {
        let message = Message::get(path).with(Location::Bearer, key);
        factory.send_to(at, message).await
    };
    for (at, own, other) in [(0, "shop", "bank"), (1, "bank", "shop")] {
        ask(at, "/whoami", &keys[own]).await.says("first");
        let listed = ask(at, "/keys", &keys[own]).await;
        assert_eq!(parsed(&listed), json!(["first"]));
        let foreign = ask(at, "/whoami", &keys[other]).await;
        foreign.refused(401, "invalid-key");
        let challenge = format!("Bearer realm=\"{own}\", error=\"invalid_token\"");
        assert_eq!(foreign.header("www-authenticate"), Some(challenge.as_str()));
    }
}

/// Returns a JSON request, with a login if one is given.
fn json_request(path: &str, members: &str, login: Option<&str>) -> Message {
    let message = Message::post(path).member(members);
    login.map_or(message.clone(), |token| {
        message.with(Location::Bearer, token)
    })
}

#[actix_web::test]
async fn devices_are_registered_by_people_and_report_with_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("devices.db");
    let devices = Example::start("devices", 1, &[("DEVICES_DB", &path)]).await;
    let ask = async |path: &str, members: &str, login: Option<&str>| {
        devices.send(json_request(path, members, login)).await
    };
    let ada = "\"name\":\"ada\",\"password\":\"correct horse\"";
    let bob = "\"name\":\"bob\",\"password\":\"battery staple\"";
    assert_eq!(ask("/user/register", ada, None).await.status, 201);
    assert_eq!(ask("/user/register", bob, None).await.status, 201);
    assert_eq!(ask("/user/register", ada, None).await.status, 400);
    let short = "\"name\":\"eve\",\"password\":\"short\"";
    assert_eq!(ask("/user/register", short, None).await.status, 400);
    for wrong in [
        "\"name\":\"ada\",\"password\":\"battery staple\"",
        "\"name\":\"nobody\",\"password\":\"correct horse\"",
        "\"name\":\"' OR 1=1 --\",\"password\":\"correct horse\"",
    ] {
        assert_eq!(ask("/user/login", wrong, None).await.status, 401);
    }
    let login = async |who: &str| {
        let answer = ask("/user/login", who, None).await;
        parsed(&answer)["token"].as_str().unwrap().to_owned()
    };
    let (ada, bob) = (login(ada).await, login(bob).await);

    let add = "/user/add-device";
    let lamp = "\"device_name\":\"lamp\"";
    assert_eq!(ask(add, lamp, None).await.status, 401);
    let (head, tail) = ada.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", tail.chars().rev().collect::<String>());
    assert_eq!(ask(add, lamp, Some(&forged)).await.status, 401);
    let added = ask(add, lamp, Some(&ada)).await;
    assert_eq!(added.status, 201, "{added:?}");
    let added = parsed(&added);
    assert_eq!(added.as_object().unwrap().len(), 1);
    let key = added["api_key"].as_str().unwrap();
    let again = ask(add, lamp, Some(&ada)).await;
    assert_eq!(again.status, 400);
    assert!(
        again.text().contains("lamp") && again.text().contains("exists"),
        "{again:?}"
    );
    // The name belongs to another user.
    let of_bob = ask(add, lamp, Some(&bob)).await;
    assert_eq!(of_bob.status, 201);
    assert_ne!(parsed(&of_bob)["api_key"], key);
    // A key does not work as a login, and a login does not work as a key.
    assert_eq!(
        ask(add, "\"device_name\":\"tv\"", Some(key)).await.status,
        401
    );

    let measure = "/device/measurement";
    let report = async |key: &str| {
        ask(
            measure,
            &format!("\"api_key\":{},\"celsius\":21", json!(key)),
            None,
        )
        .await
    };
    let told = report(key).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(
        parsed(&told),
        json!({ "device": "lamp", "owner": "ada", "values": 1 })
    );
    assert_eq!(ask(measure, "\"celsius\":21", None).await.status, 400);
    assert_eq!(ask(measure, "\"celsius\":21", Some(key)).await.status, 400);
    for wrong in [
        &forge::wrong_secret(key),
        &forge::unknown(),
        "nonsense",
        "",
        &ada,
    ] {
        let answer = report(wrong).await;
        assert_eq!(answer.status, 403, "{wrong}: {answer:?}");
        assert!(parsed(&answer)["message"].is_string());
    }
    let twice = format!("\"api_key\":\"{key}\",\"api_key\":\"{key}\"");
    assert_eq!(ask(measure, &twice, None).await.status, 400);
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let message = Message::new(method, measure).with(Location::Json, key);
        assert_eq!(devices.send(message).await.status, 405, "{method}");
    }
    drop(devices);

    // The devices outlive the process.
    let devices = Example::start("devices", 1, &[("DEVICES_DB", &path)]).await;
    let message = Message::post(measure).with(Location::Json, key);
    assert_eq!(devices.send(message).await.status, 200);
    // The logins do not outlive it.
    let late = devices
        .send(json_request(add, "\"device_name\":\"tv\"", Some(&ada)))
        .await;
    assert_eq!(late.status, 401);

    // A device retires with its key alone; a wrong secret ends nothing.
    let retire = async |key: &str| {
        let members = format!("\"api_key\":{}", json!(key));
        let message = json_request("/device/retire", &members, None);
        devices.send(message).await.status
    };
    assert_eq!(retire(&forge::wrong_secret(key)).await, 404);
    let message = Message::post(measure).with(Location::Json, key);
    assert_eq!(devices.send(message).await.status, 200);
    assert_eq!((retire(key).await, retire(key).await), (204, 204));
    let message = Message::post(measure).with(Location::Json, key);
    assert_eq!(devices.send(message).await.status, 403);
}

#[actix_web::test]
async fn custom_store_passes_the_suite_and_serves_a_manager() {
    let (fine, text) = run("custom_store", &[], &[]);
    assert!(fine, "{text}");
    assert!(
        text.contains("the suite: ") && !text.contains(" 0 checks passed"),
        "{text}"
    );
    assert!(text.contains("verified: from the table"), "{text}");
    assert!(
        text.contains("after the revocation: Revoked API key"),
        "{text}"
    );
}

/// Runs on SQLite, and on each kind of server that is installed.
#[actix_web::test]
async fn cluster_accepts_nothing_after_the_confirmation() {
    let postgres = postgres();
    let stores = [
        ("SQLite", Some(None)),
        ("Redis", redis().map(|server| Some(server.url()))),
        ("PostgreSQL", postgres.map(|server| Some(server.url()))),
    ];
    for (name, url) in stores {
        // A message about a missing server was printed; with `CI` set it was a failure.
        let Some(url) = url else { continue };
        let variable = url.as_ref().map(|url| ("STORE_URL", Path::new(url)));
        let (fine, text) = run("cluster", &[], variable.as_slice());
        assert!(fine, "{name}: {text}");
        assert_eq!(
            text.matches("accepted the key").count(),
            3,
            "{name}: {text}"
        );
        assert!(!text.contains("never accepted"), "{name}: {text}");
        assert!(
            text.contains("revoked on node 1, confirmed after"),
            "{name}: {text}"
        );
        let last = text.trim_end().lines().last().unwrap();
        assert_eq!(last, "accepts after confirmation: 0", "{name}: {text}");
    }
    let (fine, text) = run("cluster", &[], &[("STORE_URL", Path::new("sqlite.db"))]);
    assert!(!fine && !text.contains("accepts"), "{text}");
}

fn metered(folder: &Path) -> [(&'static str, std::path::PathBuf); 1] {
    [("APIKEYS_DB", folder.join("keys.db"))]
}

/// Starts the example on a new store, and sends requests with its free key. Begins again if they took so long that
/// the key may send one more, which is after 6 s.
async fn metered_after(paths: &[&str]) -> (TempDir, Example, Vec<Answer>) {
    for _ in 0..10 {
        let folder = tempfile::tempdir().unwrap();
        let [(name, file)] = metered(folder.path());
        let example = Example::start("metered", 1, &[(name, &file)]).await;
        let free = example.keys()["free"].clone();
        let (begun, mut answers) = (Instant::now(), Vec::new());
        for path in paths {
            answers.push(example.get(path, Some(&free)).await);
        }
        if begun.elapsed() < Duration::from_secs(5) {
            return (folder, example, answers);
        }
    }
    panic!("the machine is too slow for {paths:?}");
}

/// Returns the number of the day in UTC.
fn today() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.unwrap().as_secs() / 86_400
}

#[actix_web::test]
async fn metered_holds_the_free_plan_to_ten_a_minute_and_a_hundred_a_day() {
    let (_folder, example, answers) = metered_after(&["/work"; 11]).await;
    let (refused, allowed) = answers.split_last().unwrap();
    for (left, answer) in (0..10).rev().zip(allowed) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let stands = answer.header("ratelimit").unwrap();
        assert!(
            stands.contains(&format!("\"minute\";r={left};")),
            "{stands}"
        );
        let policy = answer.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"minute\";q=10;w=60, \"daily\";q=100;w=86400");
    }
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    let keys = example.keys();
    let paid = keys["paid"].as_str();
    for _ in 0..30 {
        assert_eq!(example.get("/work", Some(paid)).await.status, 200);
    }
    let heavy = example.get("/heavy", Some(paid)).await;
    assert_eq!(heavy.status, 200);
    assert!(
        heavy
            .header("ratelimit")
            .unwrap()
            .contains("\"minute\";r=9")
    );
}

#[cfg(unix)]
#[actix_web::test]
async fn metered_shows_a_key_its_own_usage_and_keeps_it_over_a_graceful_restart() {
    let begun = today();
    // The second of the expensive requests exceeds the limit.
    let (folder, example, _) = metered_after(&["/work", "/work", "/heavy", "/heavy"]).await;
    let [(name, file)] = metered(folder.path());
    let key = example.keys()["free"].clone();
    // The daily limit begins again at midnight.
    let has_93_left = |shown: &Value| today() > begun || shown["limits"][1]["remaining"] == 93;
    let shown = parsed(&example.get("/usage", Some(&key)).await);
    assert_eq!(shown["plan"], "free");
    assert_eq!(shown["last_30_days"]["cost"], 7);
    assert_eq!(
        shown["last_30_days"]["denied"],
        json!({ "rate-limited": 1 })
    );
    let heavy =
        json!({ "route": "/heavy", "requests": 1, "cost": 5, "denied": { "rate-limited": 1 } });
    assert!(
        shown["by_route"].as_array().unwrap().contains(&heavy),
        "{shown}"
    );
    assert!(has_93_left(&shown), "{shown}");
    let chart = example
        .get(&format!("/usage.svg?api_key={key}"), None)
        .await;
    let chart_text = String::from_utf8(chart.body.clone()).unwrap();
    assert_eq!(chart.header("content-type"), Some("image/svg+xml"));
    assert!(
        chart_text.starts_with("<svg xmlns") && chart_text.ends_with("</svg>"),
        "{chart_text}"
    );
    assert!(chart_text.contains(" allowed, 1 denied"), "{chart_text}");
    // Metrics reach the recorder once a second.
    let refused = r#"apikey_decisions_total{result="denied",reason="rate-limited"} 1"#;
    let told = apikey_test_support::within(apikey_test_support::PATIENCE, async || {
        let page = example.get("/metrics", None).await;
        let page = String::from_utf8(page.body).unwrap();
        assert!(!page.contains(&key));
        page.contains(refused)
    });
    assert!(told.await.is_some());
    assert_eq!(example.get("/usage", None).await.status, 401);

    example.stop().await;
    let again = Example::start("metered", 1, &[(name, &file)]).await;
    assert!(!again.keys().contains_key("free"), "a secret is shown once");
    let shown = parsed(&again.get("/usage", Some(&key)).await);
    assert!(has_93_left(&shown), "{shown}");
    assert_eq!(shown["last_30_days"]["cost"], 7);
    assert_eq!(
        shown["last_30_days"]["denied"],
        json!({ "rate-limited": 1 })
    );
    let (made, printed) = run("metered", &["new-key", "paid"], &[(name, &file)]);
    assert!(made && printed.starts_with("paid: my_api_"), "{printed}");
}
