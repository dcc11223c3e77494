//! Paths that a gateway and a service may read differently: the gateway chooses the demands by the path without dot segments,
//! and passes on the path as the client wrote it.

use apikey_test_support::servers::reverse_proxy::ProxyKind;

use crate::site::{ALICE, Setup, Site, got};
use crate::through::key;

/// Paths that some gateway or service reads as another one.
const CONFUSING: [&str; 16] = [
    "/zzz/../api/x",
    "/zzz/%2e./api/x",
    "/zzz/.%2E/api/x",
    "/zzz/%2e%2E/api/x",
    "/zzz/..%2fapi/x",
    "/zzz%2F../api/x",
    "/zzz%3f/../api/x",
    "/api/../admin/x",
    "/api/./x",
    "/api/%2e",
    "/api/..?a=b",
    "/api/..\\admin",
    "/api/..%5Cadmin",
    "/api\\..\\admin",
    "/api/..;/admin",
    "/api/..%3ba=b/admin",
];

/// Paths that all read alike, with dots.
const PLAIN: [&str; 6] = [
    "/api/x?next=/../y",
    "/api/.well-known",
    "/api/..x",
    "/api/x..",
    "/api/...",
    "/api/v1.2/a.b",
];

#[actix_web::test]
async fn a_path_that_may_be_read_as_another_is_not_passed_on() {
    for site in Site::every("dot segments").await {
        let (kind, key) = (site.kind, key(&site).await);
        for path in CONFUSING {
            let status = site.get(ALICE, path, &key).await.status;
            // What is not below `/api/` for the gateway is not served at all.
            assert!([400, 404].contains(&status), "{kind:?} {path} {status}");
        }
        assert_eq!(site.served().await, 0, "{kind:?}");
        for path in PLAIN {
            let answer = site.get(ALICE, path, &key).await;
            assert_eq!(got(&answer)["path"], path, "{kind:?}");
        }
    }
}

/// Negative control: the service gets the path that the gateway did not judge.
#[actix_web::test]
async fn control_without_the_line_the_service_gets_another_path() {
    for (kind, line) in [
        (ProxyKind::Nginx, "return 400;"),
        (ProxyKind::Caddy, "respond @dots 400"),
    ] {
        let setup = Setup::default();
        let Some(site) = Site::start(kind, "control of paths", setup, &[(line, "")]).await else {
            continue;
        };
        let path = "/zzz/../api/x";
        let answer = site.get(ALICE, path, &key(&site).await).await;
        assert_eq!(got(&answer)["path"], path, "{kind:?}");
    }
}
