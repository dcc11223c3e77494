//! Checks of reads of many records.

use std::sync::Arc;

use super::owners::{leaving, revoke_keys};
use super::records::add;
use super::samples::{because, full, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::record::KeyPatch;
use crate::store::{BatchReads, KeyStore, MAX_BATCH, WriteOptions};

/// Returns the capability, or skips the check.
macro_rules! batch_reads {
    ($store:expr) => {
        match $store.batch_reads() {
            Some(batch_reads) => batch_reads,
            None => {
                return Ok(CheckVerdict::Skipped(
                    "the store reads one record at a time: `batch_reads` returns `None`",
                ));
            }
        }
    };
}

/// Checks that a batch answers for each id what `find` does.
async fn ensure_same(
    store: &dyn KeyStore,
    batch_reads: &dyn BatchReads,
    ids: &[KeyId],
) -> Result<(), Violation> {
    let found = batch_reads.find_many(ids).await;
    let found = found.or_violation("`find_many` fails")?;
    ensure!(
        found.len() == ids.len(),
        "`find_many` must answer for each id; it answered {} of {}",
        found.len(),
        ids.len()
    );
    for (id, found) in ids.iter().zip(found) {
        let found = found.or_violation("`find_many` fails for one id")?;
        let single = store.find(id).await.or_violation("`find` fails")?;
        ensure!(
            found == single,
            "`find_many` must read {id} as `find` does; found {found:?}, expected {single:?}"
        );
    }
    Ok(())
}

pub(super) async fn many_records_are_read_as_one_by_one(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let batch_reads = batch_reads!(store);
    ensure_same(store, batch_reads, &[id(1), id(2)]).await?;
    for record in [
        plain(1),
        full(2),
        owned(3, "a"),
        owned(4, "b"),
        owned(5, "a"),
        plain(u128::MAX),
    ] {
        add(store, &record).await?;
    }
    let options = WriteOptions::new();
    let revoked = store.revoke(&id(1), &because("one"), &options).await;
    revoked.or_violation("`revoke` fails")?;
    if let Some(owners) = store.owners() {
        revoke_keys(owners, "a", &leaving(3_000, "all")).await?;
        let suspended = owners.set_owner_suspended("b", true, &options.origin).await;
        suspended.or_violation("`set_owner_suspended` fails")?;
    }
    // Neither in the order of the ids, nor all of them known.
    let ids = [5, 77, u128::MAX, 1, 0, 4, 3, 2].map(id);
    ensure_same(store, batch_reads, &ids).await?;
    ensure_same(store, batch_reads, &ids[..1]).await?;
    let most: Vec<KeyId> = (1..=MAX_BATCH as u128).rev().map(id).collect();
    ensure_same(store, batch_reads, &most).await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_batch_reads_what_is_written_at_once(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let batch_reads = batch_reads!(store);
    let ids = [1, 2, 3].map(id);
    for number in 1..=3 {
        add(store, &plain(number)).await?;
        ensure_same(store, batch_reads, &ids).await?;
        let mut patch = KeyPatch::new();
        patch.enabled = Some(false);
        let updated = store
            .update(&id(number), &patch, &WriteOptions::new())
            .await;
        updated.or_violation("`update` fails")?;
        ensure_same(store, batch_reads, &ids).await?;
    }
    Ok(CheckVerdict::Passed)
}
