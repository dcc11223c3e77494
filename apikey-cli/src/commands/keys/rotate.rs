//! `apikey keys rotate`.

use apikey_runtime::KeyRecord;
use apikey_runtime::manager::RotateKey;

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
    if arguments.grace.is_none_or(|grace| grace.is_zero()) {
        let question = format!(
            "Rotate the key `{}` ({})? A server denies its present secret as soon as it knows of the rotation; `--grace 24h` \
             would keep it valid for a day.",
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
            return Err(error.into());
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
    let previous = record.previous.as_ref();
    if let Some(previous) = previous.filter(|previous| previous.until > session.now()) {
        notice::note(&format!(
            "the key was in a grace already: the secret before it is denied by this rotation, and not at {} only",
            previous.until
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
