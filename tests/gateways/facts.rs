//! The facts of the original request: what a trusted gateway states, and nothing that its client or another caller says.

use apikey_runtime::ApiKeyManager;

use crate::app::{CLIENT, Call, manager, manager_with, serve, trusting};

/// Creates a key that is restricted to a network, or to a method.
async fn restricted(manager: &ApiKeyManager, network: &str, method: &str) -> String {
    let mut create = manager.create("a");
    if !network.is_empty() {
        create = create.networks([network.parse().unwrap()]);
    }
    if !method.is_empty() {
        create = create.methods([method]);
    }
    create.await.unwrap().expose_secret().to_owned()
}

#[actix_web::test]
async fn the_method_of_the_original_request_counts() {
    let manager = manager().await;
    let server = serve(&manager);
    let reading = restricted(&manager, "", "GET").await;
    let call = || Call::to("/verify").key(&reading);
    let (forwarded, original) = ("X-Forwarded-Method", "X-Original-Method");
    for (call, accepted) in [
        (call(), true),
        (call().set(forwarded, "HEAD"), true),
        (call().without(forwarded).with(original, "GET"), true),
        (call().with(original, "GET"), true),
        // The method of the gateway's own call does not count.
        (call().calling("POST"), true),
        (call().calling("BREW"), true),
        (call().set(forwarded, "POST"), false),
        (call().set(forwarded, "get"), false),
        (call().set(forwarded, ""), false),
        (call().set(forwarded, "GET, POST"), false),
        (call().without(forwarded), false),
        (call().without(forwarded).with(original, "POST"), false),
        // A client wrote one of them.
        (call().with(original, "POST"), false),
        (call().set(forwarded, "POST").with(original, "GET"), false),
        (call().with(forwarded, "POST"), false),
        (call().set(forwarded, "\u{e9}"), false),
    ] {
        let answer = call.send(&server).await;
        match accepted {
            true => answer.says(""),
            false => answer.refused(403, "method-not-permitted"),
        }
    }
    // A rule's own methods are judged by the same fact.
    let plain = restricted(&manager, "", "").await;
    let call = |method: &str| {
        let call = Call::to("/verify-rule/posting/x").key(&plain);
        call.set(forwarded, method)
    };
    call("POST").send(&server).await.says("");
    let answer = call("GET").calling("POST").send(&server).await;
    answer.refused(403, "method-not-permitted");
}

/// Envoy calls with the method of the original request, and states no other.
#[actix_web::test]
async fn the_gateways_own_method_counts_if_the_rule_says_so() {
    let manager = manager().await;
    let server = serve(&manager);
    let reading = restricted(&manager, "", "GET").await;
    let call = || {
        let call = Call::to("/verify-rule/envoy/x").key(&reading);
        call.without("X-Forwarded-Method")
    };
    call().send(&server).await.says("");
    for forged in ["X-Forwarded-Method", "X-Original-Method"] {
        let answer = call().calling("POST").with(forged, "GET");
        let answer = answer.send(&server).await;
        answer.refused(403, "method-not-permitted");
        call().with(forged, "POST").send(&server).await.says("");
    }
    // Without a client, the call may be anybody's.
    let unknown = call().without("X-Forwarded-For").send(&server).await;
    unknown.refused(403, "method-not-permitted");
}

#[actix_web::test]
async fn the_address_of_the_client_counts() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = restricted(&manager, "192.0.2.0/24", "").await;
    let here = restricted(&manager, "127.0.0.0/8", "").await;
    let header = "X-Forwarded-For";
    let call = || Call::to("/verify").key(&key);
    for (call, accepted) in [
        (call(), true),
        (call().set(header, "198.51.100.1, 192.0.2.9"), true),
        (call().set(header, "198.51.100.1"), false),
        // A forged entry stands further left.
        (call().set(header, "192.0.2.9, 198.51.100.1"), false),
        (call().with(header, "198.51.100.1"), false),
        (call().set(header, "unknown"), false),
        (call().without(header), false),
        (call().set("X-Real-IP", CLIENT).without(header), false),
        (
            call().set("Forwarded", "for=192.0.2.9").without(header),
            false,
        ),
    ] {
        let answer = call.send(&server).await;
        match accepted {
            true => answer.says(""),
            false => answer.refused(403, "address-not-permitted"),
        }
    }
    // The gateway's own address is not the client's.
    for call in [Call::to("/verify"), Call::to("/verify").without(header)] {
        let answer = call.key(&here).send(&server).await;
        answer.refused(403, "address-not-permitted");
    }
}

#[actix_web::test]
async fn the_clients_use_of_tls_counts() {
    let manager = manager().await;
    let server = serve(&manager);
    let key = restricted(&manager, "", "").await;
    let (header, call) = (
        "X-Forwarded-Proto",
        Call::to("/verify-rule/secure/x").key(&key),
    );
    call.send(&server).await.says("");
    for call in [
        call.clone().set(header, "http"),
        call.clone().with(header, "http"),
        call.clone().without(header),
        call.clone().without("X-Forwarded-For"),
    ] {
        call.send(&server).await.refused(403, "https-required");
    }
}

#[actix_web::test]
async fn the_header_forwarded_counts_if_it_is_configured() {
    let manager = manager_with(trusting("Forwarded")).await;
    let server = serve(&manager);
    let key = restricted(&manager, "192.0.2.0/24", "GET").await;
    let call = Call::to("/verify-rule/secure").key(&key);
    let stated = "for=192.0.2.9;proto=https";
    call.clone()
        .with("Forwarded", stated)
        .send(&server)
        .await
        .says("");
    call.send(&server).await.refused(403, "https-required");
}

/// From a caller that is not a trusted proxy, no fact is known.
#[actix_web::test]
async fn another_caller_states_nothing() {
    let untrusting = apikey_runtime::Config::builder();
    let elsewhere = apikey_runtime::Config::builder()
        .trusted_proxies(["10.0.0.0/8", "192.0.2.0/24"])
        .forwarded_header("X-Forwarded-For");
    for config in [untrusting, elsewhere] {
        let manager = manager_with(config).await;
        let server = serve(&manager);
        let plain = restricted(&manager, "", "").await;
        let reading = restricted(&manager, "", "GET").await;
        let client = restricted(&manager, "192.0.2.0/24", "").await;
        let here = restricted(&manager, "127.0.0.0/8", "").await;
        for (key, path, reason) in [
            (&reading, "/verify", "method-not-permitted"),
            (&reading, "/verify-rule/envoy", "method-not-permitted"),
            (&client, "/verify", "address-not-permitted"),
            (&here, "/verify", "address-not-permitted"),
            (&plain, "/verify-rule/secure", "https-required"),
            (&plain, "/verify-rule/posting", "method-not-permitted"),
        ] {
            let call = Call::to(path).key(key).calling("POST");
            call.send(&server).await.refused(403, reason);
            let call = Call::to(path).key(key).set("X-Forwarded-Method", "POST");
            call.send(&server).await.refused(403, reason);
        }
        Call::to("/verify").key(&plain).send(&server).await.says("");
    }
}
