//! Rotating a key.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::{Error, KeyRecord, Timestamp};
use askama::Template;

use super::change::{KeyForm, as_granted, as_shown, failed, is_revoked, outdated, revoked};
use super::frame::Frame;
use super::kept::keeps_usage;
use super::key_form::fault_of;
use super::resource::shown_and_sent;
use super::{secret, text};
use crate::error::{PageError, html};
use crate::fields::SentForm;
use crate::may::{Action, may};
use crate::path_part::PathPart;
use crate::visit::Visit;

/// Adds the routes of these pages.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown_and_sent("/keys/{key_id}/rotate", show, rotate));
}

/// A choice of how long the old secret works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GraceChoice {
    seconds: u64,
    words: &'static str,
}

/// The choices, the shortest first.
const CHOICES: [GraceChoice; 5] = [
    GraceChoice::new(0, "It stops now"),
    GraceChoice::new(15 * 60, "15 minutes"),
    GraceChoice::new(3_600, "1 hour"),
    GraceChoice::new(24 * 3_600, "24 hours"),
    GraceChoice::new(7 * 24 * 3_600, "7 days"),
];

/// The choice that the form begins with: a day, or the longest one.
const PRESELECTED: u64 = 24 * 3_600;

impl GraceChoice {
    const fn new(seconds: u64, words: &'static str) -> Self {
        Self { seconds, words }
    }

    /// Returns the choices for a key: a grace ends at the latest with its key.
    fn of(record: &KeyRecord, now: Timestamp) -> Vec<Self> {
        let fits = |choice: &Self| {
            let end = now.checked_add(Duration::from_secs(choice.seconds));
            choice.seconds == 0
                || record
                    .expires
                    .is_none_or(|last| end.is_some_and(|end| end <= last))
        };
        CHOICES.into_iter().filter(fits).collect()
    }
}

#[derive(Template)]
#[template(path = "rotate.html")]
struct RotatePage<'a> {
    frame: Frame<'a>,
    record: &'a KeyRecord,
    choices: Vec<GraceChoice>,
    preselected: u64,
    token: String,
    /// When other servers reject the old secret without a grace, at the latest.
    elsewhere: Option<String>,
    /// Whether an earlier secret is in its grace, which a rotation ends.
    ends_grace: bool,
    has_usage: bool,
    faults: &'a [String],
}

/// Shows the form.
async fn show(visit: Visit, id: web::Path<PathPart>) -> Result<HttpResponse, PageError> {
    let record = visit.key(&id).await?;
    may(&visit.person, &Action::Prolong, &record)?;
    match is_revoked(&visit, &record) {
        true => Ok(revoked(&visit, record.id)),
        false => page(&visit, &record, &[]).await,
    }
}

async fn page(
    visit: &Visit,
    record: &KeyRecord,
    faults: &[String],
) -> Result<HttpResponse, PageError> {
    let now = visit.now();
    let choices = GraceChoice::of(record, now);
    let longest = choices.last().map_or(0, |choice| choice.seconds);
    let previous = record.previous.as_ref();
    let page = RotatePage {
        frame: Frame::new(&visit.state, Some(&visit.person)),
        record,
        preselected: longest.min(PRESELECTED),
        elsewhere: elsewhere(lease(visit)),
        choices,
        token: visit.token("rotate", &record.id.to_string()).await?,
        ends_grace: previous.is_some_and(|previous| previous.until > now),
        has_usage: keeps_usage(visit).await,
        faults,
    };
    let status = match faults {
        [] => StatusCode::OK,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(html(status, &page))
}

/// Rotates the key, and shows its new secret.
async fn rotate(
    visit: Visit,
    id: web::Path<PathPart>,
    form: SentForm,
) -> Result<HttpResponse, PageError> {
    let form = KeyForm::check(&visit, &id, form, (&Action::Prolong, "rotate")).await?;
    let record = &form.record;
    let Some(choice) = chosen(form.fields.text("grace")) else {
        let fault = "Choose how long the old secret still works.".to_owned();
        return page(&visit, record, &[fault]).await;
    };
    let grace = Duration::from_secs(choice.seconds);
    let call = visit.state.manager.rotate(record.id).grace(grace);
    let call = as_granted!(as_shown!(call, &visit, form), &visit);
    match call.await {
        Ok(key) => {
            let mut note = note(choice, key.record(), visit.now(), lease(&visit));
            if choice.seconds > 0 && keeps_usage(&visit).await {
                note.push_str(" The key's page tells when it was last used.");
            }
            Ok(secret::show(&visit, &key, "The new secret", &note))
        }
        Err(Error::Conflict(_)) if is_repeat(&form) => Ok(already_rotated(&visit, record)),
        Err(error @ (Error::InvalidArgument(_) | Error::Policy(_))) => {
            page(&visit, record, &[fault_of(error)?]).await
        }
        Err(error) => failed(&visit, record.id, error),
    }
}

fn chosen(text: &str) -> Option<GraceChoice> {
    let seconds: u64 = text.parse().ok()?;
    CHOICES.into_iter().find(|choice| choice.seconds == seconds)
}

/// Returns whether the key was rotated since the form was shown, so that the form may be one that was sent twice.
fn is_repeat(form: &KeyForm) -> bool {
    let shown = form.fields.text("rotations").parse::<u64>();
    shown.is_ok_and(|shown| form.record.rotations > shown)
}

fn already_rotated(visit: &Visit, record: &KeyRecord) -> HttpResponse {
    outdated(
        visit,
        record.id,
        "Already rotated",
        "This key was rotated since the form was shown. Its new secret was shown once, unless the answer was lost. \
         Rotate it again if the secret was not kept.",
    )
}

/// Returns how long other servers may trust what they know of a key; `None` if they ask the store each time.
fn lease(visit: &Visit) -> Option<Duration> {
    visit.state.manager.health().lease_length
}

/// Says when other servers reject a secret that this one rejects now.
fn elsewhere(lease: Option<Duration>) -> Option<String> {
    let seconds = lease?.as_millis().div_ceil(1_000);
    let span = text::counted(u64::try_from(seconds).unwrap_or(u64::MAX), "second");
    Some(format!("Other servers follow within {span}."))
}

/// Says how long the old secret works: as long as was chosen, or until the key ends.
fn note(
    choice: GraceChoice,
    record: &KeyRecord,
    now: Timestamp,
    lease: Option<Duration>,
) -> String {
    let until = record.previous.as_ref().map(|previous| previous.until);
    match until {
        Some(until) if choice.seconds > 0 => {
            let left = until.as_millis().saturating_sub(now.as_millis());
            let words = match record.expires == Some(until) {
                true => text::span(left),
                false => choice.words.to_owned(),
            };
            format!("The old secret works for {words} more.")
        }
        _ => match elsewhere(lease) {
            Some(elsewhere) => format!("This server rejects the old secret now. {elsewhere}"),
            None => "The old secret does not work any more.".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apikey_runtime::KeyId;
    use apikey_runtime::store::PreviousDigest;

    /// An answer that took a while tells what was chosen. A rounded rest would be `14 minutes`.
    #[test]
    fn a_note_has_the_words_of_the_choice_unless_the_key_ends_before() {
        let at = Timestamp::from_millis;
        let mut record = KeyRecord::new(KeyId::from_u128(1), "k", "ci", "sha256$x", at(0));
        let note = |record: &KeyRecord, seconds| {
            let choice = chosen(seconds).unwrap();
            note(choice, record, at(5_000), None)
        };
        assert!(note(&record, "900").contains("not work any more"));
        record.previous = Some(PreviousDigest {
            digest: "sha256$y".to_owned(),
            until: at(900_000),
        });
        assert!(note(&record, "900").contains("for 15 minutes more"));
        assert!(note(&record, "0").contains("not work any more"));
        record.expires = Some(at(900_000));
        assert!(note(&record, "3600").contains("for 14 minutes more"));
    }

    #[test]
    fn without_a_grace_other_servers_have_the_time_of_their_lease() {
        let at = Timestamp::from_millis;
        let record = KeyRecord::new(KeyId::from_u128(1), "k", "ci", "sha256$x", at(0));
        let note = |lease| note(chosen("0").unwrap(), &record, at(0), lease);
        let said = "This server rejects the old secret now. Other servers follow within";
        for (millis, span) in [
            (1_000, "1 second"),
            (4_001, "5 seconds"),
            (5_000, "5 seconds"),
        ] {
            let lease = Some(Duration::from_millis(millis));
            assert_eq!(note(lease), format!("{said} {span}."));
        }
        assert_eq!(note(None), "The old secret does not work any more.");
    }

    #[test]
    fn a_grace_does_not_outlast_the_key() {
        let at = Timestamp::from_millis;
        let mut record = KeyRecord::new(KeyId::from_u128(1), "k", "ci", "sha256$x", at(0));
        assert_eq!(GraceChoice::of(&record, at(0)), CHOICES);
        for (end, count) in [
            (-1, 1),
            (0, 1),
            (3_599_999, 2),
            (3_600_000, 3),
            (i64::MAX, 5),
        ] {
            record.expires = Some(at(end));
            assert_eq!(GraceChoice::of(&record, at(0)).len(), count, "{end}");
        }
        assert_eq!(GraceChoice::of(&record, Timestamp::MAX).len(), 1);
    }
}
