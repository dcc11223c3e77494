//! A test suite that checks whether a store keeps the contract of [`KeyStore`] and of the
//! capabilities that it has, for the stores of this crate and for your own.
//!
//! ```
//! use std::sync::Arc;
//!
//! use apikey_runtime::{KeyStore, MemoryStore, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let report = conformance::run(|| async { Arc::new(MemoryStore::new()) as Arc<dyn KeyStore> }).await;
//! assert!(report.skipped.is_empty(), "{report:?}");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Each check gets a store of its own, which must be empty and not yet started: the suite calls
//! [`start`](KeyStore::start) and [`stop`](KeyStore::stop). Run the suite inside a Tokio runtime whose
//! timers are enabled. A multi-threaded runtime finds more races.

mod audit;
mod audit_pages;
mod audit_texts;
mod batch_reads;
mod bulk;
mod charges;
mod checks;
mod conditions;
mod copied;
mod copied_growth;
mod copied_revocations;
mod copied_uses;
mod copying;
mod fields;
mod history;
mod last_use;
mod limits;
mod list_pages;
mod listing;
mod live_keys;
mod live_races;
mod membership;
mod notice_claims;
mod notices;
mod owner_changes;
mod owner_keys;
mod owner_lists;
mod owners;
mod ranges;
mod rates;
mod records;
mod revocation;
mod samples;
mod shared_secrets;
mod usage;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use self::checks::{CHECKS, CheckFn, ConformanceCheck};
use crate::error::StoreError;
use crate::store::KeyStore;

/// The result of the suite, if the store failed no check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The checks that the store passed.
    pub passed: Vec<&'static str>,
    /// The checks of capabilities that the store does not have, each with the reason.
    pub skipped: Vec<(&'static str, &'static str)>,
}

/// Runs all checks, each on a new store from `make`.
///
/// # Panics
///
/// Panics at the first check that the store fails. The message names the check and the rule.
pub async fn run<F, Fut>(make: F) -> Report
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn KeyStore>>,
{
    let mut report = Report::default();
    for check in CHECKS {
        match run_check(check, &make).await {
            CheckVerdict::Passed => report.passed.push(check.name),
            CheckVerdict::Skipped(reason) => report.skipped.push((check.name, reason)),
        }
    }
    report
}

/// Returns the names of the checks, in the order in which [`run`] runs them.
pub fn checks() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

/// Runs the check `name` alone, so that a test harness can report checks separately. Returns
/// `false` if the check was skipped.
///
/// # Panics
///
/// Panics if the store fails the check, or if no check has this name; [`checks`] returns the names.
pub async fn check<F, Fut>(name: &str, make: F) -> bool
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn KeyStore>>,
{
    let Some(check) = CHECKS.iter().find(|check| check.name == name) else {
        panic!("no check has the name `{name}`; `conformance::checks` lists all names");
    };
    run_check(check, &make).await == CheckVerdict::Passed
}

/// Runs the checks of copying from a store of `from` to one of `to`, which may be stores of two kinds. Both keep all that is copied.
///
/// # Panics
///
/// Panics at the first check that the stores fail, or if one of them cannot be copied.
pub async fn copy_between<F, Fut, T, TFut>(from: F, to: T)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn KeyStore>>,
    T: Fn() -> TFut,
    TFut: Future<Output = Arc<dyn KeyStore>>,
{
    for check in CHECKS {
        let CheckFn::Two(run) = check.run else {
            continue;
        };
        if !check.name.contains("copy") {
            continue;
        }
        let stores = [from().await, to().await];
        for store in &stores {
            if let Err(error) = store.start().await {
                panic!("`start` fails: {error}");
            }
        }
        let [source, target] = &stores;
        match run(Arc::clone(source), Arc::clone(target)).await {
            Ok(CheckVerdict::Passed) => {}
            Ok(CheckVerdict::Skipped(reason)) => panic!("{reason}"),
            Err(broken) => panic!("the stores fail the check `{}`: {}", check.name, broken.0),
        }
        for store in stores {
            store.stop().await;
        }
    }
}

async fn run_check<F, Fut>(check: &ConformanceCheck, make: &F) -> CheckVerdict
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn KeyStore>>,
{
    match attempt(check, make).await {
        Ok(decision) => decision,
        Err(broken) => panic!("the store fails the check `{}`: {}", check.name, broken.0),
    }
}

async fn attempt<F, Fut>(check: &ConformanceCheck, make: &F) -> CheckResult
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn KeyStore>>,
{
    let store = make().await;
    store.start().await.or_violation("`start` fails")?;
    let outcome = match check.run {
        CheckFn::One(run) => run(Arc::clone(&store)).await,
        CheckFn::Two(run) => {
            let other = make().await;
            other.start().await.or_violation("`start` fails")?;
            let outcome = run(Arc::clone(&store), Arc::clone(&other)).await;
            other.stop().await;
            outcome
        }
    };
    store.stop().await;
    outcome
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckVerdict {
    Passed,
    /// The store does not have the capability, for this reason.
    Skipped(&'static str),
}

/// The verdict on a check of the change log, if the store does not keep one.
const NO_LOG: CheckVerdict =
    CheckVerdict::Skipped("the store does not keep a change log: `change_log` returns `None`");

/// A description of the rule that the store breaks.
#[derive(Debug)]
struct Violation(String);

type CheckResult = Result<CheckVerdict, Violation>;

/// Fails the check with the formatted message unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($rule:tt)+) => {
        if !$holds {
            return Err($crate::store::conformance::Violation(format!($($rule)+)));
        }
    };
}
use ensure;

/// Converts a store's answer into a value, or into a failure of the check.
trait OrViolation<T> {
    /// Returns the value, or a violation of `rule`.
    fn or_violation(self, rule: &str) -> Result<T, Violation>;
}

impl<T> OrViolation<T> for Result<T, StoreError> {
    fn or_violation(self, rule: &str) -> Result<T, Violation> {
        self.map_err(|error| Violation(format!("{rule}: {error} ({error:?})")))
    }
}

impl<T> OrViolation<T> for Option<T> {
    fn or_violation(self, rule: &str) -> Result<T, Violation> {
        self.ok_or_else(|| Violation(rule.to_owned()))
    }
}

/// Checks that `result` is [`StoreError::Conflict`].
fn ensure_conflict<T: fmt::Debug>(
    result: Result<T, StoreError>,
    rule: &str,
) -> Result<(), Violation> {
    ensure!(
        matches!(result, Err(StoreError::Conflict)),
        "{rule} must return `Conflict`; got {result:?}"
    );
    Ok(())
}

/// Checks that `result` is [`StoreError::TooManyKeys`] with `max`.
fn ensure_too_many<T: fmt::Debug>(
    result: Result<T, StoreError>,
    max: u32,
    rule: &str,
) -> Result<(), Violation> {
    ensure!(
        matches!(result, Err(StoreError::TooManyKeys { max: named }) if named == max),
        "{rule} must return `TooManyKeys` with {max}; got {result:?}"
    );
    Ok(())
}

/// Checks that `result` is [`StoreError::NotFound`].
fn ensure_not_found<T: fmt::Debug>(
    result: Result<T, StoreError>,
    rule: &str,
) -> Result<(), Violation> {
    ensure!(
        matches!(result, Err(StoreError::NotFound)),
        "{rule} must return `NotFound`; got {result:?}"
    );
    Ok(())
}
