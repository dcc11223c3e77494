//! Checks of copying the last uses of secrets.

use std::sync::Arc;

use super::copied::copy;
use super::copying::copying;
use super::last_use::rotate;
use super::records::add;
use super::samples::{at, id, plain};
use super::usage::{NOT_KEPT, batch};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::clock::{Clock, SystemClock};
use crate::store::{CopyItems, CopySection, KeyStore, SecretUse, StoreCopy};

/// The key is rotated, used, and copied, again and again.
pub(super) async fn a_copy_has_the_uses_of_the_two_latest_secrets(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    let (Some(usage), Some(_)) = (store.usage(), other.usage()) else {
        return Ok(NOT_KEPT);
    };
    let now = SystemClock::new().read().now.as_millis();
    let used = |rotations: u64| {
        let ahead = i64::try_from(rotations).unwrap_or_default();
        SecretUse::new(id(1), rotations, at(now + ahead), None)
    };
    add(&*store, &plain(1)).await?;
    for number in 0..5 {
        if number > 0 {
            rotate(&*store, number).await?;
        }
        let mut batch = batch(1, number + 1, Vec::new());
        batch.last_used.push(used(number));
        let added = usage.add_usage(&batch).await;
        added.or_violation("`add_usage` fails")?;
        // The first copy is made after several rotations.
        if number < 3 {
            continue;
        }
        copy(source, target, 1_000).await?;
        let expected = vec![used(number - 1), used(number)];
        for side in [source, target] {
            let found = uses(side).await?;
            ensure!(
                found == CopyItems::SecretUses(expected.clone()),
                "after {number} rotations a page must have the uses {expected:?}; found {found:?}"
            );
        }
        let again = copy(source, target, 1_000).await?;
        ensure!(
            again.written == 0 && again.kept.is_empty(),
            "a copy of uses that is made again must not change anything; got {again:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

async fn uses(side: &dyn StoreCopy) -> Result<CopyItems, Violation> {
    let page = side.read_copy(CopySection::SecretUses, None, 1_000).await;
    Ok(page.or_violation("`read_copy` fails")?.items)
}
