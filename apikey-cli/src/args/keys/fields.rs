//! `apikey keys create` and `apikey keys update`: the fields of a key.

use std::net::IpAddr;
use std::path::PathBuf;

use apikey_runtime::{KeyId, Limit, Metadata, Quota, Rate};
use clap::Args;
use ipnet::IpNet;

use crate::args::common::ChangeArguments;
use crate::duration::{Moment, parse_moment};

#[derive(Debug, Args)]
#[command(after_help = "\
The last line of stdout is the secret, which is shown this once. In json and jsonl, it is the member `secret`.

Examples:
  apikey keys create ci --owner 42 --scope orders:read --expires 90d
  apikey keys create deploy --network 192.0.2.0/24 --method GET --quota daily=1000/day
  apikey keys create ci --expires 400d --dry-run
  apikey keys create ci --output json | jq -r .secret
  apikey keys create ci --output id --secret-file ci.key")]
pub(crate) struct CreateArguments {
    /// The key's label, for people
    pub(crate) label: String,
    #[command(flatten)]
    pub(crate) fields: KeyFields,
    /// The beginning of the key's text, one of the configured prefixes [default: the first]
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,
    /// A new file for the secret, which only you can read
    #[arg(long, value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Checks all that can be told before, shows the key as it would be, and makes none
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A list that is given replaces the list of the key; `--no-..` empties it.

Examples:
  apikey keys update 2YhUCQwWWeoSCFNn0Zxz4B --scope orders:read --scope orders:write
  apikey keys update 2YhUCQwWWeoSCFNn0Zxz4B --expires never --no-networks
  apikey keys update 2YhUCQwWWeoSCFNn0Zxz4B --label nightly --if-version 3")]
pub(crate) struct UpdateArguments {
    /// The key's id
    pub(crate) id: KeyId,
    /// Another label
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    #[command(flatten)]
    pub(crate) fields: KeyFields,
    #[command(flatten)]
    pub(crate) cleared: ClearedFields,
    /// Changes the key only if the record has this version
    #[arg(long, value_name = "NUMBER")]
    pub(crate) if_version: Option<u64>,
    /// Checks all that can be told before, shows the key as it would be, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// The fields of a key that a command can set.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fields of the key")]
pub(crate) struct KeyFields {
    /// The owner, in the application's own terms
    #[arg(long, value_name = "TEXT")]
    pub(crate) owner: Option<String>,
    /// What the key is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// A scope; may be repeated
    #[arg(long, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// The environment, such as live or test
    #[arg(long, value_name = "TEXT")]
    pub(crate) environment: Option<String>,
    /// A network from which the key may be used, such as 192.0.2.0/24; may be repeated
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) network: Vec<IpNet>,
    /// A method for which the key may be used, such as GET; may be repeated
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Vec<String>,
    /// How fast the key may be used, such as fast=100/minute; may be repeated
    #[arg(long, value_name = "NAME=RATE", value_parser = rate)]
    pub(crate) rate: Vec<Limit>,
    /// How much the key may be used, such as daily=1000/day; may be repeated
    #[arg(long, value_name = "NAME=QUOTA", value_parser = quota)]
    pub(crate) quota: Vec<Limit>,
    /// Data of the application, a JSON object
    #[arg(long, value_name = "JSON", value_parser = metadata)]
    pub(crate) metadata: Option<Metadata>,
    /// When the key ends: a date, a duration from now, or `never` [default for a new key: the policy's]
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    pub(crate) expires: Option<Expiry>,
    /// When the key begins: a date, or a duration from now
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) not_before: Option<Moment>,
}

/// The fields of a key that a command can empty.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fields of the key")]
pub(crate) struct ClearedFields {
    /// Takes the key from its owner
    #[arg(long, conflicts_with = "owner")]
    pub(crate) no_owner: bool,
    /// Removes the description
    #[arg(long, conflicts_with = "description")]
    pub(crate) no_description: bool,
    /// Removes all scopes
    #[arg(long, conflicts_with = "scope")]
    pub(crate) no_scopes: bool,
    /// Removes the environment
    #[arg(long, conflicts_with = "environment")]
    pub(crate) no_environment: bool,
    /// Allows all networks
    #[arg(long, conflicts_with = "network")]
    pub(crate) no_networks: bool,
    /// Allows all methods
    #[arg(long, conflicts_with = "method")]
    pub(crate) no_methods: bool,
    /// Removes all limits
    #[arg(long, conflicts_with_all = ["rate", "quota"])]
    pub(crate) no_limits: bool,
    /// Makes the key valid from now on
    #[arg(long, conflicts_with = "not_before")]
    pub(crate) no_not_before: bool,
}

/// The end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    At(Moment),
}

fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry::Never),
        text => parse_moment(text).map(Expiry::At),
    }
}

/// An address alone is a network of one.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(address);
    network.ok_or_else(|| "a network is written as in `192.0.2.0/24` or `2001:db8::/32`".to_owned())
}

fn rate(text: &str) -> Result<Limit, String> {
    let (name, rate) = named(text)?;
    let rate: Rate = rate.parse().map_err(|error| format!("{error}"))?;
    Ok(Limit::new(name, rate))
}

fn quota(text: &str) -> Result<Limit, String> {
    let (name, quota) = named(text)?;
    let quota: Quota = quota.parse().map_err(|error| format!("{error}"))?;
    Ok(Limit::new(name, quota))
}

fn named(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=')
        .ok_or_else(|| "a limit has a name: write `name=100/minute`".to_owned())
}

fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("not a JSON object, such as {{\"team\": \"a\"}}: {error}"))
}
