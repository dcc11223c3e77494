//! `apikey keys revoke`.

use apikey_runtime::Error;

use crate::args::RevokeArguments;
use crate::commands::change::{self, made};
use crate::confirm;
use crate::failure::Failure;
use crate::notice;
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: RevokeArguments) -> Result<(), Failure> {
    let RevokeArguments { ids, change } = arguments;
    let keys = change::ids(&ids)?;
    if ids.dry_run {
        return change::show_unchanged(session, &keys).await;
    }
    if !keys.is_empty() {
        let what = change::named(session, &keys).await?;
        let question = format!("Revoke {what}? A revocation cannot be undone.");
        confirm::ask(&session.common, &question)?;
    }
    let (manager, confirmed) = (session.manager.clone(), change.confirmed);
    let origin = session.origin(change.reason.as_deref());
    let revoke = |id| {
        let manager = manager.clone();
        let mut call = manager.revoke(id).origin(origin.clone());
        if let Some(reason) = &change.reason {
            call = call.reason(reason);
        }
        async move {
            let (is_new, propagation) = made!(call, confirmed);
            if !is_new && let Some(revoked) = manager.get(id).await?.revoked {
                let at = revoked.at;
                notice::note(&format!("the key `{id}` was revoked already, at {at}"));
            }
            Ok::<_, Error>(propagation)
        }
    };
    change::each(session, &keys, revoke).await
}
