//! Handlers of every shape, and with two guards.

use std::future::Future;

use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, Responder, get, web};
use apikey_runtime::{ApiKey, api_key_required, api_key_required as admin};
use apikey_test_support::http::Server;
use apikey_test_support::store::{Call, GateStore};
use apikey_test_support::{forge, manager, soon, timeless_manager};
use serde::Deserialize;

mod shapes {
    use super::*;

    #[get("/above")]
    #[api_key_required]
    pub(crate) async fn above() -> &'static str {
        "above"
    }

    #[api_key_required]
    #[get("/beneath")]
    pub(crate) async fn beneath() -> impl Responder {
        "beneath"
    }

    #[get(
        "/wrapped",
        wrap = "DefaultHeaders::new().add((\"X-Wrapped\", \"yes\"))"
    )]
    #[api_key_required]
    pub(crate) async fn wrapped(key: ApiKey) -> impl Responder {
        key.label().to_owned()
    }

    #[api_key_required]
    #[get(
        "/wrapped_below",
        wrap = "DefaultHeaders::new().add((\"X-Wrapped\", \"yes\"))"
    )]
    pub(crate) async fn wrapped_below(key: ApiKey) -> impl Responder {
        key.label().to_owned()
    }

    #[derive(Deserialize)]
    pub(crate) struct Point {
        x: i32,
        y: i32,
    }

    #[get("/patterns/{a}/{b}")]
    #[api_key_required]
    pub(crate) async fn patterns(
        web::Query(Point { x, y }): web::Query<Point>,
        path: web::Path<(i32, i32)>,
        _: HttpRequest,
        mut key: Option<ApiKey>,
    ) -> Result<String, actix_web::Error> {
        let (a, b) = path.into_inner();
        let key = key
            .take()
            .ok_or_else(|| actix_web::error::ErrorImATeapot("no key"))?;
        if x < 0 {
            return Ok("negative".to_owned());
        }
        Ok(format!("{} {}", key.label(), a * x + b * y))
    }

    #[actix_web::routes]
    #[get("/one")]
    #[get("/two")]
    #[api_key_required]
    pub(crate) async fn several(request: HttpRequest) -> String {
        request.path().to_owned()
    }

    pub(crate) trait Name: 'static {
        fn name(&self) -> String;
    }

    #[derive(Deserialize)]
    pub(crate) struct Plain {
        name: String,
    }

    impl Name for Plain {
        fn name(&self) -> String {
            self.name.clone()
        }
    }

    #[api_key_required]
    pub(crate) async fn generic<N>(query: web::Query<N>, key: ApiKey) -> String
    where
        N: Name,
    {
        format!("{} {}", query.name(), key.label())
    }

    #[allow(clippy::manual_async_fn, reason = "a handler can be written so")]
    #[api_key_required]
    pub(crate) fn future(key: ApiKey) -> impl Future<Output = String> {
        async move { format!("future {}", key.label()) }
    }

    /// Names that an expansion might use itself.
    #[get("/names")]
    #[api_key_required(scope = "a")]
    pub(crate) async fn names(request: HttpRequest, payload: web::Bytes, key: ApiKey) -> String {
        struct Guarded;
        struct Policy;
        let (_guarded, _policy, denied) = (Guarded, Policy, "denied");
        format!(
            "{} {} {denied} {}",
            request.path(),
            payload.len(),
            key.label()
        )
    }

    pub(crate) fn routes(app: &mut web::ServiceConfig) {
        app.service((
            above,
            beneath,
            wrapped,
            wrapped_below,
            patterns,
            several,
            names,
        ))
        .route("/generic", web::get().to(generic::<Plain>))
        .route("/future", web::get().to(future));
    }
}

#[actix_web::test]
async fn m05_every_shape_of_a_handler_is_guarded() {
    let manager = manager().await;
    let key = manager.create("a").scopes(["a"]).await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        shapes::routes(app);
    });
    for (path, says) in [
        ("/above", "above"),
        ("/beneath", "beneath"),
        ("/wrapped", "a"),
        ("/wrapped_below", "a"),
        ("/patterns/2/3?x=4&y=5", "a 23"),
        ("/patterns/2/3?x=-4&y=5", "negative"),
        ("/one", "/one"),
        ("/two", "/two"),
        ("/generic?name=tea", "tea a"),
        ("/future", "future a"),
        ("/names", "/names 0 denied a"),
    ] {
        server.get(path, None).await.refused(401, "missing-key");
        server
            .get(path, forge::unknown().as_str())
            .await
            .refused(401, "invalid-key");
        server.get(path, key.expose_secret()).await.says(says);
    }
    for path in ["/wrapped", "/wrapped_below"] {
        // A middleware of the route itself sees the denial as an answer.
        assert_eq!(
            server.get(path, None).await.header("x-wrapped"),
            Some("yes")
        );
    }
    // Without a key, an invalid query is not parsed.
    server
        .get("/patterns/2/3?x=four", None)
        .await
        .refused(401, "missing-key");
    server
        .get("/patterns/x/3", None)
        .await
        .refused(401, "missing-key");
    assert_eq!(
        server
            .get("/patterns/2/3?x=four", key.expose_secret())
            .await
            .status,
        400
    );
}

#[actix_web::test]
async fn m07_a_handler_may_use_the_names_that_an_expansion_might() {
    let manager = manager().await;
    let key = manager.create("a").scopes(["a"]).await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        shapes::routes(app);
    });
    server
        .get("/names", key.expose_secret())
        .await
        .says("/names 0 denied a");
    server.get("/names", None).await.refused(401, "missing-key");
}

mod twice {
    use super::*;
    use apikey_runtime::api_key_required as user;

    #[get("/stacked")]
    #[api_key_required(scope = "admin")]
    #[api_key_required(scope = "user")]
    pub(crate) async fn stacked() -> &'static str {
        "stacked"
    }

    #[get("/stacked_too")]
    #[api_key_required(scope = "user")]
    #[api_key_required(scope = "admin")]
    pub(crate) async fn stacked_too() -> &'static str {
        "stacked_too"
    }

    #[api_key_required(scope = "admin")]
    #[get("/between")]
    #[api_key_required(scope = "user")]
    pub(crate) async fn between() -> &'static str {
        "between"
    }

    #[api_key_required(scope = "user")]
    #[get("/between_too")]
    #[api_key_required(scope = "admin")]
    pub(crate) async fn between_too(key: ApiKey) -> String {
        format!("between_too {}", key.label())
    }

    #[admin(scope = "admin")]
    #[get("/aliased")]
    #[user(scope = "user")]
    pub(crate) async fn aliased(_path: web::Path<()>, _key: ApiKey) -> &'static str {
        "aliased"
    }

    #[user(scope = "user")]
    #[get("/aliased_too")]
    #[admin(scope = "admin")]
    pub(crate) async fn aliased_too() -> &'static str {
        "aliased_too"
    }

    #[get("/aliased_stack")]
    #[admin(scope = "admin")]
    #[user(scope = "user")]
    pub(crate) async fn aliased_stack() -> &'static str {
        "aliased_stack"
    }

    #[admin(scope = "admin")]
    #[user(scope = "user")]
    #[get("/both_below")]
    pub(crate) async fn both_below() -> &'static str {
        "both_below"
    }

    #[admin(scope = "admin")]
    #[get("/with_plain")]
    #[user]
    pub(crate) async fn with_plain() -> &'static str {
        "with_plain"
    }

    pub(crate) fn routes(app: &mut web::ServiceConfig) {
        app.service((
            stacked,
            stacked_too,
            between,
            between_too,
            aliased,
            aliased_too,
        ));
        app.service((aliased_stack, both_below, with_plain));
    }
}

#[actix_web::test]
async fn m12_two_guards_on_one_handler_are_both_enforced() {
    let manager = manager().await;
    let both = manager
        .create("both")
        .scopes(["admin", "user"])
        .await
        .unwrap();
    let only_user = manager.create("user").scopes(["user"]).await.unwrap();
    let only_admin = manager.create("admin").scopes(["admin"]).await.unwrap();
    let none = manager.create("none").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        twice::routes(app);
    });
    for path in [
        "/stacked",
        "/stacked_too",
        "/between",
        "/between_too",
        "/aliased",
        "/aliased_too",
        "/aliased_stack",
        "/both_below",
    ] {
        server.get(path, None).await.refused(401, "missing-key");
        // First with a cold cache, then warm.
        for _ in 0..2 {
            for key in [&only_user, &only_admin, &none] {
                let answer = server.get(path, key.expose_secret()).await;
                assert_eq!(
                    answer.status,
                    403,
                    "{path} with {}: {answer:?}",
                    key.label()
                );
            }
            assert_eq!(
                server.get(path, both.expose_secret()).await.status,
                200,
                "{path}"
            );
        }
    }
    server
        .get("/with_plain", only_user.expose_secret())
        .await
        .refused(403, "insufficient-scope");
    server
        .get("/with_plain", only_admin.expose_secret())
        .await
        .says("with_plain");
    server
        .get("/between_too", both.expose_secret())
        .await
        .says("between_too both");
}

#[actix_web::test]
async fn m12_a_second_guard_on_a_warm_key_asks_the_store_no_more() {
    let store = GateStore::new();
    let manager = timeless_manager(store.clone()).await;
    let both = manager
        .create("both")
        .scopes(["admin", "user"])
        .await
        .unwrap();
    store.polled().await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        twice::routes(app);
    });
    soon(server.get("/stacked", both.expose_secret()))
        .await
        .says("stacked");
    assert_eq!(store.count(Call::Find), 1);
}
