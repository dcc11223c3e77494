//! Helpers that every module may use.

pub(crate) mod network;
pub(crate) mod striped;
pub(crate) mod thread_slot;
