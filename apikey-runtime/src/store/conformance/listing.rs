//! Checks of `list`.

use std::sync::Arc;

use super::records::{add, written};
use super::samples::{full, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::key::KeyId;
use crate::store::{KeyStore, ListQuery, ListRange};

pub(super) async fn a_list_is_ordered_by_id_and_its_pages_are_complete(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let empty = store
        .list(&ListQuery::first(10))
        .await
        .or_violation("`list` of an empty store fails")?;
    ensure!(
        empty.records.is_empty() && empty.next.is_none(),
        "an empty store must list nothing; got {empty:?}"
    );
    // Ids that differ only in case, and the first and last of all.
    let numbers = [36, 10, u128::MAX, 35, 61, 0, 1 << 100];
    for number in numbers {
        add(store, &full(number)).await?;
    }
    // All are of one moment, so they are listed by id, from the last to the first.
    let mut expected: Vec<KeyId> = numbers.map(id).to_vec();
    expected.sort_unstable();
    expected.reverse();
    for limit in 1..=8 {
        let ids = follow(store, &ListQuery::first(limit)).await?;
        ensure!(
            ids == expected,
            "pages of {limit} must contain all records in order; got {ids:?}"
        );
    }
    let page = store
        .list(&ListQuery::first(7))
        .await
        .or_violation("`list` fails")?;
    ensure!(
        page.next.is_none(),
        "a page that ends with the last record must not have a `next`"
    );
    ensure!(
        page.records
            .into_iter()
            .map(written)
            .all(|record| record == full(record.id.to_u128())),
        "a list must return complete records"
    );
    let late = ListQuery::of(ListRange::Id("7".to_owned()), 10).after(Some(id(u128::MAX).into()));
    let page = store.list(&late).await.or_violation("`list` fails")?;
    ensure!(
        page.records.is_empty() && page.next.is_none(),
        "the page after the last id must be empty; got {page:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// Returns the ids on all pages of `query`.
async fn follow(store: &dyn KeyStore, query: &ListQuery) -> Result<Vec<KeyId>, Violation> {
    let mut query = query.clone();
    let mut ids = Vec::new();
    for _ in 0..100 {
        let page = store.list(&query).await.or_violation("`list` fails")?;
        let count = u32::try_from(page.records.len()).unwrap_or(u32::MAX);
        ensure!(
            count <= query.limit,
            "a page of {} must not hold {count} records",
            query.limit
        );
        ids.extend(page.records.iter().map(|record| record.id));
        if page.next.is_none() {
            return Ok(ids);
        }
        query.after = page.next;
    }
    Err(Violation("the pages of a list must end".to_owned()))
}

pub(super) async fn list_filters_match_whole_texts(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    for (number, owner) in (1..).zip(["ann", "Ann", "ann ", "an_", "a%", "ann"]) {
        add(store, &owned(number, owner)).await?;
    }
    add(store, &plain(8)).await?;
    let cases: [(&str, &[u128]); 6] = [
        ("ann", &[6, 1]),
        ("Ann", &[2]),
        ("an_", &[4]),
        ("a%", &[5]),
        ("%", &[]),
        ("", &[]),
    ];
    for (owner, expected) in cases {
        let expected: Vec<KeyId> = expected.iter().copied().map(id).collect();
        for limit in [1, 2, 100] {
            let query = ListQuery::of(ListRange::Owner(owner.to_owned()), limit);
            let ids = follow(store, &query).await?;
            ensure!(
                ids == expected,
                "{query:?} must find {expected:?}; got {ids:?}"
            );
        }
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_page_limit_out_of_bounds_is_clamped(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    for number in 1..=3 {
        add(store, &plain(number)).await?;
    }
    let page = store
        .list(&ListQuery::first(0))
        .await
        .or_violation("`list` with limit 0 fails")?;
    ensure!(
        page.records.len() == 1 && page.next.as_ref().is_some_and(|next| next.id == id(3)),
        "a limit of 0 must count as 1, because an empty page looks like the last; got {page:?}"
    );
    let page = store.list(&ListQuery::first(u32::MAX)).await;
    let page = page.or_violation("`list` with the largest limit fails")?;
    ensure!(
        page.records.len() == 3 && page.next.is_none(),
        "a large limit must return all records; got {page:?}"
    );
    Ok(CheckVerdict::Passed)
}
