//! Checks of the pages of `list`: their cursors while records change, and their size.

use std::sync::Arc;

use super::bulk::{KEYS, add_many, purge};
use super::fields::labelled;
use super::ranges::{add_mixed, ensure_listed, follow, page, ranges};
use super::records::add;
use super::samples::{at, because, id};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::record::{KeyPatch, Revocation};
use crate::store::{KeyStore, ListQuery, ListRange, WriteOptions};

/// The records on the first page, that of its cursor among them, and others are removed or changed, and
/// new ones are inserted on both sides.
pub(super) async fn a_cursor_stays_valid_if_records_change(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let mut records = add_mixed(store).await?;
    let mut number = 1_000;
    for (range, _) in ranges() {
        let first = page(store, &ListQuery::of(range.clone(), 2)).await?;
        let cursor = first
            .next
            .or_violation("a page of a range with more must have `next`")?;
        let rest = ListQuery::of(range.clone(), 2).after(Some(cursor.clone()));
        let second = page(store, &rest).await?;
        let both = first.records.iter().chain(second.records.first());
        let both: Vec<KeyId> = both.map(|record| record.id).collect();
        let both = both.split_first();
        let (kept, gone) = both.or_violation("the first page must not be empty")?;
        remove(store, gone).await?;
        records.retain(|record| !gone.contains(&record.id));
        // Others like those that are gone, and like the last of all.
        for like in first.records.iter().chain(&second.records) {
            number += 1;
            let mut record = like.clone();
            (record.id, record.owner_state) = (id(number), None);
            record.owner_revocations = 0;
            add(store, &record).await?;
            records.push(record);
        }
        // One record of the first page moves in each order, to where it may be found once more.
        let patch = KeyPatch {
            expires: Some(Some(at(1))),
            ..labelled("abz")
        };
        let update = store.update(kept, &patch, &WriteOptions::new()).await;
        update.or_violation("`update` fails")?;
        let moved = records.iter_mut().find(|record| record.id == *kept);
        let moved = moved.or_violation("the suite is wrong: a record is missing")?;
        patch.apply(moved, None);
        ensure_listed(store, &records, &range, Some(&cursor)).await?;
        ensure_listed(store, &records, &range, None).await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Removes keys: revokes them before all others, and purges.
async fn remove(store: &dyn KeyStore, keys: &[KeyId]) -> Result<(), Violation> {
    let reason = because("gone").reason;
    for key in keys {
        let (at, reason) = (at(i64::MIN), reason.clone());
        let revoke = store
            .revoke(key, &Revocation { at, reason }, &WriteOptions::new())
            .await;
        revoke.or_violation("`revoke` fails")?;
    }
    let removed = purge(store, at(i64::MIN + 1)).await?;
    ensure!(
        removed.len() == keys.len() && keys.iter().all(|key| removed.contains(key)),
        "`purge` must remove keys that were revoked before; it removed {removed:?}"
    );
    Ok(())
}

pub(super) async fn a_page_has_1000_records_at_most(store: Arc<dyn KeyStore>) -> CheckResult {
    add_many(&store).await?;
    let ranges = [
        ListRange::All,
        ListRange::Owner("a".to_owned()),
        ListRange::Label("label 1".to_owned()),
        ListRange::Label(String::new()),
        ListRange::Id("0000".to_owned()),
    ];
    for range in ranges {
        for limit in [1_001, u32::MAX] {
            let query = ListQuery::of(range.clone(), limit);
            let ids = follow(&*store, &query).await?;
            let narrow = range == ListRange::Label("label 1".to_owned());
            // 1, 10 to 19, 100 to 199, and 1000 to 1100.
            let expected = if narrow { 212 } else { KEYS as usize };
            ensure!(
                ids.len() == expected,
                "the pages of {query:?} must list {expected} records; got {}",
                ids.len()
            );
        }
    }
    Ok(CheckVerdict::Passed)
}
