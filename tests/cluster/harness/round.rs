//! One round: keys are created, all nodes check them, and most keys are revoked in various ways
//! under faults: each by itself, or with its owner's. Then everything is healed, and all nodes must
//! agree.

mod owned;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use apikey_test_support::dice::Dice;

use super::change::{Done, Issued, Kind, Step};
use super::clock::Nanos;
use super::cluster::Cluster;
use super::faults::{Diary, Injector, Weather};
use super::history::{History, Key};
use super::owners::{Owned, OwnerStep};

/// The maximum number of keys of a round; a long run has more.
const KEYS: usize = 48;

/// The number of revocations from which a run is long.
const LONG: usize = 5_000;

/// The factor for the keys and changers of a round in a long run.
const LONG_SCALE: usize = 10;

/// The number of owners of a round, and of the keys that each has.
const OWNERS: usize = 4;
const KEYS_OF_OWNER: usize = 3;

/// How many of the keys are never revoked.
const KEPT: usize = 3;

/// How many changes run at a time.
const CHANGERS: usize = 6;

/// How many faults run at a time.
const INJECTORS: u64 = 2;

/// On how many nodes a failed change is retried.
const TRIES: usize = 3;

/// The longest time that a healed cluster may take to agree.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

/// The result of a round.
pub struct Outcome {
    pub history: History,
    /// The duration of each confirmed change.
    pub waits: Vec<Nanos>,
    /// How many of them waited for a lease to end.
    pub outlasted: usize,
    pub plain: usize,
}

/// The changes that returned `Ok`.
#[derive(Default)]
struct Counted {
    waits: Vec<Nanos>,
    outlasted: usize,
    plain: usize,
}

/// What one changer revokes.
enum Unit {
    Key(Issued),
    Owner(Owned),
}

/// The state that changers share.
struct Work {
    cluster: Arc<Cluster>,
    /// What still has to be revoked.
    to_do: Mutex<Vec<Unit>>,
    revoked: Mutex<Vec<Issued>>,
    done: Mutex<Counted>,
}

/// Runs one round that revokes `revocations` keys.
pub async fn run(
    cluster: &Arc<Cluster>,
    mut dice: Dice,
    weather: Weather,
    revocations: usize,
    diary: &Arc<Mutex<Diary>>,
) -> Outcome {
    cluster.begin_round();
    let mut keys = Vec::new();
    let most = KEYS * scale(cluster) - KEPT;
    for number in 0..revocations.min(most) + KEPT {
        keys.push(create(cluster, &mut dice, &format!("key-{number}")).await);
    }
    let mut kept = keys.split_off(keys.len() - KEPT);
    let mut units: Vec<_> = keys.iter().cloned().map(Unit::Key).collect();
    for _ in 0..OWNERS * scale(cluster) {
        let owned = create_owner(cluster, &mut dice).await;
        keys.extend(owned.keys.iter().cloned());
        let place = dice.below(units.len() as u64 + 1) as usize;
        units.insert(place, Unit::Owner(owned));
    }
    settle(cluster, &keys, b'a').await;
    cluster.note_warm();
    let throughout = vec![cluster.node(0).expect("the first node runs").number];

    let work = Arc::new(Work {
        cluster: Arc::clone(cluster),
        to_do: Mutex::new(units),
        revoked: Mutex::default(),
        done: Mutex::default(),
    });
    if weather == Weather::Calm {
        work.recovered(&mut kept[0], &mut dice).await;
    }
    under_faults(&work, &mut dice, weather, diary).await;

    let revoked = std::mem::take(&mut *work.revoked.lock().unwrap());
    settle(cluster, &revoked, b'r').await;
    settle(cluster, &kept, b'a').await;
    let history = cluster.end_round(throughout).await;
    let counted = std::mem::take(&mut *work.done.lock().unwrap());
    Outcome {
        history,
        waits: counted.waits,
        outlasted: counted.outlasted,
        plain: counted.plain,
    }
}

fn scale(cluster: &Cluster) -> usize {
    if cluster.settings.revocations < LONG {
        1
    } else {
        LONG_SCALE
    }
}

/// Creates a key; `of` is its label, and its owner if it has one. A node may first find broken
/// connections after the store was killed.
async fn create(cluster: &Cluster, dice: &mut Dice, of: &str) -> Issued {
    let begun = Instant::now();
    loop {
        let nodes = cluster.members();
        let node = dice.pick(&nodes).expect("nodes run");
        match cluster.create(node, of).await {
            Ok(key) => return key,
            Err(failure) if begun.elapsed() > SETTLED_WITHIN => {
                panic!("a healed cluster does not create a key: {failure:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn create_owner(cluster: &Cluster, dice: &mut Dice) -> Owned {
    // An owner may be named like a key.
    let owner = format!("{:022}", cluster.number_key());
    let mut keys = Vec::new();
    for _ in 0..KEYS_OF_OWNER {
        keys.push(create(cluster, dice, &format!("owned {owner}")).await);
    }
    Owned::new(owner, keys)
}

async fn under_faults(
    work: &Arc<Work>,
    dice: &mut Dice,
    weather: Weather,
    diary: &Arc<Mutex<Diary>>,
) {
    let (stop, busy) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let injectors: Vec<_> = (0..INJECTORS)
        .map(|_| {
            let dice = Dice::new(dice.throw());
            let injector = Injector::new(&work.cluster, dice, &busy, diary);
            tokio::spawn(injector.run(weather, Arc::clone(&stop)))
        })
        .collect();
    let changers: Vec<_> = (0..CHANGERS * scale(&work.cluster))
        .map(|_| tokio::spawn(Arc::clone(work).change(Dice::new(dice.throw()))))
        .collect();
    let mut left = Vec::new();
    for changer in changers {
        left.extend(changer.await.unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for injector in injectors {
        injector.await.unwrap();
    }
    // The cluster is healed, so changes that failed must now succeed.
    for unit in left {
        match unit {
            Unit::Key(mut key) => {
                work.finish(&mut key, dice).await;
                work.revoked.lock().unwrap().push(key);
            }
            Unit::Owner(owned) => work.finish_owner(owned, dice).await,
        }
    }
}

impl Work {
    /// Revokes keys until all are revoked; returns those that failed.
    async fn change(self: Arc<Self>, mut dice: Dice) -> Vec<Unit> {
        let mut left = Vec::new();
        loop {
            let next = self.to_do.lock().unwrap().pop();
            let Some(next) = next else { return left };
            tokio::time::sleep(dice.millis(0..60)).await;
            match next {
                Unit::Key(mut key) => match self.end(&mut key, &mut dice).await {
                    Some(()) => self.revoked.lock().unwrap().push(key),
                    None => left.push(Unit::Key(key)),
                },
                Unit::Owner(mut owned) => match self.end_owner(&mut owned, &mut dice).await {
                    Some(()) => self.revoked.lock().unwrap().extend(owned.keys),
                    None => left.push(Unit::Owner(owned)),
                },
            }
        }
    }

    /// Ends one key in a random way. Returns `None` if a step failed.
    async fn end(&self, key: &mut Issued, dice: &mut Dice) -> Option<()> {
        match dice.below(100) {
            0..8 => drop(self.insist(key, Step::Rotate(0), dice).await?),
            8..16 => {
                let grace = dice.within(50..400);
                let kind = kind(dice);
                self.once(key, Step::Rotate(grace), kind, dice).await?;
                tokio::time::sleep(dice.millis(0..500)).await;
            }
            16..24 => {
                self.insist(key, Step::Disable, dice).await?;
                tokio::time::sleep(dice.millis(0..300)).await;
                self.insist(key, Step::Enable, dice).await?;
                tokio::time::sleep(dice.millis(0..100)).await;
            }
            24..32 => {
                // Two calls at once: both must keep their promises.
                let (mut one, mut other) = (key.clone(), key.clone());
                let (kinds, mut more) = ((kind(dice), kind(dice)), Dice::new(dice.throw()));
                let (one, other) = tokio::join!(
                    self.once(&mut one, Step::Revoke, kinds.0, dice),
                    self.once(&mut other, Step::Revoke, kinds.1, &mut more)
                );
                return one.or(other).map(drop);
            }
            32..40 => {
                let open = dice.millis(0..100);
                if self.cluster.revoke_by_hand(key, open).await.is_some() {
                    self.done.lock().unwrap().plain += 1;
                    return Some(());
                }
            }
            _ => {}
        }
        self.insist(key, Step::Revoke, dice).await.map(drop)
    }

    /// Tries a step on one node after another, until one succeeds.
    async fn insist(&self, key: &mut Issued, step: Step, dice: &mut Dice) -> Option<Done> {
        for _ in 0..TRIES {
            let kind = kind(dice);
            if let Some(done) = self.once(key, step, kind, dice).await {
                return Some(done);
            }
        }
        None
    }

    async fn once(
        &self,
        key: &mut Issued,
        step: Step,
        kind: Kind,
        dice: &mut Dice,
    ) -> Option<Done> {
        let nodes = self.cluster.members();
        let node = dice.pick(&nodes)?;
        let done = self.cluster.take(node, key, step, kind).await.ok()?;
        if step != Step::Enable {
            self.count(done, kind);
        }
        Some(done)
    }

    fn count(&self, done: Done, kind: Kind) {
        let mut counted = self.done.lock().unwrap();
        match kind {
            Kind::Confirmed => {
                counted.waits.push(done.returned - done.start);
                counted.outlasted += usize::from(done.outlasted);
            }
            Kind::Plain => counted.plain += 1,
        }
    }

    /// Waits until every node, asked to disable or enable a key, gets acknowledgements of all other
    /// nodes; dead nodes have left the member list by then.
    async fn recovered(&self, key: &mut Issued, dice: &mut Dice) {
        let begun = Instant::now();
        for node in self.cluster.members() {
            loop {
                let off = self
                    .cluster
                    .take(&node, key, Step::Disable, Kind::Confirmed);
                let off = off.await;
                let acknowledged = off.as_ref().is_ok_and(|done| !done.outlasted);
                let on = self.cluster.take(&node, key, Step::Enable, Kind::Plain);
                if on.await.is_ok() && acknowledged {
                    break;
                }
                assert!(
                    begun.elapsed() < SETTLED_WITHIN,
                    "a healed cluster does not acknowledge a change of node {}: {off:?}",
                    node.number
                );
                tokio::time::sleep(dice.millis(20..60)).await;
            }
        }
    }

    async fn finish(&self, key: &mut Issued, dice: &mut Dice) {
        let begun = Instant::now();
        while self.insist(key, Step::Revoke, dice).await.is_none() {
            let patient = begun.elapsed() < SETTLED_WITHIN;
            assert!(patient, "a healed cluster does not revoke {key:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn kind(dice: &mut Dice) -> Kind {
    match dice.percent(45) {
        true => Kind::Confirmed,
        false => Kind::Plain,
    }
}

/// Waits until the last answer of every node about each of `keys` is `letter`.
pub async fn settle(cluster: &Cluster, keys: &[Issued], letter: u8) {
    let texts = || keys.iter().flat_map(|key| &key.texts).map(|(key, _)| *key);
    let begun = Instant::now();
    loop {
        let mut differ = Vec::new();
        for node in cluster.members() {
            let seen = node.ask("seen").await.unwrap_or_default();
            let agree = |key: Key| {
                seen.split(' ')
                    .any(|one| one == format!("{key}:{}", letter as char))
            };
            differ.extend(
                texts()
                    .filter(|key| !agree(*key))
                    .map(|key| (node.number, key)),
            );
        }
        if differ.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < SETTLED_WITHIN,
            "the cluster is healed, but these nodes do not answer `{}` for these keys: {differ:?}",
            letter as char
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
