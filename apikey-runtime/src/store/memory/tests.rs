//! The store in memory against a list of records that is searched from one end to the other.

use std::sync::Arc;

use proptest::prelude::*;

use super::MemoryStore;
use crate::audit::ChangeOrigin;
use crate::clock::{ManualClock, Timestamp};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{KeyPatch, KeyRecord, OwnerRevocation, Revocation};
use crate::store::{
    KeyStore, ListCursor, ListQuery, ListRange, OwnerStore, WriteOptions, fold_label,
};

/// The time of the store's clock.
const NOW: i64 = 5;

const OWNERS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("")];
const LABELS: [&str; 6] = ["", "a", "AB", "ab", "b%", "\u{c4}b"];
/// Around the clock's time, so that some keys have expired.
const ENDS: [Option<i64>; 6] = [
    None,
    Some(i64::MIN),
    Some(4),
    Some(5),
    Some(6),
    Some(i64::MAX),
];

/// A call of a store. Numbers choose among the values above, and among few ids.
#[derive(Debug, Clone)]
enum StoreStep {
    Insert(u128, usize, usize, usize, i64, Option<u32>),
    Update(
        u128,
        Option<usize>,
        Option<usize>,
        Option<usize>,
        Option<u32>,
    ),
    Revoke(u128),
    RevokeOwner(usize),
    Mark,
    Purge(i64),
}

fn step() -> impl Strategy<Value = StoreStep> {
    let (number, owner, label, end) = (0..12_u128, 0..4_usize, 0..6_usize, 0..6_usize);
    let max = prop::option::of(0..4_u32);
    let some = prop::option::of::<std::ops::Range<usize>>;
    let insert = (
        number.clone(),
        owner.clone(),
        label.clone(),
        end.clone(),
        -2..3_i64,
        max.clone(),
    );
    let update = (
        number.clone(),
        some(owner.clone()),
        some(label),
        some(end),
        max,
    );
    prop_oneof![
        6 => insert.prop_map(|(a, b, c, d, e, f)| StoreStep::Insert(a, b, c, d, e, f)),
        6 => update.prop_map(|(a, b, c, d, e)| StoreStep::Update(a, b, c, d, e)),
        2 => number.prop_map(StoreStep::Revoke),
        1 => owner.prop_map(StoreStep::RevokeOwner),
        1 => Just(StoreStep::Mark),
        1 => (-3..7_i64).prop_map(StoreStep::Purge),
    ]
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn text(owner: usize) -> Option<String> {
    OWNERS[owner].map(str::to_owned)
}

fn revocation() -> Revocation {
    Revocation {
        at: at(3),
        reason: None,
    }
}

/// All records, and how often the keys of each owner were revoked.
#[derive(Debug, Default)]
struct Naive {
    records: Vec<KeyRecord>,
    known: Vec<String>,
}

impl Naive {
    fn live(&self, owner: Option<&str>, except: Option<KeyId>) -> u32 {
        let live = |record: &&KeyRecord| {
            record.owner.as_deref() == owner
                && Some(record.id) != except
                && record.revoked.is_none()
                && record.expires.is_none_or(|end| end > at(NOW))
        };
        self.records.iter().filter(live).count() as u32
    }

    /// Returns whether a maximum refuses a write.
    fn refuses(&self, before: Option<&KeyRecord>, after: &KeyRecord, max: Option<u32>) -> bool {
        let is_live = |record: &KeyRecord| {
            record.revoked.is_none() && record.expires.is_none_or(|end| end > at(NOW))
        };
        let was = before.is_some_and(|before| is_live(before) && before.owner == after.owner);
        let owner = after.owner.as_deref();
        owner.is_some()
            && is_live(after)
            && !was
            && max.is_some_and(|max| self.live(owner, Some(after.id)) >= max)
    }

    fn keep(&mut self, record: KeyRecord) {
        if let Some(owner) = &record.owner
            && !self.known.contains(owner)
        {
            self.known.push(owner.clone());
        }
        self.records.retain(|other| other.id != record.id);
        self.records.push(record);
    }

    fn find(&self, number: u128) -> Option<KeyRecord> {
        let id = KeyId::from_u128(number);
        self.records.iter().find(|record| record.id == id).cloned()
    }
}

/// Makes the same call of both, which must answer the same.
async fn make(store: &MemoryStore, naive: &mut Naive, step: StoreStep) {
    match step {
        StoreStep::Insert(number, owner, label, end, created, max) => {
            let id = KeyId::from_u128(number);
            let mut record = KeyRecord::new(id, "p", LABELS[label], "d", at(created));
            record.owner = text(owner);
            record.expires = ENDS[end].map(at);
            let options = WriteOptions::new().with_max_live_keys(max);
            match store.insert(&record, &options).await {
                Ok(()) => {
                    assert!(naive.find(number).is_none() && !naive.refuses(None, &record, max));
                    naive.keep(record);
                }
                Err(StoreError::Conflict) => assert!(naive.find(number).is_some()),
                Err(_) => {
                    assert!(naive.find(number).is_none() && naive.refuses(None, &record, max));
                }
            }
        }
        StoreStep::Update(number, owner, label, end, max) => {
            let mut patch = KeyPatch::new();
            patch.owner = owner.map(text);
            patch.label = label.map(|label| LABELS[label].to_owned());
            patch.expires = end.map(|end| ENDS[end].map(at));
            let options = WriteOptions::new().with_max_live_keys(max);
            let result = store
                .update(&KeyId::from_u128(number), &patch, &options)
                .await;
            let Some(before) = naive.find(number) else {
                return assert!(matches!(result, Err(StoreError::NotFound)));
            };
            let mut after = before.clone();
            patch.apply(&mut after, None);
            if before.revoked.is_some() && before.rotations == 1 {
                // Its owner revoked it, so it stays.
                after.owner.clone_from(&before.owner);
            }
            let refused = naive.refuses(Some(&before), &after, max);
            assert_eq!(result.is_err(), refused, "{before:?} {after:?} {max:?}");
            if !refused {
                naive.keep(after);
            }
        }
        StoreStep::Revoke(number) => {
            let (id, options) = (KeyId::from_u128(number), WriteOptions::new());
            let revoke = store.revoke(&id, &revocation(), &options).await;
            match (revoke, naive.find(number)) {
                (Ok(done), Some(mut record)) => {
                    assert_eq!(done, record.revoked.is_none());
                    record.revoked = record.revoked.or(Some(revocation()));
                    naive.keep(record);
                }
                (result, found) => assert!(result.is_err() && found.is_none()),
            }
        }
        StoreStep::RevokeOwner(owner) => revoke_owner(store, naive, text(owner)).await,
        StoreStep::Mark => drop(store.mark_revoked_keys().await.unwrap()),
        StoreStep::Purge(before) => {
            let step = store
                .purge(at(before), None, &ChangeOrigin::new())
                .await
                .unwrap();
            let mut gone = step.keys;
            gone.sort();
            let ended = |record: &KeyRecord| {
                let revoked = record.revoked.as_ref();
                revoked.is_some_and(|revoked| revoked.at < at(before))
                    || record.expires.is_some_and(|end| end < at(before))
            };
            let mut expected: Vec<_> = naive
                .records
                .iter()
                .filter(|record| ended(record))
                .collect();
            expected.sort_by_key(|record| record.id);
            assert!(gone.iter().eq(expected.iter().map(|record| &record.id)));
            naive.records.retain(|record| !ended(record));
        }
    }
}

/// `rotations`, which no step changes otherwise, remembers in the naive list that the owner revoked a key.
async fn revoke_owner(store: &MemoryStore, naive: &mut Naive, owner: Option<String>) {
    let Some(owner) = owner else { return };
    let revocation = OwnerRevocation::new(at(3));
    let origin = ChangeOrigin::new();
    let result = store.revoke_owner_keys(&owner, &revocation, &origin).await;
    assert_eq!(result.is_ok(), naive.known.contains(&owner));
    for record in &mut naive.records {
        if record.owner.as_ref() == Some(&owner) {
            record.revoked = record.revoked.take().or(Some(revocation.of_key()));
            record.rotations = 1;
        }
    }
}

fn ranges() -> Vec<ListRange> {
    let mut ranges = vec![ListRange::All];
    ranges.extend(
        OWNERS
            .into_iter()
            .flatten()
            .map(|owner| ListRange::Owner(owner.to_owned())),
    );
    ranges.extend(LABELS.map(|label| ListRange::Label(fold_label(label))));
    let id = KeyId::from_u128(11).to_string();
    ranges.extend([0, 20, 21, 22].map(|length| ListRange::Id(id[..length].to_owned())));
    for (from, to) in [(i64::MIN, i64::MAX), (4, 6), (5, 5), (6, 4)] {
        let (from, to) = (at(from), at(to));
        ranges.push(ListRange::Expires { from, to });
    }
    ranges
}

/// Compares pages of each range, from its start and after each position.
async fn compare(store: &MemoryStore, naive: &Naive, limit: u32) {
    for owner in OWNERS.into_iter().flatten() {
        let live = naive.live(Some(owner), None);
        for max in [0, 1, 100] {
            let counted = store.count_live_keys(owner, max).await.unwrap();
            assert_eq!(counted, live.min(max), "{owner:?} of {naive:?}");
        }
        let known = store.find_owner(owner).await.unwrap();
        let expected = naive.known.iter().any(|known| known == owner);
        assert_eq!(known.is_some(), expected, "{owner:?}");
    }
    for range in ranges() {
        let mut sorted: Vec<ListCursor> = naive
            .records
            .iter()
            .map(|record| range.cursor_of(record))
            .collect();
        sorted.sort_by(|one, other| range.compare(one, other));
        for after in sorted.iter().map(Some).chain([None]) {
            let selects = |cursor: &&ListCursor| {
                let record = naive.records.iter().find(|record| record.id == cursor.id);
                record.is_some_and(|record| range.contains(record))
                    && after.is_none_or(|after| range.compare(after, cursor).is_lt())
            };
            let expected: Vec<_> = sorted.iter().filter(selects).collect();
            let query = ListQuery::of(range.clone(), limit).after(after.cloned());
            let page = store.list(&query).await.unwrap();
            let found: Vec<_> = page
                .records
                .iter()
                .map(|record| range.cursor_of(record))
                .collect();
            let first = expected.len().min(limit as usize);
            assert!(
                found.iter().eq(expected[..first].iter().copied()),
                "{query:?}"
            );
            let next = (expected.len() > first).then(|| expected[first - 1].clone());
            assert_eq!(page.next, next, "{query:?}");
            for record in page.records {
                let known = naive.find(record.id.to_u128());
                assert_eq!(known.map(|known| known.revoked), Some(record.revoked));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lists_and_counts_are_those_of_a_search_through_all_records(
        steps in prop::collection::vec(step(), 0..60),
        limit in 1..5_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::new().with_clock(Arc::new(ManualClock::at(at(NOW))));
            let mut naive = Naive::default();
            for step in steps {
                make(&store, &mut naive, step).await;
            }
            compare(&store, &naive, limit).await;
        });
    }
}

/// Positions that do not belong to the range: before it, after it, and of another order.
#[tokio::test]
async fn a_position_outside_of_the_range_does_not_widen_it() {
    let store = MemoryStore::new();
    for (number, end) in (1..).zip([1, 5, 9]) {
        let id = KeyId::from_u128(number);
        let mut record = KeyRecord::new(id, "p", "label", "d", at(0));
        record.expires = Some(at(end));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    let range = ListRange::Expires {
        from: at(4),
        to: at(8),
    };
    let ids = async |after: ListCursor| {
        let query = ListQuery::of(range.clone(), 10).after(Some(after));
        let page = store.list(&query).await?;
        Ok::<_, StoreError>(
            page.records
                .iter()
                .map(|record| record.id.to_u128())
                .collect::<Vec<_>>(),
        )
    };
    let time = |millis| {
        let sort = crate::store::SortValue::Time(at(millis));
        ListCursor::new(sort, KeyId::from_u128(0))
    };
    assert_eq!(ids(time(i64::MIN)).await.unwrap(), [2]);
    assert_eq!(ids(time(7)).await.unwrap(), []);
    assert_eq!(ids(time(i64::MAX)).await.unwrap(), []);
    let other = ids(KeyId::from_u128(0).into()).await;
    assert!(
        matches!(other, Err(StoreError::InvalidArgument(_))),
        "{other:?}"
    );
}

/// A page of the audit log reads a bounded number of entries, and continues.
#[tokio::test]
async fn a_rare_entry_is_found_after_empty_pages() {
    use crate::store::{AuditQuery, AuditStore};

    let store = MemoryStore::new();
    for number in [1, 2] {
        let record = KeyRecord::new(KeyId::from_u128(number), "p", "label", "d", at(0));
        store.insert(&record, &WriteOptions::new()).await.unwrap();
    }
    for _ in 0..25_000 {
        let id = KeyId::from_u128(2);
        store
            .update(&id, &KeyPatch::new(), &WriteOptions::new())
            .await
            .unwrap();
    }
    let mut query = AuditQuery::newest(10);
    query.key = Some(KeyId::from_u128(1));
    let mut pages = 0;
    loop {
        let page = store.read_audit(&query).await.unwrap();
        pages += 1;
        if let Some(entry) = page.entries.first() {
            assert_eq!(entry.key, query.key);
            assert_eq!((page.entries.len(), page.next), (1, None));
            break;
        }
        query.before = page.next;
        assert!(query.before.is_some(), "the entry is not found");
    }
    assert_eq!(pages, 3);
}
