//! The suite detects stores that copy incorrectly: each of these breaks one rule, and fails the check of that rule.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    AuditStore, CopyItems, CopyOutcome, CopyPage, CopySection, NodeId, OwnerStore, StoreCopy,
    StoreError, UsageBatch, UsageQuery, UsageRow, UsageStore, WriteOptions,
};
use apikey_runtime::{KeyStore, MemoryStore, Timestamp};
use apikey_test_support::store::Forward;

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    LosesAnItemBetweenPages,
    RepeatsAnItemBetweenPages,
    IgnoresTheLimit,
    TakesAnyPosition,
    TakesAnyNumber,
    ForgetsDigestsInTheirGrace,
    RenumbersOwners,
    LeavesOutAudits,
    UndoesRevocations,
    LeavesChangedKeysValid,
    LeavesChangedOwnersValid,
    WritesAsAChange,
    AddsUsage,
    WritesAgain,
    RewindsUsage,
    KeepsSmallerUsage,
    KeepsTheFirstNetworks,
    NumbersEachPage,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    batches: AtomicU64,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    /// Writes records as other changes of them are written.
    async fn insert(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        let mut outcome = CopyOutcome::default();
        if let CopyItems::Keys(records) = items {
            for record in records {
                if self
                    .right
                    .insert(record, &WriteOptions::new())
                    .await
                    .is_ok()
                {
                    outcome.written += 1;
                }
            }
        }
        Ok(outcome)
    }

    /// Writes usage that is missing.
    async fn add_missing(&self, rows: &[UsageRow]) -> Result<CopyOutcome, StoreError> {
        let mut missing = Vec::new();
        for row in rows {
            let query = UsageQuery::new(vec![row.key], row.hour, row.hour + 1);
            let present = self.right.read_usage(&query).await?;
            let is_place = |one: &UsageRow| one.route == row.route && one.outcome == row.outcome;
            if !present.iter().any(is_place) {
                missing.push(row.clone());
            }
        }
        self.right.write_copy(&CopyItems::Usage(missing)).await
    }

    /// Adds usage to what is there.
    async fn add(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let mut batch = UsageBatch::new(NodeId::from_u128(9), number, Duration::from_hours(1));
        if let CopyItems::Usage(rows) = items {
            batch.rows.clone_from(rows);
        }
        self.right.add_usage(&batch).await?;
        let mut outcome = CopyOutcome::default();
        outcome.written = items.len() as u64;
        Ok(outcome)
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn read_copy(
        &self,
        section: CopySection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<CopyPage, StoreError> {
        let limit = match self.fault {
            Fault::IgnoresTheLimit => 1_000,
            Fault::LosesAnItemBetweenPages if after.is_some() => limit + 1,
            _ => limit,
        };
        let mut page = match self.right.read_copy(section, after, limit).await {
            Err(_) if self.fault == Fault::TakesAnyPosition => {
                self.right.read_copy(section, None, limit).await?
            }
            page => page?,
        };
        match &mut page.items {
            CopyItems::Keys(records) => match self.fault {
                Fault::LosesAnItemBetweenPages if after.is_some() && records.len() > 1 => {
                    records.remove(0);
                }
                Fault::RepeatsAnItemBetweenPages if after.is_some() => {
                    let last = records.last().cloned();
                    records.extend(last);
                }
                Fault::ForgetsDigestsInTheirGrace => {
                    records.iter_mut().for_each(|record| record.previous = None);
                }
                _ => {}
            },
            CopyItems::Audit(entries) if self.fault == Fault::LeavesOutAudits => entries.clear(),
            _ => {}
        }
        Ok(page)
    }

    async fn write_copy(&self, items: &CopyItems) -> Result<CopyOutcome, StoreError> {
        match (self.fault, items) {
            (Fault::TakesAnyNumber, CopyItems::Keys(records)) => {
                let mut outcome = CopyOutcome::default();
                for page in records.chunks(1_000) {
                    let page = CopyItems::Keys(page.to_vec());
                    outcome.add(self.right.write_copy(&page).await?);
                }
                return Ok(outcome);
            }
            (Fault::RenumbersOwners, CopyItems::Owners(owners)) => {
                let mut owners = owners.clone();
                for owner in &mut owners {
                    owner.state = owner.state.with_version(owner.state.revocations + 1);
                }
                return self.right.write_copy(&CopyItems::Owners(owners)).await;
            }
            (Fault::UndoesRevocations, CopyItems::Keys(_)) => {
                let origin = ChangeOrigin::new();
                self.right.purge(Timestamp::MAX, None, &origin).await?;
            }
            (Fault::LeavesChangedKeysValid, CopyItems::Keys(records)) => {
                let mut later = Vec::new();
                for record in records {
                    let present = self.right.find(&record.id).await?;
                    if present.is_none_or(|present| present.version < record.version) {
                        later.push(record.clone());
                    }
                }
                return self.right.write_copy(&CopyItems::Keys(later)).await;
            }
            (Fault::LeavesChangedOwnersValid, CopyItems::Owners(owners)) => {
                let mut later = Vec::new();
                for owner in owners {
                    let present = self.right.find_owner(&owner.name).await?;
                    if present.is_none_or(|present| present.version < owner.state.version) {
                        later.push(owner.clone());
                    }
                }
                return self.right.write_copy(&CopyItems::Owners(later)).await;
            }
            (Fault::WritesAsAChange, CopyItems::Keys(_)) => return self.insert(items).await,
            (Fault::AddsUsage, CopyItems::Usage(_)) => return self.add(items).await,
            (Fault::RewindsUsage, CopyItems::Usage(_)) => {
                self.right.prune_usage(i64::MAX).await?;
            }
            (Fault::KeepsSmallerUsage, CopyItems::Usage(rows)) => {
                return self.add_missing(rows).await;
            }
            (Fault::KeepsTheFirstNetworks, CopyItems::Networks(uses)) => {
                let first = uses.iter().take(20).copied().collect();
                return self.right.write_copy(&CopyItems::Networks(first)).await;
            }
            (Fault::NumbersEachPage, CopyItems::Audit(entries)) => {
                let mut entries = entries.clone();
                for (number, copied) in (0..).zip(&mut entries) {
                    copied.number = number;
                }
                return self.right.write_copy(&CopyItems::Audit(entries)).await;
            }
            (Fault::WritesAgain, CopyItems::Audit(_)) => {
                self.right.prune_audit(Timestamp::MAX).await?;
            }
            _ => {}
        }
        self.right.write_copy(items).await
    }
}

#[tokio::test]
async fn the_suite_detects_wrong_copies() {
    const ALL: &str = "a_copy_has_everything";
    const PAGES: &str = "pages_of_a_copy_are_complete";
    const REVOKES: &str = "a_copy_revokes_what_was_changed_since";
    const GROWTH: &str = "a_copy_keeps_what_has_grown_since";
    const AGAIN: &str = "a_repeated_copy_changes_nothing";
    const REFUSALS: &str = "a_copy_refuses_other_positions_and_too_many_items";
    let cases = [
        (Fault::LosesAnItemBetweenPages, PAGES),
        (Fault::RepeatsAnItemBetweenPages, PAGES),
        (Fault::IgnoresTheLimit, PAGES),
        (Fault::TakesAnyPosition, REFUSALS),
        (Fault::TakesAnyNumber, REFUSALS),
        (Fault::ForgetsDigestsInTheirGrace, ALL),
        (Fault::RenumbersOwners, ALL),
        (Fault::LeavesOutAudits, ALL),
        (
            Fault::UndoesRevocations,
            "what_was_changed_since_a_copy_stays",
        ),
        (
            Fault::RenumbersOwners,
            "a_state_of_an_owner_that_was_changed_since_a_copy_stays",
        ),
        (Fault::LeavesChangedKeysValid, REVOKES),
        (Fault::LeavesChangedOwnersValid, REVOKES),
        (Fault::WritesAsAChange, "a_copy_is_a_resync"),
        (Fault::WritesAsAChange, "a_copy_is_not_audited"),
        (Fault::RewindsUsage, GROWTH),
        (Fault::KeepsSmallerUsage, GROWTH),
        (
            Fault::KeepsTheFirstNetworks,
            "a_copy_has_the_latest_uses_of_a_key",
        ),
        (
            Fault::NumbersEachPage,
            "a_copy_has_all_audit_entries_of_one_time",
        ),
        (Fault::AddsUsage, AGAIN),
        (Fault::WritesAgain, AGAIN),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
