//! Nodes that use up the limits of a key at the same time, and what they were allowed.

pub mod judge;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use apikey_runtime::Limit;
use apikey_runtime::limit::LimitRule;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::clock::{Nanos, nanos, now};
use super::cluster::Cluster;
use super::history::{Check, Key, Outcome, Process, millis};
use super::process::{Answer, Failure, NodeProcess};

use judge::Standing;

/// The time between the order to begin and the beginning, so that every node gets the order in
/// time.
const RUN_UP: Duration = Duration::from_millis(40);

/// The number of denials by the reason's code.
pub type Refusals = BTreeMap<String, u64>;

/// How a node uses a key. All numbers count admissions in that node; tasks in progress then add
/// theirs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Order {
    pub key: Key,
    pub secret: String,
    /// The number of concurrent checks.
    pub tasks: u32,
    /// The number at which the node halts until it is resumed.
    pub halts: Option<u32>,
    /// The number at which the node kills itself.
    pub dies: Option<u32>,
    /// The number at which the node stops.
    pub most: Option<u32>,
    /// How long after the beginning the node stops.
    pub lasts: Option<Nanos>,
}

/// How nodes use a new key.
#[derive(Debug, Clone)]
pub struct Plan {
    pub limits: Vec<Limit>,
    /// The number of nodes that take part, from the first on.
    pub nodes: usize,
    /// The number of concurrent checks of each node.
    pub tasks: u32,
    pub end: End,
    /// The number of admissions after which the last node is killed.
    pub dies: Option<u32>,
}

/// When nodes stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When a quota is used up.
    UsedUp,
    /// When each node has this number of admissions.
    After(u32),
    /// After this time.
    In(Duration),
    /// When they are told.
    Told,
}

/// The result.
#[derive(Debug)]
pub struct Spent {
    pub id: String,
    pub secret: String,
    pub limits: Vec<Limit>,
    pub end: End,
    /// The allowed checks.
    pub admitted: Vec<Check>,
    /// How many units may have been charged for checks that were not logged: lost answers, and the
    /// checks in progress of a killed node.
    pub unsure: u64,
    /// How many units a killed node may have refunded to some of the limits, and not yet to others.
    pub half_given_back: u64,
    /// The denials, except for those of a killed node.
    pub refused: Refusals,
    /// How long the nodes took.
    pub lasted: Nanos,
}

impl Plan {
    /// Creates a plan that uses up limits, with a few concurrent checks for each node.
    pub fn of(nodes: usize, limits: impl Into<Vec<Limit>>) -> Self {
        Self {
            limits: limits.into(),
            nodes,
            tasks: 4,
            end: End::UsedUp,
            dies: None,
        }
    }

    /// Kills the last node after this number of admissions.
    pub fn killing(self, dies: u32) -> Self {
        let dies = Some(dies);
        Self { dies, ..self }
    }

    fn order(&self, node: usize, key: Key, secret: &str) -> Order {
        let dies = self.dies.filter(|_| node + 1 == self.nodes);
        Order {
            key,
            secret: secret.to_owned(),
            tasks: self.tasks,
            // The other nodes leave half of the smallest quota, so that the last node reaches its
            // end.
            halts: self.dies.filter(|_| dies.is_none()).map(|_| self.half()),
            dies,
            most: match self.end {
                End::After(most) => Some(most),
                End::UsedUp | End::In(_) | End::Told => None,
            },
            lasts: match self.end {
                End::In(time) => Some(nanos(time)),
                End::UsedUp | End::After(_) | End::Told => None,
            },
        }
    }

    fn half(&self) -> u32 {
        let amounts = quotas(&self.limits).map(|(_, amount)| amount);
        let smallest = amounts.min().expect("a quota is used up");
        let share = u32::try_from(smallest / 2).unwrap_or(u32::MAX) / self.nodes as u32;
        // The checks in progress add theirs.
        share.saturating_sub(self.tasks).max(1)
    }
}

/// Returns the names and amounts of the quotas among limits.
fn quotas(limits: &[Limit]) -> impl Iterator<Item = (&str, u64)> {
    limits.iter().filter_map(|limit| match limit.rule() {
        LimitRule::Quota(quota) => Some((limit.name(), quota.amount())),
        _ => None,
    })
}

impl Cluster {
    /// Creates a key, and lets nodes use it until they are done.
    pub async fn spend(&self, plan: &Plan) -> Spent {
        let node = self.node(0).expect("it runs");
        let limits = serde_json::to_string(&plan.limits).unwrap();
        let issued = node.ask(&format!("issue {limits}")).await.unwrap();
        let (id, secret) = issued.split_once(' ').expect("an id and a secret");
        self.spend_key(plan, id, secret).await
    }

    /// Lets nodes use an existing key with the limits of the plan.
    pub async fn spend_key(&self, plan: &Plan, id: &str, secret: &str) -> Spent {
        let nodes: Vec<_> = (0..plan.nodes)
            .map(|slot| self.node(slot).expect("it runs"))
            .collect();
        let key = self.number_key();
        for (number, node) in nodes.iter().enumerate() {
            let order = plan.order(number, key, secret);
            let order = serde_json::to_string(&order).unwrap();
            node.ask(&format!("ready {order}")).await.unwrap();
        }
        let begins = now() + nanos(RUN_UP);
        let refused = self.run(plan, &nodes, begins).await;
        let lasted = now() - begins;

        let checks: Vec<Check> = nodes.iter().flat_map(|node| node.take_checks()).collect();
        let of_key = |outcome| {
            let checks = checks.iter().copied();
            checks.filter(move |check| check.key == key && check.outcome == outcome)
        };
        let batch = u64::from(self.settings.limit_prefetch);
        // The check that kills the node is logged.
        let under_way = |_| u64::from(plan.tasks) * batch - 1;
        Spent {
            id: id.to_owned(),
            secret: secret.to_owned(),
            limits: plan.limits.clone(),
            end: plan.end,
            admitted: of_key(Outcome::Accepted).collect(),
            unsure: plan.dies.map_or(0, under_way)
                + of_key(Outcome::Unavailable).count() as u64 * batch,
            half_given_back: match plan.dies {
                Some(_) if batch > 1 => u64::from(plan.tasks) * batch,
                _ => 0,
            },
            refused,
            lasted,
        }
    }

    /// Starts nodes that are ready, and waits for their ends.
    async fn run(&self, plan: &Plan, nodes: &[Arc<NodeProcess>], begins: Nanos) -> Refusals {
        let go = |node: &Arc<NodeProcess>| -> JoinHandle<Answer> {
            let node = Arc::clone(node);
            tokio::spawn(async move { node.ask(&format!("go {begins}")).await })
        };
        let mut going: Vec<_> = nodes.iter().map(go).collect();
        if plan.dies.is_some() {
            let end = going.pop().expect("a node").await.unwrap();
            assert_eq!(end, Err(Failure::Lost), "the node is killed in mid-run");
            self.kill_node(plan.nodes - 1);
            for node in &nodes[..going.len()] {
                node.ask("go-on").await.unwrap();
            }
        }
        let mut refused = Refusals::new();
        for node in going {
            let said = node.await.unwrap().expect("it ends");
            let of_node: Refusals = serde_json::from_str(&said).unwrap();
            for (reason, count) in of_node {
                *refused.entry(reason).or_default() += count;
            }
        }
        refused
    }

    /// Returns the usage of the key according to the node in this slot: the allowed and the denied
    /// requests.
    pub async fn usage(&self, slot: usize, spent: &Spent) -> (u64, Refusals) {
        let node = self.node(slot).expect("it runs");
        let said = node.ask(&format!("usage {}", spent.id)).await.unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let refused = serde_json::from_value(said["denied"].clone()).unwrap();
        (said["requests"].as_u64().expect("a number"), refused)
    }

    /// Returns the status of the key's quotas according to the node in this slot.
    pub async fn standings(&self, slot: usize, spent: &Spent) -> Vec<Standing> {
        let node = self.node(slot).expect("it runs");
        let said = node.ask(&format!("limits {}", spent.id)).await.unwrap();
        let said: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
        let remaining = |name: &str| {
            let limit = said.iter().find(|limit| limit["name"] == name);
            limit.and_then(|limit| limit["remaining"].as_u64())
        };
        quotas(&spent.limits)
            .map(|(name, amount)| Standing {
                name: name.to_owned(),
                amount,
                remaining: remaining(name).expect("it is reported"),
            })
            .collect()
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shares: BTreeMap<Process, u64> = BTreeMap::new();
        for check in &self.admitted {
            *shares.entry(check.process).or_default() += 1;
        }
        let shares: Vec<_> = shares.into_values().collect();
        write!(
            f,
            "{} allowed, by each {shares:?}, in {:.0} ms, {} uncertain; ",
            self.admitted.len(),
            millis(self.lasted),
            self.unsure
        )?;
        let limits = self.limits.iter();
        let limits: Vec<_> = limits.map(|limit| limit.rule().to_string()).collect();
        f.write_str(&limits.join(", "))
    }
}
