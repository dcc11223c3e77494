//! The client's address: networks of keys, trusted proxies, and HTTPS.

use actix_web::web;
use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Policy, RequireApiKey, api_key_required};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::manager;

#[api_key_required]
async fn plain() -> &'static str {
    "in"
}

#[api_key_required(require_https)]
async fn secure() -> &'static str {
    "in"
}

async fn inside() -> &'static str {
    "in"
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        let secure_policy = Policy::new().require_https();
        app.route("/plain", web::get().to(plain))
            .route("/secure", web::get().to(secure));
        for (path, policy) in [("/mw/plain", Policy::new()), ("/mw/secure", secure_policy)] {
            let guard = RequireApiKey::with(policy);
            app.service(
                web::scope(path)
                    .route("", web::get().to(inside))
                    .wrap(guard),
            );
        }
    })
}

/// Starts a manager that trusts proxies on this machine.
async fn proxied(header: &str) -> ApiKeyManager {
    let config = Config::builder()
        .trusted_proxies(["127.0.0.0/8"])
        .forwarded_header(header);
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    builder.store(MemoryStore::new()).start().await.unwrap()
}

/// Sends the request to the attribute and to the middleware, which have to answer alike.
async fn get(server: &Server, path: &str, key: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [headers, &[("Authorization", bearer.as_str())]].concat();
    let first = server.get_with(path, &headers).await;
    let second = server.get_with(&format!("/mw{path}"), &headers).await;
    assert_eq!(first.timeless(), second.timeless(), "{path} {headers:?}");
    first
}

async fn key_for(manager: &ApiKeyManager, networks: &[&str]) -> String {
    let networks = networks.iter().map(|network| network.parse().unwrap());
    let key = manager.create("a").networks(networks).await.unwrap();
    key.expose_secret().to_owned()
}

const FORGED: [(&str, &str); 8] = [
    ("X-Forwarded-For", "192.0.2.7"),
    ("Forwarded", "for=192.0.2.7;proto=https"),
    ("X-Real-IP", "192.0.2.7"),
    ("True-Client-IP", "192.0.2.7"),
    ("CF-Connecting-IP", "192.0.2.7"),
    ("X-Client-IP", "192.0.2.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "192.0.2.7"),
];

#[actix_web::test]
async fn n01_without_a_trusted_proxy_what_headers_say_is_ignored() {
    let manager = manager().await;
    let server = serve(&manager);
    let elsewhere = key_for(&manager, &["192.0.2.0/24"]).await;
    let here = key_for(&manager, &["127.0.0.0/8"]).await;
    let anywhere = key_for(&manager, &[]).await;
    for _ in 0..2 {
        get(&server, "/plain", &elsewhere, &FORGED)
            .await
            .refused(403, "address-not-permitted");
        get(&server, "/plain", &elsewhere, &[])
            .await
            .refused(403, "address-not-permitted");
        get(&server, "/secure", &anywhere, &FORGED)
            .await
            .refused(403, "https-required");
        get(&server, "/secure", &anywhere, &[])
            .await
            .refused(403, "https-required");
        // Control.
        get(&server, "/plain", &here, &FORGED).await.says("in");
        get(&server, "/plain", &anywhere, &FORGED).await.says("in");
    }
    // A trusted proxy, but not the one that connects.
    let config = Config::builder()
        .trusted_proxies(["10.0.0.0/8", "192.0.2.0/24"])
        .forwarded_header("X-Forwarded-For");
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = serve(&manager);
    let elsewhere = key_for(&manager, &["192.0.2.0/24"]).await;
    get(&server, "/plain", &elsewhere, &FORGED)
        .await
        .refused(403, "address-not-permitted");
    get(&server, "/secure", &elsewhere, &FORGED)
        .await
        .refused(403, "https-required");
}

#[actix_web::test]
async fn n02_forged_entries_further_left_are_not_reached() {
    let manager = proxied("X-Forwarded-For").await;
    let server = serve(&manager);
    let key = key_for(&manager, &["192.0.2.0/24"]).await;
    let ask = async |lines: &[&str]| {
        let headers: Vec<_> = lines
            .iter()
            .map(|line| ("X-Forwarded-For", *line))
            .collect();
        get(&server, "/plain", &key, &headers).await
    };
    for lines in [
        &["192.0.2.7"][..],
        &["203.0.113.9, 192.0.2.7"],
        &["203.0.113.9", "192.0.2.7"],
        &["203.0.113.9, 192.0.2.7, 127.0.0.2"],
        &["203.0.113.9,192.0.2.7:4711,127.0.0.2,127.3.2.1"],
        &["unknown, 192.0.2.7"],
        &["::ffff:192.0.2.7"],
        &["[::ffff:192.0.2.7]:80"],
    ] {
        ask(lines).await.says("in");
    }
    for lines in [
        &[][..],
        &[""],
        &["203.0.113.9"],
        &["192.0.2.7, 203.0.113.9"],
        &["192.0.2.7", "203.0.113.9"],
        &["192.0.2.7, 203.0.113.9, 127.0.0.2"],
        &["192.0.2.7, unknown"],
        &["192.0.2.7, "],
        &["192.0.2.7,,127.0.0.1"],
        &["192.0.2.7 203.0.113.9"],
        &["192.0.2.7, _hidden"],
        &["127.0.0.1"],
        &["192.0.2.0/24"],
        &["192.0.2.7;203.0.113.9"],
        &["0300.0.2.7"],
        &["\"192.0.2.7\""],
    ] {
        ask(lines).await.refused(403, "address-not-permitted");
    }
    // Any client can forge the other header.
    let other = [
        ("Forwarded", "for=192.0.2.7"),
        ("X-Forwarded-For", "203.0.113.9"),
    ];
    get(&server, "/plain", &key, &other)
        .await
        .refused(403, "address-not-permitted");
    get(&server, "/plain", &key, &other[..1])
        .await
        .refused(403, "address-not-permitted");
}

#[actix_web::test]
async fn n02_the_same_with_forwarded() {
    let manager = proxied("Forwarded").await;
    let server = serve(&manager);
    let key = key_for(&manager, &["192.0.2.0/24", "2001:db8::/32"]).await;
    let ask = async |lines: &[&str]| {
        let headers: Vec<_> = lines.iter().map(|line| ("Forwarded", *line)).collect();
        get(&server, "/plain", &key, &headers).await
    };
    for lines in [
        &["for=192.0.2.7"][..],
        &["For=\"192.0.2.7:80\";proto=http;by=203.0.113.43"],
        &["for=203.0.113.9, for=192.0.2.7"],
        &["for=203.0.113.9", "for=192.0.2.7"],
        &["for=203.0.113.9, for=192.0.2.7, for=127.0.0.2;proto=https"],
        &["for=\"[2001:db8::1]:4711\""],
        &["for=unknown, for=\"[2001:db8::1]\""],
    ] {
        ask(lines).await.says("in");
    }
    for lines in [
        &[][..],
        &["for=203.0.113.9"],
        &["for=192.0.2.7, for=203.0.113.9"],
        &["for=192.0.2.7", "for=203.0.113.9"],
        &["for=192.0.2.7, for=unknown"],
        &["for=192.0.2.7, by=127.0.0.1"],
        &["for=192.0.2.7;for=203.0.113.9"],
        &["for=\"192.0.2.7"],
        &["for=192.0.2.7, \"for=203.0.113.9"],
        &["for=\"x, for=192.0.2.7\""],
        &["by=192.0.2.7"],
        &["192.0.2.7"],
        &["for=2001:db8::1]"],
    ] {
        ask(lines).await.refused(403, "address-not-permitted");
    }
    let other = [("X-Forwarded-For", "192.0.2.7")];
    get(&server, "/plain", &key, &other)
        .await
        .refused(403, "address-not-permitted");
}

#[actix_web::test]
async fn n04_an_ipv4_address_in_ipv6_is_that_ipv4_address() {
    let manager = proxied("X-Forwarded-For").await;
    let server = serve(&manager);
    for (networks, address, inside) in [
        (&["192.0.2.0/24"][..], "::ffff:192.0.2.7", true),
        (&["192.0.2.0/24"], "::ffff:192.0.3.7", false),
        (&["192.0.2.0/24"], "192.0.2.255", true),
        (&["192.0.2.0/24"], "192.0.3.0", false),
        (&["192.0.2.7/32"], "192.0.2.7", true),
        (&["192.0.2.7/32"], "192.0.2.8", false),
        (&["0.0.0.0/0"], "203.0.113.9", true),
        (&["0.0.0.0/0"], "::ffff:203.0.113.9", true),
        (&["0.0.0.0/0"], "2001:db8::1", false),
        (&["::/0"], "2001:db8::1", true),
        (&["::/0"], "203.0.113.9", false),
        (&["2001:db8::/32"], "2001:db8:ffff::1", true),
        (&["2001:db8::/32"], "2001:db9::1", false),
        (&["2001:db8::1/128"], "2001:DB8:0:0::1", true),
        (&["192.0.2.0/24", "2001:db8::/32"], "2001:db8::2", true),
        (&["192.0.2.0/24", "2001:db8::/32"], "192.0.2.2", true),
        // An IPv4-compatible or translated address is a different address.
        (&["192.0.2.0/24"], "::192.0.2.7", false),
        (&["192.0.2.0/24"], "64:ff9b::192.0.2.7", false),
    ] {
        let key = key_for(&manager, networks).await;
        for _ in 0..2 {
            let answer = get(&server, "/plain", &key, &[("X-Forwarded-For", address)]).await;
            let allowed = (answer.status, answer.text() == "in");
            let expected = if inside { (200, true) } else { (403, false) };
            assert_eq!(allowed, expected, "{networks:?} {address}");
        }
    }
    let mapped = ["::ffff:192.0.2.0/120".parse().unwrap()];
    let refused = manager.create("a").networks(mapped).await.unwrap_err();
    assert!(refused.to_string().contains("IPv4"), "{refused}");
}

#[actix_web::test]
async fn networks_can_be_changed_and_the_next_request_is_judged_by_the_new_ones() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    let text = key.expose_secret();
    let (here, elsewhere) = (
        "127.0.0.0/8".parse().unwrap(),
        "192.0.2.0/24".parse().unwrap(),
    );
    get(&server, "/plain", text, &[]).await.says("in");
    manager
        .update(key.id())
        .networks([elsewhere])
        .await
        .unwrap();
    get(&server, "/plain", text, &[])
        .await
        .refused(403, "address-not-permitted");
    manager
        .update(key.id())
        .networks([elsewhere, here])
        .await
        .unwrap();
    get(&server, "/plain", text, &[]).await.says("in");
    manager
        .update(key.id())
        .networks([elsewhere])
        .await
        .unwrap();
    manager.update(key.id()).label("b").await.unwrap();
    get(&server, "/plain", text, &[])
        .await
        .refused(403, "address-not-permitted");
    manager.update(key.id()).networks([]).await.unwrap();
    get(&server, "/plain", text, &[]).await.says("in");
    let mapped = ["::ffff:127.0.0.1/128".parse().unwrap()];
    assert!(manager.update(key.id()).networks(mapped).await.is_err());
    // A key with networks is denied if there is no request and so no address.
    manager.update(key.id()).networks([here]).await.unwrap();
    assert!(manager.verify(text).await.is_err());
}

#[actix_web::test]
async fn encryption_is_the_word_of_the_trusted_proxy_that_the_client_spoke_to() {
    let manager = proxied("X-Forwarded-For").await;
    let server = serve(&manager);
    let key = key_for(&manager, &[]).await;
    let ask = async |headers: &[(&str, &str)]| get(&server, "/secure", &key, headers).await;
    let of = ("X-Forwarded-For", "203.0.113.9");
    ask(&[of, ("X-Forwarded-Proto", "https")]).await.says("in");
    ask(&[of, ("X-Forwarded-Proto", "HTTPS")]).await.says("in");
    for headers in [
        &[][..],
        &[of],
        &[("X-Forwarded-Proto", "https")],
        &[of, ("X-Forwarded-Proto", "http")],
        &[of, ("X-Forwarded-Proto", "https, http")],
        &[of, ("X-Forwarded-Proto", "http, https")],
        &[
            of,
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Proto", "http"),
        ],
        &[of, ("X-Forwarded-Proto", "httpsx")],
        &[of, ("X-Forwarded-Proto", "")],
        &[of, ("X-Forwarded-Protocol", "https")],
        &[of, ("X-Forwarded-Ssl", "on"), ("Front-End-Https", "on")],
        &[of, ("Forwarded", "for=203.0.113.9;proto=https")],
    ] {
        ask(headers).await.refused(403, "https-required");
    }
    let manager = proxied("Forwarded").await;
    let server = serve(&manager);
    let key = key_for(&manager, &[]).await;
    let ask = async |value: &str| get(&server, "/secure", &key, &[("Forwarded", value)]).await;
    ask("for=203.0.113.9;proto=https").await.says("in");
    ask("for=6.6.6.6;proto=http, for=203.0.113.9;proto=https")
        .await
        .says("in");
    ask("for=203.0.113.9;proto=https, for=127.0.0.2;proto=http")
        .await
        .says("in");
    for value in [
        "for=203.0.113.9",
        "for=203.0.113.9;proto=http",
        "for=6.6.6.6;proto=https, for=203.0.113.9;proto=http",
        "for=203.0.113.9;proto=http, for=127.0.0.2;proto=https",
        "for=203.0.113.9;proto=https;proto=http",
        "for=203.0.113.9;proto=\"https",
    ] {
        ask(value).await.refused(403, "https-required");
    }
    let words = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "203.0.113.9"),
    ];
    get(&server, "/secure", &key, &words)
        .await
        .refused(403, "https-required");
    // Without a key, no key was sent in clear text.
    server
        .get("/secure", None)
        .await
        .refused(401, "missing-key");
}
