//! A node: its cache, its reads of the store, and its polls.

use crate::bounds::{Bounds, KEYS, OWNERS};
use crate::state::{
    CheckStage, Cursor, Entry, Followed, Item, Node, OwnerRow, Page, PageSet, Poll, Read, State,
    Ticks,
};
use crate::store::Denial;
use crate::without::Without;

/// A step of applying an owner's change to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerStep {
    /// Advances the generation of all shards and detaches all reads.
    Generations,
    /// Raises the marks.
    Marks,
    /// Increments the count of owners' changes.
    Count,
    /// Grants the lease and acknowledges, or returns to the caller.
    Finish,
}

/// Returns the steps of an owner's change on `node` in their order.
pub fn owner_steps(node: u8, bounds: &Bounds) -> &'static [OwnerStep] {
    use OwnerStep::{Count, Finish, Generations, Marks};
    if !bounds.readers.contains(&node) {
        return &[Finish];
    }
    match bounds.without {
        Some(Without::OwnerGenerations) => &[Marks, Count, Finish],
        Some(Without::GenerationsBeforeMarks) => &[Marks, Generations, Count, Finish],
        Some(Without::MarksBeforeAcknowledgement) => &[Generations, Finish, Marks, Count],
        Some(Without::CountAlways) => &[Generations, Marks, Finish],
        Some(Without::MarksBeforeCount) => &[Generations, Count, Marks, Finish],
        _ => &[Generations, Marks, Count, Finish],
    }
}

impl Node {
    /// Creates a node that has not joined.
    pub fn new(slot: u8, running: bool) -> Self {
        Self {
            running,
            slot,
            member: false,
            cursor: None,
            followed: None,
            lease: 0,
            longest: 0,
            poll: None,
            cache: [None; KEYS],
            marks: [None; OWNERS],
            reads: [None; KEYS],
        }
    }

    /// Returns the mark of an entry.
    fn mark(&self, entry: &Entry) -> OwnerRow {
        self.marks[usize::from(entry.record.owner)].unwrap_or_default()
    }

    /// Decides as a check does that holds a lease. It looks at the mark only if the count moved
    /// since the mark was live.
    pub fn decide(&self, entry: &Entry, secret: u8) -> Option<Denial> {
        let mark = match entry.noted {
            true => OwnerRow::default(),
            false => self.mark(entry),
        };
        entry.record.denial(secret, mark)
    }
}

impl State {
    fn node(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    /// Runs `change` for the entry of the watched check, if it has one of this node.
    fn with_peeked(&mut self, node: u8, change: impl FnOnce(u8, &mut Entry, &mut bool)) {
        if let Some(check) = &mut self.check
            && check.node == node
            && let CheckStage::Peeked { entry, stale, .. } = &mut check.stage
        {
            change(check.key, entry, stale);
        }
    }

    /// Advances the generation of a key and detaches its read.
    fn fence(&mut self, node: u8, key: u8, bounds: &Bounds) {
        let read = &mut self.node(node).reads[usize::from(key)];
        if let Some(seen) = read {
            seen.fenced |= !bounds.lacks(Without::Generation);
            seen.joinable &= bounds.lacks(Without::Detach);
            // Nothing can come of it any more.
            if seen.fenced && !seen.joinable {
                *read = None;
            }
        }
    }

    /// Evicts a key.
    pub fn evict(&mut self, node: u8, key: u8, bounds: &Bounds) {
        self.fence(node, key, bounds);
        self.node(node).cache[usize::from(key)] = None;
        self.with_peeked(node, |peeked, _, stale| *stale |= peeked == key);
    }

    /// Evicts everything, and drops the table of marks.
    fn flush(&mut self, node: u8, bounds: &Bounds) {
        for key in 0..KEYS as u8 {
            self.evict(node, key, bounds);
        }
        if bounds.lacks(Without::DropMarks) {
            return;
        }
        self.node(node).marks = [None; OWNERS];
    }

    /// Does one step of an owner's change. `Finish` is done by the caller.
    pub fn owner_step(
        &mut self,
        node: u8,
        step: OwnerStep,
        (owner, row): (u8, OwnerRow),
        bounds: &Bounds,
    ) {
        match step {
            OwnerStep::Generations => {
                for key in 0..KEYS as u8 {
                    self.fence(node, key, bounds);
                }
            }
            OwnerStep::Marks => {
                let mark = &mut self.node(node).marks[usize::from(owner)];
                let newer = |mark: OwnerRow| mark.version < row.version;
                let raised =
                    mark.is_some_and(|mark| newer(mark) || bounds.lacks(Without::MarkVersions));
                if raised {
                    *mark = Some(row);
                }
                if raised && bounds.lacks(Without::CountAlways) {
                    self.count_owner_change(node);
                }
            }
            OwnerStep::Count => self.count_owner_change(node),
            OwnerStep::Finish => {}
        }
    }

    fn count_owner_change(&mut self, node: u8) {
        for entry in self.node(node).cache.iter_mut().flatten() {
            entry.noted = false;
        }
        self.with_peeked(node, |_, entry, _| entry.noted = false);
    }

    /// Begins a read of the store for a check that is not watched. It takes the place of one that
    /// came to nothing.
    pub fn begin_read(&mut self, node: u8, key: u8) {
        let found = self.store.find(key);
        self.node(node).reads[usize::from(key)] = Some(Read {
            found,
            joinable: true,
            fenced: false,
        });
    }

    /// Ends a read: its answer fills the cache, unless the generation moved.
    pub fn end_read(&mut self, node: u8, key: u8, bounds: &Bounds) {
        let slot = usize::from(key);
        let Some(read) = self.node(node).reads[slot].take() else {
            return;
        };
        if read.fenced {
            return;
        }
        self.with_peeked(node, |peeked, _, stale| *stale |= peeked == key);
        let record = read.found.record;
        if bounds.owners && record.exists {
            let mark = &mut self.node(node).marks[usize::from(record.owner)];
            if mark.is_none_or(|mark| mark.version < read.found.owner.version) {
                *mark = Some(read.found.owner);
            }
        }
        self.node(node).cache[slot] = Some(Entry {
            record,
            noted: !bounds.owners,
        });
    }

    /// A check that is not watched looks at an entry's live mark, and notes the count.
    pub fn note_count(&mut self, node: u8, key: u8) {
        let seen = *self.node(node);
        if let Some(entry) = &mut self.node(node).cache[usize::from(key)] {
            let mark = seen.mark(entry);
            let live = entry.record.number >= mark.revocations && !mark.suspended;
            entry.noted |= live;
        }
        let noted = self.node(node).cache[usize::from(key)].is_some_and(|entry| entry.noted);
        self.with_peeked(node, |peeked, entry, stale| {
            entry.noted |= noted && peeked == key && !*stale;
        });
    }

    /// Sends a page's question; the store answers it at once, and the answer may be late.
    pub fn send_page(&mut self, node: u8, bounds: &Bounds) {
        let Node { cursor, slot, .. } = *self.node(node);
        let page = self.store.page(cursor, slot, bounds);
        self.node(node).poll = Some(Poll {
            age: 0,
            page,
            head: None,
            shortest: bounds.max_lease(),
            step: 0,
        });
        self.poll_began(node);
    }

    /// Receives a page, or does the next step of applying it.
    pub fn receive_page(&mut self, node: u8, bounds: &Bounds) {
        let Some(mut poll) = self.node(node).poll else {
            return;
        };
        let page = poll.page;
        if !page.member && !bounds.lacks(Without::Membership) {
            return self.leave_members(node, bounds);
        }
        let length = page.lease;
        poll.shortest = poll.shortest.min(length);
        if bounds.older.contains(&node) {
            return self.withhold_lease(node, page, bounds);
        }
        let longest = &mut self.node(node).longest;
        *longest = (*longest).max(length);
        let is_first = poll.head.is_none();
        let head = *poll.head.get_or_insert(page.head);
        let is_late = poll.age >= bounds.local(node, poll.shortest);
        if let PageSet::Owner(owner, row) = page.set
            && self.apply_owner(node, poll, is_first, (owner, row), bounds)
        {
            return;
        }
        let continues = page.set != PageSet::Gap;
        if continues {
            self.follow(node, page, bounds);
            let reached = page.cursor.epoch >= head;
            if page.set == PageSet::Resync || (reached && (is_first || !is_late)) {
                self.grant(node, &poll, bounds);
                self.node(node).poll = None;
                return self.poll_answered(node);
            }
        }
        if !continues || is_late {
            self.node(node).cursor = None;
            self.flush(node, bounds);
            poll.age = 0;
            poll.shortest = bounds.max_lease();
        }
        let Node { cursor, slot, .. } = *self.node(node);
        poll.page = self.store.page(cursor, slot, bounds);
        poll.step = 0;
        self.node(node).poll = Some(poll);
    }

    /// Does the next step of an owner's change that a page names. Returns `false` if what follows is
    /// the end of the page.
    fn apply_owner(
        &mut self,
        node: u8,
        mut poll: Poll,
        is_first: bool,
        (owner, row): (u8, OwnerRow),
        bounds: &Bounds,
    ) -> bool {
        let steps = owner_steps(node, bounds);
        let step = steps[usize::from(poll.step)];
        // Without the protection, these steps follow the lease.
        let last = usize::from(poll.step) + 1 == steps.len();
        if step == OwnerStep::Finish && last {
            return false;
        }
        poll.step += 1;
        if step == OwnerStep::Finish {
            self.follow(node, poll.page, bounds);
            self.node(node).poll = Some(poll);
            self.grant(node, &poll, bounds);
            self.poll_answered(node);
            return true;
        }
        poll.head = poll.head.filter(|_| !is_first);
        self.node(node).poll = Some(poll).filter(|_| !last);
        let row = match bounds.lacks(Without::OwnerStateInPage) {
            true => self.store.data.owners[usize::from(owner)],
            false => row,
        };
        self.owner_step(node, step, (owner, row), bounds);
        true
    }

    fn grant(&mut self, node: u8, poll: &Poll, bounds: &Bounds) {
        let length = bounds.local(node, poll.shortest);
        self.node(node).lease = if bounds.lacks(Without::LeaseFromSent) {
            length
        } else {
            length.saturating_sub(poll.age)
        };
    }

    fn leave_members(&mut self, node: u8, bounds: &Bounds) {
        let left = self.node(node);
        left.member = false;
        left.cursor = None;
        left.followed = None;
        left.lease = 0;
        left.poll = None;
        self.flush(node, bounds);
        self.poll_answered(node);
    }

    fn withhold_lease(&mut self, node: u8, page: Page, bounds: &Bounds) {
        self.flush(node, bounds);
        let holder = self.node(node);
        let unchanged = |followed: &Followed| followed.cursor == page.cursor;
        let since = holder.followed.filter(unchanged);
        holder.lease = 0;
        holder.cursor = None;
        holder.poll = None;
        holder.followed = Some(Followed {
            cursor: page.cursor,
            unbroken: since.map_or(0, |followed| followed.unbroken),
        });
        if !bounds.late_acknowledgements {
            self.acknowledge(node, bounds);
        }
        self.poll_answered(node);
    }

    /// Evicts what a page names, and publishes its position.
    fn follow(&mut self, node: u8, page: Page, bounds: &Bounds) {
        let unbroken = self.node(node).followed.map(|followed| followed.unbroken);
        let unbroken = match page.set {
            PageSet::Item(Item::Key(key)) => {
                self.evict(node, key, bounds);
                unbroken
            }
            PageSet::Resync => {
                self.flush(node, bounds);
                None
            }
            _ => unbroken,
        };
        let cursor: Cursor = page.cursor;
        self.node(node).cursor = Some(cursor);
        self.node(node).followed = Some(Followed {
            cursor,
            unbroken: unbroken.unwrap_or(0),
        });
        if !bounds.late_acknowledgements {
            self.acknowledge(node, bounds);
        }
    }

    /// Passes a tick of a node's time.
    pub fn age_node(node: &mut Node, most: Ticks) {
        node.lease = node.lease.saturating_sub(1);
        if let Some(poll) = &mut node.poll {
            poll.age = most.min(poll.age + 1);
        }
        if let Some(followed) = &mut node.followed {
            followed.unbroken = (2 * most).min(followed.unbroken + 1);
        }
    }
}
