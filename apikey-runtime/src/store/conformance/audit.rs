//! Checks of the audit log: which changes write an entry, and what is in it.

use std::sync::Arc;

use super::audit_pages::{audit, whole_log};
use super::conditions::expecting;
use super::fields::labelled;
use super::live_keys::at_most;
use super::owners::{leaving, mark_all, suspend, to_owner};
use super::records::add;
use super::samples::{at, because, full, id, named, owned, patches, plain};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::audit::{AuditAction, AuditEntry, ChangeOrigin, FieldChange};
use crate::clock::Timestamp;
use crate::record::{KeyPatch, KeyRecord, PreviousDigest};
use crate::store::{KeyStore, WriteOptions};

pub(super) fn with(origin: &ChangeOrigin) -> WriteOptions {
    WriteOptions::new().with_origin(origin.clone())
}

/// Returns the fields without those that are empty: a store may show an empty list, or leave it out.
fn shown(fields: &[FieldChange]) -> Vec<FieldChange> {
    let full = |value: &Option<serde_json::Value>| {
        let empty = |value: &serde_json::Value| {
            value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        value.clone().filter(|value| !empty(value))
    };
    fields
        .iter()
        .map(|change| {
            FieldChange::new(
                change.field.clone(),
                full(&change.before),
                full(&change.after),
            )
        })
        .filter(|change| change.before != change.after)
        .collect()
}

/// Returns the entry that a change from `before` to `after` writes, without its position and time.
pub(super) fn entry(
    action: AuditAction,
    origin: &ChangeOrigin,
    before: Option<&KeyRecord>,
    after: Option<&KeyRecord>,
) -> AuditEntry {
    let mut entry = AuditEntry::new("", Timestamp::MIN, action, origin.clone());
    let owner = |record: Option<&KeyRecord>| record.and_then(|record| record.owner.clone());
    entry.key = after.or(before).map(|record| record.id);
    entry.owner = owner(after.or(before));
    entry.former_owner = owner(before).filter(|former| Some(former) != entry.owner.as_ref());
    entry.fields = FieldChange::between(before, after);
    entry
}

/// Checks that exactly `expected` was written since the log had `known` entries, the oldest first.
pub(super) async fn ensure_written(
    store: &dyn KeyStore,
    known: &mut usize,
    expected: &[AuditEntry],
    what: &str,
) -> Result<(), Violation> {
    let mut log = whole_log(store).await?;
    log.reverse();
    let new = log.get(*known..).unwrap_or_default();
    *known = log.len();
    ensure!(
        new.len() == expected.len(),
        "{what} must write {} entries; got {new:?}",
        expected.len()
    );
    for (found, expected) in new.iter().zip(expected) {
        ensure!(
            found.at > at(1_500_000_000_000),
            "an entry must have the time of its change; got {found:?}"
        );
        let mut found = found.clone();
        let differs = [
            ("action", found.action == expected.action),
            ("key", found.key == expected.key),
            ("owner", found.owner == expected.owner),
            ("former_owner", found.former_owner == expected.former_owner),
            ("origin", found.origin == expected.origin),
            ("fields", shown(&found.fields) == shown(&expected.fields)),
        ];
        let differs = differs.iter().find(|(_, same)| !same);
        found.fields = shown(&found.fields);
        ensure!(
            differs.is_none(),
            "the entry of {what}: `{}` differs; found {found:?}, expected {expected:?}",
            differs.map_or("", |(name, _)| name)
        );
    }
    Ok(())
}

/// Inserts a record, applies each patch, revokes and purges, each with its own actor.
async fn live_through(
    store: &dyn KeyStore,
    known: &mut usize,
    mut record: KeyRecord,
    patches: Vec<(KeyPatch, AuditAction)>,
) -> Result<(), Violation> {
    let origin = named("creator");
    let insert = store.insert(&record, &with(&origin)).await;
    insert.or_violation("`insert` fails")?;
    let created = entry(AuditAction::Created, &origin, None, Some(&record));
    ensure_written(store, known, &[created], "an insert").await?;
    for (place, (patch, action)) in patches.into_iter().enumerate() {
        let origin = named(&format!("actor {place}"));
        let update = store.update(&record.id, &patch, &with(&origin)).await;
        update.or_violation("`update` fails")?;
        let before = record.clone();
        patch.apply(&mut record, None);
        let entry = entry(action, &origin, Some(&before), Some(&record));
        let what = format!("{patch:?} of {before:?}");
        ensure_written(store, known, &[entry], &what).await?;
    }
    let (before, origin) = (record.clone(), named("revoker"));
    let revoke = store
        .revoke(&record.id, &because("lost; it's"), &with(&origin))
        .await;
    revoke.or_violation("`revoke` fails")?;
    record.revoked = Some(because("lost; it's"));
    let revoked = entry(AuditAction::Revoked, &origin, Some(&before), Some(&record));
    ensure_written(store, known, &[revoked], "a revocation").await?;
    let origin = named("purger");
    let step = store.purge(at(3_001), None, &origin).await;
    step.or_violation("`purge` fails")?;
    let purged = entry(AuditAction::Purged, &origin, Some(&record), None);
    ensure_written(store, known, &[purged], "a removal").await
}

/// Returns changes of a record, and what each does.
fn cases() -> Vec<(KeyPatch, AuditAction)> {
    let new = KeyPatch::new;
    let with_enabled = |enabled| KeyPatch {
        enabled: Some(enabled),
        ..new()
    };
    let with_digest = |digest: &str| KeyPatch {
        digest: Some(digest.to_owned()),
        ..new()
    };
    let with_time = |patch, millis| KeyPatch {
        enabled_at: Some(at(millis)),
        ..patch
    };
    let both = KeyPatch {
        label: Some("re-enabled".to_owned()),
        ..with_enabled(true)
    };
    let rotated = KeyPatch {
        previous: Some(Some(PreviousDigest {
            digest: "sha256$01".to_owned(),
            until: at(9),
        })),
        ..with_digest("sha256$02")
    };
    let no_grace = KeyPatch {
        previous: Some(None),
        ..new()
    };
    vec![
        (with_enabled(false), AuditAction::Disabled),
        (with_enabled(false), AuditAction::Updated),
        (with_enabled(true), AuditAction::Enabled),
        (with_enabled(false), AuditAction::Disabled),
        (both, AuditAction::Updated),
        (with_time(with_enabled(true), 5), AuditAction::Enabled),
        (with_time(with_enabled(true), 5), AuditAction::Updated),
        (with_time(new(), 6), AuditAction::Enabled),
        (with_enabled(false), AuditAction::Disabled),
        (with_time(new(), 7), AuditAction::Updated),
        (with_time(with_enabled(true), 8), AuditAction::Enabled),
        (with_digest("sha256$01"), AuditAction::Rotated),
        (rotated, AuditAction::Rotated),
        (no_grace, AuditAction::Updated),
        (with_digest("sha256$02"), AuditAction::Updated),
        (to_owner(Some("b")), AuditAction::Updated),
        (to_owner(Some("b")), AuditAction::Updated),
        (to_owner(None), AuditAction::Updated),
        (to_owner(Some("a")), AuditAction::Updated),
        (KeyPatch::new(), AuditAction::Updated),
    ]
}

pub(super) async fn each_change_of_a_key_writes_an_entry(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let _ = audit!(store);
    let mut known = 0;
    live_through(store, &mut known, plain(1), cases()).await?;
    let mut record = full(2);
    (record.revoked, record.expires, record.enabled) = (None, None, true);
    let action = |patch: &KeyPatch| match (&patch.digest, patch.enabled, &patch.label) {
        (Some(_), ..) => AuditAction::Rotated,
        (_, Some(false), _) => AuditAction::Disabled,
        (_, Some(true), None) => AuditAction::Enabled,
        _ => AuditAction::Updated,
    };
    let cases = patches().into_iter().map(|patch| {
        let action = action(&patch);
        (patch, action)
    });
    live_through(store, &mut known, record, cases.collect()).await?;
    // Of several keys of an owner, one entry each.
    let [first, second] = [3, 4].map(|number| owned(number, "c"));
    add(store, &first).await?;
    add(store, &second).await?;
    known += 2;
    let origin = named("revoker");
    let step = store
        .revoke_owner("c", &because("left"), None, &origin)
        .await;
    step.or_violation("`revoke_owner` fails")?;
    let mut log = whole_log(store).await?;
    log.truncate(2);
    log.sort_by_key(|entry| entry.key);
    for (entry, key) in log.iter().zip([3, 4]) {
        ensure!(
            entry.action == AuditAction::Revoked
                && entry.key == Some(id(key))
                && entry.origin == origin,
            "each key that a step revokes must write an entry with its origin; got {log:?}"
        );
    }
    ensure!(
        whole_log(store).await?.len() == known + 2,
        "a step that revokes 2 keys must write 2 entries"
    );
    Ok(CheckVerdict::Passed)
}

/// Returns the entry of a change of the owner `a`.
fn of_owner(action: AuditAction, origin: &ChangeOrigin, fields: Vec<FieldChange>) -> AuditEntry {
    let mut entry = AuditEntry::new("", Timestamp::MIN, action, origin.clone());
    entry.owner = Some("a".to_owned());
    entry.fields = fields;
    entry
}

pub(super) async fn each_change_of_an_owner_writes_an_entry(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let (_, owners) = (audit!(store), super::owners::owners!(store));
    let mut known = 0;
    let created = [1, 2].map(|number| {
        let (origin, record) = (ChangeOrigin::new(), owned(number, "a"));
        entry(AuditAction::Created, &origin, None, Some(&record))
    });
    for number in [1, 2] {
        add(store, &owned(number, "a")).await?;
    }
    let what = "an owner's first key and another";
    ensure_written(store, &mut known, &created, what).await?;
    for (revocations, suspended) in [(1_u64, true), (2, false)] {
        let origin = named(&format!("revoker {revocations}"));
        let revoke = owners
            .revoke_owner_keys("a", &leaving(4_000, "left"), &origin)
            .await;
        revoke.or_violation("`revoke_owner_keys` fails")?;
        let numbers = [revocations - 1, revocations].map(|number| Some(number.into()));
        let [before, after] = numbers;
        let field = FieldChange::new("revocations", before, after);
        let entry = of_owner(AuditAction::OwnerRevoked, &origin, vec![field]);
        ensure_written(store, &mut known, &[entry], "a revocation of all keys").await?;
        mark_all(owners).await?;
        ensure_written(store, &mut known, &[], "marking").await?;
        let origin = named(&format!("suspender {revocations}"));
        let change = owners.set_owner_suspended("a", suspended, &origin).await;
        change.or_violation("`set_owner_suspended` fails")?;
        let [before, after] = [!suspended, suspended].map(|flag| Some(flag.into()));
        let field = FieldChange::new("suspended", before, after);
        let action = match suspended {
            true => AuditAction::OwnerSuspended,
            false => AuditAction::OwnerResumed,
        };
        let entry = of_owner(action, &origin, vec![field]);
        ensure_written(store, &mut known, &[entry], "a change of `suspended`").await?;
    }
    let origin = named("purger");
    let step = store.purge(at(4_001), None, &origin).await;
    step.or_violation("`purge` fails")?;
    let mut log = whole_log(store).await?;
    log.truncate(2);
    ensure!(
        log.iter().all(|entry| entry.action == AuditAction::Purged
            && entry.owner.as_deref() == Some("a")
            && entry.origin == origin),
        "each key that a step removes must write an entry with its origin; got {log:?}"
    );
    Ok(CheckVerdict::Passed)
}

pub(super) async fn what_changes_nothing_writes_no_entry(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let _ = audit!(store);
    add(store, &owned(1, "a")).await?;
    let lost = store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await;
    lost.or_violation("`revoke` fails")?;
    add(store, &owned(2, "a")).await?;
    let before = whole_log(store).await?;
    let _ = store.insert(&plain(1), &with(&named("late"))).await;
    let again = with(&named("again"));
    let _ = store.revoke(&id(1), &because("again"), &again).await;
    for options in [expecting("b", None), expecting("a", Some(9))] {
        let _ = store.update(&id(2), &labelled("x"), &options).await;
        let _ = store.revoke(&id(2), &because("x"), &options).await;
        let _ = store.update(&id(9), &labelled("x"), &options).await;
        let _ = store.revoke(&id(9), &because("x"), &options).await;
    }
    let _ = store.insert(&owned(3, "a"), &at_most(1)).await;
    let none = store.purge(at(1), None, &named("purger")).await;
    none.or_violation("`purge` fails")?;
    let none = store
        .revoke_owner("b", &because("x"), None, &named("revoker"))
        .await;
    none.or_violation("`revoke_owner` fails")?;
    if let Some(owners) = store.owners() {
        suspend(owners, "a", false).await?;
        let origin = named("late");
        let _ = owners.set_owner_suspended("x", true, &origin).await;
        let left = leaving(4_000, "left");
        let _ = owners.revoke_owner_keys("x", &left, &origin).await;
        mark_all(owners).await?;
    }
    let after = whole_log(store).await?;
    ensure!(
        after == before,
        "a call that fails or changes nothing must not write an entry; got {:?}",
        after.iter().find(|entry| !before.contains(entry))
    );
    Ok(CheckVerdict::Passed)
}
