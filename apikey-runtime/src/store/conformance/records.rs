//! Checks of `insert`, `find` and `update`.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::samples::{ODD_TEXTS, at, because, full, id, patches, plain};
use super::{
    CheckResult, CheckVerdict, OrViolation, Violation, ensure, ensure_conflict, ensure_not_found,
};
use crate::error::StoreError;
use crate::record::{KeyPatch, KeyRecord, Metadata, PreviousDigest, Revocation};
use crate::scope::Scopes;
use crate::store::{KeyStore, ListQuery, ListRange, WriteOptions};

/// Inserts `record`.
pub(super) async fn add(store: &dyn KeyStore, record: &KeyRecord) -> Result<(), Violation> {
    store
        .insert(record, &WriteOptions::new())
        .await
        .or_violation("a record with a new id cannot be inserted")
}

/// Checks that the store has exactly `expected` under its id. The message names the field that
/// differs, without a digest.
pub(super) async fn ensure_stored(
    store: &dyn KeyStore,
    expected: &KeyRecord,
    rule: &str,
) -> Result<(), Violation> {
    let found = store
        .find(&expected.id)
        .await
        .or_violation("`find` fails")?;
    let found = written(found.or_violation(&format!("{rule}: the record is missing"))?);
    ensure!(
        found == *expected,
        "{rule}: `{}` differs; found {found:?}, expected {expected:?}",
        differing_field(&found, expected)
    );
    Ok(())
}

/// Returns a record as a caller writes it: without what the store sets of its owner.
pub(super) fn written(mut record: KeyRecord) -> KeyRecord {
    record.owner_revocations = 0;
    record.owner_state = None;
    record
}

fn differing_field(found: &KeyRecord, expected: &KeyRecord) -> &'static str {
    let fields = [
        ("digest", found.digest == expected.digest),
        ("previous", found.previous == expected.previous),
        ("metadata", found.metadata == expected.metadata),
        ("revoked", found.revoked == expected.revoked),
        ("enabled_at", found.enabled_at == expected.enabled_at),
        ("version", found.version == expected.version),
        ("rotations", found.rotations == expected.rotations),
        ("description", found.description == expected.description),
        ("created_by", found.created_by == expected.created_by),
        ("updated_by", found.updated_by == expected.updated_by),
    ];
    fields
        .iter()
        .find(|(_, same)| !same)
        .map_or("a field", |(name, _)| name)
}

pub(super) async fn every_field_reads_back(store: Arc<dyn KeyStore>) -> CheckResult {
    let store = &*store;
    let none = store.find(&id(1)).await;
    let none = none.or_violation("`find` of a missing id fails")?;
    ensure!(none.is_none(), "an empty store must not find a record");
    let mut long = plain(3);
    long.label = "l".repeat(70_000);
    long.metadata
        .insert("long".to_owned(), "m".repeat(200_000).into());
    let names: Vec<String> = (0..256)
        .map(|n| format!("scope-{n:03}:{}", "s".repeat(64)))
        .collect();
    long.scopes = Scopes::new(&names).unwrap_or_default();
    for record in [plain(1), full(2), long, plain(0), plain(u128::MAX)] {
        add(store, &record).await?;
        ensure_stored(store, &record, "a record must read back as it was inserted").await?;
    }
    ensure_stored(store, &full(2), "an insert must not change other records").await?;
    Ok(CheckVerdict::Passed)
}

/// I-01.
pub(super) async fn odd_texts_read_back_and_match_only_themselves(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    for (number, text) in (1..).zip(ODD_TEXTS) {
        let mut record = full(number);
        for field in [&mut record.prefix, &mut record.label, &mut record.digest] {
            text.clone_into(field);
        }
        for field in [
            &mut record.owner,
            &mut record.environment,
            &mut record.description,
            &mut record.created_by,
            &mut record.updated_by,
        ] {
            *field = Some(text.to_owned());
        }
        record.previous = Some(PreviousDigest {
            digest: text.to_owned(),
            until: at(1),
        });
        record.revoked = Some(Revocation {
            at: at(1),
            reason: Some(text.to_owned()),
        });
        record.metadata.insert(text.to_owned(), text.into());
        add(store, &record).await?;
        ensure_stored(store, &record, &format!("the text {text:?} must read back")).await?;
    }
    for (number, text) in (1..).zip(ODD_TEXTS) {
        let query = ListQuery::of(ListRange::Owner(text.to_owned()), 100);
        let page = store.list(&query).await.or_violation("`list` fails")?;
        let ids: Vec<_> = page.records.iter().map(|record| record.id).collect();
        ensure!(
            ids == [id(number)],
            "the filter {text:?} must match only the same text; got {ids:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn ids_that_differ_in_case_are_different_keys(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    // The digits of 10 and 36 are `A` and `a`.
    let (upper, lower) = (plain(10), plain(36));
    let rule = "ids are compared with their case";
    add(&*store, &upper).await?;
    let found = store.find(&lower.id).await.or_violation("`find` fails")?;
    ensure!(found.is_none(), "{rule}: `find` returns another key");
    add(&*store, &lower).await?;
    let revoke = store
        .revoke(&lower.id, &because("lost"), &WriteOptions::new())
        .await;
    revoke.or_violation("`revoke` fails")?;
    ensure_stored(&*store, &upper, rule).await?;
    Ok(CheckVerdict::Passed)
}

/// E-02: if times lose precision, a key lives too long.
pub(super) async fn the_earliest_and_latest_times_read_back(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let times = [
        i64::MIN,
        -1,
        0,
        1,
        1_767_225_599_999,
        (1 << 53) + 1,
        i64::MAX,
    ];
    for (number, millis) in (1..).zip(times) {
        let mut record = full(number);
        record.created = at(millis);
        record.expires = Some(at(millis));
        record.not_before = Some(at(millis));
        record.enabled_at = Some(at(millis));
        record.previous = Some(PreviousDigest {
            digest: "d".to_owned(),
            until: at(millis),
        });
        record.revoked = Some(Revocation {
            at: at(millis),
            reason: None,
        });
        add(&*store, &record).await?;
        ensure_stored(&*store, &record, "times must be kept to the millisecond").await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn a_written_record_is_visible_at_once(store: Arc<dyn KeyStore>) -> CheckResult {
    let mut tasks = JoinSet::new();
    for task in 1..=8_u128 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for number in 0..10 {
                let mut record = plain(task * 1_000 + number);
                add(&*store, &record).await?;
                ensure_stored(
                    &*store,
                    &record,
                    "an insert must be visible when it returns",
                )
                .await?;
                let patch = KeyPatch {
                    enabled: Some(false),
                    ..KeyPatch::new()
                };
                store
                    .update(&record.id, &patch, &WriteOptions::new())
                    .await
                    .or_violation("`update` fails")?;
                patch.apply(&mut record, None);
                ensure_stored(
                    &*store,
                    &record,
                    "an update must be visible when it returns",
                )
                .await?;
            }
            Ok(())
        });
    }
    all(tasks).await?;
    Ok(CheckVerdict::Passed)
}

/// Waits for all of `tasks` and returns their values, or the first failure.
pub(super) async fn all<T: Send + 'static>(
    mut tasks: JoinSet<Result<T, Violation>>,
) -> Result<Vec<T>, Violation> {
    let mut results = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        results.push(joined.map_err(|error| Violation(format!("a call panics: {error}")))??);
    }
    Ok(results)
}

pub(super) async fn an_insert_of_an_existing_id_is_a_conflict_and_changes_nothing(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let record = full(1);
    add(store, &record).await?;
    ensure_conflict(
        store.insert(&plain(1), &WriteOptions::new()).await,
        "an insert with an existing id",
    )?;
    ensure_conflict(
        store.insert(&record, &WriteOptions::new()).await,
        "a second insert of a record",
    )?;
    ensure_stored(store, &record, "a failed insert must not change anything").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_update_changes_the_named_columns_only(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let mut record = plain(1);
    let bystander = full(2);
    add(store, &record).await?;
    add(store, &bystander).await?;
    for patch in patches() {
        store
            .update(&record.id, &patch, &WriteOptions::new())
            .await
            .or_violation("`update` of a record fails")?;
        patch.apply(&mut record, None);
        ensure_stored(
            store,
            &record,
            &format!("{patch:?} must change its columns and the version"),
        )
        .await?;
    }
    ensure_stored(store, &bystander, "an update must not change other records").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_update_can_clear_optional_fields(store: Arc<dyn KeyStore>) -> CheckResult {
    let mut record = full(1);
    add(&*store, &record).await?;
    let patch = KeyPatch {
        description: Some(None),
        owner: Some(None),
        scopes: Some(Scopes::none()),
        metadata: Some(Metadata::new()),
        environment: Some(None),
        networks: Some(Vec::new()),
        methods: Some(Vec::new()),
        limits: Some(Vec::new()),
        expires: Some(None),
        not_before: Some(None),
        previous: Some(None),
        ..KeyPatch::new()
    };
    store
        .update(&record.id, &patch, &WriteOptions::new())
        .await
        .or_violation("`update` of a record fails")?;
    patch.apply(&mut record, None);
    ensure_stored(&*store, &record, "`Some(None)` must clear a column").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_update_of_a_missing_record_is_not_found(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    add(store, &plain(1)).await?;
    for expected_version in [None, Some(1)] {
        let patch = KeyPatch {
            enabled: Some(false),
            ..KeyPatch::new()
        };
        let options = WriteOptions::new().with_expected_version(expected_version);
        ensure_not_found(
            store.update(&id(2), &patch, &options).await,
            "an update of a missing record",
        )?;
    }
    let found = store.find(&id(2)).await.or_violation("`find` fails")?;
    ensure!(found.is_none(), "`update` must not create a record");
    ensure_stored(store, &plain(1), "an update must not change other records").await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_update_of_another_version_is_a_conflict_and_changes_nothing(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let record = plain(1);
    add(store, &record).await?;
    for wrong in [0, 2, 1 << 32, i64::MAX as u64, (1 << 63) + 1, u64::MAX] {
        let patch = KeyPatch {
            label: Some("late".to_owned()),
            ..KeyPatch::new()
        };
        let options = WriteOptions::new().with_expected_version(Some(wrong));
        let result = store.update(&record.id, &patch, &options).await;
        ensure_conflict(
            result,
            &format!("an update of version 1 that expects {wrong}"),
        )?;
        ensure_stored(store, &record, "a failed update must not change anything").await?;
    }
    Ok(CheckVerdict::Passed)
}

pub(super) async fn an_update_without_an_expected_version_takes_any(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let mut record = full(1);
    add(&*store, &record).await?;
    for expected_version in [None, Some(record.version + 1), None] {
        let patch = KeyPatch {
            enabled: Some(true),
            ..KeyPatch::new()
        };
        let options = WriteOptions::new().with_expected_version(expected_version);
        store
            .update(&record.id, &patch, &options)
            .await
            .or_violation("`update` of the right version fails")?;
        patch.apply(&mut record, None);
    }
    ensure_stored(
        &*store,
        &record,
        "each update must increment the version by one",
    )
    .await?;
    Ok(CheckVerdict::Passed)
}

pub(super) async fn one_of_several_racing_updates_succeeds(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    add(&*store, &plain(1)).await?;
    for version in 1..=10 {
        let mut tasks = JoinSet::new();
        for racer in 0..4 {
            let store = Arc::clone(&store);
            let options = WriteOptions::new().with_expected_version(Some(version));
            let patch = KeyPatch {
                label: Some(format!("racer {racer}")),
                ..KeyPatch::new()
            };
            tasks.spawn(async move {
                match store.update(&id(1), &patch, &options).await {
                    Ok(()) => Ok(true),
                    Err(StoreError::Conflict) => Ok(false),
                    Err(error) => Err(Violation(format!("an update that loses a race: {error:?}"))),
                }
            });
        }
        let winners = all(tasks).await?.into_iter().filter(|won| *won).count();
        ensure!(
            winners == 1,
            "of 4 racing updates of version {version}, one must succeed; got {winners}"
        );
    }
    Ok(CheckVerdict::Passed)
}
