//! `apikey keys`.

mod fields;
mod list;

use std::path::PathBuf;
use std::time::Duration;

use apikey_runtime::KeyId;
use clap::{Args, Subcommand, ValueEnum};

use super::common::ChangeArguments;
use crate::duration::{self, Moment, parse_moment};

pub(crate) use fields::{CreateArguments, Expiry, UpdateArguments};
pub(crate) use list::{Filters, ListArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Lists keys
    List(ListArguments),
    /// Shows one key
    Show(ShowArguments),
    /// Makes a key, and shows its secret once
    Create(Box<CreateArguments>),
    /// Changes the fields of a key
    Update(Box<UpdateArguments>),
    /// Gives a key a new secret, and shows it once
    Rotate(RotateArguments),
    /// Revokes keys permanently
    Revoke(RevokeArguments),
    /// Enables keys that were disabled
    Enable(SwitchArguments),
    /// Disables keys until they are enabled again
    Disable(SwitchArguments),
    /// Tells whether a key is valid; reads it from stdin or a prompt
    Verify(VerifyArguments),
    /// Shows how a key was used
    Usage(UsageArguments),
    /// Removes the records of keys that were revoked, or expired, before a time
    Purge(PurgeArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  apikey keys show 2YhUCQwWWeoSCFNn0Zxz4B
  apikey keys show 2YhUCQwWWeoSCFNn0Zxz4B --output json")]
pub(crate) struct ShowArguments {
    /// The key's id: the public part of `prefix_id_secret`
    pub(crate) id: KeyId,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The last line of stdout is the new secret. In json and jsonl, it is the member `secret`. Without a grace, a
server denies the old secret as soon as it knows of the rotation; with --confirmed, each does when the command returns.
With --confirmed, the new secret is written before the wait, and the servers are named on stderr.
A grace ends at the latest with the key, and with the next rotation.

Examples:
  apikey keys rotate 2YhUCQwWWeoSCFNn0Zxz4B --grace 24h
  apikey keys rotate 2YhUCQwWWeoSCFNn0Zxz4B --dry-run
  apikey keys rotate 2YhUCQwWWeoSCFNn0Zxz4B --yes --reason leaked --confirmed
  apikey keys rotate 2YhUCQwWWeoSCFNn0Zxz4B --grace 7d --secret-file new.key")]
pub(crate) struct RotateArguments {
    /// The key's id
    pub(crate) id: KeyId,
    /// How long the old secret stays valid, such as 24h [default: not at all]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) grace: Option<Duration>,
    /// A new file for the secret, which only you can read
    #[arg(long, value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Rotates only if the record has this version
    #[arg(long, value_name = "NUMBER")]
    pub(crate) if_version: Option<u64>,
    /// Checks all that can be told before, shows the key as it would be, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// The ids of keys that a command changes.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// The keys' ids; `-` reads them, or whole keys that have them, from stdin, one a line; without any, nothing is changed, and the exit code is 0
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Shows the keys, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  apikey keys revoke 2YhUCQwWWeoSCFNn0Zxz4B --reason leaked --confirmed
  apikey keys list --unused-since 365d --output id | apikey keys revoke --yes -")]
pub(crate) struct RevokeArguments {
    #[command(flatten)]
    pub(crate) ids: Ids,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  apikey keys disable 2YhUCQwWWeoSCFNn0Zxz4B --yes
  apikey keys enable 2YhUCQwWWeoSCFNn0Zxz4B
  apikey keys list --label-prefix ci- --output id | apikey keys disable --yes -")]
pub(crate) struct SwitchArguments {
    #[command(flatten)]
    pub(crate) ids: Ids,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The key is never an argument, which each user of the machine could read. It is not used by this: neither its usage nor
its limits count. The exit code is 0 if it is valid, and 10 if not. A request is not known here: a valid key is denied to
requests from outside its networks, and to those with other than its methods. A server also looks at limits.

Examples:
  apikey keys verify < key.txt
  apikey keys verify --scope orders:read")]
pub(crate) struct VerifyArguments {
    /// Catches a key among the arguments, which is rejected without being repeated
    #[arg(hide = true, num_args = 0..)]
    pub(crate) key: Vec<String>,
    /// Demands this scope too; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  apikey keys usage 2YhUCQwWWeoSCFNn0Zxz4B
  apikey keys usage 2YhUCQwWWeoSCFNn0Zxz4B --from 2026-11-01 --to 2026-12-01 --by route --output csv")]
pub(crate) struct UsageArguments {
    /// The key's id
    pub(crate) id: KeyId,
    /// From when on: a date, or a duration before now [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) from: Option<Moment>,
    /// Up to when: a date, or a duration before now [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) to: Option<Moment>,
    /// What a row counts
    #[arg(long, value_name = "UNIT", default_value = "day")]
    pub(crate) by: UsageUnit,
}

/// What a row of usage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageUnit {
    /// An hour, or a day whose hours the server has added up
    Hour,
    /// A day (UTC)
    Day,
    /// A route
    Route,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  apikey keys purge --before 90d --dry-run
  apikey keys purge --before 2026-01-01 --yes")]
pub(crate) struct PurgeArguments {
    /// Only keys that ended before then: a date, or a duration before now
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) before: Moment,
    /// Counts the keys, and removes none
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}
