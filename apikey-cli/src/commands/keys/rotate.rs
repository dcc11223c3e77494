//! `apikey keys rotate`.

use apikey_runtime::NewKey;
use apikey_runtime::manager::Propagation;

use super::row;
use crate::args::RotateArguments;
use crate::commands::change::{self, made};
use crate::confirm;
use crate::failure::Failure;
use crate::new_secret::SecretSink;
use crate::propagation;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: &RotateArguments) -> Result<(), Failure> {
    let record = session.manager.get(arguments.id).await?;
    session.check_pepper(&record)?;
    if arguments.grace.is_none() {
        let question = format!(
            "Rotate the key `{}` ({})? Its present secret is denied at once; `--grace 24h` would keep it for a day.",
            record.label, record.id
        );
        confirm::ask(&session.common, &question, false)?;
    }
    let sink = SecretSink::prepare(session.output.format(), arguments.secret_file.as_deref())?;
    let rotated = rotate(session, arguments).await;
    let (key, propagation) = match rotated {
        Ok(rotated) => rotated,
        Err(error) => {
            sink.abandon();
            return Err(error);
        }
    };
    if let Some(propagation) = &propagation {
        propagation::report(propagation);
    }
    // The secret is shown whatever comes of the last use.
    let used = session.manager.last_used(arguments.id).await;
    let used = used.ok().flatten();
    let row = row::of(&session.manager, key.record(), used.as_ref());
    let row = row.and(change::cells(propagation.as_ref()));
    sink.show(&session.output, &row::CHANGED, row, &key)
}

async fn rotate(
    session: &Session,
    arguments: &RotateArguments,
) -> Result<(NewKey, Option<Propagation>), Failure> {
    let change = &arguments.change;
    let origin = session.origin(change.reason.as_deref());
    let mut call = session.manager.rotate(arguments.id).origin(origin);
    if let Some(grace) = arguments.grace {
        call = call.grace(grace);
    }
    if let Some(version) = arguments.if_version {
        call = call.if_version(version);
    }
    Ok(made!(call, change.confirmed))
}
