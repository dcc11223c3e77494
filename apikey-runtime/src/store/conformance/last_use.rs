//! Checks of the last use of keys, of their secrets and from networks.

use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::bulk::purge;
use super::samples::{at, because, id};
use super::usage::{batch, keeping, offer, usage_of};
use super::{CheckResult, CheckVerdict, OrViolation, Violation, ensure};
use crate::clock::Timestamp;
use crate::record::{KeyPatch, PreviousDigest};
use crate::store::{
    KeyStore, LastUsed, MAX_NETWORKS, NetworkUse, SecretUse, UsageBatch, WriteOptions,
};

const NO_NETWORKS: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep networks: `read_networks` returns none");

/// Returns the current time: a store may drop old usage at once.
pub(super) fn now() -> i64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

pub(super) fn net(number: u8) -> IpNet {
    let text = match number {
        0 => "2001:db8:1::/48".to_owned(),
        number => format!("192.0.{number}.0/24"),
    };
    text.parse().unwrap_or_default()
}

async fn last_used(store: &dyn KeyStore, keys: &[u128]) -> Result<Vec<LastUsed>, Violation> {
    let keys: Vec<_> = keys.iter().map(|key| id(*key)).collect();
    let found = usage_of(store)?.last_used(&keys).await;
    let mut found = found.or_violation("`last_used` fails")?;
    found.sort_by_key(|used| used.key);
    Ok(found)
}

/// Returns the networks in their order.
async fn networks(store: &dyn KeyStore, keys: &[u128]) -> Result<Vec<NetworkUse>, Violation> {
    let keys: Vec<_> = keys.iter().map(|key| id(*key)).collect();
    let found = usage_of(store)?.read_networks(&keys).await;
    let mut found = found.or_violation("`read_networks` fails")?;
    found.sort_by_key(|used| (used.key, used.network));
    Ok(found)
}

pub(super) async fn the_last_use_moves_forward_only(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let (store, now) = (&*store, now());
    let (four, six) = (Some(net(2)), Some(net(0)));
    let used = |key, ahead, network| SecretUse::new(id(key), 0, at(now + ahead), network);
    let batches = [
        (1, vec![used(1, 0, four), used(2, 0, six), used(3, 5, None)]),
        (
            2,
            vec![used(1, -1, six), used(2, 1, None), used(3, 6, four)],
        ),
        (1, vec![used(1, 0, six), used(2, 0, four), used(3, 4, six)]),
    ];
    for (number, (node, last_used)) in (1..).zip(batches) {
        let mut batch = batch(node, number, Vec::new());
        batch.last_used = last_used;
        offer(store, &batch).await?;
    }
    let expected = [used(1, 0, four), used(2, 1, None), used(3, 6, four)];
    for keys in [&[1, 2, 3, 4][..], &[2], &[4], &[]] {
        let of = |used: &&SecretUse| keys.iter().any(|key| id(*key) == used.key);
        let expected = expected.iter().filter(of);
        let expected: Vec<_> = expected
            .filter_map(|used| LastUsed::of_secrets(used.key, 0, [*used]))
            .collect();
        let found = last_used(store, keys).await?;
        ensure!(
            found == expected,
            "the latest use of {keys:?} must stay, the first of equally late ones; found {found:?}, \
             expected {expected:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// Replaces the secret of key 1.
pub(super) async fn rotate(store: &dyn KeyStore, number: u64) -> Result<(), Violation> {
    let mut patch = KeyPatch::new();
    patch.digest = Some(format!("sha256$0{number}"));
    patch.previous = Some(Some(PreviousDigest {
        digest: format!("sha256$0{}", number - 1),
        until: at(now() + 3_600_000),
    }));
    let rotated = store.update(&id(1), &patch, &WriteOptions::new()).await;
    rotated.map(drop).or_violation("`update` fails")
}

pub(super) async fn uses_of_the_old_and_the_new_secret_are_told_apart(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    keeping!(store);
    let (store, now) = (&*store, now());
    let used = |rotations: u64, ahead: i64, network: u8| {
        SecretUse::new(id(1), rotations, at(now + ahead), Some(net(network)))
    };
    let other = SecretUse::new(id(2), 0, at(now), None);
    // The number of rotations, what is added then, and which uses are the last of the secrets.
    let steps = [
        (0, vec![used(0, 10, 1)], vec![used(0, 10, 1)]),
        (1, vec![], vec![used(0, 10, 1)]),
        (
            1,
            vec![used(0, 20, 2), used(1, 15, 3)],
            vec![used(0, 20, 2), used(1, 15, 3)],
        ),
        // A node that is late.
        (
            1,
            vec![used(0, 9, 4), used(1, 30, 4)],
            vec![used(0, 20, 2), used(1, 30, 4)],
        ),
        (
            1,
            vec![used(0, 25, 5)],
            vec![used(0, 25, 5), used(1, 30, 4)],
        ),
        (2, vec![], vec![used(0, 25, 5), used(1, 30, 4)]),
        (
            2,
            vec![used(1, 40, 6), used(2, 35, 7)],
            vec![used(1, 40, 6), used(2, 35, 7)],
        ),
        // A node that has not heard of the second rotation.
        (
            2,
            vec![used(0, 32, 8), used(1, 38, 9)],
            vec![used(1, 40, 6), used(2, 35, 7)],
        ),
        (
            3,
            vec![used(3, 50, 0)],
            vec![used(2, 35, 7), used(3, 50, 0)],
        ),
    ];
    let mut rotations = 0;
    for (step, (number, last_used_now, expected)) in (1_u64..).zip(steps) {
        if number > rotations {
            rotate(store, number).await?;
            rotations = number;
        }
        let mut batch = batch(u128::from(1 + step % 2), step, Vec::new());
        batch.last_used = last_used_now;
        batch.last_used.push(other);
        offer(store, &batch).await?;
        let expected = LastUsed::of_secrets(id(1), rotations, expected);
        let unchanged = LastUsed::of_secrets(id(2), 0, [other]);
        let expected: Vec<_> = expected.into_iter().chain(unchanged).collect();
        let found = last_used(store, &[1, 2]).await?;
        ensure!(
            found == expected,
            "after {rotations} rotations, in step {step}, the last uses of the present secret and of the \
             one before must be {expected:?}; found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

/// Returns the latest uses of each key.
fn latest(batches: &[UsageBatch]) -> Vec<NetworkUse> {
    let mut all: Vec<_> = batches.iter().flat_map(|batch| &batch.networks).collect();
    all.sort_by_key(|used| std::cmp::Reverse(used.at));
    let mut kept = Vec::<NetworkUse>::new();
    for used in all {
        let of_key = || kept.iter().filter(|one| one.key == used.key);
        if of_key().count() < MAX_NETWORKS && of_key().all(|one| one.network != used.network) {
            kept.push(*used);
        }
    }
    kept.sort_by_key(|used| (used.key, used.network));
    kept
}

pub(super) async fn the_latest_networks_of_a_key_are_kept(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let (store, now) = (&*store, now());
    let used = |key, number: u8, ahead: i64| NetworkUse::new(id(key), net(number), at(now + ahead));
    let mut batches = Vec::new();
    for (step, networks) in [
        (0..20).map(|one| used(1, one, i64::from(one))).collect(),
        // Some are known, by a later or an earlier time; some are earlier than all that are known.
        (10..30)
            .map(|one| used(1, one, 100 - 7 * i64::from(one)))
            .collect(),
        vec![used(1, 0, 200), used(2, 0, 5), used(2, 1, 6), used(3, 7, 0)],
        vec![used(1, 5, 201), used(2, 0, 4), used(2, 1, 7)],
    ]
    .into_iter()
    .enumerate()
    {
        let mut batch = batch(1 + step as u128 % 2, 1 + step as u64, Vec::new());
        batch.networks = networks;
        offer(store, &batch).await?;
        batches.push(batch);
        let found = networks_of_all(store).await?;
        if step == 0 && found.is_empty() {
            return Ok(NO_NETWORKS);
        }
        let expected = latest(&batches);
        ensure!(
            found == expected,
            "the {MAX_NETWORKS} latest networks of each key must stay, each with its latest time; \
             found {found:?}, expected {expected:?}"
        );
    }
    let done = usage_of(store)?.prune_usage(now / 3_600_000 - 1).await;
    done.or_violation("`prune_usage` fails")?;
    ensure!(
        networks_of_all(store).await? == latest(&batches),
        "networks that were used since the given hour must stay"
    );
    for keys in [&[2][..], &[2, 4, 2], &[4], &[]] {
        let expected = latest(&batches).into_iter();
        let expected: Vec<_> = expected
            .filter(|used| keys.iter().any(|key| id(*key) == used.key))
            .collect();
        let found = networks(store, keys).await?;
        ensure!(
            found == expected,
            "the networks of {keys:?} must be {expected:?}; found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}

async fn networks_of_all(store: &dyn KeyStore) -> Result<Vec<NetworkUse>, Violation> {
    networks(store, &[1, 2, 3, 4, 5]).await
}

/// A node may add the usage of a key after another has removed the key.
pub(super) async fn a_removed_key_has_no_last_use(store: Arc<dyn KeyStore>) -> CheckResult {
    keeping!(store);
    let (store, now) = (&*store, now());
    let revoked = store
        .revoke(&id(1), &because("lost"), &WriteOptions::new())
        .await;
    revoked.or_violation("`revoke` fails")?;
    let used = |key| SecretUse::new(id(key), 0, at(now), Some(net(1)));
    let network = |key| NetworkUse::new(id(key), net(1), at(now));
    for (number, is_late) in [(1, false), (2, true)] {
        let mut batch = batch(1, number, Vec::new());
        batch.last_used = vec![used(1), used(2)];
        batch.networks = vec![network(1), network(2)];
        offer(store, &batch).await?;
        if !is_late {
            let purged = purge(store, Timestamp::MAX).await?;
            ensure!(purged == [id(1)], "`purge` must remove a revoked key");
        }
        let found = last_used(store, &[1, 2]).await?;
        let expected = LastUsed::of_secrets(id(2), 0, [used(2)]);
        ensure!(
            found == expected.as_slice(),
            "a removed key must not have a last use, also if its usage is added later; found {found:?}"
        );
        let found = networks(store, &[1, 2]).await?;
        ensure!(
            found.iter().all(|one| *one == network(2)),
            "a removed key must not have networks, also if its usage is added later; found {found:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}
