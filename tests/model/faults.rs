//! What happens to a node or to the store: time, the end of a process, the member list, and a
//! history that is put back.

use crate::actions::Action;
use crate::bounds::{Bounds, DRIFT, KEYS};
use crate::state::{Node, State, Ticks};

impl State {
    /// Ends a node's process, and its call and check with it.
    pub fn stop(&mut self, node: u8) {
        let own = &mut self.nodes[usize::from(node)];
        *own = Node::new(own.slot, false);
        self.call = self.call.filter(|call| call.node != node);
        self.check = self.check.filter(|check| check.node != node);
    }

    pub fn change_members(&mut self, action: Action, bounds: &Bounds) -> bool {
        let members = &mut self.store.data.members;
        match action {
            Action::Suspect(slot) => {
                self.budget.suspicions -= 1;
                if let Some(member) = &mut members[usize::from(slot)] {
                    member.suspected = Some(0);
                }
            }
            Action::Remove(slot) => members[usize::from(slot)] = None,
            _ => {
                self.store.lease = bounds.lease;
                self.store.shortened = Some(0);
            }
        }
        true
    }

    /// Puts an earlier state back: what it does not have is not promised any more.
    pub fn put_back(&mut self) -> bool {
        let Some(dump) = self.dump.take() else {
            return false;
        };
        let before = self.store;
        self.store.data = dump;
        self.store.history += 1;
        for key in 0..KEYS {
            let dead = before.find(key as u8).is_dead();
            for promise in &mut self.promises[key] {
                promise.lost |= dead;
            }
        }
        self.note_changes(&before);
        true
    }

    pub fn tick(&mut self, bounds: &Bounds) -> bool {
        let most = bounds.max_lease() + DRIFT;
        let later = |ticks: Ticks| most.min(ticks + 1);
        for node in &mut self.nodes {
            Self::age_node(node, most);
        }
        for member in self.store.data.members.iter_mut().flatten() {
            member.suspected = member.suspected.map(later);
        }
        self.store.shortened = self
            .store
            .shortened
            .map(later)
            .filter(|since| *since < most);
        for promise in self.promises.iter_mut().flatten() {
            promise.denied = promise.denied.map(later);
        }
        self.age_call(most);
        true
    }
}
