//! Nodes that give an owner as many live keys as it may have, at the same time.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::{Nanos, nanos, now};
use super::cluster::Cluster;
use super::process::{Failure, NodeProcess};

/// The time between the order to begin and the beginning, so that every node gets the order in time.
const RUN_UP: Duration = Duration::from_millis(40);

/// What a node does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FillOrder {
    pub owner: String,
    /// The maximum of live keys.
    pub max: u32,
    pub begins: Nanos,
    /// Keys of another owner that are given to this one.
    pub given: Vec<String>,
    /// Expired keys of the owner that get a later expiry, or none.
    pub revived: Vec<String>,
    /// Whether the node counts in a step of its own.
    pub carelessly: bool,
}

/// How many keys were made live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    pub made: u32,
    pub given: u32,
    pub revived: u32,
}

impl Filled {
    pub fn live(self) -> u32 {
        self.made + self.given + self.revived
    }
}

impl Cluster {
    /// Lets all nodes fill an owner, and returns what each did; `None` for one that ended before. Kills the
    /// last node after a while, if `kill_after` says so.
    pub async fn fill(
        &self,
        order: &FillOrder,
        kill_after: Option<Duration>,
    ) -> Vec<Option<Filled>> {
        let nodes = self.members();
        let mut order = order.clone();
        let mut given = std::mem::take(&mut order.given);
        let mut revived = std::mem::take(&mut order.revived);
        order.begins = now() + nanos(RUN_UP);
        let mut filling = Vec::new();
        for node in nodes {
            // Each key is changed by one node, as the first that it does.
            let mut order = order.clone();
            order.given.extend(given.pop());
            if order.given.is_empty() {
                order.revived.extend(revived.pop());
            }
            filling.push(tokio::spawn(async move { fill(&node, &order).await }));
        }
        if let Some(time) = kill_after {
            tokio::time::sleep(RUN_UP + time).await;
            self.kill_node(self.settings.nodes - 1);
        }
        let mut filled = Vec::new();
        for node in filling {
            filled.push(node.await.unwrap());
        }
        filled
    }
}

async fn fill(node: &Arc<NodeProcess>, order: &FillOrder) -> Option<Filled> {
    let order = serde_json::to_string(order).unwrap();
    match node.ask(&format!("fill {order}")).await {
        Ok(said) => Some(serde_json::from_str(&said).unwrap()),
        Err(Failure::Lost) => None,
        Err(Failure::Said(error)) => panic!("node {}: {error}", node.number),
    }
}
