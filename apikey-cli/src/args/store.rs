//! `apikey store`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Reads all keys and owners, and reports what is wrong
    #[command(after_help = "\
Examples:
  apikey store check
  apikey store check --output json")]
    Check,
    /// Brings a store of an older release up to date, while no server uses it
    #[command(after_help = "\
A server that is alive is found by its heartbeat, which takes as long as the store's lease.

Examples:
  apikey store migrate --dry-run
  apikey store migrate --yes
  apikey store migrate --create      # makes a new store, for `store copy`")]
    Migrate(MigrateArguments),
    /// Copies all content of a store to another one, while no server uses either
    #[command(after_help = "\
Examples:
  apikey store copy sqlite:apikeys.db env:NEW_STORE --dry-run
  apikey store copy sqlite:apikeys.db file:/run/secrets/new-store --verify

A copy that ended early is continued by the same command. A repeated copy changes nothing.
If TO's audit log has changes that FROM's lacks, nothing is copied: exit code 5. With --force, a record of a later version in FROM
overwrites that in TO, a key that TO removed is back, and what FROM revoked is revoked in TO. What stays in TO differs: exit code 5.
Of a limit counter, a count of usage and a last use, the later or larger one stays: servers of TO may have counted since a copy.
Usage is kept in Redis for the setting `usage_retention_hours`; older usage is not copied there.")]
    Copy(CopyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Makes a new store if it does not exist
    #[arg(long)]
    pub(crate) create: bool,
    /// Says what it would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Migrates also while servers use the store
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// The store to read: `sqlite:PATH`, `env:NAME` (a variable with the address), or `file:PATH` (a file with it)
    pub(crate) from: String,
    /// The store to write, which must exist: as FROM
    pub(crate) to: String,
    /// Reads all, and writes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Compares all content afterwards
    #[arg(long)]
    pub(crate) verify: bool,
    /// Copies also while servers use a store, and to a store that was changed since a copy
    #[arg(long)]
    pub(crate) force: bool,
}
