//! The push: LISTEN on a connection of its own.

use std::time::Duration;

use sqlx::Executor;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::connect::ConnectionTarget;
use super::error::described;
use crate::store::ChangeNotifier;

/// After so long without a word, the connection is asked for one: that its other end is gone, it
/// would never learn.
const QUIET: Duration = Duration::from_secs(5);

/// How long it has to give it, or to come up.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two tries to connect: doubled from one to the other.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// A task that listens. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct PushListener(JoinHandle<()>);

impl PushListener {
    /// Raises `signal` at every word on `channel`, and when it has begun to listen: what came
    /// before then went unheard.
    pub(super) fn open(target: ConnectionTarget, channel: String, signal: ChangeNotifier) -> Self {
        Self(tokio::spawn(async move {
            let [mut pause, longest] = PAUSES;
            loop {
                match connect(&target, &channel).await {
                    Ok(listener) => {
                        pause = PAUSES[0];
                        signal.notify();
                        hear(listener, &signal).await;
                    }
                    Err(error) => {
                        tracing::debug!(error = described(&error), "no push from PostgreSQL");
                    }
                }
                sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }))
    }
}

impl Drop for PushListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(target: &ConnectionTarget, channel: &str) -> Result<PgListener, sqlx::Error> {
    let setup = target.clone();
    // A listener comes from a pool only. This one is never asked for another connection, so that
    // each is set up here.
    let pool = PoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(ANSWER)
        .after_connect(move |connection, _| {
            let setup = setup.clone();
            Box::pin(async move { setup.set_up(connection).await })
        })
        .connect_lazy_with(target.options.clone());
    let connecting = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(listener)
    };
    match timeout(ANSWER, connecting).await {
        Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {}
        Ok(connected) => return connected,
    }
    // The pool tried again until its time was over, and does not say why it had to.
    match timeout(ANSWER, target.connect()).await {
        Ok(Err(error)) => Err(error),
        _ => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Listens until the connection is lost.
async fn hear(mut listener: PgListener, signal: &ChangeNotifier) {
    loop {
        match timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(_))) => signal.notify(),
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                let answer = timeout(ANSWER, (&mut listener).execute("SELECT 1")).await;
                if !matches!(answer, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
