//! What other programs read about `apikey`: a shell's completions, and manual pages.

use std::fs;

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArguments, ManArguments};
use crate::failure::Failure;
use crate::output;

/// Writes the completions of a shell to stdout.
pub(crate) fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "apikey",
        &mut script,
    );
    output::text(&String::from_utf8_lossy(&script))
}

/// Writes a manual page for each command into a folder.
pub(crate) fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let folder = &arguments.folder;
    // `help` of `help` is not worth a page.
    let command = Arguments::command().disable_help_subcommand(true);
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(|error| {
            let what = format!(
                "the manual pages cannot be written to `{}`",
                folder.display()
            );
            Failure::because(what, &error).remedy("name a folder that you may write to")
        })
}
