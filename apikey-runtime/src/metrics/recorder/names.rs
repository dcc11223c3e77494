//! The names and labels of all metrics. A label never comes from a request or a key.

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
pub(super) const UNREADABLE: &str = "apikey_unreadable_records_total";

pub(super) const USAGE_ROWS: &str = "apikey_usage_rows_total";
pub(super) const USAGE_HELD: &str = "apikey_usage_held";
pub(super) const USAGE_LOST: &str = "apikey_usage_lost_total";

/// All counted calls, in the order of their numbers.
pub(super) const CALLS: [StoreCall; 25] = [
    StoreCall::Insert,
    StoreCall::Find,
    StoreCall::List,
    StoreCall::Update,
    StoreCall::Revoke,
    StoreCall::RevokeOwner,
    StoreCall::FindOwner,
    StoreCall::RevokeOwnerKeys,
    StoreCall::SuspendOwner,
    StoreCall::MarkKeys,
    StoreCall::Purge,
    StoreCall::Members,
    StoreCall::Charge,
    StoreCall::Refill,
    StoreCall::AddUsage,
    StoreCall::ReadUsage,
    StoreCall::RollUpUsage,
    StoreCall::PruneUsage,
    StoreCall::CountLiveKeys,
    StoreCall::ReadAudit,
    StoreCall::PruneAudit,
    StoreCall::ClaimNotices,
    StoreCall::FinishNotices,
    StoreCall::SharedSecret,
    StoreCall::ListOwners,
];

pub(super) fn call(call: StoreCall) -> &'static str {
    match call {
        StoreCall::Insert => "insert",
        StoreCall::Find => "find",
        StoreCall::List => "list",
        StoreCall::Update => "update",
        StoreCall::Revoke => "revoke",
        StoreCall::RevokeOwner => "revoke_owner",
        StoreCall::FindOwner => "find_owner",
        StoreCall::RevokeOwnerKeys => "revoke_owner_keys",
        StoreCall::SuspendOwner => "set_owner_suspended",
        StoreCall::MarkKeys => "mark_revoked_keys",
        StoreCall::Purge => "purge",
        StoreCall::Members => "members",
        StoreCall::Charge => "charge",
        StoreCall::Refill => "refill",
        StoreCall::AddUsage => "add_usage",
        StoreCall::ReadUsage => "read_usage",
        StoreCall::RollUpUsage => "roll_up_usage",
        StoreCall::PruneUsage => "prune_usage",
        StoreCall::CountLiveKeys => "count_live_keys",
        StoreCall::ReadAudit => "read_audit",
        StoreCall::PruneAudit => "prune_audit",
        StoreCall::ClaimNotices => "claim_notices",
        StoreCall::FinishNotices => "finish_notices",
        StoreCall::SharedSecret => "shared_secret",
        StoreCall::ListOwners => "list_owners",
    }
}

pub(super) fn poll(result: PollOutcome) -> &'static str {
    match result {
        PollOutcome::Answered => "answered",
        PollOutcome::NotMember => "not_member",
        PollOutcome::Failed => "failed",
    }
}

/// Describes each metric to the recorder.
pub(super) fn describe() {
    describe_counter!(DECISIONS, "Decisions of guards, and their reasons");
    describe_histogram!(
        CHECK,
        Unit::Seconds,
        "Duration of checks: a sample of those that the cache decided, and all that were deferred to the store"
    );
    describe_counter!(HITS, "Checks that the cache decided");
    describe_counter!(MISSES, "Checks that were deferred to the store");
    describe_gauge!(ENTRIES, Unit::Count, "Cached keys");
    describe_gauge!(
        LEASE,
        Unit::Seconds,
        "How long the lease lasts; 0 if it has ended"
    );
    describe_counter!(POLLS, "Polls of the change log, and their results");
    describe_counter!(USAGE_ROWS, "Usage counts that the store has accepted");
    describe_gauge!(
        USAGE_HELD,
        Unit::Count,
        "Usage counts in memory, not yet written"
    );
    describe_counter!(
        USAGE_LOST,
        "Requests missing from usage: too much was in memory, or the store rejected them permanently"
    );
    describe_counter!(CALLS_MADE, "Store calls, and whether the store answered");
    describe_counter!(
        UNREADABLE,
        "Records that were read and cannot be used, so their keys are denied"
    );
}
