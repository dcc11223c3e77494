//! Changes that a node is ordered to make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apikey_runtime::audit::ChangeOrigin;
use apikey_runtime::manager::Confirmed;
use apikey_runtime::{Error, KeyId, NewKey};
use tokio::time::Instant;

use super::Node;
use crate::harness::clock::now;
use crate::harness::history::Key;
use crate::harness::ledger::UNCHANGED;

/// How long the key is checked without a pause during the change.
const SPIN: Duration = Duration::from_millis(20);

/// How long it is checked without a pause after the change.
const SPIN_AFTER: Duration = Duration::from_millis(2);

impl Node {
    /// Makes a change while the key is checked as fast as possible. The answer begins with the
    /// times of the call and of its return.
    pub(super) async fn change(self: &Arc<Self>, words: &[&str]) -> Result<String, String> {
        let [ref words @ .., request] = *words else {
            panic!("an order has no words");
        };
        let origin = ChangeOrigin::new().with_request_id(request);
        if let ["create", label, ref owner @ ..] = *words {
            let creation = self.manager.create(label).origin(origin);
            let creation = match owner {
                [owner] => creation.owner(*owner),
                _ => creation,
            };
            let (start, made) = (now(), creation.await);
            let returned = now();
            let made = made.map_err(|error| error.to_string())?;
            let secret = made.expose_secret();
            return Ok(format!("{start} {returned} plain {} {secret}", made.id()));
        }
        let [verb, kind, id, key, secret, ref rest @ ..] = *words else {
            panic!("{words:?} is not an order");
        };
        let spinning = self.spin(key.parse().unwrap(), secret);
        let start = now();
        let made = self.make(verb, kind == "confirmed", id, rest, origin).await;
        let returned = now();
        spinning.end().await;
        made.map(|more| format!("{start} {returned} {more}"))
            .map_err(|error| error.to_string())
    }

    /// Makes the change; returns how the other nodes learned of it, and its result. `of` is the id
    /// of a key, or an owner.
    async fn make(
        &self,
        verb: &str,
        confirmed: bool,
        of: &str,
        rest: &[&str],
        origin: ChangeOrigin,
    ) -> Result<String, Error> {
        let manager = &self.manager;
        if verb == "revoke-all" {
            let change = manager.revoke_all(of).origin(origin);
            return match confirmed {
                true => told(change.confirmed().await?, changed),
                false => plain(change.await?, changed),
            };
        }
        let change = match verb {
            "suspend" => manager.suspend_owner(of),
            "resume" => manager.resume_owner(of),
            _ => {
                let id = of.parse().unwrap();
                return self.make_of_key(verb, confirmed, id, rest, origin).await;
            }
        };
        let change = change.origin(origin);
        match confirmed {
            true => told(change.confirmed().await?, changed),
            false => plain(change.await?, changed),
        }
    }

    async fn make_of_key(
        &self,
        verb: &str,
        confirmed: bool,
        id: KeyId,
        rest: &[&str],
        origin: ChangeOrigin,
    ) -> Result<String, Error> {
        let manager = &self.manager;
        match verb {
            "give" => plain(
                manager.update(id).owner(rest[0]).origin(origin).await?,
                |_| "",
            ),
            "revoke" => {
                let change = manager.revoke(id).origin(origin);
                match confirmed {
                    true => told(change.confirmed().await?, changed),
                    false => plain(change.await?, changed),
                }
            }
            "disable" | "enable" => {
                let change = match verb {
                    "disable" => manager.disable(id),
                    _ => manager.enable(id),
                };
                let change = change.origin(origin);
                match confirmed {
                    true => told(change.confirmed().await?, |()| ""),
                    false => plain(change.await?, |()| ""),
                }
            }
            "rotate" => {
                let grace = Duration::from_millis(rest[0].parse().unwrap());
                let rotation = manager.rotate(id).grace(grace).origin(origin);
                match confirmed {
                    true => told(rotation.confirmed().await?, NewKey::expose_secret),
                    false => plain(rotation.await?, NewKey::expose_secret),
                }
            }
            _ => panic!("{verb:?} is not a change"),
        }
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

/// A key that is checked without a pause.
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

/// Says whether a call changed something.
fn changed(changed: &bool) -> &str {
    match changed {
        true => "",
        false => UNCHANGED,
    }
}

fn plain<T>(value: T, say: impl FnOnce(&T) -> &str) -> Result<String, Error> {
    Ok(format!("plain {}", say(&value)))
}

fn told<T>(confirmed: Confirmed<T>, say: impl FnOnce(&T) -> &str) -> Result<String, Error> {
    let how = match confirmed.propagation.outlasted {
        true => "outlasted",
        false => "acknowledged",
    };
    Ok(format!("{how} {}", say(&confirmed.value)))
}
