//! Every location of a key leads to the same decision.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::web::{self, ServiceConfig};
use apikey_runtime::{
    ApiKeyManager, Config, ConfigBuilder, Policy, RequireApiKey, RoutePolicy, ScopeExpr,
    api_key_required,
};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::locations::{Location, Message, Traced, Traces, key_locations};
use apikey_test_support::store::{Call, GateStore};

/// Declares one handler for each location, with every requirement that a route can have, and the
/// same as a policy.
macro_rules! locations {
    ($($name:ident, $policy:ident: [$($place:tt)*] [$($location:ident)?];)*) => {$(
        #[api_key_required(
            $($place)* scope = "orders:write", methods(POST), prefix = "adm", environment = "live",
            require_https
        )]
        async fn $name(traced: Traced) -> &'static str {
            traced.handled();
            "in"
        }
    )*

    fn attribute(app: &mut ServiceConfig) {
        $(app.route(
            concat!("/attribute/", stringify!($policy)),
            web::route().to($name),
        );)*
    }
    };
}

locations! {
    bearer, Bearer: [location = bearer,] [Bearer];
    header, Header: [location = header("X-API-Key"),] [Header];
    scheme, Scheme: [location = header("Authorization", scheme = "Token"),] [Scheme];
    basic, Basic: [location = basic,] [Basic];
    websocket, WebSocket: [location = websocket,] [WebSocket];
    query, Query: [location = query("api_key"),] [Query];
    cookie, Cookie: [location = cookie("api_key"),] [Cookie];
    json, Json: [location = json("api_key"),] [Json];
    form, Form: [location = form("api_key"),] [Form];
    configured, Configured: [] [];
}

const DEMANDS: Policy = Policy::new()
    .scopes(ScopeExpr::One("orders:write"))
    .methods(&["POST"])
    .prefix("adm")
    .environment("live")
    .require_https();

/// The requirements as a type, for the middleware that takes one.
struct Configured;

impl RoutePolicy for Configured {
    const POLICY: Policy = DEMANDS;
}

async fn inside(traced: Traced) -> &'static str {
    traced.handled();
    "in"
}

fn middleware(app: &mut ServiceConfig) {
    let mut guard = |name: &str, guard: RequireApiKey| {
        let scope = web::scope(&format!("/middleware/{name}")).wrap(guard);
        app.service(scope.route("", web::route().to(inside)));
    };
    for location in Location::ALL {
        let policy = DEMANDS.locations(key_locations(&[location]));
        guard(&format!("{location:?}"), RequireApiKey::with(policy));
    }
    guard("Configured", RequireApiKey::of::<Configured>());
}

/// A key for every denial, and a valid one.
struct Keys {
    good: String,
    /// Not used before the store fails.
    cold: Vec<String>,
    refused: Vec<(&'static str, String, u16, &'static str)>,
}

impl Keys {
    async fn make(manager: &ApiKeyManager) -> Self {
        let with = async |change: fn(
            apikey_runtime::manager::CreateKey,
        ) -> apikey_runtime::manager::CreateKey| {
            let create = manager.create("a").prefix("adm").environment("live");
            change(create.scopes(["orders:write"])).await.unwrap()
        };
        let good = with(|create| create).await;
        let other = |id: &str| forge::key("adm", id, &"y".repeat(64));
        let expired = with(|create| create).await;
        let ends = manager.update(expired.id()).expires_at(SystemTime::now());
        ends.await.unwrap();
        let early = with(|create| create.not_before(SystemTime::now() + Duration::from_secs(999)));
        let revoked = with(|create| create).await;
        manager.revoke(revoked.id()).await.unwrap();
        let disabled = with(|create| create).await;
        manager.disable(disabled.id()).await.unwrap();
        let text = |key: &apikey_runtime::NewKey| key.expose_secret().to_owned();
        let mut checksum = text(&good);
        let last = if checksum.ends_with('0') { '1' } else { '0' };
        checksum.pop();
        checksum.push(last);
        let invalid = "invalid-key";
        let refused = vec![
            ("malformed", "nonsense".to_owned(), 401, invalid),
            ("empty", String::new(), 401, invalid),
            ("checksum", checksum, 401, invalid),
            ("unknown", other("0123456789ABCDEFGHIJKL"), 401, invalid),
            (
                "wrong secret",
                forge::wrong_secret(good.expose_secret()),
                401,
                invalid,
            ),
            (
                "secret of a revoked key",
                forge::wrong_secret(revoked.expose_secret()),
                401,
                invalid,
            ),
            (
                "other prefix",
                text(&with(|create| create.prefix("my_api")).await),
                401,
                invalid,
            ),
            (
                "prefix of nobody",
                forge::key("their", "0123456789ABCDEFGHIJKL", &"y".repeat(64)),
                401,
                invalid,
            ),
            (
                "other environment",
                text(&with(|create| create.environment("test")).await),
                401,
                invalid,
            ),
            ("expired", text(&expired), 401, "expired-key"),
            ("early", text(&early.await), 401, "key-not-yet-valid"),
            ("revoked", text(&revoked), 401, "revoked-key"),
            ("disabled", text(&disabled), 401, "disabled-key"),
            (
                "network",
                text(&with(|create| create.networks(["192.0.2.0/24".parse().unwrap()])).await),
                403,
                "address-not-permitted",
            ),
            (
                "method of the key",
                text(&with(|create| create.methods(["PUT"])).await),
                403,
                "method-not-permitted",
            ),
            (
                "scope",
                text(&with(|create| create.scopes(["orders:read"])).await),
                403,
                "insufficient-scope",
            ),
        ];
        let mut cold = Vec::new();
        for _ in 0..2 {
            cold.push(text(&with(|create| create).await));
        }
        Self {
            good: text(&good),
            cold,
            refused,
        }
    }
}

/// Starts a manager behind a proxy that reports `https`, in front of a store that can be stopped.
async fn manager(config: ConfigBuilder) -> (Arc<GateStore>, ApiKeyManager) {
    let store = GateStore::new();
    let config = config
        .prefixes(["my_api", "adm"])
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header("X-Forwarded-For");
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.shared_store(store.clone()).start().await.unwrap();
    (store, manager)
}

fn serve(manager: &ApiKeyManager, traces: &Traces) -> Server {
    let (manager, traces) = (manager.clone(), traces.clone());
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(traces.clone());
        attribute(app);
        middleware(app);
    })
}

/// Returns a request through a proxy to which the client spoke `proto`.
fn proxied(method: &str, path: &str, proto: &str) -> Message {
    Message::new(method, path)
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", proto)
}

/// Sends `key` at the location, guarded in both ways; both have to answer alike, byte for byte.
async fn both(
    server: &Server,
    (route, location): (&str, Location),
    (method, proto): (&str, &str),
    key: Option<&str>,
) -> Answer {
    let mut answers = Vec::new();
    for way in ["attribute", "middleware"] {
        let message = proxied(method, &format!("/{way}/{route}"), proto).of_type(location);
        let message = key.map_or(message.clone(), |key| message.with(location, key));
        answers.push(server.send(message.bytes()).await);
    }
    let (second, first) = (answers.pop().unwrap(), answers.pop().unwrap());
    assert_eq!(first.timeless(), second.timeless(), "{route} {location:?}");
    first
}

async fn every_denial(
    server: &Server,
    store: &GateStore,
    traces: &Traces,
    keys: &Keys,
    place: (&str, Location),
) {
    let location = place.1;
    let usual = ("POST", "https");
    let begun = traces.counts();
    let check = |name: &str, answer: &Answer, status: u16, reason: &str| {
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (status, reason),
            "{name} at {location:?}"
        );
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        let expected = match reason {
            "missing-key" => location.challenge().to_owned(),
            // Basic does not have error codes.
            "insufficient-scope" if location == Location::Basic => location.challenge().to_owned(),
            _ if status == 401 && location == Location::Basic => location.challenge().to_owned(),
            "insufficient-scope" => format!(
                "{} error=\"insufficient_scope\", scope=\"orders:write\"",
                location.challenge()
            ),
            _ if status == 401 => format!("{} error=\"invalid_token\"", location.challenge()),
            _ => String::new(),
        };
        assert_eq!(challenge, expected, "{name} at {location:?}");
    };
    let mut of_401 = Vec::new();
    // First with a cold cache, then warm.
    for _ in 0..2 {
        check(
            "none",
            &both(server, place, usual, None).await,
            401,
            "missing-key",
        );
        for (name, key, status, reason) in &keys.refused {
            let answer = both(server, place, usual, Some(key)).await;
            check(name, &answer, *status, reason);
            if *reason == "invalid-key" {
                of_401.push(answer.timeless());
            }
        }
        let put = both(server, place, ("PUT", "https"), Some(&keys.good)).await;
        check("method of the route", &put, 403, "method-not-permitted");
        let clear = both(server, place, ("POST", "http"), Some(&keys.good)).await;
        check("clear text", &clear, 403, "https-required");
    }
    // Callers without the right secret get identical answers.
    of_401.dedup();
    assert_eq!(of_401.len(), 1, "{of_401:?}");
    assert_eq!(traces.counts(), begun, "untouched by denied requests");

    // Control: at the same location the valid key passes.
    both(server, place, usual, Some(&keys.good))
        .await
        .says("in");
    assert_eq!(traces.counts(), (begun.0 + 2, begun.1 + 2));

    store.go_down();
    for (way, key) in ["attribute", "middleware"].into_iter().zip(&keys.cold) {
        let message = proxied("POST", &format!("/{way}/{}", place.0), "https").with(location, key);
        let answer = server.send(message.bytes()).await;
        check("store down", &answer, 503, "store-unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(traces.counts(), (begun.0 + 2, begun.1 + 2));
    store.heal();
    both(server, place, usual, Some(&keys.cold[0]))
        .await
        .says("in");
}

#[actix_web::test]
async fn l01_every_denial_at_every_door_is_the_same_decision_by_attribute_and_by_middleware() {
    for location in Location::ALL {
        let (store, manager) = manager(Config::builder()).await;
        let keys = Keys::make(&manager).await;
        let traces = Traces::default();
        let server = serve(&manager, &traces);
        every_denial(
            &server,
            &store,
            &traces,
            &keys,
            (&format!("{location:?}"), location),
        )
        .await;
    }
}

#[actix_web::test]
async fn l01_every_denial_at_every_door_that_the_configuration_can_name_is_the_same_decision() {
    let configured = [
        (Config::builder(), Location::Bearer),
        (Config::builder().location("header"), Location::Bearer),
        (Config::builder().header_name("X-API-Key"), Location::Header),
        (Config::builder().header_type("Token"), Location::Scheme),
        (Config::builder().location("basic"), Location::Basic),
        (Config::builder().location("websocket"), Location::WebSocket),
        (Config::builder().location("query"), Location::Query),
        (Config::builder().location("cookie"), Location::Cookie),
        (Config::builder().location("json"), Location::Json),
        (Config::builder().location("form"), Location::Form),
    ];
    for (config, location) in configured {
        let (store, manager) = manager(config).await;
        let keys = Keys::make(&manager).await;
        let traces = Traces::default();
        let server = serve(&manager, &traces);
        every_denial(&server, &store, &traces, &keys, ("Configured", location)).await;
        // A key at any other location does not count.
        for other in Location::ALL.into_iter().filter(|other| *other != location) {
            for way in ["attribute", "middleware"] {
                let message = proxied("POST", &format!("/{way}/Configured"), "https");
                let answer = server.send(message.with(other, &keys.good).bytes()).await;
                answer.refused(401, "missing-key");
            }
        }
    }
}

/// Denials that do not depend on the store are decided without it, at every location.
#[actix_web::test]
async fn f04_a_key_of_another_form_makes_no_call_of_the_store_at_any_door() {
    let (store, manager) = manager(Config::builder()).await;
    let keys = Keys::make(&manager).await;
    let traces = Traces::default();
    let server = serve(&manager, &traces);
    for location in Location::ALL {
        let before = store.count_all();
        let route = format!("{location:?}");
        for (name, key, ..) in &keys.refused {
            if ["malformed", "empty", "checksum", "prefix of nobody"].contains(name) {
                both(&server, (&route, location), ("POST", "https"), Some(key)).await;
            }
        }
        both(&server, (&route, location), ("POST", "https"), None).await;
        assert_eq!(store.count_all(), before, "{location:?}");
        let unknown = forge::key("adm", "0123456789ABCDEFGHIJKL", &"y".repeat(64));
        both(
            &server,
            (&route, location),
            ("POST", "https"),
            Some(&unknown),
        )
        .await;
    }
    assert!(store.count(Call::Find) > 0, "the control");
}

#[api_key_required(
    locations = [bearer, header("X-API-Key"), header("Authorization", scheme = "Token"), basic,
    websocket, query("api_key"), cookie("api_key"), json("api_key"), form("api_key")]
)]
async fn anywhere(traced: Traced) -> &'static str {
    traced.handled();
    "in"
}

/// Routes that take a key from two locations, by middleware; and one that takes it from all, by
/// attribute.
fn pairs(app: &mut ServiceConfig) {
    app.route("/anywhere", web::route().to(anywhere));
    for [one, other] in Location::pairs() {
        let policy = Policy::new().locations(key_locations(&[one, other]));
        let scope = web::scope(&format!("/{one:?}-{other:?}")).wrap(RequireApiKey::with(policy));
        app.service(scope.route("", web::route().to(inside)));
    }
    for location in Location::ALL {
        let policy = Policy::new().locations(key_locations(&[location]));
        let scope = web::scope(&format!("/{location:?}")).wrap(RequireApiKey::with(policy));
        app.service(scope.route("", web::route().to(inside)));
    }
}

async fn serve_pairs(store: Arc<GateStore>) -> (ApiKeyManager, Traces, Server) {
    let manager = apikey_test_support::manager_on(store).await;
    let (configured, traces) = (manager.clone(), Traces::default());
    let seen = traces.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.app_data(seen.clone());
        pairs(app);
    });
    (manager, traces, server)
}

#[actix_web::test]
async fn l03_l04_keys_at_two_doors_are_refused_whatever_they_are_and_the_store_is_not_asked() {
    let store = GateStore::new();
    let (manager, traces, server) = serve_pairs(store.clone()).await;
    let good = manager.create("a").await.unwrap();
    let also = manager.create("b").await.unwrap();
    let (good, also) = (good.expose_secret(), also.expose_secret());
    let unknown = forge::unknown();
    let sets = [
        (good, good),
        (good, also),
        (good, unknown.as_str()),
        (unknown.as_str(), good),
        (good, "nonsense"),
        ("nonsense", good),
        (good, ""),
        ("", good),
    ];
    for [one, other] in Location::pairs() {
        for path in [format!("/{one:?}-{other:?}"), "/anywhere".to_owned()] {
            let before = (store.count_all(), traces.counts());
            for (first, second) in sets {
                // A malformed key in the head is denied before the body is read.
                let (status, reason) = match (other.is_in_body(), first) {
                    (true, "nonsense" | "") => (401, "invalid-key"),
                    _ => (400, "multiple-keys"),
                };
                let message = Message::post(&path).with(one, first).with(other, second);
                let answer = server.send(message.bytes()).await;
                answer.refused(status, reason);
                let message = Message::post(&path).with(other, second).with(one, first);
                let answer = server.send(message.bytes()).await;
                answer.refused(status, reason);
            }
            assert_eq!((store.count_all(), traces.counts()), before, "{path}");
            // Control: each of them alone passes.
            for location in [one, other] {
                let message = Message::post(&path).with(location, good);
                server.send(message.bytes()).await.says("in");
            }
        }
    }
}

/// Control for L-03: only the route's locations count.
#[actix_web::test]
async fn l03_a_key_where_the_route_does_not_look_is_nothing() {
    let (manager, _, server) = serve_pairs(GateStore::new()).await;
    let good = manager.create("a").await.unwrap();
    let lines_of_one_header = [Location::Bearer, Location::Scheme, Location::Basic];
    for [one, other] in Location::pairs() {
        if [one, other]
            .iter()
            .all(|location| lines_of_one_header.contains(location))
        {
            continue;
        }
        for location in [one, other] {
            let message = Message::post(&format!("/{location:?}"));
            let message = message.with(one, good.expose_secret());
            let message = message.with(other, good.expose_secret());
            server.send(message.bytes()).await.says("in");
        }
    }
}

#[actix_web::test]
async fn l05_a_repeated_key_at_any_door_is_refused_and_another_name_is_absent() {
    let store = GateStore::new();
    let (manager, traces, server) = serve_pairs(store.clone()).await;
    let good = manager.create("a").await.unwrap();
    let good = good.expose_secret();
    for location in Location::ALL {
        for path in [format!("/{location:?}"), "/anywhere".to_owned()] {
            let before = (store.count_all(), traces.counts());
            for second in [good, &forge::unknown(), "", "nonsense"] {
                let message = Message::post(&path)
                    .with(location, good)
                    .with(location, second);
                let answer = server.send(message.bytes()).await;
                answer.refused(400, "multiple-keys");
            }
            assert_eq!((store.count_all(), traces.counts()), before, "{path}");
            let message = Message::post(&path).with(location, good);
            server.send(message.bytes()).await.says("in");
        }
    }
    let absent = [
        Message::post("/Query").query(&format!("API_KEY={good}")),
        Message::post("/Query").query(&format!("api_key[]={good}")),
        Message::post("/Query").query(&format!("x=1;api_key={good}")),
        Message::post("/Form").field(&format!("Api_Key={good}")),
        Message::post("/Json").member(&format!("\"API_KEY\":\"{good}\"")),
        Message::post("/Json").member(&format!("\"a\":{{\"api_key\":\"{good}\"}}")),
        Message::post("/Cookie").header("Cookie", &format!("API_KEY={good}")),
        Message::post("/Cookie").header("Cookie", &format!("a={good}; b=api_key")),
    ];
    for message in absent {
        let answer = server.send(message.bytes()).await;
        answer.refused(401, "missing-key");
    }
    // An encoded name is the same name.
    let twice = [
        Message::post("/Query").query(&format!("api_key={good}&api%5Fkey={good}")),
        Message::post("/Query").query(&format!("%61pi_key={good}&api_key=")),
        Message::post("/Form").field(&format!("api_key={good}&api%5fkey=x")),
        Message::post("/Json").member(&format!(
            "\"api_key\":\"{good}\",\"api\\u005fkey\":\"{good}\""
        )),
        Message::post("/Cookie").header("Cookie", &format!("api_key={good}; api_key={good}")),
    ];
    for message in twice {
        let answer = server.send(message.bytes()).await;
        answer.refused(400, "multiple-keys");
    }
    let written_otherwise = [
        Message::post("/Query").query(&format!("api%5Fkey={good}")),
        Message::post("/Form").field(&format!("%61%70i_key={good}")),
        Message::post("/Json").member(&format!("\"\\u0061pi_key\":\"{good}\"")),
        Message::post("/Cookie").header("Cookie", &format!("a=1;  api_key = \"{good}\" ;b")),
    ];
    for message in written_otherwise {
        server.send(message.bytes()).await.says("in");
    }
}

#[actix_web::test]
async fn l06_percent_encoding_is_undone_once_and_what_is_broken_is_400() {
    let (manager, traces, server) = serve_pairs(GateStore::new()).await;
    let good = manager.create("a").await.unwrap();
    let good = good.expose_secret();
    let all: String = good.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twice = all.replace('%', "%25");
    let mut expected = (0, 0);
    let mut ask = async |value: &str, status: u16, reason: &str| {
        let query = Message::post("/Query").query(&format!("api_key={value}"));
        let form = Message::post("/Form").field(&format!("api_key={value}"));
        for message in [query, form] {
            let answer = server.send(message.bytes()).await;
            if status == 200 {
                answer.says("in");
                expected = (expected.0 + 1, expected.1 + 1);
            } else {
                answer.refused(status, reason);
            }
            assert_eq!(traces.counts(), expected, "{value}");
        }
    };
    ask(good, 200, "").await;
    ask(&all, 200, "").await;
    let upper: String = good.bytes().map(|byte| format!("%{byte:02X}")).collect();
    ask(&upper, 200, "").await;
    ask(&twice, 401, "invalid-key").await;
    ask("", 401, "invalid-key").await;
    for broken in ["%ZZ", "%", "%6", "a%4g", "%%61", "%u0061"] {
        ask(broken, 400, "malformed-request").await;
        ask(&format!("{good}{broken}"), 400, "malformed-request").await;
    }
    for added in [
        "+",
        "%20",
        "%00",
        "%0D%0A",
        "%0d%0aX-Injected:%201",
        "%ff",
        "%C0%AE",
        "=",
    ] {
        ask(&format!("{good}{added}"), 401, "invalid-key").await;
        ask(&format!("{added}{good}"), 401, "invalid-key").await;
    }
}

#[actix_web::test]
async fn l11_a_request_for_the_head_alone_is_guarded_as_a_get_at_every_door_of_the_head() {
    let (manager, traces, server) = serve_pairs(GateStore::new()).await;
    let good = manager.create("a").methods(["GET"]).await.unwrap();
    for location in Location::ALL
        .into_iter()
        .filter(|location| !location.is_in_body())
    {
        for path in [format!("/{location:?}"), "/anywhere".to_owned()] {
            let before = traces.counts();
            for (key, status) in [
                (None, 401),
                (Some("nonsense"), 401),
                (Some(forge::unknown().as_str()), 401),
                (Some(good.expose_secret()), 200),
            ] {
                let message = Message::new("HEAD", &path);
                let message = key.map_or(message.clone(), |key| message.with(location, key));
                let mut client = server.connect().await;
                client.send(message.bytes()).await;
                assert_eq!(client.head_only().await.status, status, "{path}");
            }
            assert_eq!(traces.counts().1, before.1 + 1);
            // A method that the route does not name is guarded, too.
            let answer = server.send(Message::new("BREW", &path).bytes()).await;
            answer.refused(401, "missing-key");
        }
    }
}

/// H-20, at every location.
#[actix_web::test]
async fn h20_good_none_good_on_one_connection_is_200_401_200_at_every_door() {
    let (manager, _, server) = serve_pairs(GateStore::new()).await;
    let good = manager.create("a").await.unwrap();
    for location in Location::ALL {
        for path in [format!("/{location:?}"), "/anywhere".to_owned()] {
            let mut client = server.connect().await;
            let with = Message::post(&path).with(location, good.expose_secret());
            // Without a body, because an unread body ends the connection.
            for _ in 0..2 {
                client.send(with.bytes()).await;
                client.answer().await.says("in");
                client.send(Message::get(&path).bytes()).await;
                client.answer().await.refused(401, "missing-key");
            }
            // All requests at once.
            let get = Message::get(&path).bytes();
            client
                .send([with.bytes(), get, with.bytes()].concat())
                .await;
            client.answer().await.says("in");
            client.answer().await.refused(401, "missing-key");
            client.answer().await.says("in");
        }
    }
}

/// Texts with a meaning in SQL, patterns, formats or terminals.
const TEXTS: [&str; 16] = [
    "' OR '1'='1",
    "'; DROP TABLE api_keys; --",
    "%",
    "_",
    "*",
    "{}",
    "{0}{name}",
    "%s%n%x",
    "$1",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "\u{202e}gnp.exe",
    "é漢🦀",
    "${jndi:ldap://x}",
    "`id`",
    "\\u0000\\n",
];

#[actix_web::test]
async fn i01_a_text_that_means_something_elsewhere_is_a_wrong_key_at_every_door() {
    let store = GateStore::new();
    let (manager, traces, server) = serve_pairs(store.clone()).await;
    let good = manager.create("a").await.unwrap();
    let good = good.expose_secret();
    let parts = forge::parts(good);
    let before = traces.counts();
    for location in Location::ALL {
        for text in TEXTS {
            // Alone, beside a valid key, and in each of its parts with a valid checksum.
            for key in [
                text.to_owned(),
                format!("{good}{text}"),
                forge::key(text, &parts.id, &parts.secret),
                forge::key(&parts.prefix, text, &parts.secret),
                forge::key(&parts.prefix, &parts.id, text),
            ] {
                // `;` ends a cookie, and a `"` within a cookie belongs to it.
                if location == Location::Cookie && key.contains(';') {
                    continue;
                }
                // `,` ends an entry.
                if location == Location::WebSocket && key.contains(',') {
                    continue;
                }
                // The text before `:` is the user name.
                if location == Location::Basic && key.contains(':') {
                    continue;
                }
                for path in [format!("/{location:?}"), "/anywhere".to_owned()] {
                    let message = Message::post(&path).with(location, &key);
                    let answer = server.send(message.bytes()).await;
                    assert_eq!(answer.status, 401, "{key:?} at {location:?}: {answer:?}");
                    answer.refused(401, "invalid-key");
                    assert!(!format!("{answer:?}").contains(text) || text.len() == 1);
                }
            }
        }
        let message = Message::post(&format!("/{location:?}")).with(location, good);
        server.send(message.bytes()).await.says("in");
    }
    assert_eq!(traces.counts().1, before.1 + Location::ALL.len());
    let told = store.transcript();
    let finds: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("Find"))
        .collect();
    assert!(!finds.is_empty());
    for find in finds {
        assert_eq!(
            find,
            format!("Find {}", parts.id),
            "the store was asked for no other key"
        );
    }
}

#[actix_web::test]
async fn i01_a_line_break_in_a_key_never_reaches_an_answer() {
    let (manager, _, server) = serve_pairs(GateStore::new()).await;
    let good = manager.create("a").await.unwrap();
    let good = good.expose_secret();
    let injected = format!("{good}\r\nX-Injected: 1");
    // Unencoded in a header it would start another header; encoded it is a byte of the key.
    for location in [
        Location::Basic,
        Location::Query,
        Location::Json,
        Location::Form,
    ] {
        for key in [
            injected.as_str(),
            "\r\nX-Injected: 1\r\n\r\nbody",
            "\n",
            "\0",
        ] {
            let message = Message::post(&format!("/{location:?}")).with(location, key);
            let answer = server.send(message.bytes()).await;
            if location == Location::Basic && key.starts_with(good) {
                // `good CR LF X-Injected` ends at its colon, and is not a key.
                assert_eq!(answer.status, 401);
            }
            answer.refused(401, "invalid-key");
            assert!(answer.header("x-injected").is_none(), "{answer:?}");
        }
    }
}
