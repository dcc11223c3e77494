//! Changing fields of a key by a merge patch (RFC 7396).

use actix_web::{HttpRequest, HttpResponse, web};
use apikey_runtime::manager::UpdateKey;
use apikey_runtime::{KeyRecord, Scopes, Timestamp};

use super::answer;
use super::body::SentBody;
use super::caller::Caller;
use super::fields::{StatedEnd, StatedFields, merge, networks};
use super::problem::ApiError;
use super::restrictions::is_as_restricted;
use super::version::Precondition;
use crate::may::{Action, may};
use crate::path_part::PathPart;

/// Changes a key, and answers with it.
pub(super) async fn patch(
    caller: Caller,
    request: HttpRequest,
    id: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    let record = caller.key(&id).await?;
    let nothing = Scopes::none();
    let edit = Action::Edit {
        added_scopes: &nothing,
    };
    may(&caller.person, &edit, &record)?;
    let precondition = Precondition::of(&request, &record)?;
    precondition.required()?;
    let now = caller.state.now();
    let mut members = body.read()?;
    let fields = StatedFields::take(&mut members, now)?;
    members.finish()?;
    judge(&caller, &record, &fields)?;
    let mut call = caller
        .manager()
        .update(record.id)
        .if_version(record.version);
    if let Some(owner) = caller.owner_of(&record) {
        call = call.owned_by(owner);
    }
    if let Some(held) = caller.held() {
        call = call.granted_by(held);
    }
    let call = with_fields(call, &record, fields)?.origin(caller.origin.clone());
    match call.await {
        Ok(record) => answer::key(&caller, &record).await,
        Err(error) => Err(precondition.failed(error)),
    }
}

/// Decides whether the caller may make this change of a record.
fn judge(caller: &Caller, record: &KeyRecord, fields: &StatedFields) -> Result<(), ApiError> {
    if fields.reserved() {
        may(&caller.person, &Action::EditReserved, record)?;
    }
    let mut changed = record.clone();
    let mut gives = false;
    if let Some(scopes) = &fields.scopes {
        changed.scopes = Scopes::new(scopes)?;
        let added = changed
            .scopes
            .iter()
            .filter(|scope| !record.scopes.contains(scope));
        let added = Scopes::new(added)?;
        let edit = Action::Edit {
            added_scopes: &added,
        };
        may(&caller.person, &edit, record)?;
        gives = !added.is_empty();
    }
    if let Some(texts) = &fields.networks {
        changed.networks = networks(texts)?;
    }
    if let Some(methods) = &fields.methods {
        changed.methods.clone_from(methods);
    }
    match fields.expires {
        StatedEnd::Unstated => {}
        StatedEnd::Never => changed.expires = None,
        StatedEnd::At(at) => changed.expires = Some(at),
    }
    let latest = |end: Option<Timestamp>| end.unwrap_or(Timestamp::MAX);
    let prolongs = latest(changed.expires) > latest(record.expires);
    // A person edits networks and methods. A key widens those of keys that it could make itself.
    let widens = caller.own().is_some() && !is_as_restricted(&changed, record);
    if gives || prolongs || widens {
        caller.check_gift(&changed)?;
    }
    if prolongs || widens {
        may(&caller.person, &Action::Prolong, &changed)?;
    }
    Ok(())
}

fn with_fields(
    mut call: UpdateKey,
    record: &KeyRecord,
    fields: StatedFields,
) -> Result<UpdateKey, ApiError> {
    if let Some(label) = fields.label {
        call = call.label(label);
    }
    if let Some(text) = fields.description {
        call = call.description::<String>(text);
    }
    if let Some(owner) = fields.owner {
        call = call.owner::<String>(owner);
    }
    if let Some(scopes) = fields.scopes {
        call = call.scopes(scopes);
    }
    if let Some(name) = fields.environment {
        call = call.environment::<String>(name);
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
    if let Some(patch) = fields.metadata {
        let mut metadata = record.metadata.clone();
        match patch {
            Some(patch) => merge(&mut metadata, patch),
            None => metadata.clear(),
        }
        call = call.metadata(metadata);
    }
    if let Some(at) = fields.not_before {
        call = call.not_before(at);
    }
    Ok(match fields.expires {
        StatedEnd::Unstated => call,
        StatedEnd::Never => call.never_expires(),
        StatedEnd::At(at) => call.expires_at(at),
    })
}
