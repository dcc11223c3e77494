//! The servers that use a store.

use std::time::Duration;

use apikey_runtime::KeyStore;
use apikey_runtime::store::{MemberList, Node, StoreError};

use crate::exit;
use crate::failure::Failure;
use crate::notice;

/// How much later than its lease a server may write its next heartbeat.
const LATE: Duration = Duration::from_millis(500);

/// Counts the servers that use a store that is started.
pub(super) async fn count(store: &dyn KeyStore) -> Result<usize, Failure> {
    match store.membership() {
        Some(membership) => alive(async || membership.members().await).await,
        None => Ok(0),
    }
}

/// Counts the servers that use a store of this or an older release, which is not started.
pub(super) async fn count_before_start(store: &dyn KeyStore) -> Result<usize, Failure> {
    match store.membership() {
        Some(membership) => alive(async || membership.members_before_start().await).await,
        None => Ok(0),
    }
}

/// Counts the members whose heartbeat moves within the longest lease. A member that was killed is still listed, and its
/// heartbeat stays.
async fn alive(
    members: impl AsyncFn() -> Result<MemberList, StoreError>,
) -> Result<usize, Failure> {
    let first = members().await?;
    if first.nodes.is_empty() {
        return Ok(0);
    }
    tokio::time::sleep(first.longest_lease + LATE).await;
    let then = members().await?;
    let moves = |node: &&Node| {
        let before = first.nodes.iter().find(|before| before.id == node.id);
        before.is_none_or(|before| before.heartbeat != node.heartbeat)
    };
    Ok(then.nodes.iter().filter(moves).count())
}

/// Returns an error if servers use the store that is to be migrated.
pub(super) async fn refuse_migration(store: &dyn KeyStore) -> Result<(), Failure> {
    match count_before_start(store).await? {
        0 => Ok(()),
        number => Err(Failure::with_code(
            exit::NOT_ALLOWED,
            format!("{}, and it was not migrated", use_the_store(number)),
        )
        .remedy(
            "stop them, and run the same command again; with `--force`, they go on with tables that their release does not know",
        )),
    }
}

/// Says how many servers use the store.
pub(super) fn use_the_store(number: usize) -> String {
    match number {
        1 => "1 server uses the store".to_owned(),
        number => format!("{number} servers use the store"),
    }
}

/// Returns an error if servers use the store.
pub(super) async fn refuse(store: &dyn KeyStore, name: &str, result: &str) -> Result<(), Failure> {
    match count(store).await? {
        0 => Ok(()),
        number => Err(Failure::with_code(
            exit::NOT_ALLOWED,
            format!("{} {name}, and {result}", use_the_store(number)),
        )
        .remedy(
            "stop them, and start them again on the new store; with `--force`, what they change meanwhile may be missing there",
        )),
    }
}

/// Tells how many servers use the store, if some do.
pub(super) async fn note(store: &dyn KeyStore, name: &str) -> Result<(), Failure> {
    match count(store).await? {
        0 => {}
        number => notice::note(&format!("{} {name}", use_the_store(number))),
    }
    Ok(())
}
