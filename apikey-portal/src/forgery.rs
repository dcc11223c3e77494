//! Protection against forged requests of other sites, as in Go 1.25's `CrossOriginProtection`.

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::uri::Authority;
use actix_web::{Error, HttpRequest, HttpResponse};

/// What a request's headers say of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestSource {
    /// A page of this origin, or the person themselves.
    Same,
    /// Another origin, or one that is not known.
    Other,
    /// Neither header is there: not a browser's, or a very old one's.
    Unstated,
}

/// An origin: scheme, host and port, in the form that browsers write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl Origin {
    /// Returns the origin of an `http` or `https` URL, without its default port and in lower case.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        if authority.is_empty() || authority.contains(['@', ' ', '\\']) {
            return None;
        }
        let authority = authority.to_ascii_lowercase();
        let host = authority.strip_suffix(default_port).unwrap_or(&authority);
        Some(Self(format!("{scheme}://{host}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a stated `Origin` is this one.
    fn is(&self, stated: &str) -> bool {
        Self::of_url(stated).is_some_and(|stated| stated == *self)
    }

    /// Returns whether a stated `Origin` has this host and port, whatever its scheme: a server behind a proxy
    /// does not know whether its client used TLS.
    fn has_host_of(&self, stated: &str) -> bool {
        let authority = |origin: &Self| origin.0.split_once("://").map(|(_, host)| host.to_owned());
        Self::of_url(stated).is_some_and(|stated| authority(&stated) == authority(self))
    }
}

/// Returns the source of a request. `own` is the origin of the public URL, if one is configured; otherwise,
/// `host` is the request's own host and port.
pub(crate) fn source(
    headers: &HeaderMap,
    own: Option<&Origin>,
    host: Option<&str>,
) -> RequestSource {
    if let Some(site) = once(headers, "sec-fetch-site") {
        return match site {
            Ok("same-origin" | "none") => RequestSource::Same,
            _ => RequestSource::Other,
        };
    }
    let Some(stated) = once(headers, "origin") else {
        return RequestSource::Unstated;
    };
    let is_same = stated.is_ok_and(|stated| match (own, host) {
        (Some(own), _) => own.is(stated),
        (None, Some(host)) => {
            Origin::of_url(&format!("http://{host}")).is_some_and(|own| own.has_host_of(stated))
        }
        (None, None) => false,
    });
    match is_same {
        true => RequestSource::Same,
        false => RequestSource::Other,
    }
}

/// Returns whether a method cannot change anything.
pub(crate) fn is_safe(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Returns the value of a header; an error if it is there more than once, or not ASCII.
fn once<'h>(headers: &'h HeaderMap, name: &str) -> Option<Result<&'h str, ()>> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    if values.next().is_some() {
        return Some(Err(()));
    }
    Some(first.to_str().map_err(|_not_a_text| ()))
}

/// Returns the source of a request. One that cannot change anything is as good as the portal's own.
pub(crate) fn source_of(request: &HttpRequest, own: Option<&Origin>) -> RequestSource {
    if is_safe(request.method()) {
        return RequestSource::Same;
    }
    source(request.headers(), own, host_of(request))
}

/// Returns the host and port that a request is for. HTTP/2 states them in the target, and not as `Host`.
fn host_of(request: &HttpRequest) -> Option<&str> {
    match request.headers().get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => request.uri().authority().map(Authority::as_str),
    }
}

/// Returns whether a form of the application itself may be served. Without a stated source, only a program's request
/// is: it has a Bearer credential, and not a cookie by which a session could serve it.
fn accepts(request: &HttpRequest, own: Option<&Origin>) -> bool {
    let headers = request.headers();
    match source_of(request, own) {
        RequestSource::Same => true,
        RequestSource::Other => false,
        RequestSource::Unstated => has_bearer(headers) && !headers.contains_key(header::COOKIE),
    }
}

/// Logs a request that is not accepted, so that a wrong public URL is found. `own` is as in [`accepts`].
pub(crate) fn log(request: &HttpRequest, own: Option<&Origin>) {
    let stated = |name: &str| {
        let value = request.headers().get(name);
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    tracing::warn!(
        expected = ?own.map(Origin::as_str).or_else(|| host_of(request)),
        origin = ?stated("origin"),
        sec_fetch_site = ?stated("sec-fetch-site"),
        "a form was rejected, since it does not come from the portal's origin; if that is not the one that visitors see, \
         set `Portal::public_url`"
    );
}

/// Returns whether a request has a Bearer credential, whatever it is worth.
pub(crate) fn has_bearer(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    let scheme = value.and_then(|value| value.get(..7));
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// Rejects forged requests of other sites, for the forms of the application itself.
///
/// A request with another method than `GET` and `HEAD` is answered with 403, unless its `Sec-Fetch-Site` is
/// `same-origin` or `none`. If a browser does not send that, `Origin` must be the request's own host and port.
/// A request with neither of both is rejected, unless it has a Bearer credential and does not have the header `Cookie`:
/// it is a program's, and a session does not serve it.
///
/// ```
/// use actix_web::{App, web};
/// use apikey_portal::SameOriginOnly;
///
/// let app = App::new().service(
///     web::scope("/account").wrap(SameOriginOnly::new()).route("/name", web::post().to(|| async { "changed" })),
/// );
/// # let _ = app;
/// ```
#[derive(Debug, Clone, Default)]
pub struct SameOriginOnly {
    own: Option<Origin>,
}

impl SameOriginOnly {
    /// Creates the middleware for an application that visitors see under the host of their request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the URL under which visitors see the application. `None` if it is not an `http` or `https` URL.
    #[must_use]
    pub fn of_url(public_url: &str) -> Option<Self> {
        let own = Some(Origin::of_url(public_url)?);
        Some(Self { own })
    }
}

impl<S, B> Transform<S, ServiceRequest> for SameOriginOnly
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = SameOriginService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(SameOriginService {
            service,
            own: self.own.clone(),
        }))
    }
}

/// The service of [`SameOriginOnly`].
#[derive(Debug)]
pub struct SameOriginService<S> {
    service: S,
    own: Option<Origin>,
}

impl<S, B> Service<ServiceRequest> for SameOriginService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if accepts(request.request(), self.own.as_ref()) {
            let answer = self.service.call(request);
            return Box::pin(async move { Ok(answer.await?.map_into_left_body()) });
        }
        let answer = HttpResponse::Forbidden()
            .content_type("text/plain; charset=utf-8")
            .body(
                "This form came from another site. Open the page again and send it from there.\n",
            );
        Box::pin(ready(Ok(request
            .into_response(answer)
            .map_into_right_body())))
    }
}
