//! `apikey keys create`.

use apikey_runtime::manager::CreateKey;
use apikey_runtime::{KeyId, KeyRecord};

use super::row;
use crate::args::{CreateArguments, Expiry};
use crate::commands::change;
use crate::failure::Failure;
use crate::new_secret::SecretSink;
use crate::session::Session;

/// How many of the newest keys tell whether the server's hasher has peppers, if some of them are live.
const NEWEST: u32 = 20;

/// How many more pages of keys are read if none of them is.
const PAGES: usize = 10;

/// The keys of such a page.
const PAGE_SIZE: u32 = 500;

pub(super) async fn run(session: &Session, arguments: CreateArguments) -> Result<(), Failure> {
    check_newest(session, arguments.prefix.is_some()).await?;
    let (format, dry_run) = (session.output.format(), arguments.dry_run);
    let file = arguments.secret_file.clone();
    let call = call(session, arguments)?;
    if dry_run {
        SecretSink::check(format, file.as_deref())?;
        let record = call.preview().await?;
        let row = row::of(&session.manager, &record, None).without_id();
        return change::show_preview(session, row::COLUMNS, row);
    }
    let sink = SecretSink::prepare(format, file.as_deref())?;
    // The id is known before the key is made: without an answer, it can still be revoked.
    let id = new_id()?;
    match call.id(id).await {
        Ok(key) => {
            let row = row::of(&session.manager, key.record(), None);
            sink.show(&session.output, row::COLUMNS, row, &key)
        }
        Err(error) => {
            sink.abandon();
            Err(Failure::from(error).unsure(
                format!("the key `{id}` was made"),
                format!("apikey keys revoke {id}"),
            ))
        }
    }
}

fn new_id() -> Result<KeyId, Failure> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)
        .map_err(|error| Failure::because("the system's random generator failed", &error))?;
    Ok(KeyId::from_u128(u128::from_ne_bytes(bits)))
}

/// Rejects the peppers that were given if a live key among the newest ones needs others, and the settings if they accept none of
/// these keys. Without a live key, the newest one tells whether peppers are needed at all.
async fn check_newest(session: &Session, has_prefix: bool) -> Result<(), Failure> {
    let (mut after, mut newest) = (None, None);
    for size in std::iter::once(NEWEST).chain([PAGE_SIZE; PAGES]) {
        let page = session.manager.list().page_size(size).after(after).await?;
        let is_live = |record: &&KeyRecord| record.is_live(session.now());
        let live: Vec<_> = page.keys.iter().filter(is_live).collect();
        if let Some(newest) = live.first() {
            if !has_prefix {
                check_prefixes(session, newest, &live)?;
            }
            return live
                .into_iter()
                .try_for_each(|record| session.check_pepper(record));
        }
        newest = newest.or_else(|| page.keys.first().cloned());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match newest.filter(|_| !session.has_peppers) {
        Some(record) => session.check_pepper(&record),
        None => Ok(()),
    }
}

/// Rejects settings by which a new key would begin as no present one: without the server's, no server would accept it.
fn check_prefixes(
    session: &Session,
    newest: &KeyRecord,
    live: &[&KeyRecord],
) -> Result<(), Failure> {
    let config = session.manager.config();
    if live
        .iter()
        .any(|record| config.prefixes().contains(&record.prefix))
    {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the newest keys begin with `{}`, which is not a prefix of these settings",
        newest.prefix
    ))
    .remedy("add `--config FILE` with the server's settings, or `--prefix TEXT` if its servers accept another one"))
}

fn call(session: &Session, arguments: CreateArguments) -> Result<CreateKey, Failure> {
    let CreateArguments {
        label,
        fields,
        prefix,
        reason,
        ..
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
        Some(Expiry::At(at)) => call.expires_at(at.after(session.now())?),
    };
    if let Some(begin) = fields.not_before {
        call = call.not_before(begin.after(session.now())?);
    }
    Ok(call)
}
