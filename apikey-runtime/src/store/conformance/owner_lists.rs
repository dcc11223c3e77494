//! Checks of lists of owners.

use std::sync::Arc;

use super::bulk::purge;
use super::owners::{leaving, owners, revoke_keys, suspend};
use super::records::add;
use super::samples::{at, owned};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::record::OwnerState;
use crate::store::{KeyStore, ListedOwner, OwnerPage, OwnerQuery, OwnerStore, WriteOptions};

/// Names in their order, byte by byte: capital letters come first, and what UTF-16 sorts before U+E000 comes last.
const NAMES: [&str; 16] = [
    "%",
    "A",
    "AB",
    "_",
    "a",
    "a b",
    "a%",
    "aB",
    "a_",
    "ab",
    "ab:1",
    "b",
    "e\u{301}",
    "\u{e9}",
    "\u{fffd}",
    "\u{10ffff}",
];

/// More pages than a check lists.
const MAX_PAGES: usize = 100;

/// Adds a key of each owner, the last one first.
async fn add_owners(store: &dyn KeyStore) -> Result<(), Violation> {
    for (number, name) in (1..).zip(NAMES.iter().rev()) {
        add(store, &owned(number, name)).await?;
    }
    Ok(())
}

async fn page(owners: &dyn OwnerStore, query: &OwnerQuery) -> Result<OwnerPage, Violation> {
    let page = owners.list_owners(query).await;
    let page = page.or_violation("`list_owners` fails")?;
    ensure!(
        page.unreadable.is_empty(),
        "each owner must be readable; got {page:?}"
    );
    Ok(page)
}

/// Reads all pages of `limit` owners.
async fn pages(
    owners: &dyn OwnerStore,
    beginning: &str,
    limit: u32,
) -> Result<Vec<ListedOwner>, Violation> {
    let mut query = OwnerQuery::first(limit).starting_with(beginning);
    let mut listed = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = page(owners, &query).await?;
        ensure!(
            page.owners.len() <= limit as usize,
            "a page of {limit} owners must not have more; got {page:?}"
        );
        listed.extend(page.owners);
        if page.next.is_none() {
            return Ok(listed);
        }
        query = query.after(page.next);
    }
    Err(Violation("the pages of owners must end".to_owned()))
}

fn names(listed: &[ListedOwner]) -> Vec<&str> {
    listed.iter().map(|owner| owner.name.as_str()).collect()
}

pub(super) async fn owners_are_listed_in_the_order_of_their_names(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    let none = page(owners, &OwnerQuery::first(10)).await?;
    ensure!(
        none == OwnerPage::default(),
        "without a key there is not any owner; got {none:?}"
    );
    add_owners(store).await?;
    // Neither of these makes an owner.
    let taken = store.insert(&owned(1, "c"), &WriteOptions::new()).await;
    ensure!(taken.is_err(), "an insert of a used id must fail");
    for limit in [1, 2, 3, 15, 16, 17, 1_000] {
        let listed = pages(owners, "", limit).await?;
        ensure!(
            names(&listed) == NAMES,
            "owners must be listed once each, in the order of their bytes, in pages of {limit}; got {:?}",
            names(&listed)
        );
    }
    let first = page(owners, &OwnerQuery::first(0)).await?;
    ensure!(
        names(&first.owners) == NAMES[..1],
        "a limit of 0 must be taken for 1; got {first:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_listed_owner_has_its_state(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    for (number, name) in (1..).zip(["a", "b", "c"]) {
        let mut record = owned(number, name);
        record.expires = Some(at(10));
        add(store, &record).await?;
    }
    revoke_keys(owners, "a", &leaving(4_000, "left")).await?;
    suspend(owners, "b", true).await?;
    let changed = OwnerState::new().with_version(2);
    let states = [
        changed.with_revocations(1),
        changed.with_suspended(true),
        OwnerState::new(),
    ];
    // An owner outlives its keys.
    for is_purged in [false, true] {
        if is_purged {
            purge(store, at(i64::MAX)).await?;
        }
        let listed = pages(owners, "", 10).await?;
        let found: Vec<_> = listed.iter().map(|owner| owner.state).collect();
        ensure!(
            names(&listed) == ["a", "b", "c"] && found == states,
            "owners must be listed with their states, {states:?} (purged: {is_purged}); got {listed:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn owners_are_found_by_the_beginning_of_their_names(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add_owners(store).await?;
    let beginnings = [
        "a",
        "ab",
        "aB",
        "A",
        "a%",
        "a_",
        "_",
        "%",
        "a b",
        "abc",
        "e",
        "\u{e9}",
        "\u{fffd}",
        "\u{10ffff}",
        "*",
        "[a]",
    ];
    for beginning in beginnings {
        let expected: Vec<_> = NAMES
            .into_iter()
            .filter(|name| name.starts_with(beginning))
            .collect();
        for limit in [1, 2, 100] {
            let listed = pages(owners, beginning, limit).await?;
            ensure!(
                names(&listed) == expected,
                "owners that begin with {beginning:?} are {expected:?}, in pages of {limit}; got {:?}",
                names(&listed)
            );
        }
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_page_of_owners_starts_after_any_name(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let owners = owners!(store);
    add_owners(store).await?;
    for beginning in ["", "a"] {
        for after in [
            "",
            "A",
            "B",
            "Z",
            "a",
            "aZ",
            "a`",
            "abc",
            "b",
            "zz",
            "\u{10ffff}z",
        ] {
            let expected: Vec<_> = NAMES
                .into_iter()
                .filter(|name| name.starts_with(beginning) && *name > after)
                .collect();
            let query = OwnerQuery::first(100)
                .starting_with(beginning)
                .after(Some(after.to_owned()));
            let listed = page(owners, &query).await?;
            ensure!(
                names(&listed.owners) == expected && listed.next.is_none(),
                "owners after {after:?} that begin with {beginning:?} are {expected:?}; got {listed:?}"
            );
        }
    }
    // Owners that come between two pages do not move the others.
    let first = page(owners, &OwnerQuery::first(5)).await?;
    for (number, name) in (101..).zip(["0", "a!", "zz"]) {
        add(store, &owned(number, name)).await?;
    }
    let rest = page(owners, &OwnerQuery::first(100).after(first.next)).await?;
    let mut expected = [&NAMES[5..], &["a!", "zz"]].concat();
    expected.sort_unstable();
    ensure!(
        names(&rest.owners) == expected,
        "a second page must have the owners after the first, {expected:?}; got {rest:?}"
    );
    Ok(CheckVerdict::Passed)
}
