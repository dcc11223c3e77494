//! `apikey audit`.

use apikey_runtime::KeyId;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::duration::{Moment, parse_moment};

const EXAMPLES: &str = "\
Examples:
  apikey audit --since 1d
  apikey audit --key 2YhUCQwWWeoSCFNn0Zxz4B --output jsonl
  apikey audit --owner acme --since 2027-01-01 --until 2027-02-01 --output csv > january.csv";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArguments {
    /// Only changes of this key, also if it was purged
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<KeyId>,
    /// Only changes of this owner and its keys
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) owner: Option<String>,
    /// Only changes that this actor made; with `--actor` you name yourself
    #[arg(long, value_name = "ACTOR", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) by: Option<String>,
    /// Only changes from then on: a date, or a duration such as 1d
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) since: Option<Moment>,
    /// Only changes before then: a date, or a duration such as 1h
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) until: Option<Moment>,
    /// The most entries to read [default: 100 in a table, otherwise all]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,
}
