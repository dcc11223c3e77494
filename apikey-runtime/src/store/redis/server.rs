//! The connections to one server, and the start of a history there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Value, from_redis_value};

use super::door::{Door, Incarnation, random};
use super::error::Failure;
use super::link::{DEADLINE, Link};
use super::names::Names;
use super::push::Push;
use super::script::{self, Run, Script};
use super::settings;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::store::{ChangeNotifier, lease};

/// The lease of a new store, where nothing else is asked for.
const DEFAULT_LEASE: Duration = Duration::from_secs(2);

/// How often what was not yet, or not any more, as a script needs it is tried again.
pub(super) const TRIES: usize = 10;

/// Bytes of a tag in the log.
pub(super) const TAG: usize = 16;

/// What a store holds between its start and its stop.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) names: Names,
    pub(super) calls: Link,
    /// Polls of the history, and what nodes write of themselves, wait behind nobody: a flood of
    /// reads of unknown keys would otherwise put them off until the lease of the known ones is over.
    pub(super) polls: Link,
    /// The lease as it was last read, in milliseconds: what a history that has to be founded anew
    /// goes on with.
    pub(super) lease: AtomicU64,
    _push: Push,
}

/// What a script answers: a word, and texts that belong to it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) word: String,
    pub(super) rest: Vec<Vec<u8>>,
    pub(super) incarnation: Incarnation,
}

impl Server {
    /// Connects, founds a history where there is none, and writes down the lease.
    pub(super) async fn open(
        door: Door,
        names: Names,
        lease: Option<Duration>,
        signal: &ChangeNotifier,
    ) -> Result<Self, StoreError> {
        let door = Arc::new(door);
        let server = Self {
            calls: Link::open(&door),
            polls: Link::open(&door),
            lease: AtomicU64::new(millis_u64(lease.unwrap_or(DEFAULT_LEASE))),
            _push: Push::open(&door, names.channel(), signal),
            names,
        };
        server.calls.ready().await?;
        server.polls.ready().await?;
        settings::warn(&server.calls).await?;
        server.settle(lease).await?;
        Ok(server)
    }

    /// Writes the lease down. Where a longer one held before, waits until no node can hold it any
    /// more. Where all is as it should be, writes nothing: a server without memory for a write can
    /// still be read from.
    async fn settle(&self, wanted: Option<Duration>) -> Result<(), StoreError> {
        let mut leases = self.leases().await?;
        if leases.iter().any(Vec::is_empty) {
            self.found(&self.calls).await?;
            leases = self.leases().await?;
        }
        if let Some(wanted) = wanted.filter(|wanted| self.length(&leases[0]).ok() != Some(*wanted))
        {
            let set = self.write(&script::LEASE, 2)?.argument(millis_u64(wanted));
            self.founded(&self.calls, "setting the lease", set, DEADLINE)
                .await?;
            leases = self.leases().await?;
        }
        let (length, longest) = (self.length(&leases[0])?, self.length(&leases[1])?);
        self.lease.store(millis_u64(length), Ordering::Relaxed);
        if longest <= length {
            return Ok(());
        }
        tokio::time::sleep(lease::outlasts(longest)).await;
        let settle = leases
            .into_iter()
            .fold(self.write(&script::SETTLE, 2)?, Run::argument);
        self.founded(&self.calls, "settling the lease", settle, DEADLINE)
            .await?;
        Ok(())
    }

    /// The lease, the longest that may still be held, and their version: empty where there is none.
    async fn leases(&self) -> Result<[Vec<u8>; 3], StoreError> {
        let doing = "reading the lease";
        let mut read = redis::cmd("HMGET");
        read.arg(self.names.meta());
        read.arg(&["lease_ms", "longest_lease_ms", "lease_version"]);
        let answers = self.calls.call(doing, [read], DEADLINE).await?;
        let leases: Vec<Option<Vec<u8>>> = answers
            .one()
            .0
            .extract_error()
            .and_then(|value| Ok(from_redis_value(value)?))
            .map_err(|error| Failure::of(doing, error))?;
        let leases: Vec<_> = leases.into_iter().map(Option::unwrap_or_default).collect();
        leases
            .try_into()
            .map_err(|_| self.broken("the lease is missing"))
    }

    /// A lease that stands in the store as `text`.
    pub(super) fn length(&self, text: &[u8]) -> Result<Duration, StoreError> {
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis)
            .filter(|length| lease::check(Some(*length)).is_ok())
            .ok_or_else(|| {
                self.broken(
                    "the lease is no number from 20 to 60000; start the store anew with one",
                )
            })
    }

    /// The error of a history that is there and cannot be read.
    pub(super) fn broken(&self, reason: &str) -> StoreError {
        StoreError::Corrupt {
            id: self.names.meta(),
            reason: reason.to_owned(),
        }
    }

    /// A script that writes, with what each of them needs: the first `keys` of the store's keys, a
    /// new tag and the channel.
    pub(super) fn write(&self, script: &'static Script, keys: usize) -> Result<Run, Failure> {
        Ok(Run::new(script)
            .keys(self.names.of_records().into_iter().take(keys))
            .argument(&random::<TAG>()?)
            .argument(self.names.channel()))
    }

    /// Runs a script, and founds the history first where there is none: the script says so before it
    /// does anything.
    pub(super) async fn founded(
        &self,
        link: &Link,
        doing: &str,
        run: Run,
        deadline: Duration,
    ) -> Result<Answer, Failure> {
        for _ in 0..TRIES {
            let answer = answer(doing, link.run(doing, &run, deadline).await?)?;
            if answer.word != "unfounded" {
                return Ok(answer);
            }
            tracing::warn!("the Redis store has no history; a new one starts");
            self.found(link).await?;
        }
        Err(Failure::unavailable(format!(
            "{doing}: the history is lost again and again"
        )))
    }

    async fn found(&self, link: &Link) -> Result<(), Failure> {
        let run = Run::new(&script::FOUND)
            .keys(self.names.of_history())
            .argument(&random::<TAG>()?)
            .argument(self.names.channel())
            .argument(self.lease.load(Ordering::Relaxed))
            .argument(millis_u64(lease::LONGEST));
        link.run("starting a history", &run, DEADLINE)
            .await
            .map(drop)
    }
}

/// Reads what a script answered.
pub(super) fn answer(doing: &str, answered: (Value, Incarnation)) -> Result<Answer, Failure> {
    let (value, incarnation) = answered;
    let failed = |error: redis::ParsingError| Failure::of(doing, error.into());
    let mut rest: Vec<Vec<u8>> = from_redis_value(value).map_err(failed)?;
    let word = match rest.is_empty() {
        true => String::new(),
        false => String::from_utf8_lossy(&rest.remove(0)).into_owned(),
    };
    Ok(Answer {
        word,
        rest,
        incarnation,
    })
}
