//! The names and labels of all figures. No label comes from a request or a key.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::metrics::PollOutcome;
use crate::metrics::StoreCall;

pub(super) const DECISIONS: &str = "apikey_decisions_total";
pub(super) const CHECK: &str = "apikey_check_seconds";
pub(super) const HITS: &str = "apikey_cache_hits_total";
pub(super) const MISSES: &str = "apikey_cache_misses_total";
pub(super) const ENTRIES: &str = "apikey_cache_entries";
pub(super) const LEASE: &str = "apikey_lease_seconds";
pub(super) const POLLS: &str = "apikey_store_polls_total";
pub(super) const CALLS_MADE: &str = "apikey_store_calls_total";

pub(super) const USAGE_ROWS: &str = "apikey_usage_rows_total";
pub(super) const USAGE_HELD: &str = "apikey_usage_held";
pub(super) const USAGE_LOST: &str = "apikey_usage_lost_total";

/// All calls that are counted, in the order of their numbers.
pub(super) const CALLS: [StoreCall; 13] = [
    StoreCall::Insert,
    StoreCall::Find,
    StoreCall::List,
    StoreCall::Update,
    StoreCall::Revoke,
    StoreCall::RevokeOwner,
    StoreCall::Purge,
    StoreCall::Members,
    StoreCall::Charge,
    StoreCall::Refill,
    StoreCall::AddUsage,
    StoreCall::ReadUsage,
    StoreCall::PruneUsage,
];

pub(super) fn call(call: StoreCall) -> &'static str {
    match call {
        StoreCall::Insert => "insert",
        StoreCall::Find => "find",
        StoreCall::List => "list",
        StoreCall::Update => "update",
        StoreCall::Revoke => "revoke",
        StoreCall::RevokeOwner => "revoke_owner",
        StoreCall::Purge => "purge",
        StoreCall::Members => "members",
        StoreCall::Charge => "charge",
        StoreCall::Refill => "refill",
        StoreCall::AddUsage => "add_usage",
        StoreCall::ReadUsage => "read_usage",
        StoreCall::PruneUsage => "prune_usage",
    }
}

pub(super) fn poll(result: PollOutcome) -> &'static str {
    match result {
        PollOutcome::Answered => "answered",
        PollOutcome::NotMember => "struck_off",
        PollOutcome::Failed => "failed",
    }
}

/// Tells the recorder what each name means.
pub(super) fn describe() {
    describe_counter!(
        DECISIONS,
        "Requests that a guard let through or refused, and why"
    );
    describe_histogram!(
        CHECK,
        Unit::Seconds,
        "How long checks took: a sample of those made from memory, all that asked the store"
    );
    describe_counter!(HITS, "Checks that were decided from memory");
    describe_counter!(MISSES, "Checks for which the store had to be asked");
    describe_gauge!(ENTRIES, Unit::Count, "Keys in memory");
    describe_gauge!(
        LEASE,
        Unit::Seconds,
        "How long what is in memory may still be believed; 0 where it may not"
    );
    describe_counter!(POLLS, "Polls of the store's history, and how they ended");
    describe_counter!(USAGE_ROWS, "Counts of usage that the store has taken");
    describe_gauge!(
        USAGE_HELD,
        Unit::Count,
        "Counts of usage in memory, to be written"
    );
    describe_counter!(
        USAGE_LOST,
        "Requests that are in no count of usage: too much was in memory, or the store refused them for good"
    );
    describe_counter!(CALLS_MADE, "Calls of the store, and whether it answered");
}
