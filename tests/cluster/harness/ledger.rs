//! What the coordinator ordered, compared with the store's audit log.

use std::collections::HashMap;
use std::sync::Mutex;

use apikey_runtime::audit::{AuditEntry, ChangeChannel};
use apikey_runtime::store::AuditQuery;

use super::cluster::Cluster;
use super::node::open;
use super::place::Place;
use super::process::{Answer, NodeProcess};

/// The answer to a change that was made before, or whose subject does not exist.
pub const UNCHANGED: &str = "unchanged";

/// The changes that were ordered, by the ids under which the nodes made them.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<String, Ordered>>);

/// What is known of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ordered {
    /// The node has not answered, or with an error: the change may have been made.
    Unsure,
    Changed,
    Unchanged,
}

impl Ordered {
    fn allows(self, entries: usize) -> bool {
        match self {
            Self::Unsure => entries <= 1,
            Self::Changed => entries == 1,
            Self::Unchanged => entries == 0,
        }
    }
}

impl Ledger {
    fn begin(&self) -> String {
        let mut orders = self.0.lock().unwrap();
        let id = format!("r{}", orders.len());
        orders.insert(id.clone(), Ordered::Unsure);
        id
    }

    fn end(&self, id: &str, answer: &str) {
        let outcome = match answer.ends_with(UNCHANGED) {
            true => Ordered::Unchanged,
            false => Ordered::Changed,
        };
        self.0.lock().unwrap().insert(id.to_owned(), outcome);
    }

    /// Returns, in words, where the log differs from what was ordered. Entries without a request id
    /// are of statements by hand.
    pub fn differences(&self, entries: &[AuditEntry], by_hand: bool) -> Vec<String> {
        let orders = self.0.lock().unwrap();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut found = Vec::new();
        for entry in entries {
            match entry.origin.request_id.as_deref() {
                Some(id) if orders.contains_key(id) => *counts.entry(id).or_default() += 1,
                None if by_hand && entry.origin.channel == ChangeChannel::Sql => {}
                _ => found.push(format!("{entry:?} was not ordered")),
            }
        }
        for (id, ordered) in &*orders {
            let count = counts.get(id.as_str()).copied().unwrap_or(0);
            if !ordered.allows(count) {
                found.push(format!("{id} ({ordered:?}) has {count} entries"));
            }
        }
        found
    }
}

impl Cluster {
    /// Orders `node` to make a change, under an id that the store's audit log has.
    pub(super) async fn order(&self, node: &NodeProcess, order: &str) -> Answer {
        let id = self.ledger.begin();
        let answer = node.ask(&format!("{order} {id}")).await;
        if let Ok(answer) = &answer {
            self.ledger.end(&id, answer);
        }
        answer
    }

    /// Panics unless the audit log has one entry for each change that was made, and no other. Returns
    /// the number of entries.
    pub async fn judge_audit(&self) -> usize {
        let store = open(&self.place.url(None), self.settings.lease);
        store.start().await.unwrap();
        let log = store.audit().expect("each store has an audit log");
        let mut query = AuditQuery::newest(1_000);
        let mut entries = Vec::new();
        loop {
            let page = log.read_audit(&query).await.unwrap();
            entries.extend(page.entries);
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        let by_hand = !matches!(self.place, Place::Redis(_));
        let found = self.ledger.differences(&entries, by_hand);
        store.stop().await;
        assert!(
            found.is_empty(),
            "{} differences between the audit log and what was ordered: {:#?}",
            found.len(),
            &found[..found.len().min(20)]
        );
        entries.len()
    }
}

#[cfg(test)]
mod tests {
    use apikey_runtime::Timestamp;
    use apikey_runtime::audit::{AuditAction, ChangeOrigin};

    use super::*;

    fn entry(id: Option<&str>, channel: ChangeChannel) -> AuditEntry {
        let mut origin = ChangeOrigin::new().with_channel(channel);
        origin.request_id = id.map(str::to_owned);
        AuditEntry::new("1", Timestamp::MIN, AuditAction::Updated, origin)
    }

    /// Negative controls: each kind of difference is found.
    #[test]
    fn a_log_that_differs_from_what_was_ordered_is_found_out() {
        let ledger = Ledger::default();
        let [made, again, _unsure] = [(); 3].map(|()| ledger.begin());
        ledger.end(&made, "1 2 plain ");
        ledger.end(&again, "1 2 plain unchanged");
        let count = |ids: &[&str]| {
            let entries: Vec<_> = ids
                .iter()
                .map(|id| entry(Some(id), ChangeChannel::Code))
                .collect();
            ledger.differences(&entries, true).len()
        };
        assert_eq!([count(&["r0"]), count(&["r2", "r0"])], [0, 0]);
        for (ids, differences) in [
            (&[][..], 1),
            (&["r0", "r0"], 1),
            (&["r0", "r1"], 1),
            (&["r0", "r2", "r2"], 1),
            (&["r0", "r3"], 1),
            (&["r1"], 2),
        ] {
            assert_eq!(count(ids), differences, "{ids:?}");
        }
        for (channel, by_hand, differences) in [
            (ChangeChannel::Sql, true, 0),
            (ChangeChannel::Sql, false, 1),
            (ChangeChannel::Code, true, 1),
        ] {
            let entries = [entry(Some("r0"), ChangeChannel::Code), entry(None, channel)];
            assert_eq!(ledger.differences(&entries, by_hand).len(), differences);
        }
    }
}
