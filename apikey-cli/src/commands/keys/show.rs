//! `apikey keys show`.

use super::row;
use crate::args::ShowArguments;
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: &ShowArguments) -> Result<(), Failure> {
    let record = session.manager.get(arguments.id).await?;
    let used = session.manager.last_used(record.id).await?;
    let row = row::of(&session.manager, &record, used.as_ref());
    session.output.one(row::COLUMNS, row)
}
