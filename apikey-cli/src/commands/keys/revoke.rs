//! `apikey keys revoke`.

use std::sync::{Arc, Mutex, PoisonError};

use apikey_runtime::{Error, KeyId, Timestamp};

use crate::args::RevokeArguments;
use crate::commands::change;
use crate::failure::Failure;
use crate::notice;
use crate::session::Session;
use crate::text::counted;

pub(super) async fn run(session: &Session, arguments: RevokeArguments) -> Result<(), Failure> {
    let RevokeArguments { ids, change } = arguments;
    let keys = change::ids(&ids)?;
    if ids.dry_run {
        return change::show_unchanged(session, &keys).await;
    }
    change::ask(session, &keys, |what| {
        format!("Revoke {what}? A revocation cannot be undone.")
    })
    .await?;
    let origin = session.origin(change.reason.as_deref());
    let earlier = Arc::new(Mutex::new(Vec::new()));
    let revoke = |id| {
        let earlier = Arc::clone(&earlier);
        let manager = session.manager.clone();
        let mut call = manager.revoke(id).origin(origin.clone());
        if let Some(reason) = &change.reason {
            call = call.reason(reason);
        }
        async move {
            let is_new = call.await?;
            if !is_new && let Some(revoked) = manager.get(id).await?.revoked {
                let mut earlier = earlier.lock().unwrap_or_else(PoisonError::into_inner);
                earlier.push((id, revoked.at));
            }
            Ok::<_, Error>(())
        }
    };
    let changed = change::each(session, &keys, change.confirmed, revoke).await;
    note_earlier(&earlier.lock().unwrap_or_else(PoisonError::into_inner));
    changed
}

/// Says when keys were revoked that were so before.
fn note_earlier(revoked: &[(KeyId, Timestamp)]) {
    let [(id, at), others @ ..] = revoked else {
        return;
    };
    let others = match others.len() as u64 {
        0 => String::new(),
        number => format!(", and so were {}", counted(number, "other key")),
    };
    notice::note(&format!(
        "the key `{id}` was revoked already, at {at}{others}"
    ));
}
