//! Protections that negative controls disable: without each of them, a revoked key is allowed, or an event of a
//! key that expires soon is lost or sent twice.
//!
//! This module is compiled only under the cfg `apikey_faults`, which the test `cluster` sets
//! for a build of its own. It is not a feature: features add up in a dependency tree, so any
//! crate in it could disable a protection.

use std::sync::OnceLock;
use std::time::Duration;

/// Names the protection to disable; if unset, all are enabled.
const FAULT: &str = "APIKEY_FAULT";

fn is(name: &str) -> bool {
    static FAULT_NAME: OnceLock<Option<String>> = OnceLock::new();
    let fault = FAULT_NAME.get_or_init(|| std::env::var(FAULT).ok());
    fault.as_deref() == Some(name)
}

/// Returns whether cached entries are used without a lease.
pub(crate) fn no_lease() -> bool {
    is("no-lease")
}

/// Returns whether a read that began before a change is cached, and an entry that a change overtook
/// is used.
pub(crate) fn no_generation() -> bool {
    is("no-generation")
}

/// Returns whether a caller after an eviction joins a read that was in flight before it.
pub(crate) fn joins_after_eviction() -> bool {
    is("join-after-eviction")
}

/// Returns whether a change of an owner does not reach the entries in memory.
pub(crate) fn no_owner_marks() -> bool {
    is("no-owner-marks")
}

/// Returns whether a read that began before a change of an owner is cached and joined.
pub(crate) fn no_owner_generations() -> bool {
    is("no-owner-generations")
}

/// Returns whether notices are noted as sent before their events are sent.
pub(crate) fn notes_before_sending() -> bool {
    is("note-before-sending")
}

/// Returns whether all nodes claim notices as one, so that a claim does not keep others away.
pub(crate) fn shares_claims() -> bool {
    is("shared-claims")
}

/// Returns whether a node sends what it claimed before it was removed from the member list.
pub(crate) fn sends_after_removal() -> bool {
    is("send-after-removal")
}

/// Returns the age that an answer counts as.
pub(crate) fn age(age: Duration) -> Duration {
    match joins_after_eviction() {
        true => Duration::ZERO,
        false => age,
    }
}
