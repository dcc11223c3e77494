//! Limits at work: what a request counts against, and the counting of what this process counts by
//! itself.

mod line;
mod local;
mod plan;

pub(crate) use line::{By, Line, Name};
pub(crate) use local::{Local, Now};
pub(crate) use plan::{Plan, Plans};
