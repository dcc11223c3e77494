//! The forms that change all keys of an owner at once.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::Error;

use super::changes::{done, failed, missing, reach};
use super::owner::{OwnerFormText, page, state};
use crate::error::PageError;
use crate::fields::{FormFields, SentForm};
use crate::may::may_administer;
use crate::visit::Visit;

/// Revokes all keys of an owner, and answers when no node accepts one.
pub(super) async fn revoke(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    let fields = read(&visit, form, "owner-revoke").await?;
    let owner = fields.exact("owner");
    let faults = missing(&fields);
    if !faults.is_empty() {
        return again(&visit, &fields, faults, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    if has_changed(&visit, &fields).await? {
        return changed(&visit, &fields).await;
    }
    let reason = fields.text("reason");
    let origin = visit.origin.clone().with_reason(reason);
    let call = visit.state.manager.revoke_all(owner);
    match call.reason(reason).origin(origin).confirmed().await {
        Ok(confirmed) if confirmed.value => {
            let mut told =
                vec!["Each key that the owner had until now is rejected from now on.".to_owned()];
            told.extend(reach(&confirmed.propagation));
            Ok(done(&visit, "All keys are revoked", &told, owner))
        }
        // A store that does not keep owners found nothing to revoke.
        Ok(_) => {
            let told = ["The owner did not have a key that could be revoked.".to_owned()];
            Ok(done(&visit, "Nothing was revoked", &told, owner))
        }
        Err(error) => refused(&visit, &fields, error, "all keys are revoked").await,
    }
}

/// Suspends an owner.
pub(super) async fn suspend(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    set_suspended(visit, form, true).await
}

/// Resumes an owner.
pub(super) async fn resume(visit: Visit, form: SentForm) -> Result<HttpResponse, PageError> {
    set_suspended(visit, form, false).await
}

async fn set_suspended(
    visit: Visit,
    form: SentForm,
    suspended: bool,
) -> Result<HttpResponse, PageError> {
    let action = if suspended {
        "owner-suspend"
    } else {
        "owner-resume"
    };
    let fields = read(&visit, form, action).await?;
    let owner = fields.exact("owner");
    if has_changed(&visit, &fields).await? {
        return changed(&visit, &fields).await;
    }
    let manager = &visit.state.manager;
    let call = match suspended {
        true => manager.suspend_owner(owner),
        false => manager.resume_owner(owner),
    };
    let (heading, what, told) = match suspended {
        true => (
            "The owner is suspended",
            "the owner is suspended",
            "All keys of the owner are rejected from now on, new ones too.",
        ),
        false => (
            "The owner is resumed",
            "the owner is resumed",
            "The keys of the owner are accepted again, except for those that are disabled, expired or revoked.",
        ),
    };
    match call.origin(visit.origin.clone()).confirmed().await {
        Ok(confirmed) => {
            let mut told = vec![told.to_owned()];
            told.extend(reach(&confirmed.propagation));
            Ok(done(&visit, heading, &told, owner))
        }
        Err(error) => refused(&visit, &fields, error, what).await,
    }
}

/// Reads a form after it was decided that the person may send it.
async fn read(visit: &Visit, form: SentForm, action: &str) -> Result<FormFields, PageError> {
    may_administer(&visit.person)?;
    let fields = form.read()?;
    visit
        .check_token(&fields, action, fields.exact("owner"))
        .await?;
    Ok(fields)
}

/// Returns whether the owner changed since the form was shown: a form that is sent twice does not revoke keys that
/// were created in between.
async fn has_changed(visit: &Visit, fields: &FormFields) -> Result<bool, PageError> {
    let state = state(visit, fields.exact("owner")).await?;
    Ok(fields.text("version") != state.version.to_string())
}

async fn changed(visit: &Visit, fields: &FormFields) -> Result<HttpResponse, PageError> {
    let fault = "This owner was changed since the form was shown. Look at what the page says now, and send the form \
                 again if you still want it.";
    again(visit, fields, vec![fault.to_owned()], StatusCode::CONFLICT).await
}

async fn refused(
    visit: &Visit,
    fields: &FormFields,
    error: Error,
    what: &str,
) -> Result<HttpResponse, PageError> {
    let fault = failed(error, what)?;
    again(visit, fields, vec![fault], StatusCode::UNPROCESSABLE_ENTITY).await
}

/// Shows the page again, with what was written.
async fn again(
    visit: &Visit,
    fields: &FormFields,
    faults: Vec<String>,
    status: StatusCode,
) -> Result<HttpResponse, PageError> {
    let form = OwnerFormText {
        faults,
        reason: fields.text("reason").to_owned(),
    };
    page(visit, fields.exact("owner"), false, &form, status).await
}
