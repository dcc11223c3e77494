//! The push: a subscription of its own, kept up by a task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Cmd, PushInfo, PushKind, RedisError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connector::Connector;
use super::error::RedisFailure;
use crate::error::{ErrorChain, StoreError};
use crate::store::ChangeNotifier;

/// How often a subscription is tried out, and how long it may take to answer: nothing else tells one
/// on which nothing happens from one that is cut off.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Pauses between attempts to subscribe: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

const LISTENING: &str = "listening to the channel";

/// A subscription that is renewed until this value goes.
#[derive(Debug)]
pub(super) struct PushSubscription(AbortHandle);

impl PushSubscription {
    /// Begins to subscribe, on the current runtime. Each message raises `signal`, and so does each
    /// new subscription, since something may have happened before it.
    pub(super) fn open(
        connector: &Arc<Connector>,
        channel: String,
        signal: &ChangeNotifier,
    ) -> Self {
        let listening = keep_up(Arc::clone(connector), channel, signal.clone());
        Self(tokio::spawn(listening).abort_handle())
    }
}

impl Drop for PushSubscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_up(connector: Arc<Connector>, channel: String, signal: ChangeNotifier) {
    let mut pause = PAUSES[0];
    let mut failing = false;
    loop {
        let mut subscribed = false;
        let Err(error) = listen(&connector, &channel, &signal, &mut subscribed).await;
        if subscribed {
            pause = PAUSES[0];
            failing = false;
        }
        // Said once, and not at each attempt until it is over. PushSubscription is for speed only.
        if !std::mem::replace(&mut failing, true) {
            let error = StoreError::from(error);
            tracing::warn!(error = %ErrorChain(&error), "the key store's push is cut; changes are learned of by polls");
        }
        tokio::time::sleep(pause).await;
        pause = PAUSES[1].min(pause * 2);
    }
}

/// Subscribes, and stays until the subscription is broken.
async fn listen(
    connector: &Connector,
    channel: &str,
    signal: &ChangeNotifier,
    subscribed: &mut bool,
) -> Result<Infallible, RedisFailure> {
    let ended = Arc::new(Notify::new());
    let (heard, gone) = (signal.clone(), Arc::clone(&ended));
    let hear = move |push: PushInfo| {
        match push.kind {
            PushKind::Message => heard.notify(),
            PushKind::Disconnection => gone.notify_one(),
            _ => {}
        }
        Ok::<(), Infallible>(())
    };
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(PING_EVERY))
        .set_push_sender(hear);
    let failed = |error: RedisError| RedisFailure::of(LISTENING, error);
    let mut connection = connector.enter_any(&config).await?;
    connection.subscribe(channel).await.map_err(failed)?;
    *subscribed = true;
    signal.notify();
    loop {
        let wait = tokio::time::timeout(PING_EVERY, ended.notified()).await;
        if wait.is_ok() {
            return Err(RedisFailure::unavailable(format!(
                "{LISTENING}: the connection has ended"
            )));
        }
        let pinged = connection.send_packed_command(&Cmd::ping()).await;
        pinged
            .and_then(redis::Value::extract_error)
            .map_err(failed)?;
    }
}
