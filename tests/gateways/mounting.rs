//! Where the endpoints are mounted, and wrong settings.

use actix_web::web;
use apikey_portal::Gateway;
use apikey_runtime::{ApiKeyManager, Config, KeyLocation, MemoryStore, Policy};
use apikey_test_support::http::Server;
use apikey_test_support::log::Log;

use crate::app::{ANY, Call, gateway, manager, trusting};

fn mounted(gateway: impl Fn() -> Gateway + Clone + Send + 'static, path: &'static str) -> Server {
    Server::start(move |app| {
        app.service(gateway().mount(path));
    })
}

#[actix_web::test]
async fn wrong_settings_are_500_with_a_line_in_the_log() {
    let log = Log::capture();
    let manager = manager().await;
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    for (names, path, words) in [
        (&["a", "a"][..], "/gateway", "two rules have the name `a`"),
        (&[""][..], "/gateway", "`` is not a name of a rule"),
        (&["a/b"][..], "/gateway", "`a/b` is not a name of a rule"),
        (&["{a}"][..], "/gateway", "`{a}` is not a name of a rule"),
        (&[".."][..], "/gateway", "`..` is not a name of a rule"),
        (&["ä"][..], "/gateway", "is not a name of a rule"),
        (&[][..], "/{tenant}", "is not a plain path"),
    ] {
        let manager = manager.clone();
        let faulty = move || {
            let gateway = Gateway::new(manager.clone());
            let names = names.iter();
            names.fold(gateway, |gateway, name| gateway.rule(*name, ANY))
        };
        let server = mounted(faulty, path);
        for path in ["/verify", "/verify-rule/a", "/x"] {
            let answer = Call::to(path).key(key).send(&server).await;
            answer.refused(500, "misconfigured-route");
        }
        let lines = log.lines(&["ERROR", "gateway endpoints are misconfigured", words]);
        assert!(!lines.is_empty(), "{words}");
    }
}

#[actix_web::test]
async fn endpoints_are_found_below_their_path_only() {
    let manager = manager().await;
    let (rooted, scoped) = (manager.clone(), manager.clone());
    let at_root = mounted(move || gateway(&rooted), "/");
    let in_scope = Server::start(move |app| {
        app.service(web::scope("/inside").service(gateway(&scoped).mount("/gateway")));
    });
    let key = manager.create("a").await.unwrap();
    let send = async |server: &Server, path: &str| {
        let headers = [("Authorization", &*format!("Bearer {}", key.expose_secret()))];
        server.get_with(path, &headers).await.status
    };
    for (path, status) in [
        ("/verify", 200),
        ("/verify-rule/any/x", 200),
        ("/verify/", 404),
        ("/verify/x", 404),
        ("/", 404),
        ("/verify-rule", 500),
        ("/verify-rules", 404),
    ] {
        assert_eq!(send(&at_root, path).await, status, "{path}");
        let path = format!("/inside/gateway{path}");
        assert_eq!(send(&in_scope, &path).await, status, "{path}");
    }
}

/// Cookies, queries and bodies are not read: a gateway's call has none of its own, and a client's are not its key.
#[actix_web::test]
async fn a_key_is_found_in_headers_only() {
    const ELSEWHERE: Policy = Policy::new().locations(&[
        KeyLocation::Cookie { name: "k" },
        KeyLocation::Query { name: "k" },
        KeyLocation::Json { name: "k" },
    ]);
    const SEVERAL: Policy = Policy::new().locations(&[
        KeyLocation::Query { name: "k" },
        KeyLocation::Basic,
        KeyLocation::Header {
            name: "x-api-key",
            scheme: None,
        },
    ]);
    let log = Log::capture();
    let config = trusting("X-Forwarded-For")
        .header_name("X-Key")
        .header_type("");
    let manager = start(config.build().unwrap()).await;
    let serving = manager.clone();
    let rules = move || {
        let gateway = Gateway::new(serving.clone()).rule("several", SEVERAL);
        gateway.rule("elsewhere", ELSEWHERE).rule("any", ANY)
    };
    let server = mounted(rules, "/gateway");
    let key = manager.create("a").await.unwrap();
    let key = key.expose_secret();
    let in_cookie = format!("k={key}");
    let call =
        |rule: &str| Call::to(&format!("/verify-rule/{rule}?k={key}")).with("Cookie", &in_cookie);
    // The configured header, and those of a policy in its place.
    for (call, status) in [
        (call("any").with("X-Key", key), 200),
        (call("any").key(key), 401),
        (call("several").with("X-Api-Key", key), 200),
        (call("several").with("X-Key", key), 401),
        (call("several"), 401),
        (Call::to("/verify").with("X-Key", key), 200),
        (
            Call::to("/verify").with("X-Key", key).with("x-key", key),
            400,
        ),
    ] {
        let answer = call.send(&server).await;
        assert_eq!(answer.status, status, "{answer:?}");
        // The challenge is that of the rule's locations.
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        let is_several = format!("{call:?}").contains("/several");
        assert_eq!(challenge.contains("Basic"), is_several && status == 401);
    }
    let answer = call("elsewhere").send(&server).await;
    answer.refused(500, "misconfigured-route");
    assert!(
        !log.lines(&["ERROR", "no location that is a header"])
            .is_empty()
    );
}

async fn start(config: Config) -> ApiKeyManager {
    let builder = ApiKeyManager::builder().config(config);
    builder.store(MemoryStore::new()).start().await.unwrap()
}
