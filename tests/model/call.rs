//! Calls of the manager: the change, the caller's own cache, and the barrier of `.confirmed()`.

use crate::bounds::{Bounds, KEYS};
use crate::node::{OwnerStep, owner_steps};
use crate::state::{
    Call, Change, Confirming, OpenChange, OwnerRow, Promise, Stage, State, Store, Ticks,
};
use crate::without::Without;

impl State {
    /// Commits a call's change.
    pub fn begin_call(
        &mut self,
        node: u8,
        change: Change,
        open: Option<OpenChange>,
        bounds: &Bounds,
    ) -> bool {
        let older = self.store.has_older_member();
        let refused = matches!(change, Change::Suspend(_))
            && older
            && !bounds.lacks(Without::SuspensionForOlderNodes);
        if refused || !self.commit(change, open, bounds) {
            return false;
        }
        let denied = |key: usize, secret: usize| self.promises[key][secret].denied.is_some();
        self.call = Some(Call {
            node,
            change,
            row: change.owner().map_or_else(OwnerRow::default, |owner| {
                self.store.data.owners[usize::from(owner)]
            }),
            stage: Stage::Applying(0),
            covers: std::array::from_fn(|key| std::array::from_fn(|secret| denied(key, secret))),
        });
        true
    }

    /// Does the next step of the call. Returns `false` if it has to wait.
    pub fn continue_call(&mut self, bounds: &Bounds) -> bool {
        let Some(call) = self.call else { return false };
        match call.stage {
            Stage::Applying(step) => self.apply_locally(call, step, bounds),
            Stage::Returned => self.begin_confirmation(call, bounds),
            Stage::Confirming(confirming) => self.confirm(call, confirming, bounds),
        }
    }

    fn apply_locally(&mut self, call: Call, step: u8, bounds: &Bounds) -> bool {
        if let Some(owner) = call.change.owner() {
            let steps = owner_steps(call.node, bounds);
            let next = steps[usize::from(step)];
            let row = call.row;
            self.owner_step(call.node, next, (owner, row), bounds);
            // What follows `Finish` comes too late for this call.
            if next != OwnerStep::Finish {
                self.stage(Stage::Applying(step + 1));
                return true;
            }
            let late = &steps[usize::from(step) + 1..];
            if matches!(call.change, Change::RevokeAll(_)) {
                self.mark_for_older_nodes(bounds);
            }
            self.return_call(call);
            for step in late {
                self.owner_step(call.node, *step, (owner, row), bounds);
            }
            return true;
        }
        if let Some(key) = call.change.key() {
            self.evict(call.node, key, bounds);
        }
        self.return_call(call);
        true
    }

    /// An older node reads the column and does not know the owner's row.
    fn mark_for_older_nodes(&mut self, bounds: &Bounds) {
        if self.store.has_older_member() && !bounds.lacks(Without::MarkingForOlderNodes) {
            for key in 0..KEYS as u8 {
                self.store.mark(key);
            }
        }
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(call) = &mut self.call {
            call.stage = stage;
        }
    }

    fn return_call(&mut self, call: Call) {
        self.stage(Stage::Returned);
        self.promise(call, |promise| {
            promise.returned[usize::from(call.node)] = true;
        });
    }

    fn promise(&mut self, call: Call, made: impl Fn(&mut Promise)) {
        for (promises, covers) in self.promises.iter_mut().zip(call.covers) {
            for (promise, covered) in promises.iter_mut().zip(covers) {
                if covered {
                    made(promise);
                }
            }
        }
    }

    fn begin_confirmation(&mut self, call: Call, bounds: &Bounds) -> bool {
        let node = &self.nodes[usize::from(call.node)];
        let members = &self.store.data.members;
        let own = usize::from(node.slot);
        let stated = self.store.longest_lease(bounds);
        let mut waiting = members.map(|member| member.is_some());
        waiting[own] = false;
        self.stage(Stage::Confirming(Confirming {
            epoch: self.store.data.epoch,
            age: 0,
            waiting,
            listed: members[own].is_some(),
            seen: match bounds.lacks(Without::LongestLease) {
                true => stated,
                false => stated.max(node.longest),
            },
            stated,
            sent: false,
            polled: None,
            longest: None,
        }));
        true
    }

    fn confirm(&mut self, call: Call, mut confirming: Confirming, bounds: &Bounds) -> bool {
        let before = confirming;
        if confirming.polled.is_none() {
            // Set by the node's own poll, or else the wait for it ends with the longest lease.
            if confirming.age < bounds.outlasts(confirming.seen) {
                return false;
            }
            confirming.polled = Some(false);
        }
        let polled = confirming.polled == Some(true);
        let longest = self.longest_to_wait(call.node, &confirming, bounds);
        confirming.longest = Some(longest);
        self.refresh(call.node, &mut confirming);
        let acknowledged = !confirming.waiting.contains(&true);
        let trusted = self.unbroken_for(call.node, longest, confirming.age, bounds);
        let done =
            (acknowledged && polled && trusted) || confirming.age >= bounds.outlasts(longest);
        if done {
            self.promise(call, |promise| promise.confirmed = true);
            self.call = None;
            return true;
        }
        self.stage(Stage::Confirming(confirming));
        confirming != before
    }

    /// Chooses the lease to wait for, once, after the node's own poll.
    fn longest_to_wait(&self, node: u8, confirming: &Confirming, bounds: &Bounds) -> Ticks {
        if let Some(longest) = confirming.longest {
            return longest;
        }
        let trusted = self.unbroken_for(node, confirming.seen, confirming.age, bounds);
        match confirming.polled == Some(true) && trusted {
            true => confirming.stated,
            false => confirming.seen,
        }
    }

    /// Returns whether the node had followed one history for as long as a lease of `length` lasts
    /// when the call was committed.
    fn unbroken_for(&self, node: u8, length: Ticks, age: Ticks, bounds: &Bounds) -> bool {
        let followed = self.nodes[usize::from(node)].followed;
        let span = bounds.outlasts(length) + age;
        bounds.lacks(Without::UnbrokenHistory)
            || followed.is_some_and(|followed| followed.unbroken >= span)
    }

    fn refresh(&self, node: u8, confirming: &mut Confirming) {
        let data = &self.store.data;
        let own = usize::from(self.nodes[usize::from(node)].slot);
        if data.epoch < confirming.epoch || data.members[own].is_none() {
            return;
        }
        for (waiting, member) in confirming.waiting.iter_mut().zip(data.members) {
            *waiting &= member.is_some_and(|member| member.acknowledged < confirming.epoch);
        }
    }

    /// Notes that a node sends a poll.
    pub fn poll_began(&mut self, node: u8) {
        if let Some(call) = &mut self.call
            && call.node == node
            && let Stage::Confirming(confirming) = &mut call.stage
            && confirming.polled.is_none()
        {
            confirming.sent = true;
        }
        self.check_sees_poll(node, false);
    }

    /// Notes that the store answered a node's poll.
    pub fn poll_answered(&mut self, node: u8) {
        if let Some(call) = &mut self.call
            && call.node == node
            && let Stage::Confirming(confirming) = &mut call.stage
            && confirming.sent
        {
            confirming.sent = false;
            confirming.polled.get_or_insert(confirming.listed);
        }
        self.check_sees_poll(node, true);
    }

    /// Notes that a node's poll did not succeed.
    pub fn poll_lost(&mut self, node: u8) {
        if let Some(call) = &mut self.call
            && call.node == node
            && let Stage::Confirming(confirming) = &mut call.stage
        {
            confirming.sent = false;
        }
        self.check_loses_poll(node);
    }

    /// Passes a tick of the caller's time.
    pub fn age_call(&mut self, most: Ticks) {
        if let Some(Call {
            stage: Stage::Confirming(confirming),
            ..
        }) = &mut self.call
        {
            confirming.age = most.min(confirming.age + 1);
        }
    }

    /// Follows what a change of the store means for what was promised.
    pub fn note_changes(&mut self, before: &Store) {
        for key in 0..KEYS {
            for secret in 0..2 {
                let (id, shown) = (key as u8, secret as u8);
                let promise = &mut self.promises[key][secret];
                if self.store.allows(id, shown) {
                    let lost = promise.lost;
                    *promise = Promise {
                        lost,
                        ..Promise::default()
                    };
                    if let Some(call) = &mut self.call {
                        call.covers[key][secret] = false;
                    }
                    // An accept is right now.
                    self.check = self.check.filter(|check| {
                        check.forbidden.is_none() || (check.key, check.secret) != (id, shown)
                    });
                } else if before.allows(id, shown) {
                    promise.denied = Some(0);
                    // A denial is right now.
                    self.check = self.check.filter(|check| {
                        check.forbidden.is_some() || (check.key, check.secret) != (id, shown)
                    });
                }
            }
        }
    }
}
