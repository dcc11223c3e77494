//! The content of a store that is copied.

use std::time::Duration;

use super::samples::{ODD_TEXTS, at, because, full, id, named, owned, plain};
use super::{OrViolation, Violation, ensure};
use crate::denied::DenyReason;
use crate::limit::{Quota, Rate};
use crate::record::{KeyPatch, KeyRecord, OwnerRevocation, PreviousDigest};
use crate::store::{
    AuditQuery, Charge, CopyItems, CopyOutcome, CopySection, KeyStore, LimitCounter, LimitSupport,
    ListQuery, NetworkUse, NodeId, Outcome, OwnerQuery, SecretUse, StoreCopy, UsageBatch,
    UsageQuery, UsageRow, WriteOptions,
};

/// The content of a store.
#[derive(Debug, PartialEq)]
pub(super) struct Everything {
    pub(super) sections: Vec<(CopySection, CopyItems)>,
}

/// Reads all sections in pages of `limit` items.
pub(super) async fn content(source: &dyn StoreCopy, limit: u32) -> Result<Everything, Violation> {
    let mut sections = Vec::new();
    for section in CopySection::ALL {
        let mut all = None;
        let mut after = None;
        loop {
            let page = source.read_copy(section, after.as_deref(), limit).await;
            let page = page.or_violation("`read_copy` fails")?;
            ensure!(
                page.items.len() <= limit.max(1) as usize && page.unreadable.is_empty(),
                "a page of {section} must have {limit} items at most, which can be read; found {page:?}"
            );
            match &mut all {
                Some(all) => extend(all, page.items)?,
                None => all = Some(page.items),
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let all = all.or_violation("a section must have a page")?;
        sections.push((section, all));
    }
    Ok(Everything { sections })
}

fn extend(all: &mut CopyItems, more: CopyItems) -> Result<(), Violation> {
    match (all, more) {
        (CopyItems::Owners(all), CopyItems::Owners(more)) => all.extend(more),
        (CopyItems::Keys(all), CopyItems::Keys(more)) => all.extend(more),
        (CopyItems::SharedSecrets(all), CopyItems::SharedSecrets(more)) => all.extend(more),
        (CopyItems::LimitCounters(all), CopyItems::LimitCounters(more)) => all.extend(more),
        (CopyItems::Usage(all), CopyItems::Usage(more)) => all.extend(more),
        (CopyItems::SecretUses(all), CopyItems::SecretUses(more)) => all.extend(more),
        (CopyItems::Networks(all), CopyItems::Networks(more)) => all.extend(more),
        (CopyItems::Audit(all), CopyItems::Audit(more)) => all.extend(more),
        (_, more) => {
            let section = more.section();
            return Err(Violation(format!(
                "a page is one of {section} in place of another section"
            )));
        }
    }
    Ok(())
}

/// Copies all sections in pages of `limit` items.
pub(super) async fn copy(
    source: &dyn StoreCopy,
    target: &dyn StoreCopy,
    limit: u32,
) -> Result<CopyOutcome, Violation> {
    let mut outcome = CopyOutcome::default();
    for section in CopySection::ALL {
        let mut after = None;
        loop {
            let page = source.read_copy(section, after.as_deref(), limit).await;
            let page = page.or_violation("`read_copy` fails")?;
            let written = target.write_copy(&page.items).await;
            outcome.add(written.or_violation(&format!("`write_copy` fails for {section}"))?);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(outcome)
}

impl Everything {
    /// Returns whether the store keeps what the section has.
    pub(super) fn keeps(store: &dyn KeyStore, section: CopySection) -> bool {
        match section {
            CopySection::Owners => store.owners().is_some(),
            CopySection::Keys => true,
            CopySection::SharedSecrets => store.shared_secrets().is_some(),
            CopySection::LimitCounters => store.limits().is_some(),
            CopySection::Usage | CopySection::SecretUses => store.usage().is_some(),
            CopySection::Networks => false,
            CopySection::Audit => store.audit().is_some(),
        }
    }

    pub(super) fn ensure_equals(&self, expected: &Self, rule: &str) -> Result<(), Violation> {
        for ((section, found), (_, expected)) in self.sections.iter().zip(&expected.sections) {
            ensure!(
                found == expected,
                "{rule}: {section} has {found:?} in place of {expected:?}"
            );
        }
        Ok(())
    }

    /// Checks that both stores answer the same.
    pub(super) async fn ensure_reads(
        store: &dyn KeyStore,
        other: &dyn KeyStore,
    ) -> Result<(), Violation> {
        let records = async |store: &dyn KeyStore| {
            let page = store.list(&ListQuery::first(1_000)).await;
            Ok::<_, Violation>(page.or_violation("`list` fails")?.records)
        };
        let records = [records(store).await?, records(other).await?];
        let [expected, found] = &records;
        ensure!(
            found == expected,
            "records that were copied must read back; found {found:?} in place of {expected:?}"
        );
        let keys: Vec<_> = records[0].iter().map(|record| record.id).collect();
        let answers = [answers(store, &keys).await?, answers(other, &keys).await?];
        let [expected, found] = &answers;
        ensure!(
            found == expected,
            "what was copied must read back; found {found:?} in place of {expected:?}"
        );
        Ok(())
    }
}

/// Returns what the store answers, as a text. A charge is the last of them, since it changes a counter.
async fn answers(store: &dyn KeyStore, keys: &[crate::key::KeyId]) -> Result<String, Violation> {
    let mut answers = Vec::new();
    if let Some(owners) = store.owners() {
        let page = owners.list_owners(&OwnerQuery::first(1_000)).await;
        let page = page.or_violation("`list_owners` fails")?;
        answers.push(format!("{page:?}"));
    }
    if let Some(secrets) = store.shared_secrets() {
        for name in SECRETS {
            let secret = secrets.shared_secret(name, [9; 32]).await;
            let secret = secret.or_violation("`shared_secret` fails")?;
            answers.push(format!("{secret:?}"));
        }
    }
    if let Some(usage) = store.usage() {
        let query = UsageQuery::new(keys.to_vec(), i64::MIN, i64::MAX);
        let mut rows = usage
            .read_usage(&query)
            .await
            .or_violation("`read_usage` fails")?;
        rows.sort_by_cached_key(|row| format!("{row:?}"));
        let mut last = usage
            .last_used(keys)
            .await
            .or_violation("`last_used` fails")?;
        last.sort_by_key(|used| used.key);
        let mut networks = usage
            .read_networks(keys)
            .await
            .or_violation("`read_networks` fails")?;
        networks.sort_by_cached_key(|used| format!("{used:?}"));
        answers.push(format!("{rows:?} {last:?} {networks:?}"));
    }
    if let Some(audit) = store.audit() {
        let page = audit.read_audit(&AuditQuery::newest(1_000)).await;
        let mut entries = page.or_violation("`read_audit` fails")?.entries;
        entries.iter_mut().for_each(|entry| entry.position.clear());
        answers.push(format!("{entries:?}"));
    }
    if let Some(limits) = store.limits() {
        for cost in [0, 1] {
            let charge = Charge::new(id(2), cost, quotas());
            let charged = limits
                .charge(&charge)
                .await
                .or_violation("`charge` fails")?;
            let remaining: Vec<_> = charged.decisions.iter().map(|one| one.remaining).collect();
            answers.push(format!("{} {remaining:?}", charged.allowed));
        }
    }
    Ok(answers.join("\n"))
}

const SECRETS: [&str; 5] = ["a", "B", "a.b", "form:key", "0"];

/// Returns limits that are not restored while a check runs.
pub(super) fn quotas() -> Vec<LimitCounter> {
    let year = Duration::from_hours(24 * 365);
    vec![
        LimitCounter::new("life 'time'", Quota::lifetime(50)),
        LimitCounter::new("rolling", Quota::rolling(40, year)),
        LimitCounter::new("zo\u{eb}", Quota::per_month(30)),
    ]
}

/// Writes something of all that a store keeps.
pub(super) async fn fill(store: &dyn KeyStore) -> Result<(), Violation> {
    fill_keys(store).await?;
    fill_owners(store).await?;
    if let Some(secrets) = store.shared_secrets() {
        for (first, name) in (0..).zip(SECRETS) {
            let secret = secrets.shared_secret(name, [first; 32]).await;
            secret.or_violation("`shared_secret` fails")?;
        }
    }
    if let Some(limits) = store.limits() {
        let mut counters = quotas();
        if limits.support() == LimitSupport::All {
            counters.push(LimitCounter::new("rate", Rate::per_minute(60)));
        }
        for (key, cost) in [(2, 3), (3, 1), (2, 4)] {
            let charge = Charge::new(id(key), cost, counters.clone());
            limits
                .charge(&charge)
                .await
                .or_violation("`charge` fails")?;
        }
    }
    fill_usage(store).await
}

async fn fill_keys(store: &dyn KeyStore) -> Result<(), Violation> {
    let insert = async |record: KeyRecord| {
        let options = WriteOptions::new().with_origin(named("ann"));
        store
            .insert(&record, &options)
            .await
            .or_violation("`insert` fails")
    };
    insert(full(1)).await?;
    for (number, text) in (2..).zip(ODD_TEXTS) {
        let mut record = plain(number);
        record.label = text.to_owned();
        record.description = Some(text.to_owned());
        insert(record).await?;
    }
    for (number, owner) in [
        (50, "o'wner"),
        (51, "o'wner"),
        (52, "zo\u{eb}"),
        (53, "b"),
        (54, "B"),
    ] {
        insert(owned(number, owner)).await?;
    }
    let options = WriteOptions::new().with_origin(named("ben"));
    for patch in patches() {
        for number in [2, 52] {
            let updated = store.update(&id(number), &patch, &options).await;
            updated.or_violation("`update` fails")?;
        }
    }
    let revoked = store.revoke(&id(3), &because("it's lost"), &options).await;
    revoked.or_violation("`revoke` fails")?;
    Ok(())
}

/// Returns a rotation, a change of `enabled` back and forth, and a change of owner.
fn patches() -> [KeyPatch; 4] {
    [
        KeyPatch {
            digest: Some("sha256$22".to_owned()),
            previous: Some(Some(PreviousDigest {
                digest: "sha256$00".to_owned(),
                until: at(i64::MAX),
            })),
            ..KeyPatch::new()
        },
        KeyPatch {
            enabled: Some(false),
            ..KeyPatch::new()
        },
        KeyPatch {
            enabled: Some(true),
            enabled_at: Some(at(700)),
            expires: Some(Some(at(9_000))),
            ..KeyPatch::new()
        },
        KeyPatch {
            owner: Some(Some("given away".to_owned())),
            ..KeyPatch::new()
        },
    ]
}

/// Revokes the keys of an owner, which are not marked, and then adds one; suspends two others, and resumes one of them.
async fn fill_owners(store: &dyn KeyStore) -> Result<(), Violation> {
    let Some(owners) = store.owners() else {
        return Ok(());
    };
    let origin = named("carl");
    for reason in ["left", "left again"] {
        let revocation = OwnerRevocation::new(at(4_000)).with_reason(Some(reason.to_owned()));
        let revoked = owners
            .revoke_owner_keys("o'wner", &revocation, &origin)
            .await;
        revoked.or_violation("`revoke_owner_keys` fails")?;
    }
    let added = store
        .insert(&owned(60, "o'wner"), &WriteOptions::new())
        .await;
    added.or_violation("`insert` fails")?;
    for (owner, suspended) in [("b", true), ("B", true), ("B", false)] {
        let set = owners.set_owner_suspended(owner, suspended, &origin).await;
        set.or_violation("`set_owner_suspended` fails")?;
    }
    Ok(())
}

async fn fill_usage(store: &dyn KeyStore) -> Result<(), Violation> {
    let Some(usage) = store.usage() else {
        return Ok(());
    };
    let now = crate::clock::SystemClock::new();
    let now = crate::clock::Clock::read(&now).now;
    let hour = now.as_millis().div_euclid(3_600_000);
    let mut batch = UsageBatch::new(NodeId::from_u128(1), 1, Duration::from_hours(24 * 90));
    for key in [2, 52, 60] {
        for (ago, route) in [(30, "/b/{id}"), (1, "/a"), (0, "/a"), (0, "/zo\u{eb}'\"")] {
            for outcome in [Outcome::Allowed, Outcome::Denied(DenyReason::Expired)] {
                let mut row = UsageRow::new(id(key), route, hour - ago, outcome);
                (row.requests, row.cost) = (1 << 40, 7);
                batch.rows.push(row);
            }
        }
        for rotations in [0, 1] {
            let network = "192.0.2.0/24".parse().ok().filter(|_| rotations == 1);
            let used = SecretUse::new(id(key), rotations, now, network);
            batch.last_used.push(used);
        }
        for network in ["192.0.2.0/24", "2001:db8::/48", "10.0.0.0/24"] {
            let network = network.parse().ok();
            batch
                .networks
                .extend(network.map(|network| NetworkUse::new(id(key), network, now)));
        }
    }
    usage
        .add_usage(&batch)
        .await
        .or_violation("`add_usage` fails")
}
