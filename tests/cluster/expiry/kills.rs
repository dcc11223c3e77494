//! Three nodes that are killed, stopped and started at random.

use apikey_test_support::dice::Dice;

use super::*;
use crate::harness::control::in_turn;

/// The number of waves of keys in a round: the second gives keys of the first a later end.
const WAVES: u64 = 2;

/// The number of new keys of a wave.
const KEYS: u64 = 40;

/// The moments of a wave's thresholds, in milliseconds after its begin.
const MOMENTS: std::ops::Range<u64> = 1_500..3_000;

/// The days of the default configuration.
const DAYS: [u32; 3] = [30, 7, 1];

/// Where a node dies: the call, and whether the store answered it.
const STEPS: [&str; 6] = [
    "claim before",
    "claim answered",
    "find before",
    "find answered",
    "finish before",
    "finish answered",
];

impl Tellers {
    /// Creates keys, and gives others a later end: of those that were told, and of some that were not.
    async fn wave(&self, dice: &mut Dice, told: &[KeyId]) -> Vec<KeyId> {
        let mut ids = Vec::new();
        let begun = now();
        let at = |dice: &mut Dice| {
            let moment = dice.millis(MOMENTS);
            moment.saturating_sub(Duration::from_nanos(now() - begun))
        };
        for _ in 0..KEYS {
            let days = *dice.pick(&DAYS).unwrap();
            let after = at(dice).max(Duration::from_millis(1_300));
            ids.push(self.create(days, after).await);
        }
        for id in told.iter().take(KEYS as usize / 4) {
            let days = *dice.pick(&DAYS).unwrap();
            let after = at(dice).max(Duration::from_millis(1_300));
            self.postpone(*id, days, after).await;
        }
        for _ in 0..KEYS / 8 {
            let end = SystemTime::now() + DAY * 7 + Duration::from_secs(600);
            let key = self.observer.create("postponed").expires_at(end).await;
            let after = at(dice).max(Duration::from_millis(1_300));
            self.postpone(key.unwrap().id(), 7, after).await;
        }
        ids
    }

    /// Kills, stops and starts nodes until `is_over`.
    async fn disturb(&self, dice: &mut Dice, is_over: impl Fn() -> bool) {
        let mut doomed = BTreeSet::new();
        while !is_over() {
            sleep(dice.millis(50..400)).await;
            let slot = dice.below(self.cluster.settings.nodes as u64) as usize;
            let Some(node) = self.cluster.node(slot) else {
                self.cluster.start_node(slot).await.unwrap();
                continue;
            };
            match dice.below(100) {
                0..25 => self.cluster.kill_node(slot),
                25..75 => {
                    let (step, passes) = (dice.pick(&STEPS).unwrap(), dice.within(1..4));
                    // It may have died by an earlier order.
                    doomed.insert(node.number);
                    let _ = node.ask(&format!("dies {step} {passes}")).await;
                }
                75..85 if !doomed.contains(&node.number) => {
                    self.cluster.stop_node(slot).await;
                }
                _ => {}
            }
            self.bury(slot);
        }
    }

    /// Frees the slot of a node that has ended.
    fn bury(&self, slot: usize) {
        if self.cluster.node(slot).is_some_and(|node| node.has_ended()) {
            self.cluster.kill_node(slot);
        }
    }

    /// Starts the nodes that have ended, until all is told.
    async fn recover(&self) {
        wait_until(async || {
            for slot in self.cluster.regular_slots() {
                self.bury(slot);
                if self.cluster.node(slot).is_none() {
                    self.cluster.start_node(slot).await.unwrap();
                }
            }
            self.all_are_told()
        })
        .await;
    }
}

async fn kills(on: On, test: &str) {
    let settings = Settings::from_environment(0);
    let seed = settings.seed;
    let calm = Settings {
        seed,
        ..Settings::calm(3, LEASE)
    };
    let Some(tellers) = Tellers::start(on, test, calm).await else {
        return;
    };
    let at = format!("on {}, CLUSTER_SEED={seed}", tellers.cluster.place.name());
    let mut ids = Vec::new();
    for wave in 0..WAVES * Settings::expiry_rounds() {
        let (mut dice, mut faults) = (Dice::of(seed, 2 * wave), Dice::of(seed, 2 * wave + 1));
        let end = now() + MOMENTS.end * 1_000_000;
        let disturbed = tellers.disturb(&mut faults, || now() > end);
        (ids, ()) = tokio::join!(tellers.wave(&mut dice, &ids), disturbed);
        tellers.recover().await;
    }
    let told = tellers.account().told.len();
    let expected = tellers.expected.lock().unwrap().len();
    let lives = tellers.cluster.lives().len();
    println!("expiry: {at}: {expected} thresholds, told {told} times by {lives} processes");
    assert_eq!(tellers.judge(), [], "{at}");
    assert!(lives > 3, "{at}: nodes were not started again");
    tellers.end().await;
}

/// Most of the time is waiting, so the stores run side by side.
#[test]
fn what_expires_soon_is_told_once_and_twice_only_if_a_node_died() {
    let test = "what_expires_soon_is_told_once_and_twice_only_if_a_node_died";
    in_turn(async {
        tokio::join!(
            kills(On::Sqlite, test),
            kills(On::Postgres, test),
            kills(On::Redis, test)
        )
    });
}
