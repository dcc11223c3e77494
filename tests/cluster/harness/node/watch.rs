//! Checks keys again and again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, Denied};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::log::Log;
use crate::harness::clock::now;
use crate::harness::history::{Check, Key, Outcome};

/// How many tasks check one key, so that some join the in-flight read of another.
const TASKS: usize = 2;

/// The pause between two checks of one task.
const PAUSE: Duration = Duration::from_millis(4);

/// The pause for a key that has been denied for a while, and may stay denied.
const LONG_PAUSE: Duration = Duration::from_millis(40);

/// The number of denials in a row after which the pause is longer.
const REFUSED_FOR_A_WHILE: u32 = 100;

/// All checked keys.
pub struct Watch {
    manager: ApiKeyManager,
    log: Arc<Log>,
    watched: Mutex<BTreeMap<Key, Watched>>,
    ended: Mutex<Arc<AtomicBool>>,
}

struct Watched {
    last: Arc<AtomicU8>,
    tasks: Vec<JoinHandle<()>>,
}

/// One key, checked by one task.
#[derive(Clone)]
pub struct Eye {
    manager: ApiKeyManager,
    log: Arc<Log>,
    key: Key,
    secret: Arc<str>,
    /// The last answer: `a`, `r` or `u`.
    last: Arc<AtomicU8>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    pub fn new(manager: ApiKeyManager, log: Arc<Log>) -> Self {
        Self {
            manager,
            log,
            watched: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// Starts to check a key, if it is not checked already.
    pub fn begin(&self, key: Key, secret: &str) {
        let mut watched_keys = self.watched.lock().unwrap();
        if watched_keys.contains_key(&key) {
            return;
        }
        let eye = self.eye(key, secret);
        let tasks = (0..TASKS).map(|_| tokio::spawn(eye.clone().watch()));
        let watched = Watched {
            last: Arc::clone(&eye.last),
            tasks: tasks.collect(),
        };
        watched_keys.insert(key, watched);
    }

    /// Ends all checks.
    pub async fn end(&self) {
        std::mem::take(&mut *self.ended.lock().unwrap()).store(true, Ordering::SeqCst);
        let watched = std::mem::take(&mut *self.watched.lock().unwrap());
        for task in watched.into_values().flat_map(|watched| watched.tasks) {
            task.await.unwrap();
        }
    }

    /// Returns `key:answer` for each checked key, with the last answer.
    pub fn seen(&self) -> String {
        let mut seen = String::new();
        for (key, watched) in &*self.watched.lock().unwrap() {
            let last = char::from(watched.last.load(Ordering::SeqCst));
            write!(seen, "{key}:{last} ").unwrap();
        }
        seen
    }

    /// Starts checks at a fixed interval, even while earlier ones are in progress; returns when all
    /// are done.
    pub async fn burst(&self, key: Key, secret: &str, count: u32, apart: Duration) {
        let eye = self.eye(key, secret);
        let begun = Instant::now();
        let mut checks = Vec::new();
        for number in 0..count {
            sleep_until(begun + apart * number).await;
            let eye = eye.clone();
            checks.push(tokio::spawn(async move { eye.look().await }));
        }
        for check in checks {
            check.await.unwrap();
        }
    }

    /// Returns what checks one key, whether or not the key is watched.
    pub fn eye(&self, key: Key, secret: &str) -> Eye {
        Eye {
            manager: self.manager.clone(),
            log: Arc::clone(&self.log),
            key,
            secret: secret.into(),
            last: Arc::new(AtomicU8::new(b'?')),
            ended: Arc::clone(&self.ended.lock().unwrap()),
        }
    }
}

impl Eye {
    /// Checks once.
    pub async fn look(&self) -> Outcome {
        let start = now();
        let answer = self.manager.verify(&self.secret).await;
        let end = now();
        let outcome = outcome(answer.err().as_ref());
        self.log.note(Check {
            key: self.key,
            // The file belongs to a process, so checks do not name it.
            process: 0,
            start,
            end,
            outcome,
        });
        outcome
    }

    async fn watch(self) {
        let mut refused = 0;
        while !self.ended.load(Ordering::SeqCst) {
            let outcome = self.look().await;
            refused = match outcome {
                Outcome::Denied(_) => refused + 1,
                Outcome::Accepted | Outcome::Unavailable => 0,
            };
            let letter = match outcome {
                Outcome::Accepted => b'a',
                Outcome::Denied(_) => b'r',
                Outcome::Unavailable => b'u',
            };
            self.last.store(letter, Ordering::SeqCst);
            let long = refused > REFUSED_FOR_A_WHILE;
            sleep(if long { LONG_PAUSE } else { PAUSE }).await;
        }
    }
}

fn outcome(denied: Option<&Denied>) -> Outcome {
    match denied {
        None => Outcome::Accepted,
        Some(denied) if denied.status() == 503 => Outcome::Unavailable,
        Some(denied) => Outcome::refused(denied.reason().code()),
    }
}
