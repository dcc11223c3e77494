//! The arguments.

mod audit;
mod common;
mod keys;
mod owners;
mod programs;
mod scan;
mod store;

use std::io::{self, Write};

use clap::error::ContextValue;
use clap::{Parser, Subcommand};

use crate::text::escaped;

pub(crate) use audit::AuditArguments;
use common::Color;
pub(crate) use common::{ChangeArguments, Common};
pub(crate) use keys::{
    CreateArguments, Expiry, Filters, Ids, KeysCommand, ListArguments, PurgeArguments,
    RevokeArguments, RotateArguments, ShowArguments, SwitchArguments, UpdateArguments,
    UsageArguments, UsageUnit, VerifyArguments,
};
pub(crate) use owners::{ListOwnersArguments, OwnerChange, OwnersCommand};
pub(crate) use programs::{CompletionsArguments, ManArguments};
pub(crate) use scan::ScanArguments;
pub(crate) use store::{CopyArguments, MigrateArguments, StoreCommand};

const EXAMPLES: &str = "\
Examples:
  export APIKEYS_STORE=sqlite:/var/lib/app/apikeys.db
  apikey keys list
  apikey keys create ci --owner 42 --scope orders:read --expires 90d
  apikey keys revoke 2YhUCQwWWeoSCFNn0Zxz4B --reason leaked --confirmed

Exit codes:
  0 done  1 error  2 usage  3 not found  4 not allowed  5 conflict  6 the store is away  10 rejected
  130 interrupted";

/// Manages API keys, beside running servers.
///
/// The store is named by the variable APIKEYS_STORE, by a file (`--store-file`), or by the path of an SQLite file.
/// Nothing creates or changes a store's layout but `apikey store migrate`. A change counts on
/// running servers within the lease, usually in milliseconds; with `--confirmed`, when the command returns.
#[derive(Debug, Parser)]
#[command(name = "apikey", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Parses the arguments of the process. Exits with a message if they are wrong, or ask for help. A terminal does not
    /// obey what the message repeats of them.
    ///
    /// # Errors
    ///
    /// Returns an error if the help cannot be written. It is not an error if the reader has gone.
    pub(crate) fn of_process() -> io::Result<Self> {
        Self::try_parse().or_else(|mut error| {
            let repeated = |(kind, value): (_, &ContextValue)| match value {
                ContextValue::String(text) => Some((kind, ContextValue::String(escaped(text)))),
                ContextValue::Strings(texts) => {
                    let texts = texts.iter().map(|text| escaped(text)).collect();
                    Some((kind, ContextValue::Strings(texts)))
                }
                _ => None,
            };
            let repeated: Vec<_> = error.context().filter_map(repeated).collect();
            for (kind, value) in repeated {
                error.insert(kind, value);
            }
            if is_colour_refused() {
                Color::Never.apply();
            }
            match error.print().and_then(|()| io::stdout().flush()) {
                Err(lost) if !error.use_stderr() && lost.kind() != io::ErrorKind::BrokenPipe => {
                    Err(lost)
                }
                _ => std::process::exit(error.exit_code()),
            }
        })
    }
}

/// Returns whether arguments that may be wrong have `--color never`.
fn is_colour_refused() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_pair = |pair: &[_]| pair[0] == "--color" && pair[1] == "never";
    arguments.contains(&"--color=never".into()) || arguments.windows(2).any(is_pair)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists, makes and changes keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Lists owners, and revokes or suspends all keys of one
    #[command(subcommand)]
    Owners(OwnersCommand),
    /// Reads the audit log, the newest entry first: who changed what, when, and from where
    ///
    /// An entry must match all options that are given. One page of entries is held in memory, except for a table.
    Audit(AuditArguments),
    /// Checks, migrates and copies stores
    #[command(subcommand)]
    Store(StoreCommand),
    /// Writes rules for scanners that find leaked keys
    ///
    /// The rules are written for the prefixes and the secrets of the server's settings. The store is not opened.
    Scan(ScanArguments),
    /// Writes completions for a shell
    Completions(CompletionsArguments),
    /// Writes manual pages into a folder
    Man(ManArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Returns the words of each command of a shell's line: what pipes, redirections, substitutions and comments separate.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let line = line.replace("\"$(", "|").replace(")\"", "|");
        let (mut commands, mut is_quoted, mut is_word) = (vec![Vec::new()], false, false);
        for letter in line.chars() {
            match letter {
                '"' => is_quoted = !is_quoted,
                ' ' if !is_quoted => is_word = false,
                '#' if !is_quoted && !is_word => break,
                '|' | '&' | '<' | '>' if !is_quoted => {
                    commands.push(Vec::new());
                    is_word = false;
                }
                letter => {
                    let words: &mut Vec<String> = commands.last_mut().unwrap();
                    match words.last_mut().filter(|_| is_word) {
                        Some(word) => word.push(letter),
                        None => words.push(letter.to_string()),
                    }
                    is_word = true;
                }
            }
        }
        commands
    }

    /// Returns the examples of the help of a command, and of those below it.
    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let (_, after) = help.split_once("Examples:\n").unwrap_or_default();
        let lines = after.lines().take_while(|line| line.starts_with("  "));
        let own = lines.map(str::to_owned);
        own.chain(command.get_subcommands().flat_map(examples))
            .collect()
    }

    #[test]
    fn each_example_can_be_typed() {
        let mut count = 0;
        for line in examples(&Arguments::command()) {
            let before = count;
            for words in commands(&line) {
                let is_variable = |word: &String| word.contains('=');
                let words: Vec<_> = words.into_iter().skip_while(is_variable).collect();
                if words.first().is_some_and(|word| word == "apikey") {
                    let parsed = Arguments::try_parse_from(words);
                    assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
                    count += 1;
                }
            }
            assert!(count > before || line.contains("export "), "{line}");
        }
        assert!(count > 40, "{count}");
        // Negative control: a unit that does not exist.
        let wrong = commands("apikey keys list --unused-since 1y --output id | sort");
        assert!(Arguments::try_parse_from(&wrong[0]).is_err());
    }
}
