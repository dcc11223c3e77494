//! Uses up the limits of a key, at the same time as other nodes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::{ApiKeyManager, DenyReason, Policy, ScopeExpr};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::log::Log;
use crate::harness::clock::{Nanos, now};
use crate::harness::history::{Check, Outcome};
use crate::harness::spending::{Order, Refusals};

/// The pause after a rate denied.
const PAUSE: Duration = Duration::from_millis(2);

/// The pause after the store did not answer.
const LONG_PAUSE: Duration = Duration::from_millis(20);

/// Requires a scope that a key of the harness never has: a check with it caches the key and does
/// not charge.
const FORBIDDEN: Policy = Policy::new().scopes(ScopeExpr::One("forbidden"));

/// How far tasks may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    /// From this moment on, up to the number at which the order halts them.
    Half(Nanos),
    Open,
    /// The tasks have to end.
    Over,
}

/// Uses keys, one at a time.
pub struct Spender {
    manager: ApiKeyManager,
    log: Arc<Log>,
    gate: watch::Sender<Gate>,
    running: Mutex<Option<Running>>,
}

/// Tasks that use a key, or wait to.
struct Running {
    spending: Arc<Spending>,
    tasks: Vec<JoinHandle<Result<(), String>>>,
}

/// A key in use.
struct Spending {
    manager: ApiKeyManager,
    log: Arc<Log>,
    order: Order,
    admitted: AtomicU32,
    refused: Mutex<Refusals>,
}

impl Spender {
    pub fn new(manager: ApiKeyManager, log: Arc<Log>) -> Self {
        Self {
            manager,
            log,
            gate: watch::Sender::new(Gate::Shut),
            running: Mutex::default(),
        }
    }

    /// Caches the key, and starts tasks that wait for [`go`](Self::go).
    pub async fn ready(&self, order: Order) -> Result<(), String> {
        let warm = self.manager.verify_for(&order.secret, &FORBIDDEN).await;
        match warm.map_err(|denied| denied.reason()) {
            Err(DenyReason::InsufficientScope) => {}
            other => return Err(format!("a key without scopes is told {other:?}")),
        }
        self.gate.send_replace(Gate::Shut);
        let spending = Arc::new(Spending {
            manager: self.manager.clone(),
            log: Arc::clone(&self.log),
            admitted: AtomicU32::new(0),
            refused: Mutex::default(),
            order,
        });
        spending.count(DenyReason::InsufficientScope);
        let task = |_| tokio::spawn(Arc::clone(&spending).run(self.gate.subscribe()));
        let tasks = (0..spending.order.tasks).map(task).collect();
        *self.running.lock().unwrap() = Some(Running { spending, tasks });
        Ok(())
    }

    /// Starts the tasks at that moment; returns the denials when all tasks have ended.
    pub async fn go(&self, at: Nanos) -> Result<Refusals, String> {
        self.gate.send_replace(Gate::Half(at));
        let running = self.running.lock().unwrap().take();
        let Running { spending, tasks } = running.expect("it is ready");
        for task in tasks {
            task.await.unwrap()?;
        }
        Ok(std::mem::take(&mut *spending.refused.lock().unwrap()))
    }

    /// Resumes halted tasks.
    pub fn go_on(&self) {
        self.gate.send_replace(Gate::Open);
    }

    /// Ends all tasks.
    pub fn end(&self) {
        self.gate.send_replace(Gate::Over);
    }
}

impl Spending {
    async fn run(self: Arc<Self>, mut gate: watch::Receiver<Gate>) -> Result<(), String> {
        let begins = match *gate.wait_for(|gate| *gate != Gate::Shut).await.unwrap() {
            Gate::Half(at) => at,
            Gate::Shut | Gate::Open | Gate::Over => 0,
        };
        sleep(Duration::from_nanos(begins.saturating_sub(now()))).await;
        while *gate.borrow() != Gate::Over && !self.is_over(begins) {
            if self.has_passed(self.order.halts) {
                let goes_on = |gate: &Gate| matches!(gate, Gate::Open | Gate::Over);
                gate.wait_for(goes_on).await.unwrap();
            }
            if self.check().await? {
                break;
            }
        }
        Ok(())
    }

    /// Checks once, and returns whether the quota is used up.
    async fn check(&self) -> Result<bool, String> {
        let start = now();
        let answer = self.manager.verify(&self.order.secret).await;
        match answer.map_err(|denied| denied.reason()) {
            Ok(_) => {
                self.note(start, Outcome::Accepted);
                let admitted = self.admitted.fetch_add(1, Ordering::SeqCst) + 1;
                if self.order.dies == Some(admitted) {
                    die();
                }
            }
            Err(reason @ DenyReason::QuotaExceeded) => {
                self.count(reason);
                return Ok(true);
            }
            Err(reason @ DenyReason::RateLimited) => {
                self.count(reason);
                sleep(PAUSE).await;
            }
            Err(DenyReason::StoreUnavailable) => {
                self.note(start, Outcome::Unavailable);
                sleep(LONG_PAUSE).await;
            }
            Err(other) => return Err(format!("a live key is refused: {}", other.code())),
        }
        Ok(false)
    }

    /// Returns when the check is in the file, so that a killed node has logged all but the checks
    /// in progress.
    fn note(&self, start: Nanos, outcome: Outcome) {
        self.log.note(Check {
            key: self.order.key,
            process: 0,
            start,
            end: now(),
            outcome,
        });
        self.log.flush();
    }

    fn count(&self, reason: DenyReason) {
        let mut refused = self.refused.lock().unwrap();
        *refused.entry(reason.code().to_owned()).or_default() += 1;
    }

    fn is_over(&self, begins: Nanos) -> bool {
        let late = self
            .order
            .lasts
            .is_some_and(|lasts| now() >= begins + lasts);
        late || self.has_passed(self.order.most)
    }

    fn has_passed(&self, number: Option<u32>) -> bool {
        number.is_some_and(|number| self.admitted.load(Ordering::SeqCst) >= number)
    }
}

/// Ends the process as `kill -9` does, at a moment that a coordinator could not hit.
pub(super) fn die() -> ! {
    use rustix::process::{Signal, getpid, kill_process};

    kill_process(getpid(), Signal::KILL).unwrap();
    unreachable!("a process does not survive this signal");
}
