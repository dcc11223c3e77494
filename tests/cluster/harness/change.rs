//! Changes of keys that the coordinator orders from nodes.

use super::clock::{Nanos, now};
use super::cluster::Cluster;
use super::history::{Change, Key, Turn};
use super::process::{Failure, NodeProcess};

/// A key as the cluster knows it.
#[derive(Debug, Clone)]
pub struct Issued {
    pub id: String,
    /// Its texts, newest last; each rotation adds one.
    pub texts: Vec<(Key, String)>,
}

/// Whether a change waits until all nodes know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Confirmed,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Confirmed => "confirmed",
        }
    }
}

/// A step in the life of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Revoke,
    Disable,
    Enable,
    /// With a grace period in milliseconds.
    Rotate(u64),
}

/// A change that returned `Ok`.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    pub start: Nanos,
    pub returned: Nanos,
    /// Whether it was confirmed by waiting for a lease to end.
    pub outlasted: bool,
}

impl Cluster {
    /// Orders `node` to create a key, which all nodes check from then on. `of` is its label, and its
    /// owner if it has one.
    pub async fn create(&self, node: &NodeProcess, of: &str) -> Result<Issued, Failure> {
        let answer = self.order(node, &format!("create {of}")).await?;
        let (done, rest) = parse(&answer);
        let (id, secret) = rest.split_once(' ').expect("an id and a secret");
        let key = self.watch(secret).await;
        self.note(Change {
            key,
            to: Turn::Live,
            process: Some(node.number),
            start: done.start,
            returned: Some(done.returned),
            confirmed: false,
            grace: 0,
        });
        Ok(Issued {
            id: id.to_owned(),
            texts: vec![(key, secret.to_owned())],
        })
    }

    /// Orders `node` to take a step with a key, and records the outcome.
    pub async fn take(
        &self,
        node: &NodeProcess,
        issued: &mut Issued,
        step: Step,
        kind: Kind,
    ) -> Result<Done, Failure> {
        let (key, secret) = issued.texts.last().expect("a key has a text").clone();
        let (verb, more) = match step {
            Step::Revoke => ("revoke", String::new()),
            Step::Disable => ("disable", String::new()),
            Step::Enable => ("enable", String::new()),
            Step::Rotate(grace) => ("rotate", format!(" {grace}")),
        };
        let start = now();
        let order = format!("{verb} {} {} {key} {secret}{more}", kind.word(), issued.id);
        let answer = self.order(node, &order).await;
        let said = answer.as_deref().ok().map(parse);
        let noted = |key, to, grace: u64| Change {
            key,
            to,
            process: Some(node.number),
            start: said.map_or(start, |(done, _)| done.start),
            returned: said.map(|(done, _)| done.returned),
            confirmed: kind == Kind::Confirmed,
            grace: grace * 1_000_000,
        };
        match step {
            // A key that ends takes all its texts with it.
            Step::Revoke => issued
                .texts
                .iter()
                .for_each(|(key, _)| self.note(noted(*key, Turn::Dead, 0))),
            Step::Disable => self.note(noted(key, Turn::Dead, 0)),
            Step::Enable => self.note(noted(key, Turn::Live, 0)),
            Step::Rotate(grace) => {
                self.note(noted(key, Turn::Dead, grace));
                if let Some((_, fresh)) = said {
                    let new = self.watch(fresh).await;
                    self.note(noted(new, Turn::Live, 0));
                    issued.texts.push((new, fresh.to_owned()));
                }
            }
        }
        answer.map(|answer| parse(&answer).0)
    }
}

/// Returns when the call was made, when it returned, and its answer.
pub(super) fn parse(answer: &str) -> (Done, &str) {
    let mut parts = answer.splitn(4, ' ');
    let mut nanos = || parts.next().and_then(|text| text.parse().ok());
    let (start, returned) = (nanos(), nanos());
    let done = Done {
        start: start.expect("a time"),
        returned: returned.expect("a time"),
        outlasted: parts.next() == Some("outlasted"),
    };
    (done, parts.next().unwrap_or_default())
}
