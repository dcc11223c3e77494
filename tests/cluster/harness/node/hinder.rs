//! A store with faults, as a bad network causes them, for a store without a network connection.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::KeyStore;
use apikey_runtime::store::{ChangeListener, ChangeNotifier, Charge, ChargeOutcome, StoreError};
use apikey_test_support::store::{Call, Forward, Forwarding};
use tokio::time::Instant;

use super::careless::Charging;

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
        if call == Call::Find {
            self.finds.fetch_add(1, Ordering::SeqCst);
            if let Hindrance::LateFind(time) = self.now() {
                tokio::time::sleep(time).await;
            }
        }
        answer
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
