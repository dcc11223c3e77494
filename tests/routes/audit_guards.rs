//! The audit of routes that stand behind guards of actix-web: methods, hosts, headers.

use actix_web::guard::{self, Guard, GuardContext};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, get, test};
use apikey_runtime::testing::audit_routes;
use apikey_runtime::{RequireApiKey, api_key_required};
use apikey_test_support::manager;

#[api_key_required]
async fn guarded() -> &'static str {
    "guarded"
}

/// Adds routes to an app.
type Routes = fn(&mut ServiceConfig);

async fn open() -> &'static str {
    "open"
}

async fn found(configure: impl FnOnce(&mut ServiceConfig), around: bool) -> Vec<String> {
    let condition = actix_web::middleware::Condition::new(around, RequireApiKey::new());
    let manager = manager().await;
    let app = App::new().configure(|app| manager.init_app(app));
    let app = test::init_service(app.configure(configure).wrap(condition)).await;
    match audit_routes(&app).await {
        Ok(()) => Vec::new(),
        Err(found) => found
            .routes()
            .iter()
            .map(|route| format!("{route:?}"))
            .collect(),
    }
}

/// Routes of one path that differ by host, header or acceptable type: all guarded, except for the
/// one with this number.
fn by_guards(unguarded: usize) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        let to = |number: usize, route: actix_web::Route| match number == unguarded {
            true => route.to(open),
            false => route.to(guarded),
        };
        let header = guard::Header("x-version", "2");
        let json = guard::Acceptable::new("application/json".parse().unwrap());
        app.service(
            web::resource("/x/{id}")
                .route(to(1, web::get().guard(guard::Host("a.example"))))
                .route(to(
                    2,
                    web::get().guard(guard::Host("b.example").scheme("https")),
                ))
                .route(to(3, web::get().guard(header).guard(json)))
                .route(to(4, web::get().guard(guard::Header("x-version", "2"))))
                .route(to(
                    5,
                    web::get().guard(guard::Not(guard::Header("x-debug", "1"))),
                ))
                .route(to(6, web::get()))
                .route(to(
                    7,
                    web::route().guard(guard::Any(guard::Put()).or(guard::Patch())),
                )),
        )
        .service(
            web::scope("/s")
                .guard(guard::Host("s.example"))
                .route("/{id}", to(8, web::delete())),
        )
        .service(web::scope("/s").route("/{id}", to(9, web::delete())));
    }
}

#[actix_web::test]
async fn hosts_headers_and_types_are_met_in_each_combination() {
    assert_eq!(found(by_guards(0), false).await, [""; 0]);
    for number in 1..=6 {
        assert_eq!(
            found(by_guards(number), false).await,
            ["GET /x/{id}: answered 200"],
            "{number}"
        );
    }
    let both = ["PUT /x/{id}: answered 200", "PATCH /x/{id}: answered 200"];
    assert_eq!(found(by_guards(7), false).await, both);
    for number in [8, 9] {
        assert_eq!(
            found(by_guards(number), false).await,
            ["DELETE /s/{id}: answered 200"],
            "{number}"
        );
    }
    // A guard around the app refuses before any of these is looked at.
    for number in 1..=9 {
        assert_eq!(found(by_guards(number), true).await, [""; 0], "{number}");
    }
}

fn is_internal(context: &GuardContext<'_>) -> bool {
    context.head().headers().contains_key("x-internal")
}

#[get("/attribute", guard = "is_internal")]
#[api_key_required]
async fn with_a_function() -> &'static str {
    "internal"
}

struct Internal;

impl Guard for Internal {
    fn check(&self, context: &GuardContext<'_>) -> bool {
        is_internal(context)
    }
}

#[actix_web::test]
async fn a_guard_of_the_application_cannot_be_met_and_is_reported() {
    let cases: [(Routes, &str); 6] = [
        (
            |app| {
                app.service(with_a_function);
            },
            "/attribute",
        ),
        (
            |app| {
                app.route("/own", web::get().guard(Internal).to(open));
            },
            "/own",
        ),
        (
            |app| {
                app.route(
                    "/all",
                    web::get()
                        .guard(guard::All(guard::Not(Internal)).and(guard::Get()))
                        .to(guarded),
                );
            },
            "/all",
        ),
        // In a scope with such a guard.
        (
            |app| {
                app.service(
                    web::scope("/s")
                        .guard(Internal)
                        .route("/{id}", web::get().to(open)),
                );
            },
            "/s/{id}",
        ),
        (
            |app| {
                app.service(
                    web::scope("")
                        .guard(Internal)
                        .route("/root", web::get().to(open)),
                );
            },
            "/root",
        ),
        (
            |app| {
                app.service(
                    web::scope("/d")
                        .guard(Internal)
                        .default_service(web::to(open)),
                );
            },
            "/d/{default}*",
        ),
    ];
    for (configure, name) in cases {
        let found_alone = found(configure, false).await;
        let start =
            format!("{name}: could not be checked, since the audit cannot meet its guard: ");
        assert!(
            found_alone
                .iter()
                .any(|problem| problem.starts_with(&start)),
            "{found_alone:?}"
        );
        // Middleware around the app refuses first, unless a scope that takes each path could be what refused.
        let is_certain = name != "/root";
        assert_eq!(
            found(configure, true).await.is_empty(),
            is_certain,
            "{name}"
        );
    }
}

/// A scope with an empty pattern takes what does not meet the guard, and refuses it.
#[actix_web::test]
async fn a_guarded_scope_behind_a_guard_does_not_hide_it() {
    let routes = |app: &mut ServiceConfig| {
        app.route("/x", web::get().guard(Internal).to(open))
            .service(
                web::scope("")
                    .wrap(RequireApiKey::new())
                    .route("/y", web::get().to(open)),
            );
        app.service(web::resource("/z").guard(Internal).to(open));
    };
    let hidden = |app: &mut ServiceConfig| {
        app.service(web::resource("/x").guard(Internal).to(open))
            .service(
                web::scope("")
                    .wrap(RequireApiKey::new())
                    .route("/y", web::get().to(open)),
            );
    };
    for (configure, count) in [(&routes as &dyn Fn(&mut ServiceConfig), 2), (&hidden, 1)] {
        let found = found(configure, false).await;
        assert_eq!(found.len(), count, "{found:?}");
        assert!(
            found
                .iter()
                .all(|problem| problem.contains("cannot meet its guard"))
        );
    }
}

/// A guard of a resource is not one of the resources below its path.
#[actix_web::test]
async fn a_guard_of_a_resource_concerns_no_other() {
    let routes = |app: &mut ServiceConfig| {
        app.service(web::resource("/a").guard(Internal).to(guarded))
            .route("/a/{id}", web::get().to(guarded));
    };
    let found = found(routes, false).await;
    assert!(
        matches!(&found[..], [one] if one.starts_with("/a: ")),
        "{found:?}"
    );
}

/// A route that every request misses is a mistake: what it would do cannot be known.
#[actix_web::test]
async fn a_route_that_cannot_be_reached_is_reported() {
    let hidden = |app: &mut ServiceConfig| {
        app.route("/{a}", web::get().to(guarded))
            .service(web::resource("/{b}").route(web::get().to(open)));
    };
    let problem =
        "GET /{b}: could not be checked, since no request reached it; something else answered 401";
    assert_eq!(found(hidden, false).await, [problem]);
    let no_value = |app: &mut ServiceConfig| {
        app.route("/{a:x\\by}", web::get().to(open));
    };
    let problem =
        "/{a:x\\by}: could not be checked, since the audit knows no path that fits its pattern";
    assert_eq!(found(no_value, false).await, [problem]);
}
