//! Pages of the change log: what a poll reads, checks and evicts before it takes a lease.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::poller::{ChangePoller, SyncPosition, late};
use crate::clock::{ClockReading, millis_u64};
use crate::error::StoreError;
use crate::metrics::PollOutcome;
use crate::store::{ChangeLog, ChangeSet, ChangedItem, Changes, Cursor, MAX_LEASE, PROTOCOL};

impl ChangePoller {
    /// Evicts what changed since `cursor`, page by page up to the head that the first page reports,
    /// and takes a lease that starts when the first page was sent. Later pages may report a later
    /// head, which is not waited for: a steady stream of changes does not delay the lease.
    ///
    /// If the pages take longer than a lease, or do not continue each other, evicts everything and
    /// continues from the newest cursor.
    ///
    /// `listed` is whether this node joined the store's members, and `deadline` that of each page.
    pub(super) async fn follow_pages(
        &self,
        log: &dyn ChangeLog,
        cursor: &mut Option<Cursor>,
        listed: bool,
        deadline: Duration,
    ) -> Result<PollOutcome, StoreError> {
        let mut sent = self.sending();
        // The shortest of the pages since then. A lease that a later page states is for nodes that
        // follow up to that page's head.
        let mut shortest = MAX_LEASE;
        // That of the first page.
        let mut head = None;
        loop {
            let is_first = head.is_none();
            let since = cursor.clone();
            let page = self.page(log, since.as_ref(), deadline).await?;
            if listed && !page.member {
                *cursor = None;
                self.leave_members();
                return Ok(PollOutcome::NotMember);
            }
            // `.confirmed()` does not wait for longer leases than the maximum.
            let length = page.lease.min(MAX_LEASE);
            shortest = shortest.min(length);
            if page.required_protocol > PROTOCOL {
                *cursor = None;
                self.withhold_lease(page, length);
                return Ok(PollOutcome::Answered);
            }
            self.required_protocol.store(PROTOCOL, Ordering::SeqCst);
            self.longest_millis
                .fetch_max(millis_u64(length), Ordering::SeqCst);
            let continues = since.is_none_or(|since| continues(&page, &since));
            let head = *head.get_or_insert(page.head);
            let is_late = elapsed(sent[0], self.shared.now()) >= shortest;
            if continues {
                let resynced = page.set == ChangeSet::Resync;
                let reached = page.cursor.epoch;
                if page.set.names_owner() {
                    self.note_owner_change();
                }
                *cursor = Some(self.evict_page(page));
                if resynced || (reached >= head && (is_first || !is_late)) {
                    // After the evictions: a check that sees the lease also sees them.
                    self.cache.lease.grant(sent, shortest);
                    return Ok(PollOutcome::Answered);
                }
            } else {
                tracing::warn!(
                    "the key store's change log has a gap; everything is evicted from the cache"
                );
            }
            if !continues || is_late {
                // The answer to a poll without a cursor is always the last page.
                *cursor = None;
                self.cache.flush();
                sent = self.sending();
                shortest = MAX_LEASE;
            }
        }
    }

    /// Returns the time at which a page is sent, read twice; see [`Lease::grant`].
    ///
    /// [`Lease::grant`]: crate::cache::Lease::grant
    fn sending(&self) -> [ClockReading; 2] {
        [self.shared.now(), self.shared.now()]
    }

    async fn page(
        &self,
        log: &dyn ChangeLog,
        since: Option<&Cursor>,
        deadline: Duration,
    ) -> Result<Changes, StoreError> {
        let changes = log.changes(since, Some(&self.node));
        let changes = tokio::time::timeout(deadline, changes).await;
        let mut changes = changes.unwrap_or_else(|_elapsed| Err(late(deadline)))?;
        if since.is_none() {
            changes.set = ChangeSet::Resync;
        }
        Ok(changes)
    }

    /// Follows that the store does not list this node as a member.
    fn leave_members(&self) {
        self.member.store(false, Ordering::SeqCst);
        self.followed.send_replace(None);
        self.cache.lease.end();
        self.cache.flush();
        tracing::warn!(node = %self.node, "the key store has removed this node from its member list; it joins again");
    }

    /// Takes no lease, and evicts everything. The node can then acknowledge each change, whatever
    /// it is: it trusts no entry.
    fn withhold_lease(&self, page: Changes, length: Duration) {
        let required = page.required_protocol;
        self.cache.lease.withhold(length);
        self.cache.flush();
        if self.required_protocol.swap(required, Ordering::SeqCst) != required {
            tracing::error!(
                required,
                spoken = PROTOCOL,
                "the key store requires a newer protocol, so every check reads the store; update this program"
            );
        }
        let unchanged = |followed: &SyncPosition| followed.cursor == page.cursor;
        let since = self.followed().filter(unchanged);
        self.reach(page.cursor, since.map(|followed| followed.unbroken_since));
    }

    /// Evicts what a page names, and returns its cursor.
    fn evict_page(&self, page: Changes) -> Cursor {
        let unbroken_since = match page.set {
            ChangeSet::Entries(items) => {
                self.evict_items(items);
                self.followed().map(|followed| followed.unbroken_since)
            }
            ChangeSet::Resync => {
                self.cache.flush();
                None
            }
        };
        self.reach(page.cursor.clone(), unbroken_since);
        page.cursor
    }

    /// Evicts the keys, and then follows all owners at once: each such step concerns every read in
    /// flight.
    fn evict_items(&self, items: Vec<ChangedItem>) {
        let mut owners = Vec::new();
        for item in items {
            match item {
                ChangedItem::Key(id) => self.cache.evict(&id),
                ChangedItem::Member => {}
                ChangedItem::Owner { owner, state } => owners.push((owner, state)),
            }
        }
        if !owners.is_empty() {
            self.cache.owners_changed(&owners);
        }
    }

    /// Publishes the position that the cache has followed up to. `unbroken_since` is `None` if it
    /// does not continue the one before.
    fn reach(&self, cursor: Cursor, unbroken_since: Option<Instant>) {
        let followed = SyncPosition {
            cursor,
            // From now on, since the store may have been another one until it made this answer.
            unbroken_since: unbroken_since.unwrap_or_else(Instant::now),
        };
        self.followed.send_if_modified(|current| {
            let moved = current.as_ref() != Some(&followed);
            *current = Some(followed);
            moved
        });
    }

    /// Returns the protocol version that the store requires, if this release does not speak it.
    pub(crate) fn unsupported_protocol(&self) -> Option<u32> {
        let required = self.required_protocol.load(Ordering::SeqCst);
        (required > PROTOCOL).then_some(required)
    }
}

/// Returns whether `page` is what follows `since`: one item for each epoch up to its cursor. A log
/// that lost an entry has fewer.
fn continues(page: &Changes, since: &Cursor) -> bool {
    let ChangeSet::Entries(items) = &page.set else {
        return true;
    };
    let reached = page.cursor.epoch;
    let count = u64::try_from(items.len()).ok();
    count.is_some()
        && count == reached.checked_sub(since.epoch)
        && items.len() <= ChangeSet::MAX_ENTRIES
        && reached <= page.head
        // Otherwise the next page would be the same again.
        && (count > Some(0) || reached == page.head)
}

fn elapsed(from: ClockReading, to: ClockReading) -> Duration {
    Duration::from_nanos(to.uptime_nanos.saturating_sub(from.uptime_nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyId;

    fn cursor(epoch: u64) -> Cursor {
        Cursor {
            epoch,
            tag: Vec::new(),
        }
    }

    fn page(items: usize, reached: u64, head: u64) -> Changes {
        let keys = (0..items).map(|_| KeyId::from_u128(1));
        let lease = Duration::from_secs(1);
        Changes::new(ChangeSet::of_keys(keys), cursor(reached), lease).with_head(head)
    }

    #[test]
    fn a_page_has_one_item_for_each_epoch() {
        let max = ChangeSet::MAX_ENTRIES;
        for (right, items, reached, head) in [
            (true, 0, 5, 5),
            (true, 2, 7, 7),
            (true, 2, 7, 8),
            (true, max, 1_005, 1_005),
            (false, 1, 7, 7),
            (false, 3, 7, 7),
            (false, 0, 4, 5),
            (false, 0, 5, 6),
            (false, 2, 7, 6),
            (false, max + 1, 1_006, 1_006),
        ] {
            let page = page(items, reached, head);
            assert_eq!(
                continues(&page, &cursor(5)),
                right,
                "{items} {reached} {head}"
            );
        }
    }
}
