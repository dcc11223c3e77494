//! The suite detects incorrect stores: each of these breaks one rule, and fails the check of that
//! rule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::store::{
    BulkStep, ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, KeyPatch, ListCursor, ListQuery,
    Membership, Node, NodeId, RecordPage, Revocation, StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Timestamp, conformance};
use apikey_test_support::store::{Forward, Forwarding};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LosesAField,
    RoundsTimes,
    Upserts,
    IgnoresTheVersion,
    ReadsOld,
    BringsBack,
    KeepsTheLastReason,
    FoldsTheCaseOfOwners,
    FoldsTheCaseOfIds,
    PurgesTooMuch,
    EndsTheListEarly,
    AcceptsAnyCursor,
    StartsWithNoChange,
    TagsAllStoresAlike,
    LogsNoRevocation,
    RevokesAllAtOnce,
    HidesTheHead,
    LosesAnEntry,
    JoinsInSilence,
    AcknowledgesAnyHistory,
    TrustsTheSuspected,
    SuspectsBlindly,
    DismissesTheTrusted,
    /// Numbers its changes when they begin: a lower number may commit after a higher one was read.
    /// One does so.
    RacySequence,
    /// The same without the race.
    LuckySequence,
}

#[derive(Debug)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    notes: Mutex<Notes>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Notes {
    seen: HashMap<KeyId, KeyRecord>,
    revoked: HashSet<KeyId>,
    brought_back: HashSet<KeyId>,
    reasons: HashMap<KeyId, Revocation>,
    sequence: u64,
    committed: BTreeMap<u64, KeyId>,
    /// The first number taken after a follower began: its writer waits until it was read past.
    held: Option<u64>,
    followed: bool,
    read_to: u64,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            right: MemoryStore::new(),
            fault,
            notes: Mutex::default(),
            moved: Notify::new(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.notes.lock().unwrap())
    }

    /// Takes the next number as a sequence does: when a change begins.
    async fn begin(&self) -> u64 {
        let own = self.note(|notes| {
            notes.sequence += 1;
            if self.is(Fault::RacySequence) && notes.followed && notes.held.is_none() {
                notes.held = Some(notes.sequence);
            }
            notes.sequence
        });
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.note(|notes| notes.held != Some(own) || notes.read_to > own) {
                return own;
            }
            moved.await;
        }
    }

    fn commit(&self, own: u64, id: KeyId) {
        self.note(|notes| notes.committed.insert(own, id));
    }

    fn racy_changes(&self, since: Option<&Cursor>, right: &Changes) -> Changes {
        let (set, epoch) = self.note(|notes| {
            let last = notes.committed.keys().next_back().copied().unwrap_or(0);
            notes.read_to = last;
            notes.followed = since.is_some();
            let after =
                |cursor: &Cursor| notes.committed.range(cursor.epoch + 1..).map(|(_, id)| *id);
            (
                since.map_or(ChangeSet::Resync, |since| ChangeSet::of_keys(after(since))),
                last,
            )
        });
        self.moved.notify_waiters();
        let cursor = Cursor {
            epoch,
            tag: right.cursor.tag.clone(),
        };
        Changes::new(set, cursor, right.lease).for_member(right.member)
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        let mut record = record.clone();
        if self.is(Fault::LosesAField) {
            record.environment = None;
        }
        if self.is(Fault::RoundsTimes) {
            record.expires = record
                .expires
                .map(|at| Timestamp::from_millis(at.as_millis() / 1_000));
        }
        let own = self.begin().await;
        let result = self.right.insert(&record, options).await;
        self.commit(own, record.id);
        if self.is(Fault::Upserts) && result.is_err() {
            let mut patch = KeyPatch::new();
            patch.label = Some(record.label.clone());
            return self
                .right
                .update(&record.id, &patch, &WriteOptions::new())
                .await;
        }
        result
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        if self.is(Fault::FoldsTheCaseOfIds) {
            let all = self.right.list(&ListQuery::first(1_000)).await?.records;
            let same = |found: &KeyRecord| found.id.as_str().eq_ignore_ascii_case(id.as_str());
            return Ok(all.into_iter().find(same));
        }
        let Some(mut record) = self.right.find(id).await? else {
            return Ok(None);
        };
        if self.is(Fault::ReadsOld) {
            return Ok(Some(
                self.note(|notes| notes.seen.entry(*id).or_insert(record).clone()),
            ));
        }
        self.note(|notes| {
            if self.is(Fault::BringsBack) && notes.brought_back.contains(id) {
                record.revoked = None;
            }
            if self.is(Fault::KeepsTheLastReason) {
                record.revoked = notes.reasons.get(id).cloned().or(record.revoked.take());
            }
        });
        Ok(Some(record))
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        let mut page = self.right.list(query).await?;
        if self.is(Fault::EndsTheListEarly) {
            page.next = None;
        }
        Ok(page)
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        let mut options = options.clone();
        if self.is(Fault::IgnoresTheVersion) {
            options.expected_version = None;
        }
        let own = self.begin().await;
        let result = self.right.update(id, patch, &options).await;
        self.commit(own, *id);
        self.note(|notes| {
            if notes.revoked.contains(id) {
                notes.brought_back.insert(*id);
            }
        });
        result
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let own = self.begin().await;
        let result = self.right.revoke(id, revocation, options).await;
        self.commit(own, *id);
        self.note(|notes| {
            notes.revoked.insert(*id);
            notes.reasons.insert(*id, revocation.clone());
        });
        result
    }

    async fn revoke_owner(
        &self,
        owner: &str,
        revocation: &Revocation,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        if self.is(Fault::RevokesAllAtOnce) {
            let mut keys = Vec::new();
            let mut after = None;
            loop {
                let step = self
                    .right
                    .revoke_owner(owner, revocation, after.as_ref(), origin);
                let BulkStep {
                    keys: more, next, ..
                } = step.await?;
                keys.extend(more);
                after = next;
                if after.is_none() {
                    return Ok(BulkStep::new(keys, None));
                }
            }
        }
        if !self.is(Fault::FoldsTheCaseOfOwners) {
            return self
                .right
                .revoke_owner(owner, revocation, after, origin)
                .await;
        }
        let mut ids = Vec::new();
        for record in self.right.list(&ListQuery::first(1_000)).await?.records {
            let held = record.owner.as_deref();
            if held.is_some_and(|held| held.eq_ignore_ascii_case(owner))
                && self
                    .right
                    .revoke(&record.id, revocation, &WriteOptions::new())
                    .await?
            {
                ids.push(record.id);
            }
        }
        Ok(BulkStep::new(ids, None))
    }

    async fn purge(
        &self,
        before: Timestamp,
        after: Option<&ListCursor>,
        origin: &ChangeOrigin,
    ) -> Result<BulkStep, StoreError> {
        let more = i64::from(self.is(Fault::PurgesTooMuch));
        let before = Timestamp::from_millis(before.as_millis().saturating_add(more));
        self.right.purge(before, after, origin).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        node: Option<&NodeId>,
    ) -> Result<Changes, StoreError> {
        let mut changes = self.right.changes(since, node).await?;
        match self.fault {
            Fault::AcceptsAnyCursor if since.is_some() && changes.set == ChangeSet::Resync => {
                changes.set = ChangeSet::Entries(Vec::new());
            }
            Fault::StartsWithNoChange if since.is_none() => {
                changes.set = ChangeSet::Entries(Vec::new());
            }
            Fault::HidesTheHead => changes.head = changes.cursor.epoch,
            Fault::LosesAnEntry => {
                if let ChangeSet::Entries(items) = &mut changes.set
                    && items.len() == ChangeSet::MAX_ENTRIES
                {
                    items.remove(500);
                }
            }
            Fault::TagsAllStoresAlike => changes.cursor.tag = vec![7],
            Fault::RacySequence | Fault::LuckySequence => {
                changes = self.racy_changes(since, &changes)
            }
            _ => {}
        }
        if let (Fault::LogsNoRevocation, ChangeSet::Entries(items)) = (self.fault, &mut changes.set)
        {
            let is_revoked = |notes: &Notes, item: &ChangedItem| {
                item.clone()
                    .key()
                    .is_some_and(|id| notes.revoked.contains(&id))
            };
            self.note(|notes| items.retain(|item| !is_revoked(notes, item)));
        }
        if self.is(Fault::TrustsTheSuspected) && node.is_some() {
            let listed = self.right.members().await?.nodes;
            changes.member = listed.iter().any(|listed| Some(&listed.id) == node);
        }
        Ok(changes)
    }

    async fn join(&self, node: &NodeId) -> Result<(), StoreError> {
        let listed = self.right.members().await?.nodes;
        if self.is(Fault::JoinsInSilence) && listed.iter().any(|listed| listed.id == *node) {
            return Ok(());
        }
        self.right.join(node).await
    }

    async fn acknowledge(&self, node: &NodeId, cursor: &Cursor) -> Result<(), StoreError> {
        let mut cursor = cursor.clone();
        if self.is(Fault::AcknowledgesAnyHistory) {
            cursor.tag = self.right.changes(None, None).await?.cursor.tag;
        }
        self.right.acknowledge(node, &cursor).await
    }

    async fn suspect(&self, seen: &Node) -> Result<(), StoreError> {
        let mut seen = seen.clone();
        if self.is(Fault::SuspectsBlindly) {
            let listed = self.right.members().await?.nodes;
            let row = listed.iter().find(|listed| listed.id == seen.id);
            seen.heartbeat = row.map_or(seen.heartbeat, |row| row.heartbeat);
        }
        self.right.suspect(&seen).await
    }

    async fn remove_node(&self, seen: &Node) -> Result<(), StoreError> {
        if self.is(Fault::DismissesTheTrusted) {
            self.right.suspect(seen).await?;
        }
        self.right.remove_node(seen).await
    }
}

fn make(fault: Fault) -> impl Fn() -> std::future::Ready<Arc<dyn KeyStore>> {
    move || std::future::ready(Arc::new(Forwarding(Wrong::new(fault))) as Arc<dyn KeyStore>)
}

/// Returns how the suite, or only the check of that name, fails for a store with `fault`.
async fn panic_of(fault: Fault, check: Option<&'static str>) -> Option<String> {
    let run = tokio::spawn(async move {
        match check {
            Some(name) => assert!(conformance::check(name, make(fault)).await),
            None => drop(conformance::run(make(fault)).await),
        }
    });
    let panic = run.await.err()?.into_panic();
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[tokio::test]
async fn each_fault_fails_the_check_of_its_rule() {
    let cases = [
        (Fault::LosesAField, "every_field_reads_back"),
        (Fault::RoundsTimes, "every_field_reads_back"),
        (
            Fault::FoldsTheCaseOfIds,
            "ids_that_differ_in_case_are_different_keys",
        ),
        (
            Fault::Upserts,
            "an_insert_of_an_existing_id_is_a_conflict_and_changes_nothing",
        ),
        (
            Fault::IgnoresTheVersion,
            "an_update_of_another_version_is_a_conflict_and_changes_nothing",
        ),
        (Fault::ReadsOld, "a_written_record_is_visible_at_once"),
        (
            Fault::BringsBack,
            "a_late_update_does_not_undo_a_revocation",
        ),
        (Fault::KeepsTheLastReason, "the_first_revocation_stays"),
        (
            Fault::FoldsTheCaseOfOwners,
            "revoking_an_owner_revokes_exactly_their_live_keys",
        ),
        (
            Fault::PurgesTooMuch,
            "purge_removes_only_keys_that_ended_before",
        ),
        (
            Fault::EndsTheListEarly,
            "a_list_is_ordered_by_id_and_its_pages_are_complete",
        ),
        (Fault::AcceptsAnyCursor, "an_invalid_cursor_is_a_resync"),
        (
            Fault::StartsWithNoChange,
            "a_poll_without_a_cursor_is_a_resync",
        ),
        (
            Fault::TagsAllStoresAlike,
            "a_poll_without_a_cursor_is_a_resync",
        ),
        (
            Fault::LogsNoRevocation,
            "every_change_takes_the_next_epoch_and_names_its_key",
        ),
        (
            Fault::RevokesAllAtOnce,
            "a_bulk_change_is_made_in_bounded_steps",
        ),
        (
            Fault::HidesTheHead,
            "a_long_change_log_is_read_page_by_page",
        ),
        (
            Fault::LosesAnEntry,
            "a_long_change_log_is_read_page_by_page",
        ),
        (
            Fault::JoinsInSilence,
            "joining_takes_an_epoch_and_names_no_key",
        ),
        (
            Fault::AcknowledgesAnyHistory,
            "an_acknowledgement_applies_to_the_change_log_of_its_cursor",
        ),
        (
            Fault::TrustsTheSuspected,
            "a_suspected_node_is_not_a_member_until_it_joins_again",
        ),
        (
            Fault::SuspectsBlindly,
            "a_suspected_node_is_not_a_member_until_it_joins_again",
        ),
        (
            Fault::DismissesTheTrusted,
            "only_a_node_that_stayed_suspected_is_removed",
        ),
    ];
    for (fault, check) in cases {
        let said = panic_of(fault, None).await;
        let said =
            said.unwrap_or_else(|| panic!("the suite takes a store with {fault:?} for right"));
        assert!(
            said.contains(&format!("fails the check `{check}`")),
            "{fault:?}: {said}"
        );
    }
    assert_eq!(
        panic_of(Fault::None, None).await,
        None,
        "the wrapper alone does not break a rule"
    );
}

/// V-19, negative control: a change that takes its number first and commits last.
#[tokio::test]
async fn v19_a_sequence_is_found_out() {
    const CHECK: &str = "a_poller_misses_no_change_of_concurrent_writers";
    let said = panic_of(Fault::RacySequence, Some(CHECK)).await.unwrap();
    assert!(said.contains("it misses those of"), "{said}");
    assert_eq!(
        panic_of(Fault::LuckySequence, Some(CHECK)).await,
        None,
        "it is the race"
    );
}
