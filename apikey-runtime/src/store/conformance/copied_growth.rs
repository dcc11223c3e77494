//! Checks of copying what grows while servers use a store, and long runs of the audit log.

use std::ops::Range;
use std::sync::Arc;

use super::audit_pages::NO_AUDIT;
use super::copied::{content, copy, fill, quotas};
use super::copying::{copying, write};
use super::last_use::{net, now};
use super::samples::{at, id, plain};
use super::usage::{NOT_KEPT, batch};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::audit::{AuditAction, AuditEntry, ChangeOrigin};
use crate::key::KeyId;
use crate::store::{
    Charge, CopiedEntry, CopyItems, CopyOutcome, CopySection, KeyStore, MAX_NETWORKS, NetworkUse,
    SecretUse, StoreCopy,
};

const GROWING: [CopySection; 4] = [
    CopySection::LimitCounters,
    CopySection::Usage,
    CopySection::SecretUses,
    CopySection::Networks,
];

/// The target is used after the first copy, and then the source is used more.
pub(super) async fn a_copy_keeps_what_has_grown_since(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    fill(&*store).await?;
    copy(source, target, 1_000).await?;
    grow(&*other, 1).await?;
    let expected = content(target, 1_000).await?;
    for _ in 0..2 {
        for section in GROWING {
            let page = read(source, section).await?;
            let grown = of_grown_key(&page);
            let outcome = write(target, &page).await?;
            ensure!(
                outcome.written == 0 && outcome.kept.len() == grown,
                "a copy of {section} must keep {grown} values that have grown in the target; got {outcome:?}"
            );
        }
        let found = content(target, 1_000).await?;
        found.ensure_equals(
            &expected,
            "a copy must not rewind what has grown in the target",
        )?;
    }
    for step in 1..=2 {
        grow(&*store, step).await?;
    }
    for section in GROWING {
        let page = read(source, section).await?;
        let grown = of_grown_key(&page) as u64;
        let outcome = write(target, &page).await?;
        let found = read(target, section).await?;
        ensure!(
            outcome.written == grown && outcome.kept.is_empty() && found == page,
            "a copy of {section} must write {grown} values that have grown more in the source; got {outcome:?}, found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// The key whose values grow.
fn grown_key() -> KeyId {
    id(2)
}

fn of_grown_key(items: &CopyItems) -> usize {
    let is_grown = |key: &KeyId| *key == grown_key();
    match items {
        CopyItems::LimitCounters(all) => {
            let is_charged = |name: &str| quotas().iter().any(|counter| counter.name() == name);
            let all = all.iter().filter(|one| is_charged(&one.name));
            all.filter(|one| is_grown(&one.key)).count()
        }
        CopyItems::Usage(all) => all.iter().filter(|one| is_grown(&one.key)).count(),
        CopyItems::SecretUses(all) => all.iter().filter(|one| is_grown(&one.key)).count(),
        CopyItems::Networks(all) => all.iter().filter(|one| is_grown(&one.key)).count(),
        _ => 0,
    }
}

/// Makes all values of a key larger or later, as servers do.
async fn grow(store: &dyn KeyStore, step: u64) -> Result<(), Violation> {
    let side = store
        .copying()
        .or_violation("`copying` must return the same answer at all times")?;
    if let Some(limits) = store.limits() {
        let charge = Charge::new(grown_key(), 1, quotas());
        let charged = limits.charge(&charge).await;
        charged.or_violation("`charge` fails")?;
    }
    let Some(usage) = store.usage() else {
        return Ok(());
    };
    let mut batch = batch(2, step, Vec::new());
    if let CopyItems::Usage(rows) = read(side, CopySection::Usage).await? {
        batch.rows = rows;
    }
    if let CopyItems::SecretUses(uses) = read(side, CopySection::SecretUses).await? {
        batch.last_used = uses;
    }
    if let CopyItems::Networks(uses) = read(side, CopySection::Networks).await? {
        batch.networks = uses;
    }
    batch.rows.retain(|row| row.key == grown_key());
    batch.last_used.retain(|used| used.key == grown_key());
    batch.networks.retain(|used| used.key == grown_key());
    for row in &mut batch.rows {
        (row.requests, row.cost) = (1, 1);
    }
    for used in &mut batch.last_used {
        used.at = at(used.at.as_millis() + 1);
    }
    for used in &mut batch.networks {
        used.at = at(used.at.as_millis() + 1);
    }
    usage
        .add_usage(&batch)
        .await
        .or_violation("`add_usage` fails")
}

async fn read(side: &dyn StoreCopy, section: CopySection) -> Result<CopyItems, Violation> {
    let page = side.read_copy(section, None, 1_000).await;
    Ok(page.or_violation("`read_copy` fails")?.items)
}

/// Writes items, and then again. Returns both outcomes and what is there afterwards.
async fn write_twice(
    target: &dyn StoreCopy,
    items: &CopyItems,
) -> Result<([CopyOutcome; 2], CopyItems), Violation> {
    let first = write(target, items).await?;
    let again = write(target, items).await?;
    let found = read(target, items.section()).await?;
    Ok(([first, again], found))
}

pub(super) async fn a_copy_has_the_latest_uses_of_a_key(store: Arc<dyn KeyStore>) -> CheckResult {
    let target = copying!(store);
    if store.usage().is_none() {
        return Ok(NOT_KEPT);
    }
    write(target, &CopyItems::Keys(vec![plain(1)])).await?;
    let now = now();
    let uses: Vec<_> = (0..5)
        .map(|number| SecretUse::new(id(1), number, at(now), None))
        .collect();
    let ([_, again], found) = write_twice(target, &CopyItems::SecretUses(uses.clone())).await?;
    ensure!(
        found == CopyItems::SecretUses(uses[3..].to_vec()),
        "a copy must keep the uses of the two latest secrets of a key; found {found:?}"
    );
    ensure!(
        again.written == 0 && again.unchanged == 2 && again.kept.len() == 3,
        "a page of uses that is written again must not change anything; got {again:?}"
    );
    let network = |number: u8| NetworkUse::new(id(1), net(number), at(now + i64::from(number)));
    let networks: Vec<_> = (0..25).map(network).collect();
    let ([_, again], found) = write_twice(target, &CopyItems::Networks(networks.clone())).await?;
    let CopyItems::Networks(mut found) = found else {
        return Err(Violation(
            "a page of networks must have networks".to_owned(),
        ));
    };
    if found.is_empty() {
        return Ok(CheckVerdict::Passed);
    }
    found.sort_by_key(|used| used.at);
    ensure!(
        found == networks[25 - MAX_NETWORKS..],
        "a copy must keep the {MAX_NETWORKS} latest networks of a key; found {found:?}"
    );
    ensure!(
        again.written == 0 && again.unchanged == MAX_NETWORKS as u64 && again.kept.len() == 5,
        "a page of networks that is written again must not change anything; got {again:?}"
    );
    Ok(CheckVerdict::Passed)
}

/// More than a page holds.
const ENTRIES: u64 = 2_100;

/// Returns entries of one time.
fn entries(millis: i64, numbers: Range<u64>) -> CopyItems {
    let entry = |number: u64| {
        let mut entry = AuditEntry::new("", at(millis), AuditAction::Updated, ChangeOrigin::new());
        entry.key = Some(id(number.into()));
        CopiedEntry::new(number, entry)
    };
    CopyItems::Audit(numbers.map(entry).collect())
}

pub(super) async fn a_copy_has_all_audit_entries_of_one_time(
    store: Arc<dyn KeyStore>,
    other: Arc<dyn KeyStore>,
) -> CheckResult {
    let (source, target) = (copying!(store), copying!(other));
    if store.audit().is_none() || other.audit().is_none() {
        return Ok(NO_AUDIT);
    }
    for start in (0..ENTRIES).step_by(700) {
        write(source, &entries(5_000, start..start + 700)).await?;
    }
    write(source, &entries(6_000, 0..3)).await?;
    let expected = content(source, 1_000).await?;
    // A copy that was ended early.
    write(target, &entries(5_000, 0..1_000)).await?;
    write(target, &entries(5_000, 1_000..1_200)).await?;
    let outcome = copy(source, target, 1_000).await?;
    ensure!(
        outcome.unchanged == 1_200 && outcome.written == ENTRIES + 3 - 1_200,
        "a copy must write the entries that are missing; got {outcome:?}"
    );
    let found = content(target, 400).await?;
    found.ensure_equals(&expected, "a copy must have all entries of one time")?;
    for limit in [1_000, 300] {
        let again = copy(source, target, limit).await?;
        ensure!(
            again.written == 0 && again.kept.is_empty() && again.unchanged == ENTRIES + 3,
            "a copy of entries that is made again must not change anything; got {again:?}"
        );
    }
    // Between the entries of a page, the target has more of the first time than it reads at once.
    let (CopyItems::Audit(mut page), CopyItems::Audit(last)) =
        (entries(5_000, 0..1), entries(6_000, 0..3))
    else {
        return Err(Violation("a page of entries must have entries".to_owned()));
    };
    page.extend(last);
    let again = write(target, &CopyItems::Audit(page)).await?;
    ensure!(
        again.written == 0 && again.unchanged == 4,
        "entries of two times that are there must not be written again; got {again:?}"
    );
    Ok(CheckVerdict::Passed)
}
