//! Negative controls of the tests in `through.rs`: the same requests, with a line of the sample configuration taken out or
//! written wrongly.

use apikey_runtime::Rate;
use apikey_test_support::servers::reverse_proxy::ProxyKind;

use crate::site::{ALICE, MALLORY, Request, Setup, Site, header};
use crate::through::{after_junk, few_attempts, forged, key, with_methods};

/// Negative control: without the lines that replace or remove them, the headers reach the service.
#[actix_web::test]
async fn control_without_these_lines_the_service_gets_what_a_client_says() {
    let changes = [
        (
            ProxyKind::Nginx,
            vec![("proxy_set_header X-Apikey-Owner $apikey_owner;", "")],
        ),
        (
            ProxyKind::Caddy,
            vec![
                ("request_header -X-Apikey*", ""),
                ("request_header -X_Apikey*", ""),
                (
                    "copy_headers X-Apikey-Id X-Apikey-Owner X-Apikey-Scopes",
                    "",
                ),
            ],
        ),
    ];
    for (kind, changes) in changes {
        let Some(site) = Site::start(kind, "control of headers", Setup::default(), &changes).await
        else {
            continue;
        };
        let key = key(&site).await;
        let request = Request::new("GET", "/api/orders").key(&key);
        let answer = site
            .send(ALICE, &request.header("X-Apikey-Owner", "forged"))
            .await;
        assert_eq!(header(&answer, "x-apikey-owner"), ["forged"], "{kind:?}");
    }
}

/// Negative control: a gateway that states another method than the client's is believed.
#[actix_web::test]
async fn control_a_wrong_method_of_the_gateway_is_believed() {
    let kind = ProxyKind::Nginx;
    let changes = [("$request_method", "GET")];
    let Some(site) = Site::start(kind, "control of methods", Setup::default(), &changes).await
    else {
        return;
    };
    let key = site
        .manager
        .create("a")
        .scopes(["orders:read"])
        .methods(["GET"])
        .await
        .unwrap();
    let statuses = with_methods(&site, key.expose_secret(), &["DELETE"]).await;
    assert_eq!(statuses, [200]);
}

/// Negative control: a gateway that passes on what the client wrote makes each address reachable.
#[actix_web::test]
async fn control_a_forwarded_address_of_the_client_is_believed() {
    let changes = [
        (
            ProxyKind::Nginx,
            (
                "proxy_set_header X-Forwarded-For $remote_addr;",
                "proxy_set_header X-Forwarded-For $http_x_forwarded_for;",
            ),
        ),
        (
            ProxyKind::Caddy,
            (
                "header_up -Cookie",
                "header_up X-Forwarded-For {http.request.header.X-Real-IP}",
            ),
        ),
    ];
    for (kind, change) in changes {
        let Some(site) =
            Site::start(kind, "control of networks", Setup::default(), &[change]).await
        else {
            continue;
        };
        let network = format!("{ALICE}/32").parse().unwrap();
        let create = site.manager.create("a").scopes(["orders:read"]);
        let key = create.networks([network]).await.unwrap();
        let answer = site
            .send(MALLORY, &forged("GET", "/api/orders", key.expose_secret()))
            .await;
        assert_eq!(answer.status, 200, "{kind:?}");
    }
}

/// Negative control: a gateway that passes on the client's query lets it set the cost. A parameter that it repeats is not
/// accepted.
#[actix_web::test]
async fn control_a_passed_on_query_sets_the_cost() {
    let changes = [
        (
            ProxyKind::Nginx,
            vec![
                // In a subrequest, `$args` is that of the subrequest.
                (
                    "auth_request /_apikey;",
                    "set $client_args $args; auth_request /_apikey;",
                ),
                ("for=nginx;", "for=nginx&$client_args;"),
            ],
        ),
        (
            ProxyKind::Caddy,
            vec![(
                "?scope=orders:read",
                "?scope=orders:read&{http.request.uri.query}",
            )],
        ),
    ];
    for (kind, changes) in changes {
        let site = Site::start(kind, "control of the query", Setup::default(), &changes).await;
        let Some(site) = site else {
            continue;
        };
        let create = site.manager.create("b").scopes(["orders:read"]);
        let key = create
            .limit("all", Rate::per_day(1).with_burst(1))
            .await
            .unwrap();
        for _ in 0..3 {
            let answer = site
                .get(ALICE, "/api/orders?cost=0", key.expose_secret())
                .await;
            assert_eq!(answer.status, 200, "{kind:?}");
        }
        let answer = site
            .get(ALICE, "/api/orders?scope=a:b", key.expose_secret())
            .await;
        assert_eq!(answer.status, 500, "{kind:?}");
        assert_eq!(site.served().await, 3, "{kind:?}");
    }
}

/// Negative control: if all clients are one, the junk of each blocks all.
#[actix_web::test]
async fn control_clients_that_a_gateway_does_not_tell_apart_block_each_other() {
    let changes = [
        (
            ProxyKind::Nginx,
            (
                "X-Forwarded-For $remote_addr;",
                "X-Forwarded-For 192.0.2.1;",
            ),
        ),
        (
            ProxyKind::Caddy,
            ("header_up -Cookie", "header_up X-Forwarded-For 192.0.2.1"),
        ),
    ];
    for (kind, change) in changes {
        let Some(site) = Site::start(kind, "control of junk", few_attempts(), &[change]).await
        else {
            continue;
        };
        assert_eq!(after_junk(&site).await.status, 429, "{kind:?}");
    }
}
