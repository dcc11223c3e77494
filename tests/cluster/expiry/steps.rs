//! A node that is killed at a step, or does not run for a while; and nodes that tell at the same time.

use super::*;
use crate::harness::control::in_turn;

/// The time between the creation of a key and its threshold, if a busy machine must take steps in between.
const PLANNED: Duration = Duration::from_secs(6);

/// The time between the creation of the first of many keys and their threshold.
const SOON: Duration = Duration::from_secs(3);

/// Where the node dies, and how often the threshold is told in all. A round takes the next of these halves.
const STEPS: [[(&str, usize); 2]; 2] = [
    [
        ("find answered", 1),
        // Told, and not noted.
        ("finish before", 2),
    ],
    [("find before", 1), ("finish answered", 1)],
];

impl Tellers {
    /// Creates a key whose threshold is planned, and not reached.
    async fn planned(&self, node: &NodeProcess) {
        self.create(7, PLANNED).await;
        self.looked(node).await;
    }

    /// Kills the only node at this step of a threshold, and starts another.
    pub(super) async fn killed_at(&self, step: &str) {
        let node = self.node(0).await;
        self.planned(&node).await;
        node.ask(&format!("dies {step} 1")).await.unwrap();
        wait_until(async || node.has_ended()).await;
        self.cluster.kill_node(0);
        self.cluster.start_node(0).await.unwrap();
        self.dead_ones_are_removed().await;
        self.looked(&*self.node(0).await).await;
    }

    /// Stops the only node between a claim and the event for so long that it is removed from the member
    /// list, and another tells.
    pub(super) async fn frozen_after_a_claim(&self) {
        let node = self.node(0).await;
        self.planned(&node).await;
        node.ask("hinder late-find 5000").await.unwrap();
        let finds = async || node.ask("finds").await.unwrap().parse::<u64>().unwrap();
        let before = finds().await;
        wait_until(async || finds().await > before).await;
        // A process that is frozen while it writes locks a file.
        node.ask("hinder cut 0").await.unwrap();
        node.freeze();
        let guest = self.cluster.guest_slot();
        self.cluster.start_node(guest).await.unwrap();
        wait_until(async || self.all_are_told()).await;
        node.thaw();
        node.ask("hinder nothing 0").await.unwrap();
        self.looked(&node).await;
    }

    /// Lets thresholds of many keys be reached at once, while each node takes long to tell.
    pub(super) async fn at_once(&self) {
        for slot in self.cluster.regular_slots() {
            let node = self.node(slot).await;
            node.ask("hinder late-find 10").await.unwrap();
        }
        let begun = now();
        for _ in 0..40 {
            let passed = Duration::from_nanos(now() - begun);
            self.create(7, SOON.saturating_sub(passed)).await;
        }
        wait_until(async || self.all_are_told()).await;
        for slot in self.cluster.regular_slots() {
            self.looked(&*self.node(slot).await).await;
        }
    }
}

async fn steps(on: On, test: &str) {
    let Some(tellers) = Tellers::start(on, test, Settings::calm(1, LEASE)).await else {
        return;
    };
    let rounds = Settings::expiry_rounds() as usize;
    for (step, times) in STEPS.into_iter().cycle().take(rounds).flatten() {
        let before = tellers.account().told.len();
        tellers.killed_at(step).await;
        assert_eq!(tellers.judge(), [], "{step}");
        assert_eq!(tellers.account().told.len() - before, times, "{step}");
    }
    tellers.frozen_after_a_claim().await;
    assert_eq!(tellers.judge(), [], "a node that was frozen");
    tellers.end().await;
}

/// Most of the time is waiting, so the stores run side by side.
#[test]
fn a_node_that_ends_at_any_step_of_telling_loses_nothing() {
    let test = "a_node_that_ends_at_any_step_of_telling_loses_nothing";
    in_turn(async {
        tokio::join!(
            steps(On::Sqlite, test),
            steps(On::Postgres, test),
            steps(On::Redis, test)
        )
    });
}
