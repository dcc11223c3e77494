//! An application with a portal, the people who use it, and their browsers.

use std::sync::Arc;

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::{App, Error, HttpRequest, test};
use apikey_portal::{BoxError, Grants, Person, Portal, PortalAuth, Role};
use apikey_runtime::{ApiKeyManager, Config, KeyStore, MemoryStore, Scopes};
use apikey_test_support::patient;

/// The path of the portal.
pub const MOUNT: &str = "/account/api-keys";

/// The person's name is in the header `x-test-person`.
pub struct ByHeader;

impl PortalAuth for ByHeader {
    async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, BoxError> {
        // As a session store that is asked over the network: other parts of the request are read meanwhile.
        tokio::task::yield_now().await;
        let name = request.headers().get("x-test-person");
        name.map(|name| person(name.to_str()?)).transpose()
    }
}

/// The people: `alice` and `rita` (who only reads) have the keys of `acme`, `bob` those of `globex`, and `root` all.
pub fn person(name: &str) -> Result<Person, BoxError> {
    let own = Grants::Only(Scopes::new(["hello:read", "orders:read"])?);
    match name {
        "alice" => Ok(Person::new("alice").with_owner("acme").with_grants(own)),
        "rita" => Ok(Person::new("rita")
            .with_owner("acme")
            .with_role(Role::ReadOnly)
            .with_grants(own)),
        // Alice, after she lost her role, and while she had a higher one: her forms are hers all the time.
        "demoted" => Ok(Person::new("alice")
            .with_owner("acme")
            .with_role(Role::ReadOnly)
            .with_grants(own)),
        "promoted" => Ok(Person::new("alice")
            .with_role(Role::Admin)
            .with_grants(Grants::All)),
        "bob" => Ok(Person::new("bob").with_owner("globex").with_grants(own)),
        "root" => Ok(Person::new("root")
            .with_role(Role::Admin)
            .with_grants(Grants::All)),
        _ => Err(format!("the session store does not know {name:?}").into()),
    }
}

pub async fn manager() -> ApiKeyManager {
    manager_with(patient(), Arc::new(MemoryStore::new())).await
}

/// Starts a manager with these settings on `store`.
pub async fn manager_with(config: Config, store: Arc<dyn KeyStore>) -> ApiKeyManager {
    let manager = ApiKeyManager::builder().config(config).shared_store(store);
    manager.start().await.unwrap()
}

/// The portal of a test.
pub fn portal(manager: &ApiKeyManager) -> Portal {
    Portal::new(manager.clone(), ByHeader).scopes([
        "hello:read",
        "orders:read",
        "orders:write",
        "admin:all",
    ])
}

/// An application with the portal at [`MOUNT`].
pub async fn app(
    portal: Portal,
) -> impl Service<Request, Response = ServiceResponse<impl MessageBody>, Error = Error> {
    test::init_service(App::new().service(portal.mount(MOUNT))).await
}

/// What a browser got.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The token of the form that is sent to this path below [`MOUNT`].
    pub fn token(&self, action: &str) -> String {
        let form = format!("action=\"{MOUNT}{action}\"");
        let at = self
            .text
            .find(&form)
            .unwrap_or_else(|| panic!("no form for {action} in {}", self.text));
        let field = "name=\"token\" value=\"";
        let rest = &self.text[at..];
        let rest = &rest[rest.find(field).expect("a form has a token") + field.len()..];
        rest[..rest.find('"').unwrap()].to_owned()
    }
}

impl Answer {
    /// The hidden fields of the form that is sent to this path below [`MOUNT`], its token and version among them.
    pub fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let form = format!("action=\"{MOUNT}{action}\"");
        let at = self.text.find(&form);
        let at = at.unwrap_or_else(|| panic!("no form for {action} in {}", self.text));
        let rest = &self.text[at..];
        let rest = &rest[..rest.find("</form>").unwrap()];
        let value = |text: &str, name: &str| {
            let after = text.split_once(&format!(" {name}=\"")).unwrap().1;
            after.split_once('"').unwrap().0.to_owned()
        };
        let fields = rest.split("<input type=\"hidden\"").skip(1);
        fields
            .map(|text| (value(text, "name"), value(text, "value")))
            .collect()
    }
}

/// Sends a form that was loaded before, with the fields that the person fills.
pub async fn post_loaded<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    action: &str,
    hidden: &[(String, String)],
    typed: &[(&str, &str)],
) -> Answer {
    let hidden = hidden
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let fields: Vec<_> = hidden.chain(typed.iter().copied()).collect();
    post(app, name, action, &fields).await
}

/// Sends a request of a person (none if the name is empty) to a path below [`MOUNT`].
pub async fn send<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    request: test::TestRequest,
    path: &str,
) -> Answer {
    let mut request = request.uri(&format!("{MOUNT}{path}"));
    if !name.is_empty() {
        request = request.insert_header(("x-test-person", name));
    }
    // A fault of a middleware is answered by the server as it is by this.
    let response = test::try_call_service(app, request.to_request())
        .await
        .unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    // RFC 9110 section 15.5.2.
    let has_challenge = headers.contains_key("www-authenticate");
    assert!(status != 401 || has_challenge, "{path}");
    let body = test::read_body(response).await;
    Answer {
        status,
        headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}

pub async fn get<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    path: &str,
) -> Answer {
    send(app, name, test::TestRequest::get(), path).await
}

/// Sends a form as a browser does from a page of the same origin.
pub async fn post<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let request = test::TestRequest::default()
        .method(Method::POST)
        .insert_header(("sec-fetch-site", "same-origin"))
        .set_form(fields);
    send(app, name, request, path).await
}

/// Opens a page, and sends its form for `action` with these fields and its token.
pub async fn submit<B: MessageBody>(
    app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    name: &str,
    page: &str,
    action: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let token = get(app, name, page).await.token(action);
    let mut fields = fields.to_vec();
    fields.push(("token", &token));
    post(app, name, action, &fields).await
}
