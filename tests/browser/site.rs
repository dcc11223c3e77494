//! The application that browsers visit: a portal, a form for signing in, a guarded demo API; and pages with the
//! defects that checks have to find.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, Responder, get, post, web};
use apikey_portal::{BoxError, Brand, Grants, Person, Portal, PortalAuth, Role, SameOriginOnly};
use apikey_runtime::clock::{Clock, SystemClock};
use apikey_runtime::{ApiKey, ApiKeyManager, Config, KeyId, Scopes, SqliteStore, api_key_required};
use apikey_test_support::http::{Answer, Server};
use apikey_test_support::{PATIENCE, within};
use serde::Deserialize;
use tempfile::TempDir;

use crate::controls;
use crate::hands::Visitor;

/// The path of the portal.
pub(crate) const MOUNT: &str = "/account/api-keys";

/// A site with a portal, as its visitors know it.
pub(crate) struct Site {
    /// Scheme, host and port.
    pub(crate) origin: String,
    pub(crate) address: SocketAddr,
    pub(crate) manager: ApiKeyManager,
    /// Keys whose pages differ.
    pub(crate) shown: Vec<KeyId>,
    _server: Server,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock::new())).await
    }

    /// Starts a site with this clock.
    pub(crate) async fn start_at(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::builder()
            .usage_flush_interval(Duration::from_millis(100))
            // On a busy machine, a write may take seconds.
            .store_timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db")).clock(Arc::clone(&clock));
        let manager = ApiKeyManager::builder().config(config).clock(clock);
        let manager = manager.store(store).start().await.unwrap();
        let served = manager.clone();
        let server = Server::start(move |app| routes(&served, app));
        Self {
            origin: format!("http://{}", server.address),
            address: server.address,
            manager,
            shown: Vec::new(),
            _server: server,
            _folder: folder,
        }
    }

    /// Returns the URL of a path of the portal.
    pub(crate) fn portal(&self, path: &str) -> String {
        format!("{}{MOUNT}{path}", self.origin)
    }

    /// Signs a person in, as a person does.
    pub(crate) async fn sign_in(&self, visitor: &Visitor, name: &str) {
        visitor.open(&format!("{}/login", self.origin)).await;
        visitor.fill("Name", name).await;
        visitor.fill("Password", "their own").await;
        visitor.click("Sign in").await;
        // Whatever is opened before the answer came has no session.
        let signed_in = async || visitor.url().await.ends_with(MOUNT);
        let signed_in = within(PATIENCE, signed_in).await;
        assert!(signed_in.is_some(), "{name} is not signed in");
    }

    /// Calls the demo API.
    pub(crate) async fn hello(&self, key: &str) -> Answer {
        let mut client = apikey_test_support::http::Client::connect(self.address).await;
        let authorization = format!("Bearer {key}");
        let headers = [("Authorization", &*authorization)];
        client.get("/api/hello", &headers).await
    }
}

fn routes(manager: &ApiKeyManager, app: &mut web::ServiceConfig) {
    manager.init_app(app);
    let portal = Portal::new(manager.clone(), Sessions)
        .scopes(["hello:read", "hello:write", "orders:read"])
        .brand(Brand::new("Acme Weather").with_home("/account/api-keys"));
    app.service(portal.mount(MOUNT))
        .service(
            web::scope("/login")
                .wrap(SameOriginOnly::new())
                .service(login_page)
                .service(login),
        )
        .service(hello)
        .service(orders)
        .service(admin)
        .configure(controls::routes);
}

#[get("/api/hello")]
#[api_key_required(scope = "hello:read")]
async fn hello(key: ApiKey) -> impl Responder {
    format!("Hello, {}!", key.label())
}

#[get("/api/orders")]
#[api_key_required(scope = "orders:read")]
async fn orders() -> impl Responder {
    "[]"
}

#[get("/api/admin")]
#[api_key_required(scope = "admin")]
async fn admin() -> impl Responder {
    "nothing"
}

/// Sessions are names in a cookie: enough for a test.
struct Sessions;

impl PortalAuth for Sessions {
    async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
        request
            .cookie("session")
            .map(|cookie| person(cookie.value()))
            .transpose()
    }
}

/// `alice` has the keys of `acme`, `bob` those of `globex`, and `root` all.
fn person(name: &str) -> Result<Person, BoxError> {
    let own = Grants::Only(Scopes::new(["hello:read"])?);
    match name {
        "alice" => Ok(Person::new("alice").with_owner("acme").with_grants(own)),
        "bob" => Ok(Person::new("bob").with_owner("globex").with_grants(own)),
        "root" => Ok(Person::new("root")
            .with_role(Role::Admin)
            .with_grants(Grants::All)),
        _ => Err(format!("there is no person {name:?}").into()),
    }
}

#[get("")]
async fn login_page() -> HttpResponse {
    controls::page(
        "<h1>Sign in</h1><form method=post action=/login><p><label>Name <input name=name autocomplete=username></label>\
         <p><label>Password <input type=password name=password autocomplete=current-password></label>\
         <p><button>Sign in</button></form>",
    )
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

#[post("")]
async fn login(form: web::Form<Login>) -> HttpResponse {
    let cookie = Cookie::build("session", form.into_inner().name)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax);
    HttpResponse::SeeOther()
        .cookie(cookie.finish())
        .insert_header((LOCATION, MOUNT))
        .finish()
}
