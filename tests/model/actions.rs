//! What may happen next.

use crate::bounds::{Bounds, DRIFT, KEYS, NODES, full};
use crate::state::{Budget, Change, Item, Node, OpenChange, Promise, Stage, State, Store};
use crate::without::Without;

/// A step. The first number is the node's, except in the store's own steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Tick,
    Call(u8, Change),
    ContinueCall,
    /// A transaction reads (and takes its number), and commits later.
    Open(Change),
    CommitOpen(u8),
    BeginRead(u8, u8),
    EndRead(u8, u8),
    NoteCount(u8, u8),
    SendPoll(u8),
    ReceivePage(u8),
    LosePoll(u8),
    Acknowledge(u8),
    Join(u8),
    Leave(u8),
    Crash(u8),
    Restart(u8),
    StartCheck(u8, u8, u8),
    CheckOnOlderNode(u8, u8, u8),
    ContinueCheck,
    Suspect(u8),
    Remove(u8),
    Mark(u8),
    Shorten,
    Dump,
    PutBack,
}

impl State {
    /// Creates the state at the start. Nodes are members that have followed the log for long, if
    /// they are not strangers.
    pub fn new(bounds: &Bounds) -> Self {
        let most = bounds.max_lease() + DRIFT;
        let mut state = Self {
            store: Store::new(bounds),
            dump: None,
            nodes: std::array::from_fn(|node| Node::new(node as u8, (node as u8) < bounds.nodes)),
            call: None,
            check: None,
            promises: [[Promise::default(); 2]; KEYS],
            budget: Budget {
                changes: bounds.change_count,
                joins: bounds.joins,
                suspicions: bounds.suspicions,
                crashes: bounds.crashes,
                leaves: bounds.leaves,
            },
            violation: None,
        };
        for node in (0..bounds.nodes).filter(|node| !bounds.strangers.contains(node)) {
            state.store.join(node, bounds.protocol(node), bounds);
            state.nodes[usize::from(node)].member = true;
        }
        for node in (0..bounds.nodes).filter(|node| !bounds.strangers.contains(node)) {
            let slot = usize::from(node);
            state.send_page(node, bounds);
            state.receive_page(node, bounds);
            state.acknowledge(node, bounds);
            if let Some(followed) = &mut state.nodes[slot].followed {
                followed.unbroken = 2 * most;
            }
            state.nodes[slot].lease = 0;
        }
        state.dump = Some(state.store.data).filter(|_| bounds.restore && !full());
        state
    }

    /// Adds the steps that may be taken.
    pub fn steps(&self, bounds: &Bounds, steps: &mut Vec<Action>) {
        if self.violation.is_some() {
            return;
        }
        steps.push(Action::Tick);
        if let Some(check) = self.check {
            // What others do meanwhile they could as well have done before the check began.
            steps.push(Action::ContinueCheck);
            if self.call.is_some_and(|call| call.node == check.node) {
                steps.push(Action::ContinueCall);
            }
            return self.steps_of_node(check.node, bounds, steps);
        }
        if self.call.is_some() {
            steps.push(Action::ContinueCall);
        }
        self.changes(bounds, steps);
        for node in 0..bounds.nodes {
            self.steps_of_node(node, bounds, steps);
        }
        for (slot, member) in self.store.data.members.iter().enumerate() {
            let removable = member.is_some_and(|member| member.protocol > 1)
                || bounds.lacks(Without::OlderNodesAreListed);
            match member.map(|member| member.suspected) {
                Some(None) if self.budget.suspicions > 0 && removable => {
                    steps.push(Action::Suspect(slot as u8));
                }
                Some(Some(silent))
                    if silent >= bounds.outlasts(self.store.longest_lease(bounds)) =>
                {
                    steps.push(Action::Remove(slot as u8));
                }
                Some(None) if bounds.lacks(Without::Suspicion) => {
                    steps.push(Action::Remove(slot as u8));
                }
                _ => {}
            }
        }
        if bounds.marking {
            steps.extend((0..bounds.keys).map(Action::Mark));
        }
        if bounds.shorten && self.store.lease == bounds.max_lease() {
            steps.push(Action::Shorten);
        }
        match self.dump {
            None if bounds.restore && self.store.history == 0 && full() => {
                steps.push(Action::Dump);
            }
            Some(dump) if self.has_followed_past(dump.epoch, bounds) => {
                steps.push(Action::PutBack);
            }
            _ => {}
        }
    }

    /// Returns whether each running node has followed a change that the dump does not have, so that
    /// its next poll finds out.
    fn has_followed_past(&self, epoch: u8, bounds: &Bounds) -> bool {
        let past = |node: &Node| node.cursor.is_none_or(|cursor| cursor.epoch > epoch);
        let mut running = self.nodes.iter().filter(|node| node.running);
        (!self.is_applying() && running.all(past)) || bounds.lacks(Without::FollowedBeforePutBack)
    }

    /// Returns whether a call is between its commit and its return.
    fn is_applying(&self) -> bool {
        let applying = |stage| matches!(stage, Stage::Applying(_));
        self.call.is_some_and(|call| applying(call.stage))
    }

    fn changes(&self, bounds: &Bounds, steps: &mut Vec<Action>) {
        if self.store.data.open.is_some() {
            steps.extend(bounds.callers.iter().map(|node| Action::CommitOpen(*node)));
        }
        if self.budget.changes == 0 || self.is_applying() {
            return;
        }
        for change in bounds.changes {
            let opens = bounds.lacks(Without::CommitOrder) || bounds.lacks(Without::OwnerLock);
            if opens && self.store.data.open.is_none() {
                steps.push(Action::Open(*change));
            }
            steps.extend(
                bounds
                    .callers
                    .iter()
                    .map(|node| Action::Call(*node, *change)),
            );
        }
    }

    fn steps_of_node(&self, node: u8, bounds: &Bounds, steps: &mut Vec<Action>) {
        let own = &self.nodes[usize::from(node)];
        if !own.running {
            if bounds.restarts && own.slot == node && self.budget.joins > 0 {
                steps.push(Action::Restart(node));
            }
            return;
        }
        let older = bounds.older.contains(&node);
        let reads = bounds.readers.contains(&node);
        for key in (0..bounds.keys).filter(|_| reads) {
            if !older {
                // Under a lease, only a check that misses reads the store. A read that fails leaves
                // nothing behind, and is left out.
                let misses = own.cache[usize::from(key)].is_none() || own.lease == 0;
                match own.reads[usize::from(key)] {
                    Some(_) => steps.push(Action::EndRead(node, key)),
                    None if misses => steps.push(Action::BeginRead(node, key)),
                    None => {}
                }
                if own.cache[usize::from(key)].is_some_and(|entry| !entry.noted) {
                    steps.push(Action::NoteCount(node, key));
                }
            }
            for secret in 0..2 {
                if older {
                    steps.push(Action::CheckOnOlderNode(node, key, secret));
                } else if self.check.is_none() {
                    steps.push(Action::StartCheck(node, key, secret));
                }
            }
        }
        match own.poll {
            Some(_) => steps.extend([Action::ReceivePage(node), Action::LosePoll(node)]),
            None if own.member || bounds.lacks(Without::Membership) => {
                steps.push(Action::SendPoll(node));
            }
            None => {}
        }
        if !own.member && self.budget.joins > 0 {
            steps.push(Action::Join(node));
        }
        if own.followed.is_some() && bounds.late_acknowledgements {
            steps.push(Action::Acknowledge(node));
        }
        if self.budget.leaves > 0 {
            steps.push(Action::Leave(node));
        }
        if self.budget.crashes > 0 {
            steps.push(Action::Crash(node));
        }
    }

    /// Takes a step. Returns `false` if it is not possible or changes nothing.
    pub fn take(&mut self, action: Action, bounds: &Bounds) -> bool {
        let before = *self;
        let done = match action {
            Action::Tick => self.tick(bounds),
            Action::Call(node, change) => self.call(node, change, bounds),
            Action::ContinueCall => self.continue_call(bounds),
            Action::Open(change) => self.open(change, bounds),
            Action::CommitOpen(node) => self.commit_open(node, bounds),
            Action::ContinueCheck => self.continue_check(bounds),
            Action::StartCheck(node, key, secret) => {
                self.check = self.check_to_start(node, key, secret, bounds);
                self.check.is_some()
            }
            Action::CheckOnOlderNode(_, key, secret) => self.check_on_older_node(key, secret),
            Action::Mark(key) => self.store.mark(key),
            Action::Suspect(_) | Action::Remove(_) | Action::Shorten => {
                self.change_members(action, bounds)
            }
            Action::Dump => {
                self.dump = Some(self.store.data);
                true
            }
            Action::PutBack => self.put_back(),
            _ => self.step_of_node(action, bounds),
        };
        self.forget_what_is_not_looked_at(bounds);
        done && *self != before
    }

    /// Makes states equal that differ only in what has no consequence.
    fn forget_what_is_not_looked_at(&mut self, bounds: &Bounds) {
        for node in (0..bounds.nodes).filter(|node| !bounds.readers.contains(node)) {
            let node = &mut self.nodes[usize::from(node)];
            node.lease = 0;
            node.poll.iter_mut().for_each(|poll| poll.age = 0);
        }
        for promise in self.promises.iter_mut().flatten() {
            // What is weaker is not looked at any more.
            if promise.confirmed {
                promise.denied = Some(0);
                promise.returned = [false; NODES];
            }
        }
    }

    fn step_of_node(&mut self, action: Action, bounds: &Bounds) -> bool {
        match action {
            Action::BeginRead(node, key) => self.begin_read(node, key),
            Action::EndRead(node, key) => self.end_read(node, key, bounds),
            Action::NoteCount(node, key) => self.note_count(node, key),
            Action::SendPoll(node) => self.send_page(node, bounds),
            Action::ReceivePage(node) => self.receive_page(node, bounds),
            Action::LosePoll(node) => {
                self.nodes[usize::from(node)].poll = None;
                self.poll_lost(node);
            }
            Action::Acknowledge(node) => self.acknowledge(node, bounds),
            Action::Join(node) => {
                self.budget.joins -= 1;
                let own = &mut self.nodes[usize::from(node)];
                own.member = true;
                let slot = own.slot;
                return self.store.join(slot, bounds.protocol(node), bounds);
            }
            Action::Leave(node) => {
                self.budget.leaves -= 1;
                self.stop(node);
                self.store.data.members[usize::from(node)] = None;
            }
            Action::Crash(node) => {
                self.budget.crashes -= 1;
                self.stop(node);
            }
            Action::Restart(node) => {
                self.nodes[usize::from(node)] = Node::new(NODES as u8, true);
            }
            _ => return false,
        }
        true
    }

    pub fn acknowledge(&mut self, node: u8, bounds: &Bounds) {
        let own = self.nodes[usize::from(node)];
        if let Some(followed) = own.followed {
            self.store.acknowledge(own.slot, followed.cursor, bounds);
        }
    }

    fn call(&mut self, node: u8, change: Change, bounds: &Bounds) -> bool {
        let own = &self.nodes[usize::from(node)];
        let able = own.running && !bounds.older.contains(&node);
        self.budget.changes -= 1;
        able && self.begin_call(node, change, None, bounds)
    }

    fn open(&mut self, change: Change, bounds: &Bounds) -> bool {
        self.budget.changes -= 1;
        let owner = match change {
            Change::Create(_, owner) | Change::Move(_, owner) => owner,
            _ => 0,
        };
        let data = &self.store.data;
        let number = data.owners[usize::from(owner)].revocations;
        let taken = bounds.lacks(Without::CommitOrder);
        if taken && !self.store.log(Item::Hole, bounds) {
            return false;
        }
        self.store.data.open = Some(OpenChange {
            change,
            number,
            dead: change
                .key()
                .is_some_and(|key| self.store.find(key).is_dead()),
            epoch: taken.then_some(self.store.data.epoch),
        });
        true
    }

    fn commit_open(&mut self, node: u8, bounds: &Bounds) -> bool {
        if self.is_applying() {
            return false;
        }
        let open = self.store.data.open.take();
        open.is_some_and(|open| self.begin_call(node, open.change, Some(open), bounds))
    }
}

impl Bounds {
    /// The protocol that a node speaks.
    pub fn protocol(&self, node: u8) -> u8 {
        if self.older.contains(&node) { 1 } else { 2 }
    }
}
