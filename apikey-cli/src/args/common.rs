//! Options of all commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::duration;
use crate::output::Format;

/// Options of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Common {
    /// A file whose first line is the store's address; instead of the variable APIKEYS_STORE
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) store_file: Option<PathBuf>,
    /// The SQLite file of the store
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        conflicts_with = "store_file"
    )]
    pub(crate) sqlite: Option<PathBuf>,
    /// The server's settings, a JSON object; ACTIX_API_KEY_* precede it
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A file with the server's peppers, a line `id:secret` each; instead of the variable APIKEYS_PEPPERS
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) pepper_file: Option<PathBuf>,
    /// Who makes the change, for the audit log; by default, the user and the host
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// The format of stdout
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,
    /// Guards cells of csv that a spreadsheet would take for a formula
    #[arg(long, global = true)]
    pub(crate) spreadsheet: bool,
    /// Answers each question with yes
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Shows no progress
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// How long to wait for the store, 10ms to 60s, such as 30s; Redis and SQLite have bounds of their own, which this does not lengthen
    #[arg(long, global = true, value_name = "DURATION", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

/// Parses a time that managers and each store accept.
fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse(text)?;
    match (Duration::from_millis(10)..=Duration::from_secs(60)).contains(&timeout) {
        true => Ok(timeout),
        false => Err("a timeout is 10ms to 60s; write one such as `30s`".to_owned()),
    }
}

/// Options of a change.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArguments {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Returns when no server accepts what was before, and tells which servers have acknowledged the change
    #[arg(long)]
    pub(crate) confirmed: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// If there is a terminal, unless NO_COLOR or TERM=dumb is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Makes this the choice of the process.
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}
