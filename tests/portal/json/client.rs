//! A client of the API.

use actix_http::Request;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use apikey_runtime::{ApiKeyManager, NewKey};
use serde_json::Value;

use super::document::check;
use crate::app::{Answer, send};

/// The scopes of a key that may do all that a key may do.
pub const ALL: [&str; 5] = [
    "apikeys:read",
    "apikeys:create",
    "apikeys:manage",
    "hello:read",
    "orders:read",
];

/// A request to the API. Those of people come from a page of the same origin.
pub struct Call {
    request: TestRequest,
    method: Method,
    path: String,
    person: String,
    body: Option<Value>,
}

impl Call {
    pub fn new(method: Method, path: impl AsRef<str>) -> Self {
        Self {
            request: TestRequest::default().method(method.clone()),
            method,
            path: path.as_ref().to_owned(),
            person: String::new(),
            body: None,
        }
    }

    pub fn get(path: impl AsRef<str>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: impl AsRef<str>) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn patch(path: impl AsRef<str>) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// Sends it as a person; as nobody if the name is empty.
    pub fn by(self, name: &str) -> Self {
        let mut call = self.header("sec-fetch-site", "same-origin");
        name.clone_into(&mut call.person);
        call
    }

    /// Sends it with a key.
    pub fn with(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.insert_header((name, value));
        self
    }

    pub fn if_match(self, tag: &str) -> Self {
        self.header("if-match", tag)
    }

    pub fn from(mut self, address: &str) -> Self {
        let address = format!("{address}:1").parse().unwrap();
        self.request = self.request.peer_addr(address);
        self
    }

    pub fn json(mut self, body: Value) -> Self {
        self = self.text("application/json", &body.to_string());
        self.body = Some(body);
        self
    }

    pub fn text(mut self, media_type: &str, body: &str) -> Self {
        self.request = self
            .request
            .insert_header(("content-type", media_type))
            .set_payload(body.to_owned());
        self
    }

    /// Sends it, and compares the answer with the document.
    pub async fn send<B: MessageBody>(
        self,
        app: &impl Service<Request, Response = ServiceResponse<B>, Error = Error>,
    ) -> Answer {
        let path = format!("/v1{}", self.path);
        let answer = send(app, &self.person, self.request, &path).await;
        check(
            self.method.as_str(),
            &self.path,
            self.body.as_ref(),
            &answer,
        );
        answer
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Asserts that this is a problem, and returns the last part of its type.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        let kind = body["type"].as_str().unwrap();
        let code = kind.strip_prefix("urn:problem-type:api-key:").unwrap();
        code.to_owned()
    }

    /// Asserts that this is 422, and that its text names what is wrong.
    #[track_caller]
    pub fn names(&self, what: &str) {
        self.problem(422);
        let detail = self.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(what), "{detail}");
    }
}

/// Creates a key that calls the API.
pub async fn key(manager: &ApiKeyManager, owner: &str, scopes: &[&str]) -> NewKey {
    let call = manager.create("program").owner(owner).scopes(scopes);
    call.await.unwrap()
}
