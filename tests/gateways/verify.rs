//! The answers of the endpoints: those of a guarded route, with what a service needs to know of the key.

use actix_web::web;
use apikey_runtime::{Policy, RequireApiKey};
use apikey_test_support::forge;
use apikey_test_support::http::Server;

use crate::app::{Call, gateway, manager, serve};

#[actix_web::test]
async fn an_accepted_key_is_told_to_the_service() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").owner("Zoë & co").scopes(["b:w", "a:r"]);
    let key = key.await.unwrap();
    for path in [
        "/verify",
        "/verify-rule/any",
        "/verify-rule/any/",
        "/verify-rule/any/x/y",
    ] {
        let answer = Call::to(path).key(key.expose_secret()).send(&server).await;
        answer.says("");
        assert_eq!(answer.all("x-apikey-id"), [key.id().as_str()]);
        assert_eq!(answer.all("x-apikey-owner"), ["Zo%C3%AB%20%26%20co"]);
        assert_eq!(answer.all("x-apikey-scopes"), ["a:r b:w"]);
        assert_eq!(answer.all("cache-control"), ["no-store"]);
    }
}

/// A gateway that copies only the headers that it gets would leave those of its client.
#[actix_web::test]
async fn a_key_without_owner_and_scopes_has_empty_headers() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let call = Call::to("/verify").key(key.expose_secret());
    let forged = call.with("X-Apikey-Owner", "root");
    let answer = forged.with("X-Apikey-Scopes", "admin").send(&server).await;
    answer.says("");
    assert_eq!(answer.all("x-apikey-owner"), [""]);
    assert_eq!(answer.all("x-apikey-scopes"), [""]);
}

/// No text of a key breaks out of its header, and each is told apart after decoding.
#[actix_web::test]
async fn owners_are_percent_encoded() {
    let manager = manager().await;
    let server = serve(&manager);
    for (owner, written) in [
        ("a%20b", "a%2520b"),
        ("a b", "a%20b"),
        ("a/b:c,d;e=\"f\"", "a%2Fb%3Ac%2Cd%3Be%3D%22f%22"),
        ("é’€", "%C3%A9%E2%80%99%E2%82%AC"),
        ("0.9-_~", "0.9-_~"),
    ] {
        let key = manager.create("a").owner(owner).await.unwrap();
        let call = Call::to("/verify").key(key.expose_secret());
        let answer = call.send(&server).await;
        assert_eq!(answer.all("x-apikey-owner"), [written], "{answer:?}");
    }
}

#[actix_web::test]
async fn a_denial_is_answered_as_on_a_guarded_route() {
    let manager = manager().await;
    let guarded = manager.clone();
    let server = Server::start(move |app| {
        app.service(gateway(&guarded).mount("/gateway"));
        guarded.init_app(app);
        let route = web::resource("/guarded").to(async || "in");
        app.service(route.wrap(RequireApiKey::with(Policy::new())));
    });
    let create = |label: &str| manager.create(label);
    let (revoked, disabled) = (create("a").await.unwrap(), create("a").await.unwrap());
    manager.revoke(revoked.id()).await.unwrap();
    manager.disable(disabled.id()).await.unwrap();
    let elsewhere = ["198.51.100.0/24".parse().unwrap()];
    let (unknown, wrong) = (
        forge::unknown(),
        forge::wrong_secret(revoked.expose_secret()),
    );
    let elsewhere = create("a").networks(elsewhere).await.unwrap();
    let posting = create("a").methods(["POST"]).await.unwrap();
    for (key, status, reason) in [
        (None, 401, "missing-key"),
        (Some("junk"), 401, "invalid-key"),
        (Some(&*unknown), 401, "invalid-key"),
        (Some(&*wrong), 401, "invalid-key"),
        (Some(revoked.expose_secret()), 401, "revoked-key"),
        (Some(disabled.expose_secret()), 401, "disabled-key"),
        (
            Some(elsewhere.expose_secret()),
            403,
            "address-not-permitted",
        ),
        (Some(posting.expose_secret()), 403, "method-not-permitted"),
        (Some("twice"), 400, "multiple-keys"),
    ] {
        let of = |call: Call| {
            let call = key.iter().fold(call, |call, key| call.key(key));
            match key {
                Some("twice") => call.key("twice"),
                _ => call,
            }
        };
        let route = of(Call::to_route("/guarded")).send(&server).await;
        route.refused(status, reason);
        for path in ["/verify", "/verify-rule/any/x"] {
            let answer = of(Call::to(path)).send(&server).await;
            assert_eq!(answer.timeless(), route.timeless(), "{path} {reason}");
        }
    }
}

/// A caller cannot leave its rule by its path, which Envoy adds as the client wrote it.
#[actix_web::test]
async fn the_rest_of_the_path_does_not_choose_a_rule() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    for tail in [
        "/x",
        "//",
        "/../any/x",
        "/%2e%2e/any/x",
        "/..%2Fany",
        "/..;/any",
        "/..\\any",
        "/x?/../../any",
        "?scope=&cost=0",
        "#/../any",
        "/verify-rule/any",
    ] {
        let call = Call::to(&format!("/verify-rule/orders{tail}"));
        let answer = call.key(key.expose_secret()).send(&server).await;
        assert_eq!(answer.header("x-apikey-id"), None, "{tail}");
        // The others are not a path.
        if !tail.contains(['#', '\\']) {
            answer.refused(403, "insufficient-scope");
        }
    }
    // A rule's name is compared as a whole.
    for name in [
        "orders2",
        "order",
        "ORDERS",
        "orders%2Fx",
        "any%00",
        "",
        "/any",
    ] {
        let call = Call::to(&format!("/verify-rule/{name}"));
        let answer = call.key(key.expose_secret()).send(&server).await;
        assert!(matches!(answer.status, 404 | 500), "{name} {answer:?}");
    }
    // Control.
    let call = Call::to("/verify-rule/any/../orders");
    let answer = call.key(key.expose_secret()).send(&server).await;
    answer.says("");
}

#[actix_web::test]
async fn usage_is_counted_by_rule() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    for path in [
        "/verify",
        "/verify-rule/any/x",
        "/verify-rule/any/y?z",
        "/verify-rule/secure",
    ] {
        let answer = Call::to(path).key(key.expose_secret()).send(&server).await;
        answer.says("");
    }
    let report = manager.usage(key.id()).await.unwrap();
    let mut routes: Vec<_> = report
        .by_route()
        .into_iter()
        .map(|one| (one.route, one.counts.requests))
        .collect();
    routes.sort();
    let expected = [
        ("/gateway/verify", 1),
        ("/gateway/verify-rule/any", 2),
        ("/gateway/verify-rule/secure", 1),
    ];
    assert_eq!(routes, expected.map(|(route, count)| (route.into(), count)));
}
