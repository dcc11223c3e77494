//! What queries ask for.

use actix_web::{HttpRequest, web};
use apikey_runtime::{KeyId, KeyState, Timestamp};

use super::body::Members;
use super::caller::Caller;
use super::fields::not_a_time;
use super::problem::ApiError;
use crate::may::owns;
use crate::pages::moment::has_four_digits;

/// The owners whose keys a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OwnerScope {
    All,
    One(String),
    /// The caller does not have keys.
    Nobody,
}

/// Returns the parameters of a query.
pub(super) fn parameters(request: &HttpRequest) -> Result<Members, ApiError> {
    let texts = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    match texts {
        Ok(texts) => Members::of_texts(texts.into_inner()),
        Err(_unreadable) => Err(ApiError::bad_request(
            "The query cannot be read. Encode its texts.",
        )),
    }
}

/// Returns the owners that a request is about: the stated one, if it is the caller's, or the caller's only one.
pub(super) fn owners(caller: &Caller, stated: Option<String>) -> Result<OwnerScope, ApiError> {
    match stated {
        Some(owner) if owns(&caller.person, Some(&owner)) => Ok(OwnerScope::One(owner)),
        Some(_) => Err(ApiError::not_found()),
        None if caller.is_admin() => Ok(OwnerScope::All),
        None => match &caller.person.owners[..] {
            [] => Ok(OwnerScope::Nobody),
            [owner] => Ok(OwnerScope::One(owner.clone())),
            _ => Err(ApiError::unusable(
                "You have several owners; name one of them in `owner`.",
            )),
        },
    }
}

/// Takes a time.
pub(super) fn time(
    parameters: &mut Members,
    name: &'static str,
) -> Result<Option<Timestamp>, ApiError> {
    let text = parameters.parameter(name)?;
    let read = |text: String| {
        let time = text.parse().ok();
        time.filter(has_four_digits).ok_or_else(|| not_a_time(name))
    };
    text.map(read).transpose()
}

/// Takes a state of keys.
pub(super) fn state(parameters: &mut Members) -> Result<Option<KeyState>, ApiError> {
    let text = parameters
        .parameter("state")?
        .map(serde_json::Value::String);
    let read = |text| {
        serde_json::from_value(text).map_err(|_not_a_state| {
            ApiError::unusable(
                "`state` is not `active`, `disabled`, `suspended`, `expired`, `idle`, `not_yet_valid` or `revoked`.",
            )
        })
    };
    text.map(read).transpose()
}

/// Takes the id of a key.
pub(super) fn id(parameters: &mut Members, name: &'static str) -> Result<Option<KeyId>, ApiError> {
    let text = parameters.parameter(name)?;
    let read = |text: String| {
        text.parse()
            .map_err(|_not_an_id| ApiError::unusable(format!("`{name}` is not the id of a key.")))
    };
    text.map(read).transpose()
}
