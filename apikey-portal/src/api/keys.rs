//! Listing, showing and creating keys.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::manager::CreateKey;
use apikey_runtime::store::ListCursor;
use apikey_runtime::{Error, KeyId, Scopes, Timestamp};
use serde_json::json;

use super::answer::{self, KeyJson, last_uses};
use super::body::{Members, SentBody};
use super::caller::Caller;
use super::fields::{StatedEnd, StatedFields, networks};
use super::problem::ApiError;
use super::query::{self, OwnerScope};
use crate::may::may_create;
use crate::path_part::PathPart;

/// The largest page of a list.
const MAX_PAGE: u32 = 1_000;

/// Answers with a page of keys.
pub(super) async fn list(caller: Caller, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let mut query = query::parameters(&request)?;
    let stated = query.parameter("owner")?;
    let owners = query::owners(&caller, stated)?;
    let mut list = caller.manager().list();
    if let Some(text) = query.parameter("label_prefix")? {
        list = list.label_prefix(text);
    }
    if let Some(text) = query.parameter("id_prefix")? {
        list = list.id_prefix(text);
    }
    if let Some(state) = query::state(&mut query)? {
        list = list.state(state);
    }
    if let Some(time) = query::time(&mut query, "unused_since")? {
        list = list.unused_since(time);
    }
    if let Some(limit) = query.number("limit", MAX_PAGE)? {
        list = list.page_size(limit);
    }
    let after = after(&mut query)?;
    query.finish()?;
    let is_continued = after.is_some();
    list = list.after(after);
    match owners {
        OwnerScope::All => {}
        OwnerScope::One(owner) => list = list.owner(owner),
        OwnerScope::Nobody => return Ok(HttpResponse::Ok().json(json!({"keys": [], "next": null}))),
    }
    let page = match list.await {
        // The text of the runtime names the cursor.
        Err(Error::InvalidArgument(_)) if is_continued => return Err(foreign_cursor()),
        page => page?,
    };
    let manager = caller.manager();
    let uses = last_uses(manager, &page.keys).await?;
    let shown = page.keys.iter().map(|record| {
        let used = uses.iter().find(|used| used.key == record.id);
        KeyJson::of(manager, record, used)
    });
    Ok(HttpResponse::Ok().json(json!({
        "keys": shown.collect::<Vec<_>>(),
        "next": page.next.map(|next| next.to_string()),
    })))
}

/// Takes the cursor of a list.
pub(super) fn after(members: &mut Members) -> Result<Option<ListCursor>, ApiError> {
    let text = members.parameter("after")?;
    let read = |text: String| {
        text.parse()
            .map_err(|_not_a_cursor: Error| foreign_cursor())
    };
    text.map(read).transpose()
}

pub(super) fn foreign_cursor() -> ApiError {
    ApiError::unusable(
        "`after` is not the `next` of a page with these filters; start again without it.",
    )
}

/// Answers with a key.
pub(super) async fn show(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
) -> Result<HttpResponse, ApiError> {
    let record = caller.key(&id).await?;
    query::parameters(&request)?.finish()?;
    answer::key(&caller, &record).await
}

/// Creates a key, and answers with its secret.
pub(super) async fn create(
    caller: Caller,
    request: HttpRequest,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    caller.changes()?;
    let now = caller.state.now();
    let mut members = body.read()?;
    let mut fields = StatedFields::take(&mut members, now)?;
    let mut prefix = members.text("prefix")?;
    members.finish()?;
    let owner = owner(&caller, fields.owner.take())?;
    let scopes = Scopes::new(fields.scopes.take().unwrap_or_default())?;
    may_create(&caller.person, owner.as_deref(), &scopes)?;
    if fields.reserved_of_new() || prefix.is_some() {
        caller.admin_only()?;
    }
    restrict(&caller, &mut fields, &mut prefix)?;
    let id = idempotent_id(&caller, request.headers(), owner.as_deref()).await?;
    let Some(label) = fields.label.take() else {
        return Err(ApiError::unusable("`label` is missing; name the key."));
    };
    let mut call = caller.manager().create(label).scopes(scopes.iter());
    if let Some(owner) = owner {
        call = call.owner(owner);
    }
    if let Some(prefix) = prefix {
        call = call.prefix(prefix);
    }
    if let Some(held) = caller.held() {
        call = call.granted_by(held);
    }
    if let Some(id) = id {
        call = call.id(id);
    }
    let end = end(&caller, fields.expires, now)?;
    let call = with_fields(call, fields)?;
    let call = match end {
        StatedEnd::Unstated => call,
        StatedEnd::Never => call.never_expires(),
        StatedEnd::At(at) => call.expires_at(at),
    };
    match call.origin(caller.origin.clone()).await {
        Ok(new) => Ok(answer::secret(&caller, StatusCode::CREATED, &new)),
        Err(Error::Conflict(id)) => Err(created_before(&caller, id).await),
        Err(error) => Err(error.into()),
    }
}

fn with_fields(mut call: CreateKey, fields: StatedFields) -> Result<CreateKey, ApiError> {
    if let Some(text) = fields.description.flatten() {
        call = call.description(text);
    }
    if let Some(name) = fields.environment.flatten() {
        call = call.environment(name);
    }
    if let Some(texts) = &fields.networks {
        let networks: Vec<_> = networks(texts)?;
        call = call.networks(networks);
    }
    if let Some(methods) = fields.methods {
        call = call.methods(methods);
    }
    if let Some(limits) = fields.limits {
        call = call.limits(limits);
    }
    for (name, value) in fields.metadata.flatten().unwrap_or_default() {
        call = call.metadata(name, value);
    }
    if let Some(at) = fields.not_before.flatten() {
        call = call.not_before(at);
    }
    Ok(call)
}

/// Returns the owner of a new key: the stated one, or the caller's only one.
fn owner(caller: &Caller, stated: Option<Option<String>>) -> Result<Option<String>, ApiError> {
    match (stated, &caller.person.owners[..]) {
        (Some(owner), _) => Ok(owner),
        (None, [owner]) => Ok(Some(owner.clone())),
        (None, []) if caller.is_admin() => Ok(None),
        (None, _) => Err(ApiError::unusable(
            "`owner` is missing; name the owner of the key.",
        )),
    }
}

/// Restricts a new key as the key that creates it, and rejects what is less restricted.
fn restrict(
    caller: &Caller,
    fields: &mut StatedFields,
    prefix: &mut Option<String>,
) -> Result<(), ApiError> {
    let Some(own) = caller.own() else {
        return Ok(());
    };
    let mut new = own.clone();
    if let Some(environment) = fields.environment.take() {
        new.environment = environment;
    }
    if let Some(texts) = &fields.networks {
        new.networks = networks(texts)?;
    }
    if let Some(methods) = fields.methods.take() {
        new.methods = methods;
    }
    caller.check_gift(&new)?;
    fields.environment = Some(new.environment);
    fields.networks = Some(new.networks.iter().map(ToString::to_string).collect());
    fields.methods = Some(new.methods);
    fields.limits = Some(new.limits);
    *prefix = Some(new.prefix);
    Ok(())
}

/// Returns the end of a new key. One that a key creates ends with it at the latest.
fn end(caller: &Caller, stated: StatedEnd, now: Timestamp) -> Result<StatedEnd, ApiError> {
    let Some(own) = caller.own().and_then(|own| own.expires) else {
        return Ok(stated);
    };
    let policy = caller.manager().config().issue_policy();
    let by_default = policy
        .default_lifetime
        .and_then(|life| now.checked_add(life));
    match stated {
        StatedEnd::Unstated => Ok(StatedEnd::At(by_default.map_or(own, |end| end.min(own)))),
        StatedEnd::At(at) if at <= own => Ok(stated),
        StatedEnd::At(_) | StatedEnd::Never => Err(ApiError::outlives()),
    }
}

/// Returns the id of the key that this `Idempotency-Key` creates; `None` without one. A repeated creation is refused.
async fn idempotent_id(
    caller: &Caller,
    headers: &HeaderMap,
    owner: Option<&str>,
) -> Result<Option<KeyId>, ApiError> {
    let mut stated = headers.get_all("idempotency-key");
    let Some(first) = stated.next() else {
        return Ok(None);
    };
    let text = first.to_str().ok().and_then(structured_text);
    let (Some(text), None) = (text, stated.next()) else {
        return Err(ApiError::bad_request(
            "`Idempotency-Key` is not one text in quotation marks of 1 to 255 characters of ASCII, such as `\"8e03978e\"`.",
        ));
    };
    let id = caller
        .state
        .form_key()
        .await?
        .idempotent_id(&caller.person.id, owner, &text);
    match caller.manager().get(id).await {
        Ok(_) => Err(created_before(caller, id).await),
        Err(Error::NotFound(_)) => Ok(Some(id)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the answer to a repeated creation. It names the key if the caller may see it.
async fn created_before(caller: &Caller, id: KeyId) -> ApiError {
    let seen = caller.key(id.as_str()).await.ok();
    ApiError::created_before(seen.map(|record| record.id))
}

/// Reads a string of a structured field (RFC 9651 section 3.3.3), as the draft of `Idempotency-Key` has it.
fn structured_text(value: &str) -> Option<String> {
    let inner = value.trim().strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(letters.next().filter(|next| matches!(next, '"' | '\\'))?),
            ' '..='~' if letter != '"' => text.push(letter),
            _ => return None,
        }
    }
    (1..=255).contains(&text.len()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::structured_text;

    #[test]
    fn an_idempotency_key_is_a_string_of_a_structured_field() {
        let read = |value: &str| structured_text(value);
        assert_eq!(read("\"a b\""), Some("a b".to_owned()));
        assert_eq!(read("\"a\\\"\\\\b\""), Some("a\"\\b".to_owned()));
        assert_eq!(
            read(&format!("\"{}\"", "x".repeat(255))).map(|text| text.len()),
            Some(255)
        );
        let long = format!("\"{}\"", "x".repeat(256));
        for wrong in [
            "", "a", "\"\"", "\"", "\"a", "\"a\"b\"", "\"a\\b\"", "\"a\\\"", "\"ä\"", &long,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
