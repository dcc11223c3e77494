//! `apikey owners`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::ChangeArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum OwnersCommand {
    /// Lists the owners that have ever had a key
    List(ListOwnersArguments),
    /// Revokes all keys that an owner has now, for ever
    ///
    /// It is one change, whatever their number. A key that the owner gets later is not revoked.
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(OwnerChange),
    /// Suspends an owner: all its keys are denied until `resume`
    ///
    /// So are keys that the owner gets meanwhile. Each key keeps whether it is enabled.
    #[command(after_help = SUSPEND_EXAMPLES)]
    Suspend(OwnerChange),
    /// Ends a suspension: the owner's keys count again
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(OwnerChange),
}

const LIST_EXAMPLES: &str = "\
Examples:
  apikey owners list
  apikey owners list --starting-with acme --output jsonl";

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListOwnersArguments {
    /// Only owners whose name begins with this text, in the same case
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) starting_with: Option<String>,
    /// The most owners to list [default: 100 in a table, otherwise all]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  apikey owners revoke acme --dry-run
  apikey owners revoke acme --reason breach --confirmed --yes";

const SUSPEND_EXAMPLES: &str = "\
Examples:
  apikey owners suspend acme --dry-run
  apikey owners suspend acme --reason \"unpaid invoice\" --yes";

const RESUME_EXAMPLES: &str = "\
Examples:
  apikey owners resume acme --reason paid";

/// A change of an owner.
#[derive(Debug, Args)]
pub(crate) struct OwnerChange {
    /// The owner's name
    pub(crate) owner: String,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
    /// Says how many keys the owner has that it would change, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
