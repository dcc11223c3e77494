//! Settings of nginx outside the sample, which its locations inherit, and what a client makes Caddy drop. Each has its negative
//! control: without the protecting line, a request without a key gets through, or a header is gone.

use std::sync::Arc;

use apikey_runtime::KeyStore;
use apikey_test_support::forge;
use apikey_test_support::servers::reverse_proxy::ProxyKind;
use apikey_test_support::store::{Call, GateStore};

use crate::samples::other_spellings;
use crate::site::{ALICE, Request, Setup, Site, header};
use crate::through::key;

/// Sends a request with a key, and one without. Returns the status of the second.
async fn without_a_key(changes: &[(&str, &str)]) -> Option<u16> {
    let (kind, setup) = (ProxyKind::Nginx, Setup::default());
    let site = Site::start(kind, "inherited settings", setup, changes).await?;
    let key = key(&site).await;
    let with = site.get(ALICE, "/api/orders", &key).await;
    assert_eq!(with.status, 200);
    let without = Request::new("GET", "/api/orders");
    Some(site.send(ALICE, &without).await.status)
}

/// An inherited setting, and the line that keeps it from the sample.
async fn stays_closed(inherited: &[(&str, &str)], protection: &str) {
    let Some(status) = without_a_key(inherited).await else {
        return;
    };
    assert_eq!(status, 401, "{protection}");
    let control = [inherited, &[(protection, "")]].concat();
    assert_eq!(without_a_key(&control).await, Some(200), "{protection}");
}

#[actix_web::test]
async fn an_inherited_page_for_errors_does_not_accept() {
    let login = "proxy_intercept_errors on; error_page 401 = /login; location = /login { return 200; } location /api/ {";
    // The location's own page keeps others away, too: `pages.rs`.
    let inherited = [
        ("location /api/ {", login),
        ("error_page 599 = @apikey_denied;", ""),
    ];
    stays_closed(&inherited, "proxy_intercept_errors off;").await;
}

/// A 500 of the service is not that of an application that is away, and its 403 is not a denial.
#[actix_web::test]
async fn an_inherited_page_for_errors_does_not_replace_the_services_own_answers() {
    let inherited = (
        "location /api/ {",
        "proxy_intercept_errors on; location /api/ {",
    );
    let protection = "proxy_intercept_errors off;\n        proxy_pass http://127.0.0.1";
    let control = [inherited, (protection, "proxy_pass http://127.0.0.1")];
    for (changes, kept) in [
        (&[][..], true),
        (&[inherited][..], true),
        (&control[..], false),
    ] {
        let (kind, setup) = (ProxyKind::Nginx, Setup::default());
        let Some(site) = Site::start(kind, "own answers", setup, changes).await else {
            return;
        };
        let key = key(&site).await;
        for status in [403, 500, 503] {
            let path = format!("/api/status/{status}");
            let answer = site.get(ALICE, &path, &key).await;
            // The sample has no page for 503.
            let is_own = answer.status == status && answer.text().contains(&path);
            assert_eq!(is_own, kept || status == 503, "{status} {answer:?}");
        }
    }
}

/// Only an application that is away is 503: a wrong demand would stay wrong.
#[actix_web::test]
async fn an_application_that_does_not_answer_is_503_and_a_wrong_call_is_500() {
    for (changes, status) in [
        (
            &[("gateway/verify?scope=orders:read", "gateway/verify?scope=")][..],
            500,
        ),
        (&[("gateway/verify?", "another/verify?")][..], 500),
        (
            &[("proxy_read_timeout 5s;", "proxy_read_timeout 100ms;")][..],
            503,
        ),
    ] {
        let store = GateStore::new();
        let setup = Setup {
            store: Arc::<GateStore>::clone(&store) as Arc<dyn KeyStore>,
            ..Setup::default()
        };
        let Some(site) = Site::start(ProxyKind::Nginx, "away", setup, changes).await else {
            return;
        };
        let gate = store.gate_before(Call::Find);
        let answer = site.get(ALICE, "/api/orders", &forge::unknown()).await;
        assert_eq!(answer.status, status, "{changes:?} {answer:?}");
        assert_eq!(site.served().await, 0);
        gate.open();
    }
}

/// nginx drops headers with `_` by default.
#[actix_web::test]
async fn with_inherited_underscores_no_spelling_of_a_fact_is_the_clients() {
    let names = [
        "X-Apikey-Id",
        "X-Apikey-Owner",
        "X-Apikey-Scopes",
        "X-Apikey-Status",
    ];
    let spellings: Vec<String> = names.into_iter().flat_map(other_spellings).collect();
    let lines: Vec<String> = spellings
        .iter()
        .map(|name| format!("proxy_set_header {name} \"\";"))
        .collect();
    let control: Vec<_> = lines.iter().map(|line| (line.as_str(), "")).collect();
    for (more, forged) in [(&[][..], 0), (&control[..], spellings.len())] {
        let inherited = (
            "location /api/ {",
            "underscores_in_headers on; location /api/ {",
        );
        let changes = [&[inherited], more].concat();
        let (kind, setup) = (ProxyKind::Nginx, Setup::default());
        let Some(site) = Site::start(kind, "underscores", setup, &changes).await else {
            return;
        };
        let mut request = Request::new("GET", "/api/orders").key(&key(&site).await);
        for name in &spellings {
            request = request.header(name, "forged");
        }
        let answer = site.send(ALICE, &request).await;
        assert_eq!(
            answer.text().matches("forged").count(),
            forged,
            "{answer:?}"
        );
    }
}

#[actix_web::test]
async fn an_inherited_cache_keeps_no_answer() {
    let cache = "proxy_cache_path cached keys_zone=answers:1m; upstream apikey_application {";
    let used = "proxy_cache answers; proxy_cache_key $uri; proxy_cache_valid any 1m; \
                proxy_ignore_headers Cache-Control Expires; location /api/ { proxy_cache off;";
    let inherited = [
        ("upstream apikey_application {", cache),
        ("location /api/ {", used),
    ];
    let Some(status) = without_a_key(&inherited).await else {
        return;
    };
    assert_eq!(status, 401);
    let last = "proxy_cache off;\n        # The scopes";
    let control = [&inherited[..], &[(last, "# The scopes")]].concat();
    assert_eq!(without_a_key(&control).await, Some(200));
}

#[actix_web::test]
async fn an_inherited_satisfy_any_skips_no_check() {
    let any = "satisfy any; allow all; location /api/ {";
    stays_closed(&[("location /api/ {", any)], "satisfy all;").await;
}

/// By naming them in `Connection`, a client makes a proxy drop headers.
#[actix_web::test]
async fn a_client_does_not_erase_the_facts_of_its_key() {
    let lines = ["Id", "Owner", "Scopes"]
        .map(|name| format!("header_up X-Apikey-{name} {{http.request.header.X-Apikey-{name}}}"));
    let control: Vec<_> = lines.iter().map(|line| (line.as_str(), "")).collect();
    for (changes, kept) in [(&[][..], true), (&control[..], false)] {
        let (kind, setup) = (ProxyKind::Caddy, Setup::default());
        let Some(site) = Site::start(kind, "named headers", setup, changes).await else {
            return;
        };
        let create = site.manager.create("a").owner("acme");
        let key = create.scopes(["orders:read"]).await.unwrap();
        let request = Request::new("GET", "/api/orders").key(key.expose_secret());
        let named = "X-Apikey-Id, X-Apikey-Owner, X-Apikey-Scopes";
        let answer = site.send(ALICE, &request.header("Connection", named)).await;
        assert_eq!(answer.status, 200);
        let owner = header(&answer, "x-apikey-owner");
        assert_eq!(owner.contains(&"acme".to_owned()), kept, "{owner:?}");
    }
}
