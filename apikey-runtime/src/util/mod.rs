//! Helpers for every module.

pub(crate) mod network;
pub(crate) mod striped;
pub(crate) mod text;
pub(crate) mod thread_slot;
