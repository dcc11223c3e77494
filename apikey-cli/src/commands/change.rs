//! Changes of many keys, and how a change reached the servers.

use std::collections::HashSet;
use std::io::BufRead;

use apikey_runtime::manager::Propagation;
use apikey_runtime::{Error, KeyId};
use tokio::task::JoinHandle;

use super::failures::Failures;
use super::keys::row;
use crate::args::Ids;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Cell, Column, Row};
use crate::progress::Progress;
use crate::propagation;
use crate::session::Session;
use crate::text::counted;

/// How many keys are changed at the same time. Each call waits for the servers by itself.
const AT_ONCE: usize = 64;

/// Makes a change, and waits for all servers if `confirmed` is set. Evaluates to the value and the propagation.
macro_rules! made {
    ($call:expr, $confirmed:expr) => {{
        match $confirmed {
            true => {
                let done = $call.confirmed().await?;
                (done.value, Some(done.propagation))
            }
            false => ($call.await?, None),
        }
    }};
}
pub(crate) use made;

/// Returns the cells of the columns `acknowledged` and `waited_out`.
pub(crate) fn cells(propagation: Option<&Propagation>) -> [Cell; 2] {
    let ids = |nodes: &[_]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
    match propagation {
        None => [Cell::Absent, Cell::Absent],
        Some(propagation) => [
            ids(&propagation.acknowledged).into(),
            ids(&propagation.waited_out).into(),
        ],
    }
}

/// Returns the ids of the arguments, or of stdin. None of them is no error: a list may select no keys.
pub(crate) fn ids(arguments: &Ids) -> Result<Vec<KeyId>, Failure> {
    let mut texts = arguments.ids.clone();
    if texts == ["-"] {
        let lines: Result<_, _> = std::io::stdin().lock().lines().collect();
        texts = lines.map_err(|error| Failure::because("the ids cannot be read", &error))?;
        texts.retain(|line| !line.trim().is_empty());
        if texts.is_empty() {
            notice::note("no ids were given on stdin, and nothing is changed");
        }
    }
    let (mut ids, mut known) = (Vec::with_capacity(texts.len()), HashSet::new());
    for text in &texts {
        let id: KeyId = text.trim().parse()?;
        if known.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Shows the keys, which nothing changes. A failure does not stop the others; the first is the command's.
pub(crate) async fn show_unchanged(session: &Session, ids: &[KeyId]) -> Result<(), Failure> {
    let mut rows = session.output.rows(&row::CHANGED);
    let mut failures = Failures::default();
    for id in ids {
        match shown(session, *id, None).await {
            Ok(row) => rows.write(row)?,
            Err(failure) => failures.add(*id, failure),
        }
    }
    rows.finish()?;
    notice::note(DRY_RUN);
    failures.first()
}

/// Shows a key as it would be.
pub(crate) fn show_preview(
    session: &Session,
    columns: &'static [Column],
    row: Row,
) -> Result<(), Failure> {
    session.output.one(columns, row)?;
    notice::note(DRY_RUN);
    Ok(())
}

const DRY_RUN: &str = "this was a dry run, and nothing was changed";

/// Returns the row of a key as it is now.
async fn shown(
    session: &Session,
    id: KeyId,
    propagation: Option<&Propagation>,
) -> Result<Row, Failure> {
    let record = session.manager.get(id).await?;
    let used = session.manager.last_used(id).await?;
    let row = row::of(&session.manager, &record, used.as_ref());
    Ok(row.and(cells(propagation)))
}

/// What an error follows that comes after the change.
pub(crate) const MADE: &str = "the change was made";

/// Changes each key, and shows those that were changed. A failure does not stop the others; the first is the command's.
/// An error of the output stops the output alone.
pub(crate) async fn each<F, W>(session: &Session, ids: &[KeyId], change: F) -> Result<(), Failure>
where
    F: Fn(KeyId) -> W,
    W: Future<Output = Result<Option<Propagation>, Error>> + Send + 'static,
{
    let mut rows = session.output.rows(&row::CHANGED);
    let mut progress = Progress::new(&session.common, "keys", Some(ids.len() as u64));
    let (mut failures, mut last, mut done) = (Failures::default(), None, 0);
    let mut written = Ok(());
    for ids in ids.chunks(AT_ONCE) {
        let start = |id: &KeyId| (*id, tokio::spawn(change(*id)));
        let started: Vec<(KeyId, JoinHandle<_>)> = ids.iter().map(start).collect();
        for (id, call) in started {
            match settled(session, id, call).await {
                Ok((row, propagation)) => {
                    last = propagation.or(last);
                    written = written.and_then(|()| rows.write(row));
                }
                Err(failure) => failures.add(id, failure),
            }
            done += 1;
            progress.set(done);
        }
    }
    drop(progress);
    let written = written.and_then(|()| rows.finish());
    if let Err(failure) = written {
        failures.add_other(failure.after(MADE));
    }
    if let Some(propagation) = &last {
        propagation::report(propagation);
    }
    failures.first()
}

/// Waits for the change of a key, and returns its row.
async fn settled(
    session: &Session,
    id: KeyId,
    call: JoinHandle<Result<Option<Propagation>, Error>>,
) -> Result<(Row, Option<Propagation>), Failure> {
    let made = call.await;
    let propagation = made.map_err(|error| Failure::because("the change ended", &error))??;
    let row = shown(session, id, propagation.as_ref()).await;
    let row = row.map_err(|failure| failure.after(MADE))?;
    Ok((row, propagation))
}

/// Names the keys in a question: one by its label.
pub(crate) async fn named(session: &Session, ids: &[KeyId]) -> Result<String, Failure> {
    let [id] = ids else {
        return Ok(counted(ids.len() as u64, "key"));
    };
    let record = session.manager.get(*id).await?;
    let owner = match &record.owner {
        Some(owner) => format!(" of the owner `{owner}`"),
        None => String::new(),
    };
    Ok(format!("the key `{}`{owner} ({id})", record.label))
}
