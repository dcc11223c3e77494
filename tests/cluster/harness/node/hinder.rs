//! A store in whose way things can be put: what a bad network does to a store that has none.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apikey_runtime::KeyStore;
use apikey_runtime::store::{ChangeListener, ChangeNotifier, Charge, ChargeOutcome, StoreError};
use apikey_test_support::store::{Call, Forward, Forwarding};
use tokio::time::Instant;

use super::careless::Charging;

/// What is done to the calls of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    Nothing,
    /// Fails at once; nothing is done.
    Cut,
    /// Never answers; nothing is done.
    Hang,
    /// Does it, and the answer is lost.
    AnswerLost,
    /// Half of this time on the way there, and half on the way back.
    Slow(Duration),
    /// The answers about single keys are on their way back for this long.
    LateFind(Duration),
    /// The push is not heard.
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

/// The longest that calls are waited for which began before a hindrance.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forwards to a store, past the hindrance.
pub type Hindered = Forwarding<Hindering>;

pub struct Hindering {
    inner: Arc<dyn KeyStore>,
    charging: Charging,
    hindrance: Arc<Mutex<Hindrance>>,
    /// How many answers about single keys the store has given.
    finds: AtomicU64,
    /// How many calls are under way that nothing hinders.
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

    /// From now on, this. Returns when no call is under way any more that began before, so that a
    /// node that is cut off learns nothing by one of those; a store that hangs is not waited for.
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

    /// How many answers about single keys the store has given, those on their way included.
    pub fn finds(&self) -> u64 {
        self.finds.load(Ordering::SeqCst)
    }

    fn now(&self) -> Hindrance {
        *self.hindrance.lock().unwrap()
    }

    /// Looks at what is in the way and counts the call, in one step.
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
        let charged = self.charging.charge(&*self.inner, charge);
        self.around(Call::Charge, String::new, charged).await
    }

    fn subscribe(&self) -> Option<ChangeListener> {
        let mut heard = self.inner.subscribe()?;
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

/// Whether calls go through as they are.
fn is_free(hindrance: Hindrance) -> bool {
    matches!(hindrance, Hindrance::Nothing | Hindrance::Deaf)
}

/// A call under way, counted until it is dropped.
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
