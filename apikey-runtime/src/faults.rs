//! Protections that negative controls take out: each is one without which a revoked key gets
//! through.
//!
//! Compiled only under the cfg `apikey_faults`, which the package of the controls sets for itself
//! in its build script. It is no feature: features add up in a tree of dependencies, and one that
//! takes a protection out could be switched on by anyone in it.

use std::sync::OnceLock;
use std::time::Duration;

/// Names the protection to take out; without it, all are in place.
const FAULT: &str = "APIKEY_FAULT";

fn is(name: &str) -> bool {
    static FAULT_NAME: OnceLock<Option<String>> = OnceLock::new();
    let fault = FAULT_NAME.get_or_init(|| std::env::var(FAULT).ok());
    fault.as_deref() == Some(name)
}

/// What is in memory is believed without a lease.
pub(crate) fn no_lease() -> bool {
    is("no-lease")
}

/// A read that began before a change is kept, and an entry that a change overtook is believed.
pub(crate) fn no_generation() -> bool {
    is("no-generation")
}

/// Whoever comes after an eviction joins the read that was under way before it.
pub(crate) fn joins_after_eviction() -> bool {
    is("join-after-eviction")
}

/// How old an answer is taken to be.
pub(crate) fn age(age: Duration) -> Duration {
    match joins_after_eviction() {
        true => Duration::ZERO,
        false => age,
    }
}
