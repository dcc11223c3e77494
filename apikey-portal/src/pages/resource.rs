//! The resources of pages: their methods, and the answer to others.

use std::future::ready;

use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, Route, guard, web};

use crate::error::PageError;
use crate::visit::Visit;

/// Returns the resource of a page that is read: by `GET`, and by `HEAD`.
pub(crate) fn shown<F, Args>(path: &str, show: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, "GET, HEAD").route(read(show))
}

/// Returns the resource of a form that another page has.
pub(super) fn sent<F, Args>(path: &str, take: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, "POST").route(web::post().to(take))
}

/// Returns the resource of a page that is read, and has a form that is sent to it.
pub(super) fn shown_and_sent<F, G, Args, Fields>(path: &str, show: F, take: G) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
    G: Handler<Fields>,
    Fields: FromRequest + 'static,
    G::Output: Responder + 'static,
{
    let resource = resource(path, "GET, HEAD, POST").route(read(show));
    resource.route(web::post().to(take))
}

/// Returns a resource that answers other methods than those with 405.
fn resource(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move |_: Visit| {
        ready(Err::<HttpResponse, _>(PageError::MethodNotAllowed(methods)))
    }))
}

fn read<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let methods = guard::Any(guard::Get()).or(guard::Head());
    web::route().guard(methods).to(handler)
}
