//! `apikey keys rotate`.

use apikey_runtime::manager::RotateKey;
use apikey_runtime::{KeyRecord, Timestamp};

use super::row;
use crate::args::RotateArguments;
use crate::commands::change;
use crate::confirm;
use crate::failure::Failure;
use crate::new_secret::SecretSink;
use crate::notice;
use crate::propagation;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: &RotateArguments) -> Result<(), Failure> {
    let record = session.manager.get(arguments.id).await?;
    session.check_pepper(&record)?;
    if arguments.dry_run {
        return preview(session, arguments, &record).await;
    }
    // Before the question: nobody agrees to a rotation that is refused.
    SecretSink::check(session.output.format(), arguments.secret_file.as_deref())?;
    if let Some(ended) = ended_secrets(session, arguments, &record) {
        let question = format!(
            "Rotate the key `{}` ({})? A server denies {ended}",
            record.label, record.id
        );
        confirm::ask(&session.common, &question)?;
    }
    // Before the rotation, after which nothing comes between the new secret and its output.
    let used = session.manager.last_used(arguments.id).await;
    let used = used.ok().flatten();
    let sink = SecretSink::prepare(session.output.format(), arguments.secret_file.as_deref())?;
    let key = match call(session, arguments).await {
        Ok(key) => key,
        Err(error) => {
            sink.abandon();
            return Err(Failure::from(error).unsure_of_change(arguments.id));
        }
    };
    let row = row::of(&session.manager, key.record(), used.as_ref());
    sink.show(&session.output, row::COLUMNS, row, &key)?;
    note_earlier_secret(session, &record);
    // The wait comes last: it takes a lease, and may be cut short.
    if arguments.change.confirmed {
        let confirmed = session.manager.confirm().await.map_err(Failure::from);
        let propagation = confirmed.map_err(|failure| failure.after(change::MADE))?;
        propagation::report(&propagation);
    }
    Ok(())
}

/// Returns the end of a sentence about the secrets that the rotation ends at once; `None` if it ends none.
fn ended_secrets(
    session: &Session,
    arguments: &RotateArguments,
    record: &KeyRecord,
) -> Option<String> {
    const WHEN: &str = "as soon as it knows of the rotation";
    let keeps_present = arguments.grace.is_some_and(|grace| !grace.is_zero());
    match (grace_of_earlier(session, record), keeps_present) {
        (None, true) => None,
        (None, false) => Some(format!(
            "its present secret {WHEN}; `--grace 24h` would keep it valid for a day."
        )),
        (Some(until), true) => Some(format!(
            "the secret before its present one {WHEN}: it has a grace until {until}, and clients may still use it."
        )),
        (Some(until), false) => Some(format!(
            "its present secret {WHEN}, and the one before it, which has a grace until {until}."
        )),
    }
}

/// Returns the end of the grace of the secret before the present one, if it is still in it.
fn grace_of_earlier(session: &Session, record: &KeyRecord) -> Option<Timestamp> {
    let until = record.previous.as_ref().map(|previous| previous.until);
    until.filter(|until| *until > session.now())
}

async fn preview(
    session: &Session,
    arguments: &RotateArguments,
    record: &KeyRecord,
) -> Result<(), Failure> {
    SecretSink::check(session.output.format(), arguments.secret_file.as_deref())?;
    let rotated = call(session, arguments).preview().await?;
    note_earlier_secret(session, record);
    let used = session.manager.last_used(arguments.id).await?;
    let row = row::of(&session.manager, &rotated, used.as_ref());
    change::show_preview(session, row::COLUMNS, row)
}

/// Says that a rotation ends the grace of the one before.
fn note_earlier_secret(session: &Session, record: &KeyRecord) {
    if let Some(until) = grace_of_earlier(session, record) {
        notice::note(&format!(
            "the key was in a grace already: the secret before it is denied by this rotation, and not at {until} only"
        ));
    }
}

fn call(session: &Session, arguments: &RotateArguments) -> RotateKey {
    let origin = session.origin(arguments.change.reason.as_deref());
    let mut call = session.manager.rotate(arguments.id).origin(origin);
    if let Some(grace) = arguments.grace {
        call = call.grace(grace);
    }
    if let Some(version) = arguments.if_version {
        call = call.if_version(version);
    }
    call
}
