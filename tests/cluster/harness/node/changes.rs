//! Changes that a node is told to make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apikey_runtime::{Error, KeyId};
use tokio::time::Instant;

use super::Node;
use crate::harness::clock::now;
use crate::harness::history::Key;

/// How long the key is checked without a pause while the change is made.
const SPIN: Duration = Duration::from_millis(20);

/// And how long after it.
const SPIN_AFTER: Duration = Duration::from_millis(2);

impl Node {
    /// Makes a change while the key is checked as fast as can be. The answer begins with when the
    /// call was made, and when it returned.
    pub(super) async fn change(self: &Arc<Self>, words: &[&str]) -> Result<String, String> {
        if let ["create", label] = *words {
            let (start, made) = (now(), self.manager.create(label).await);
            let returned = now();
            let made = made.map_err(|error| failed(start, returned, &error))?;
            let secret = made.expose_secret();
            return Ok(format!("{start} {returned} {} {secret}", made.id()));
        }
        let [verb, kind, id, key, secret, ref rest @ ..] = *words else {
            panic!("no order is {words:?}");
        };
        let id: KeyId = id.parse().unwrap();
        let spinning = self.spin(key.parse().unwrap(), secret);
        let start = now();
        let made = self.make(verb, kind == "confirmed", id, rest).await;
        let returned = now();
        spinning.end().await;
        match made {
            Ok(more) => Ok(format!("{start} {returned} {more}")),
            Err(error) => Err(failed(start, returned, &error)),
        }
    }

    async fn make(
        &self,
        verb: &str,
        confirmed: bool,
        id: KeyId,
        rest: &[&str],
    ) -> Result<String, Error> {
        let said = match verb {
            "revoke" => self.manager.revoke(id).await?.to_string(),
            "disable" => self.manager.disable(id).await.map(|()| String::new())?,
            "enable" => self.manager.enable(id).await.map(|()| String::new())?,
            "rotate" => {
                let grace = Duration::from_millis(rest[0].parse().unwrap());
                let made = self.manager.rotate(id).grace(grace).await?;
                made.expose_secret().to_owned()
            }
            _ => panic!("no change is named {verb:?}"),
        };
        if confirmed {
            self.wait_out().await;
        }
        Ok(said)
    }

    /// Waits until no other node can hold a lease from before the change.
    async fn wait_out(&self) {
        let bound = crate::harness::checker::bound(self.lease);
        tokio::time::sleep(Duration::from_nanos(bound)).await;
    }

    fn spin(&self, key: Key, secret: &str) -> Spinning {
        let eye = self.watch.eye(key, secret);
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            while !is_done.load(Ordering::SeqCst) {
                eye.look().await;
                match begun.elapsed() < SPIN {
                    true => tokio::task::yield_now().await,
                    false => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            let returned = Instant::now();
            while returned.elapsed() < SPIN_AFTER {
                eye.look().await;
                tokio::task::yield_now().await;
            }
        });
        Spinning { done, task }
    }
}

/// A key being checked without a pause.
struct Spinning {
    done: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Spinning {
    async fn end(self) {
        self.done.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

fn failed(start: u64, returned: u64, error: &Error) -> String {
    format!("{start} {returned} {error}")
}
