//! The life of a key: who may have one, on whose behalf it is changed, how it is found, and what is
//! written about it.

mod audit;
mod changes;
mod created_once;
mod expiry;
mod exports;
mod idle;
mod idle_streams;
mod labels;
mod lists;
mod over_http;
mod owned;
mod owner_lists;
mod previews;
mod purge;
mod rules;

use std::time::Duration;

use apikey_runtime::ApiKeyManager;
use apikey_test_support::fleet::Fleet;
use apikey_test_support::manager_on;

/// A confirmed call of a manager that has just started waits for this long.
const LEASE: Duration = Duration::from_millis(500);

const HOUR: Duration = Duration::from_secs(3_600);

/// Creates one store of each kind that keeps an audit log, which all of this crate do.
async fn fleets() -> Vec<Fleet> {
    let fleets = Fleet::every(LEASE).await;
    assert!(fleets.iter().all(|fleet| fleet.store().audit().is_some()));
    fleets
}

/// Starts a manager with the defaults on each kind of store.
async fn managers() -> Vec<(Fleet, ApiKeyManager)> {
    let mut managers = Vec::new();
    for fleet in fleets().await {
        let manager = manager_on(fleet.store()).await;
        managers.push((fleet, manager));
    }
    managers
}
