//! The bodies of requests: JSON objects whose members are all known.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use apikey_runtime::Config;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;

use super::problem::ApiError;
use crate::pages::text::{HAS_KEY, has_key};
use crate::state::PortalState;

/// The limit of a body, in bytes.
pub(super) const MAX_BODY: usize = 32 * 1024;

/// A body, or why it cannot be read: a handler first decides whether the caller may do it.
pub(super) struct SentBody {
    /// Why the media type is refused.
    media_type: Result<(), ApiError>,
    content: Result<Bytes, ApiError>,
    state: Option<Arc<PortalState>>,
}

/// The largest number of members of a body, and of parameters of a query. Each is compared with all others.
const MAX_MEMBERS: usize = 32;

/// The members of a body or a query that were not taken yet, in their order.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, Value)>);

/// A member that may be absent, `null`, or a value.
pub(super) type Member<T> = Option<Option<T>>;

impl SentBody {
    /// Returns the members of the object. An empty body is an empty object.
    pub(super) fn read(self) -> Result<Members, ApiError> {
        self.media_type?;
        let content = self.content?;
        if content.is_empty() {
            return Ok(Members::default());
        }
        let members: Members = serde_json::from_slice(&content).map_err(|error| match error.classify() {
            Category::Data => ApiError::unusable(
                "The body is not a JSON object with at most 32 members, all with different names.",
            ),
            _ => ApiError::bad_request(format!("The body is not JSON: {error}.")),
        })?;
        let config = self.state.as_ref().map(|state| state.manager.config());
        let has_key = |config| members.0.iter().any(|(_, value)| holds_key(config, value));
        match config.is_some_and(has_key) {
            true => Err(ApiError::unusable(HAS_KEY)),
            false => Ok(members),
        }
    }
}

impl Members {
    /// Makes members of texts, such as those of a query.
    pub(super) fn of_texts(texts: Vec<(String, String)>) -> Result<Self, ApiError> {
        if texts.len() > MAX_MEMBERS {
            return Err(ApiError::unusable(
                "The query has more than 32 parameters; leave out those that are not needed.",
            ));
        }
        let mut members = Self::default();
        for (name, text) in texts {
            if members.0.iter().any(|(known, _)| *known == name) {
                let name = name.escape_debug();
                let detail = format!("`{name}` is stated more than once; state it once.");
                return Err(ApiError::unusable(detail));
            }
            members.0.push((name, Value::String(text)));
        }
        Ok(members)
    }

    /// Takes a member. `what` says in words what it has to be.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        what: &'static str,
    ) -> Result<Member<T>, ApiError> {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.swap_remove(at);
        serde_json::from_value(value)
            .map(Some)
            .map_err(|_other_type| ApiError::unusable(format!("`{name}` is not {what}.")))
    }

    /// Takes a member that cannot be `null`.
    pub(super) fn value<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        what: &'static str,
    ) -> Result<Option<T>, ApiError> {
        match self.take(name, what)? {
            Some(None) => Err(ApiError::unusable(format!("`{name}` is not {what}."))),
            Some(value) => Ok(value),
            None => Ok(None),
        }
    }

    /// Takes a member that is a text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.value(name, "a text")
    }

    /// Takes a member of a query that is set. An empty text is not.
    pub(super) fn parameter(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// Takes a number of a query.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        most: u32,
    ) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.parameter(name)? else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::unusable(format!(
                "`{name}` is not a whole number from 1 to {most}."
            ))),
        }
    }

    /// Takes a flag that is `false` by default.
    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        Ok(self.value(name, "`true` or `false`")?.unwrap_or(false))
    }

    /// Rejects members that were not taken.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                let name = name.escape_debug();
                Err(ApiError::unusable(format!(
                    "`{name}` is not known here; leave it out."
                )))
            }
        }
    }
}

/// Returns whether a text in a value has a key with its secret in it.
fn holds_key(config: &Config, value: &Value) -> bool {
    match value {
        Value::String(text) => has_key(config, text),
        Value::Array(values) => values.iter().any(|value| holds_key(config, value)),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| has_key(config, name) || holds_key(config, value)),
        _ => false,
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.0.len() == MAX_MEMBERS {
                        return Err(A::Error::custom("it has too many members"));
                    }
                    if members.0.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("two members have one name"));
                    }
                    members.0.push((name, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The media types of bodies: a change may name itself a merge patch (RFC 7396).
fn media_types(method: &Method) -> &'static [&'static str] {
    match *method == Method::PATCH {
        true => &["application/json", "application/merge-patch+json"],
        false => &["application/json"],
    }
}

/// Rejects a body of another media type. Without a body, a media type is not needed.
fn check_media_type(method: &Method, headers: &HeaderMap, is_empty: bool) -> Result<(), ApiError> {
    let accepted = media_types(method);
    let mut stated = headers.get_all(header::CONTENT_TYPE);
    let first = stated.next();
    let kind = first.and_then(|value| value.to_str().ok());
    let kind = kind
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    let fits = kind.is_some_and(|kind| accepted.iter().any(|one| one.eq_ignore_ascii_case(kind)));
    if (is_empty && first.is_none()) || (fits && stated.next().is_none()) {
        return Ok(());
    }
    let list = accepted.join(", ");
    let error = ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "Unsupported media type",
        format!("Send the body as {list}, and name it in `Content-Type`."),
    );
    Err(match HeaderValue::from_str(&list) {
        Ok(list) => error.with_header(header::ACCEPT, list),
        Err(_not_a_value) => error,
    })
}

fn unread(error: &actix_web::Error) -> ApiError {
    match error.as_error() {
        Some(PayloadError::Overflow) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "Body too large",
            "The body has more than 32 kB. Send a smaller one.",
        ),
        _ => ApiError::bad_request("The body did not arrive as its headers say. Send it again."),
    }
}

impl FromRequest for SentBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let state = request.app_data::<Arc<PortalState>>().map(Arc::clone);
        let content = Bytes::from_request(&request, payload);
        Box::pin(async move {
            let content = content.await.map_err(|error| unread(&error));
            let is_empty = content.as_ref().is_ok_and(|content| content.is_empty());
            Ok(Self {
                media_type: check_media_type(request.method(), request.headers(), is_empty),
                content,
                state,
            })
        })
    }
}
