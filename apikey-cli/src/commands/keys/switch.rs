//! `apikey keys enable` and `apikey keys disable`.

use apikey_runtime::Error;

use crate::args::SwitchArguments;
use crate::commands::change::{self, made};
use crate::confirm;
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
    if !enabled && !keys.is_empty() {
        let what = change::named(session, &keys).await?;
        confirm::ask(&session.common, &format!("Disable {what}?"))?;
    }
    let (manager, confirmed) = (session.manager.clone(), change.confirmed);
    let origin = session.origin(change.reason.as_deref());
    let switch = |id| {
        let call = match enabled {
            true => manager.enable(id),
            false => manager.disable(id),
        };
        let call = call.origin(origin.clone());
        async move { Ok::<_, Error>(made!(call, confirmed).1) }
    };
    change::each(session, &keys, switch).await
}
