//! Settings of nginx outside the sample, which its locations inherit, and what a client makes Caddy drop. Each has its negative
//! control: without the protecting line, a request without a key gets through, or a header is gone.

use apikey_test_support::servers::reverse_proxy::ProxyKind;

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
    stays_closed(
        &[("location /api/ {", login)],
        "proxy_intercept_errors off;",
    )
    .await;
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

/// A service of WSGI or CGI reads all of them as one.
#[test]
fn the_samples_of_other_gateways_remove_each_spelling() {
    let traefik = include_str!("../../apikey-portal/docs/gateways/traefik.yaml");
    let forward = include_str!("../../apikey-portal/docs/gateways/apisix-forward-auth.json");
    let introspect = include_str!("../../apikey-portal/docs/gateways/apisix-introspection.json");
    for name in ["Id", "Owner", "Scopes"] {
        for (first, second) in [("_", "_"), ("-", "_"), ("_", "-")] {
            let spelling = format!("X{first}Apikey{second}{name}");
            for sample in [traefik, forward, introspect] {
                assert!(sample.contains(&spelling), "{spelling}: {sample}");
            }
        }
    }
}
