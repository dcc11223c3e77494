//! The portal: its settings, and the service that an application mounts.

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Extensions, HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpMessage as _, web};
use apikey_runtime::{ApiKeyManager, Scopes};

use crate::auth::AnyAuth;
use crate::brand::{Brand, is_own_path};
use crate::error::PageError;
use crate::forgery::RequestSource;
use crate::form_token::FormKey;
use crate::person::PortalAuth;
use crate::public_url::{MountLength, PortalLocation, UnsafeBase, plain_scope};
use crate::state::{PortalSettings, PortalState};
use crate::{api, assets, fields, forgery, headers, pages, request_id};

/// A portal, to be mounted in an application.
///
/// Pages and the API show nothing without [`PortalAuth`], which says who is signed in.
#[must_use = "a portal is served by the application that it is mounted in"]
pub struct Portal {
    manager: ApiKeyManager,
    auth: Arc<dyn AnyAuth>,
    catalogue: Vec<String>,
    public_url: Option<String>,
    sign_in: Option<String>,
    sign_out: Option<String>,
    brand: Brand,
    form_key: Option<FormKey>,
}

impl Portal {
    /// Creates a portal for the keys of a manager.
    pub fn new(manager: ApiKeyManager, auth: impl PortalAuth) -> Self {
        Self {
            manager,
            auth: Arc::new(auth),
            catalogue: Vec::new(),
            public_url: None,
            sign_in: None,
            sign_out: None,
            brand: Brand::default(),
            form_key: None,
        }
    }

    /// Sets the scopes that people choose from. By default, none.
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.catalogue = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the URL at which visitors see the portal, such as `https://acme.example/account/api-keys`. By default,
    /// links begin with the path at which the server has the portal, and a form is accepted from the request's own host. Forms that
    /// were shown under another URL are rejected.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// Sets the path of the application's page for signing in, such as `/login`. People who are not signed in are
    /// redirected there, with the path that they wanted in the parameter `next`, as visitors see it. That page comes back
    /// to it only if [`is_own_path`](crate::is_own_path) accepts it, since anybody can write a link with a `next`. If they
    /// sent a form, a page with the status 403 has a link there. By default, they see a page that says so, with the
    /// status 403.
    ///
    /// The path answers with a page of its own origin, not with a redirection to another origin, such as that of an
    /// identity provider: browsers apply the portal's `form-action 'self'` to redirections of its forms, and then do
    /// nothing. That page has a link to the other origin.
    pub fn sign_in(mut self, path: impl Into<String>) -> Self {
        self.sign_in = Some(path.into());
        self
    }

    /// Sets the path to which the button "Sign out" sends an empty form, by `POST`, such as `/logout`. The
    /// application's handler needs a check that the form is of the same origin: see
    /// [`SameOriginOnly`](crate::SameOriginOnly). By default, pages do not have the button.
    ///
    /// The path answers with a page of its own origin, or a redirection to one, as that of
    /// [`sign_in`](Self::sign_in) does.
    pub fn sign_out(mut self, path: impl Into<String>) -> Self {
        self.sign_out = Some(path.into());
        self
    }

    /// Sets name, logo, home link, style sheet and texts.
    pub fn brand(mut self, brand: Brand) -> Self {
        self.brand = brand;
        self
    }

    /// Sets the key of form tokens: 32 random bytes, the same on all nodes. By default, one that the first node
    /// puts into the store. Required if the store does not keep shared secrets: without it, pages with forms and the
    /// API's `Idempotency-Key` are then 501, and the log says so.
    pub fn form_key(mut self, key: [u8; 32]) -> Self {
        self.form_key = Some(FormKey::new(key));
        self
    }

    /// Returns the service of the portal at a path, such as `/account/api-keys`, which may not have patterns. In a scope
    /// of the application, which may have patterns, the path is relative to it, and links begin with the path of each
    /// request.
    ///
    /// The list answers with and without a slash at the end of its path, the other pages without one only: a middleware
    /// `NormalizePath` that adds slashes (`TrailingSlash::Always`) makes each of them 404; `Trim` does not.
    /// A portal at `/` answers each path, so services that are registered after it are not reached.
    ///
    /// If a setting is wrong, the service logs what to write, and answers each request with 500.
    pub fn mount(self, path: &str) -> impl HttpServiceFactory + use<> {
        let state = Arc::new(self.state(path));
        if let Some(fault) = &state.fault {
            tracing::error!("the portal is misconfigured: {fault}");
        }
        let manager = state.manager.clone();
        web::scope(&plain_scope(path))
            // So that addresses are told as this manager's configuration says.
            .configure(move |app| manager.init_app(app))
            .app_data(Arc::clone(&state))
            .app_data(fields::form_config())
            .wrap(from_fn(protect))
            .service(pages::resource::shown(
                "/assets/{asset_name}",
                assets::serve,
            ))
            .configure(api::routes)
            .configure(pages::routes)
            .default_service(web::to(pages::missing::page))
    }

    fn state(self, mount: &str) -> PortalState {
        let mut fault = self.brand.fault();
        let location = PortalLocation::new(mount, self.public_url.as_deref());
        let location = location.unwrap_or_else(|wrong| {
            fault.get_or_insert(wrong);
            PortalLocation {
                base: String::new(),
                origin: None,
            }
        });
        let catalogue = Scopes::new(self.catalogue).unwrap_or_else(|wrong| {
            fault.get_or_insert_with(|| wrong.to_string());
            Scopes::none()
        });
        for (name, path) in [("in", &self.sign_in), ("out", &self.sign_out)] {
            if let Some(path) = path.as_deref().filter(|path| !is_own_path(path)) {
                fault.get_or_insert_with(|| {
                    format!(
                        "the path for signing {name}, `{}`, is not a path on the same origin; write one such as `/log{name}`",
                        path.escape_debug()
                    )
                });
            }
        }
        let place = location.place();
        let form_key = self.form_key.map(|key| key.of_portal(&place));
        let settings = PortalSettings {
            place,
            manager: self.manager,
            auth: self.auth,
            catalogue,
            sign_in: self.sign_in,
            sign_out: self.sign_out,
            brand: self.brand,
            form_key: form_key.map_or_else(OnceLock::new, OnceLock::from),
            fault,
        };
        PortalState::new(settings, location)
    }
}

/// Rejects forged requests before anything else is done, and adds the headers of each answer.
async fn protect(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let is_api = api::is_called(&request);
    let request_id = request_id::of(request.request());
    let mount = MountLength::of(&request);
    let refusal = match request.app_data::<Arc<PortalState>>().cloned() {
        Some(state) if state.fault.is_some() => Some(PageError::Misconfigured),
        Some(state) => match state.location.moved_to(&request, mount) {
            Ok(location) => {
                if let Some(location) = location {
                    let mut data = Extensions::new();
                    data.insert(Arc::new(state.at(location)));
                    request.add_data_container(Rc::new(data));
                }
                let is_forged = !may_pass(&request, &state, is_api);
                if is_forged {
                    forgery::log(request.request(), state.location.origin.as_ref());
                }
                is_forged.then_some(PageError::Forged)
            }
            Err(UnsafeBase) => Some(PageError::NotFound),
        },
        None => None,
    };
    request.extensions_mut().insert(mount);
    let mut response = match refusal {
        Some(refusal) => {
            let answer = match is_api {
                true => api::refusal(&refusal),
                false => refusal.response(request.request()),
            };
            request.into_response(answer).map_into_right_body()
        }
        None => as_page(next.call(request).await?),
    };
    headers::secure(response.headers_mut());
    request_id::write(&request_id, response.headers_mut());
    if is_api {
        api::log(&request_id, response.status());
    }
    Ok(response)
}

/// Returns whether the source of a request permits it. The API decides on a request with a Bearer credential and without
/// a stated source when it knows whether that is a key, which other sites do not have.
fn may_pass(request: &ServiceRequest, state: &PortalState, is_api: bool) -> bool {
    match forgery::source_of(request.request(), state.location.origin.as_ref()) {
        RequestSource::Same => true,
        RequestSource::Other => false,
        RequestSource::Unstated => is_api && forgery::has_bearer(request.headers()),
    }
}

/// Makes a page of an answer that a page's error caused.
fn as_page<B: MessageBody>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let cause = response.response().error();
    match cause.and_then(|error| error.as_error::<PageError>().cloned()) {
        Some(error) => {
            let (request, _) = response.into_parts();
            let answer = error.response(&request).map_into_right_body();
            ServiceResponse::new(request, answer)
        }
        None => response.map_into_left_body(),
    }
}
