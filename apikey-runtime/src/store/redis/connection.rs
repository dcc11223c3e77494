//! One connection that carries many calls at once, and is replaced when it gives no answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::connector::{Connector, Incarnation, check_primary};
use super::error::{RedisFailure, is_forgotten};
use super::script::ScriptCall;

/// How long an answer is waited for: a manager's default. With `appendfsync always`, answers wait for the disk.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// The same for polls of the change log: if the connection is lost, there is time for another poll within the default lease.
pub(super) const POLL_DEADLINE: Duration = Duration::from_secs(1);

/// The same for what changes or reads many records, and for what a node writes about itself, which no request waits for.
pub(super) const LONG_DEADLINE: Duration = Duration::from_secs(10);

/// After calls on a connection have waited for so long, without an answer to any, the next call
/// gives it up. TCP would retry after ever longer pauses, long after the network has healed.
const SILENCE: Duration = Duration::from_millis(500);

/// Pauses between attempts to connect: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// How many calls of one connection may wait for answers; the others wait for these.
const CALLS: usize = 1_024;

/// A connection that is kept up by a task of its own, which ends with this value.
#[derive(Debug)]
pub(super) struct RedisConnection {
    shared: Arc<ConnectionSupervisor>,
    task: AbortHandle,
}

#[derive(Debug)]
struct ConnectionSupervisor {
    state: watch::Sender<ConnectionState>,
    /// Notified when a connection was given up.
    given_up: Notify,
    connections: AtomicU64,
}

#[derive(Debug, Clone)]
enum ConnectionState {
    /// Calls wait: this may take only a moment.
    Connecting,
    Up(LiveConnection),
    /// The last attempt failed. Calls fail at once, while others are made.
    Down(RedisFailure),
}

#[derive(Debug, Clone)]
struct LiveConnection {
    connection: MultiplexedConnection,
    incarnation: Incarnation,
    number: u64,
    /// Since when calls wait, if none was answered since.
    waiting: Arc<Mutex<Option<Instant>>>,
}

/// The answers to commands, from a server that said after them that it is the primary.
#[derive(Debug)]
pub(super) struct CommandReplies {
    pub(super) values: Vec<Value>,
    /// Which run of which server it was.
    pub(super) incarnation: Incarnation,
}

impl RedisConnection {
    /// Begins to connect, on the current runtime.
    pub(super) fn open(connector: &Arc<Connector>) -> Self {
        let shared = Arc::new(ConnectionSupervisor {
            state: watch::Sender::new(ConnectionState::Connecting),
            given_up: Notify::new(),
            connections: AtomicU64::new(0),
        });
        let task = tokio::spawn(keep_up(Arc::clone(&shared), Arc::clone(connector))).abort_handle();
        Self { shared, task }
    }

    /// Waits for the first attempt to connect.
    pub(super) async fn ready(&self) -> Result<(), RedisFailure> {
        self.shared.live().await.map(drop)
    }

    /// Runs a script. It is sent a second time only if the server does not know it by its name,
    /// and so has not run it.
    pub(super) async fn run(
        &self,
        doing: &str,
        run: &ScriptCall,
        deadline: Duration,
    ) -> Result<(Value, Incarnation), RedisFailure> {
        match self.call(doing, [run.by_name()], deadline).await?.one() {
            (Value::ServerError(error), _) if is_forgotten(&error.clone().into()) => {}
            answer => return checked(doing, answer),
        }
        let answers = self.call(doing, [run.by_text()], deadline).await?;
        checked(doing, answers.one())
    }

    /// Sends commands, and a last one that asks whether this is the primary: after them, since a
    /// server that is the primary then has answered as one, or as the replica that became it. An
    /// error of a single command is among the values.
    pub(super) async fn call(
        &self,
        doing: &str,
        commands: impl IntoIterator<Item = Cmd>,
        deadline: Duration,
    ) -> Result<CommandReplies, RedisFailure> {
        let until = tokio::time::Instant::now() + deadline;
        let late = || RedisFailure::timed_out(format!("{doing}: no answer within {deadline:?}"));
        let live = tokio::time::timeout_at(until, self.shared.live())
            .await
            .map_err(|_elapsed| late())??;
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        pipeline.cmd("ROLE");
        live.begins();
        let mut connection = live.connection.clone();
        let sent = connection.send_packed_commands(&pipeline, 0, pipeline.len());
        let answered = tokio::time::timeout_at(until, sent).await;
        let Ok(answered) = answered else {
            self.shared.give_up(live.number);
            return Err(late());
        };
        live.answered();
        let mut values = answered.map_err(|error| {
            self.shared.give_up(live.number);
            RedisFailure::of(doing, error)
        })?;
        let role = values.pop().unwrap_or_default();
        if is_moved(values.first()) {
            self.shared.give_up(live.number);
        }
        check_primary(role).inspect_err(|_| self.shared.give_up(live.number))?;
        Ok(CommandReplies {
            values,
            incarnation: live.incarnation,
        })
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.task.abort();
        // The connection holds a way back to the state that holds it.
        self.shared
            .state
            .send_replace(ConnectionState::Down(closed()));
    }
}

impl CommandReplies {
    /// The only answer.
    pub(super) fn one(mut self) -> (Value, Incarnation) {
        (self.values.pop().unwrap_or_default(), self.incarnation)
    }
}

fn checked(
    doing: &str,
    answer: (Value, Incarnation),
) -> Result<(Value, Incarnation), RedisFailure> {
    let (value, incarnation) = answer;
    let value = value
        .extract_error()
        .map_err(|error| RedisFailure::of(doing, error))?;
    Ok((value, incarnation))
}

fn is_moved(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::ServerError(error)) if error.code() == "MOVED")
}

fn closed() -> RedisFailure {
    RedisFailure::unavailable("the store was stopped")
}

impl ConnectionSupervisor {
    /// The connection, once there is one.
    async fn live(&self) -> Result<LiveConnection, RedisFailure> {
        let mut states = self.state.subscribe();
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                ConnectionState::Up(live) if live.is_silent() => self.give_up(live.number),
                ConnectionState::Up(live) => return Ok(live),
                ConnectionState::Down(failure) => return Err(failure),
                ConnectionState::Connecting => {
                    states.changed().await.map_err(|_dropped| closed())?
                }
            }
        }
    }

    /// Has a new connection made in place of this one. Calls that are under way on it go on.
    fn give_up(&self, number: u64) {
        let given_up = self.state.send_if_modified(|state| match state {
            ConnectionState::Up(live) if live.number == number => {
                *state = ConnectionState::Connecting;
                true
            }
            _ => false,
        });
        if given_up {
            self.given_up.notify_one();
        }
    }
}

impl LiveConnection {
    fn begins(&self) {
        let mut waiting = self.waiting.lock();
        waiting.get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        *self.waiting.lock() = None;
    }

    fn is_silent(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.is_some_and(|since| since.elapsed() > SILENCE)
    }
}

async fn keep_up(shared: Arc<ConnectionSupervisor>, connector: Arc<Connector>) {
    let mut pause = PAUSES[0];
    loop {
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        match connector
            .connect(config(Arc::downgrade(&shared), number))
            .await
        {
            Ok((connection, incarnation)) => {
                pause = PAUSES[0];
                shared
                    .state
                    .send_replace(ConnectionState::Up(LiveConnection {
                        connection,
                        incarnation,
                        number,
                        waiting: Arc::default(),
                    }));
                shared.given_up.notified().await;
            }
            Err(failure) => {
                shared.state.send_replace(ConnectionState::Down(failure));
                tokio::time::sleep(pause).await;
                pause = PAUSES[1].min(pause * 2);
            }
        }
    }
}

/// A connection that says when it has ended, so that the next call need not find out.
fn config(shared: Weak<ConnectionSupervisor>, number: u64) -> AsyncConnectionConfig {
    let ended = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection
            && let Some(shared) = shared.upgrade()
        {
            shared.give_up(number);
        }
        Ok::<(), std::convert::Infallible>(())
    };
    // Deadlines are kept here: the crate's does not count the wait behind other calls.
    AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_concurrency_limit(CALLS)
        .set_push_sender(ended)
}
