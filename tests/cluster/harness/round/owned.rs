//! The end of an owner's keys.

use std::time::Duration;

use apikey_test_support::dice::Dice;
use tokio::time::{Instant, sleep};

use super::{Done, Kind, Owned, OwnerStep, SETTLED_WITHIN, Step, TRIES, Work, kind};

impl Work {
    /// Ends all keys of an owner in a random way. Returns `None` if a step failed.
    pub(super) async fn end_owner(&self, owned: &mut Owned, dice: &mut Dice) -> Option<()> {
        if dice.percent(30) {
            let key = dice.below(owned.keys.len() as u64) as usize;
            self.insist(&mut owned.keys[key], Step::Rotate(0), dice)
                .await?;
        }
        if dice.percent(40) {
            self.insist_owner(owned, OwnerStep::Suspend, dice).await?;
            sleep(dice.millis(0..300)).await;
            self.insist_owner(owned, OwnerStep::Resume, dice).await?;
            sleep(dice.millis(0..100)).await;
        }
        if dice.percent(25) {
            self.give_one_away(owned, dice).await?;
        }
        match dice.below(100) {
            0..15 => {
                // Two calls at once: both must keep their promises.
                let (kinds, mut more) = ((kind(dice), kind(dice)), Dice::new(dice.throw()));
                let (one, other) = tokio::join!(
                    self.once_owner(owned, OwnerStep::RevokeAll, kinds.0, dice),
                    self.once_owner(owned, OwnerStep::RevokeAll, kinds.1, &mut more)
                );
                one.or(other)?;
            }
            15..30 => {
                let open = dice.millis(0..100);
                match self.cluster.revoke_owner_by_hand(owned, open).await {
                    Some(()) => self.done.lock().unwrap().plain += 1,
                    None => self.revoke_owner(owned, dice).await?,
                }
            }
            _ => self.revoke_owner(owned, dice).await?,
        }
        self.add_later_key(owned, dice).await
    }

    /// Moves a key to another owner, whose keys are not revoked; it is revoked by itself.
    async fn give_one_away(&self, owned: &mut Owned, dice: &mut Dice) -> Option<()> {
        let nodes = self.cluster.members();
        let node = dice.pick(&nodes)?;
        let mut key = owned.keys.pop()?;
        let other = format!("{}-other", owned.owner);
        // If the outcome is not known, the key is revoked by itself all the same.
        let _ = self.cluster.give_away(node, &key, &other).await;
        let ended = self.revoke_owner(owned, dice).await;
        // All nodes go on to accept it for a while.
        sleep(dice.millis(0..100)).await;
        match self.insist(&mut key, Step::Revoke, dice).await {
            Some(_) => self.revoked.lock().unwrap().push(key),
            // It is revoked with the others when the cluster is healed.
            None => self.to_do.lock().unwrap().push(super::Unit::Key(key)),
        }
        ended
    }

    /// Creates a key of an owner whose earlier keys are revoked; it lives until the next revocation.
    async fn add_later_key(&self, owned: &mut Owned, dice: &mut Dice) -> Option<()> {
        if owned.is_unsure() {
            return Some(());
        }
        let nodes = self.cluster.members();
        let node = dice.pick(&nodes)?;
        let later = format!("later {}", owned.owner);
        // A key that was created although the call failed is not known here.
        let Ok(key) = self.cluster.create(node, &later).await else {
            return Some(());
        };
        owned.keys.insert(0, key);
        sleep(dice.millis(0..100)).await;
        self.revoke_owner(owned, dice).await
    }

    async fn revoke_owner(&self, owned: &Owned, dice: &mut Dice) -> Option<()> {
        self.insist_owner(owned, OwnerStep::RevokeAll, dice)
            .await
            .map(drop)
    }

    /// Tries a step on one node after another, until one succeeds.
    async fn insist_owner(&self, owned: &Owned, step: OwnerStep, dice: &mut Dice) -> Option<Done> {
        for _ in 0..TRIES {
            let kind = kind(dice);
            if let Some(done) = self.once_owner(owned, step, kind, dice).await {
                return Some(done);
            }
        }
        None
    }

    async fn once_owner(
        &self,
        owned: &Owned,
        step: OwnerStep,
        kind: Kind,
        dice: &mut Dice,
    ) -> Option<Done> {
        let nodes = self.cluster.members();
        let node = dice.pick(&nodes)?;
        let done = self.cluster.take_owner(node, owned, step, kind).await;
        let done = done.ok()?;
        if step != OwnerStep::Resume {
            self.count(done, kind);
        }
        Some(done)
    }

    /// Revokes the keys of an owner in a cluster that is healed.
    pub(super) async fn finish_owner(&self, owned: Owned, dice: &mut Dice) {
        let begun = Instant::now();
        while self.revoke_owner(&owned, dice).await.is_none() {
            let patient = begun.elapsed() < SETTLED_WITHIN;
            assert!(patient, "a healed cluster does not revoke {owned:?}");
            sleep(Duration::from_millis(50)).await;
        }
        self.revoked.lock().unwrap().extend(owned.keys);
    }
}
