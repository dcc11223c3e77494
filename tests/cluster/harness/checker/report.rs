//! The findings of a checker.

use std::fmt;

use super::{Change, Check, Key, Nanos, Process};
use crate::harness::history::millis;

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Allowed by a check that started after a confirmed change returned.
    Confirmed,
    /// Allowed, in the process that made the plain change, by a check that started after the change
    /// returned.
    SameProcess,
    /// Allowed by a check that started later than the bound after a plain change returned.
    Bound,
    /// Denied although the key was live, for another reason than an unavailable store.
    LiveKeyRefused,
    /// The history does not contain any keys or any processes.
    NothingChecked,
    /// A process never allowed a key, so its denials do not prove anything.
    NeverAccepted(Process, Key),
    /// A process never denied a dead key: it did not check it.
    NeverRefused(Process, Key),
}

impl Rule {
    /// Returns whether a dead key was allowed.
    pub fn is_late_accept(self) -> bool {
        matches!(self, Self::Confirmed | Self::SameProcess | Self::Bound)
    }
}

/// A violation of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub check: Option<Check>,
    /// The change that the check should have respected.
    pub change: Option<Change>,
    /// How late the check started, counted from the last permitted moment.
    pub late_by: Nanos,
}

/// All findings.
#[derive(Debug, Default)]
pub struct Report {
    pub violations: Vec<Violation>,
    pub accepted: u64,
    pub refused: u64,
    pub unavailable: u64,
    /// How long after a plain change another process last allowed.
    pub latest_after_plain: Nanos,
}

impl Report {
    /// Formats the violations; only the first few in full.
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
