//! Questions before changes that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::Common;
use crate::exit;
use crate::failure::Failure;
use crate::text::escaped;

/// Asks `question` on the terminal, unless `--yes` answers it.
///
/// # Errors
///
/// Returns an error if the answer is not yes, or without a terminal to ask on.
pub(crate) fn ask(common: &Common, question: &str) -> Result<(), Failure> {
    if common.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{question} This needs an answer, and stdin is not a terminal"
        ))
        .remedy("add `--yes` to do it, or `--dry-run` to see what it would do"));
    }
    let mut err = anstream::stderr();
    let shown = write!(err, "{} [y/N] ", escaped(question)).and_then(|()| err.flush());
    shown.map_err(|error| Failure::because("the question cannot be shown", &error))?;
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| {
        Failure::because("nothing was changed, and the answer cannot be read", &error)
    })?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::with_code(exit::ERROR, "nothing was changed")),
    }
}
