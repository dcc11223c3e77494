//! The store: records, owners' rows, the change log, and the member list.

use crate::bounds::{Bounds, KEYS, LOG, OWNERS, SLOTS};
use crate::state::{
    Change, Cursor, Data, Found, Item, LogRow, Member, OpenChange, OwnerRow, Page, PageSet, Record,
    State, Store, Violation,
};
use crate::without::Without;

const EMPTY: LogRow = LogRow {
    item: Item::Hole,
    tag: 0,
};

impl Store {
    /// Creates the store with the configuration's keys, all of owner 0, and no members.
    pub fn new(bounds: &Bounds) -> Self {
        let record = |key: usize| Record {
            exists: key < usize::from(bounds.keys.min(bounds.existing)),
            secret: 0,
            enabled: true,
            revoked: false,
            owner: 0,
            number: 0,
        };
        let version = u8::from(bounds.owners);
        let row = OwnerRow {
            version,
            ..OwnerRow::default()
        };
        Self {
            data: Data {
                epoch: 0,
                log: [EMPTY; LOG],
                trimmed: 0,
                keys: [record(0), record(1)],
                owners: [row; OWNERS],
                members: [None; SLOTS],
                open: None,
            },
            history: 0,
            lease: bounds.max_lease(),
            shortened: None,
        }
    }

    /// Returns what a read of `key` finds: the record and the owner's state, of one snapshot.
    pub fn find(&self, key: u8) -> Found {
        let record = self.data.keys[usize::from(key)];
        Found {
            record,
            owner: self.data.owners[usize::from(record.owner)],
        }
    }

    /// Returns whether the store allows `secret` of `key`.
    pub fn allows(&self, key: u8, secret: u8) -> bool {
        let found = self.find(key);
        found.allows(secret, found.owner)
    }

    /// Returns the longest lease that a node may hold.
    pub fn longest_lease(&self, bounds: &Bounds) -> u8 {
        if self.shortened.is_some() && !bounds.lacks(Without::LongestLease) {
            bounds.max_lease()
        } else {
            self.lease
        }
    }

    fn tag(&self, epoch: u8, bounds: &Bounds) -> u8 {
        match epoch.checked_sub(1) {
            _ if bounds.lacks(Without::Tags) => 0,
            Some(row) => self.data.log[usize::from(row)].tag,
            None => 0,
        }
    }

    fn newest(&self, bounds: &Bounds) -> Cursor {
        self.cursor_at(self.data.epoch, bounds)
    }

    fn cursor_at(&self, epoch: u8, bounds: &Bounds) -> Cursor {
        let tag = self.tag(epoch, bounds);
        Cursor { epoch, tag }
    }

    /// Returns whether the log has the cursor's change with its tag.
    fn knows(&self, cursor: Cursor, bounds: &Bounds) -> bool {
        cursor.epoch <= self.data.epoch && self.tag(cursor.epoch, bounds) == cursor.tag
    }

    /// Answers a poll: one item at most.
    pub fn page(&self, since: Option<Cursor>, slot: u8, bounds: &Bounds) -> Page {
        let known =
            since.filter(|since| since.epoch >= self.data.trimmed && self.knows(*since, bounds));
        let (set, cursor) = match known {
            None => (PageSet::Resync, self.newest(bounds)),
            Some(since) if since.epoch == self.data.epoch => (PageSet::Nothing, since),
            Some(since) => match self.data.log[usize::from(since.epoch)].item {
                // The next committed row has a later number.
                Item::Hole => (PageSet::Gap, self.newest(bounds)),
                Item::Owner(owner) => (
                    PageSet::Owner(owner, self.data.owners[usize::from(owner)]),
                    self.cursor_at(since.epoch + 1, bounds),
                ),
                item => (PageSet::Item(item), self.cursor_at(since.epoch + 1, bounds)),
            },
        };
        let member = self.data.members[usize::from(slot)];
        Page {
            set,
            cursor,
            head: self.data.epoch,
            lease: self.lease,
            member: member.is_some_and(|member| member.suspected.is_none()),
        }
    }

    /// Takes the next epoch. Returns `false` if the model has no more of them.
    pub fn log(&mut self, item: Item, bounds: &Bounds) -> bool {
        let Some(row) = self.data.log.get_mut(usize::from(self.data.epoch)) else {
            return false;
        };
        *row = LogRow {
            item,
            tag: self.history,
        };
        self.data.epoch += 1;
        self.trim(bounds);
        true
    }

    /// Removes rows that all members have acknowledged, and the oldest of too many.
    fn trim(&mut self, bounds: &Bounds) {
        let acknowledged = self.data.members.iter().flatten();
        let acknowledged = acknowledged.map(|member| member.acknowledged).min();
        let oldest = self.data.epoch.saturating_sub(bounds.log_rows);
        self.data.trimmed = oldest
            .max(acknowledged.unwrap_or(0).min(self.data.epoch))
            .max(self.data.trimmed);
        // What is trimmed is not read any more; the tag of the last row is.
        for row in 1..self.data.trimmed {
            self.data.log[usize::from(row) - 1] = EMPTY;
        }
    }

    /// Lists a member, or ends its suspicion.
    pub fn join(&mut self, slot: u8, protocol: u8, bounds: &Bounds) -> bool {
        let slot = &mut self.data.members[usize::from(slot)];
        let acknowledged = slot.map_or(0, |member| member.acknowledged);
        *slot = Some(Member {
            acknowledged,
            protocol,
            suspected: None,
        });
        self.log(Item::Member, bounds)
    }

    /// Stores an acknowledgement, which is also a heartbeat.
    pub fn acknowledge(&mut self, slot: u8, cursor: Cursor, bounds: &Bounds) {
        let known = self.knows(cursor, bounds);
        if let Some(member) = &mut self.data.members[usize::from(slot)] {
            if known {
                member.acknowledged = cursor.epoch;
            }
            member.suspected = member.suspected.map(|_| 0);
        }
        self.trim(bounds);
    }

    pub fn has_older_member(&self) -> bool {
        let mut members = self.data.members.iter().flatten();
        members.any(|member| member.protocol < 2)
    }

    /// Writes `revoked` of a key that its owner's row has ended: not a change.
    pub fn mark(&mut self, key: u8) -> bool {
        let Found { record, owner } = self.find(key);
        let dead = record.exists && !record.revoked && record.number < owner.revocations;
        self.data.keys[usize::from(key)].revoked |= dead;
        dead
    }

    /// Applies `change`, with what it `read` earlier if it holds no lock. Returns the item to log, or
    /// `None` if nothing changed.
    fn apply(&mut self, change: Change, read: Option<OpenChange>, bounds: &Bounds) -> Option<Item> {
        let number = read.map(|read| read.number);
        let owners = &mut self.data.owners;
        match change {
            Change::RevokeAll(owner) => {
                owners[usize::from(owner)].revocations += 1;
                owners[usize::from(owner)].version += 1;
                return Some(Item::Owner(owner));
            }
            Change::Suspend(owner) | Change::Resume(owner) => {
                let suspended = matches!(change, Change::Suspend(_));
                let row = &mut owners[usize::from(owner)];
                let changed = row.suspended != suspended;
                row.version += u8::from(changed);
                row.suspended = suspended;
                return changed.then_some(Item::Owner(owner));
            }
            _ => {}
        }
        let key = change.key()?;
        let record = &mut self.data.keys[usize::from(key)];
        if matches!(change, Change::Create(..)) == record.exists {
            return None;
        }
        let before = *record;
        match change {
            Change::Create(_, owner) => {
                record.exists = true;
                record.owner = owner;
                record.number = number.unwrap_or(owners[usize::from(owner)].revocations);
            }
            Change::Revoke(_) => record.revoked = true,
            Change::Rotate(_) => record.secret = 1,
            Change::Disable(_) => record.enabled = false,
            Change::Enable(_) => record.enabled = true,
            Change::Move(_, owner) => {
                let dead = record.number < owners[usize::from(record.owner)].revocations;
                let dead = read.map_or(dead, |read| read.dead);
                if dead && !bounds.lacks(Without::DeadKeyStays) {
                    record.revoked = true;
                } else {
                    record.number = number.unwrap_or(owners[usize::from(owner)].revocations);
                    record.owner = owner;
                }
            }
            _ => {}
        }
        (before != *record).then_some(Item::Key(key))
    }
}

impl State {
    /// Commits a change: the record or the owner's row, and the log, in one step.
    pub fn commit(&mut self, change: Change, open: Option<OpenChange>, bounds: &Bounds) -> bool {
        let before = self.store;
        let read = open.filter(|_| bounds.lacks(Without::OwnerLock));
        let Some(item) = self.store.apply(change, read, bounds) else {
            return false;
        };
        match open.and_then(|open| open.epoch) {
            Some(epoch) => {
                self.store.data.log[usize::from(epoch) - 1] = LogRow {
                    item,
                    tag: self.store.history,
                };
            }
            None if !self.store.log(item, bounds) => return false,
            None => {}
        }
        self.look_for_undone(&before);
        if let Change::Create(key, owner) = change {
            let number = self.store.data.keys[usize::from(key)].number;
            if number < self.store.data.owners[usize::from(owner)].revocations {
                self.violation = Some(Violation::NewKeyIsDead);
            }
        }
        self.note_changes(&before);
        true
    }

    /// Reports a revocation that a change undid.
    fn look_for_undone(&mut self, before: &Store) {
        for key in 0..KEYS as u8 {
            if before.find(key).is_dead() && !self.store.find(key).is_dead() {
                self.violation = Some(Violation::RevocationUndone);
            }
        }
    }
}

impl Found {
    /// Returns whether the key is revoked, marked or not.
    pub fn is_dead(&self) -> bool {
        self.record.is_dead(self.owner)
    }

    /// Returns whether `secret` is allowed if the owner's state is `owner`.
    pub fn allows(&self, secret: u8, owner: OwnerRow) -> bool {
        self.record.denial(secret, owner).is_none()
    }
}

/// Why a record denies a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    Revoked,
    /// A newer record could overturn it.
    Deferred,
}

impl Record {
    pub fn is_dead(&self, owner: OwnerRow) -> bool {
        self.exists && (self.revoked || self.number < owner.revocations)
    }

    pub fn denial(&self, secret: u8, owner: OwnerRow) -> Option<Denial> {
        if self.is_dead(owner) {
            Some(Denial::Revoked)
        } else if !self.exists || !self.enabled || self.secret != secret || owner.suspended {
            Some(Denial::Deferred)
        } else {
            None
        }
    }
}

impl Change {
    /// Returns the key that changes.
    pub fn key(self) -> Option<u8> {
        match self {
            Self::Create(key, _)
            | Self::Revoke(key)
            | Self::Rotate(key)
            | Self::Disable(key)
            | Self::Enable(key)
            | Self::Move(key, _) => Some(key),
            Self::RevokeAll(_) | Self::Suspend(_) | Self::Resume(_) => None,
        }
    }

    /// Returns the owner whose row changes.
    pub fn owner(self) -> Option<u8> {
        match self {
            Self::RevokeAll(owner) | Self::Suspend(owner) | Self::Resume(owner) => Some(owner),
            _ => None,
        }
    }
}
