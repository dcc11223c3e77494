//! Changing a key.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::manager::UpdateKey;
use apikey_runtime::{Error, KeyRecord, Scopes, Timestamp};
use askama::Template;

use super::change::{KeyForm, as_granted, as_shown, failed, is_revoked, outdated, revoked};
use super::frame::Frame;
use super::key::see_key;
use super::key_end::KeyEnd;
use super::key_form::{KeyFields, KeyFieldsView, KeyInput, fault_of};
use super::reserved::{ReservedFields, ReservedInput};
use super::resource::shown_and_sent;
use super::text;
use crate::error::{PageError, html};
use crate::fields::SentForm;
use crate::may::{Action, may};
use crate::path_part::PathPart;
use crate::visit::Visit;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown_and_sent("/keys/{key_id}/edit", show, edit));
}

#[derive(Template)]
#[template(path = "edit.html")]
struct EditPage<'a> {
    frame: Frame<'a>,
    record: &'a KeyRecord,
    token: String,
    faults: &'a [String],
    /// What the key says now of what was typed, if somebody changed it meanwhile.
    changed: &'a [(&'static str, String)],
    form: KeyFieldsView,
    /// What only admins may change.
    reserved: Option<ReservedInput>,
}

/// What a person typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EditInput {
    key: KeyInput,
    reserved: Option<ReservedInput>,
}

/// Why the form is shown.
enum Shown<'a> {
    First,
    Faults(&'a [String]),
    Changed(&'a [(&'static str, String)]),
}

/// Shows the form.
async fn show(visit: Visit, id: web::Path<PathPart>) -> Result<HttpResponse, PageError> {
    let record = visit.key(&id).await?;
    may_edit(&visit, &record, &Scopes::none())?;
    if is_revoked(&visit, &record) {
        return Ok(revoked(&visit, record.id));
    }
    let input = EditInput::of(&visit, &record);
    page(&visit, &record, input, Shown::First).await
}

async fn page(
    visit: &Visit,
    record: &KeyRecord,
    input: EditInput,
    shown: Shown<'_>,
) -> Result<HttpResponse, PageError> {
    let (status, faults, changed) = match shown {
        Shown::First => (StatusCode::OK, &[][..], &[][..]),
        Shown::Faults(faults) => (StatusCode::UNPROCESSABLE_ENTITY, faults, &[][..]),
        Shown::Changed(changed) => (StatusCode::CONFLICT, &[][..], changed),
    };
    let page = EditPage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        record,
        token: visit.token("edit", &record.id.to_string()).await?,
        faults,
        changed,
        form: KeyFieldsView::new(visit, Some(record), input.key),
        reserved: input.reserved,
    };
    Ok(html(status, &page))
}

/// Changes the key.
async fn edit(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let nothing = Scopes::none();
    let action = Action::Edit {
        added_scopes: &nothing,
    };
    let form = KeyForm::check(&visit, &id, form, (&action, "edit")).await?;
    let record = &form.record;
    if is_revoked(&visit, record) {
        return Ok(revoked(&visit, record.id));
    }
    if ReservedInput::is_sent(&form.fields) {
        may(&visit.person, &Action::EditReserved, record)?;
    }
    let input = EditInput {
        key: KeyInput::read(&form.fields),
        reserved: visit
            .is_admin()
            .then(|| ReservedInput::read(&form.fields, record)),
    };
    let faults = match input.parse(&visit, record) {
        Ok((key, reserved)) => {
            let after = key.end.after(record.expires, visit.now());
            may_change(&visit, record, &key.scopes, after)?;
            let call = visit.state.manager.update(record.id);
            let call = as_granted!(as_shown!(call, &visit, form), &visit);
            let call = with_fields(call, record, key, after);
            let call = match reserved {
                Some(reserved) => reserved.set(call, record),
                None => call,
            };
            match call.await {
                Ok(_) => return Ok(see_key(&visit, record)),
                Err(Error::Conflict(_)) => return changed_meanwhile(&visit, &id, input).await,
                Err(error @ (Error::InvalidArgument(_) | Error::Policy(_))) => {
                    vec![fault_of(error)?]
                }
                Err(error) => return failed(&visit, record.id, error),
            }
        }
        Err(faults) => faults,
    };
    page(&visit, record, input, Shown::Faults(&faults)).await
}

fn may_edit(visit: &Visit, record: &KeyRecord, added_scopes: &Scopes) -> Result<(), PageError> {
    Ok(may(&visit.person, &Action::Edit { added_scopes }, record)?)
}

/// Decides whether the person may add the scopes, and make the key with all of its scopes last longer.
fn may_change(
    visit: &Visit,
    record: &KeyRecord,
    scopes: &Scopes,
    end: Option<Timestamp>,
) -> Result<(), PageError> {
    let added = scopes.iter().filter(|scope| !record.scopes.contains(scope));
    may_edit(visit, record, &Scopes::new(added)?)?;
    let is_prolonged = match (record.expires, end) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(before), Some(after)) => after > before,
    };
    if is_prolonged {
        let mut after = record.clone();
        after.scopes = scopes.clone();
        may(&visit.person, &Action::Prolong, &after)?;
    }
    Ok(())
}

/// Sets the fields that differ from those of the record.
fn with_fields(
    mut call: UpdateKey,
    record: &KeyRecord,
    key: KeyFields,
    end: Option<Timestamp>,
) -> UpdateKey {
    if key.label != record.label {
        call = call.label(key.label);
    }
    if key.description != record.description {
        call = call.description::<String>(key.description);
    }
    if key.scopes != record.scopes {
        call = call.scopes(key.scopes.iter());
    }
    if key.networks != record.networks {
        call = call.networks(key.networks);
    }
    if !same(&key.methods, &record.methods) {
        call = call.methods(key.methods);
    }
    match end {
        end if end == record.expires => call,
        Some(end) => call.expires_at(end),
        None => call.never_expires(),
    }
}

/// Returns whether two lists have the same texts.
fn same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|text| other.contains(text))
}

impl KeyEnd {
    /// Returns the end of a key whose end is `present`.
    fn after(self, present: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Unchanged => present,
            Self::Never => None,
            Self::In(life) => Some(now.checked_add(life).unwrap_or(Timestamp::MAX)),
            Self::At(end) => Some(end),
        }
    }
}

/// Shows what was typed beside what the key says now.
async fn changed_meanwhile(
    visit: &Visit,
    id: &str,
    input: EditInput,
) -> Result<HttpResponse, PageError> {
    let record = visit.key(id).await?;
    if is_revoked(visit, &record) {
        return Ok(revoked(visit, record.id));
    }
    let mut changed = input.differences(&EditInput::of(visit, &record));
    if !input.key.end.is_empty() {
        changed.push(("End", text::end(record.expires, visit.now())));
    }
    if changed.is_empty() {
        let message =
            "The key was changed since the form was shown, and says already what you wrote.";
        return Ok(outdated(visit, record.id, "Changed meanwhile", message));
    }
    page(visit, &record, input, Shown::Changed(&changed)).await
}

impl EditInput {
    fn of(visit: &Visit, record: &KeyRecord) -> Self {
        Self {
            key: KeyInput::of(record),
            reserved: visit.is_admin().then(|| ReservedInput::of(record)),
        }
    }

    fn parse(
        &self,
        visit: &Visit,
        record: &KeyRecord,
    ) -> Result<(KeyFields, Option<ReservedFields>), Vec<String>> {
        let key = self.key.parse(visit, Some(record));
        let reserved = self.reserved.as_ref().map(ReservedInput::parse);
        match (key, reserved.transpose()) {
            (Ok(key), Ok(reserved)) => Ok((key, reserved)),
            (key, reserved) => {
                let faults = key.err().unwrap_or_default().into_iter();
                Err(faults.chain(reserved.err().unwrap_or_default()).collect())
            }
        }
    }

    /// Returns what `present` says of each field but the end that was typed otherwise.
    fn differences(&self, present: &Self) -> Vec<(&'static str, String)> {
        let texts = |input: &Self| {
            let key = &input.key;
            let words = |texts: &std::collections::BTreeSet<String>| {
                texts.iter().cloned().collect::<Vec<_>>().join(" ")
            };
            let reserved = input.reserved.clone().unwrap_or_default();
            [
                ("Name", key.label.clone()),
                ("Description", key.description.clone()),
                ("Scopes", words(&key.scopes)),
                ("Networks", key.networks.replace('\n', " ")),
                ("Methods", words(&key.methods)),
                ("Owner", reserved.owner),
                ("Environment", reserved.environment),
                ("Limits", reserved.limits),
                ("Metadata", reserved.metadata),
            ]
        };
        let pairs = texts(self).into_iter().zip(texts(present));
        let differ = |(typed, is): &((_, String), (_, String))| flat(&typed.1) != flat(&is.1);
        pairs.filter(differ).map(|(_, is)| is).collect()
    }
}

/// Returns a text with one blank between its words.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
