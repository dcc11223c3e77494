//! The application's [`PortalAuth`] behind one type.

use std::future::Future;
use std::pin::Pin;

use actix_web::HttpRequest;

use crate::person::{BoxError, Person, PortalAuth};

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Person>, BoxError>> + 'a>>;

/// [`PortalAuth`] with one type for all implementations.
pub(crate) trait AnyAuth: Send + Sync {
    fn person<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a>;
}

impl<A: PortalAuth> AnyAuth for A {
    fn person<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a> {
        Box::pin(PortalAuth::person(self, request))
    }
}
