//! What the benches on servers of their own share.
#![allow(
    dead_code,
    reason = "each bench is a crate of its own and uses a part of this"
)]

pub(crate) mod charging;
pub(crate) mod places;
