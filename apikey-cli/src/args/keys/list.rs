//! `apikey keys list`: which keys.

use apikey_runtime::KeyState;
use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use crate::duration::{Moment, parse_moment};

const EXAMPLES: &str = "\
Examples:
  apikey keys list --owner 42
  apikey keys list --state active --unused-since 90d
  apikey keys list --output csv > keys.csv";

/// Filters of a list, and its length.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) filters: Filters,
    /// The most keys to list [default: 100 in a table, otherwise all]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,
}

/// Which keys: those that match all filters.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filters {
    /// Only keys of this owner
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) owner: Option<String>,
    /// Only keys with this label
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) label: Option<String>,
    /// Only keys whose label begins with this text
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) label_prefix: Option<String>,
    /// Only keys whose id begins with this text
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id_prefix: Option<String>,
    /// Only keys in this state
    #[arg(long, value_parser = state_parser())]
    pub(crate) state: Option<KeyState>,
    /// Only keys that were not used since then: a date, or a duration before now
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) unused_since: Option<Moment>,
    /// Only keys that expire before then: a date, or a duration from now
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) expires_before: Option<Moment>,
}

/// The names of the states, as in JSON.
fn state_parser() -> impl TypedValueParser<Value = KeyState> {
    const NAMES: [&str; 7] = [
        "active",
        "disabled",
        "expired",
        "idle",
        "not_yet_valid",
        "revoked",
        "suspended",
    ];
    let parse = |name| serde_json::from_value::<KeyState>(Value::String(name));
    PossibleValuesParser::new(NAMES).try_map(parse)
}
