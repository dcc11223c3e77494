//! The audit of what its first request does not reach: default services behind routes with parameters,
//! paths that a middleware leaves open, and preflights.

use actix_web::body::{BodyStream, BoxBody};
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Condition, Next, from_fn};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{App, HttpResponse, test};
use apikey_runtime::testing::audit_routes;
use apikey_runtime::{RequireApiKey, api_key_required};
use apikey_test_support::manager;
use futures_util::stream;

#[api_key_required]
async fn guarded() -> &'static str {
    "guarded"
}

async fn open() -> &'static str {
    "open"
}

/// Answers as a proxy does, with a stream.
async fn proxy() -> HttpResponse {
    let chunks = stream::iter([Ok::<_, actix_web::Error>(Bytes::from_static(b"x"))]);
    HttpResponse::Ok().body(BodyStream::new(chunks))
}

/// Answers without a body.
async fn empty() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

async fn found(
    around: Option<RequireApiKey>,
    names: &[&str],
    configure: impl FnOnce(&mut ServiceConfig),
) -> Vec<String> {
    let condition = Condition::new(around.is_some(), around.unwrap_or_default());
    let manager = manager().await;
    let app = App::new().configure(|app| manager.init_app(app));
    let app = test::init_service(app.configure(configure).wrap(condition)).await;
    match audit_routes(&app).open(names.iter().copied()).await {
        Ok(()) => Vec::new(),
        Err(found) => found
            .routes()
            .iter()
            .map(|route| format!("{route:?}"))
            .collect(),
    }
}

#[actix_web::test]
async fn a_default_service_beside_a_parameter_is_found() {
    for route in ["/{id}", "/{a}/{b}/{c}/{d}", "/{id}*"] {
        let scope = found(None, &[], |app| {
            let scope = web::scope("/orders").route(route, web::to(guarded));
            app.service(scope.default_service(web::to(open)));
        });
        let root = found(None, &[], |app| {
            app.route(route, web::to(guarded))
                .default_service(web::to(open));
        });
        let (scope, root) = (scope.await, root.await);
        if route == "/{id}*" {
            // What a route takes as a whole is not left to a default service.
            assert_eq!([scope, root].concat(), [""; 0]);
            continue;
        }
        assert_eq!(scope, ["/orders/{default}*: answered 200"], "{route}");
        assert_eq!(root, ["/{default}*: answered 200"], "{route}");
    }
}

/// A route that takes each path with one method leaves the others to the default service.
#[actix_web::test]
async fn a_default_service_beside_one_method_of_a_tail_is_found() {
    let routes = |app: &mut ServiceConfig| {
        let scope = web::scope("/s").route("/{tail}*", web::get().to(guarded));
        app.service(scope.default_service(web::to(open)));
    };
    let found = found(None, &[], routes).await;
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(found.contains(&"POST /s/{default}*: answered 200".to_owned()));
}

#[actix_web::test]
async fn a_default_service_behind_an_inner_scope_is_found() {
    let routes = |app: &mut ServiceConfig| {
        let inner = web::scope("/{x}").wrap(RequireApiKey::new());
        let scope = web::scope("/s").service(inner.route("/y", web::to(open)));
        app.service(scope.default_service(web::to(open)));
    };
    let problem = "/s/{default}*: answered 200";
    assert_eq!(found(None, &[], routes).await, [problem]);
}

#[actix_web::test]
async fn a_default_service_that_no_request_reaches_is_reported() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/", web::to(guarded))
            .route("/{a}", web::to(guarded))
            .route("/{a}/{tail:.+}", web::to(guarded))
            .default_service(web::to(open));
    };
    let problem = "/{default}*: could not be checked, since no request reached it";
    assert_eq!(found(None, &[], routes).await, [problem]);
    assert_eq!(found(None, &["/{default}*"], routes).await, [""; 0]);
}

#[actix_web::test]
async fn a_default_service_that_looks_like_the_one_of_the_app_is_found() {
    macro_rules! pair {
        ($service:ident) => {
            |app: &mut ServiceConfig| {
                app.service(web::scope("/s").default_service(web::to($service)))
                    .default_service(web::to($service));
            }
        };
    }
    for (status, routes) in [
        (200, pair!(proxy) as fn(&mut ServiceConfig)),
        (204, pair!(empty)),
    ] {
        let problem = format!("/s/{{default}}*: answered {status}");
        assert_eq!(found(None, &["/{default}*"], routes).await, [problem]);
    }
    // A scope without its own has that of the app.
    let routes = |app: &mut ServiceConfig| {
        app.service(web::scope("/s")).default_service(web::to(open));
    };
    assert_eq!(found(None, &["/{default}*"], routes).await, [""; 0]);
}

#[actix_web::test]
async fn a_route_that_is_open_for_some_values_is_found() {
    for (pattern, left_open, is_found) in [
        ("/orders/{id}", "GET /orders/{id:\\d+}", true),
        ("/orders/{id}", "/orders/me", true),
        ("/orders/{id}/lines", "/{area}/mine/lines", true),
        ("/orders/{id}", "/orders/me/x", false),
        ("/orders/{id:\\d+}", "/orders/me", false),
    ] {
        let around = RequireApiKey::new().open([left_open]);
        let found = found(Some(around), &[], |app| {
            app.route(pattern, web::get().to(open));
        });
        let problem = format!("GET {pattern}: answered 200");
        let problems = if is_found { vec![problem] } else { Vec::new() };
        assert_eq!(found.await, problems, "{left_open}");
    }
    // A guard of its own closes it.
    let around = RequireApiKey::new().open(["/orders/me"]);
    let found = found(Some(around), &[], |app| {
        app.route("/orders/{id}", web::to(guarded));
    });
    assert_eq!(found.await, [""; 0]);
}

#[actix_web::test]
async fn a_route_that_a_preflight_reaches_is_found() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/all", web::route().to(open))
            .route("/get", web::get().to(open))
            .service(web::resource("/one").route(web::get().to(open)))
            .route("/guarded", web::route().to(guarded));
    };
    let around = RequireApiKey::new();
    assert_eq!(found(Some(around.clone()), &[], routes).await, [""; 0]);
    let around = around.allow_preflight();
    let problem = "OPTIONS /all: answered 200";
    assert_eq!(found(Some(around.clone()), &[], routes).await, [problem]);
    assert_eq!(
        found(Some(around), &["OPTIONS /all"], routes).await,
        [""; 0]
    );
}

/// A CORS middleware inside the guard answers preflights itself.
#[actix_web::test]
async fn a_preflight_that_middleware_inside_answers_passes() {
    let manager = manager().await;
    let cors = |request: ServiceRequest, next: Next<BoxBody>| async move {
        if request
            .headers()
            .contains_key("access-control-request-method")
        {
            return Ok(request.into_response(HttpResponse::Ok()));
        }
        next.call(request).await
    };
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .route("/all/{id}", web::route().to(open))
        .service(web::scope("/s").route("/x", web::route().to(open)))
        .wrap(from_fn(cors))
        .wrap(RequireApiKey::new().allow_preflight());
    audit_routes(&test::init_service(app).await).await.unwrap();
}

#[actix_web::test]
async fn a_default_service_at_a_path_that_is_left_open_is_found() {
    let around = RequireApiKey::new().open(["/s/public/{tail}*", "/x"]);
    let routes = |app: &mut ServiceConfig| {
        app.route("/x", web::to(guarded))
            .service(web::scope("/s").default_service(web::to(open)));
    };
    let problem = "/s/{default}*: answered 200";
    assert_eq!(found(Some(around), &[], routes).await, [problem]);
}
