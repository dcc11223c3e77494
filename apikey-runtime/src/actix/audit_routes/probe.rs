//! A request of an audit, and what its answer shows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, Service, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::introspection::IntrospectionTree;
use actix_web::test::TestRequest;
use actix_web::{Error, HttpResponse, web};

use crate::actix::open_paths::OpenPaths;
use crate::actix::response::RefusedMark;
use crate::denied::DenyReason;

/// How long a route may take to answer. A guard that refuses a request without a key does not wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request without a key.
pub(super) struct Probe {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What an answer shows.
pub(super) struct Sent {
    /// The status; `None` if the answer did not come in time.
    pub(super) status: Option<StatusCode>,
    /// Whether a guard of this crate refused the request.
    pub(super) is_refused: bool,
    /// Whether a guard found that the app does not have a manager. What it would decide with one is
    /// not known.
    is_unmanaged: bool,
    /// The part of the path that services did not match, and the length of the part before. `None` if
    /// the answer was an error of middleware.
    pub(super) unmatched: Option<(String, usize)>,
    /// The pattern of the resource that the request reached, or would reach by its path.
    pub(super) pattern: Option<String>,
    /// What answers of one service have in common; `None` if the body is a stream.
    pub(super) look: Option<Look>,
    /// The patterns that the middleware which refused the request leaves open.
    pub(super) open: OpenPaths,
    pub(super) tree: Option<web::Data<IntrospectionTree>>,
}

#[derive(PartialEq, Eq)]
pub(super) struct Look {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    pub(super) body: web::Bytes,
}

impl Probe {
    pub(super) fn new(
        method: Method,
        path: String,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        Self {
            method,
            path,
            headers,
        }
    }

    fn request(&self) -> Request {
        // Middleware that limits clients needs an address.
        let request = TestRequest::default()
            .method(self.method.clone())
            .uri(&self.path)
            .peer_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)));
        let headers = self.headers.iter().cloned();
        headers
            .fold(request, TestRequest::insert_header)
            .to_request()
    }
}

impl Sent {
    fn of<B: MessageBody>(response: ServiceResponse<B>) -> Self {
        let request = response.request();
        let info = request.match_info();
        let unmatched = info.unprocessed().to_owned();
        let matched = info.as_str().len() - unmatched.len();
        let pattern = request.match_pattern();
        let tree = request.app_data::<web::Data<IntrospectionTree>>().cloned();
        let (mark, open) = marks(&response.response().extensions());
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let look = |body| Look {
            status,
            content_type,
            body,
        };
        Self {
            status: Some(status),
            is_refused: is_refusal(mark),
            is_unmanaged: mark == Some(DenyReason::NoManager),
            unmatched: Some((unmatched, matched)),
            pattern,
            look: response.into_body().try_into_bytes().ok().map(look),
            open,
            tree,
        }
    }

    fn of_error(response: Option<&HttpResponse>) -> Self {
        let marks = response.map(|response| marks(&response.extensions()));
        let (mark, open) = marks.unwrap_or_default();
        Self {
            status: response.map(HttpResponse::status),
            is_refused: is_refusal(mark),
            is_unmanaged: mark == Some(DenyReason::NoManager),
            unmatched: None,
            pattern: None,
            look: None,
            open,
            tree: None,
        }
    }

    /// Returns whether the answer came from middleware before any service was matched.
    pub(super) fn is_before_routing(&self) -> bool {
        let matched = self.unmatched.as_ref().map(|(_, matched)| *matched);
        matched == Some(0)
    }

    /// Returns whether the request reached a resource. If it did not, a default service answered, or
    /// middleware before one.
    pub(super) fn has_matched(&self) -> bool {
        self.unmatched
            .as_ref()
            .is_some_and(|(unmatched, _)| unmatched.is_empty())
    }

    /// Returns whether the answer came from the default service below a prefix of this length, and is
    /// not that nothing is there.
    pub(super) fn is_open_default(&self, prefix: usize) -> bool {
        let is_default = self
            .unmatched
            .as_ref()
            .is_none_or(|(rest, matched)| !rest.is_empty() && *matched == prefix);
        let nothing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        let is_nothing = self.status.is_some_and(|status| nothing.contains(&status));
        is_default && !self.is_refused && !is_nothing
    }

    /// Returns whether routes below a prefix of this length did not take the request: the default
    /// service answered, or middleware before it.
    pub(super) fn has_passed_routes(&self, prefix: usize) -> bool {
        let unmatched = self.unmatched.as_ref();
        unmatched.is_none_or(|(rest, matched)| !rest.is_empty() && *matched <= prefix)
    }

    /// Returns the answer as text: `answered 200`.
    pub(super) fn answer(&self) -> String {
        match self.status {
            Some(_) if self.is_unmanaged => {
                "answered 500, since the app does not have a manager".to_owned()
            }
            Some(status) => format!("answered {}", status.as_u16()),
            None => format!("did not answer within {} s", PATIENCE.as_secs()),
        }
    }
}

fn marks(extensions: &Extensions) -> (Option<DenyReason>, OpenPaths) {
    let reason = extensions.get::<RefusedMark>().map(|mark| mark.0);
    let open = extensions.get::<OpenPaths>().cloned();
    (reason, open.unwrap_or_default())
}

fn is_refusal(mark: Option<DenyReason>) -> bool {
    mark.is_some_and(|reason| reason != DenyReason::NoManager)
}

pub(super) async fn send<S, B>(app: &S, probe: &Probe) -> Sent
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    match actix_web::rt::time::timeout(PATIENCE, app.call(probe.request())).await {
        Ok(Ok(response)) => Sent::of(response),
        Ok(Err(error)) => Sent::of_error(Some(&error.error_response())),
        Err(_) => Sent::of_error(None),
    }
}
