//! `apikey keys`.

mod create;
mod list;
mod purge;
mod revoke;
mod rotate;
pub(crate) mod row;
mod show;
mod switch;
mod update;
mod usage;
mod verify;

use crate::args::KeysCommand;
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session, command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::List(arguments) => list::run(session, arguments).await,
        KeysCommand::Show(arguments) => show::run(session, &arguments).await,
        KeysCommand::Create(arguments) => create::run(session, *arguments).await,
        KeysCommand::Update(arguments) => update::run(session, *arguments).await,
        KeysCommand::Rotate(arguments) => rotate::run(session, &arguments).await,
        KeysCommand::Revoke(arguments) => revoke::run(session, arguments).await,
        KeysCommand::Enable(arguments) => switch::run(session, arguments, true).await,
        KeysCommand::Disable(arguments) => switch::run(session, arguments, false).await,
        KeysCommand::Verify(arguments) => verify::run(session, &arguments).await,
        KeysCommand::Usage(arguments) => usage::run(session, &arguments).await,
        KeysCommand::Purge(arguments) => purge::run(session, &arguments).await,
    }
}
