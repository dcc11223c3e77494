//! The callers of `/introspect` and `/revoke` themselves: a gateway that asks by itself is told by its connection, and the
//! client of a trusted proxy by what that states.

use apikey_runtime::{ApiKeyManager, Config, MemoryStore, Rate};
use apikey_test_support::forge;
use apikey_test_support::http::{Answer, Client, Server};

use crate::oauth::{form, serve};

const GATEWAY: &str = "127.0.0.1";
const OTHER_GATEWAY: &str = "127.0.0.3";
const ELSEWHERE: &str = "127.0.0.2";

/// Starts a manager that trusts both gateways.
async fn manager(attempts: Rate) -> ApiKeyManager {
    let config = Config::builder()
        .trusted_proxies([GATEWAY, OTHER_GATEWAY])
        .forwarded_header("X-Forwarded-For")
        .failed_attempts(attempts);
    let builder = ApiKeyManager::builder().config(config.build().unwrap());
    builder.store(MemoryStore::new()).start().await.unwrap()
}

async fn send(
    server: &Server,
    from: &str,
    path: &str,
    headers: &[(&str, &str)],
    token: &str,
) -> Answer {
    let mut client = Client::connect_from(from.parse().unwrap(), server.address).await;
    client
        .send(form(path, headers, &format!("token={token}")))
        .await;
    client.answer().await
}

/// Creates the key of a caller in this network, and returns its header.
async fn caller(manager: &ApiKeyManager, network: &str) -> String {
    let create = manager.create("gateway").scopes(["apikeys:introspect"]);
    let key = create.networks([network.parse().unwrap()]).await.unwrap();
    format!("Bearer {}", key.expose_secret())
}

#[actix_web::test]
async fn the_key_of_a_gateway_may_be_limited_to_its_network() {
    let manager = manager(Rate::per_minute(1_000)).await;
    let server = serve(&manager);
    let own = caller(&manager, "127.0.0.1/32").await;
    let behind = caller(&manager, "192.0.2.0/24").await;
    let (forwarded, standard) = ("X-Forwarded-For", "Forwarded");
    for (from, key, header, status) in [
        (GATEWAY, &own, None, 200),
        (OTHER_GATEWAY, &own, None, 403),
        (ELSEWHERE, &own, None, 403),
        // A client of the gateway, as a route sees it.
        (GATEWAY, &behind, Some((forwarded, "192.0.2.7")), 200),
        (GATEWAY, &own, Some((forwarded, "192.0.2.7")), 403),
        (GATEWAY, &own, Some((forwarded, "unknown")), 403),
        (GATEWAY, &own, Some((forwarded, "")), 403),
        // Another client, of which this gateway says something else.
        (GATEWAY, &own, Some((standard, "for=127.0.0.1")), 403),
        (GATEWAY, &own, Some(("X-Forwarded-Proto", "https")), 403),
        // Whoever is not trusted states nothing.
        (ELSEWHERE, &own, Some((forwarded, GATEWAY)), 403),
        (ELSEWHERE, &own, Some((standard, "for=127.0.0.1")), 403),
        (ELSEWHERE, &behind, Some((forwarded, "192.0.2.7")), 403),
    ] {
        let mut headers = vec![("Authorization", key.as_str())];
        headers.extend(header);
        let answer = send(&server, from, "/introspect", &headers, "x").await;
        assert_eq!(answer.status, status, "{from} {header:?} {answer:?}");
    }
}

/// Without proxies, each caller is its connection.
#[actix_web::test]
async fn without_trusted_proxies_a_caller_is_its_connection() {
    let config = Config::builder().build().unwrap();
    let builder = ApiKeyManager::builder().config(config);
    let manager = builder.store(MemoryStore::new()).start().await.unwrap();
    let server = serve(&manager);
    let own = caller(&manager, "127.0.0.1/32").await;
    for (from, status) in [(GATEWAY, 200), (ELSEWHERE, 403)] {
        for forged in [GATEWAY, ELSEWHERE] {
            let headers = [("Authorization", own.as_str()), ("X-Forwarded-For", forged)];
            let answer = send(&server, from, "/introspect", &headers, "x").await;
            assert_eq!(answer.status, status, "{from} {forged}");
        }
    }
}

#[actix_web::test]
async fn the_guesses_of_a_gateway_at_revoke_block_no_other() {
    let manager = manager(Rate::per_hour(3).with_burst(3)).await;
    let server = serve(&manager);
    let key = manager.create("a").await.unwrap();
    for _ in 0..3 {
        let answer = send(&server, GATEWAY, "/revoke", &[], &forge::unknown()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let right = key.expose_secret();
    let answer = send(&server, GATEWAY, "/revoke", &[], right).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    let answer = send(&server, OTHER_GATEWAY, "/revoke", &[], right).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let page = manager.audit().key(key.id()).await.unwrap();
    let address = page.entries.first().unwrap().origin.address;
    assert_eq!(address, Some(OTHER_GATEWAY.parse().unwrap()));
}

/// The gateway's own wrong keys are those of its address, and not of all callers whose address is not known.
#[actix_web::test]
async fn the_wrong_keys_of_a_gateway_block_no_other() {
    let manager = manager(Rate::per_hour(3).with_burst(3)).await;
    let server = serve(&manager);
    let right = caller(&manager, "127.0.0.0/8").await;
    let wrong = format!("Bearer {}", forge::unknown());
    let introspect = async |from: &str, key: &str| {
        let headers = [("Authorization", key)];
        send(&server, from, "/introspect", &headers, "x")
            .await
            .status
    };
    for status in [401, 401, 401, 429] {
        assert_eq!(introspect(GATEWAY, &wrong).await, status);
    }
    assert_eq!(introspect(OTHER_GATEWAY, &right).await, 200);
}
