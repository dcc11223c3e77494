//! The connections to one server, and the start of a history there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Value, from_redis_value};

use super::connection::{DEADLINE, RedisConnection};
use super::connector::{Connector, Incarnation, random};
use super::error::RedisFailure;
use super::key_names::KeyNames;
use super::push::PushSubscription;
use super::script::{self, LuaScript, ScriptCall};
use super::settings;
use crate::clock::millis_u64;
use crate::error::StoreError;
use crate::store::schema::{self, Opening};
use crate::store::trim_schedule::TrimSchedule;
use crate::store::{ChangeNotifier, PROTOCOL, lease};

/// The default lease of a new store.
const DEFAULT_LEASE: Duration = Duration::from_secs(2);

/// The version of the schema. Since 102, entries of the log have a kind. Since 103, owners have a state. Since 104,
/// records are found by more, and changes are audited. Since 105, keys that expire have notices.
pub(super) const SCHEMA: i64 = 105;

/// How often a script is tried again that found its inputs outdated.
pub(super) const TRIES: usize = 10;

/// Bytes of a tag in the log.
pub(super) const TAG: usize = 16;

/// What a store holds between its start and its stop.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) names: KeyNames,
    pub(super) calls: RedisConnection,
    /// Polls of the history and the writes of membership have a connection of their own: a flood of
    /// reads of unknown keys would otherwise delay them until the lease of the known ones is over.
    pub(super) polls: RedisConnection,
    /// The lease as it was last read, in milliseconds: a new
    /// history takes this one over.
    pub(super) lease: AtomicU64,
    pub(super) trim_schedule: TrimSchedule,
    _push: PushSubscription,
}

/// What a script answers: a word, and texts that belong to it.
#[derive(Debug)]
pub(super) struct ScriptReply {
    pub(super) word: String,
    pub(super) rest: Vec<Vec<u8>>,
    pub(super) incarnation: Incarnation,
}

impl Server {
    /// Connects, starts a history if the namespace does not have one and `opening` allows it, and writes down the lease.
    pub(super) async fn open(
        connector: Connector,
        names: KeyNames,
        opening: Opening,
        lease: Option<Duration>,
        signal: &ChangeNotifier,
    ) -> Result<Self, StoreError> {
        let connector = Arc::new(connector);
        let server = Self {
            calls: RedisConnection::open(&connector),
            polls: RedisConnection::open(&connector),
            lease: AtomicU64::new(millis_u64(lease.unwrap_or(DEFAULT_LEASE))),
            trim_schedule: TrimSchedule::default(),
            _push: PushSubscription::open(&connector, names.channel(), signal),
            names,
        };
        server.calls.ready().await?;
        server.polls.ready().await?;
        settings::warn(&server.calls).await?;
        server.check_schema(opening).await?;
        if !opening.reads_older {
            server.set_lease(lease).await?;
        }
        Ok(server)
    }

    /// Rejects data that was written under another version of the schema. Data of an unreleased build
    /// has a `meta` without a version. If `meta` itself is lost, a new history starts, unless the store must exist.
    async fn check_schema(&self, opening: Opening) -> Result<(), StoreError> {
        let doing = "reading the version of the schema";
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.names.meta());
        let mut read = redis::cmd("HMGET");
        read.arg(self.names.meta())
            .arg(&["schema", "notices", "owners"]);
        let answers = self.calls.call(doing, [exists, read], DEADLINE).await?;
        let failed = |error: redis::RedisError| match error.code() {
            Some("WRONGTYPE") => schema::foreign(format!(
                "the key `{}` is not one of a store; name another namespace",
                self.names.meta()
            )),
            _ => RedisFailure::of(doing, error).into(),
        };
        let mut values = Vec::with_capacity(2);
        for value in answers.values {
            values.push(value.extract_error().map_err(failed)?);
        }
        // The place of an interrupted pass is not text.
        let (exists, fields): (bool, Vec<Option<Vec<u8>>>) =
            from_redis_value(Value::Array(values)).map_err(|error| failed(error.into()))?;
        let [found, passes @ ..] = fields.as_slice() else {
            return Err(self.broken("`schema` cannot be read"));
        };
        let version = match found {
            None if exists => return Err(schema::unreleased()),
            None => None,
            Some(text) => {
                let number = std::str::from_utf8(text)
                    .ok()
                    .and_then(|text| text.parse().ok());
                Some(number.ok_or_else(|| self.broken("`schema` is not a number"))?)
            }
        };
        // What an older release made is brought up to date in steps, after its version is written and the position of each
        // pass with it. A `meta` without positions is that of a history which has begun on nothing, or again on what this
        // release wrote.
        let is_done = |pass: &Option<Vec<u8>>| pass.as_deref().is_none_or(|pass| pass == b"all");
        let is_complete = passes.iter().all(is_done);
        let effective = match version {
            Some(SCHEMA) if !is_complete && !opening.migrate => Some(SCHEMA - 1),
            version => version,
        };
        opening.check(effective, SCHEMA, || {
            format!("the namespace of the key `{}`", self.names.meta())
        })?;
        match version {
            Some(version) if opening.migrate => self.raise_schema(version).await,
            _ => Ok(()),
        }
    }

    /// Writes the present version of the schema, so that an older release does not start any more, and the protocol, so that
    /// one that is running does not get a lease. What is stored stays as it is: entries of the log that have no kind are read
    /// as what they were, and an owner gets its state with the next key.
    async fn raise_schema(&self, found: i64) -> Result<(), StoreError> {
        if found == SCHEMA {
            return Ok(());
        }
        let doing = "writing the version of the schema";
        let raise = self
            .write(&script::RAISE_SCHEMA, 2)?
            .argument(SCHEMA)
            .argument(PROTOCOL);
        self.run_with_history(&self.calls, doing, raise, DEADLINE)
            .await?;
        Ok(())
    }

    /// Writes the lease down. After a longer lease, waits until no node can hold that any more. If the
    /// lease is in effect already, writes nothing: a server without memory for a write can still be
    /// read from.
    async fn set_lease(&self, wanted: Option<Duration>) -> Result<(), StoreError> {
        let mut leases = self.leases().await?;
        if leases.iter().any(Vec::is_empty) {
            self.init_history(&self.calls).await?;
            leases = self.leases().await?;
        }
        if let Some(wanted) = wanted.filter(|wanted| self.length(&leases[0]).ok() != Some(*wanted))
        {
            let set = self
                .write(&script::SET_LEASE, 2)?
                .argument(millis_u64(wanted));
            self.run_with_history(&self.calls, "setting the lease", set, DEADLINE)
                .await?;
            leases = self.leases().await?;
        }
        let (length, longest) = (self.length(&leases[0])?, self.length(&leases[1])?);
        self.lease.store(millis_u64(length), Ordering::Relaxed);
        if longest <= length {
            return Ok(());
        }
        tokio::time::sleep(lease::outlasts(longest)).await;
        let lower = leases.into_iter().fold(
            self.write(&script::LOWER_LONGEST_LEASE, 2)?,
            ScriptCall::argument,
        );
        self.run_with_history(&self.calls, "lowering the longest lease", lower, DEADLINE)
            .await?;
        Ok(())
    }

    /// Returns the lease, the longest that may still be held, and their version; each is empty if it
    /// is missing.
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
            .map_err(|error| RedisFailure::of(doing, error))?;
        let leases: Vec<_> = leases.into_iter().map(Option::unwrap_or_default).collect();
        leases
            .try_into()
            .map_err(|_too_few| self.broken("the lease is missing"))
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
                    "the lease is not a number from 20 to 60000; restart the store with `lease`",
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
    pub(super) fn write(
        &self,
        script: &'static LuaScript,
        keys: usize,
    ) -> Result<ScriptCall, RedisFailure> {
        Ok(ScriptCall::new(script)
            .keys(self.names.of_records().into_iter().take(keys))
            .argument(&random::<TAG>()?)
            .argument(self.names.channel()))
    }

    /// Runs a script. If there is no history, which the script reports before it does anything, starts
    /// one and runs the script again.
    pub(super) async fn run_with_history(
        &self,
        connection: &RedisConnection,
        doing: &str,
        run: ScriptCall,
        deadline: Duration,
    ) -> Result<ScriptReply, RedisFailure> {
        for _ in 0..TRIES {
            let answer = answer(doing, connection.run(doing, &run, deadline).await?)?;
            if answer.word != "no_history" {
                return Ok(answer);
            }
            tracing::warn!("the Redis store has no history; a new one starts");
            self.init_history(connection).await?;
        }
        Err(RedisFailure::unavailable(format!(
            "{doing}: the history is lost again and again"
        )))
    }

    async fn init_history(&self, connection: &RedisConnection) -> Result<(), RedisFailure> {
        let run = ScriptCall::new(&script::INIT_HISTORY)
            .keys(self.names.of_history())
            .argument(&random::<TAG>()?)
            .argument(self.names.channel())
            .argument(self.lease.load(Ordering::Relaxed))
            .argument(millis_u64(lease::MAX))
            .argument(SCHEMA)
            .argument(PROTOCOL);
        connection
            .run("starting a history", &run, DEADLINE)
            .await
            .map(drop)
    }
}

/// Reads what a script answered.
pub(super) fn answer(
    doing: &str,
    answered: (Value, Incarnation),
) -> Result<ScriptReply, RedisFailure> {
    let (value, incarnation) = answered;
    let failed = |error: redis::ParsingError| RedisFailure::of(doing, error.into());
    let mut rest: Vec<Vec<u8>> = from_redis_value(value).map_err(failed)?;
    let word = match rest.is_empty() {
        true => String::new(),
        false => String::from_utf8_lossy(&rest.remove(0)).into_owned(),
    };
    Ok(ScriptReply {
        word,
        rest,
        incarnation,
    })
}
