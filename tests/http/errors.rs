//! Errors of the manager that a handler returns with `?`.

use std::collections::HashMap;
use std::error::Error as _;

use actix_web::{ResponseError, web};
use apikey_runtime::manager::PolicyViolation;
use apikey_runtime::store::StoreError;
use apikey_runtime::{ApiKeyManager, Error, KeyId};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::log::Log;
use apikey_test_support::store::{Call, Fault, GateStore};
use apikey_test_support::{manager, manager_on};

async fn label(manager: web::Data<ApiKeyManager>, id: web::Path<KeyId>) -> Result<String, Error> {
    Ok(manager.get(*id).await?.label)
}

async fn rotate(
    manager: web::Data<ApiKeyManager>,
    id: web::Path<KeyId>,
) -> actix_web::Result<String> {
    let key = manager.rotate(*id).await?;
    Ok(key.expose_secret().to_owned())
}

async fn create(
    manager: web::Data<ApiKeyManager>,
    query: web::Query<HashMap<String, String>>,
) -> actix_web::Result<String> {
    Ok(manager.create(&query["label"]).await?.label().to_owned())
}

/// Texts that only developers may read.
const PLANTED: &str = "planted SELECT digest FROM /var/lib/keys.db";

/// Returns an error of each kind, with its status and the last part of its problem's type.
fn errors() -> Vec<(Error, u16, &'static str)> {
    let planted = || PLANTED.to_owned();
    let id = KeyId::from_u128(7);
    let source = || std::io::Error::other("os error 28").into();
    let backend = StoreError::Backend {
        reason: planted(),
        source: source(),
    };
    let down = StoreError::Unavailable {
        reason: planted(),
        source: Some(source()),
    };
    let corrupt = StoreError::Corrupt {
        id: planted(),
        reason: planted(),
    };
    vec![
        (Error::NotFound(id), 404, "not-found"),
        (StoreError::NotFound.into(), 404, "not-found"),
        (Error::Revoked(id), 409, "conflict"),
        (StoreError::Conflict.into(), 409, "conflict"),
        (Error::Conflict(id), 409, "conflict"),
        (
            PolicyViolation::TooManyKeys { max: 3 }.into(),
            422,
            "policy",
        ),
        (Error::InvalidArgument(planted()), 400, "invalid-argument"),
        (down.into(), 503, "unavailable"),
        (Error::ShutDown, 503, "unavailable"),
        (backend.into(), 500, "internal-error"),
        (corrupt.into(), 500, "internal-error"),
        (
            StoreError::InvalidArgument(planted()).into(),
            400,
            "invalid-argument",
        ),
        (Error::Config(planted()), 500, "internal-error"),
        (Error::Random(source()), 500, "internal-error"),
        (Error::Hasher(source()), 500, "internal-error"),
        (Error::AlreadyInstalled, 500, "internal-error"),
    ]
}

async fn failing(number: web::Path<usize>) -> Result<String, Error> {
    Err(errors().swap_remove(*number).0)
}

fn serve(manager: &ApiKeyManager) -> Server {
    let manager = manager.clone();
    Server::start(move |app| {
        manager.init_app(app);
        app.route("/label/{id}", web::get().to(label))
            .route("/rotate/{id}", web::get().to(rotate))
            .route("/create", web::get().to(create))
            .route("/failing/{number}", web::get().to(failing));
    })
}

#[track_caller]
fn is(answer: &Answer, status: u16, code: &str) {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:problem-type:api-key:{code}"));
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let retry = (status == 503).then_some("1");
    assert_eq!(answer.header("retry-after"), retry);
}

#[actix_web::test]
async fn a_handler_may_return_an_error_of_the_manager() {
    let store = GateStore::new();
    let manager = manager_on(store.clone()).await;
    let key = manager.create("a").await.unwrap();
    let server = serve(&manager);
    let path = |call: &str| format!("/{call}/{}", key.id());
    server.get(&path("label"), None).await.says("a");
    // Not the one of `errors`: the tests share a log.
    let unknown = format!("/label/{}", KeyId::from_u128(8));
    is(&server.get(&unknown, None).await, 404, "not-found");
    is(
        &server.get("/create?label=", None).await,
        400,
        "invalid-argument",
    );
    manager.revoke(key.id()).await.unwrap();
    is(&server.get(&path("rotate"), None).await, 409, "conflict");
    let unknown = Error::OwnerNotFound("acme".to_owned());
    assert_eq!(unknown.status_code(), 404);
    store.fail(Call::Find, Fault::Unavailable);
    is(&server.get(&path("label"), None).await, 503, "unavailable");
    store.fail(Call::Find, Fault::Backend);
    is(
        &server.get(&path("label"), None).await,
        500,
        "internal-error",
    );
}

#[actix_web::test]
async fn the_text_of_an_error_goes_to_the_log_once_and_not_to_the_client() {
    let log = Log::capture();
    let server = serve(&manager().await);
    for (number, (error, status, code)) in errors().into_iter().enumerate() {
        let before = log.lines(&[&error.to_string(), "a handler"]).len();
        let answer = server.get(&format!("/failing/{number}"), None).await;
        is(&answer, status, code);
        let seen = answer.timeless();
        for word in ["planted", "SELECT", "/var", "os error", "0000007", "list"] {
            assert!(!seen.contains(word), "{word}: {seen}");
        }
        let lines = log.lines(&[&error.to_string(), "a handler"]);
        assert_eq!(lines.len(), before + 1, "{error}");
        let (mut last, mut source) = (String::new(), error.source());
        while let Some(cause) = source {
            last = cause.to_string();
            source = cause.source();
        }
        assert!(lines[before].contains(&last), "{}", lines[before]);
    }
    // The chain of sources ends in the error of the system.
    assert!(!log.lines(&[PLANTED, "os error 28", "ERROR"]).is_empty());
    assert!(!log.lines(&[PLANTED, "os error 28", "WARN"]).is_empty());
}
