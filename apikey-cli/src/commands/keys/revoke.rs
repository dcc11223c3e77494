//! `apikey keys revoke`.

use apikey_runtime::Error;

use crate::args::RevokeArguments;
use crate::commands::change::{self, made};
use crate::confirm;
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: RevokeArguments) -> Result<(), Failure> {
    let RevokeArguments { ids, change } = arguments;
    let keys = change::ids(&ids)?;
    if ids.dry_run {
        return change::show_unchanged(session, &keys).await;
    }
    let what = change::named(session, &keys).await?;
    let question = format!("Revoke {what}? A revocation cannot be undone.");
    confirm::ask(&session.common, &question, true)?;
    let (manager, confirmed) = (session.manager.clone(), change.confirmed);
    let origin = session.origin(change.reason.as_deref());
    let revoke = |id| {
        let mut call = manager.revoke(id).origin(origin.clone());
        if let Some(reason) = &change.reason {
            call = call.reason(reason);
        }
        async move { Ok::<_, Error>(made!(call, confirmed).1) }
    };
    change::each(session, &keys, revoke).await
}
