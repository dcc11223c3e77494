//! The arguments.

mod audit;
mod common;
mod keys;
mod owners;
mod programs;
mod scan;
mod store;

use clap::{Parser, Subcommand};

pub(crate) use audit::AuditArguments;
pub(crate) use common::{ChangeArguments, Common};
pub(crate) use keys::{
    CreateArguments, Expiry, Filters, Ids, KeysCommand, ListArguments, PurgeArguments,
    RevokeArguments, RotateArguments, ShowArguments, SwitchArguments, UpdateArguments,
    UsageArguments, UsageUnit, VerifyArguments,
};
pub(crate) use owners::{ListOwnersArguments, OwnerChange, OwnersCommand, RevokeOwnerArguments};
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
  0 done  1 error  2 usage  3 not found  4 not allowed  5 conflict  6 the store is away  10 rejected";

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
