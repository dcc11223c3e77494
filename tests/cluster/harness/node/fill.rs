//! Gives an owner as many live keys as it may have, at the same time as other nodes.

use std::time::{Duration, SystemTime};

use apikey_runtime::manager::{IssuePolicy, PolicyViolation};
use apikey_runtime::{ApiKeyManager, Error, KeyId};
use tokio::time::sleep;

use crate::harness::clock::now;
use crate::harness::filling::{FillOrder, Filled};

const HOUR: Duration = Duration::from_secs(3_600);

/// Makes keys live for the owner until it may not have more.
pub async fn fill(manager: &ApiKeyManager, order: &FillOrder) -> Result<Filled, String> {
    let begins = order.begins.saturating_sub(now());
    sleep(Duration::from_nanos(begins)).await;
    let mut filled = Filled::default();
    let id = |text: &String| text.parse::<KeyId>().unwrap();
    for given in &order.given {
        let call = manager.update(id(given)).owner(&order.owner);
        let outcome = call.policy(policy(order)).await;
        filled.given += counted(outcome)?;
    }
    for revived in &order.revived {
        let update = manager.update(id(revived));
        // Ids are random.
        let call = match revived.bytes().last().is_some_and(|last| last % 2 == 0) {
            true => update.never_expires(),
            false => update.expires_at(SystemTime::now() + HOUR),
        };
        filled.revived += counted(call.policy(policy(order)).await)?;
    }
    loop {
        let made = match order.carelessly {
            true => create_after_a_look(manager, order).await,
            false => {
                let call = manager.create("filled").owner(&order.owner);
                call.policy(policy(order)).await.map(drop)
            }
        };
        match counted(made)? {
            0 => return Ok(filled),
            _ => filled.made += 1,
        }
    }
}

fn policy(order: &FillOrder) -> IssuePolicy {
    IssuePolicy::unrestricted().with_max_live_keys(order.max)
}

/// Returns 1 if a key was made live, and 0 if the owner had enough.
fn counted<T>(outcome: Result<T, Error>) -> Result<u32, String> {
    match outcome {
        Ok(_) => Ok(1),
        Err(Error::Policy(PolicyViolation::TooManyKeys { .. })) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// For the negative control: counts, and then creates, whatever other nodes did meanwhile.
async fn create_after_a_look(manager: &ApiKeyManager, order: &FillOrder) -> Result<(), Error> {
    let page = manager.list().owner(&order.owner).with_usage().await?;
    if page.live_keys.unwrap_or(0) >= order.max {
        let max = order.max;
        return Err(Error::Policy(PolicyViolation::TooManyKeys { max }));
    }
    manager.create("filled").owner(&order.owner).await.map(drop)
}
