//! New keys.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::{Error, KeyId, NewKey, Scopes};
use askama::Template;

use super::frame::Frame;
use super::key_end::KeyEnd;
use super::key_form::{KeyFields, KeyFieldsView, KeyInput, fault_of};
use super::resource::shown_and_sent;
use super::secret;
use crate::error::{PageError, html, is_unfinished};
use crate::fields::{FormFields, SentForm};
use crate::may::{Action, may, may_create};
use crate::visit::Visit;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown_and_sent("/new", form, create));
}

/// The purpose of the form's token.
const ACTION: &str = "create";

/// What to do with the secret.
const CREATED: &str = "Give it to the program that needs it.";

/// What to do if the store did not answer.
const UNFINISHED: &str = "The store did not answer, so it is not known whether the key was created. Send the same form \
    again when the store answers: one form creates one key at most.";

#[derive(Template)]
#[template(path = "new.html")]
struct NewPage<'a> {
    frame: Frame<'a>,
    token: &'a str,
    faults: &'a [String],
    form: KeyFieldsView,
    owner: &'a str,
    owners: &'a [String],
}

#[derive(Template)]
#[template(path = "already_created.html")]
struct AlreadyCreatedPage<'a> {
    frame: Frame<'a>,
    /// The key, if the person may still see it.
    id: Option<KeyId>,
}

/// What a form for a new key holds.
struct NewKeyForm<'a> {
    /// The same in each answer to one form, so that the form creates one key.
    token: &'a str,
    owner: &'a str,
    input: KeyInput,
}

/// Shows the empty form.
async fn form(visit: Visit) -> Result<HttpResponse, PageError> {
    may_start(&visit)?;
    let token = visit.token(ACTION, "").await?;
    // As in the API: an admin's key belongs to the admin's only owner, unless the form says otherwise.
    let owner = match &visit.person.owners[..] {
        [only] => only,
        _ => "",
    };
    let form = NewKeyForm {
        token: &token,
        owner,
        input: KeyInput::default(),
    };
    Ok(form.show(&visit, StatusCode::OK, &[]))
}

/// Creates a key, and shows its secret.
async fn create(visit: Visit, sent: SentForm) -> Result<HttpResponse, PageError> {
    may_start(&visit)?;
    let fields = sent.read()?;
    let form_key = visit.check_token(&fields, ACTION, "").await?;
    let form = NewKeyForm::read(&fields);
    let owner = form.owner_of_new(&visit).unwrap_or_default();
    let id = form_key.key_id(&visit.person.id, owner, form.token);
    let faults = match form.parse(&visit) {
        Ok((owner, fields)) => {
            may_create(&visit.person, owner, &fields.scopes)?;
            match issue(&visit, id, owner, fields).await {
                Ok(key) => return Ok(secret::show(&visit, &key, "Key created", CREATED)),
                // The form was sent before.
                Err(Error::Conflict(_)) => return already_created(&visit, id).await,
                Err(error) if is_unfinished(&error) => {
                    return Err(PageError::Unfinished(UNFINISHED.to_owned()));
                }
                Err(error) => vec![fault_of(error)?],
            }
        }
        Err(faults) => faults,
    };
    match visit.state.manager.get(id).await {
        // The form was sent before, and would not be accepted now.
        Ok(_) => already_created(&visit, id).await,
        Err(Error::NotFound(_)) => Ok(form.show(&visit, StatusCode::UNPROCESSABLE_ENTITY, &faults)),
        Err(error) => Err(error.into()),
    }
}

async fn issue(
    visit: &Visit,
    id: KeyId,
    owner: Option<&str>,
    fields: KeyFields,
) -> Result<NewKey, Error> {
    let call = visit.state.manager.create(fields.label);
    let mut call = call
        .id(id)
        .scopes(fields.scopes.iter())
        .networks(fields.networks)
        .methods(fields.methods)
        .origin(visit.origin.clone());
    if let Some(owner) = owner {
        call = call.owner(owner);
    }
    if let Some(description) = fields.description {
        call = call.description(description);
    }
    if let Some(environment) = fields.environment {
        call = call.environment(environment);
    }
    if let Some(held) = visit.person.may_grant.only() {
        call = call.granted_by(held);
    }
    match fields.end {
        KeyEnd::Unchanged => call.await,
        KeyEnd::Never => call.never_expires().await,
        KeyEnd::In(life) => call.expires_in(life).await,
        KeyEnd::At(end) => call.expires_at(end).await,
    }
}

/// Says that the form has created its key before: the secret was shown then.
async fn already_created(visit: &Visit, id: KeyId) -> Result<HttpResponse, PageError> {
    let record = match visit.state.manager.get(id).await {
        Ok(record) => Some(record),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let sees = |record| may(&visit.person, &Action::See, record).is_ok();
    let page = AlreadyCreatedPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        id: record
            .as_ref()
            .filter(|record| sees(record))
            .map(|record| record.id),
    };
    Ok(html(StatusCode::CONFLICT, &page))
}

/// Decides whether the person may create a key at all, before the form is read.
fn may_start(visit: &Visit) -> Result<(), PageError> {
    let person = &visit.person;
    if person.owners.is_empty() && !visit.is_admin() {
        return Err(PageError::Forbidden(super::NO_OWNER));
    }
    let owner = person.owners.first().map(String::as_str);
    Ok(may_create(person, owner, &Scopes::none())?)
}

impl<'a> NewKeyForm<'a> {
    fn read(fields: &'a FormFields) -> Self {
        Self {
            token: fields.text("token"),
            owner: fields.exact("owner"),
            input: KeyInput::read(fields),
        }
    }

    /// Returns the owner of the new key.
    fn owner_of_new<'f>(&'f self, visit: &'f Visit) -> Result<Option<&'f str>, String> {
        match (self.owner, &visit.person.owners[..]) {
            ("", [only]) if !visit.is_admin() => Ok(Some(only.as_str())),
            ("", _) if visit.is_admin() => Ok(None),
            ("", _) => Err("Choose the owner of the key.".to_owned()),
            (owner, _) => Ok(Some(owner)),
        }
    }

    /// Returns the owner and the fields of the new key, or all faults of them. An admin's key may be without an
    /// owner.
    fn parse<'f>(&'f self, visit: &'f Visit) -> Result<(Option<&'f str>, KeyFields), Vec<String>> {
        let owner = self.owner_of_new(visit);
        match (owner, self.input.parse(visit, None)) {
            (Ok(owner), Ok(fields)) => Ok((owner, fields)),
            (owner, fields) => {
                let owner = owner.err().into_iter();
                Err(owner.chain(fields.err().unwrap_or_default()).collect())
            }
        }
    }

    fn show(self, visit: &Visit, status: StatusCode, faults: &[String]) -> HttpResponse {
        let page = NewPage {
            frame: Frame::new(&visit.state, Some(&visit.person)),
            token: self.token,
            faults,
            form: KeyFieldsView::new(visit, None, self.input),
            owner: self.owner,
            owners: &visit.person.owners,
        };
        html(status, &page)
    }
}
