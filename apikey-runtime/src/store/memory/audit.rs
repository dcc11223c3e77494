//! The audit log in memory.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;

use super::MemoryStore;
use crate::audit::{AuditAction, AuditEntry, ChangeOrigin, FieldChange};
use crate::clock::Timestamp;
use crate::error::StoreError;
use crate::record::{KeyRecord, OwnerState};
use crate::store::copy_rules::CopyAction;
use crate::store::{AuditPage, AuditQuery, AuditStore, CopiedEntry, CopyOutcome};

/// The maximum number of entries that are removed at once.
const STEP: usize = 1_000;

/// The maximum number of entries that a page reads to find those that its query selects.
const READS: usize = 10_000;

/// The entries, the oldest first.
#[derive(Debug, Default)]
pub(super) struct AuditEntries {
    entries: VecDeque<AuditEntry>,
    /// The number of entries that were ever added.
    count: u64,
}

impl AuditEntries {
    /// Adds an entry for a change of a record, either side of which may be missing.
    pub(super) fn add(
        &mut self,
        at: Timestamp,
        before: Option<&KeyRecord>,
        after: Option<&KeyRecord>,
        origin: &ChangeOrigin,
    ) {
        let fields = FieldChange::between(before, after);
        let action = action_of(before, after, &fields);
        let mut entry = self.entry(at, action, origin);
        entry.key = after.or(before).map(|record| record.id);
        entry.owner = after.or(before).and_then(|record| record.owner.clone());
        let former = before.and_then(|record| record.owner.clone());
        entry.former_owner = former.filter(|former| Some(former) != entry.owner.as_ref());
        entry.fields = fields;
        self.entries.push_back(entry);
    }

    /// Adds an entry for a change of an owner.
    pub(super) fn add_of_owner(
        &mut self,
        at: Timestamp,
        owner: &str,
        [before, after]: [OwnerState; 2],
        origin: &ChangeOrigin,
    ) {
        let action = match () {
            () if after.revocations != before.revocations => AuditAction::OwnerRevoked,
            () if after.suspended => AuditAction::OwnerSuspended,
            () => AuditAction::OwnerResumed,
        };
        let mut entry = self.entry(at, action, origin);
        entry.owner = Some(owner.to_owned());
        if after.revocations != before.revocations {
            let numbers = [before.revocations, after.revocations].map(|number| Some(number.into()));
            let [before, after] = numbers;
            entry
                .fields
                .push(FieldChange::new("revocations", before, after));
        }
        if after.suspended != before.suspended {
            let flags = [before.suspended, after.suspended].map(|flag| Some(flag.into()));
            let [before, after] = flags;
            entry
                .fields
                .push(FieldChange::new("suspended", before, after));
        }
        self.entries.push_back(entry);
    }

    /// Returns all entries by time and number, in the order of the log.
    pub(super) fn copy(&self) -> Vec<((i64, u64), CopiedEntry)> {
        let mut numbers: HashMap<Timestamp, u64> = HashMap::new();
        let entries = self.entries.iter().map(|entry| {
            let number = numbers.entry(entry.at).or_default();
            let copied = CopiedEntry::new(*number, entry.clone());
            *number += 1;
            ((entry.at.as_millis(), copied.number), copied)
        });
        entries.collect()
    }

    /// Adds the entries that are not there yet.
    pub(super) fn write_copy(&mut self, entries: &[CopiedEntry], outcome: &mut CopyOutcome) {
        let present: HashMap<_, _> = self.copy().into_iter().collect();
        for copied in entries {
            let place = (copied.entry.at.as_millis(), copied.number);
            let held = present.get(&place).map(|held| &held.entry);
            let action = CopyAction::of_entry(held, &copied.entry);
            if outcome.count(action, || copied.name()) {
                let origin = &copied.entry.origin;
                let AuditEntry { position, .. } =
                    self.entry(copied.entry.at, copied.entry.action, origin);
                let entry = AuditEntry {
                    position,
                    ..copied.entry.clone()
                };
                self.entries.push_back(entry);
            }
        }
    }

    fn entry(&mut self, at: Timestamp, action: AuditAction, origin: &ChangeOrigin) -> AuditEntry {
        self.count += 1;
        // As long for each number, so that positions sort as texts.
        AuditEntry::new(format!("{:020}", self.count), at, action, origin.clone())
    }
}

/// Returns what a change did. A rotation and a revocation may change other fields too.
fn action_of(
    before: Option<&KeyRecord>,
    after: Option<&KeyRecord>,
    fields: &[FieldChange],
) -> AuditAction {
    match (before, after) {
        (None, _) => AuditAction::Created,
        (_, None) => AuditAction::Purged,
        (Some(before), Some(after)) if before.revoked.is_none() && after.revoked.is_some() => {
            AuditAction::Revoked
        }
        (Some(before), Some(after)) if before.digest != after.digest => AuditAction::Rotated,
        (_, Some(after)) => match (names(fields).as_slice(), after.enabled) {
            (["enabled"] | ["enabled_at"] | ["enabled", "enabled_at"], true) => {
                AuditAction::Enabled
            }
            (["enabled"], false) => AuditAction::Disabled,
            _ => AuditAction::Updated,
        },
    }
}

fn names(fields: &[FieldChange]) -> Vec<&str> {
    fields.iter().map(|change| &*change.field).collect()
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let state = self.state();
        let limit = query.limit.clamp(1, 1_000) as usize;
        let all = &state.audit.entries;
        let before = query.before.as_deref();
        let end = before.map_or(all.len(), |before| {
            all.partition_point(|entry| entry.position.as_str() < before)
        });
        let start = end.saturating_sub(READS);
        let mut unread = all.range(start..end).rev();
        let (mut found, mut next) = (Vec::new(), None);
        for entry in unread.by_ref() {
            next = Some(entry.position.clone());
            if query.matches(entry) {
                found.push(entry.clone());
            }
            if found.len() == limit {
                break;
            }
        }
        let more = start > 0 || unread.any(|entry| query.matches(entry));
        Ok(AuditPage::new(found, next.filter(|_| more)))
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let entries = &mut state.audit.entries;
        let old = entries.iter().take_while(|entry| entry.at < before);
        let count = old.take(STEP).count();
        entries.drain(..count);
        Ok(count == STEP)
    }
}
