//! `apikey scan`.

use clap::Args;

use crate::rules::RuleFormat;

const EXAMPLES: &str = "\
Examples:
  apikey scan --rules gitleaks --config server.json > .gitleaks.toml
  apikey scan --rules detect-secrets > apikey_detect_secrets.py
  rg --hidden \"$(apikey scan --rules regex)\"
  ACTIX_API_KEY_PREFIXES=acme,my_api apikey scan --rules github";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScanArguments {
    /// Whose rules to write
    #[arg(long, value_name = "SCANNER")]
    pub(crate) rules: RuleFormat,
    /// The length of secrets under earlier settings, whose keys are to be found too; may be repeated
    #[arg(long = "earlier-secret-length", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) earlier_lengths: Vec<u16>,
}
