//! Changes of many keys, and how a change reached the servers.

use std::collections::HashSet;
use std::io::BufRead;

use apikey_runtime::manager::Propagation;
use apikey_runtime::{Error, KeyId};
use tokio::task::JoinHandle;

use super::failures::Failures;
use super::keys::row;
use crate::args::Ids;
use crate::confirm;
use crate::failure::Failure;
use crate::key_in_arguments::ids_of_keys;
use crate::notice;
use crate::output::{Cell, Column, Row, RowWriter};
use crate::progress::Progress;
use crate::propagation;
use crate::session::Session;
use crate::text::counted;

/// How many keys are changed at the same time.
const AT_ONCE: usize = 64;

/// Makes a change, and waits for all servers if `confirmed` is set. Evaluates to the value and the propagation, or a failure.
macro_rules! made {
    ($call:expr, $confirmed:expr) => {{
        let made = match $confirmed {
            true => {
                let done = $call.confirmed().await;
                done.map(|done| (done.value, Some(done.propagation)))
            }
            false => $call.await.map(|value| (value, None)),
        };
        made.map_err($crate::failure::Failure::from)
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

/// Returns the ids of the arguments, or of stdin. Without ids, it succeeds: a list may select no keys.
pub(crate) fn ids(arguments: &Ids) -> Result<Vec<KeyId>, Failure> {
    let listed = match arguments.ids == ["-"] {
        true => ids_of_stdin()?,
        false => {
            let parsed = arguments.ids.iter().map(|text| text.trim().parse());
            parsed.collect::<Result<_, Error>>()?
        }
    };
    let (mut ids, mut known) = (Vec::with_capacity(listed.len()), HashSet::new());
    ids.extend(listed.into_iter().filter(|id| known.insert(*id)));
    Ok(ids)
}

/// Reads an id, or keys that have one, from each line. A line is not repeated: it may be a secret.
fn ids_of_stdin() -> Result<Vec<KeyId>, Failure> {
    let (mut ids, mut keys) = (Vec::new(), 0);
    for (number, line) in (1..).zip(std::io::stdin().lock().split(b'\n')) {
        let line = line.map_err(|error| Failure::because("the ids cannot be read", &error))?;
        let line = String::from_utf8_lossy(&line);
        // Some editors begin a file with this mark.
        let text = line.strip_prefix('\u{feff}').filter(|_| number == 1);
        let text = text.unwrap_or(&line).trim();
        if text.is_empty() {
            continue;
        }
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => {
                let of_keys = ids_of_keys_alone(text, number)?;
                keys += of_keys.len() as u64;
                ids.extend(of_keys);
            }
        }
    }
    if keys > 0 {
        notice::note(&format!(
            "the id was taken from each whole key on stdin ({})",
            counted(keys, "key")
        ));
    }
    if ids.is_empty() {
        notice::note("no ids were given on stdin, and nothing is changed");
    }
    Ok(ids)
}

/// Returns the ids of a line's keys.
///
/// # Errors
///
/// Returns an error if there is no key, or if another id stands beside the keys: it would be passed over.
fn ids_of_keys_alone(text: &str, number: u64) -> Result<Vec<KeyId>, Failure> {
    let ids: Vec<_> = ids_of_keys(text).collect();
    if ids.is_empty() {
        return Err(
            Failure::usage(format!("line {number} of stdin is not the id of a key"))
                .remedy("write an id in each line: its 22 letters and digits, or its UUID; nothing was changed"),
        );
    }
    let is_between = |letter: char| letter.is_whitespace() || ",;\"'`".contains(letter);
    let mut words = text.split(is_between).filter_map(|word| word.parse().ok());
    if words.any(|id| !ids.contains(&id)) {
        return Err(
            Failure::usage(format!("line {number} of stdin has an id beside a key"))
                .remedy("write each id and each key in its own line; nothing was changed"),
        );
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

/// Changes each key, and shows those that were changed: if `confirmed`, after one wait for all of them. A failure does not stop the
/// others, unless the store is away; the first is the command's. An error of the output stops the output alone.
pub(crate) async fn each<F, W>(
    session: &Session,
    ids: &[KeyId],
    confirmed: bool,
    change: F,
) -> Result<(), Failure>
where
    F: Fn(KeyId) -> W,
    W: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut rows = ChangedRows::new(session);
    let mut progress = Progress::new(&session.common, "keys", Some(ids.len() as u64));
    let (mut unconfirmed, mut tried, mut made) = (Vec::new(), 0, 0);
    for ids in ids.chunks(AT_ONCE) {
        let start = |id: &KeyId| (*id, tokio::spawn(change(*id)));
        let started: Vec<_> = ids.iter().map(start).collect();
        let (mut changed, mut away) = (Vec::new(), 0);
        for (id, call) in started {
            match settled(id, call).await {
                Ok(()) => changed.push(id),
                Err(failure) => {
                    away += usize::from(failure.is_store_away());
                    rows.failures.add(id, failure);
                }
            }
            tried += 1;
            progress.set(tried);
        }
        made += changed.len();
        match confirmed {
            true => unconfirmed.extend(changed),
            false => rows.write(&changed, None).await,
        }
        if away == ids.len() {
            break;
        }
    }
    drop(progress);
    note_untried(ids.len() as u64, tried, made);
    if !unconfirmed.is_empty() {
        wait_for_all(session, &unconfirmed, &mut rows).await;
    }
    rows.finish()
}

/// Waits for the servers once, since each wait may take a lease, and shows the keys.
async fn wait_for_all(session: &Session, changed: &[KeyId], rows: &mut ChangedRows<'_>) {
    match session.manager.confirm().await {
        Ok(propagation) => {
            rows.write(changed, Some(&propagation)).await;
            propagation::report(&propagation);
        }
        Err(error) => {
            rows.write(changed, None).await;
            let failure = Failure::from(error).after("the changes were made");
            rows.failures.add_other(failure);
        }
    }
}

/// Says how many keys were left out because the store is away.
fn note_untried(all: u64, tried: u64, made: usize) {
    if tried < all {
        notice::warn(&format!(
            "the store is away: {} of {all} were changed, and {} not tried; the same command continues",
            counted(made as u64, "key"),
            all - tried
        ));
    }
}

/// The rows of keys that were changed, and what failed.
struct ChangedRows<'s> {
    session: &'s Session,
    rows: RowWriter,
    written: Result<(), Failure>,
    failures: Failures,
}

impl<'s> ChangedRows<'s> {
    fn new(session: &'s Session) -> Self {
        Self {
            session,
            rows: session.output.rows(&row::CHANGED),
            written: Ok(()),
            failures: Failures::default(),
        }
    }

    async fn write(&mut self, changed: &[KeyId], propagation: Option<&Propagation>) {
        for id in changed {
            match shown(self.session, *id, propagation).await {
                Ok(row) if self.written.is_ok() => self.written = self.rows.write(row),
                Ok(_) => {}
                Err(failure) => self.failures.add(*id, failure.after(MADE)),
            }
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let rows = self.rows;
        let written = self.written.and_then(|()| rows.finish());
        if let Err(failure) = written {
            self.failures.add_other(failure.after(MADE));
        }
        self.failures.first()
    }
}

/// Waits for the change of a key.
async fn settled(id: KeyId, call: JoinHandle<Result<(), Error>>) -> Result<(), Failure> {
    let made = call.await;
    let made = made.map_err(|error| Failure::because("the change ended", &error))?;
    made.map_err(|error| Failure::from(error).unsure_of_change(id))
}

/// Asks `question`, which names the keys: one by its label. With `--yes`, and without keys, nothing is read or asked.
pub(crate) async fn ask(
    session: &Session,
    ids: &[KeyId],
    question: impl FnOnce(String) -> String,
) -> Result<(), Failure> {
    if ids.is_empty() || session.common.yes {
        return Ok(());
    }
    let what = named(session, ids).await?;
    confirm::ask(&session.common, &question(what))
}

async fn named(session: &Session, ids: &[KeyId]) -> Result<String, Failure> {
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
