//! The audit of an app's routes: what it finds, and what satisfies it.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{DefaultHeaders, ErrorHandlers, Next, NormalizePath, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpRequest, HttpResponse, get, post, routes, scope, test};
use apikey_runtime::testing::{OpenRoutes, audit_routes};
use apikey_runtime::{
    ApiKey, DefaultPolicy, Denied, Guarded, Policy, RequireApiKey, api_key_required,
};
use apikey_test_support::manager;

#[get("/orders")]
#[api_key_required(scope = "orders:read")]
async fn list() -> &'static str {
    "orders"
}

#[post("/orders")]
#[api_key_required(scope = "orders:write", location = json("api_key"))]
async fn place(_order: web::Json<serde_json::Value>) -> &'static str {
    "placed"
}

#[api_key_required]
async fn guarded() -> &'static str {
    "guarded"
}

async fn by_hand(Guarded((key,), ..): Guarded<DefaultPolicy, (ApiKey,)>) -> String {
    key.label().to_owned()
}

fn not_found(_denied: &Denied, _request: &HttpRequest) -> HttpResponse {
    HttpResponse::NotFound().finish()
}

#[api_key_required(on_error = not_found)]
async fn hidden() -> &'static str {
    "hidden"
}

#[routes]
#[get("/several/{id:\\d+}")]
#[post("/several")]
#[api_key_required]
async fn several() -> &'static str {
    "several"
}

#[scope("/module")]
mod module {
    use apikey_runtime::api_key_required;

    #[actix_web::get("/{day:20[0-9]{2}-[01][0-9]}")]
    #[api_key_required]
    pub async fn day() -> &'static str {
        "day"
    }
}

/// Adds routes to an app.
type Routes = fn(&mut ServiceConfig);

async fn open() -> &'static str {
    "open"
}

/// Refuses by itself, and not by a guard of the crate.
async fn own_401() -> HttpResponse {
    HttpResponse::Unauthorized().finish()
}

/// Every kind of guarded route.
fn guarded_routes(app: &mut ServiceConfig) {
    app.service(list)
        .service(place)
        .service(several)
        .service(module::day)
        .route("/hidden", web::get().to(hidden))
        .route("/by-hand", web::route().to(by_hand))
        .route("/put", web::put().to(guarded))
        .route("/put", web::patch().to(guarded))
        .service(web::resource(["/one/{a}", "/two/{a}/{b:[^/]*}"]).to(guarded))
        .service(web::resource("/never"))
        .service(
            web::scope("/scope/{tenant}")
                .wrap(RequireApiKey::new())
                .route("", web::get().to(open))
                .route("/{id}", web::get().to(open))
                .route("/{other}", web::delete().to(open))
                .default_service(web::to(open)),
        )
        .service(
            web::resource("/resource/{id:[A-F]+}")
                .wrap(RequireApiKey::with(Policy::new().fresh()))
                .route(web::get().to(open))
                .route(web::post().to(open)),
        )
        .service(web::scope("/outer/{x}").service(web::scope("/inner").route(
            "/{tail}*",
            web::method("PURGE".parse().unwrap()).to(guarded),
        )));
}

async fn audit(
    configure: impl FnOnce(&mut ServiceConfig),
    open: &[&str],
) -> Result<(), OpenRoutes> {
    let manager = manager().await;
    let app = App::new().configure(|app| manager.init_app(app));
    let app = test::init_service(app.configure(configure)).await;
    audit_routes(&app).open(open.iter().copied()).await
}

/// Returns what an audit found, as `NAME: PROBLEM`.
async fn found(configure: impl FnOnce(&mut ServiceConfig), open: &[&str]) -> Vec<String> {
    match audit(configure, open).await {
        Ok(()) => Vec::new(),
        Err(found) => found
            .routes()
            .iter()
            .map(|route| format!("{route:?}"))
            .collect(),
    }
}

#[actix_web::test]
async fn an_app_of_guarded_routes_passes() {
    audit(guarded_routes, &[]).await.unwrap();
    let manager = manager().await;
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .configure(guarded_routes)
        .wrap(NormalizePath::trim())
        .wrap(DefaultHeaders::new().add(("x-app", "orders")))
        .wrap(ErrorHandlers::new());
    audit_routes(&test::init_service(app).await).await.unwrap();
}

#[actix_web::test]
async fn each_route_without_a_guard_is_found_wherever_it_is() {
    let cases: [(Routes, &str); 14] = [
        (
            |app| {
                app.route("/x", web::get().to(open));
            },
            "GET /x: answered 200",
        ),
        (
            |app| {
                app.route("/x", web::route().to(open));
            },
            "/x: answered 200",
        ),
        (
            |app| {
                app.service(web::resource("/x/{id:\\d{3}}").to(open));
            },
            "/x/{id:\\d{3}}: answered 200",
        ),
        (
            |app| {
                app.route("/x", web::post().to(own_401));
            },
            "POST /x: answered 401",
        ),
        // One method of a path with a guarded one.
        (
            |app| {
                app.route("/put", web::post().to(open));
            },
            "POST /put: answered 200",
        ),
        (
            |app| {
                app.service(
                    web::resource("/y")
                        .route(web::get().to(guarded))
                        .route(web::route().to(own_401)),
                );
            },
            "/y: answered 401",
        ),
        (
            |app| {
                app.route("/x", web::method("PURGE".parse().unwrap()).to(open));
            },
            "PURGE /x: answered 200",
        ),
        (
            |app| {
                app.service(
                    web::resource("/y")
                        .route(web::get().to(guarded))
                        .default_service(web::to(open)),
                );
            },
            "/y: answered 200",
        ),
        (
            |app| {
                app.service(
                    web::scope("/a/{b}")
                        .service(web::scope("/c").route("/{d}*", web::get().to(open))),
                );
            },
            "GET /a/{b}/c/{d}*: answered 200",
        ),
        // Beside a scope with a guard, and in one of its own.
        (
            |app| {
                let guarded = web::scope("/a")
                    .wrap(RequireApiKey::new())
                    .route("/{id}", web::get().to(open));
                app.service(guarded)
                    .service(web::scope("/b").route("/{id}", web::get().to(open)));
            },
            "GET /b/{id}: answered 200",
        ),
        // A guarded scope takes some of its paths, and not all.
        (
            |app| {
                let guarded = web::scope("/{lang:[a-z-]+}")
                    .wrap(RequireApiKey::new())
                    .route("/{id}", web::get().to(open));
                app.service(guarded)
                    .route("/{tenant}/{id}", web::get().to(open));
            },
            "GET /{tenant}/{id}: answered 200",
        ),
        (
            |app| {
                app.default_service(web::to(open));
            },
            "/{default}*: answered 200",
        ),
        (
            |app| {
                app.service(web::scope("/s").default_service(web::get().to(open)));
            },
            "/s/{default}*: answered 200",
        ),
        (
            |app| {
                app.route("/{tail:.*}", web::get().to(open));
            },
            "GET /{tail:.*}: answered 200",
        ),
    ];
    for (configure, expected) in cases {
        let both = |app: &mut ServiceConfig| {
            guarded_routes(app);
            configure(app);
        };
        assert_eq!(found(both, &[]).await, [expected]);
        // A route that is named, by the name that was reported, does not fail the audit.
        let (name, _) = expected.rsplit_once(": ").unwrap();
        assert_eq!(found(both, &[name]).await, [""; 0], "{name}");
    }
}

#[actix_web::test]
async fn twenty_handlers_of_one_name_are_told_apart() {
    macro_rules! lists {
        ($($module:ident $guard:meta)*) => {
            $(mod $module {
                use apikey_runtime::api_key_required;

                #[actix_web::get("/list")]
                #[$guard]
                pub async fn list() -> &'static str {
                    let _ = stringify!(api_key_required);
                    stringify!($module)
                }
                #[allow(unused)]
                #[api_key_required]
                async fn other() -> &'static str { "" }
            })*
            fn all(app: &mut ServiceConfig) {
                $(app.service(web::scope(concat!("/", stringify!($module))).service($module::list));)*
            }
        };
    }
    lists! {
        m01 api_key_required m02 api_key_required m03 api_key_required m04 api_key_required m05 api_key_required
        m06 api_key_required m07 api_key_required m08 api_key_required m09 api_key_required m10 api_key_required
        m11 api_key_required m12 api_key_required m13 allow(unused) m14 api_key_required m15 api_key_required
        m16 api_key_required m17 api_key_required m18 api_key_required m19 api_key_required m20 api_key_required
    }
    assert_eq!(found(all, &[]).await, ["GET /m13/list: answered 200"]);
    assert_eq!(found(all, &["GET /m13/list"]).await, [""; 0]);
}

#[actix_web::test]
async fn a_name_opens_one_route_and_has_to_exist() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/{page}", web::get().to(open))
            .route("/{page}", web::post().to(open))
            .route("/admin/{page}", web::get().to(open));
    };
    let admin = "GET /admin/{page}: answered 200";
    assert_eq!(found(routes, &["/{page}"]).await, [admin]);
    assert_eq!(
        found(routes, &["GET /{page}"]).await,
        [admin, "POST /{page}: answered 200"]
    );
    let unknown = "/pages: is named as open, and the app does not have it";
    let names = ["/{page}", "/admin/{page}", "/pages"];
    assert_eq!(found(routes, &names).await, [unknown]);
}

#[actix_web::test]
async fn the_failure_names_the_routes_and_says_what_to_do() {
    let failure = audit(
        |app| {
            app.route("/x", web::get().to(open));
        },
        &[],
    )
    .await
    .unwrap_err();
    let text = "these routes are open without a key, or could not be checked:\n  GET /x: answered 200\n\
                Guard each with `#[api_key_required]` or `RequireApiKey`, or name it, as in \
                `audit_routes(&app).open([\"GET /x\"])`";
    assert_eq!(failure.to_string(), text);
    assert_eq!(format!("{failure:?}"), text);
}

/// Refuses requests without a cookie, as the login of a website does.
async fn login(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if request.headers().contains_key("cookie") {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    Ok(request
        .into_response(HttpResponse::Unauthorized())
        .map_into_boxed_body())
}

#[actix_web::test]
async fn a_refusal_of_other_middleware_does_not_count() {
    let manager = &manager().await;
    let app = |guard: bool| {
        let routes = move |app: &mut ServiceConfig| {
            let scope = web::scope("/site")
                .wrap(from_fn(login))
                .route("/{page}", web::get().to(open));
            app.service(scope);
            if guard {
                guarded_routes(app);
            }
        };
        App::new()
            .configure(|app| manager.init_app(app))
            .configure(routes)
    };
    let elsewhere = "GET /site/{page}: could not be checked, since no request reached it; something else answered 401";
    for guard in [false, true] {
        let app = test::init_service(app(guard)).await;
        let found = audit_routes(&app).await.unwrap_err();
        let problems = found.routes().iter().map(|route| format!("{route:?}"));
        let site = "/site/{default}*: answered 401".to_owned();
        assert_eq!(problems.collect::<Vec<_>>(), [site, elsewhere.to_owned()]);
    }
    // The guard around the app refuses first.
    let app = test::init_service(app(true).wrap(RequireApiKey::new())).await;
    audit_routes(&app).await.unwrap();
    // What it leaves open is found, and so is the default service behind it.
    let open = RequireApiKey::new().open(["/orders", "/site/{page}"]);
    let app = App::new()
        .configure(|app| manager.init_app(app))
        .route("/orders", web::get().to(open_twice))
        .wrap(open);
    let app = test::init_service(app).await;
    let found = audit_routes(&app).await.unwrap_err();
    assert_eq!(found.routes()[0].name(), "GET /orders");
}

async fn open_twice() -> &'static str {
    "open"
}

/// An open route that takes the path of another one is reported for both, since the other one is not
/// reached.
#[actix_web::test]
async fn a_route_that_another_one_hides_is_reported() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/users/{id}", web::get().to(open))
            .route("/users/me", web::get().to(guarded));
    };
    let hidden = "GET /users/me: could not be checked, since no request reached it; something else answered 200";
    assert_eq!(
        found(routes, &[]).await,
        [hidden, "GET /users/{id}: answered 200"]
    );
}

/// A scope and a resource may have one pattern: the name of one does not open the other.
#[actix_web::test]
async fn the_name_of_a_resource_does_not_open_the_default_service_of_its_scope() {
    let routes = |app: &mut ServiceConfig| {
        let scope = web::scope("/s").route("", web::get().to(open));
        app.service(scope.default_service(web::to(open)));
    };
    let default = "/s/{default}*: answered 200";
    assert_eq!(found(routes, &["/s"]).await, [default]);
}

/// A page for what does not exist is not a route.
#[actix_web::test]
async fn a_page_for_absent_paths_passes() {
    let absent = || async {
        HttpResponse::NotFound()
            .content_type("text/html")
            .body("<h1>absent</h1>")
    };
    let routes = |app: &mut ServiceConfig| {
        guarded_routes(app);
        app.default_service(web::to(absent));
    };
    assert_eq!(found(routes, &[]).await, [""; 0]);
}

#[api_key_required(optional)]
async fn with_or_without(key: Option<ApiKey>) -> String {
    key.map_or_else(String::new, |key| key.label().to_owned())
}

/// Without a manager, each guard answers with 500, also one that would allow the request.
#[actix_web::test]
async fn an_app_without_a_manager_does_not_pass() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/optional", web::get().to(with_or_without));
    };
    assert_eq!(found(routes, &[]).await, ["GET /optional: answered 200"]);
    let app = test::init_service(App::new().configure(routes)).await;
    let found = audit_routes(&app).await.unwrap_err();
    let problem = "GET /optional: answered 500, since the app does not have a manager";
    assert_eq!(format!("{:?}", found.routes()), format!("[{problem}]"));
}
