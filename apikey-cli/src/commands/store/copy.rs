//! `apikey store copy`.

use std::env::VarError;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apikey_runtime::KeyStore;
use apikey_runtime::store::{CopyOutcome, CopySection, FoundSchema, StoreCopy, StoreError};

use super::left::{self, Left};
use super::{NAMES, PAGE, changed, servers, verify};
use crate::args::{Common, CopyArguments};
use crate::exit;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Cell, Column, Output, Row};
use crate::progress::Progress;
use crate::settings;
use crate::store_address::{Opening, StoreAddress, refuse_address};
use crate::text::counted;

const COLUMNS: &[Column] = &[
    Column::shown("section"),
    Column::shown("read"),
    Column::shown("written"),
    Column::shown("unchanged"),
    Column::shown("kept"),
    Column::shown("unreadable"),
    Column::shown("differing"),
];

/// What was done with a section.
#[derive(Debug, Default)]
struct SectionReport {
    read: u64,
    written: u64,
    unchanged: u64,
    kept: u64,
    /// How many of the written items were changed in TO, and got a revocation alone.
    revoked: u64,
    /// How many are older than TO keeps such.
    outdated: u64,
    unreadable: u64,
    /// How many items are not the same in both stores; `None` if they were not compared.
    differing: Option<u64>,
    left: Left,
}

pub(super) async fn run(common: &Common, arguments: &CopyArguments) -> Result<(), Failure> {
    let address = |text| Ok::<_, Failure>(address(text)?.with_timeout(common.timeout));
    let (from, to) = (address(&arguments.from)?, address(&arguments.to)?);
    if is_same(&from, &to) {
        return Err(Failure::usage("FROM and TO are the same store"));
    }
    let retention = settings::config(common)?.usage_retention();
    let source = from.store(Opening::AsIs)?;
    let target = to.store_keeping(Opening::AsIs, retention)?;
    let copied = async {
        let opened = start(&source, "FROM", "correct FROM; nothing was copied").await;
        opened.map_err(|failure| from.explained(failure))?;
        const CREATE: &str = "correct TO, or make a new store there with `apikey store migrate --create`; nothing was copied";
        let opened = start(&target, "TO", CREATE).await;
        opened.map_err(|failure| to.explained(failure))?;
        guarded(common, arguments, retention, &*source, &*target).await
    };
    let copied = copied.await;
    target.stop().await;
    source.stop().await;
    let has_timeout = from.has_timeout(false) || to.has_timeout(false);
    copied.map_err(|failure| failure.patient(common, has_timeout))
}

/// Returns the store that an argument names. An argument is seen by each user of the machine, so it never has an address with a
/// password.
fn address(text: &str) -> Result<StoreAddress, Failure> {
    if let Some(path) = text.strip_prefix("file:") {
        return StoreAddress::from_file(Path::new(path));
    }
    if let Some(name) = text.strip_prefix("env:") {
        refuse_address(Path::new(name))?;
        return match std::env::var(name) {
            Ok(address) => StoreAddress::parse(&address),
            Err(VarError::NotUnicode(_)) => Err(Failure::not_unicode(name)),
            Err(VarError::NotPresent) => {
                Err(Failure::usage(format!("the variable `{name}` is not set"))
                    .remedy("set it to the store's address, such as `postgres://..`"))
            }
        };
    }
    if text.contains("://") {
        return Err(Failure::usage(
            "an argument is not the place for a store's address, which may have a password",
        )
        .remedy("write `env:NAME` with a variable that holds it, `file:PATH` with a file, or `sqlite:PATH`"));
    }
    StoreAddress::parse(text)
}

/// Starts a store. `if_missing` is what to do if it does not exist.
async fn start(store: &Arc<dyn KeyStore>, name: &str, if_missing: &str) -> Result<(), Failure> {
    store.start().await.map_err(|error| {
        notice::note(&format!("the store {name} could not be opened"));
        let is_missing = matches!(
            &error,
            StoreError::Schema {
                found: FoundSchema::Missing,
                ..
            }
        );
        let failure = Failure::from(error);
        match is_missing {
            true => failure.remedy(if_missing),
            false => failure,
        }
    })
}

/// Tells whether two addresses name the same store. A path may lead to a file through a link.
fn is_same(from: &StoreAddress, to: &StoreAddress) -> bool {
    match (from, to) {
        (StoreAddress::Sqlite(from), StoreAddress::Sqlite(to)) => {
            let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            place(from) == place(to)
        }
        _ => from == to,
    }
}

/// Copies if no server uses the stores, and looks for servers again after it: one may have started meanwhile.
async fn guarded(
    common: &Common,
    arguments: &CopyArguments,
    retention: Duration,
    source: &dyn KeyStore,
    target: &dyn KeyStore,
) -> Result<(), Failure> {
    let stores = [(source, "FROM"), (target, "TO")];
    let is_guarded = !arguments.force && !arguments.dry_run;
    for (store, name) in stores {
        if is_guarded {
            servers::refuse(store, name, "nothing was copied").await?;
        } else if arguments.dry_run {
            servers::note(store, name).await?;
        }
    }
    let copied = all(common, arguments, retention, source, target).await;
    let mut unused = Ok(());
    for (store, name) in stores.into_iter().filter(|_| is_guarded) {
        let still = servers::refuse(store, name, "the copy may not be whole").await;
        unused = unused.and(still);
    }
    match (copied, unused) {
        (Err(first), Err(other)) => {
            other.report();
            Err(first)
        }
        (copied, unused) => copied.and(unused),
    }
}

async fn all(
    common: &Common,
    arguments: &CopyArguments,
    retention: Duration,
    source: &dyn KeyStore,
    target: &dyn KeyStore,
) -> Result<(), Failure> {
    let (Some(from), Some(to)) = (source.copying(), target.copying()) else {
        return Err(Failure::new("one of the stores cannot be copied"));
    };
    if !arguments.force {
        match changed::found(from, to).await? {
            None => {}
            Some(found) if arguments.dry_run => notice::warn(&format!(
                "{found}; a copy needs `--force`, and may undo changes"
            )),
            Some(found) => return Err(changed::refused(&found)),
        }
    }
    let before = epoch(source).await?;
    let mut reports = Vec::new();
    for section in CopySection::ALL {
        let to = Some(to).filter(|_| !arguments.dry_run);
        reports.push((section, copy(common, section, from, to).await?));
    }
    for (section, report) in &mut reports {
        if !arguments.dry_run && matches!(section, CopySection::Keys | CopySection::Owners) {
            report.left = left::count(*section, from, to).await?;
        }
    }
    note_outdated(&reports, retention);
    warn_of_empty_source(&reports);
    if arguments.verify {
        let oldest = oldest_hour(retention);
        for (section, report) in &mut reports {
            report.differing = Some(verify::count(common, *section, from, to, oldest).await?);
        }
    }
    let is_changed = epoch(source).await? != before;
    let written = write(common, &reports);
    // The conclusion matters more than an error of the output.
    conclude(&reports, is_changed, arguments.dry_run).and(written)
}

/// Returns the position of the store's change log.
async fn epoch(store: &dyn KeyStore) -> Result<Option<u64>, Failure> {
    match store.change_log() {
        Some(log) => Ok(Some(log.changes(None, None).await?.cursor.epoch)),
        None => Ok(None),
    }
}

async fn copy(
    common: &Common,
    section: CopySection,
    from: &dyn StoreCopy,
    to: Option<&dyn StoreCopy>,
) -> Result<SectionReport, Failure> {
    let (mut report, mut after) = (SectionReport::default(), None);
    let mut progress = Progress::new(common, section.code(), None);
    loop {
        let page = from.read_copy(section, after.as_deref(), PAGE).await?;
        name_some(
            &page.unreadable,
            report.unreadable,
            "cannot be read, and was not copied",
        );
        report.unreadable += page.unreadable.len() as u64;
        report.read += page.items.len() as u64;
        if let Some(to) = to {
            let CopyOutcome {
                written,
                unchanged,
                kept,
                revoked,
                outdated,
                ..
            } = to.write_copy(&page.items).await?;
            name_some(
                &kept,
                report.kept,
                "differs in TO, which was left as it is: it is newer or larger there, or was changed in both",
            );
            name_some(
                &revoked,
                report.revoked,
                "is revoked in TO now, as in FROM; the rest differs, and was left as it is",
            );
            report.written += written;
            report.unchanged += unchanged;
            report.kept += kept.len() as u64;
            report.revoked += revoked.len() as u64;
            report.outdated += outdated;
        }
        progress.set(report.read);
        after = page.next;
        if after.is_none() {
            return Ok(report);
        }
    }
}

/// Returns the hour before which a server of TO removes usage.
fn oldest_hour(retention: Duration) -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let hours = since_1970
        .unwrap_or_default()
        .saturating_sub(retention)
        .as_secs()
        / 3_600;
    i64::try_from(hours).unwrap_or(i64::MAX)
}

fn note_outdated(reports: &[(CopySection, SectionReport)], retention: Duration) {
    let outdated: u64 = reports.iter().map(|(_, report)| report.outdated).sum();
    if outdated > 0 {
        notice::warn(&format!(
            "usage older than {} was not copied ({}): TO does not keep such; if its servers keep \
             usage for longer, set `usage_retention_hours` as theirs (`--config FILE`, or `ACTIX_API_KEY_USAGE_RETENTION_HOURS`)",
            counted(retention.as_secs() / 3_600, "hour"),
            counted(outdated, "count")
        ));
    }
}

/// Warns of a store that may be another one than was meant.
fn warn_of_empty_source(reports: &[(CopySection, SectionReport)]) {
    let is_empty = |(section, report): &(CopySection, SectionReport)| {
        let is_main = matches!(section, CopySection::Keys | CopySection::Owners);
        !is_main || report.read + report.unreadable == 0
    };
    if reports.iter().all(is_empty) {
        notice::warn("FROM has neither keys nor owners: see that it is the right store");
    }
}

/// Warns of the first items of a section.
fn name_some(names: &[String], before: u64, what: &str) {
    let left = NAMES.saturating_sub(usize::try_from(before).unwrap_or(NAMES));
    for name in names.iter().take(left) {
        notice::warn(&format!("`{name}` {what}"));
    }
}

fn write(common: &Common, reports: &[(CopySection, SectionReport)]) -> Result<(), Failure> {
    let mut rows = Output::new(common).rows(COLUMNS);
    for (section, report) in reports {
        let mut cells: Vec<Cell> = vec![section.code().into()];
        cells.extend(
            [
                report.read,
                report.written,
                report.unchanged,
                report.kept,
                report.unreadable,
            ]
            .map(Cell::from),
        );
        cells.push(report.differing.into());
        rows.write(Row::new(section.code(), cells))?;
    }
    rows.finish()
}

fn conclude(
    reports: &[(CopySection, SectionReport)],
    is_changed: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    let sum = |number: fn(&SectionReport) -> u64| {
        reports
            .iter()
            .map(|(_, report)| number(report))
            .sum::<u64>()
    };
    if is_changed {
        return Err(Failure::with_code(
            exit::CONFLICT,
            "the store FROM was changed while it was copied",
        )
        .remedy("stop what changes it, and run the same command again"));
    }
    if sum(|report| report.unreadable) > 0 {
        return Err(
            Failure::new("some items could not be read, and were not copied")
                .remedy("`apikey store check` names keys and owners that cannot be read"),
        );
    }
    if sum(|report| report.left.valid) > 0 {
        return Err(Failure::with_code(
            exit::CONFLICT,
            "some keys or owners are revoked or suspended in FROM, and still valid in TO",
        )
        .remedy("revoke or suspend in TO what the warnings name"));
    }
    if sum(|report| report.left.only_in_to) > 0 {
        return Err(Failure::with_code(
            exit::CONFLICT,
            "TO has keys or owners that FROM does not have",
        )
        .remedy("revoke them in TO if they were removed from FROM, or copy to a new store"));
    }
    if sum(|report| report.kept + report.revoked + report.differing.unwrap_or(0)) == 0 {
        return Ok(());
    }
    let (cause, remedy) = match dry_run {
        true => (
            "the stores are not the same, and nothing was written",
            "run it without `--dry-run`",
        ),
        false => (
            "the stores are not the same; what FROM revoked is revoked in TO",
            "copy to a new store, or change by hand what differs",
        ),
    };
    Err(Failure::with_code(exit::CONFLICT, cause).remedy(remedy))
}
