//! A portal for API keys: pages for people, and an API for programs, in an actix-web application that uses
//! `apikey-runtime`.
//!
//! People create keys, see when and from where they are used, change, rotate and revoke them, and read in the audit log
//! who did what. Admins do so for all owners. The pages work without JavaScript, in light and dark, on a phone and on a
//! desk, and contact no other origin.
//!
//! ```
//! use actix_web::{App, HttpRequest, test};
//! use apikey_portal::{BoxError, Grants, Person, Portal, PortalAuth};
//! use apikey_runtime::{ApiKeyManager, MemoryStore, Scopes};
//!
//! /// Tells the portal who is signed in.
//! struct Sessions;
//!
//! impl PortalAuth for Sessions {
//!     async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
//!         let Some(user) = user_of_session(request).await? else {
//!             return Ok(None);
//!         };
//!         let grants = Grants::Only(Scopes::new(["orders:read"])?);
//!         Ok(Some(Person::new(&user).with_owner(&user).with_grants(grants)))
//!     }
//! }
//! # async fn user_of_session(_: &HttpRequest) -> Result<Option<String>, BoxError> { Ok(Some("ada".to_owned())) }
//!
//! # actix_web::rt::System::new().block_on(async {
//! let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
//!
//! // In a server, inside the closure of `HttpServer::new`.
//! let portal = Portal::new(manager.clone(), Sessions)
//!     .scopes(["orders:read", "orders:write"])
//!     .sign_in("/login")
//!     .sign_out("/logout")
//!     .mount("/account/api-keys");
//! let app = App::new().configure(|app| manager.init_app(app)).service(portal);
//!
//! let app = test::init_service(app).await;
//! let request = test::TestRequest::get().uri("/account/api-keys").to_request();
//! assert_eq!(test::call_service(&app, request).await.status(), 200);
//! # Ok::<(), BoxError>(())
//! # }).unwrap();
//! ```
//!
//! The example `portal` of the repository adds users who sign in by a form: `cargo run -p portal`.
//!
//! # Who may do what
//!
//! A [`Person`] has an id, which events and the audit log name as the actor, the owners whose keys are theirs, a
//! [`Role`], and the scopes that they may give to a key ([`Grants`]). By default, a person has no owner and grants nothing.
//!
//! | role | may |
//! |---|---|
//! | [`ReadOnly`](Role::ReadOnly) | see the keys of their owners, with usage and audit log |
//! | [`Own`](Role::Own) | also create and change these keys: name, description, scopes, networks, methods, and the end within the manager's policy for issuing keys |
//! | [`Admin`](Role::Admin) | do so for all keys, those without an owner too; also change owner, limits, metadata and environment, revoke, suspend and resume owners, and see the routes and the health of the manager |
//!
//! What yields a secret or prolongs a key requires that the person may grant all scopes of the key. Everybody who may
//! change a key may revoke it.
//!
//! # How to know who is signed in
//!
//! [`PortalAuth`] is an argument without a default, so that no portal is open by mistake. It works with any kind of
//! sessions. An error means "not known", and is answered with 503.
//!
//! With a proxy that signs people in, the header is a proof only if clients cannot reach the server past the proxy, and if
//! the proxy removes the header from their requests:
//!
//! ```
//! use actix_web::HttpRequest;
//! use apikey_portal::{BoxError, Grants, Person, PortalAuth};
//!
//! struct ProxyUsers;
//!
//! impl PortalAuth for ProxyUsers {
//!     async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
//!         let Some(user) = request.headers().get("x-forwarded-user") else {
//!             return Ok(None);
//!         };
//!         let user = user.to_str()?;
//!         Ok(Some(Person::new(user).with_owner(user).with_grants(Grants::All)))
//!     }
//! }
//! ```
//!
//! With a JWT, a middleware of the application verifies it and leaves its claims. For pages, the token is in a cookie, since
//! browsers do not send `Authorization` for them.
//!
//! ```
//! use actix_web::{HttpMessage as _, HttpRequest};
//! use apikey_portal::{BoxError, Grants, Person, PortalAuth, Role};
//!
//! struct Claims {
//!     sub: String,
//!     tenants: Vec<String>,
//!     is_admin: bool,
//! }
//!
//! struct Tokens;
//!
//! impl PortalAuth for Tokens {
//!     async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
//!         let extensions = request.extensions();
//!         let Some(claims) = extensions.get::<Claims>() else {
//!             return Ok(None);
//!         };
//!         let role = if claims.is_admin { Role::Admin } else { Role::Own };
//!         let person = Person::new(&claims.sub).with_role(role).with_grants(Grants::All);
//!         Ok(Some(claims.tenants.iter().fold(person, |person, tenant| person.with_owner(tenant))))
//!     }
//! }
//! ```
//!
//! # Behind a proxy
//!
//! If visitors see another host, scheme or path than the server, set [`Portal::public_url`]: links begin with its path, and
//! forms are accepted from its origin. The addresses in the audit log are those of clients if the manager's
//! configuration names the proxies (`trusted_proxies`) and the header that they set (`forwarded_header`); it needs both.
//!
//! # Several portals
//!
//! A portal keeps its settings to itself, so a process may have several, in one app or in several, each with its own manager,
//! [`PortalAuth`] and [`Brand`]. Form tokens and `Idempotency-Key`s of one are not those of another if their stores, their
//! mount paths or their public URLs differ. The audit log has the ids of the people of all of them: on one store, an id
//! names one person.
//!
//! # White label
//!
//! [`Brand`] sets the name, the logo, the home link, texts, and a style sheet that follows the portal's own:
//!
//! ```
//! use apikey_portal::Brand;
//!
//! let brand = Brand::new("Acme")
//!     .with_logo("/static/acme.svg")
//!     .with_home("https://acme.example/")
//!     .with_style_sheet("/static/portal.css");
//! ```
//!
//! # The API for programs
//!
//! What pages do, programs do by JSON under `/v1` below the mount path. `openapi.json` beside it describes the API. A program
//! authenticates by a key with the scopes `apikeys:read`, `apikeys:create` or `apikeys:manage`, and acts for the owner of
//! that key; a person's session works too. Each key may read and revoke itself, at `/v1/self`: see [`guide::api`].
//!
//! ```sh
//! curl -H "Authorization: Bearer $API_KEY" https://acme.example/account/api-keys/v1/keys
//! ```
//!
//! # Gateways
//!
//! [`Gateway`] mounts endpoints by which nginx, Envoy, Traefik, Caddy and APISIX ask whether the key of a request is accepted,
//! in front of services in any language. It does not need a [`Portal`]. [`guide::gateways`] has sample configurations.
//!
//! # Safety
//!
//! [`guide::safety`] lists the protections, and what the application has to do: sessions, TLS, its own forms.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `routes` | a page for admins with the guarded handlers of the program | no |

#![forbid(unsafe_code)]

mod api;
mod assets;
mod auth;
mod brand;
mod chart;
mod error;
mod fields;
mod forgery;
mod form_token;
mod gateway;
mod headers;
mod may;
mod pages;
mod path_part;
mod person;
mod portal;
mod public_url;
mod redact;
mod request_id;
mod state;
mod visit;

pub use brand::{Brand, is_own_path};
pub use forgery::SameOriginOnly;
pub use gateway::{Gateway, GatewayRule};
pub use person::{BoxError, Grants, Person, PortalAuth, Role};
pub use portal::Portal;

/// Pages about parts of the portal.
pub mod guide {
    #[doc = include_str!("../docs/api.md")]
    pub mod api {}

    #[doc = include_str!("../docs/gateways.md")]
    pub mod gateways {}

    #[doc = include_str!("../docs/safety.md")]
    pub mod safety {}
}
