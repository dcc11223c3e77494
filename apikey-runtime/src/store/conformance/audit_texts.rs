//! Checks of what entries of the audit log say of the origin of a change, and that they hold no digest.

use std::sync::Arc;

use super::audit::{ensure_written, entry, with};
use super::audit_pages::{audit, log_of, whole_log};
use super::owners::to_owner;
use super::records::add;
use super::samples::{ODD_TEXTS, at, because, id, named, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, ensure};
use crate::audit::{AuditAction, ChangeChannel, ChangeOrigin};
use crate::record::{KeyPatch, PreviousDigest};
use crate::store::{AuditQuery, KeyStore, WriteOptions};

pub(super) async fn an_entry_has_what_the_origin_has(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let _ = audit!(store);
    let mut known = 0;
    let new = ChangeOrigin::new;
    let channels = [
        ChangeChannel::Code,
        ChangeChannel::Page,
        ChangeChannel::Api,
        ChangeChannel::CommandLine,
        ChangeChannel::LeakReport,
        ChangeChannel::Import,
    ];
    let mut origins: Vec<_> = channels
        .iter()
        .map(|channel| new().with_channel(*channel))
        .collect();
    for address in ["127.0.0.1", "::", "2001:db8::7", "::ffff:192.0.2.7"] {
        let address = address.parse().ok();
        origins.extend(address.map(|address| new().with_address(address)));
    }
    // The last names nothing: what the one before named must be gone.
    origins.extend([
        new().with_actor("ann"),
        new().with_request_id("r".repeat(64)),
        new().with_reason("why"),
        named("ann"),
        new(),
    ]);
    for (number, origin) in (1..).zip(origins) {
        let record = plain(number);
        let insert = store.insert(&record, &with(&origin)).await;
        insert.or_violation("`insert` fails")?;
        let created = entry(AuditAction::Created, &origin, None, Some(&record));
        ensure_written(store, &mut known, &[created], "an insert").await?;
    }
    Ok(CheckVerdict::Passed)
}

/// Repeats a text to 200 characters, or to the 256 bytes that a manager accepts.
fn lengthened(text: &str) -> String {
    let mut long = String::new();
    for character in text.chars().cycle().take(200) {
        if long.len() + character.len_utf8() <= 256 {
            long.push(character);
        }
    }
    long
}

pub(super) async fn hostile_texts_read_back_from_the_audit_log(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let _ = audit!(store);
    let texts = ODD_TEXTS.iter().filter(|text| !text.is_empty());
    let texts: Vec<String> = texts.map(|text| lengthened(text)).collect();
    let mut known = 0;
    for (number, text) in (1..).zip(&texts) {
        let origin = ChangeOrigin::new().with_actor(text).with_reason(text);
        let mut record = owned(number, text);
        record.label.clone_from(text);
        record.description = Some(text.clone());
        record.created_by = Some(text.clone());
        record.metadata.insert(text.clone(), text.clone().into());
        let insert = store.insert(&record, &with(&origin)).await;
        insert.or_violation("`insert` fails")?;
        let created = entry(AuditAction::Created, &origin, None, Some(&record));
        let mut entries = vec![created];
        let before = record.clone();
        let patch = KeyPatch {
            label: Some(format!("{text}.")),
            ..to_owner(Some("another"))
        };
        let update = store.update(&record.id, &patch, &with(&origin)).await;
        update.or_violation("`update` fails")?;
        patch.apply(&mut record, None);
        let updated = entry(AuditAction::Updated, &origin, Some(&before), Some(&record));
        entries.push(updated);
        ensure_written(store, &mut known, &entries, &format!("{text:?}")).await?;
    }
    for (number, text) in (1..).zip(&texts) {
        let mut of_owner = AuditQuery::newest(10);
        of_owner.owner = Some(text.clone());
        let mut of_actor = AuditQuery::newest(10);
        of_actor.actor = Some(text.clone());
        for query in [of_owner, of_actor] {
            let found = log_of(store, &query).await?;
            ensure!(
                found.len() == 2 && found.iter().all(|entry| entry.key == Some(id(number))),
                "{query:?} must find the 2 entries of its own text; got {found:?}"
            );
        }
    }
    Ok(CheckVerdict::Passed)
}

/// Neither a digest nor its part, of any change.
pub(super) async fn the_audit_log_holds_no_digest(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let _ = audit!(store);
    let digest = |digit: &str| format!("sha256${}", digit.repeat(64));
    let mut record = owned(1, "a");
    record.digest = digest("c");
    record.previous = Some(PreviousDigest {
        digest: digest("d"),
        until: at(7),
    });
    add(store, &record).await?;
    let patch = KeyPatch {
        digest: Some(digest("e")),
        previous: Some(Some(PreviousDigest {
            digest: digest("c"),
            until: at(8),
        })),
        ..KeyPatch::new()
    };
    let update = store.update(&id(1), &patch, &WriteOptions::new()).await;
    update.or_violation("`update` fails")?;
    let lost = store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await;
    lost.or_violation("`revoke` fails")?;
    let step = store.purge(at(4_000), None, &ChangeOrigin::new()).await;
    step.or_violation("`purge` fails")?;
    let log = whole_log(store).await?;
    ensure!(
        log.len() == 4,
        "4 changes must write 4 entries; got {log:?}"
    );
    for entry in log {
        let text = format!("{entry:?}");
        let digests = ["cccc", "dddd", "eeee", "sha256", "digest"];
        ensure!(
            digests.iter().all(|digest| !text.contains(digest)),
            "an entry must not hold a digest; got {text}"
        );
    }
    Ok(CheckVerdict::Passed)
}
