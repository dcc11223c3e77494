//! An application's own pages for keys, over HTTP: the errors of the manager are its answers.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, Error, KeyId, api_key_required};
use apikey_test_support::http::{Answer, Server};
use serde_json::{Value, json};

use crate::{HOUR, fleets};

type Query = web::Query<HashMap<String, String>>;

/// Creates a key for the owner of the caller's key, with scopes that the caller's key has.
#[api_key_required(scope = "keys:write")]
async fn create(
    key: ApiKey,
    manager: web::Data<ApiKeyManager>,
    query: Query,
) -> Result<HttpResponse, Error> {
    let scopes = query.get("scopes").map_or("", String::as_str);
    let mut create = manager
        .create("made")
        .owner(key.owner().unwrap_or_default())
        .scopes(scopes.split_whitespace())
        .granted_by(key.scopes());
    if let Some(hours) = query.get("hours").and_then(|hours| hours.parse().ok()) {
        create = create.expires_in(Duration::from_secs(hours) * 3_600);
    }
    let made = create.await?;
    Ok(HttpResponse::Created().json(made.record().view()))
}

#[api_key_required(scope = "keys:write")]
async fn rename(
    key: ApiKey,
    manager: web::Data<ApiKeyManager>,
    id: web::Path<KeyId>,
    query: Query,
) -> Result<HttpResponse, Error> {
    let mut update = manager
        .update(*id)
        .label("renamed")
        .owned_by(key.owner().unwrap_or_default());
    if let Some(version) = query.get("version").and_then(|text| text.parse().ok()) {
        update = update.if_version(version);
    }
    Ok(HttpResponse::Ok().json(update.await?.view()))
}

#[api_key_required(scope = "keys:write")]
async fn show(
    key: ApiKey,
    manager: web::Data<ApiKeyManager>,
    id: web::Path<KeyId>,
) -> Result<HttpResponse, Error> {
    let owner = key.owner().unwrap_or_default().to_owned();
    let record = manager.get(*id).owned_by(owner).await?;
    Ok(HttpResponse::Ok().json(record.view()))
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.app_data(web::Data::new(manager.clone()))
            .route("/create", web::get().to(create))
            .route("/rename/{id}", web::get().to(rename))
            .route("/show/{id}", web::get().to(show));
    })
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// Returns what the page shows of a rule.
#[track_caller]
fn rule(answer: &Answer) -> String {
    let problem = json(answer);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(problem["type"], "urn:problem-type:api-key:policy");
    problem["detail"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn a_page_shows_which_rule_does_not_permit_a_key() {
    for fleet in fleets().await {
        let config = Config::builder()
            .max_lifetime(30 * 24 * HOUR)
            .max_keys_per_owner(3)
            .allowed_scopes(["orders:read", "keys:write"]);
        let manager = ApiKeyManager::builder()
            .config(config.build().unwrap())
            .shared_store(fleet.store());
        let manager = manager.start().await.unwrap();
        let own = manager.create("own").owner("acme").expires_in(24 * HOUR);
        let own = own.scopes(["keys:write"]).await.unwrap();
        let server = serve(&manager);
        let create = async |query: &str| {
            let path = format!("/create?{query}");
            server.get(&path, own.expose_secret()).await
        };
        for (query, text) in [
            (
                "hours=721",
                "a key may live for at most 30 days; choose an earlier expiry",
            ),
            ("", "a key must have an expiry; choose one within 30 days"),
            (
                "hours=1&scopes=admin",
                "a key may not have the scope `admin`; choose scopes that are allowed",
            ),
            (
                "hours=1&scopes=orders:read",
                "only a holder of the scope `orders:read` can grant it to a key; choose scopes that you hold",
            ),
        ] {
            assert_eq!(rule(&create(query).await), text, "{} {query}", fleet.name);
        }
        for _ in 0..2 {
            let made = create("hours=720&scopes=keys:write").await;
            assert_eq!(made.status, 201, "{made:?}");
            assert_eq!(json(&made)["owner"], "acme");
        }
        assert_eq!(
            rule(&create("hours=1").await),
            "the owner has 3 live keys, and may not have more; revoke a key that is not used"
        );
        let live = manager.list().owner("acme").with_usage().await.unwrap();
        assert_eq!((live.keys.len(), live.live_keys), (3, Some(3)));
    }
}

#[actix_web::test]
async fn a_page_of_an_owner_does_not_tell_of_other_owners_keys() {
    for fleet in fleets().await {
        let manager = ApiKeyManager::builder().shared_store(fleet.store());
        let manager = manager.start().await.unwrap();
        let key = |owner: &str| manager.create("k").owner(owner).scopes(["keys:write"]);
        let own = key("acme").await.unwrap();
        let foreign = key("globex").await.unwrap();
        let revoked = key("globex").await.unwrap();
        manager.revoke(revoked.id()).await.unwrap();
        let server = serve(&manager);
        let get = async |path: String| server.get(&path, own.expose_secret()).await;
        for call in ["show", "rename"] {
            let missing = get(format!("/{call}/{}", KeyId::from_u128(9))).await;
            assert_eq!(missing.status, 404, "{missing:?}");
            for id in [foreign.id(), revoked.id()] {
                for query in ["", "?version=1", "?version=9"] {
                    let answer = get(format!("/{call}/{id}{query}")).await;
                    assert_eq!(answer.timeless(), missing.timeless(), "{}", fleet.name);
                }
            }
        }
        // Controls: the own key is shown and renamed, if it was not changed meanwhile.
        let shown = get(format!("/show/{}", own.id())).await;
        assert_eq!((shown.status, &json(&shown)["version"]), (200, &json!(1)));
        let renamed = get(format!("/rename/{}?version=1", own.id())).await;
        assert_eq!(json(&renamed)["label"], "renamed", "{renamed:?}");
        let stale = get(format!("/rename/{}?version=1", own.id())).await;
        assert_eq!(stale.status, 409, "{stale:?}");
    }
}
