//! The suite detects stores whose notices before the end of keys are incorrect: each of these breaks one rule, and
//! fails the check of that rule.

use std::collections::BTreeMap;
use std::sync::Mutex;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    BulkStep, ExpiryNotice, KeyPatch, ListCursor, Membership, NodeId, OwnerStore, Revocation,
    StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Timestamp};
use apikey_test_support::store::Forward;
use std::time::SystemTime;
use tokio::task::yield_now;

use crate::at;
use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    NotesEveryKey,
    SkipsPastEnds,
    TakesTheCreation,
    KeepsTheFormerEnd,
    KeepsTheTime,
    KeepsTheClaim,
    IgnoresAnEarlierEnd,
    KeepsANoticeWithoutEnd,
    NotesANewKeyOnly,
    ReplacesAtEachUpdate,
    ReplacesAtTheSameEnd,
    RemovesAtARevocation,
    RemovesAtMarking,
    EndsClaimsAtARevocation,
    LeavesWhatIsPurged,
    SortsByKey,
    PutsUnplannedLast,
    RoundsTimes,
    ComparesBeforeOnly,
    ReturnsOwnFirst,
    ReturnsGoneLast,
    IgnoresTheLimit,
    TakesALimitOfZero,
    HidesForEver,
    FinishesAnyNumber,
    FinishesSome,
    IgnoresClaims,
    ReturnsNothingTwice,
    TakesFromTheSuspected,
    WaitsForTheGone,
    WaitsForThoseThatLeave,
    FinishesForAnyNode,
    FinishesAnyEnd,
    FinishesWithoutAClaim,
    FinishesForItself,
    KeepsWhatIsRemoved,
    PlansSecondsOnly,
    SetsSinceAnew,
    LogsClaims,
    LogsFinishes,
    ClaimsInTwoSteps,
    FinishesInTwoSteps,
    LosesTheTimeOfEnabling,
    EnablesWithoutTime,
    AuditsTheTimeAsAnUpdate,
}

/// A notice, and the node that has claimed it.
type Kept = (ExpiryNotice, Option<NodeId>);

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    notices: BTreeMap<KeyId, Kept>,
    left: Vec<NodeId>,
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.notes.lock().unwrap())
    }

    /// Follows a change of a record from one expiry to another.
    fn follow(&self, id: KeyId, before: Option<Timestamp>, after: Option<Timestamp>) {
        let before = before.filter(|_| !self.is(Fault::ReplacesAtTheSameEnd));
        if before == after && !self.is(Fault::ReplacesAtEachUpdate) {
            return;
        }
        self.note(|notes| {
            let former = notes.notices.get(&id).copied();
            let Some(after) = after else {
                if !self.is(Fault::KeepsANoticeWithoutEnd) {
                    notes.notices.remove(&id);
                }
                return;
            };
            let mut notice = ExpiryNotice::new(id, after, now());
            let mut node = None;
            match (self.fault, former) {
                (Fault::SkipsPastEnds, _) if after < at(0) => return,
                (Fault::TakesTheCreation, _) => notice.since = at(1_000),
                (Fault::KeepsTheFormerEnd, Some((former, _))) => notice.expires = former.expires,
                (Fault::KeepsTheTime, Some((former, _))) => notice.planned = former.planned,
                (Fault::KeepsTheClaim, Some((_, former))) => node = former,
                (Fault::IgnoresAnEarlierEnd, Some((former, _))) if after < former.expires => return,
                (Fault::NotesANewKeyOnly, None) if before.is_some() => return,
                _ => {}
            }
            notes.notices.insert(id, (notice, node));
        });
    }

    async fn end_of(&self, id: &KeyId) -> Result<Option<Timestamp>, StoreError> {
        let found = self.right.find(id).await?;
        Ok(found.and_then(|record| record.expires))
    }

    /// Returns whether a node may claim what `claimer` has claimed, and what the member list says of that.
    async fn free(&self, node: &NodeId, claimer: Option<NodeId>) -> Result<bool, StoreError> {
        let Some(claimer) = claimer else {
            return Ok(true);
        };
        let members = self.right.members().await?.nodes;
        let listed = members.iter().find(|listed| listed.id == claimer);
        let left = self.note(|notes| notes.left.contains(&claimer));
        Ok(match self.fault {
            Fault::IgnoresClaims => true,
            Fault::ReturnsNothingTwice if claimer == *node => false,
            Fault::TakesFromTheSuspected if listed.is_some_and(|listed| listed.suspected) => true,
            Fault::WaitsForTheGone if listed.is_none() && !left => claimer == *node,
            Fault::WaitsForThoseThatLeave if listed.is_none() && left => claimer == *node,
            _ => claimer == *node || listed.is_none(),
        })
    }

    /// Sorts notices that are due, each with whether its claimer is gone.
    fn sort(&self, node: &NodeId, due: &mut [Kept]) {
        due.sort_by_key(|(notice, claimer)| {
            let own = *claimer == Some(*node);
            let planned = notice.planned;
            match self.fault {
                Fault::SortsByKey => (false, None, notice.key),
                Fault::PutsUnplannedLast => (planned.is_none(), planned, notice.key),
                Fault::RoundsTimes => {
                    let rounded = planned.map(|time| at(time.as_millis() as f64 as i64));
                    (false, rounded, notice.key)
                }
                Fault::ReturnsOwnFirst => (!own, planned, notice.key),
                Fault::ReturnsGoneLast => (claimer.is_some() && !own, planned, notice.key),
                _ => (false, planned, notice.key),
            }
        });
    }

    fn is_due(&self, notice: &ExpiryNotice, now: Timestamp) -> bool {
        let rounded = |time: Timestamp| time.as_millis() as f64;
        notice.planned.is_none_or(|planned| match self.fault {
            Fault::ComparesBeforeOnly => planned < now,
            Fault::RoundsTimes => rounded(planned) <= rounded(now),
            _ => planned <= now,
        })
    }

    /// Returns whether this store finishes a notice.
    fn is_finished(&self, node: &NodeId, given: &ExpiryNotice, kept: Option<&Kept>) -> bool {
        kept.is_some_and(|(notice, claimer)| {
            let claimed = match self.fault {
                Fault::FinishesForAnyNode => claimer.is_some(),
                Fault::FinishesWithoutAClaim => claimer.is_none_or(|claimer| claimer == *node),
                _ => *claimer == Some(*node),
            };
            claimed && (self.is(Fault::FinishesAnyEnd) || notice.expires == given.expires)
        })
    }

    async fn write(&self) -> Result<(), StoreError> {
        let Some(id) = self.note(|notes| notes.notices.keys().next().copied()) else {
            return Ok(());
        };
        let any = WriteOptions::new();
        self.right.update(&id, &KeyPatch::new(), &any).await
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let mut record = record.clone();
        if self.is(Fault::LosesTheTimeOfEnabling) {
            record.enabled_at = None;
        }
        self.right.insert(&record, options).await?;
        let every = self.is(Fault::NotesEveryKey).then_some(Timestamp::MAX);
        self.follow(record.id, None, record.expires.or(every));
        Ok(())
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let mut patch = patch.clone();
        if self.is(Fault::EnablesWithoutTime) {
            patch.enabled_at = None;
        }
        if self.is(Fault::AuditsTheTimeAsAnUpdate) && patch.enabled_at.is_some() {
            patch.label.get_or_insert_with(|| "enabled".to_owned());
        }
        if self.is(Fault::FinishesInTwoSteps) {
            yield_now().await;
        }
        let before = self.end_of(id).await?;
        self.right.update(id, &patch, options).await?;
        self.follow(*id, before, self.end_of(id).await?);
        Ok(())
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let done = self.right.revoke(id, revocation, options).await?;
        self.note(|notes| {
            if self.is(Fault::RemovesAtARevocation) {
                notes.notices.remove(id);
            }
        });
        Ok(done)
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        let more = self.right.mark_revoked_keys().await?;
        self.note(|notes| match self.fault {
            Fault::RemovesAtMarking => notes.notices.retain(|_, kept| kept.1.is_none()),
            Fault::EndsClaimsAtARevocation => {
                notes.notices.values_mut().for_each(|kept| kept.1 = None);
            }
            _ => {}
        });
        Ok(more)
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let step = self.right.purge(before, after, origin).await?;
        self.note(|notes| {
            if !self.is(Fault::LeavesWhatIsPurged) {
                notes.notices.retain(|id, _| !step.keys.contains(id));
            }
        });
        Ok(step)
    }

    async fn leave(&self, node: &NodeId) -> Result<(), StoreError> {
        self.note(|notes| notes.left.push(*node));
        self.right.leave(node).await
    }

    async fn claim_notices(
        &self,
        node: &NodeId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExpiryNotice>, StoreError> {
        let mut due: Vec<Kept> =
            self.note(|notes| notes.notices.values().copied().collect::<Vec<_>>());
        due.retain(|(notice, _)| self.is_due(notice, now));
        self.sort(node, &mut due);
        if self.is(Fault::HidesForEver) {
            due.truncate(1_000);
        }
        let mut free = Vec::new();
        for kept in due {
            if self.free(node, kept.1).await? {
                free.push(kept.0);
            }
        }
        free.truncate(match self.fault {
            Fault::IgnoresTheLimit => usize::MAX,
            Fault::TakesALimitOfZero => limit.min(1_000) as usize,
            _ => limit.clamp(1, 1_000) as usize,
        });
        if self.is(Fault::ClaimsInTwoSteps) {
            yield_now().await;
        }
        self.note(|notes| {
            for notice in &free {
                notes.notices.insert(notice.key, (*notice, Some(*node)));
            }
        });
        if self.is(Fault::LogsClaims) {
            self.write().await?;
        }
        Ok(free)
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        let bounded = !self.is(Fault::FinishesAnyNumber);
        if finished.len() > 1_000 && bounded {
            return Err(StoreError::InvalidArgument("too many".to_owned()));
        }
        let count = match self.fault {
            Fault::FinishesSome => 500,
            _ => usize::MAX,
        };
        let mut known = Vec::new();
        for (given, planned) in finished.iter().take(count) {
            let kept = self.note(|notes| notes.notices.get(&given.key).copied());
            if self.is_finished(node, given, kept.as_ref()) {
                known.push((kept.unwrap_or((*given, None)).0, *planned));
            }
        }
        if self.is(Fault::FinishesInTwoSteps) {
            yield_now().await;
        }
        let claimer = self.is(Fault::FinishesForItself).then_some(*node);
        self.note(|notes| {
            for (mut notice, planned) in known {
                notice.planned = planned;
                if self.is(Fault::PlansSecondsOnly) {
                    notice.planned =
                        planned.map(|time| at(time.as_millis().div_euclid(1_000) * 1_000));
                }
                if self.is(Fault::SetsSinceAnew) {
                    notice.since = at(notice.since.as_millis() + 1);
                }
                if planned.is_some() || self.is(Fault::KeepsWhatIsRemoved) {
                    notes.notices.insert(notice.key, (notice, claimer));
                } else {
                    notes.notices.remove(&notice.key);
                }
            }
        });
        if self.is(Fault::LogsFinishes) {
            self.write().await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn each_fault_of_the_notices_fails_the_check_of_its_rule() {
    const NEW: &str = "a_key_that_expires_has_a_notice";
    const CHANGED: &str = "a_changed_expiry_replaces_its_notice";
    const ENDLESS: &str = "a_removed_expiry_removes_its_notice";
    const OTHERS: &str = "other_changes_keep_a_notice";
    const ORDER: &str = "due_notices_are_claimed_in_the_order_of_their_times";
    const BOUNDED: &str = "a_claim_is_bounded_and_hides_nothing_for_ever";
    const MEMBERS: &str = "a_claim_belongs_to_its_node_while_that_is_a_member";
    const FINISHED: &str = "a_finished_notice_is_planned_or_removed";
    const UNLOGGED: &str = "claims_of_notices_are_not_changes";
    let cases = [
        (Fault::NotesEveryKey, NEW),
        (Fault::SkipsPastEnds, NEW),
        (Fault::TakesTheCreation, NEW),
        (Fault::KeepsTheFormerEnd, CHANGED),
        (Fault::KeepsTheTime, CHANGED),
        (Fault::KeepsTheClaim, CHANGED),
        (Fault::IgnoresAnEarlierEnd, CHANGED),
        (Fault::KeepsANoticeWithoutEnd, ENDLESS),
        (Fault::NotesANewKeyOnly, ENDLESS),
        (Fault::ReplacesAtEachUpdate, OTHERS),
        (Fault::ReplacesAtTheSameEnd, OTHERS),
        (Fault::RemovesAtARevocation, OTHERS),
        (Fault::RemovesAtMarking, OTHERS),
        (Fault::EndsClaimsAtARevocation, OTHERS),
        (Fault::SetsSinceAnew, OTHERS),
        (Fault::LeavesWhatIsPurged, "a_removed_key_has_no_notice"),
        (Fault::SortsByKey, ORDER),
        (Fault::PutsUnplannedLast, ORDER),
        (Fault::RoundsTimes, ORDER),
        (Fault::ComparesBeforeOnly, ORDER),
        (Fault::ReturnsOwnFirst, ORDER),
        (Fault::ReturnsGoneLast, ORDER),
        (Fault::IgnoresTheLimit, BOUNDED),
        (Fault::TakesALimitOfZero, BOUNDED),
        (Fault::HidesForEver, BOUNDED),
        (Fault::IgnoresClaims, BOUNDED),
        (Fault::FinishesAnyNumber, BOUNDED),
        (Fault::FinishesSome, BOUNDED),
        (Fault::IgnoresClaims, MEMBERS),
        (Fault::ReturnsNothingTwice, MEMBERS),
        (Fault::TakesFromTheSuspected, MEMBERS),
        (Fault::WaitsForTheGone, MEMBERS),
        (Fault::WaitsForThoseThatLeave, MEMBERS),
        (Fault::FinishesForAnyNode, MEMBERS),
        (Fault::FinishesForAnyNode, FINISHED),
        (Fault::FinishesAnyEnd, FINISHED),
        (Fault::FinishesWithoutAClaim, FINISHED),
        (Fault::FinishesForItself, FINISHED),
        (Fault::KeepsWhatIsRemoved, FINISHED),
        (Fault::PlansSecondsOnly, FINISHED),
        (Fault::SetsSinceAnew, FINISHED),
        (Fault::LogsClaims, UNLOGGED),
        (Fault::LogsFinishes, UNLOGGED),
        (
            Fault::ClaimsInTwoSteps,
            "racing_claims_give_a_notice_to_one_node",
        ),
        (
            Fault::FinishesInTwoSteps,
            "an_expiry_that_changes_in_a_race_has_its_notice",
        ),
        (Fault::LosesTheTimeOfEnabling, "every_field_reads_back"),
        (
            Fault::EnablesWithoutTime,
            "an_update_changes_the_named_columns_only",
        ),
        (
            Fault::AuditsTheTimeAsAnUpdate,
            "each_change_of_a_key_writes_an_entry",
        ),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
