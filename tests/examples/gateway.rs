//! The example `gateway`, with nginx started by the configuration that it prints.

use std::path::Path;

use apikey_test_support::http::Client;
use apikey_test_support::servers::reverse_proxy::{EchoService, ProxyKind, ReverseProxy};

use super::{Example, run};

const SAMPLE: &str = include_str!("../../apikey-portal/docs/gateways/nginx.conf");

/// The part of its output that is to be pasted.
fn printed_configuration(example: &Example) -> String {
    let lines = example.printed.iter();
    let lines = lines.skip_while(|line| !line.starts_with("Write this to "));
    lines.skip(1).map(|line| format!("{line}\n")).collect()
}

#[actix_web::test]
async fn gateway_prints_a_key_and_a_configuration_that_nginx_accepts() {
    const TEST: &str = "gateway_prints_a_key_and_a_configuration_that_nginx_accepts";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let variables = [("APIKEYS_DB", path.as_path())];
    let example = Example::start("gateway", 1, &variables).await;
    let key = example.keys().remove("key").unwrap();
    let asked = example
        .get("/gateway/verify-rule/orders/any/path?cost=0", Some(&key))
        .await;
    asked.says("");
    assert_eq!(asked.header("x-apikey-scopes"), Some("orders:read"));

    let site = printed_configuration(&example);
    assert!(site.contains(&example.addresses[0].to_string()), "{site}");
    let Some(service) = EchoService::start(TEST) else {
        return;
    };
    let site = site.replace("127.0.0.1:9000", &service.address.to_string());
    let Some(nginx) = ReverseProxy::start(ProxyKind::Nginx, TEST, &site) else {
        return;
    };
    let authorization = format!("Bearer {key}");
    for (headers, status) in [
        (vec![("Authorization", authorization.as_str())], 200),
        (vec![], 401),
    ] {
        let mut client = Client::connect(nginx.address).await;
        let answer = client.get("/api/orders", &headers).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }

    // Another key, while it serves; and the sample as it is in the docs.
    let (fine, made) = run("gateway", &["new-key", "CI"], &variables);
    assert!(fine && made.starts_with("key: my_api_"), "{made}");
    let (fine, printed) = run(
        "gateway",
        &["nginx"],
        &[("APIKEYS_DB", Path::new("/nowhere"))],
    );
    assert!(fine, "{printed}");
    assert_eq!(printed, SAMPLE);
}
