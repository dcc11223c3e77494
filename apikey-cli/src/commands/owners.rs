//! `apikey owners`.

use apikey_runtime::Error;
use apikey_runtime::manager::Propagation;
use apikey_runtime::store::OwnerState;

use crate::args::{ListOwnersArguments, OwnerChange, OwnersCommand};
use crate::commands::change::{MADE, made};
use crate::confirm;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Column, Format, Row};
use crate::progress::Progress;
use crate::propagation;
use crate::session::Session;
use crate::text::counted;

/// The columns of an owner. New ones come last.
const COLUMNS: &[Column] = &[
    Column::shown("name"),
    Column::shown("suspended"),
    Column::shown("revocations"),
    Column::detail("version"),
];

/// The rows of a table, unless `--limit` says otherwise.
const TABLE_LIMIT: u64 = 100;

/// The owners that are read at once.
const PAGE_SIZE: u32 = 500;

/// The most keys that are counted before a change.
const MAX_COUNT: u32 = 10_000;

pub(crate) async fn run(session: &Session, command: OwnersCommand) -> Result<(), Failure> {
    match command {
        OwnersCommand::List(arguments) => list(session, arguments).await,
        OwnersCommand::Revoke(arguments) => revoke(session, arguments).await,
        OwnersCommand::Suspend(change) => set_suspended(session, change, true).await,
        OwnersCommand::Resume(change) => set_suspended(session, change, false).await,
    }
}

async fn list(session: &Session, arguments: ListOwnersArguments) -> Result<(), Failure> {
    let default = match session.output.format() {
        Format::Table => TABLE_LIMIT,
        _ => u64::MAX,
    };
    let limit = arguments.limit.unwrap_or(default);
    let beginning = arguments.starting_with.unwrap_or_default();
    let mut rows = session.output.rows(COLUMNS);
    let mut progress = Progress::new(&session.common, "owners", None);
    let (mut left, mut after, mut has_more) = (limit, None, false);
    while left > 0 {
        let size = PAGE_SIZE.min(u32::try_from(left).unwrap_or(PAGE_SIZE));
        let page = session
            .manager
            .owners()
            .starting_with(&beginning)
            .after(after)
            .page_size(size)
            .await?;
        for name in &page.unreadable {
            notice::warn(&format!(
                "the state of the owner `{name}` cannot be read, and its keys are always denied"
            ));
        }
        for owner in &page.owners {
            rows.write(row(&owner.name, &owner.state))?;
        }
        left -= page.owners.len() as u64;
        progress.set(limit - left);
        has_more = page.next.is_some();
        after = page.next;
        if !has_more {
            break;
        }
    }
    drop(progress);
    rows.finish()?;
    if has_more && arguments.limit.is_none() {
        notice::note(&format!(
            "these are the first {limit} owners; `--limit 1000` lists more, `--output csv` all"
        ));
    }
    Ok(())
}

fn row(name: &str, state: &OwnerState) -> Row {
    let cells = vec![
        name.into(),
        state.suspended.into(),
        state.revocations.into(),
        state.version.into(),
    ];
    Row::new(name, cells)
}

async fn revoke(session: &Session, arguments: OwnerChange) -> Result<(), Failure> {
    let OwnerChange {
        owner,
        change,
        dry_run,
    } = &arguments;
    if *dry_run {
        return preview(session, owner, "revoke").await;
    }
    // With `--yes`, a revocation does not depend on a count.
    if !session.common.yes {
        let keys = live_keys(session, owner).await?;
        confirm::ask(
            &session.common,
            &format!("Revoke all keys of the owner `{owner}` for ever? It has {keys}."),
        )?;
    }
    let origin = session.origin(change.reason.as_deref());
    let mut call = session.manager.revoke_all(owner).origin(origin);
    if let Some(reason) = &change.reason {
        call = call.reason(reason);
    }
    let made = made!(call, change.confirmed);
    let (known, propagation) = made.map_err(|failure| unsure_of_change(failure, owner))?;
    if !known {
        return Err(Error::OwnerNotFound(owner.clone()).into());
    }
    done(
        session,
        owner,
        &format!("revoked all keys of the owner `{owner}`"),
        propagation,
    )
    .await
}

/// Says what a change would do, and writes the owner as it is.
async fn preview(session: &Session, owner: &str, verb: &str) -> Result<(), Failure> {
    let keys = live_keys(session, owner).await?;
    notice::note(&format!(
        "this would {verb} {keys} of the owner `{owner}`; nothing was changed"
    ));
    show(session, owner).await
}

/// Returns the number of keys that a change of an owner is about, in words.
async fn live_keys(session: &Session, owner: &str) -> Result<String, Failure> {
    state(session, owner).await?;
    Ok(match session.manager.live_keys(owner, MAX_COUNT).await? {
        MAX_COUNT => format!("{MAX_COUNT} live keys or more"),
        count => counted(count.into(), "live key"),
    })
}

async fn set_suspended(
    session: &Session,
    arguments: OwnerChange,
    suspended: bool,
) -> Result<(), Failure> {
    let OwnerChange {
        owner,
        change,
        dry_run,
    } = &arguments;
    if *dry_run {
        let verb = if suspended { "suspend" } else { "resume" };
        return preview(session, owner, verb).await;
    }
    // With `--yes`, a suspension does not depend on a count.
    if suspended && !session.common.yes {
        let keys = live_keys(session, owner).await?;
        let question = format!(
            "Suspend the owner `{owner}`? It has {keys}, and all its keys are denied until `apikey owners resume`."
        );
        confirm::ask(&session.common, &question)?;
    }
    let call = match suspended {
        true => session.manager.suspend_owner(owner),
        false => session.manager.resume_owner(owner),
    };
    let call = call.origin(session.origin(change.reason.as_deref()));
    let made = made!(call, change.confirmed);
    let (changed, propagation) = made.map_err(|failure| unsure_of_change(failure, owner))?;
    let what = match (suspended, changed) {
        (true, true) => "suspended",
        (true, false) => "was suspended already:",
        (false, true) => "resumed",
        (false, false) => "was not suspended:",
    };
    done(
        session,
        owner,
        &format!("{what} the owner `{owner}`"),
        propagation,
    )
    .await
}

fn unsure_of_change(failure: Failure, owner: &str) -> Failure {
    // As a shell reads it: the name may have any letters.
    let quoted = owner.replace('\'', r"'\''");
    failure.unsure(
        "the change was made",
        format!("apikey audit --owner='{quoted}'"),
    )
}

/// Says what was done, and writes the owner as it is now.
async fn done(
    session: &Session,
    owner: &str,
    what: &str,
    propagation: Option<Propagation>,
) -> Result<(), Failure> {
    notice::note(what);
    if let Some(propagation) = &propagation {
        propagation::report(propagation);
    }
    let shown = show(session, owner).await;
    shown.map_err(|failure| failure.after(MADE))
}

async fn show(session: &Session, owner: &str) -> Result<(), Failure> {
    let state = state(session, owner).await?;
    session.output.one(COLUMNS, row(owner, &state))
}

/// Returns the state of an owner that has had a key.
async fn state(session: &Session, owner: &str) -> Result<OwnerState, Failure> {
    let state = session.manager.owner_state(owner).await?;
    state.ok_or_else(|| Error::OwnerNotFound(owner.to_owned()).into())
}
