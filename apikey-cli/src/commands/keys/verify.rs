//! `apikey keys verify`.

use std::io::{self, BufRead, IsTerminal, Read};

use apikey_runtime::manager::KeyFacts;
use apikey_runtime::{Error, KeyId, KeyState};

use super::row::state_name;
use crate::args::VerifyArguments;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Cell, Column, Row};
use crate::session::Session;

const COLUMNS: &[Column] = &[
    Column::shown("id"),
    Column::shown("valid"),
    Column::shown("reason"),
    Column::shown("label"),
    Column::shown("owner"),
    Column::shown("scopes"),
    Column::shown("environment"),
    Column::shown("expires"),
    Column::shown("superseded_until"),
];

/// Longer than any key.
const MAX_LENGTH: u64 = 4_096;

pub(super) async fn run(session: &Session, arguments: &VerifyArguments) -> Result<(), Failure> {
    if !arguments.key.is_empty() {
        return Err(Failure::usage(
            "the key is an argument, which each user of this machine can read, and which the shell keeps",
        )
        .remedy("rotate it, and write the new one to stdin, as in `apikey keys verify < key.txt`"));
    }
    let key = presented()?;
    let id = id_of(&key);
    let facts = session.manager.introspect(&key).await?.key;
    let missing = |facts: &KeyFacts| {
        let mut scopes = arguments.scope.iter();
        scopes.any(|scope| !facts.scopes.contains(scope))
    };
    let reason = match &facts {
        None => Some(why(session, &key, id).await?),
        Some(facts) if missing(facts) => Some("missing_scope".to_owned()),
        Some(_) => None,
    };
    let cells = |facts: KeyFacts| {
        vec![
            facts.label.into(),
            facts.owner.into(),
            Cell::List(facts.scopes.iter().map(str::to_owned).collect()),
            facts.environment.into(),
            facts.expires.into(),
            facts.superseded_until.into(),
        ]
    };
    let is_valid = reason.is_none();
    let id = id.map(|id| id.to_string());
    let named = id
        .as_ref()
        .map_or_else(String::new, |id| format!(" `{id}`"));
    let first = vec![id.clone().into(), is_valid.into(), reason.clone().into()];
    let rest = facts.map_or_else(|| vec![Cell::Absent; COLUMNS.len() - 3], cells);
    let row = Row::new(id.unwrap_or_default(), first).and(rest);
    let written = session.output.one(COLUMNS, row);
    match reason {
        None => written,
        // The verdict matters more than an error of the output.
        Some(reason) => Err(Failure::with_code(
            exit::REJECTED,
            format!("the key{named} is rejected: {}", reason.replace('_', " ")),
        )),
    }
}

/// Reads the key from a prompt, or from the first line of stdin.
fn presented() -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::because("the key cannot be read", &error);
    let text = if io::stdin().is_terminal() {
        match hidden_line("Key: ") {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Err(Failure::with_code(exit::INTERRUPTED, "interrupted"));
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => String::new(),
            line => line.map_err(failed)?,
        }
    } else {
        let mut text = String::new();
        let stdin = io::stdin().lock().take(MAX_LENGTH).read_line(&mut text);
        stdin.map_err(failed)?;
        text
    };
    match text.trim() {
        "" => Err(Failure::usage("a key was not given")
            .remedy("write it to stdin, as in `apikey keys verify < key.txt`")),
        key => Ok(key.to_owned()),
    }
}

/// Asks for a line that is not shown. An interrupt is an error, after which the terminal is as it was before: without a
/// handler, the signal would end the program with a terminal that does not show what is typed.
fn hidden_line(prompt: &str) -> io::Result<String> {
    #[cfg(unix)]
    let mut interrupts = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::interrupt())?
    };
    let line = rpassword::prompt_password(prompt)?;
    // The handler stays, so later interrupts end the program here.
    #[cfg(unix)]
    tokio::spawn(async move {
        interrupts.recv().await;
        std::process::exit(exit::INTERRUPTED.into());
    });
    Ok(line)
}

/// Returns the id in `prefix_id_secret`, whose prefix may have underscores.
fn id_of(key: &str) -> Option<KeyId> {
    let mut parts = key.rsplit('_');
    parts.next()?;
    parts.next()?.parse().ok()
}

/// Returns why a key is not valid, for an operator, who may know more than its holder.
async fn why(session: &Session, key: &str, id: Option<KeyId>) -> Result<String, Failure> {
    let Some(id) = id else {
        return Ok("malformed".to_owned());
    };
    let record = match session.manager.get(id).await {
        Ok(record) => record,
        Err(Error::NotFound(_)) => return Ok("unknown".to_owned()),
        Err(error) => return Err(error.into()),
    };
    let used = session.manager.last_used(id).await?;
    let accepted = |prefix: &String| key.starts_with(&format!("{prefix}_"));
    let reason = match session.manager.state_of(&record, used.as_ref()) {
        KeyState::Active if !session.manager.config().prefixes().iter().any(accepted) => {
            "prefix_not_accepted".to_owned()
        }
        KeyState::Active => {
            session.check_peppers(&record)?;
            "wrong_secret".to_owned()
        }
        state => state_name(state),
    };
    Ok(reason)
}
