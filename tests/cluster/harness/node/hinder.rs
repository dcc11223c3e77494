//! A store with faults, as a bad network causes them, for a store without a network connection.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use apikey_runtime::store::{
    ChangeListener, ChangeNotifier, Charge, ChargeOutcome, ExpiryNotice, NodeId, StoreError,
};
use apikey_runtime::{KeyStore, Timestamp};
use apikey_test_support::store::{Call, Forward, Forwarding};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::careless::Charging;
use super::spend::die;
use super::tell::TellingLog;

/// A fault of the calls of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    Nothing,
    /// Fails at once; the store is not reached.
    Cut,
    /// Never answers; the store is not reached.
    Hang,
    /// Reaches the store; the answer is lost.
    AnswerLost,
    /// Delays calls by half of this time, and answers by the other half.
    Slow(Duration),
    /// Delays answers about single keys by this time.
    LateFind(Duration),
    /// Loses the push.
    Deaf,
}

impl Hindrance {
    pub fn named(name: &str, time: Duration) -> Option<Self> {
        Some(match name {
            "nothing" => Self::Nothing,
            "cut" => Self::Cut,
            "hang" => Self::Hang,
            "answer-lost" => Self::AnswerLost,
            "slow" => Self::Slow(time),
            "late-find" => Self::LateFind(time),
            "deaf" => Self::Deaf,
            _ => return None,
        })
    }
}

/// A moment at which a node kills itself.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub call: Call,
    /// Whether the store has answered, or the call has not reached it.
    pub answered: bool,
    /// The number of such calls up to then.
    pub passes: u32,
}

/// Questions to the reader of events. It answers when it has read all that was sent before.
pub type Questions = mpsc::UnboundedSender<oneshot::Sender<()>>;

/// The longest wait for calls that began before a fault.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forwards to a store, subject to the fault.
pub type Hindered = Forwarding<Hindering>;

pub struct Hindering {
    inner: Arc<dyn KeyStore>,
    charging: Charging,
    hindrance: Arc<Mutex<Hindrance>>,
    /// The number of answers about single keys that the store has given.
    finds: AtomicU64,
    /// The number of calls that claim notices before the end of keys.
    claims: AtomicU64,
    /// When the node kills itself.
    death: Mutex<Option<Death>>,
    /// Asked before notices are noted as told.
    reader: Mutex<Option<Questions>>,
    /// Where notices that are noted as told are logged.
    tellings: OnceLock<Arc<TellingLog>>,
    /// The number of calls in progress that are not affected.
    free: AtomicUsize,
}

impl Hindering {
    pub fn of(inner: Arc<dyn KeyStore>, charging: Charging) -> Arc<Hindered> {
        Arc::new(Forwarding(Self {
            inner,
            charging,
            hindrance: Arc::new(Mutex::new(Hindrance::Nothing)),
            finds: AtomicU64::new(0),
            claims: AtomicU64::new(0),
            death: Mutex::default(),
            reader: Mutex::default(),
            tellings: OnceLock::new(),
            free: AtomicUsize::new(0),
        }))
    }

    /// Sets the fault for all later calls. Returns when all calls that began before have ended, so
    /// that an isolated node does not learn anything through them; calls that hang are not waited
    /// for.
    pub async fn hinder(&self, hindrance: Hindrance) {
        *self.hindrance.lock().unwrap() = hindrance;
        if is_free(hindrance) {
            return;
        }
        let begun = Instant::now();
        while self.free.load(Ordering::SeqCst) > 0 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Returns the number of answers about single keys that the store has given, those in transit
    /// included.
    pub fn finds(&self) -> u64 {
        self.finds.load(Ordering::SeqCst)
    }

    /// Returns the number of calls that claim notices before the end of keys.
    pub fn claims(&self) -> u64 {
        self.claims.load(Ordering::SeqCst)
    }

    /// Kills the node at this call.
    pub fn dies_at(&self, death: Death) {
        *self.death.lock().unwrap() = Some(death);
    }

    /// Waits for the answer to a question on this channel before notices are noted as told, and logs them
    /// when they are.
    pub fn log_notes(&self, questions: Questions, log: Arc<TellingLog>) {
        *self.reader.lock().unwrap() = Some(questions);
        self.tellings.set(log).expect("the first");
    }

    /// Kills the node if a death at this moment is ordered.
    fn pass(&self, call: Call, answered: bool) {
        let mut death = self.death.lock().unwrap();
        if let Some(death) = death.as_mut()
            && (death.call, death.answered) == (call, answered)
        {
            death.passes = death.passes.saturating_sub(1);
            if death.passes == 0 {
                if let Some(log) = self.tellings.get() {
                    log.dies();
                }
                die();
            }
        }
    }

    /// Waits until the reader of events has read all.
    async fn reader_is_done(&self) {
        let questions = self.reader.lock().unwrap().clone();
        let (question, answer) = oneshot::channel();
        if questions.is_some_and(|questions| questions.send(question).is_ok()) {
            let _ = answer.await;
        }
    }

    fn now(&self) -> Hindrance {
        *self.hindrance.lock().unwrap()
    }

    /// Reads the fault and counts the call, in one step.
    fn set_out(&self) -> (Hindrance, Option<UnderWay<'_>>) {
        let hindrance = self.hindrance.lock().unwrap();
        let under_way = is_free(*hindrance).then(|| UnderWay::on(&self.free));
        (*hindrance, under_way)
    }
}

impl Forward for Hindering {
    fn inner(&self) -> &dyn KeyStore {
        &*self.inner
    }

    async fn around<T: Send>(
        &self,
        call: Call,
        _arguments: impl FnOnce() -> String + Send,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::unavailable("the way to the store is cut");
        match call {
            Call::ClaimNotices => drop(self.claims.fetch_add(1, Ordering::SeqCst)),
            Call::FinishNotices => self.reader_is_done().await,
            _ => {}
        }
        self.pass(call, false);
        let (hindrance, under_way) = self.set_out();
        let answer = match hindrance {
            Hindrance::Cut => Err(gone()),
            Hindrance::Hang => std::future::pending().await,
            Hindrance::AnswerLost => work.await.and(Err(gone())),
            Hindrance::Slow(time) => {
                tokio::time::sleep(time / 2).await;
                let answer = work.await;
                tokio::time::sleep(time / 2).await;
                answer
            }
            Hindrance::Nothing | Hindrance::LateFind(_) | Hindrance::Deaf => work.await,
        };
        drop(under_way);
        self.pass(call, true);
        if call == Call::Find {
            self.finds.fetch_add(1, Ordering::SeqCst);
            if let Hindrance::LateFind(time) = self.now() {
                tokio::time::sleep(time).await;
            }
        }
        answer
    }

    async fn finish_notices(
        &self,
        node: &NodeId,
        finished: &[(ExpiryNotice, Option<Timestamp>)],
    ) -> Result<(), StoreError> {
        let finish = async {
            let notices = self.inner.expiry_notices().unwrap();
            notices.finish_notices(node, finished).await?;
            if let Some(log) = self.tellings.get() {
                log.noted(finished);
            }
            Ok(())
        };
        self.around(Call::FinishNotices, String::new, finish).await
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        let charged = self.charging.charge(self.inner.limits().unwrap(), charge);
        self.around(Call::Charge, String::new, charged).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        let mut heard = self.inner.change_log().unwrap().subscribe()?;
        let (signal, hindrance) = (ChangeNotifier::new(), Arc::clone(&self.hindrance));
        let listener = signal.subscribe();
        tokio::spawn(async move {
            loop {
                heard.notified().await;
                if *hindrance.lock().unwrap() != Hindrance::Deaf {
                    signal.notify();
                }
            }
        });
        Some(listener)
    }
}

/// Returns whether calls pass unchanged.
fn is_free(hindrance: Hindrance) -> bool {
    matches!(hindrance, Hindrance::Nothing | Hindrance::Deaf)
}

/// A call in progress, counted until it is dropped.
struct UnderWay<'c>(&'c AtomicUsize);

impl<'c> UnderWay<'c> {
    fn on(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Hindering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hindered")
            .field("inner", &self.inner)
            .field("hindrance", &self.now())
            .finish()
    }
}
