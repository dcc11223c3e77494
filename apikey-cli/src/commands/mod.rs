//! The commands.

mod audit;
mod change;
mod failures;
mod keys;
mod owners;
mod programs;
mod scan;
mod store;

use crate::args::{Arguments, Command, KeysCommand, OwnersCommand};
use crate::failure::Failure;
use crate::session::Session;

/// Runs the command that the arguments name.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { common, command } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("the program cannot start", &error))?;
    let only_reads = only_reads(&command);
    let done = runtime.block_on(async {
        match command {
            Command::Keys(command) => {
                Session::with(common, async |session| keys::run(session, command).await).await
            }
            Command::Owners(command) => {
                Session::with(common, async |session| owners::run(session, command).await).await
            }
            Command::Audit(arguments) => {
                Session::with(common, async |session| audit::run(session, arguments).await).await
            }
            Command::Store(command) => store::run(common, command).await,
            Command::Scan(arguments) => scan::run(&common, &arguments),
            Command::Completions(arguments) => programs::completions(&arguments),
            Command::Man(arguments) => programs::man(&arguments),
        }
    });
    match done {
        Err(failure) if only_reads && failure.is_reader_gone() => Ok(()),
        done => done,
    }
}

/// Returns whether a command changes nothing, and has no verdict as its exit code. Such a command has succeeded if what
/// reads its output wants no more of it.
fn only_reads(command: &Command) -> bool {
    match command {
        Command::Keys(command) => match command {
            KeysCommand::List(_) | KeysCommand::Show(_) | KeysCommand::Usage(_) => true,
            KeysCommand::Revoke(arguments) => arguments.ids.dry_run,
            KeysCommand::Enable(arguments) | KeysCommand::Disable(arguments) => {
                arguments.ids.dry_run
            }
            KeysCommand::Purge(arguments) => arguments.dry_run,
            KeysCommand::Create(arguments) => arguments.dry_run,
            KeysCommand::Update(arguments) => arguments.dry_run,
            KeysCommand::Rotate(arguments) => arguments.dry_run,
            KeysCommand::Verify(_) => false,
        },
        Command::Owners(command) => match command {
            OwnersCommand::List(_) => true,
            OwnersCommand::Revoke(change)
            | OwnersCommand::Suspend(change)
            | OwnersCommand::Resume(change) => change.dry_run,
        },
        Command::Audit(_) | Command::Scan(_) | Command::Completions(_) | Command::Man(_) => true,
        Command::Store(_) => false,
    }
}
