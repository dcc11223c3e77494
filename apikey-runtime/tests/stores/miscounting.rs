//! The suite detects incorrect counting: each of these stores breaks one rule, and fails the check
//! of that rule.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::limit::{CounterState, LimitRule};
use apikey_runtime::store::{
    Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport, NodeId, StoreError, UsageStore,
};
use apikey_runtime::usage::{
    LastUsed, MAX_NETWORKS, NetworkUse, SecretUse, UsageBatch, UsageQuery, UsageRow,
};
use apikey_runtime::{KeyId, KeyStore, MemoryStore, Quota, Rate, Timestamp, conformance};
use apikey_test_support::store::{Forward, Forwarding};

use crate::id;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Reads, and writes the result although others may have read the same.
    ReadsThenWrites,
    ChargesSome,
    CountsEachAsOne,
    CountsLooks,
    RoundsAmounts,
    ForgetsRollingWindows,
    TellsMillis,
    GivesBackMore,
    StartsAnewWhenChanged,
    LowersWhatItDenies,
    CutsNames,
    FoldsTheCaseOfNames,
    CountsAllKeysAsOne,
    ForgetsAtTheEnd,
    AddsAgain,
    AddsAgainInARace,
    ForgetsTheCost,
    CutsBatches,
    ReadsTheLastHourToo,
    UsesBackwards,
    UsesOfOneSecret,
    UsesOfTheOlderSecretLost,
    KeepsTheFirstNetworks,
    KeepsOneNetworkLess,
    NetworksBackwards,
    ForgetsNetworks,
    ForgetsAnHourTooMuch,
    RollsUpTwice,
    RollsUpADayTooMuch,
    RollsUpForever,
    DropsWhatComesLate,
}

#[derive(Debug)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
    counts: Mutex<HashMap<(KeyId, String), CounterState>>,
    /// Gives each batch a new number.
    batches: AtomicU64,
    added: Mutex<Vec<(NodeId, u64)>>,
    /// The last reported use of each key, late or not.
    uses: Mutex<HashMap<KeyId, SecretUse>>,
    /// The first reported networks.
    networks: Mutex<Vec<NetworkUse>>,
    /// The day before which usage was rolled up.
    rolled_up: AtomicI64,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            right: MemoryStore::new(),
            fault,
            counts: Mutex::default(),
            batches: AtomicU64::new(0),
            added: Mutex::default(),
            uses: Mutex::default(),
            networks: Mutex::default(),
            rolled_up: AtomicI64::new(i64::MIN),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Returns the charge that this store makes instead of `charge`.
    fn taken(&self, charge: &Charge) -> Charge {
        let mut taken = charge.clone();
        if self.is(Fault::CountsAllKeysAsOne) {
            taken.key = id(1);
        }
        if self.is(Fault::CountsEachAsOne) {
            taken.cost = taken.cost.min(1);
        }
        for counter in &mut taken.counters {
            *counter = self.counter(counter);
        }
        taken
    }

    fn counter(&self, counter: &LimitCounter) -> LimitCounter {
        let (name, _) = counter.name().rsplit_once('/').unwrap();
        match (self.fault, counter.rule()) {
            (Fault::FoldsTheCaseOfNames, rule) => LimitCounter::new(&name.to_lowercase(), rule),
            (Fault::StartsAnewWhenChanged, rule) => {
                LimitCounter::new(&format!("{name} {rule}"), rule)
            }
            (Fault::CutsNames, rule) => {
                LimitCounter::new(&name.chars().take(100).collect::<String>(), rule)
            }
            (Fault::RoundsAmounts, LimitRule::Quota(quota)) if quota.amount() == 50 => {
                LimitCounter::new(name, "64/lifetime".parse::<Quota>().unwrap())
            }
            _ => counter.clone(),
        }
    }

    /// Keeps networks as they come.
    fn note_networks(&self, more: &[NetworkUse]) {
        let mut networks = self.networks.lock().unwrap();
        for used in more {
            let of_key = networks.iter().filter(|one| one.key == used.key).count();
            let known = networks
                .iter_mut()
                .find(|one| one.key == used.key && one.network == used.network);
            match known {
                Some(known) => *known = *used,
                None if of_key < MAX_NETWORKS || self.is(Fault::NetworksBackwards) => {
                    networks.push(*used);
                }
                None => {}
            }
        }
    }

    /// Charges as a store without transactions does.
    async fn charge_in_steps(&self, charge: &Charge) -> ChargeOutcome {
        let names = charge
            .counters
            .iter()
            .map(|counter| (charge.key, counter.name().to_owned()));
        let names: Vec<_> = names.collect();
        let held = |name| {
            self.counts
                .lock()
                .unwrap()
                .get(name)
                .cloned()
                .unwrap_or_default()
        };
        let mut counts: Vec<_> = names.iter().map(held).collect();
        tokio::task::yield_now().await;
        let now = Timestamp::from(std::time::SystemTime::now()).as_millis() * 1_000;
        let charged = charge.apply(&mut counts, now);
        self.counts
            .lock()
            .unwrap()
            .extend(names.into_iter().zip(counts));
        charged
    }

    /// Charges each limit by itself.
    async fn charge_each(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let mut decisions = Vec::new();
        for counter in &charge.counters {
            let one = Charge::new(charge.key, charge.cost, vec![counter.clone()]);
            decisions.extend(self.right.charge(&one).await?.decisions);
        }
        let allowed = decisions.iter().all(|decision| decision.allowed);
        Ok(ChargeOutcome::new(allowed, decisions))
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    /// A store in memory can count rates as it counts quotas.
    fn support(&self) -> LimitSupport {
        LimitSupport::All
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let taken = self.taken(charge);
        let mut charged = match self.fault {
            Fault::ReadsThenWrites => return Ok(self.charge_in_steps(charge).await),
            Fault::ChargesSome => return self.charge_each(charge).await,
            Fault::CountsLooks if charge.cost == 0 => {
                let mut one = charge.clone();
                one.cost = 1;
                self.right.charge(&one).await?;
                self.right.charge(&taken).await?
            }
            _ => self.right.charge(&taken).await?,
        };
        if self.is(Fault::LowersWhatItDenies) && !charged.allowed {
            for counter in &taken.counters {
                if matches!(counter.rule(), LimitRule::Rate(_)) {
                    self.right.refill(&taken.key, counter, u64::MAX).await?;
                }
            }
        }
        for (decision, counter) in charged.decisions.iter_mut().zip(&charge.counters) {
            let rolling = counter.name().contains("rolling");
            if self.is(Fault::TellsMillis) {
                decision.reset_after = decision.reset_after.map(|reset| reset / 1_000);
            }
            if self.is(Fault::ForgetsRollingWindows) && rolling && !decision.allowed {
                decision.retry_after = None;
            }
        }
        Ok(charged)
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        let more = u64::from(self.is(Fault::GivesBackMore));
        self.right
            .refill(key, counter, amount.saturating_add(more))
            .await
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let mut batch = batch.clone();
        match self.fault {
            Fault::AddsAgain => {
                batch.number = self.batches.fetch_add(1, Ordering::SeqCst) + 1;
                batch.node = NodeId::from_u128(7);
            }
            Fault::AddsAgainInARace => {
                let key = (batch.node, batch.number);
                let added = self.added.lock().unwrap().contains(&key);
                tokio::task::yield_now().await;
                self.added.lock().unwrap().push(key);
                batch.number = self.batches.fetch_add(1, Ordering::SeqCst) + 1;
                batch.node = NodeId::from_u128(7);
                let newer = |(node, number): &(NodeId, u64)| *node == key.0 && *number > key.1;
                if added || self.added.lock().unwrap().iter().any(newer) {
                    return Ok(());
                }
            }
            Fault::ForgetsTheCost => batch.rows.iter_mut().for_each(|row| row.cost = 0),
            Fault::CutsBatches => batch.rows.truncate(9_999),
            Fault::UsesBackwards => {
                let used = batch.last_used.iter().map(|used| (used.key, *used));
                self.uses.lock().unwrap().extend(used);
            }
            Fault::UsesOfOneSecret => {
                batch
                    .last_used
                    .iter_mut()
                    .for_each(|used| used.rotations = 0);
            }
            Fault::UsesOfTheOlderSecretLost => {
                let newest = batch.last_used.iter().map(|used| used.rotations).max();
                batch
                    .last_used
                    .retain(|used| used.key == id(2) || Some(used.rotations) == newest);
            }
            Fault::DropsWhatComesLate => {
                let rolled_up = self.rolled_up.load(Ordering::SeqCst);
                batch
                    .rows
                    .retain(|row| row.hour.div_euclid(24) >= rolled_up);
            }
            Fault::KeepsTheFirstNetworks | Fault::NetworksBackwards => {
                self.note_networks(&batch.networks);
            }
            _ => {}
        }
        self.right.add_usage(&batch).await
    }

    async fn read_usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let mut query = query.clone();
        query.to = query
            .to
            .saturating_add(i64::from(self.is(Fault::ReadsTheLastHourToo)));
        self.right.read_usage(&query).await
    }

    async fn last_used(&self, keys: &[KeyId]) -> Result<Vec<LastUsed>, StoreError> {
        if self.is(Fault::UsesBackwards) {
            let uses = self.uses.lock().unwrap();
            let used = |key: &KeyId| LastUsed::of_secrets(*key, 0, uses.get(key).copied());
            return Ok(keys.iter().filter_map(used).collect());
        }
        self.right.last_used(keys).await
    }

    async fn read_networks(&self, keys: &[KeyId]) -> Result<Vec<NetworkUse>, StoreError> {
        if matches!(
            self.fault,
            Fault::KeepsTheFirstNetworks | Fault::NetworksBackwards
        ) {
            let networks = self.networks.lock().unwrap();
            let of_keys = networks.iter().filter(|used| keys.contains(&used.key));
            return Ok(of_keys.copied().collect());
        }
        let mut found = self.right.read_networks(keys).await?;
        if self.is(Fault::KeepsOneNetworkLess) && found.len() >= MAX_NETWORKS {
            found.pop();
        }
        Ok(found)
    }

    async fn roll_up_usage(&self, day: i64) -> Result<bool, StoreError> {
        self.rolled_up.store(day, Ordering::SeqCst);
        match self.fault {
            // As if it was killed after it had added to the days.
            Fault::RollsUpTwice => {
                let number = self.batches.fetch_add(1, Ordering::SeqCst) + 1;
                let query = UsageQuery::new((1..=5).map(id).collect(), 1, day * 24);
                let mut rows = self.right.read_usage(&query).await?;
                rows.retain(|row| row.hour % 24 > 0);
                let mut batch = UsageBatch::new(NodeId::from_u128(9), number, Duration::MAX);
                batch.rows = rows;
                for row in &mut batch.rows {
                    row.hour -= row.hour % 24;
                }
                self.right.add_usage(&batch).await?;
                self.right.roll_up_usage(day).await
            }
            Fault::RollsUpADayTooMuch => self.right.roll_up_usage(day + 1).await,
            Fault::RollsUpForever => self.right.roll_up_usage(day).await.map(|_more| true),
            _ => self.right.roll_up_usage(day).await,
        }
    }

    async fn prune_usage(&self, hour: i64) -> Result<(), StoreError> {
        if self.is(Fault::ForgetsNetworks) {
            return self.right.prune_usage(hour + 48).await;
        }
        let more = i64::from(self.is(Fault::ForgetsAnHourTooMuch));
        self.right.prune_usage(hour + more).await
    }

    async fn stop(&self) {
        if self.is(Fault::ForgetsAtTheEnd) {
            let counters = (0..10).flat_map(|number| {
                let name = format!("kept {number}");
                let long = Duration::from_secs(600);
                [
                    LimitCounter::new(&name, Quota::lifetime(9)),
                    LimitCounter::new(&name, Quota::per_day(9)),
                    LimitCounter::new(&name, Quota::rolling(9, long)),
                    LimitCounter::new(&name, Rate::per_minute(9)),
                ]
            });
            for counter in counters {
                self.right.refill(&id(1), &counter, u64::MAX).await.unwrap();
            }
        }
    }
}

/// Returns the failure of this check for a store with `fault`; `None` if it passes.
async fn said_of(fault: Fault, check: &'static str) -> Option<String> {
    let make =
        move || std::future::ready(Arc::new(Forwarding(Wrong::new(fault))) as Arc<dyn KeyStore>);
    let run = tokio::spawn(async move { assert!(conformance::check(check, make).await) });
    let panic = run.await.err()?.into_panic();
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

#[tokio::test]
async fn each_miscount_fails_the_check_of_its_rule() {
    const RACE: &str = "racing_charges_pass_up_to_the_limit";
    const AGAIN: &str = "a_batch_that_is_retried_is_added_once";
    const SECRETS: &str = "uses_of_the_old_and_the_new_secret_are_told_apart";
    const ROLL_UP: &str = "a_roll_up_keeps_the_sums_of_days";
    const NETWORKS: &str = "the_latest_networks_of_a_key_are_kept";
    for (fault, check) in [
        (Fault::ReadsThenWrites, RACE),
        (Fault::RoundsAmounts, RACE),
        (
            Fault::ChargesSome,
            "if_one_limit_denies_no_limit_is_charged",
        ),
        (Fault::CountsEachAsOne, "a_charge_counts_its_cost"),
        (Fault::CountsLooks, "a_charge_of_zero_counts_nothing"),
        (
            Fault::ForgetsRollingWindows,
            "a_store_counts_as_counter_state_does",
        ),
        (Fault::TellsMillis, "a_store_counts_as_counter_state_does"),
        (
            Fault::GivesBackMore,
            "a_refill_gives_back_no_more_than_was_used",
        ),
        (
            Fault::StartsAnewWhenChanged,
            "a_changed_limit_keeps_its_count",
        ),
        (
            Fault::LowersWhatItDenies,
            "a_changed_rate_carries_on_and_a_denied_charge_changes_nothing",
        ),
        (Fault::CutsNames, "counts_are_separate_by_key_name_and_kind"),
        (
            Fault::FoldsTheCaseOfNames,
            "counts_are_separate_by_key_name_and_kind",
        ),
        (
            Fault::CountsAllKeysAsOne,
            "counts_are_separate_by_key_name_and_kind",
        ),
        (
            Fault::CountsAllKeysAsOne,
            "counts_of_a_removed_key_do_not_affect_other_keys",
        ),
        (Fault::ForgetsAtTheEnd, "counts_survive_a_restart"),
        (Fault::AddsAgain, AGAIN),
        (Fault::AddsAgainInARace, AGAIN),
        (Fault::ForgetsTheCost, "usage_adds_up"),
        (Fault::CutsBatches, "a_large_batch_is_added_as_a_whole"),
        (
            Fault::ReadsTheLastHourToo,
            "usage_is_read_for_a_range_of_hours",
        ),
        (Fault::UsesBackwards, "the_last_use_moves_forward_only"),
        // It does not look at the records either.
        (Fault::UsesBackwards, "a_removed_key_has_no_last_use"),
        (Fault::UsesOfOneSecret, SECRETS),
        (Fault::UsesOfTheOlderSecretLost, SECRETS),
        (Fault::KeepsTheFirstNetworks, NETWORKS),
        (Fault::KeepsOneNetworkLess, NETWORKS),
        (Fault::NetworksBackwards, NETWORKS),
        (Fault::ForgetsNetworks, NETWORKS),
        (Fault::ForgetsAnHourTooMuch, "pruning_keeps_recent_usage"),
        (Fault::RollsUpTwice, ROLL_UP),
        (Fault::RollsUpADayTooMuch, ROLL_UP),
        (Fault::RollsUpForever, ROLL_UP),
        (Fault::DropsWhatComesLate, ROLL_UP),
    ] {
        let said = said_of(fault, check).await;
        let said = said.unwrap_or_else(|| panic!("{check} takes a store with {fault:?} for right"));
        let failed = format!("fails the check `{check}`");
        assert!(said.contains(&failed), "{fault:?}: {said}");
    }
    for check in conformance::checks() {
        let make = || {
            std::future::ready(Arc::new(Forwarding(Wrong::new(Fault::None))) as Arc<dyn KeyStore>)
        };
        // The wrapper alone does not break a rule.
        conformance::check(check, make).await;
    }
}
