//! `apikey keys enable` and `apikey keys disable`.

use crate::args::SwitchArguments;
use crate::commands::change;
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(
    session: &Session,
    arguments: SwitchArguments,
    enabled: bool,
) -> Result<(), Failure> {
    let SwitchArguments { ids, change } = arguments;
    let keys = change::ids(&ids)?;
    if ids.dry_run {
        return change::show_unchanged(session, &keys).await;
    }
    if !enabled {
        change::ask(session, &keys, |what| format!("Disable {what}?")).await?;
    }
    let manager = &session.manager;
    let origin = session.origin(change.reason.as_deref());
    let switch = |id| {
        let call = match enabled {
            true => manager.enable(id),
            false => manager.disable(id),
        };
        let call = call.origin(origin.clone());
        async move { call.await.map(drop) }
    };
    change::each(session, &keys, change.confirmed, switch).await
}
