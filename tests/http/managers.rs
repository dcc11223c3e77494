//! How a request finds its manager, and which error handler answers a denial.

use std::sync::OnceLock;

use actix_web::http::StatusCode;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpRequest, HttpResponse, get, test, web};
use apikey_runtime::{
    ApiKey, ApiKeyExt, ApiKeyManager, Config, Denied, DenyReason, MemoryStore, NewKey,
    api_key_required,
};
use apikey_test_support::http::Server;
use apikey_test_support::manager;

#[get("/who")]
#[api_key_required]
async fn who(key: ApiKey) -> String {
    key.label().to_owned()
}

/// Takes the manager itself, as handlers can.
#[get("/issue")]
#[api_key_required]
async fn issue(manager: web::Data<ApiKeyManager>) -> String {
    manager
        .create("issued")
        .await
        .unwrap()
        .expose_secret()
        .to_owned()
}

/// Starts two managers with a key each.
async fn two() -> [(ApiKeyManager, NewKey); 2] {
    let (a, b) = (manager().await, manager().await);
    let (key_a, key_b) = (a.create("a").await.unwrap(), b.create("b").await.unwrap());
    [(a, key_a), (b, key_b)]
}

#[actix_web::test]
async fn a_manager_is_found_however_it_was_put_in() {
    let [(manager, key), (_, foreign)] = two().await;
    type Put = fn(&ApiKeyManager, &mut web::ServiceConfig);
    let ways: [Put; 3] = [
        |manager, app| manager.init_app(app),
        |manager, app| {
            app.app_data(web::Data::new(manager.clone()));
        },
        |manager, app| {
            app.app_data(manager.clone());
        },
    ];
    for put in ways {
        let manager = manager.clone();
        let server = Server::start(move |app| {
            put(&manager, app);
            app.service(who);
        });
        for _ in 0..2 {
            server.get("/who", key.expose_secret()).await.says("a");
            server
                .get("/who", foreign.expose_secret())
                .await
                .refused(401, "invalid-key");
        }
    }
}

#[actix_web::test]
async fn a_handler_can_take_the_manager_and_find_it_by_the_request() {
    let [(manager, key), _] = two().await;
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service(issue);
        app.route(
            "/prefix",
            web::get().to(async |request: HttpRequest| {
                request
                    .api_key_manager()
                    .unwrap()
                    .config()
                    .prefix()
                    .to_owned()
            }),
        );
    });
    let issued = server.get("/issue", key.expose_secret()).await.text();
    assert_eq!(manager.verify(&issued).await.unwrap().label(), "issued");
    server.get("/prefix", None).await.says("my_api");
}

#[actix_web::test]
async fn the_nearest_manager_judges() {
    type Put = fn(&ApiKeyManager, &mut web::ServiceConfig);
    let by_init: Put = |manager, app| manager.init_app(app);
    let by_data: Put = |manager, app| {
        app.app_data(web::Data::new(manager.clone()));
    };
    let by_value: Put = |manager, app| {
        app.app_data(manager.clone());
    };
    for (outer, inner) in [
        (by_init, by_init),
        (by_init, by_data),
        (by_init, by_value),
        (by_data, by_init),
        (by_value, by_init),
        (by_data, by_data),
        (by_value, by_value),
    ] {
        let [(a, key_a), (b, key_b)] = two().await;
        let server = Server::start(move |app| {
            outer(&a, app);
            let b = b.clone();
            app.service(who).service(
                web::scope("/inner")
                    .configure(|scope| inner(&b, scope))
                    .service(who)
                    .service(web::scope("/deep").service(who)),
            );
        });
        for (path, own, other) in [
            ("/who", &key_a, &key_b),
            ("/inner/who", &key_b, &key_a),
            ("/inner/deep/who", &key_b, &key_a),
        ] {
            server
                .get(path, own.expose_secret())
                .await
                .says(own.label());
            server
                .get(path, other.expose_secret())
                .await
                .refused(401, "invalid-key");
        }
    }
}

/// Returns how often a second `init_app` was logged so far.
fn repeated(log: &apikey_test_support::log::Log) -> usize {
    log.lines(&["WARN", "`init_app` was called twice on one app"])
        .len()
}

#[actix_web::test]
async fn a_second_manager_of_an_app_is_warned_of_once() {
    let log = apikey_test_support::log::Log::capture();
    let [(a, _), (b, key_b)] = two().await;
    // One in the app and one in each of two scopes, on several workers and in several apps.
    for _ in 0..2 {
        let (a, b) = (a.clone(), b.clone());
        let server = Server::start(move |app| {
            a.init_app(app);
            let [one, two] = ["/1", "/2"].map(|path| {
                let scope = web::scope(path).configure(|scope| b.init_app(scope));
                scope.service(who)
            });
            app.service(one).service(two);
        });
        server.get("/1/who", key_b.expose_secret()).await.says("b");
    }
    assert_eq!(repeated(&log), 0, "{}", log.text());

    for _ in 0..2 {
        let app = App::new()
            .configure(|app| a.init_app(app))
            .service(who)
            .configure(|app| b.init_app(app));
        let app = test::init_service(app).await;
        let request = test::TestRequest::with_uri("/who")
            .insert_header(("Authorization", format!("Bearer {}", key_b.expose_secret())));
        let answer = test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), 200, "the last one is used");
    }
    assert_eq!(repeated(&log), 1, "{}", log.text());
}

#[actix_web::test]
async fn two_managers_of_which_neither_is_nearer_are_refused_and_not_guessed() {
    let log = apikey_test_support::log::Log::capture();
    let [(a, key_a), (b, key_b)] = two().await;
    let server = Server::start(move |app| {
        app.app_data(a.clone())
            .app_data(web::Data::new(b.clone()))
            .service(who);
    });
    for key in [&key_a, &key_b] {
        server
            .get("/who", key.expose_secret())
            .await
            .refused(500, "no-manager");
    }
    assert!(!log.lines(&["ERROR", "two managers"]).is_empty());
}

#[actix_web::test]
async fn one_manager_put_in_twice_is_one() {
    let [(manager, key), _] = two().await;
    let server = Server::start(move |app| {
        app.app_data(manager.clone())
            .app_data(web::Data::new(manager.clone()))
            .service(who);
    });
    server.get("/who", key.expose_secret()).await.says("a");
}

#[actix_web::test]
async fn m04_without_a_manager_the_log_says_what_to_write() {
    let log = apikey_test_support::log::Log::capture();
    let server = Server::start(|app| {
        app.service(who);
    });
    server.get("/who", None).await.refused(500, "no-manager");
    assert!(
        !log.lines(&["ERROR", "init_app", "/who"]).is_empty(),
        "{}",
        log.text()
    );
}

static OF_THE_FUNCTION: OnceLock<ApiKeyManager> = OnceLock::new();

fn by_header(request: &HttpRequest) -> Option<ApiKeyManager> {
    request
        .headers()
        .get("X-Tenant")
        .and(OF_THE_FUNCTION.get())
        .cloned()
}

#[get("/found")]
#[api_key_required(manager = by_header)]
async fn found(key: ApiKey) -> String {
    key.label().to_owned()
}

#[actix_web::test]
async fn a_function_of_the_routes_own_finds_the_manager() {
    let [(a, key_a), (b, key_b)] = two().await;
    OF_THE_FUNCTION.set(b).unwrap();
    let server = Server::start(move |app| {
        a.init_app(app);
        app.service(found);
    });
    let (a, b) = (
        format!("Bearer {}", key_a.expose_secret()),
        format!("Bearer {}", key_b.expose_secret()),
    );
    for _ in 0..2 {
        server
            .get_with("/found", &[("X-Tenant", "b"), ("Authorization", &b)])
            .await
            .says("b");
        server
            .get_with("/found", &[("X-Tenant", "b"), ("Authorization", &a)])
            .await
            .refused(401, "invalid-key");
        // The route's manager decides: the app's manager is not a fallback.
        server
            .get_with("/found", &[("Authorization", &a)])
            .await
            .refused(500, "no-manager");
    }
}

fn own_answer(denied: &Denied, request: &HttpRequest) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(denied.status()).unwrap())
        .insert_header(("X-Route", "own"))
        .body(format!("{} {}", denied.reason().code(), request.path()))
}

#[get("/own")]
#[api_key_required(on_error = own_answer, scope = "a")]
async fn own_way(key: ApiKey) -> String {
    key.label().to_owned()
}

#[actix_web::test]
async fn a_route_and_a_manager_can_answer_refusals_in_their_own_way() {
    let builder = ApiKeyManager::builder().store(MemoryStore::new());
    let builder = builder.error_handler(|denied, _request| {
        let teapot = denied.reason() == DenyReason::MissingKey;
        let status = if teapot {
            StatusCode::IM_A_TEAPOT
        } else {
            StatusCode::UNAUTHORIZED
        };
        HttpResponse::build(status).body(format!("manager: {}", denied.reason().code()))
    });
    let manager = builder.start().await.unwrap();
    let key = manager.create("a").await.unwrap();
    let configured = manager.clone();
    let server = Server::start(move |app| {
        configured.init_app(app);
        app.service((who, own_way));
    });
    let answer = server.get("/who", None).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (418, "manager: missing-key")
    );
    let answer = server
        .get("/who", apikey_test_support::forge::unknown().as_str())
        .await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (401, "manager: invalid-key")
    );
    // The route's error handler takes precedence over the manager's, on the fast path and the slow
    // path.
    for (key, status, says) in [
        (None, 401, "missing-key /own"),
        (
            Some(apikey_test_support::forge::unknown()),
            401,
            "invalid-key /own",
        ),
        (
            Some(key.expose_secret().to_owned()),
            403,
            "insufficient-scope /own",
        ),
    ] {
        for _ in 0..2 {
            let answer = server.get("/own", key.as_deref()).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, says));
            assert_eq!(answer.header("x-route"), Some("own"));
        }
    }
    let no_manager = Server::start(|app| {
        app.service(own_way);
    });
    assert_eq!(no_manager.get("/own", None).await.text(), "no-manager /own");
}

#[actix_web::test]
async fn a_middleware_outside_sees_every_refusal_as_an_answer() {
    let manager = manager().await;
    let app = test::init_service(
        App::new()
            .configure(|app| manager.init_app(app))
            .wrap(DefaultHeaders::new().add(("Access-Control-Allow-Origin", "*")))
            .service(who),
    )
    .await;
    for key in [
        "",
        "Bearer x",
        &format!("Bearer {}", apikey_test_support::forge::unknown()),
    ] {
        let request = test::TestRequest::get()
            .uri("/who")
            .insert_header(("Authorization", key));
        let response = test::try_call_service(&app, request.to_request())
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(
            response
                .headers()
                .contains_key("access-control-allow-origin")
        );
    }
}

#[actix_web::test]
async fn each_manager_has_its_own_settings() {
    let config = Config::builder()
        .header_name("X-API-Key")
        .prefix("acme")
        .build()
        .unwrap();
    let builder = ApiKeyManager::builder()
        .config(config)
        .store(MemoryStore::new());
    let inner = builder.start().await.unwrap();
    let outer = manager().await;
    let (key_in, key_out) = (
        inner.create("in").await.unwrap(),
        outer.create("out").await.unwrap(),
    );
    let server = Server::start(move |app| {
        outer.init_app(app);
        let inner = inner.clone();
        let scope = web::scope("/inner")
            .configure(|scope| inner.init_app(scope))
            .service(who);
        app.service(who).service(scope);
    });
    server
        .get("/who", key_out.expose_secret())
        .await
        .says("out");
    server
        .get_with("/inner/who", &[("X-API-Key", key_in.expose_secret())])
        .await
        .says("in");
    server
        .get("/inner/who", key_in.expose_secret())
        .await
        .refused(401, "missing-key");
}

#[actix_web::test]
async fn a_manager_without_a_store_or_with_one_that_is_down_does_not_start() {
    assert!(ApiKeyManager::builder().start().await.is_err());
    let store = apikey_test_support::store::GateStore::new();
    store.go_down();
    assert!(
        ApiKeyManager::builder()
            .shared_store(store)
            .start()
            .await
            .is_err()
    );
}
