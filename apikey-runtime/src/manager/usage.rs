//! Reads usage.

use std::collections::HashSet;
use std::time::Duration;

use super::ApiKeyManager;
use super::call::{StartedCall, impl_call};
use super::core::ManagerCore;
use crate::clock::{Timestamp, millis_i64};
use crate::error::Error;
use crate::key::KeyId;
use crate::store::{LastUsed, ListQuery, ListRange, NetworkUse, UsageQuery, UsageRow};
use crate::usage::{UsageReport, hour_of};

/// The maximum number of keys in one query of the store.
const MAX_KEYS: usize = 1_000;

const DAY_HOURS: i64 = 24;

/// How far the clock of the node that rolls a day up may be ahead of this one's, in milliseconds.
const MAX_SKEW: i64 = 5 * 60_000;

/// The number of keys of an owner that are listed at once.
const PAGE: u32 = 1_000;

/// The span that is read by default.
const SPAN: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The longest span: ten years.
const MAX_SPAN: Duration = Duration::from_secs(3_653 * 24 * 3_600);

impl ApiKeyManager {
    /// Reads the usage of a key, with or without a span of time.
    ///
    /// Requests are counted in memory, by key, route and hour, and written to the store once per
    /// [interval](crate::ConfigBuilder::usage_flush_interval). This call first writes what this
    /// process has counted. Counts of other processes appear when their interval ends.
    /// [`guide::observability`](crate::guide::observability) explains what is counted.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").await?;
    /// for _ in 0..3 {
    ///     manager.verify(key.expose_secret()).await?;
    /// }
    ///
    /// let usage = manager.usage(key.id()).await?;
    /// assert_eq!(usage.total().requests, 3);
    /// for day in usage.by_day() {
    ///     println!("{}: {} requests", day.start.as_millis(), day.counts.requests);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn usage(&self, id: KeyId) -> UsageRequest {
        UsageRequest::new(self.clone(), UsageSubject::Keys(vec![id]))
    }

    /// Reads the usage of up to 1,000 keys in one call of the store, for a page that lists keys:
    /// [`UsageReport::by_key_and_day`] tells them apart. Otherwise as [`usage`](Self::usage). Keys that
    /// are not known were not used.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let page = manager.list().await?;
    /// let ids: Vec<_> = page.keys.iter().map(|key| key.id).collect();
    /// for of_key in manager.usage_of(&ids).await?.by_key_and_day() {
    ///     println!("{}: used on {} days", of_key.key, of_key.days.len());
    /// }
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn usage_of(&self, ids: &[KeyId]) -> UsageRequest {
        UsageRequest::new(self.clone(), UsageSubject::Keys(ids.to_vec()))
    }

    /// Reads the usage of all keys of an owner, as [`usage`](Self::usage) does for one key. Purged
    /// keys are not included. A shutdown ends the call with [`Error::ShutDown`] after each 1,000 keys.
    pub fn owner_usage(&self, owner: impl Into<String>) -> UsageRequest {
        UsageRequest::new(self.clone(), UsageSubject::Owner(owner.into()))
    }

    /// Returns when a key was last allowed, and from which network; `None` if it never was. Uses by
    /// other processes are included when their interval ends.
    ///
    /// After a rotation with a grace, it says which secret the clients use:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let old = manager.create("ci").await?;
    /// manager.verify(old.expose_secret()).await?;
    /// let new = manager.rotate(old.id()).grace(Duration::from_secs(3_600)).await?;
    /// manager.verify(new.expose_secret()).await?;
    ///
    /// let used = manager.last_used(old.id()).await?.expect("it was used");
    /// if let Some(at) = used.superseded_at.filter(|_| used.current_at.is_some()) {
    ///     println!("the old secret was last used at {at}; its grace may end");
    /// }
    /// # assert!(used.superseded_at.is_some() && used.current_at >= used.superseded_at);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the store does not keep usage, [`Error::Store`] or
    /// [`Error::ShutDown`].
    pub async fn last_used(&self, id: KeyId) -> Result<Option<LastUsed>, Error> {
        Ok(self.last_used_of(&[id]).await?.pop())
    }

    /// Returns when each of up to 1,000 keys was last allowed, in one call of the store, for a page that
    /// lists keys. The keys are in the order of `ids`; those that were never allowed are left out.
    /// Otherwise as [`last_used`](Self::last_used).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`last_used`](Self::last_used), and [`Error::InvalidArgument`] for more
    /// than 1,000 keys.
    pub async fn last_used_of(&self, ids: &[KeyId]) -> Result<Vec<LastUsed>, Error> {
        self.check_usage_is_kept()?;
        let ids = distinct(ids.to_vec())?;
        self.on_thread(move |core| async move {
            core.usage.flush().await?;
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let mut found = core.shared.last_used(&ids).await?;
            let position = |id: KeyId| ids.iter().position(|known| *known == id);
            found.sort_by_cached_key(|used| position(used.key));
            Ok(found)
        })
        .await
    }

    /// Returns the networks from which a key was last allowed, the latest first, at most
    /// [`MAX_NETWORKS`](crate::usage::MAX_NETWORKS). They are as precise as
    /// [`usage_network_precision`](crate::ConfigBuilder::usage_network_precision) permits, and are
    /// kept for as long as usage is. Empty if the store does not keep networks.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`last_used`](Self::last_used).
    pub async fn networks_of(&self, id: KeyId) -> Result<Vec<NetworkUse>, Error> {
        self.check_usage_is_kept()?;
        self.on_thread(move |core| async move {
            core.usage.flush().await?;
            Ok(core.shared.read_networks(&[id]).await?)
        })
        .await
    }

    pub(super) fn check_usage_is_kept(&self) -> Result<(), Error> {
        if self.0.core.usage.is_enabled() {
            return Ok(());
        }
        Err(Error::Unsupported(
            "the key store does not keep usage; implement `UsageStore` for it, \
             or use a store that has it"
                .to_owned(),
        ))
    }
}

/// A call that reads usage; see [`ApiKeyManager::usage`]. Resolves to a [`UsageReport`].
///
/// Its errors are [`Error::InvalidArgument`] if the span is invalid, [`Error::Unsupported`] if the store does not
/// keep usage, [`Error::Store`] and [`Error::ShutDown`].
#[derive(Debug)]
#[must_use = "nothing is read until this is awaited"]
pub struct UsageRequest {
    manager: ApiKeyManager,
    subject: UsageSubject,
    span: Option<(Timestamp, Timestamp)>,
    started: StartedCall<UsageReport>,
}

#[derive(Debug)]
enum UsageSubject {
    Keys(Vec<KeyId>),
    Owner(String),
}

impl UsageRequest {
    fn new(manager: ApiKeyManager, subject: UsageSubject) -> Self {
        Self {
            manager,
            subject,
            span: None,
            started: StartedCall::none(),
        }
    }

    /// Sets the span: from `from` (inclusive) to `to` (exclusive), at most ten years. By default,
    /// the last 30 days.
    ///
    /// Usage is counted by whole hours. The first is the hour that contains `from`, the last the
    /// hour that contains the last moment before `to`. After
    /// [`usage_roll_up_after`](crate::ConfigBuilder::usage_roll_up_after), usage is counted by whole days
    /// (UTC), and these are the days that contain them. A day is taken for one of these five minutes earlier, since the clock of
    /// the process that rolls it up may be ahead.
    pub fn between(mut self, from: impl Into<Timestamp>, to: impl Into<Timestamp>) -> Self {
        self.span = Some((from.into(), to.into()));
        self
    }

    async fn read(self) -> Result<UsageReport, Error> {
        let Self {
            manager,
            subject,
            span,
            started: _,
        } = self;
        manager.check_usage_is_kept()?;
        let hours = hours(span, manager.now())?;
        let subject = match subject {
            UsageSubject::Keys(ids) => UsageSubject::Keys(distinct(ids)?),
            owner => owner,
        };
        manager
            .on_thread(move |core| async move {
                core.usage.flush().await?;
                loop {
                    let (from, to) = core.whole_days(hours);
                    let rows = match &subject {
                        UsageSubject::Keys(ids) => core.read_usage(ids, from, to).await?,
                        UsageSubject::Owner(owner) => core.read_usage_of(owner, from, to).await?,
                    };
                    // Otherwise a day may have been rolled up meanwhile, to an hour that was not read.
                    if core.whole_days(hours) == (from, to) {
                        return Ok(UsageReport::new(rows));
                    }
                }
            })
            .await
    }
}

impl_call!(
    UsageRequest => UsageReport,
    |call| Self::new(call.manager.clone(), UsageSubject::Owner(String::new())),
    Self::read
);

/// Returns the hours of a span: the first (inclusive) and the last (exclusive).
fn hours(span: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Result<(i64, i64), Error> {
    let Some((from, to)) = span else {
        let back = millis_i64(SPAN);
        let from = Timestamp::from_millis(now.as_millis().saturating_sub(back));
        return Ok((hour_of(from), hour_of(now) + 1));
    };
    let millis = to.as_millis().checked_sub(from.as_millis());
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    match millis.map(Duration::from_millis) {
        Some(span) if span.is_zero() || span > MAX_SPAN => {}
        Some(_) => {
            let last = Timestamp::from_millis(to.as_millis() - 1);
            return Ok((hour_of(from), hour_of(last) + 1));
        }
        None => {}
    }
    Err(Error::InvalidArgument(
        "usage is read from a time up to a later one, at most ten years; \
         write them in their order, as in `between(from, to)`"
            .to_owned(),
    ))
}

/// Drops repeated keys, and checks how many remain.
fn distinct(mut ids: Vec<KeyId>) -> Result<Vec<KeyId>, Error> {
    let mut seen = HashSet::with_capacity(ids.len());
    ids.retain(|id| seen.insert(*id));
    match ids.len() {
        0..=MAX_KEYS => Ok(ids),
        many => Err(Error::InvalidArgument(format!(
            "the usage of {many} keys is asked for at once; ask for at most {MAX_KEYS}"
        ))),
    }
}

impl ManagerCore {
    /// Extends hours by the rest of days that are rolled up, or soon will be, and the first of which has their counts.
    fn whole_days(&self, (from, to): (i64, i64)) -> (i64, i64) {
        let after = millis_i64(self.verifier.config.usage_roll_up_after());
        let now = self.shared.now().now.as_millis().saturating_add(MAX_SKEW);
        let hours_from = Timestamp::from_millis(now.saturating_sub(after));
        let end = hour_of(hours_from).div_euclid(DAY_HOURS);
        let start = |hour: i64| hour.saturating_sub(hour.rem_euclid(DAY_HOURS));
        let is_by_day = |hour: i64| hour.div_euclid(DAY_HOURS) < end;
        let from = if is_by_day(from) { start(from) } else { from };
        let last = to.saturating_sub(1);
        let to = if is_by_day(last) {
            start(last).saturating_add(DAY_HOURS)
        } else {
            to
        };
        (from, to)
    }

    async fn read_usage(&self, keys: &[KeyId], from: i64, to: i64) -> Result<Vec<UsageRow>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let query = UsageQuery::new(keys.to_vec(), from, to);
        Ok(self.shared.read_usage(&query).await?)
    }

    async fn read_usage_of(&self, owner: &str, from: i64, to: i64) -> Result<Vec<UsageRow>, Error> {
        let mut query = ListQuery::of(ListRange::Owner(owner.to_owned()), PAGE);
        let mut rows = Vec::new();
        loop {
            let page = self.shared.list(&query).await?;
            let keys: Vec<_> = page.records.iter().map(|record| record.id).collect();
            rows.append(&mut self.read_usage(&keys, from, to).await?);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(rows),
            }
            self.before_next_page().await?;
        }
    }
}
