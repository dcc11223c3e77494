//! The suite detects stores whose audit log is incorrect: each of these breaks one rule, and fails the check
//! of that rule.

use std::sync::Mutex;

use apikey_runtime::audit::{AuditAction, AuditEntry, ChangeOrigin, FieldChange};
use apikey_runtime::store::{
    AuditPage, AuditQuery, AuditStore, KeyPatch, OwnerStore, Revocation, StoreError, WriteOptions,
};
use apikey_runtime::{KeyId, KeyRecord, KeyStore, MemoryStore, Timestamp};
use apikey_test_support::store::Forward;

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    CallsItAnUpdate,
    ForgetsTheFormerOwner,
    KeepsTheFormerOwner,
    ShowsTheLabelOnly,
    WritesEachEntryTwice,
    WritesNoRemoval,
    WritesNoEmptyUpdate,
    ForgetsTheOriginOfAStep,
    WritesWhatIsRefused,
    WritesWhatIsRevokedAgain,
    WritesMarking,
    ForgetsTheAddress,
    ShortensTheAddress,
    NamesTheFormerActor,
    CutsTexts,
    ShowsTheDigest,
    ShowsTheNewDigest,
    FindsOwnersAfterChangesOnly,
    FoldsTheCaseOfActors,
    TakesTheEndToo,
    LeavesOutTheBeginning,
    IgnoresTheOwnerOfAKey,
    RepeatsTheLastEntry,
    LosesAnEntryBetweenPages,
    CountsPagesFromTheEnd,
    WritesTheLabelOfTheCaller,
    LosesAnEntry,
    RemovesTheNewest,
    RemovesTooMuch,
    RemovesAllAtOnce,
    RemovesNothing,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// The entries that are removed, if this store removes by itself.
    removed: Vec<String>,
    digests: Vec<String>,
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

    /// Returns all entries as this store has them, the oldest first.
    async fn entries(&self) -> Result<Vec<AuditEntry>, StoreError> {
        let (mut query, mut log) = (AuditQuery::newest(1_000), Vec::new());
        loop {
            let page = self.right.read_audit(&query).await?;
            log.extend(page.entries);
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        log.reverse();
        let notes = self.notes.lock().unwrap();
        log.retain(|entry| !notes.removed.contains(&entry.position));
        for place in 0..log.len() {
            let former = place
                .checked_sub(1)
                .map(|former| log[former].origin.clone());
            self.misread(&mut log[place], former, &notes.digests);
        }
        match self.fault {
            Fault::WritesEachEntryTwice => {
                let twice = log.into_iter().flat_map(|entry| {
                    let mut copy = entry.clone();
                    copy.position.push('+');
                    [entry, copy]
                });
                return Ok(twice.collect());
            }
            Fault::WritesNoRemoval => log.retain(|entry| entry.action != AuditAction::Purged),
            Fault::WritesNoEmptyUpdate => log.retain(|entry| !entry.fields.is_empty()),
            Fault::LosesAnEntry if log.len() > 20 => drop(log.remove(20)),
            _ => {}
        }
        Ok(log)
    }

    fn misread(&self, entry: &mut AuditEntry, former: Option<ChangeOrigin>, digests: &[String]) {
        let cut = |text: &mut Option<String>| {
            *text = text.as_ref().map(|text| text.chars().take(100).collect());
        };
        let digest = |digest: Option<&String>| {
            FieldChange::new("note", None, digest.map(|digest| digest.as_str().into()))
        };
        match self.fault {
            Fault::CallsItAnUpdate if entry.action == AuditAction::Disabled => {
                entry.action = AuditAction::Updated;
            }
            Fault::ForgetsTheFormerOwner => entry.former_owner = None,
            Fault::KeepsTheFormerOwner if entry.former_owner.is_none() => {
                entry.former_owner.clone_from(&entry.owner);
            }
            Fault::ShowsTheLabelOnly => entry.fields.retain(|change| change.field == "label"),
            Fault::ForgetsTheOriginOfAStep if entry.action == AuditAction::Purged => {
                entry.origin = ChangeOrigin::new();
            }
            Fault::ForgetsTheAddress => entry.origin.address = None,
            Fault::ShortensTheAddress => {
                let address = entry.origin.address;
                entry.origin.address = address.map(|address| address.to_canonical());
            }
            Fault::NamesTheFormerActor if entry.origin.actor.is_none() => {
                entry.origin.actor = former.and_then(|former| former.actor);
            }
            Fault::CutsTexts => cut(&mut entry.origin.reason),
            Fault::ShowsTheDigest => entry.fields.push(digest(digests.first())),
            Fault::ShowsTheNewDigest if entry.action == AuditAction::Rotated => {
                entry.fields.push(digest(digests.last()));
            }
            Fault::WritesTheLabelOfTheCaller => {
                for change in &mut entry.fields {
                    change.before = change.before.take().map(|_| "0".into());
                }
            }
            _ => {}
        }
    }

    fn selects(&self, query: &AuditQuery, entry: &AuditEntry) -> bool {
        let (mut query, mut entry) = (query.clone(), entry.clone());
        match self.fault {
            Fault::FindsOwnersAfterChangesOnly => entry.former_owner = None,
            Fault::FoldsTheCaseOfActors => {
                for actor in [&mut query.actor, &mut entry.origin.actor] {
                    *actor = actor.as_ref().map(|actor| actor.to_lowercase());
                }
            }
            Fault::TakesTheEndToo if query.to == Some(entry.at) => query.to = None,
            Fault::LeavesOutTheBeginning if query.from == Some(entry.at) => return false,
            Fault::IgnoresTheOwnerOfAKey if query.key.is_some() => query.owner = None,
            Fault::RepeatsTheLastEntry if query.before.as_ref() == Some(&entry.position) => {
                query.before = None;
            }
            _ => {}
        }
        query.matches(&entry)
    }

    /// Writes an entry of a change that is not one.
    async fn write(&self) -> Result<(), StoreError> {
        let page = self
            .right
            .list(&apikey_runtime::store::ListQuery::first(1))
            .await?;
        let id = page.records[0].id;
        let any = WriteOptions::new();
        self.right.update(&id, &KeyPatch::new(), &any).await
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn insert(&self, record: &KeyRecord, options: &WriteOptions) -> Result<(), StoreError> {
        self.notes
            .lock()
            .unwrap()
            .digests
            .push(record.digest.clone());
        let result = self.right.insert(record, options).await;
        if result.is_err() && self.is(Fault::WritesWhatIsRefused) {
            self.write().await?;
        }
        result
    }

    async fn update(
        &self,
        id: &KeyId,
        patch: &KeyPatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        self.notes
            .lock()
            .unwrap()
            .digests
            .extend(patch.digest.clone());
        self.right.update(id, patch, options).await
    }

    async fn revoke(
        &self,
        id: &KeyId,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<bool, StoreError> {
        let done = self.right.revoke(id, revocation, options).await?;
        if !done && self.is(Fault::WritesWhatIsRevokedAgain) {
            self.write().await?;
        }
        Ok(done)
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        let more = self.right.mark_revoked_keys().await?;
        if !more && self.is(Fault::WritesMarking) {
            self.write().await?;
        }
        Ok(more)
    }

    async fn read_audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let mut log = self.entries().await?;
        log.reverse();
        let limit = query.limit.clamp(1, 1_000) as usize;
        if self.is(Fault::CountsPagesFromTheEnd) {
            // `before` is how many entries were read.
            let skipped = query.before.as_ref().and_then(|text| text.parse().ok());
            let skipped = skipped
                .filter(|skipped| *skipped < 1_000_000)
                .unwrap_or(0_usize);
            let mut all = query.clone();
            all.before = None;
            log.retain(|entry| all.matches(entry));
            let page: Vec<_> = log.iter().skip(skipped).take(limit).cloned().collect();
            let read = 1_000_000 - skipped - page.len();
            let next = (log.len() > skipped + page.len()).then(|| read.to_string());
            return Ok(AuditPage::new(page, next));
        }
        log.retain(|entry| self.selects(query, entry));
        let more = log.len() > limit;
        log.truncate(limit);
        let mut next = log
            .last()
            .filter(|_| more)
            .map(|last| last.position.clone());
        if self.is(Fault::LosesAnEntryBetweenPages) && more && log.len() == 1 {
            // One less than the last.
            let last = log[0].position.parse::<u64>().unwrap();
            next = Some(format!("{:020}", last - 1));
        }
        Ok(AuditPage::new(log, next))
    }

    async fn prune_audit(&self, before: Timestamp) -> Result<bool, StoreError> {
        let mut old = self.entries().await?;
        old.retain(|entry| {
            entry.at < before || self.is(Fault::RemovesTooMuch) && entry.at == before
        });
        match self.fault {
            Fault::RemovesTheNewest => old.reverse(),
            Fault::RemovesNothing => old.clear(),
            _ => {}
        }
        if !self.is(Fault::RemovesAllAtOnce) {
            old.truncate(1_000);
        }
        let more = old.len() == 1_000;
        let removed = old.into_iter().map(|entry| entry.position);
        self.notes.lock().unwrap().removed.extend(removed);
        Ok(more)
    }
}

#[tokio::test]
async fn each_fault_of_the_audit_log_fails_the_check_of_its_rule() {
    const KEYS: &str = "each_change_of_a_key_writes_an_entry";
    const OWNERS: &str = "each_change_of_an_owner_writes_an_entry";
    const NOTHING: &str = "what_changes_nothing_writes_no_entry";
    const ORIGIN: &str = "an_entry_has_what_the_origin_has";
    const TEXTS: &str = "hostile_texts_read_back_from_the_audit_log";
    const DIGESTS: &str = "the_audit_log_holds_no_digest";
    const READ: &str = "the_audit_log_is_read_by_key_owner_actor_and_time";
    const PAGES: &str = "pages_of_the_audit_log_are_complete";
    const RACES: &str = "racing_changes_write_one_entry_each";
    const PRUNED: &str = "pruning_removes_the_oldest_entries_only";
    let cases = [
        (Fault::CallsItAnUpdate, KEYS),
        (Fault::ForgetsTheFormerOwner, KEYS),
        (Fault::KeepsTheFormerOwner, KEYS),
        (Fault::ShowsTheLabelOnly, KEYS),
        (Fault::WritesEachEntryTwice, KEYS),
        (Fault::WritesNoRemoval, KEYS),
        (Fault::WritesNoEmptyUpdate, KEYS),
        (Fault::ForgetsTheOriginOfAStep, OWNERS),
        (Fault::ShowsTheLabelOnly, OWNERS),
        (Fault::WritesMarking, OWNERS),
        (Fault::WritesWhatIsRefused, NOTHING),
        (Fault::WritesWhatIsRevokedAgain, NOTHING),
        (Fault::ForgetsTheAddress, ORIGIN),
        (Fault::ShortensTheAddress, ORIGIN),
        (Fault::NamesTheFormerActor, ORIGIN),
        (Fault::CutsTexts, TEXTS),
        (Fault::ShowsTheDigest, DIGESTS),
        (Fault::ShowsTheNewDigest, DIGESTS),
        (Fault::FindsOwnersAfterChangesOnly, READ),
        (Fault::FoldsTheCaseOfActors, READ),
        (Fault::TakesTheEndToo, READ),
        (Fault::LeavesOutTheBeginning, READ),
        (Fault::IgnoresTheOwnerOfAKey, READ),
        (Fault::RepeatsTheLastEntry, PAGES),
        (Fault::LosesAnEntryBetweenPages, PAGES),
        (Fault::CountsPagesFromTheEnd, PAGES),
        (Fault::WritesTheLabelOfTheCaller, RACES),
        (Fault::LosesAnEntry, RACES),
        (Fault::RemovesTheNewest, PRUNED),
        (Fault::RemovesTooMuch, PRUNED),
        (Fault::RemovesAllAtOnce, PRUNED),
        (Fault::RemovesNothing, PRUNED),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
