//! The watched check, from its start to its decision.
//!
//! One check is enough: a violation is one decision, and other checks only fill the cache, note the
//! count and cause polls, which the model does on its own. A check is watched only if something was
//! promised about it when it starts.

use crate::bounds::Bounds;
use crate::state::{Check, CheckStage, State, Violation};
use crate::store::Denial;
use crate::without::Without;

impl State {
    /// Returns what an accept violates that starts now on `node`, if anything.
    fn forbidden(&self, node: u8, key: u8, secret: u8, bounds: &Bounds) -> Option<Violation> {
        let promise = &self.promises[usize::from(key)][usize::from(secret)];
        let longest = bounds.max_lease() + crate::bounds::DRIFT;
        if promise.confirmed {
            Some(Violation::AcceptAfterConfirmation)
        } else if promise.returned[usize::from(node)] {
            Some(Violation::AcceptAfterReturn)
        } else if promise.denied.is_some_and(|denied| denied >= longest) {
            Some(Violation::AcceptAfterLease)
        } else {
            None
        }
    }

    /// Returns the check that starts now, if something is promised about it.
    pub fn check_to_start(&self, node: u8, key: u8, secret: u8, bounds: &Bounds) -> Option<Check> {
        let forbidden = self.forbidden(node, key, secret, bounds);
        let live = bounds.live
            && self.store.allows(key, secret)
            && !self.promises[usize::from(key)][usize::from(secret)].lost;
        if forbidden.is_none() && !live {
            return None;
        }
        let running = &self.nodes[usize::from(node)];
        let check = |stage| Check {
            node,
            key,
            secret,
            forbidden,
            stage,
        };
        let early_lease = !bounds.lacks(Without::LeaseAtEnd) || running.lease > 0;
        if let Some(entry) = running.cache[usize::from(key)].filter(|_| early_lease) {
            let early =
                bounds.lacks(Without::LeaseBeforeEntry) && running.decide(&entry, secret).is_none();
            return Some(check(CheckStage::Peeked {
                entry,
                stale: false,
                rechecked: false,
                early,
            }));
        }
        let read = running.reads[usize::from(key)];
        let joined = read.filter(|read| read.joinable && running.lease > 0)?;
        let found = joined.found;
        Some(check(CheckStage::Joined { found }))
    }

    /// Lets an older node check `key`: it reads the record, and does not know owners' rows.
    pub fn check_on_older_node(&mut self, key: u8, secret: u8) -> bool {
        let record = self.store.data.keys[usize::from(key)];
        let accepts = record.denial(secret, Default::default()).is_none();
        // A call that ends many keys has marked them when it returns, and not within a lease.
        let promise = &self.promises[usize::from(key)][usize::from(secret)];
        let returned = promise.confirmed || promise.returned.contains(&true);
        if accepts && returned {
            self.violation = Some(Violation::AcceptOnOlderNode);
        }
        accepts && returned
    }

    /// Does the next step of the watched check. Returns `false` if it has to wait.
    pub fn continue_check(&mut self, bounds: &Bounds) -> bool {
        let Some(check) = self.check else {
            return false;
        };
        match check.stage {
            CheckStage::Peeked {
                entry,
                stale,
                rechecked,
                early,
            } => {
                let node = &self.nodes[usize::from(check.node)];
                let leased = node.lease > 0
                    || bounds.lacks(Without::LeaseCheck)
                    || bounds.lacks(Without::LeaseAtEnd);
                let denial = match early {
                    true => None,
                    false => node.decide(&entry, check.secret),
                };
                match denial {
                    _ if !leased || (stale && !early) => self.read_store(check),
                    None => self.accept(check),
                    Some(Denial::Revoked) => self.deny(check),
                    Some(Denial::Deferred) if rechecked || bounds.lacks(Without::Recheck) => {
                        self.deny(check);
                    }
                    Some(Denial::Deferred) => {
                        self.stage_check(CheckStage::Polling { begun: false });
                    }
                }
            }
            CheckStage::Joined { found } => {
                if found.allows(check.secret, found.owner) {
                    self.accept(check);
                } else {
                    self.deny_by_read(check, bounds);
                }
            }
            CheckStage::Polling { .. } => return false,
        }
        true
    }

    /// Joins a read under a lease. A read of its own begins after the check and tells the truth, so
    /// it is not watched any more.
    fn read_store(&mut self, check: Check) {
        let node = &self.nodes[usize::from(check.node)];
        let read = node.reads[usize::from(check.key)];
        match read.filter(|read| read.joinable && node.lease > 0) {
            Some(read) => self.stage_check(CheckStage::Joined { found: read.found }),
            None => self.check = None,
        }
    }

    fn stage_check(&mut self, stage: CheckStage) {
        if let Some(check) = &mut self.check {
            check.stage = stage;
        }
    }

    fn accept(&mut self, check: Check) {
        self.violation = check.forbidden;
        self.check = None;
    }

    fn deny(&mut self, check: Check) {
        if check.forbidden.is_none() {
            self.violation = Some(Violation::LiveKeyRefused);
        }
        self.check = None;
    }

    /// Denies by a read that the check joined.
    fn deny_by_read(&mut self, check: Check, bounds: &Bounds) {
        if bounds.lacks(Without::JoinedDenials) {
            return self.deny(check);
        }
        self.check = None;
    }

    /// Notes that a poll of `node` did not succeed: the check reads the store.
    pub fn check_loses_poll(&mut self, node: u8) {
        self.check = self.check.filter(|check| {
            let begun = check.stage == CheckStage::Polling { begun: true };
            check.node != node || !begun
        });
    }

    /// Notes that a poll of `node` began or was answered, for a check that waits for one.
    pub fn check_sees_poll(&mut self, node: u8, answered: bool) {
        let Some(check) = self.check.filter(|check| check.node == node) else {
            return;
        };
        let CheckStage::Polling { begun } = check.stage else {
            return;
        };
        if !answered {
            self.stage_check(CheckStage::Polling { begun: true });
        } else if begun {
            match self.nodes[usize::from(node)].cache[usize::from(check.key)] {
                Some(entry) => self.stage_check(CheckStage::Peeked {
                    entry,
                    stale: false,
                    rechecked: true,
                    early: false,
                }),
                None => self.read_store(check),
            }
        }
    }
}
