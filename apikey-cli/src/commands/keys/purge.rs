//! `apikey keys purge`.

use apikey_runtime::{KeyRecord, Timestamp};

use crate::args::PurgeArguments;
use crate::commands::change::MADE;
use crate::confirm;
use crate::failure::Failure;
use crate::output::{Column, Row};
use crate::progress::Progress;
use crate::session::Session;

const COLUMNS: &[Column] = &[
    Column::shown("before"),
    Column::shown("keys"),
    Column::shown("removed"),
];

/// The largest page of the store.
const PAGE_SIZE: u32 = 1_000;

pub(super) async fn run(session: &Session, arguments: &PurgeArguments) -> Result<(), Failure> {
    let before = arguments.before.before(session.now());
    if before > session.now() {
        return Err(Failure::usage(format!(
            "`--before` is {before}, which lies in the future, and keys that end until then still work"
        ))
        .remedy("write a time that has passed"));
    }
    let keys = match arguments.dry_run {
        true => count(session, before).await?,
        false => {
            let question = format!(
                "Remove the records of all keys that were revoked, or expired, before {before}? Their usage and limits \
                 are removed too, and this cannot be undone."
            );
            confirm::ask(&session.common, &question)?;
            let origin = session.origin(arguments.reason.as_deref());
            session.manager.purge(before).origin(origin).await?
        }
    };
    let cells = vec![before.into(), keys.into(), (!arguments.dry_run).into()];
    let row = Row::new(keys.to_string(), cells);
    let written = session.output.one(COLUMNS, row);
    written.map_err(|failure| match arguments.dry_run {
        true => failure,
        false => failure.after(MADE),
    })
}

/// Counts the keys that a purge would remove.
async fn count(session: &Session, before: Timestamp) -> Result<u64, Failure> {
    let (mut count, mut read, mut after) = (0, 0, None);
    let mut progress = Progress::new(&session.common, "keys read", None);
    loop {
        let page = session.manager.list().page_size(PAGE_SIZE).after(after);
        let page = page.await?;
        let ended = |record: &&KeyRecord| {
            let revoked = record.revoked.as_ref().map(|revoked| revoked.at);
            [revoked, record.expires]
                .into_iter()
                .flatten()
                .any(|end| end < before)
        };
        count += page.keys.iter().filter(ended).count() as u64;
        read += page.keys.len() as u64;
        progress.set(read);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(count),
        }
    }
}
