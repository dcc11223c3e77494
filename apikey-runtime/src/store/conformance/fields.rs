//! Checks of the columns that a store sets by itself: rotations, and who made a change.

use std::sync::Arc;

use super::records::{add, ensure_stored};
use super::samples::{at, because, id, owned, plain};
use super::{CheckResult, CheckVerdict, OrViolation, ensure, ensure_conflict};
use crate::audit::ChangeOrigin;
use crate::record::{KeyPatch, PreviousDigest};
use crate::store::{KeyStore, WriteOptions};

/// Returns options that name `actor`.
pub(super) fn by(actor: &str) -> WriteOptions {
    WriteOptions::new().with_origin(ChangeOrigin::new().with_actor(actor))
}

/// Returns a patch of the label.
pub(super) fn labelled(label: &str) -> KeyPatch {
    KeyPatch {
        label: Some(label.to_owned()),
        ..KeyPatch::new()
    }
}

pub(super) async fn a_changed_digest_counts_as_a_rotation(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let mut record = plain(1);
    record.rotations = 4;
    add(store, &record).await?;
    let digest = |digest: &str| KeyPatch {
        digest: Some(digest.to_owned()),
        ..KeyPatch::new()
    };
    let previous = KeyPatch {
        previous: Some(Some(PreviousDigest {
            digest: "sha256$01".to_owned(),
            until: at(7),
        })),
        ..KeyPatch::new()
    };
    for (patch, rotations) in [
        (digest("sha256$01"), 5),
        (digest("sha256$01"), 5),
        (previous, 5),
        (labelled("new"), 5),
        (digest("sha256$00"), 6),
        (digest("SHA256$00"), 7),
        (digest("sha256$00 "), 8),
        (digest(""), 9),
    ] {
        let update = store.update(&id(1), &patch, &WriteOptions::new()).await;
        update.or_violation("`update` fails")?;
        patch.apply(&mut record, None);
        ensure!(
            record.rotations == rotations,
            "the suite is wrong: it expects {rotations} rotations"
        );
        ensure_stored(
            store,
            &record,
            "`rotations` must increase if and only if the digest changes",
        )
        .await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn each_change_names_its_actor(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let mut record = owned(1, "a");
    record.created_by = Some("creator".to_owned());
    record.updated_by = Some("written".to_owned());
    // The actor of an insert is in its record, and not taken from its origin.
    let insert = store.insert(&record, &by("inserter")).await;
    insert.or_violation("`insert` fails")?;
    ensure_stored(store, &record, "an insert must keep both actors").await?;
    let rule = "`updated_by` must be the actor of the last change, and `created_by` must stay";
    for actor in [Some("ann"), Some("it's \"ben\""), None, Some("ann")] {
        let options = actor.map_or_else(WriteOptions::new, by);
        let update = store.update(&id(1), &labelled("new"), &options).await;
        update.or_violation("`update` fails")?;
        labelled("new").apply(&mut record, actor);
        ensure_stored(store, &record, rule).await?;
    }
    let other = by("late").with_expected_version(Some(1));
    let late = store.update(&id(1), &labelled("late"), &other).await;
    ensure_conflict(late, "an update of another version")?;
    ensure_stored(store, &record, "a failed update must not name its actor").await?;
    let lost = store.revoke(&id(1), &because("lost"), &by("zoe")).await;
    ensure!(
        lost.or_violation("`revoke` fails")?,
        "the first `revoke` must return `true`"
    );
    record.revoked = Some(because("lost"));
    record.version += 1;
    record.updated_by = Some("zoe".to_owned());
    ensure_stored(store, &record, rule).await?;
    let again = store.revoke(&id(1), &because("again"), &by("late")).await;
    again.or_violation("`revoke` fails")?;
    ensure_stored(store, &record, "a second `revoke` must not name its actor").await?;
    let update = store
        .update(&id(1), &KeyPatch::new(), &WriteOptions::new())
        .await;
    update.or_violation("`update` fails")?;
    KeyPatch::new().apply(&mut record, None);
    ensure_stored(store, &record, rule).await?;

    let mut second = owned(2, "b");
    second.updated_by = Some("written".to_owned());
    add(store, &second).await?;
    let origin = ChangeOrigin::new().with_actor("eve");
    let step = store
        .revoke_owner("b", &because("left"), None, &origin)
        .await;
    step.or_violation("`revoke_owner` fails")?;
    second.revoked = Some(because("left"));
    second.version += 1;
    second.updated_by = Some("eve".to_owned());
    ensure_stored(store, &second, rule).await?;
    Ok(CheckVerdict::Passed)
}
