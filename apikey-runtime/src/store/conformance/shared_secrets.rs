//! Checks of shared secrets.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::owners::{ensure_not_logged, logged};
use super::records::all;
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::store::{AuditQuery, KeyStore, SharedSecretStore};

/// Returns the store of shared secrets, or skips the check if the store does not have it.
macro_rules! secrets {
    ($store:expr) => {
        match $store.shared_secrets() {
            Some(secrets) => secrets,
            None => {
                return Ok(CheckVerdict::Skipped(
                    "the store does not keep shared secrets: `shared_secrets` returns `None`",
                ))
            }
        }
    };
}

/// Returns 32 bytes that count up from `first`; some of them are not UTF-8.
fn proposal(first: u8) -> [u8; 32] {
    let mut next = first;
    [0; 32].map(|_: u8| {
        next = next.wrapping_add(1);
        next
    })
}

async fn propose(
    secrets: &dyn SharedSecretStore,
    name: &str,
    first: u8,
) -> Result<[u8; 32], Violation> {
    let secret = secrets.shared_secret(name, proposal(first)).await;
    secret.or_violation("`shared_secret` fails")
}

pub(super) async fn the_first_proposal_of_a_secret_stays(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let secrets = secrets!(store);
    let mut cursor = None;
    logged(store, &mut cursor).await?;
    let longest = ["n"; 64].concat();
    // The second half of the names begins as the longest one does, or ends as another one.
    let names = [
        "a",
        "A",
        "a.b",
        "a:b",
        "-",
        "_",
        "0",
        &longest,
        &longest[1..],
    ];
    for (first, name) in (0..).step_by(28).zip(names) {
        let secret = propose(secrets, name, first).await?;
        ensure!(
            secret == proposal(first),
            "the first proposal for `{name}` must be its secret"
        );
    }
    for (first, name) in (0..).step_by(28).zip(names) {
        let secret = propose(secrets, name, first + 1).await?;
        ensure!(
            secret == proposal(first),
            "a second proposal for `{name}` must not replace the first one"
        );
    }
    ensure_not_logged(store, &mut cursor, "a shared secret").await?;
    if let Some(audit) = store.audit() {
        let page = audit.read_audit(&AuditQuery::newest(1)).await;
        let page = page.or_violation("`read_audit` fails")?;
        ensure!(
            page.entries.is_empty(),
            "a shared secret must not be in the audit log; found {:?}",
            page.entries
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn racing_proposals_of_a_secret_agree(store: Arc<dyn KeyStore>) -> CheckResult {
    secrets!(store);
    for round in 0..10 {
        let mut nodes = JoinSet::new();
        for first in 0..4 {
            let store = Arc::clone(&store);
            nodes.spawn(async move {
                let secrets = store.shared_secrets();
                let secrets = secrets.or_violation("`shared_secrets` must not change")?;
                propose(secrets, &format!("race-{round}"), first).await
            });
        }
        let found = all(nodes).await?;
        let is_proposed = (0..4).any(|first| found[0] == proposal(first));
        ensure!(
            is_proposed && found.iter().all(|secret| *secret == found[0]),
            "4 racing proposals must return one of them, the same in each call"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn shared_secrets_survive_a_restart(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    propose(secrets!(store), "kept", 1).await?;
    store.stop().await;
    if store.start().await.is_err() {
        return Ok(CheckVerdict::Skipped(
            "the store cannot start again after it stopped",
        ));
    }
    let secret = propose(secrets!(store), "kept", 2).await?;
    ensure!(
        secret == proposal(1),
        "a secret must be the same after a restart"
    );
    Ok(CheckVerdict::Passed)
}
