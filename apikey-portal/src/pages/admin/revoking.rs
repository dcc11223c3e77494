//! Revokes some keys, one after the other, and tells what became of each.

use actix_web::http::StatusCode;
use apikey_runtime::manager::Propagation;
use apikey_runtime::{Error, KeyId};

use super::changes::reach;
use crate::error::{Chain, PageError};
use crate::visit::Visit;

/// The maximum number of keys that one request revokes.
pub(super) const MAX_KEYS: usize = 200;

/// A key to revoke, in the version that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenKey {
    pub(super) id: KeyId,
    pub(super) version: u64,
}

/// What became of one key.
pub(super) struct KeyResult {
    pub(super) id: String,
    pub(super) is_revoked: bool,
    pub(super) words: &'static str,
}

/// What became of all keys.
#[derive(Default)]
pub(super) struct RevokedKeys {
    pub(super) results: Vec<KeyResult>,
    /// The number of keys that this call revoked.
    pub(super) count: usize,
    /// How it reached the other nodes, in sentences.
    pub(super) reach: Vec<String>,
    /// Whether the store failed.
    pub(super) has_failed: bool,
}

impl RevokedKeys {
    /// Returns the status of the page that shows it.
    pub(super) fn status(&self) -> StatusCode {
        match self.has_failed {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::OK,
        }
    }
}

/// Revokes keys, each if it has the version that was seen, and waits once until no node accepts one of them.
///
/// If the store fails, the keys after that one are not tried.
///
/// # Errors
///
/// Returns what is wrong with the reason; nothing is changed then.
pub(super) async fn revoke_keys(
    visit: &Visit,
    keys: &[SeenKey],
    reason: &str,
) -> Result<RevokedKeys, String> {
    let mut done = RevokedKeys::default();
    let mut last = None;
    for key in keys.iter().take(MAX_KEYS) {
        let words = match done.has_failed {
            true => "not tried",
            false => match revoke_one(visit, key, reason).await {
                Ok(words) => words,
                Err(Error::InvalidArgument(fault)) => return Err(fault),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), key_id = %key.id, "a page could not revoke a key");
                    done.has_failed = true;
                    "not known: the store did not answer"
                }
            },
        };
        let is_revoked = words == REVOKED;
        if is_revoked {
            done.count += 1;
            last = Some(key.id);
        }
        done.results.push(KeyResult {
            id: key.id.to_string(),
            is_revoked,
            words,
        });
    }
    if let Some(id) = last {
        // This changes nothing more: it waits for all changes so far.
        let wait = visit.state.manager.revoke(id).origin(visit.origin.clone());
        done.reach = told(
            wait.confirmed()
                .await
                .map(|confirmed| confirmed.propagation),
        );
    }
    Ok(done)
}

const REVOKED: &str = "revoked";

async fn revoke_one(visit: &Visit, key: &SeenKey, reason: &str) -> Result<&'static str, Error> {
    let manager = &visit.state.manager;
    let origin = visit.origin.clone().with_reason(reason);
    let call = manager.revoke(key.id).reason(reason).origin(origin);
    Ok(match call.if_version(key.version).await {
        Ok(true) => REVOKED,
        Ok(false) => "was revoked before",
        Err(Error::NotFound(_)) => "does not exist any more",
        Err(Error::Conflict(_)) => match manager.get(key.id).await {
            Ok(record) if record.revoked.is_some() => "was revoked before",
            Err(Error::NotFound(_)) => "does not exist any more",
            Ok(_) => "not revoked: it was changed since the list was shown",
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    })
}

fn told(propagation: Result<Propagation, Error>) -> Vec<String> {
    match propagation {
        Ok(propagation) => reach(&propagation),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "revocations of a page are not confirmed");
            vec![
                "Not confirmed: the store did not answer. The other nodes reject the keys when their leases end."
                    .to_owned(),
            ]
        }
    }
}

/// Reads the id and the version of a ticked box, such as `0123456789abcdefghijkl.7`.
pub(super) fn seen(text: &str) -> Result<SeenKey, PageError> {
    let read = || {
        let (id, version) = text.split_once('.')?;
        let (id, version) = (id.parse().ok()?, version.parse().ok()?);
        Some(SeenKey { id, version })
    };
    read().ok_or_else(|| PageError::BadForm("A ticked key is not one of the list.".to_owned()))
}
