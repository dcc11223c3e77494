//! Changes of many keys: revoking them, suspending and resuming owners.

use actix_web::{HttpResponse, web};
use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::manager::Propagation;
use apikey_runtime::store::ListCursor;
use apikey_runtime::{Error, KeyRecord, KeyState, Timestamp};
use serde_json::json;

use super::actions::noted;
use super::answer::confirmation;
use super::body::SentBody;
use super::caller::Caller;
use super::fields::{not_a_time, time};
use super::keys::{after, foreign_cursor};
use super::problem::ApiError;
use super::query::{self, OwnerScope};
use crate::may::{Action, may, owns};
use crate::path_part::PathPart;

/// The largest number of ids in a request.
const MAX_IDS: usize = 100;

/// The number of keys that one request revokes as unused.
const STEP: u32 = 100;

/// How keys are revoked.
struct Revocation {
    reason: Option<String>,
    origin: ChangeOrigin,
    confirmed: bool,
}

/// Revokes the keys with some ids, all of an owner, or those that are not used.
pub(super) async fn revoke(caller: Caller, body: SentBody) -> Result<HttpResponse, ApiError> {
    caller.changes()?;
    let mut members = body.read()?;
    let ids: Option<Vec<String>> = members.value("ids", "a list of ids")?;
    let unused = match time(&mut members, "unused_since")? {
        Some(None) => return Err(not_a_time("unused_since")),
        unused => unused.flatten(),
    };
    let owner = members.text("owner")?;
    let after = after(&mut members)?;
    let revocation = Revocation {
        reason: members.text("reason")?,
        origin: noted(&caller, &mut members)?,
        confirmed: members.flag("confirmed")?,
    };
    members.finish()?;
    if after.is_some() && unused.is_none() {
        return Err(ApiError::unusable(
            "`after` is for `unused_since`; leave it out.",
        ));
    }
    match (ids, owner, unused) {
        (Some(ids), None, None) => revoke_ids(&caller, &ids, &revocation).await,
        (None, Some(owner), None) => revoke_owner(&caller, owner, revocation).await,
        (None, owner, Some(time)) => revoke_unused(&caller, owner, time, after, &revocation).await,
        _ => Err(ApiError::unusable(
            "Which keys? State `ids`, `owner`, or `unused_since` with or without `owner`.",
        )),
    }
}

/// Revokes keys only if the caller may see all of them.
async fn revoke_ids(
    caller: &Caller,
    ids: &[String],
    revocation: &Revocation,
) -> Result<HttpResponse, ApiError> {
    if !(1..=MAX_IDS).contains(&ids.len()) {
        let detail = format!("`ids` has 1 to {MAX_IDS} ids; send several requests for more.");
        return Err(ApiError::unusable(detail));
    }
    let mut records = Vec::new();
    for id in ids {
        let record = caller.key(id).await?;
        may(&caller.person, &Action::End, &record)?;
        records.push(record);
    }
    let (revoked, propagation) = revoke_each(caller, &records, Among::Chosen, revocation).await?;
    Ok(HttpResponse::Ok().json(json!({
        "revoked": revoked,
        "next": null,
        "confirmation": confirmation(propagation.as_ref()),
    })))
}

/// Which of the chosen keys are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    /// All.
    Chosen,
    /// Those that were not changed since they were chosen.
    Unchanged,
}

/// Revokes keys one by one. Returns how many were not revoked before, and how all of it reached the other nodes.
/// If it fails, the same request continues.
async fn revoke_each(
    caller: &Caller,
    records: &[KeyRecord],
    among: Among,
    revocation: &Revocation,
) -> Result<(u32, Option<Propagation>), ApiError> {
    let (mut revoked, mut last) = (0, None);
    for record in records {
        let mut call = caller.manager().revoke(record.id);
        call = call.origin(revocation.origin.clone());
        if let Some(reason) = &revocation.reason {
            call = call.reason(reason);
        }
        if let Some(owner) = caller.owner_of(record) {
            call = call.owned_by(owner);
        }
        if among == Among::Unchanged {
            call = call.if_version(record.version);
        }
        match call.await {
            Ok(newly) => {
                revoked += u32::from(newly);
                last = Some(record.id);
            }
            // It was purged, or given to another owner meanwhile.
            Err(Error::NotFound(_)) => {}
            Err(Error::Conflict(_)) if among == Among::Unchanged => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (Some(id), true) = (last, revocation.confirmed) else {
        return Ok((revoked, None));
    };
    // This changes nothing more: it waits for all changes so far.
    let wait = caller.manager().revoke(id).origin(caller.origin.clone());
    match wait.confirmed().await {
        Ok(done) => Ok((revoked, Some(done.propagation))),
        Err(Error::NotFound(_)) => Ok((revoked, None)),
        Err(error) => Err(error.into()),
    }
}

/// Revokes all keys of an owner, whatever their number, in one change.
async fn revoke_owner(
    caller: &Caller,
    owner: String,
    revocation: Revocation,
) -> Result<HttpResponse, ApiError> {
    if !owns(&caller.person, Some(&owner)) {
        return Err(ApiError::not_found());
    }
    let mut call = caller.manager().revoke_all(owner).origin(revocation.origin);
    if let Some(reason) = revocation.reason {
        call = call.reason(reason);
    }
    let (known, propagation) = match revocation.confirmed {
        true => {
            let done = call.confirmed().await?;
            (done.value, Some(done.propagation))
        }
        false => (call.await?, None),
    };
    match known {
        true => Ok(HttpResponse::Ok().json(json!({
            "revoked": null,
            "next": null,
            "confirmation": confirmation(propagation.as_ref()),
        }))),
        false => Err(ApiError::not_found()),
    }
}

/// Revokes one page of the keys that were not used since a time.
async fn revoke_unused(
    caller: &Caller,
    owner: Option<String>,
    since: Timestamp,
    after: Option<ListCursor>,
    revocation: &Revocation,
) -> Result<HttpResponse, ApiError> {
    let now = caller.state.now();
    if since > now {
        return Err(ApiError::unusable(
            "`unused_since` is in the future, where no key was used yet; write an earlier time.",
        ));
    }
    let is_continued = after.is_some();
    let mut list = caller.manager().list().unused_since(since);
    match query::owners(caller, owner)? {
        OwnerScope::All => {}
        OwnerScope::One(owner) => list = list.owner(owner),
        OwnerScope::Nobody => return Err(ApiError::not_found()),
    }
    let page = match list.page_size(STEP).after(after).await {
        Err(Error::InvalidArgument(_)) if is_continued => return Err(foreign_cursor()),
        page => page?,
    };
    let mut records = page.keys;
    records.retain(|record| record.state_at(now) != KeyState::Revoked);
    let (revoked, propagation) =
        revoke_each(caller, &records, Among::Unchanged, revocation).await?;
    Ok(HttpResponse::Ok().json(json!({
        "revoked": revoked,
        "next": page.next.map(|next| next.to_string()),
        "confirmation": confirmation(propagation.as_ref()),
    })))
}

/// Denies all keys of an owner until it is resumed.
pub(super) async fn suspend(
    caller: Caller,
    owner: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    set_suspended(caller, owner.to_owned(), body, true).await
}

/// Accepts the keys of an owner again.
pub(super) async fn resume(
    caller: Caller,
    owner: web::Path<PathPart>,
    body: SentBody,
) -> Result<HttpResponse, ApiError> {
    set_suspended(caller, owner.to_owned(), body, false).await
}

async fn set_suspended(
    caller: Caller,
    owner: String,
    body: SentBody,
    suspended: bool,
) -> Result<HttpResponse, ApiError> {
    if !owns(&caller.person, Some(&owner)) {
        return Err(ApiError::not_found());
    }
    caller.admin_only()?;
    let mut members = body.read()?;
    let origin = noted(&caller, &mut members)?;
    let confirmed = members.flag("confirmed")?;
    members.finish()?;
    let call = match suspended {
        true => caller.manager().suspend_owner(&owner),
        false => caller.manager().resume_owner(&owner),
    };
    let call = call.origin(origin);
    let (changed, propagation) = match confirmed {
        true => {
            let done = call.confirmed().await?;
            (done.value, Some(done.propagation))
        }
        false => (call.await?, None),
    };
    Ok(HttpResponse::Ok().json(json!({
        "owner": owner,
        "suspended": suspended,
        "changed": changed,
        "confirmation": confirmation(propagation.as_ref()),
    })))
}
