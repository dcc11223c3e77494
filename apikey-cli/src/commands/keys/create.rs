//! `apikey keys create`.

use super::row;
use crate::args::{CreateArguments, Expiry};
use crate::failure::Failure;
use crate::new_secret::SecretSink;
use crate::session::Session;

/// How many of the newest keys tell whether the server's hasher has peppers.
const NEWEST: u32 = 20;

pub(super) async fn run(session: &Session, arguments: CreateArguments) -> Result<(), Failure> {
    let newest = session.manager.list().page_size(NEWEST).await?;
    for record in &newest.keys {
        session.check_pepper(record)?;
    }
    let CreateArguments {
        label,
        fields,
        prefix,
        secret_file,
        reason,
    } = arguments;
    let mut call = session
        .manager
        .create(label)
        .origin(session.origin(reason.as_deref()))
        .scopes(&fields.scope)
        .networks(fields.network)
        .methods(fields.method)
        .limits(fields.rate.into_iter().chain(fields.quota));
    if let Some(owner) = fields.owner {
        call = call.owner(owner);
    }
    if let Some(description) = fields.description {
        call = call.description(description);
    }
    if let Some(environment) = fields.environment {
        call = call.environment(environment);
    }
    if let Some(prefix) = prefix {
        call = call.prefix(prefix);
    }
    for (name, value) in fields.metadata.into_iter().flatten() {
        call = call.metadata(name, value);
    }
    call = match fields.expires {
        None => call,
        Some(Expiry::Never) => call.never_expires(),
        Some(Expiry::At(at)) => call.expires_at(at.after(session.now())),
    };
    if let Some(begin) = fields.not_before {
        call = call.not_before(begin.after(session.now()));
    }
    let sink = SecretSink::prepare(session.output.format(), secret_file.as_deref())?;
    match call.await {
        Ok(key) => {
            let row = row::of(&session.manager, key.record(), None);
            sink.show(&session.output, row::COLUMNS, row, &key)
        }
        Err(error) => {
            sink.abandon();
            Err(error.into())
        }
    }
}
