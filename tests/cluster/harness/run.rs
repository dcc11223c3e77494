//! A run: round after round, until enough keys are revoked. The checker examines each round.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use apikey_test_support::dice::Dice;

use super::checker::{Checker, Report};
use super::clock::Nanos;
use super::cluster::Cluster;
use super::faults::{Diary, Weather};
use super::history::{Check, History, millis};
use super::round::{self, Outcome};

/// The result of a run.
#[derive(Default)]
pub struct Summary {
    store: &'static str,
    seed: u64,
    nodes: usize,
    rounds: u64,
    plain: usize,
    waits: Vec<Nanos>,
    outlasted: usize,
    total: Report,
    /// How often each fault was injected.
    faults: BTreeMap<String, usize>,
    seconds: f64,
    /// The number of entries of the audit log.
    audited: usize,
}

/// Runs until `CLUSTER_REVOCATIONS` revocations succeeded. Panics at the first round that breaks a
/// rule.
pub async fn run(cluster: &Arc<Cluster>) -> Summary {
    let settings = cluster.settings.clone();
    let begun = Instant::now();
    let diary = Arc::new(Mutex::new(Diary::new()));
    let mut summary = Summary {
        store: cluster.place.name(),
        seed: settings.seed,
        nodes: settings.nodes,
        ..Summary::default()
    };
    println!(
        "cluster: store {} seed {} nodes {} lease {:?}",
        summary.store, settings.seed, settings.nodes, settings.lease
    );
    let checker = Checker::new(settings.lease);
    let first = settings.round.unwrap_or(0);
    for round in first.. {
        let left = settings.revocations.saturating_sub(summary.revocations());
        if left == 0 || (round > first && settings.round.is_some()) {
            break;
        }
        let dice = Dice::of(settings.seed, round);
        let outcome = round::run(cluster, dice, weather(round), left, &diary).await;
        let diary = std::mem::take(&mut *diary.lock().unwrap());
        let report = checker.check(&outcome.history);
        summary.add(&report, &outcome);
        for entry in &diary {
            *summary.faults.entry(entry.fault.clone()).or_default() += 1;
        }
        let at = format!("CLUSTER_SEED={} CLUSTER_ROUND={round}", settings.seed);
        judge(&report, &outcome.history, &diary, &at);
    }
    summary.audited = cluster.judge_audit().await;
    summary.seconds = begun.elapsed().as_secs_f64();
    println!("{summary}");
    summary
}

fn weather(round: u64) -> Weather {
    match round % 3 {
        0 => Weather::Calm,
        1 => Weather::Rough,
        _ => Weather::Storm,
    }
}

/// Panics if a rule is broken, with the events that led to it.
pub fn judge(report: &Report, history: &History, diary: &Diary, at: &str) {
    if report.violations.is_empty() {
        return;
    }
    let checks = report
        .violations
        .iter()
        .filter_map(|violation| violation.check);
    let checks: Vec<_> = checks.take(20).collect();
    let mut story = String::from("changes of these keys:\n");
    for change in &history.changes {
        if checks.iter().any(|check| check.key == change.key) {
            story += &format!("  {change}\n");
        }
    }
    story += "faults within a second before:\n";
    for entry in diary {
        let about =
            |check: &Check| entry.from <= check.end && entry.to + 1_000_000_000 >= check.start;
        if checks.iter().any(about) {
            story += &format!("  {entry}\n");
        }
    }
    panic!(
        "{at}: {} violations\n{}{story}",
        report.violations.len(),
        report.violations_in_words()
    );
}

impl Summary {
    fn revocations(&self) -> usize {
        self.plain + self.waits.len()
    }

    fn add(&mut self, report: &Report, outcome: &Outcome) {
        self.rounds += 1;
        self.plain += outcome.plain;
        self.waits.extend(&outcome.waits);
        self.outlasted += outcome.outlasted;
        self.total.accepted += report.accepted;
        self.total.refused += report.refused;
        self.total.unavailable += report.unavailable;
        let latest = self.total.latest_after_plain.max(report.latest_after_plain);
        self.total.latest_after_plain = latest;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let wait = |percent: usize| {
            let place = (waits.len().saturating_sub(1)) * percent / 100;
            waits.get(place).map_or(0.0, |wait| millis(*wait))
        };
        let total = &self.total;
        write!(
            f,
            "cluster: store {} seed {} nodes {}: {} rounds in {:.1} s; revocations {} (confirmed {}, plain {}); ",
            self.store,
            self.seed,
            self.nodes,
            self.rounds,
            self.seconds,
            self.revocations(),
            self.waits.len(),
            self.plain
        )?;
        write!(
            f,
            "checks: {} allowed, {} denied, {} unavailable; latest allowed after a plain revocation {:.1} ms; ",
            total.accepted,
            total.refused,
            total.unavailable,
            millis(total.latest_after_plain)
        )?;
        write!(
            f,
            "confirmed took p50 {:.1}, p99 {:.1}, max {:.1} ms, {} waited for a lease to end; {} audit entries; faults:",
            wait(50),
            wait(99),
            wait(100),
            self.outlasted,
            self.audited
        )?;
        self.faults
            .iter()
            .try_for_each(|(fault, times)| write!(f, " {fault} {times}"))
    }
}
