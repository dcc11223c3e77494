//! Lists of keys, on every store: every combination of filters, against a list of all keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::SystemTime;

use apikey_runtime::manager::{KeyPage, ListKeys};
use apikey_runtime::store::{ListCursor, ListQuery, RecordPage, StoreError};
use apikey_runtime::{
    ApiKeyManager, Error, KeyId, KeyRecord, KeyState, KeyStore, MemoryStore, Timestamp,
};
use apikey_test_support::dice::Dice;
use apikey_test_support::manager_on;
use apikey_test_support::store::{Forward, Forwarding, RecordsOnly};

use crate::{HOUR, managers};

const LABELS: [&str; 8] = ["ci", "CI 2", "cI-%", "c_", "Ärger", "ärger 2", "ÄR", "b"];

const OWNERS: [Option<&str>; 4] = [Some("acme"), Some("Acme"), Some("globex"), None];

/// A filter that a test may or may not set.
#[derive(Debug, Clone, Default)]
struct Filters {
    owner: Option<&'static str>,
    label: Option<&'static str>,
    label_prefix: Option<String>,
    id_prefix: Option<String>,
    expires: Option<(Timestamp, Timestamp)>,
    state: Option<KeyState>,
}

impl Filters {
    fn drawn(dice: &mut Dice, keys: &[KeyRecord], now: Timestamp) -> Self {
        let mut filters = Self::default();
        if dice.percent(40) {
            filters.owner = OWNERS[dice.below(3) as usize];
        }
        if dice.percent(15) {
            filters.label = dice.pick(&LABELS).copied();
        }
        if dice.percent(40) {
            let label = dice.pick(&LABELS).unwrap();
            let length = 1 + dice.below(3) as usize;
            let beginning: String = label.chars().take(length).collect();
            filters.label_prefix = Some(match dice.percent(50) {
                true => beginning.to_uppercase(),
                false => beginning.to_lowercase(),
            });
        }
        if dice.percent(25) {
            let id = dice.pick(keys).unwrap().id;
            let length = 1 + dice.below(4) as usize;
            filters.id_prefix = Some(id.as_str()[..length].to_owned());
        }
        if dice.percent(30) {
            let from = now.checked_add(HOUR * dice.below(4) as u32).unwrap();
            let to = from.checked_add(HOUR * (1 + dice.below(6)) as u32).unwrap();
            filters.expires = Some((from, to));
        }
        if dice.percent(40) {
            let states = [KeyState::Active, KeyState::Disabled, KeyState::Revoked];
            filters.state = dice.pick(&states).copied();
        }
        filters
    }

    fn set(&self, mut list: ListKeys) -> ListKeys {
        if let Some(owner) = self.owner {
            list = list.owner(owner);
        }
        if let Some(label) = self.label {
            list = list.label(label);
        }
        if let Some(beginning) = &self.label_prefix {
            list = list.label_prefix(beginning);
        }
        if let Some(beginning) = &self.id_prefix {
            list = list.id_prefix(beginning);
        }
        if let Some((from, to)) = self.expires {
            list = list.expires_between(from, to);
        }
        if let Some(state) = self.state {
            list = list.state(state);
        }
        list
    }

    fn select(&self, record: &KeyRecord, now: Timestamp) -> bool {
        let begins = |beginning: &String| {
            let (label, beginning) = (record.label.to_lowercase(), beginning.to_lowercase());
            label.starts_with(&beginning)
        };
        self.owner
            .is_none_or(|owner| record.owner.as_deref() == Some(owner))
            && self.label.is_none_or(|label| record.label == label)
            && self.label_prefix.as_ref().is_none_or(begins)
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|beginning| record.id.as_str().starts_with(beginning))
            && self
                .expires
                .is_none_or(|(from, to)| record.expires.is_some_and(|end| from <= end && end < to))
            && self.state.is_none_or(|state| record.state_at(now) == state)
    }
}

/// Creates keys of all sorts.
async fn fill(manager: &ApiKeyManager, dice: &mut Dice, count: usize) {
    for _ in 0..count {
        let mut create = manager.create(*dice.pick(&LABELS).unwrap());
        if let Some(owner) = OWNERS[dice.below(4) as usize] {
            create = create.owner(owner);
        }
        if dice.percent(60) {
            create = create.expires_in(HOUR * (1 + dice.below(8)) as u32);
        }
        let id = create.await.unwrap().id();
        match dice.below(5) {
            0 => drop(manager.revoke(id).await.unwrap()),
            1 => manager.disable(id).await.unwrap(),
            _ => {}
        }
    }
}

/// Reads all pages of a list, whose number is bounded.
async fn follow(list: &ListKeys, size: u32) -> Vec<KeyRecord> {
    let (mut keys, mut after): (Vec<KeyRecord>, Option<ListCursor>) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = list.clone().page_size(size).after(after).await.unwrap();
        assert!(page.keys.len() <= size as usize && page.unreadable.is_empty());
        keys.extend(page.keys);
        // As a page has it in its URL.
        after = page.next.map(|next| next.to_string().parse().unwrap());
        if after.is_none() {
            return keys;
        }
    }
    panic!("the list does not end");
}

fn ids(keys: &[KeyRecord]) -> Vec<KeyId> {
    keys.iter().map(|record| record.id).collect()
}

#[actix_web::test]
async fn any_filters_together_select_what_each_of_them_does() {
    for (fleet, manager) in managers().await {
        let mut dice = Dice::new(13);
        fill(&manager, &mut dice, 120).await;
        let all = follow(&manager.list(), 50).await;
        assert_eq!(all.len(), 120, "{}", fleet.name);
        let created = |record: &KeyRecord| (record.created, record.id);
        assert!(all.is_sorted_by(|one, next| created(one) > created(next)));
        let (now, mut found) = (Timestamp::from(SystemTime::now()), 0);
        for round in 0..150 {
            let filters = Filters::drawn(&mut dice, &all, now);
            let mut expected = ids(&all);
            let selected = all.iter().filter(|record| filters.select(record, now));
            let selected: Vec<_> = selected.map(|record| record.id).collect();
            expected.retain(|id| selected.contains(id));
            let size = 1 + dice.below(60) as u32;
            let list = filters.set(manager.list());
            let mut listed = ids(&follow(&list, size).await);
            found += listed.len();
            listed.sort();
            expected.sort();
            assert_eq!(listed, expected, "{} {round} {filters:?}", fleet.name);
        }
        // Control: the filters select some keys, and not all.
        assert!((150..120 * 150).contains(&found), "{found}");
    }
}

#[actix_web::test]
async fn the_filter_of_the_index_sets_the_order() {
    for (fleet, manager) in managers().await {
        fill(&manager, &mut Dice::new(7), 60).await;
        let now = Timestamp::from(SystemTime::now());
        let later = now.checked_add(HOUR * 9).unwrap();
        let by_label = follow(&manager.list().label_prefix("ä"), 3).await;
        let folded = |record: &KeyRecord| (record.label.to_lowercase(), record.id);
        assert!(by_label.len() > 3);
        assert!(by_label.is_sorted_by_key(folded), "{}", fleet.name);
        let by_end = follow(&manager.list().expires_between(now, later), 7).await;
        assert!(by_end.len() > 7);
        assert!(by_end.is_sorted_by_key(|record| (record.expires, record.id)));
        let of_owner = manager.list().owner("acme").label_prefix("C");
        let of_owner = follow(&of_owner, 2).await;
        assert!(of_owner.len() > 2);
        assert!(
            of_owner.is_sorted_by(|one, next| { (one.created, one.id) > (next.created, next.id) })
        );
        let one = of_owner[0].id;
        let by_id = follow(&manager.list().id_prefix(&one.as_str()[..1]), 1).await;
        assert!(by_id.is_sorted_by_key(|record| record.id) && ids(&by_id).contains(&one));
        let exact = manager.list().id_prefix(one.as_str()).await.unwrap();
        assert_eq!(ids(&exact.keys), [one]);
    }
}

/// Counts the records that it was asked for.
#[derive(Debug, Default)]
struct Counted {
    inner: MemoryStore,
    rows: AtomicU32,
}

impl Forward for Counted {
    fn inner(&self) -> &dyn KeyStore {
        &self.inner
    }

    async fn list(&self, query: &ListQuery) -> Result<RecordPage, StoreError> {
        self.rows.fetch_add(query.limit, SeqCst);
        self.inner.list(query).await
    }
}

/// A rare state, and an exact label of which others are continuations.
#[actix_web::test]
async fn a_call_looks_at_a_thousand_records_at_most_and_says_how_to_continue() {
    let store = Arc::new(Forwarding(Counted::default()));
    let manager = manager_on(store.clone()).await;
    let rare = manager.create("c").owner("acme").await.unwrap().id();
    manager.disable(rare).await.unwrap();
    for number in 0..2_100 {
        let label = format!("c{}", number % 10);
        manager.create(label).owner("acme").await.unwrap();
    }
    for size in [1, 50, 1_000] {
        for list in [
            manager.list().state(KeyState::Disabled),
            manager.list().owner("acme").state(KeyState::Disabled),
            manager.list().label_prefix("C").state(KeyState::Disabled),
            manager.list().owner("acme").label("c"),
        ] {
            let (mut after, mut calls, mut found) = (None, 0, Vec::new());
            loop {
                store.0.rows.store(0, SeqCst);
                let page = list.clone().page_size(size).after(after).await.unwrap();
                let rows = store.0.rows.load(SeqCst);
                assert!(rows <= 1_000, "{list:?}: {rows}");
                calls += 1;
                found.extend(ids(&page.keys));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, [rare], "{list:?}");
            assert!((2..=4).contains(&calls), "{list:?}: {calls}");
        }
    }
    // Keys with exactly this label are the first of those that begin with it.
    let page = manager.list().label("c").await.unwrap();
    assert_eq!((ids(&page.keys), page.next), (vec![rare], None));
    // Control: without other filters, a page costs its own records.
    store.0.rows.store(0, SeqCst);
    let page = manager.list().owner("acme").page_size(50).await.unwrap();
    assert_eq!((page.keys.len(), store.0.rows.load(SeqCst)), (50, 50));
}

#[actix_web::test]
async fn a_cursor_of_another_range_is_an_error_that_says_what_to_do() {
    for (fleet, manager) in managers().await {
        fill(&manager, &mut Dice::new(3), 60).await;
        let now = Timestamp::from(SystemTime::now());
        let soon = now.checked_add(HOUR * 2).unwrap();
        let later = now.checked_add(HOUR * 9).unwrap();
        let list = || manager.list().page_size(1);
        let next = async |list: ListKeys| list.await.unwrap().next.unwrap();
        let all = next(list()).await;
        let label = next(list().label_prefix("c")).await;
        let end = next(list().expires_between(soon, later)).await;
        for (list, cursor) in [
            (list().label_prefix("c"), &all),
            (list(), &label),
            (list().owner("acme"), &label),
            (list().label_prefix("ä"), &label),
            (list().expires_between(now, soon), &end),
            (list().expires_between(soon, later), &all),
            (list().id_prefix("abc"), &all),
        ] {
            let page = list.after(cursor.clone()).await;
            let Err(Error::InvalidArgument(said)) = page else {
                panic!("{}: {page:?}", fleet.name);
            };
            assert!(said.contains("start again without a cursor"), "{said}");
        }
        // Controls: the same filters, and another order of setting them.
        next(list().label_prefix("c").after(label)).await;
        next(list().expires_between(soon, later).after(end)).await;
        let backward = manager.list().expires_between(later, soon).await;
        assert!(matches!(backward, Err(Error::InvalidArgument(_))));
    }
}

#[actix_web::test]
async fn a_page_has_the_last_uses_of_its_keys_and_the_live_keys_of_its_owner() {
    for (fleet, manager) in managers().await {
        let mut keys = Vec::new();
        for _ in 0..4 {
            keys.push(manager.create("a").owner("acme").await.unwrap());
        }
        manager.create("a").owner("globex").await.unwrap();
        manager.revoke(keys[3].id()).await.unwrap();
        manager.disable(keys[2].id()).await.unwrap();
        let before = Timestamp::from(SystemTime::now());
        for key in &keys[..2] {
            manager.verify(key.expose_secret()).await.unwrap();
        }
        let page = manager.list().owner("acme").with_usage().await.unwrap();
        assert_eq!(page.live_keys, Some(3), "{}", fleet.name);
        let mut used: Vec<_> = page.last_used.iter().map(|used| used.key).collect();
        used.sort();
        let mut expected = vec![keys[0].id(), keys[1].id()];
        expected.sort();
        assert_eq!(used, expected, "{}", fleet.name);
        assert!(page.last_used.iter().all(|used| used.at >= before));
        // Without an owner, live keys are not counted; and nothing is read unless asked for.
        let page = manager.list().with_usage().await.unwrap();
        assert_eq!((page.keys.len(), page.live_keys), (5, None));
        let page = manager.list().owner("acme").await.unwrap();
        assert_eq!((page.live_keys, page.last_used.len()), (None, 0));
    }
}

#[actix_web::test]
async fn unused_keys_are_those_that_were_neither_made_nor_used_since() {
    for (fleet, manager) in managers().await {
        let used = manager.create("used").await.unwrap();
        let unused = manager.create("unused").await.unwrap();
        manager.verify(used.expose_secret()).await.unwrap();
        let list = async |time: SystemTime| -> Vec<KeyId> {
            let page: KeyPage = manager.list().unused_since(time).await.unwrap();
            ids(&page.keys)
        };
        let past = SystemTime::now() - HOUR;
        assert_eq!(list(past).await, [], "{}", fleet.name);
        let future = SystemTime::now() + HOUR;
        assert_eq!(list(future).await.len(), 2);
        // Between the creation and the use: a second use, a moment later.
        let at = manager.get(unused.id()).await.unwrap().created;
        let between = at.checked_add(std::time::Duration::from_millis(2)).unwrap();
        while Timestamp::from(SystemTime::now()) <= between {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        manager.verify(used.expose_secret()).await.unwrap();
        let page = manager.list().unused_since(between).await.unwrap();
        assert_eq!(ids(&page.keys), [unused.id()], "{}", fleet.name);
    }
}

#[actix_web::test]
async fn a_store_without_usage_says_so() {
    let manager = manager_on(Arc::new(RecordsOnly::default())).await;
    manager.create("a").owner("acme").await.unwrap();
    for list in [
        manager.list().with_usage(),
        manager.list().unused_since(SystemTime::now()),
    ] {
        let page = list.await;
        assert!(matches!(page, Err(Error::Unsupported(_))), "{page:?}");
    }
    assert_eq!(manager.list().owner("acme").await.unwrap().keys.len(), 1);
}
