//! `apikey keys verify`.

use std::io::{self, BufRead, IsTerminal, Read};

use apikey_runtime::key::is_well_formed;
use apikey_runtime::manager::KeyFacts;
use apikey_runtime::{Error, KeyId, KeyState};

use super::row::state_name;
use crate::args::VerifyArguments;
use crate::exit;
use crate::failure::Failure;
use crate::output::{Cell, Column, Row};
use crate::prompt;
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
    Column::shown("networks"),
    Column::shown("methods"),
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
    let key = presented().await?;
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
            Cell::List(facts.networks.iter().map(ToString::to_string).collect()),
            facts.methods.into(),
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
async fn presented() -> Result<String, Failure> {
    let text = match io::stdin().is_terminal() {
        true => prompt::hidden_line("Key: ").await?,
        false => {
            let mut line = Vec::new();
            let mut stdin = io::stdin().lock().take(MAX_LENGTH);
            let read = stdin.read_until(b'\n', &mut line);
            read.map_err(|error| Failure::because("the key cannot be read", &error))?;
            // A key is text: other bytes are rejected with it.
            String::from_utf8_lossy(&line).into_owned()
        }
    };
    match text.trim() {
        "" => Err(Failure::usage("a key was not given")
            .remedy("write it to stdin, as in `apikey keys verify < key.txt`")),
        key => Ok(key.to_owned()),
    }
}

/// Returns the id in `prefix_id_secret`, whose prefix may have underscores.
fn id_of(key: &str) -> Option<KeyId> {
    let mut parts = key.rsplit('_');
    parts.next()?;
    parts.next()?.parse().ok()
}

/// Returns why a key is not valid, for an operator, who may know more than its holder.
async fn why(session: &Session, key: &str, id: Option<KeyId>) -> Result<String, Failure> {
    let Some(id) = id.filter(|_| is_well_formed(key)) else {
        return Ok("malformed".to_owned());
    };
    let record = match session.manager.get(id).await {
        Ok(record) => record,
        Err(Error::NotFound(_)) => return Ok("unknown".to_owned()),
        Err(error) => return Err(error.into()),
    };
    let used = session.manager.last_used(id).await?;
    let prefix = key.rsplitn(3, '_').nth(2);
    let accepted = |accepted: &String| prefix == Some(accepted.as_str());
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
