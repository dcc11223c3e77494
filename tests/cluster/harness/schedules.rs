//! Schedules that provoke one case each, for the negative controls. All take the same course with
//! and without the protection; only the nodes' answers differ.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use apikey_test_support::servers::postgres::EPOCHS_FROM_A_SEQUENCE;

use super::by_hand::Tool;
use super::change::{Issued, Kind, Step};
use super::checker::bound;
use super::cluster::Cluster;
use super::history::History;
use super::owners::{Owned, OwnerStep};
use super::process::NodeProcess;
use super::round::settle;

/// The delay of an answer that checks are to join: longer than a revocation and its bound take on a
/// busy machine, and shorter than a node waits for its store.
const VERY_LATE: Duration = Duration::from_secs(5);

/// The longest wait for the last answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the node that revokes, and the node with the fault.
fn two(cluster: &Cluster) -> (Arc<NodeProcess>, Arc<NodeProcess>) {
    let node = |slot| cluster.node(slot).expect("the first nodes run");
    (node(0), node(1))
}

/// A node cannot reach the store while a key that it has cached is revoked.
pub async fn cut_off(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let mut key = cluster.create(&here, "cut-off").await.unwrap();
    settle(cluster, std::slice::from_ref(&key), b'a').await;
    cluster.note_warm();

    there.ask("hinder cut 0").await.unwrap();
    cluster
        .take(&here, &mut key, Step::Revoke, Kind::Plain)
        .await
        .unwrap();
    sleep(past_bound(cluster) * 2).await;
    there.ask("hinder nothing 0").await.unwrap();
    end(cluster, &key, [here, there]).await
}

/// A node has read a key, and the answer is in transit while the key is revoked and the node learns
/// of it. The answer arrives within the lease, in time to be trusted.
pub async fn late_answer(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let late = cluster.settings.lease * 2 / 3;
    let mut key = late_read(cluster, [&here, &there], "late", late).await;
    cluster
        .take(&here, &mut key, Step::Revoke, Kind::Plain)
        .await
        .unwrap();
    there.ask("hinder nothing 0").await.unwrap();
    // Waits for the answer and some checks after it.
    sleep(late + past_bound(cluster)).await;
    end(cluster, &key, [here, there]).await
}

/// The same, but all keys of its owner are revoked. The node has none of them in memory.
pub async fn late_answer_of_an_owner(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let late = cluster.settings.lease * 2 / 3;
    let key = late_read(cluster, [&here, &there], "late acme", late).await;
    // When the node learns that the key was created, it begins another read, which the creation does
    // not end.
    another_find(&there, finds(&there).await).await;
    revoke_all(cluster, &here, &key, Kind::Plain).await;
    there.ask("hinder nothing 0").await.unwrap();
    sleep(late + past_bound(cluster)).await;
    end(cluster, &key, [here, there]).await
}

/// All keys of an owner are revoked while a node has one of them in memory.
pub async fn owner_in_memory(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let key = cluster.create(&here, "cached acme").await.unwrap();
    settle(cluster, std::slice::from_ref(&key), b'a').await;
    cluster.note_warm();

    revoke_all(cluster, &here, &key, Kind::Confirmed).await;
    sleep(past_bound(cluster)).await;
    end(cluster, &key, [here, there]).await
}

async fn revoke_all(cluster: &Cluster, node: &NodeProcess, key: &Issued, kind: Kind) {
    let owned = Owned::new("acme".to_owned(), vec![key.clone()]);
    let revoked = cluster.take_owner(node, &owned, OwnerStep::RevokeAll, kind);
    revoked.await.unwrap();
}

/// The same as [`late_answer`], with new checks that start while the answer is in transit.
pub async fn joined(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let begun = Instant::now();
    let mut key = late_read(cluster, [&here, &there], "late", VERY_LATE).await;
    cluster
        .take(&here, &mut key, Step::Revoke, Kind::Plain)
        .await
        .unwrap();
    there.ask("hinder nothing 0").await.unwrap();
    sleep(past_bound(cluster)).await;
    let (number, secret) = &key.texts[0];
    there
        .ask(&format!("burst {number} {secret} 10 20"))
        .await
        .unwrap();
    // Waits for the answer, whether or not the checks did.
    sleep_until(begun + VERY_LATE).await;
    end(cluster, &key, [here, there]).await
}

/// An operator revokes a key in a transaction that stays open while another key is revoked. A
/// change that takes its number when it is made, and not when it is committed, is out of order.
pub async fn out_of_order(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let by_hand = cluster.create(&here, "by-hand").await.unwrap();
    let mut other = cluster.create(&here, "other").await.unwrap();
    settle(cluster, &[by_hand.clone(), other.clone()], b'a').await;
    cluster.note_warm();

    let open = cluster.begin_by_hand(&by_hand).await.expect("it is open");
    let confirmed = cluster.take(&here, &mut other, Step::Revoke, Kind::Confirmed);
    confirmed.await.unwrap();
    settle(cluster, std::slice::from_ref(&other), b'r').await;
    open.commit(cluster).await.expect("it is committed");
    sleep(past_bound(cluster) * 2).await;
    end(cluster, &by_hand, [here, there]).await
}

/// A store is restored to an earlier state while nodes have cached later records. Revocations in
/// between are forgotten; later revocations are not.
pub async fn put_back(cluster: &Cluster) -> History {
    cluster.begin_round();
    let (here, there) = two(cluster);
    let mut keys = Vec::new();
    for number in 0..8 {
        let label = format!("before-{number}");
        keys.push(cluster.create(&here, &label).await.unwrap());
    }
    settle(cluster, &keys, b'a').await;
    cluster.note_warm();

    let copy = cluster.copy_store().await.expect("a server's data");
    settle(cluster, &keys, b'a').await;
    for key in &mut keys[..4] {
        insist(cluster, &here, key, Kind::Confirmed).await;
    }
    settle(cluster, &keys[..4], b'r').await;
    settle(cluster, &keys[4..], b'a').await;
    cluster.put_back(&copy);

    // Revokes at once, through nodes with cursors ahead of the store's epoch.
    let (forgotten, others) = keys.split_at_mut(4);
    for (number, key) in others.iter_mut().enumerate() {
        let node = if number % 2 == 0 { &here } else { &there };
        let kind = if number < 2 {
            Kind::Plain
        } else {
            Kind::Confirmed
        };
        insist(cluster, node, key, kind).await;
    }
    settle(cluster, others, b'r').await;
    settle(cluster, forgotten, b'a').await;
    for key in &mut *forgotten {
        insist(cluster, &there, key, Kind::Confirmed).await;
    }
    settle(cluster, forgotten, b'r').await;
    end(cluster, &keys[7], [here, there]).await
}

/// Revokes; retries until the store answers.
async fn insist(cluster: &Cluster, node: &NodeProcess, key: &mut Issued, kind: Kind) {
    let begun = Instant::now();
    while cluster.take(node, key, Step::Revoke, kind).await.is_err() {
        assert!(begun.elapsed() < PATIENCE * 12, "{key:?} is not revoked");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Breaks the commit order of PostgreSQL: a change takes its epoch from a sequence, and when it is
/// made.
pub async fn number_by_a_sequence(cluster: &Cluster) {
    let mut tool = Tool::on(&cluster.place).await.expect("it takes SQL");
    let spoilt = tool.run(EPOCHS_FROM_A_SEQUENCE).await;
    spoilt.expect("the replacement succeeds");
}

/// Creates a key about which `there` has asked the store: the answer says that the key is live, and
/// is in transit. `of` is its label, and its owner if it has one.
async fn late_read(
    cluster: &Cluster,
    [here, there]: [&NodeProcess; 2],
    of: &str,
    late: Duration,
) -> Issued {
    let before = finds(there).await;
    let late = late.as_millis();
    there
        .ask(&format!("hinder late-find {late}"))
        .await
        .unwrap();
    let key = cluster.create(here, of).await.unwrap();
    another_find(there, before).await;
    key
}

/// Returns how many answers about single keys the store has given to a node.
async fn finds(node: &NodeProcess) -> u64 {
    node.ask("finds").await.unwrap().parse().unwrap()
}

/// Waits until the store has given more answers than that.
async fn another_find(node: &NodeProcess, before: u64) {
    while finds(node).await == before {
        sleep(Duration::from_millis(1)).await;
    }
}

fn past_bound(cluster: &Cluster) -> Duration {
    Duration::from_nanos(bound(cluster.settings.lease)) + Duration::from_millis(30)
}

/// Waits until the nodes deny the key, or for a long time: with a protection disabled they may not.
async fn end(cluster: &Cluster, key: &Issued, nodes: [Arc<NodeProcess>; 2]) -> History {
    let begun = Instant::now();
    let refused = format!("{}:r", key.texts[0].0);
    while begun.elapsed() < PATIENCE {
        let mut agree = true;
        for node in &nodes {
            let seen = node.ask("seen").await.unwrap();
            agree &= seen.split(' ').any(|one| one == refused);
        }
        if agree {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    cluster
        .end_round(nodes.iter().map(|node| node.number).collect())
        .await
}
