//! What the forms that change a key have in common.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use apikey_runtime::{Error, KeyId, KeyRecord, KeyState, Scopes};
use askama::Template;

use super::frame::Frame;
use crate::error::{PageError, html, is_unfinished};
use crate::fields::{FormFields, SentForm};
use crate::may::{Action, may};
use crate::visit::Visit;

/// A form that changes a key. Its person may do so, and its token is right.
pub(super) struct KeyForm {
    pub(super) record: KeyRecord,
    pub(super) fields: FormFields,
    /// The version of the record that the form was shown with.
    pub(super) version: u64,
}

impl KeyForm {
    /// Checks a form in this order: the key, the person's right, the fields, the token.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::NotFound`], [`PageError::Forbidden`], [`PageError::BadForm`] or
    /// [`PageError::FormExpired`] if a check fails, and [`PageError::Unavailable`] if the store does.
    pub(super) async fn check(
        visit: &Visit,
        id: &str,
        form: SentForm,
        (action, name): (&Action<'_>, &str),
    ) -> Result<Self, PageError> {
        let record = visit.key(id).await?;
        may(&visit.person, action, &record)?;
        let fields = form.read()?;
        let shown = record.id.to_string();
        visit.check_token(&fields, name, &shown).await?;
        let version = fields.text("version").parse().map_err(|_not_a_number| {
            PageError::BadForm("The form is not complete. Open the page again.".to_owned())
        })?;
        Ok(Self {
            record,
            fields,
            version,
        })
    }
}

/// Sets where a call comes from, and that it changes only what the person saw: this version, of this owner.
macro_rules! as_shown {
    ($call:expr, $visit:expr, $form:expr) => {{
        let call = $call
            .origin($visit.origin.clone())
            .if_version($form.version);
        match $crate::pages::change::bound_owner($visit, &$form.record) {
            Some(owner) => call.owned_by(owner),
            None => call,
        }
    }};
}
pub(super) use as_shown;

/// Sets the scopes that a call may give, for a person who may give only some.
macro_rules! as_granted {
    ($call:expr, $visit:expr) => {
        match $crate::pages::change::held($visit) {
            Some(held) => $call.granted_by(held),
            None => $call,
        }
    };
}
pub(super) use as_granted;

/// Returns the owner whose key a change may meet; `None` for an admin, who may change all.
pub(super) fn bound_owner<'r>(visit: &Visit, record: &'r KeyRecord) -> Option<&'r str> {
    record.owner.as_deref().filter(|_| !visit.is_admin())
}

/// Returns the scopes that the person may give; `None` if those are not a list.
pub(super) fn held(visit: &Visit) -> Option<&Scopes> {
    visit.person.may_grant.only()
}

/// Returns whether the key is revoked, by a call for it or for its owner.
pub(super) fn is_revoked(visit: &Visit, record: &KeyRecord) -> bool {
    record.state_at(visit.now()) == KeyState::Revoked
}

#[derive(Template)]
#[template(path = "outdated.html")]
struct OutdatedPage<'a> {
    frame: Frame<'a>,
    id: String,
    title: &'a str,
    message: &'a str,
}

/// Answers that the key is not as the form shows it, with a link to its page (409).
pub(super) fn outdated(visit: &Visit, id: KeyId, title: &str, message: &str) -> HttpResponse {
    look(visit, id, StatusCode::CONFLICT, (title, message))
}

/// Answers with a page that leads to the key's.
fn look(
    visit: &Visit,
    id: KeyId,
    status: StatusCode,
    (title, message): (&str, &str),
) -> HttpResponse {
    let page = OutdatedPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        id: id.to_string(),
        title,
        message,
    };
    html(status, &page)
}

/// Answers that the key is revoked.
pub(super) fn revoked(visit: &Visit, id: KeyId) -> HttpResponse {
    outdated(
        visit,
        id,
        "Revoked",
        "This key is revoked, and stays so. Create a new key instead.",
    )
}

/// Answers a change that failed.
///
/// # Errors
///
/// Returns the error of a page unless the key's own page says what to do.
pub(super) fn failed(visit: &Visit, id: KeyId, error: Error) -> Result<HttpResponse, PageError> {
    match error {
        Error::Revoked(_) => Ok(revoked(visit, id)),
        Error::Conflict(_) => Ok(outdated(
            visit,
            id,
            "Changed meanwhile",
            "Somebody changed this key since the form was shown, so nothing was changed now. Look at what its page \
             says, and decide again.",
        )),
        error if is_unfinished(&error) => Ok(look(
            visit,
            id,
            StatusCode::SERVICE_UNAVAILABLE,
            (
                "Not finished",
                "The store did not answer, so it is not known whether this change was made. Open the page of the \
                 key when the store answers, and look at what it says before you decide again.",
            ),
        )),
        other => Err(other.into()),
    }
}
