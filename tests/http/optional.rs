//! Optional keys: a missing key is anonymous, an invalid key is denied.

use std::time::Duration;

use actix_web::get;
use apikey_runtime::{ApiKey, ApiKeyManager, api_key_required};
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{forge, manager_on};

#[get("/who")]
#[api_key_required(optional)]
async fn who(key: Option<ApiKey>) -> String {
    key.map_or("anonymous".to_owned(), |key| key.label().to_owned())
}

#[get("/scoped")]
#[api_key_required(optional, scope = "a", location = header("X-API-Key"))]
async fn scoped(key: Option<ApiKey>) -> String {
    key.map_or("anonymous".to_owned(), |key| key.label().to_owned())
}

/// Hides the type, since the attribute rejects `ApiKey` on this route.
type Demanded = ApiKey;

/// The extractor requires a key although the guard does not.
#[get("/demanding")]
#[api_key_required(optional)]
async fn demanding(key: Demanded) -> String {
    key.label().to_owned()
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.service((who, scoped, demanding));
    })
}

#[actix_web::test]
async fn without_a_key_or_with_another_scheme_a_caller_is_anonymous() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").scopes(["a"]).await.unwrap();
    let server = serve(&manager);
    server.get("/who", None).await.says("anonymous");
    server
        .get_with("/who", &[("Authorization", "Basic eDp5")])
        .await
        .says("anonymous");
    server
        .get_with("/who", &[("X-API-Key", key.expose_secret())])
        .await
        .says("anonymous");
    server
        .get("/scoped", key.expose_secret())
        .await
        .says("anonymous");
    assert_eq!(store.count(Call::Find), 0);
    server.get("/who", key.expose_secret()).await.says("a");
    server
        .get_with("/scoped", &[("X-API-Key", key.expose_secret())])
        .await
        .says("a");
}

#[actix_web::test]
async fn a_key_that_is_there_and_bad_is_refused_and_never_anonymous() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager
        .create("a")
        .expires_in(Duration::from_secs(3600))
        .await
        .unwrap();
    let revoked = manager.create("r").await.unwrap();
    manager.revoke(revoked.id()).await.unwrap();
    let server = serve(&manager);
    for wrong in [
        forge::unknown(),
        forge::wrong_secret(key.expose_secret()),
        "x".to_owned(),
        String::new(),
    ] {
        let value = format!("Bearer {wrong}");
        server
            .get_with("/who", &[("Authorization", &value)])
            .await
            .refused(401, "invalid-key");
    }
    server
        .get("/who", revoked.expose_secret())
        .await
        .refused(401, "revoked-key");
    server
        .get_with("/scoped", &[("X-API-Key", key.expose_secret())])
        .await
        .refused(403, "insufficient-scope");
    let twice = format!("Bearer {}", key.expose_secret());
    let twice = [
        ("Authorization", twice.as_str()),
        ("Authorization", twice.as_str()),
    ];
    server
        .get_with("/who", &twice)
        .await
        .refused(400, "multiple-keys");

    store.fail(Call::Find, Fault::Unavailable);
    let cold = forge::key("my_api", "0000000000000000000009", &"s".repeat(64));
    server
        .get("/who", cold.as_str())
        .await
        .refused(503, "store-unavailable");
    server.get("/who", None).await.says("anonymous");
}

#[actix_web::test]
async fn an_optional_route_does_not_hand_out_a_key_that_is_not_there() {
    let manager = apikey_test_support::manager().await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    server
        .get("/demanding", key.expose_secret())
        .await
        .says("a");
    let answer = server.get("/demanding", None).await;
    assert!(matches!(answer.status, 401 | 500), "{answer:?}");
}
