//! Small helpers with no knowledge of keys.

pub(crate) mod thread_slot;
