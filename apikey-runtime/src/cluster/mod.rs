//! The nodes of one store: polls of the change log, heartbeats, the failure detector, and the
//! barrier that waits until every node has followed a change.

mod barrier;
mod failure_detector;
mod heartbeat;
mod pages;
mod poller;

pub use barrier::Propagation;
pub(crate) use poller::{ChangePoller, REQUEST_INTERVAL};
