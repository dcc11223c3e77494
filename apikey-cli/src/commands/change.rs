//! Changes of many keys, and how a change reached the servers.

use std::collections::HashSet;
use std::io::BufRead;

use apikey_runtime::manager::Propagation;
use apikey_runtime::{Error, KeyId};
use tokio::task::JoinHandle;

use super::keys::row;
use crate::args::Ids;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Cell, Row};
use crate::progress::Progress;
use crate::propagation;
use crate::session::Session;

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

/// Returns the ids of the arguments, or of stdin.
pub(crate) fn ids(arguments: &Ids) -> Result<Vec<KeyId>, Failure> {
    let mut texts = arguments.ids.clone();
    if texts == ["-"] {
        let lines: Result<_, _> = std::io::stdin().lock().lines().collect();
        texts = lines.map_err(|error| Failure::because("the ids cannot be read", &error))?;
        texts.retain(|line| !line.trim().is_empty());
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

/// Shows the keys, which nothing changes.
pub(crate) async fn show_unchanged(session: &Session, ids: &[KeyId]) -> Result<(), Failure> {
    let mut rows = session.output.rows(&row::CHANGED)?;
    for id in ids {
        let record = session.manager.get(*id).await?;
        let used = session.manager.last_used(*id).await?;
        let row = row::of(&session.manager, &record, used.as_ref());
        rows.write(row.and(cells(None)))?;
    }
    rows.finish()?;
    notice::note("this was a dry run, and nothing was changed");
    Ok(())
}

/// What an error of the output follows.
pub(crate) const MADE: &str = "the change was made";

/// Changes each key, and shows those that were changed. A failure does not stop the others; the first is the command's.
/// An error of the output stops the output alone.
pub(crate) async fn each<F, W>(session: &Session, ids: &[KeyId], change: F) -> Result<(), Failure>
where
    F: Fn(KeyId) -> W,
    W: Future<Output = Result<Option<Propagation>, Error>> + Send + 'static,
{
    let mut rows = session.output.rows(&row::CHANGED)?;
    let mut progress = Progress::new(&session.common, "keys", Some(ids.len() as u64));
    let (mut failures, mut last, mut done) = (Vec::new(), None, 0);
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
                Err(failure) => failures.push(failure),
            }
            done += 1;
            progress.set(done);
        }
    }
    drop(progress);
    let written = written.and_then(|()| rows.finish());
    if let Err(failure) = written {
        failures.push(failure.after(MADE));
    }
    if let Some(propagation) = &last {
        propagation::report(propagation);
    }
    let mut failures = failures.into_iter();
    match failures.next() {
        None => Ok(()),
        Some(first) => {
            for other in failures {
                other.report();
            }
            Err(first)
        }
    }
}

/// Waits for the change of a key, and returns its row.
async fn settled(
    session: &Session,
    id: KeyId,
    call: JoinHandle<Result<Option<Propagation>, Error>>,
) -> Result<(Row, Option<Propagation>), Failure> {
    let made = call.await;
    let propagation = made.map_err(|error| Failure::because("the change ended", &error))??;
    let record = session.manager.get(id).await?;
    let used = session.manager.last_used(id).await?;
    let row = row::of(&session.manager, &record, used.as_ref());
    Ok((row.and(cells(propagation.as_ref())), propagation))
}

/// Names the keys in a question: one by its label.
pub(crate) async fn named(session: &Session, ids: &[KeyId]) -> Result<String, Failure> {
    let [id] = ids else {
        return Ok(format!("{} keys", ids.len()));
    };
    let record = session.manager.get(*id).await?;
    let owner = match &record.owner {
        Some(owner) => format!(" of the owner `{owner}`"),
        None => String::new(),
    };
    Ok(format!("the key `{}`{owner} ({id})", record.label))
}
