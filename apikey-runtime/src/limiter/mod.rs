//! Limits at work: what a request counts against, and the counting of what this process counts by
//! itself.

mod ahead;
mod line;
mod local;
mod plan;

pub(crate) use ahead::{Ahead, GOOD_FOR, Rest, Slot, ends};
pub(crate) use line::{By, DEFAULT, Line, Name, pin};
pub(crate) use local::{Local, Now};
pub(crate) use plan::{Plan, Plans};
