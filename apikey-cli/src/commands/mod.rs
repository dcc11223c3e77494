//! The commands.

mod audit;
mod change;
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
        .build()?;
    let only_reads = only_reads(&command);
    let done = runtime.block_on(async {
        match command {
            Command::Keys(command) => {
                let session = Session::open(common).await?;
                let done = keys::run(&session, command).await;
                session.close().await;
                done
            }
            Command::Owners(command) => {
                let session = Session::open(common).await?;
                let done = owners::run(&session, command).await;
                session.close().await;
                done
            }
            Command::Audit(arguments) => {
                let session = Session::open(common).await?;
                let done = audit::run(&session, arguments).await;
                session.close().await;
                done
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
            KeysCommand::Create(_)
            | KeysCommand::Update(_)
            | KeysCommand::Rotate(_)
            | KeysCommand::Verify(_) => false,
        },
        Command::Owners(command) => match command {
            OwnersCommand::List(_) => true,
            OwnersCommand::Revoke(arguments) => arguments.dry_run,
            OwnersCommand::Suspend(_) | OwnersCommand::Resume(_) => false,
        },
        Command::Audit(_) | Command::Scan(_) | Command::Completions(_) | Command::Man(_) => true,
        Command::Store(_) => false,
    }
}
