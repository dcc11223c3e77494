//! What a checker found.

use std::fmt;

use super::{Change, Check, Key, Nanos, Process};
use crate::harness::history::millis;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Accepted by a check that started after a confirmed change returned.
    Confirmed,
    /// Accepted, by a check that started after a plain change returned, in the process that made
    /// it.
    SameProcess,
    /// Accepted, by a check that started later than the bound after a plain change returned.
    Bound,
    /// Refused, though the key was live, and the answer was not that the store is unavailable.
    LiveKeyRefused,
    /// There are no keys or no processes in the history.
    NothingChecked,
    /// A process never accepted a key: its refusals prove nothing.
    NeverAccepted(Process, Key),
    /// A process never refused a key that is dead: it was not asked.
    NeverRefused(Process, Key),
}

impl Rule {
    /// Whether it is about a dead key that got through.
    pub fn is_late_accept(self) -> bool {
        matches!(self, Self::Confirmed | Self::SameProcess | Self::Bound)
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub check: Option<Check>,
    /// The change that the check should have heeded.
    pub change: Option<Change>,
    /// How far the check's start lies behind the last moment that was allowed.
    pub late_by: Nanos,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    pub accepted: u64,
    pub refused: u64,
    pub unavailable: u64,
    /// How long after a plain change another process last accepted.
    pub latest_after_plain: Nanos,
}

impl Report {
    /// The violations, few of them in full.
    pub fn violations_in_words(&self) -> String {
        let shown = self.violations.iter().take(20);
        let mut words: String = shown.map(|violation| format!("  {violation}\n")).collect();
        if self.violations.len() > 20 {
            words += &format!("  and {} more\n", self.violations.len() - 20);
        }
        words
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if self.late_by > 0 {
            write!(f, ", {:.3} ms late", millis(self.late_by))?;
        }
        if let Some(check) = self.check {
            write!(f, ": {check}")?;
        }
        if let Some(change) = self.change {
            write!(f, "; {change}")?;
        }
        Ok(())
    }
}
