//! Checks a history against the promises.
//!
//! Each credential has a sequence of changes, and each check is compared with it. An allowed check
//! counts from its *start*, and a change from its *return*: overlapping ones may go either way.

mod report;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

pub use report::{Report, Rule, Violation};

use super::clock::{Nanos, nanos};
use super::history::{Change, Check, History, Key, Outcome, Process, Turn};

/// A grace period ends at a wall-clock time in whole milliseconds.
const GRACE_SLACK: Nanos = 5_000_000;

/// Returns how long after a plain change another node may still allow: a lease, a thousandth of it
/// for clock drift, and 5 ms.
pub fn bound(lease: Duration) -> Nanos {
    nanos(lease) / 1000 * 1001 + 5_000_000
}

/// Looks for violations.
pub struct Checker {
    bound: Nanos,
}

/// The changes of one key, in the order of their starts.
type Line<'h> = Vec<&'h Change>;

impl Checker {
    pub fn new(lease: Duration) -> Self {
        Self {
            bound: bound(lease),
        }
    }

    pub fn check(&self, history: &History) -> Report {
        let lines = lines(history);
        let mut report = Report::default();
        for check in &history.checks {
            let line = lines.get(&check.key).map_or(&[][..], Vec::as_slice);
            match check.outcome {
                Outcome::Accepted => self.accepted(history, line, check, &mut report),
                Outcome::Denied(_) => refused(history, line, check, &mut report),
                Outcome::Unavailable => report.unavailable += 1,
            }
        }
        self.enough(history, &lines, &mut report);
        report
    }

    /// Requires that the key is not dead by a change in force, or that a later change may have
    /// revived it.
    fn accepted(&self, history: &History, line: &[&Change], check: &Check, report: &mut Report) {
        report.accepted += 1;
        let deaths = line.iter().filter(|change| change.to == Turn::Dead);
        for death in deaths.filter(|death| !forgotten(history, death, check.end)) {
            if may_have_revived(line, death, check) {
                continue;
            }
            self.note_latest(death, check, report);
            let Some((since, rule)) = self.in_force(death, check.process) else {
                continue;
            };
            if check.start > since {
                report.violations.push(Violation {
                    rule,
                    check: Some(*check),
                    change: Some(**death),
                    late_by: check.start - since,
                });
            }
        }
    }

    /// Returns the time from which `process` must deny the key, and the rule that says so.
    fn in_force(&self, death: &Change, process: Process) -> Option<(Nanos, Rule)> {
        let returned = death.returned?;
        let (since, rule) = if death.confirmed {
            (returned, Rule::Confirmed)
        } else if death.process == Some(process) {
            (returned, Rule::SameProcess)
        } else {
            (returned + self.bound, Rule::Bound)
        };
        let grace = match death.grace {
            0 => 0,
            grace => returned + grace + GRACE_SLACK,
        };
        Some((since.max(grace), rule))
    }

    fn note_latest(&self, death: &Change, check: &Check, report: &mut Report) {
        if let Some(returned) = death.returned
            && !death.confirmed
            && death.grace == 0
            && death.process != Some(check.process)
        {
            let latest = check.start.saturating_sub(returned);
            report.latest_after_plain = report.latest_after_plain.max(latest);
        }
    }

    /// Requires enough checks: a run with few checks does not prove anything.
    fn enough(&self, history: &History, lines: &HashMap<Key, Line<'_>>, report: &mut Report) {
        let (mut before, mut after) = (HashSet::new(), HashSet::new());
        for check in &history.checks {
            match check.outcome {
                Outcome::Accepted => before.insert((check.process, check.key)),
                Outcome::Denied(_) => after.insert((check.process, check.key)),
                Outcome::Unavailable => false,
            };
        }
        let missing = |rule| Violation {
            rule,
            check: None,
            change: None,
            late_by: 0,
        };
        if history.throughout.is_empty() || lines.is_empty() {
            report.violations.push(missing(Rule::NothingChecked));
        }
        for process in &history.throughout {
            for key in &history.warm {
                if !before.contains(&(*process, *key)) {
                    report
                        .violations
                        .push(missing(Rule::NeverAccepted(*process, *key)));
                }
            }
            for (key, line) in lines {
                let ends_dead = line
                    .last()
                    .is_some_and(|last| last.to == Turn::Dead && last.returned.is_some());
                if ends_dead && !after.contains(&(*process, *key)) {
                    report
                        .violations
                        .push(missing(Rule::NeverRefused(*process, *key)));
                }
            }
        }
    }
}

/// Requires that a live key is not denied.
fn refused(history: &History, line: &[&Change], check: &Check, report: &mut Report) {
    report.refused += 1;
    let live = line.iter().rfind(|change| {
        let in_force = change
            .returned
            .is_some_and(|returned| returned <= check.start);
        change.to == Turn::Live && in_force
    });
    let Some(live) = live.filter(|live| !forgotten(history, live, check.end)) else {
        return;
    };
    let excused = line.iter().any(|death| {
        let begun = (death.start + death.grace).saturating_sub(if death.grace > 0 {
            GRACE_SLACK
        } else {
            0
        }) <= check.end;
        // A change with an unknown outcome may take effect at any later time.
        let counts = death.start > live.start || death.returned.is_none();
        death.to == Turn::Dead && begun && counts
    });
    if !excused {
        report.violations.push(Violation {
            rule: Rule::LiveKeyRefused,
            check: Some(*check),
            change: Some(**live),
            late_by: 0,
        });
    }
}

/// Returns whether a later change, or one with an unknown outcome, may have revived the key before
/// the check ended.
fn may_have_revived(line: &[&Change], death: &Change, check: &Check) -> bool {
    line.iter().any(|change| {
        let later = change.start > death.start || change.returned.is_none();
        change.to == Turn::Live && later && change.start <= check.end
    })
}

/// Returns whether the store was reset after the change and before `time`.
fn forgotten(history: &History, change: &Change, time: Nanos) -> bool {
    history
        .reset
        .is_some_and(|reset| change.start < reset && time >= reset)
}

fn lines(history: &History) -> HashMap<Key, Line<'_>> {
    let mut lines: HashMap<Key, Line<'_>> = HashMap::new();
    for change in &history.changes {
        lines.entry(change.key).or_default().push(change);
    }
    for line in lines.values_mut() {
        line.sort_by_key(|change| change.start);
    }
    lines
}
