//! Runs the checker and says what it found.

use std::io::Write;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::actions::Action;
use crate::bounds::Bounds;
use crate::properties::Protocol;
use crate::state::{Change, State};
use crate::without::Without;

/// A property that does not hold, and a way there without a needless step.
struct Counterexample {
    property: &'static str,
    steps: Vec<Action>,
}

/// Checks that all properties hold within the bounds.
///
/// # Panics
///
/// Panics with the way to a state in which one does not hold.
pub fn holds(bounds: &Bounds) {
    if let Some(found) = explore(bounds) {
        panic!("{}: {}", bounds.name, found.words());
    }
}

/// Checks that the properties hold although this protection is removed.
///
/// # Panics
///
/// Panics as [`holds`] does.
pub fn holds_without(bounds: &Bounds, without: Without) {
    holds(&bounds.clone().without(without));
}

/// Negative control: checks that without this protection, `property` does not hold.
///
/// # Panics
///
/// Panics if it holds, or if another property is broken by fewer steps.
pub fn breaks(bounds: &Bounds, without: Without, property: &str) {
    let bounds = bounds.clone().without(without);
    let found = explore(&bounds);
    let found = found.unwrap_or_else(|| panic!("{}: no counterexample", bounds.title()));
    println!("{}: {}", bounds.title(), found.words());
    assert_eq!(found.property, property, "{}", bounds.title());
}

fn explore(bounds: &Bounds) -> Option<Counterexample> {
    let start = Instant::now();
    // With one thread, a search in breadth finds short ways first.
    let checker = Protocol(bounds.clone())
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    // The checker goes on for a while, and tells the last way that it found.
    let found = checker.discoveries().into_iter();
    let found = found.map(|(property, path)| Counterexample {
        property,
        steps: path.into_actions(),
    });
    let found = found.map(|found| found.shorten(bounds));
    let found = found.min_by_key(|found| (found.steps.len(), found.property));
    let outcome = match &found {
        None => "all reachable states, and all properties hold".to_owned(),
        Some(found) => {
            let steps = found.steps.len();
            format!(
                "after {steps} steps, this does not hold: {}",
                found.property
            )
        }
    };
    // Past the harness, which shows the output of a passed test only on request.
    let _ = writeln!(
        std::io::stderr(),
        "model: {}: {} states, depth {}, {} ms: {outcome}",
        bounds.title(),
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_millis(),
    );
    found
}

/// Returns whether these steps can be taken, and `property` does not hold after them.
fn leads_to(steps: &[Action], property: &str, bounds: &Bounds) -> bool {
    let model = Protocol(bounds.clone());
    let mut state = State::new(bounds);
    for step in steps {
        let mut possible = Vec::new();
        model.actions(&state, &mut possible);
        if !possible.contains(step) || !state.take(*step, bounds) {
            return false;
        }
    }
    let mut properties = model.properties().into_iter();
    properties
        .find(|known| known.name == property)
        .is_some_and(|known| !(known.condition)(&model, &state))
}

impl Bounds {
    fn title(&self) -> String {
        let without = self.without;
        let without = without.map_or_else(String::new, |without| format!(", without {without:?}"));
        format!("{}{without}", self.name)
    }
}

impl Counterexample {
    /// Leaves out the steps that it does not need.
    fn shorten(mut self, bounds: &Bounds) -> Self {
        let mut at = 0;
        while at < self.steps.len() {
            let mut fewer = self.steps.clone();
            fewer.remove(at);
            if leads_to(&fewer, self.property, bounds) {
                self.steps = fewer;
                at = 0;
            } else {
                at += 1;
            }
        }
        self
    }

    fn words(&self) -> String {
        let steps = self.steps.iter().enumerate();
        let steps = steps.map(|(at, step)| format!("\n  {:2}. {}", at + 1, step.words()));
        let steps: String = steps.collect();
        format!("\"{}\" does not hold after{steps}", self.property)
    }
}

impl Action {
    fn words(self) -> String {
        match self {
            Self::Tick => "time passes".to_owned(),
            Self::Call(node, change) => format!("node {node} commits: {}", change.words()),
            Self::ContinueCall => "the call goes on".to_owned(),
            Self::Open(change) => format!("a transaction begins: {}", change.words()),
            Self::CommitOpen(node) => format!("node {node} commits that transaction"),
            Self::BeginRead(node, key) => format!("node {node} begins to read key {key}"),
            Self::EndRead(node, key) => format!("node {node} has read key {key}"),
            Self::NoteCount(node, key) => format!("node {node} looks at the mark of key {key}"),
            Self::SendPoll(node) => format!("node {node} sends a poll"),
            Self::ReceivePage(node) => format!("node {node} applies what the poll says"),
            Self::LosePoll(node) => format!("node {node} loses its poll"),
            Self::Acknowledge(node) => format!("node {node} acknowledges"),
            Self::Join(node) => format!("node {node} joins"),
            Self::Leave(node) => format!("node {node} leaves"),
            Self::Crash(node) => format!("node {node} crashes"),
            Self::Restart(node) => format!("node {node} restarts"),
            Self::StartCheck(node, key, secret) => {
                format!("a check of key {key} (secret {secret}) starts on node {node}")
            }
            Self::CheckOnOlderNode(node, key, secret) => {
                format!("the older node {node} checks key {key} (secret {secret})")
            }
            Self::ContinueCheck => "the check goes on".to_owned(),
            Self::Suspect(slot) => format!("member {slot} is suspected"),
            Self::Remove(slot) => format!("member {slot} is removed"),
            Self::Mark(key) => format!("key {key} is marked"),
            Self::Shorten => "the lease is shortened".to_owned(),
            Self::Dump => "a dump is taken".to_owned(),
            Self::PutBack => "the dump is put back".to_owned(),
        }
    }
}

impl Change {
    fn words(self) -> String {
        match self {
            Self::Create(key, owner) => format!("create key {key} of owner {owner}"),
            Self::Revoke(key) => format!("revoke key {key}"),
            Self::Rotate(key) => format!("rotate key {key}"),
            Self::Disable(key) => format!("disable key {key}"),
            Self::Enable(key) => format!("enable key {key}"),
            Self::Move(key, owner) => format!("move key {key} to owner {owner}"),
            Self::RevokeAll(owner) => format!("revoke all keys of owner {owner}"),
            Self::Suspend(owner) => format!("suspend owner {owner}"),
            Self::Resume(owner) => format!("resume owner {owner}"),
        }
    }
}
