//! The values of a route's path, for the templates of scopes.

use std::borrow::Cow;
use std::collections::HashMap;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};

use crate::policy::PathValues;

/// A request's path as its route reads it.
pub(super) struct RoutePath<'r>(pub(super) &'r HttpRequest);

impl PathValues for RoutePath<'_> {
    /// Decoded by `web::Path`, so that the scope is judged by the very text that the handler will
    /// see: `match_info` leaves `%2F` as it is.
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let raw = self.0.match_info().get(name)?;
        let decoded =
            web::Path::<HashMap<String, String>>::from_request(self.0, &mut Payload::None)
                .into_inner();
        match decoded {
            Ok(mut values) => values.remove(name).map(Cow::Owned),
            // What cannot be decoded fills no segment.
            Err(_) => Some(Cow::Owned(format!("*{raw}"))),
        }
    }
}
