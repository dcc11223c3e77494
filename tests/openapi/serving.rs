//! The application's services, its document, and a server.

use actix_web::{App, HttpServer};
use apikey_runtime::openapi::ApiKeySecurity;
use apikey_runtime::{ApiKeyManager, Policy, RequireApiKey, ScopeExpr};
use apikey_test_support::http::Server;
use serde_json::Value;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_actix_web::{AppExt, scope};

use crate::{app, below};

const ADMIN: Policy = Policy::new().scopes(ScopeExpr::One("admin"));

pub(crate) static API_KEYS: ApiKeySecurity = ApiKeySecurity::new()
    .strict()
    .middleware(&[("/admin", ADMIN)]);

/// Adds the scheme of `own_security`.
struct OwnScheme;

impl Modify for OwnScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("mine", scheme);
    }
}

/// The document as derived.
#[derive(OpenApi)]
#[openapi(
    info(title = "Each kind of option", version = "1"),
    paths(
        app::whoami,
        app::list_orders,
        app::place_order,
        app::report,
        app::search,
        app::project,
        app::in_a_header,
        app::in_a_scheme,
        app::as_a_user_name,
        app::in_the_query,
        app::in_a_cookie,
        app::in_a_websocket,
        app::in_json,
        app::in_a_form,
        app::anywhere,
        app::with_or_without,
        app::fresh,
        app::over_https,
        app::once_a_day,
        app::live,
        app::of_a_family,
        app::posted,
        app::of_a_second_manager,
        app::own_answer,
        app::own_security,
        app::two_scopes,
        app::two_keys,
        app::open,
        below::below_scope,
        below::below_header,
        below::below_optional,
        below::below_two,
        below::both_sides,
    ),
    nest((path = "/admin", api = Admin)),
    modifiers(&OwnScheme, &API_KEYS),
)]
pub(crate) struct Api;

#[derive(OpenApi)]
#[openapi(paths(app::users))]
struct Admin;

/// What utoipa-actix-web adds the paths to.
#[derive(OpenApi)]
#[openapi(info(title = "Each kind of option", version = "1"), modifiers(&OwnScheme))]
struct Info;

/// Registers all services.
pub(crate) fn services(config: &mut ServiceConfig) {
    config
        .service(app::whoami)
        .service(app::list_orders)
        .service(app::place_order)
        .service(app::report)
        .service(app::search)
        .service(app::project)
        .service(app::in_a_header)
        .service(app::in_a_scheme)
        .service(app::as_a_user_name)
        .service(app::in_the_query)
        .service(app::in_a_cookie)
        .service(app::in_a_websocket)
        .service(app::in_json)
        .service(app::in_a_form)
        .service(app::anywhere)
        .service(app::with_or_without)
        .service(app::fresh)
        .service(app::over_https)
        .service(app::once_a_day)
        .service(app::live)
        .service(app::of_a_family)
        .service(app::posted)
        .service(app::of_a_second_manager)
        .service(app::own_answer)
        .service(app::own_security)
        .service(app::two_scopes)
        .service(app::two_keys)
        .service(app::open)
        .service(below::below_scope)
        .service(below::below_header)
        .service(below::below_optional)
        .service(below::below_two)
        .service(below::both_sides)
        .service(
            scope::scope("/admin")
                .wrap(RequireApiKey::with(ADMIN))
                .service(app::users),
        );
}

/// Returns the document as utoipa-actix-web collects it.
pub(crate) fn document() -> Value {
    let app = App::new().into_utoipa_app().openapi(Info::openapi());
    let (_, mut document) = app.configure(services).split_for_parts();
    API_KEYS.modify(&mut document);
    serde_json::to_value(document).unwrap()
}

/// Serves these services for this manager.
pub(crate) fn serve(manager: &ApiKeyManager, services: fn(&mut ServiceConfig)) -> Server {
    let manager = manager.clone();
    let server = HttpServer::new(move || {
        let app = App::new().configure(|app| manager.init_app(app));
        app.into_utoipa_app().configure(services).into_app()
    });
    let server = server.workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    Server::of(server.addrs()[0], server.run())
}
