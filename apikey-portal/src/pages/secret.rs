//! The page that shows a secret, once.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::{Config, NewKey};
use askama::Template;

use super::frame::Frame;
use crate::error::html;
use crate::visit::Visit;

#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage<'a> {
    frame: Frame<'a>,
    heading: &'a str,
    note: &'a str,
    id: String,
    label: &'a str,
    secret: &'a str,
    /// Whether the key has no scope, and there are some.
    lacks_scopes: bool,
    /// The header of a request with the key, up to the key.
    header: Option<String>,
}

/// Answers a form with the secret that it made.
pub(crate) fn show(visit: &Visit, key: &NewKey, heading: &str, note: &str) -> HttpResponse {
    let page = SecretPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        heading,
        note,
        id: key.id().to_string(),
        label: key.label(),
        secret: key.expose_secret(),
        lacks_scopes: key.record().scopes.iter().next().is_none()
            && visit.state.catalogue.iter().next().is_some(),
        header: header(visit.state.manager.config()),
    };
    html(StatusCode::OK, &page)
}

/// Returns the header that takes a key, up to the key; `None` if routes take it elsewhere by default.
fn header(config: &Config) -> Option<String> {
    let name = match config.location_name() {
        "header" => config.header_name(),
        _ => return None,
    };
    Some(match config.header_type() {
        Some(scheme) => format!("{name}: {scheme} "),
        None => format!("{name}: "),
    })
}
