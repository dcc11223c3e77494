//! What nodes on one store tell each other: polls of the change log, heartbeats, and who is gone.

mod heartbeat;
mod poller;

pub(crate) use poller::{ChangePoller, PollOutcome};
