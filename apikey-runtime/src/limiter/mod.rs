//! Limits at work: what a request counts against, and the counting of what this process counts by
//! itself.

mod applied;
mod local;
mod plan;
mod prefetch;

pub(crate) use applied::{By, DEFAULT, Line, Name, pin};
pub(crate) use local::{Local, Now};
pub(crate) use plan::{Plan, Plans};
pub(crate) use prefetch::{Ahead, GOOD_FOR, Rest, Slot, ends};
