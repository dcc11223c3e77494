//! `apikey completions` and `apikey man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  apikey completions bash > ~/.local/share/bash-completion/completions/apikey
  apikey completions zsh > \"${fpath[1]}/_apikey\"
  apikey completions fish > ~/.config/fish/completions/apikey.fish";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: Shell,
}

const MAN_EXAMPLES: &str = "\
Examples:
  apikey man ~/.local/share/man/man1
  apikey man target/man1 && man -l target/man1/apikey-keys-create.1";

#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(crate) struct ManArguments {
    /// The folder; it is created if it does not exist, and its pages of `apikey` are replaced
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}
