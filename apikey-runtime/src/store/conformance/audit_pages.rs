//! Checks of how the audit log is read and pruned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::bulk::{KEYS, add_many};
use super::fields::labelled;
use super::live_keys::LATER;
use super::owners::{leaving, to_owner};
use super::records::{add, all};
use super::samples::{at, because, id, named, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::audit::{AuditAction, AuditEntry, ChangeOrigin};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::store::{AuditPage, AuditQuery, AuditStore, KeyStore, WriteOptions};

/// More pages or steps than the few entries of a check can need.
const MAX_PAGES: usize = 10_000;

pub(super) const NO_AUDIT: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep an audit log: `audit` returns `None`");

/// Returns the audit log, or skips the check if the store does not have it.
macro_rules! audit {
    ($store:expr) => {
        match $store.audit() {
            Some(audit) => audit,
            None => return Ok($crate::store::conformance::audit_pages::NO_AUDIT),
        }
    };
}
pub(super) use audit;

/// Reads a page, which must match its query.
async fn page(audit: &dyn AuditStore, query: &AuditQuery) -> Result<AuditPage, Violation> {
    let page = audit.read_audit(query).await;
    let page = page.or_violation(&format!("`read_audit` fails for {query:?}"))?;
    ensure!(
        page.entries.len() <= query.limit.clamp(1, 1_000) as usize,
        "a page of {} must not hold {} entries",
        query.limit,
        page.entries.len()
    );
    let wrong = page.entries.iter().find(|entry| !query.matches(entry));
    ensure!(
        wrong.is_none(),
        "a page must hold what {query:?} selects; got {wrong:?}"
    );
    let sorted = page.entries.is_sorted_by(|a, b| a.position > b.position);
    ensure!(
        sorted,
        "a page must have the newest entry first; got {page:?}"
    );
    if let Some(next) = &page.next {
        let last = page.entries.last().map(|last| &last.position);
        ensure!(
            last.is_none_or(|last| next <= last)
                && query.before.as_ref().is_none_or(|before| next < before),
            "the `next` of {query:?} must be after the page; got {next:?}"
        );
    }
    Ok(page)
}

/// Returns the entries on all pages of `query`, the newest first.
pub(super) async fn log_of(
    store: &dyn KeyStore,
    query: &AuditQuery,
) -> Result<Vec<AuditEntry>, Violation> {
    let audit = store.audit().or_violation("`audit` must not change")?;
    let (mut query, mut entries) = (query.clone(), Vec::new());
    for _ in 0..MAX_PAGES {
        let page = page(audit, &query).await?;
        entries.extend(page.entries);
        if page.next.is_none() {
            return Ok(entries);
        }
        query.before = page.next;
    }
    Err(Violation("the pages of the audit log must end".to_owned()))
}

/// Returns the whole log, the newest entry first.
pub(super) async fn whole_log(store: &dyn KeyStore) -> Result<Vec<AuditEntry>, Violation> {
    log_of(store, &AuditQuery::newest(1_000)).await
}

/// Makes changes of several keys and owners by several actors.
async fn make_changes(store: &dyn KeyStore) -> Result<(), Violation> {
    let by = |actor: Option<&str>| {
        let origin = actor.map_or_else(ChangeOrigin::new, named);
        WriteOptions::new().with_origin(origin)
    };
    let owners = [Some("a"), Some("b"), None, Some("A"), Some("a"), Some("")];
    let actors = [Some("x"), None, Some("y"), Some("X")];
    for (number, owner) in (1..).zip(owners) {
        let mut record = plain(number);
        record.owner = owner.map(str::to_owned);
        let options = by(actors[number as usize % 4]);
        let insert = store.insert(&record, &options).await;
        insert.or_violation("`insert` fails")?;
    }
    for (number, owner) in [(1, Some("b")), (2, None), (3, Some("a")), (1, Some("a"))] {
        let options = by(actors[number as usize % 3]);
        let update = store.update(&id(number), &to_owner(owner), &options).await;
        update.or_violation("`update` fails")?;
    }
    let revoke = store.revoke(&id(5), &because("x"), &by(Some("x"))).await;
    revoke.or_violation("`revoke` fails")?;
    if let Some(owners) = store.owners() {
        for (owner, actor) in [("a", "x"), ("b", "y")] {
            let left = leaving(4_000, "left");
            let revoke = owners.revoke_owner_keys(owner, &left, &named(actor)).await;
            revoke.or_violation("`revoke_owner_keys` fails")?;
        }
    }
    let purge = store.purge(at(3_001), None, &named("y")).await;
    purge.or_violation("`purge` fails").map(drop)
}

pub(super) async fn the_audit_log_is_read_by_key_owner_actor_and_time(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let audit = audit!(store);
    let none = whole_log(store).await?;
    ensure!(none.is_empty(), "an empty store has no entry; got {none:?}");
    make_changes(store).await?;
    // So that the later changes have a later time.
    make_later_change(store, 100).await?;
    let log = whole_log(store).await?;
    let middle = &log[log.len() / 2];
    let text = |text: &str| Some(text.to_owned());
    let newest = log.first().map(|entry| entry.at);
    let times = [
        None,
        Some(middle.at),
        newest,
        Some(at(LATER)),
        Some(Timestamp::MIN),
    ];
    let mut queries = Vec::new();
    for key in [None, Some(id(1)), Some(id(5)), Some(id(9))] {
        for owner in [None, text("a"), text("b"), text(""), text("z")] {
            for actor in [None, text("x"), text("y"), text("z")] {
                for before in [None, Some(middle.position.clone())] {
                    let mut query = AuditQuery::newest(1_000);
                    (query.key, query.owner) = (key, owner.clone());
                    (query.actor, query.before) = (actor.clone(), before);
                    // Each combination has two of the times, which all pair up with one another.
                    let turn = queries.len();
                    query.from = times[turn % 5];
                    query.to = times[turn / 5 % 5];
                    let mut open = query.clone();
                    (open.from, open.to) = (None, None);
                    queries.extend([query, open]);
                }
            }
        }
    }
    for query in &queries {
        let found = log_of(store, query).await?;
        let expected = log.iter().filter(|entry| query.matches(entry));
        ensure!(
            found.iter().eq(expected),
            "{query:?} must find the entries that it selects; got {found:?} of {log:?}"
        );
    }
    for limit in [0, u32::MAX] {
        let page = page(audit, &AuditQuery::newest(limit)).await?;
        ensure!(
            !page.entries.is_empty(),
            "a limit of {limit} must be clamped to 1 to 1000; got {page:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// Inserts records until an entry has a later time than the newest has now. Returns how many.
async fn make_later_change(store: &dyn KeyStore, first: u128) -> Result<u128, Violation> {
    let newest = async || {
        let log = log_of_first(store).await?;
        Ok::<_, Violation>(log.first().map(|entry| entry.at))
    };
    let before = newest().await?;
    for number in 0..1_000 {
        add(store, &owned(first + number, "later")).await?;
        if newest().await? > before {
            return Ok(number + 1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(Violation(
        "the time of entries must be the store's".to_owned(),
    ))
}

/// Reads the newest entry.
async fn log_of_first(store: &dyn KeyStore) -> Result<Vec<AuditEntry>, Violation> {
    let audit = store.audit().or_violation("`audit` must not change")?;
    Ok(page(audit, &AuditQuery::newest(1)).await?.entries)
}

pub(super) async fn pages_of_the_audit_log_are_complete(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let audit = audit!(store);
    make_changes(store).await?;
    let log = whole_log(store).await?;
    let positions: BTreeSet<_> = log.iter().map(|entry| &entry.position).collect();
    ensure!(
        positions.len() == log.len(),
        "each entry must have its own position; got {log:?}"
    );
    let mut of_a = AuditQuery::newest(1);
    of_a.owner = Some("a".to_owned());
    let mut of_x = AuditQuery::newest(1);
    of_x.actor = Some("x".to_owned());
    for query in [AuditQuery::newest(1), of_a, of_x] {
        for limit in [1, 2, 3, 7] {
            let mut query = query.clone();
            query.limit = limit;
            let expected: Vec<_> = log.iter().filter(|entry| query.matches(entry)).collect();
            let found = log_of(store, &query).await?;
            ensure!(
                found.iter().eq(expected),
                "pages of {query:?} must hold each entry once; got {found:?}"
            );
        }
    }
    // Entries that are added meanwhile are on pages before.
    let mut query = AuditQuery::newest(3);
    let first = page(audit, &query).await?;
    make_later_change(store, 200).await?;
    query.before = first.next;
    let rest = log_of(store, &query).await?;
    let read: Vec<_> = first.entries.iter().chain(&rest).collect();
    ensure!(
        query.before.is_some() && read.into_iter().eq(&log),
        "entries that are added between two pages must not change the second; got {rest:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// The labels of the entries of one key follow one another, as its changes did.
pub(super) async fn racing_changes_write_one_entry_each(store: Arc<dyn KeyStore>) -> CheckResult {
    const CHANGES: usize = 10;
    let _ = audit!(store);
    let mut first = plain(1);
    first.label = "0".to_owned();
    add(&*store, &first).await?;
    let mut tasks = JoinSet::new();
    for writer in 1..=4_u128 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for change in 0..CHANGES {
                let label = format!("{writer} {change}");
                let origin = named(&label);
                let options = WriteOptions::new().with_origin(origin);
                let update = store.update(&id(1), &labelled(&label), &options).await;
                update.or_violation("`update` fails")?;
                add(&*store, &owned(writer * 100 + change as u128, "a")).await?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    let mut query = AuditQuery::newest(1_000);
    query.key = Some(id(1));
    let mut log = log_of(&*store, &query).await?;
    log.reverse();
    ensure!(
        log.len() == 4 * CHANGES + 1,
        "{} changes of a key must write an entry each; got {}",
        4 * CHANGES + 1,
        log.len()
    );
    let mut label = Some("0".into());
    for entry in &log[1..] {
        let change = entry.fields.first();
        let actor = entry.origin.actor.clone();
        ensure!(
            change.is_some_and(
                |change| change.before == label && change.after == actor.map(Into::into)
            ),
            "an entry must have what was before its change, and its own origin; the label was \
             {label:?}, got {entry:?}"
        );
        label = change.and_then(|change| change.after.clone());
    }
    let created: BTreeSet<Option<KeyId>> = whole_log(&*store)
        .await?
        .into_iter()
        .filter(|entry| entry.action == AuditAction::Created)
        .map(|entry| entry.key)
        .collect();
    ensure!(
        created.len() == 4 * CHANGES + 1,
        "each of {} inserts must write an entry; got {created:?}",
        4 * CHANGES + 1
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn pruning_removes_the_oldest_entries_only(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let audit = audit!(store);
    let prune = async |before: Timestamp| {
        let more = audit.prune_audit(before).await;
        more.or_violation("`prune_audit` fails")
    };
    add_many(&store).await?;
    let later = make_later_change(&*store, KEYS + 1).await?;
    let log = whole_log(&*store).await?;
    let count = KEYS + later;
    ensure!(
        log.len() as u128 == count,
        "{count} inserts must write an entry each; got {}",
        log.len()
    );
    for early in [Timestamp::MIN, at(0), log[log.len() - 1].at] {
        prune(early).await?;
        ensure!(
            whole_log(&*store).await? == log,
            "an entry from {early} must stay if older entries are removed"
        );
    }
    // One step, which is bounded.
    let newest = log[0].at;
    let more = prune(newest).await?;
    let left = whole_log(&*store).await?;
    ensure!(
        more && left.len() + 1_000 >= log.len() && left.len() < log.len(),
        "a step must remove 1 to 1000 entries, and say that more are left; {} of {} are left",
        left.len(),
        log.len()
    );
    ensure!(
        left == log[..left.len()],
        "a step must remove the oldest entries"
    );
    let mut steps = 0;
    while prune(newest).await? {
        steps += 1;
        ensure!(steps < MAX_PAGES, "the steps of `prune_audit` must end");
    }
    let expected: Vec<_> = log.iter().take_while(|entry| entry.at >= newest).collect();
    let left = whole_log(&*store).await?;
    ensure!(
        left.iter().eq(expected.iter().copied()),
        "the steps must remove all entries from before {newest}; left {left:?}"
    );
    // What was removed is not found in another way.
    let mut of_owner = AuditQuery::newest(1_000);
    of_owner.owner = Some("a".to_owned());
    let none = log_of(&*store, &of_owner).await?;
    ensure!(
        none.iter().all(|entry| left.contains(entry)),
        "a removed entry must not be found by owner; got {none:?}"
    );
    while prune(at(LATER)).await? {}
    let none = whole_log(&*store).await?;
    ensure!(
        none.is_empty(),
        "all entries must be removable; got {none:?}"
    );
    Ok(CheckVerdict::Passed)
}
