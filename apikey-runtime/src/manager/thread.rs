//! The manager's thread, with its own runtime.
//!
//! actix runs a single-threaded runtime in each worker, and a connection is driven by the runtime
//! that opened it. A worker that computes for two seconds would stall the store calls of all other
//! workers, and one that ends would break them.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, watch};

use crate::error::Error;

/// More permits than there can be calls in progress. The call that ends the thread takes all.
const CALLS: u32 = 1 << 24;

/// A running thread. It ends when this is dropped, or by [`finish`](Self::finish).
#[derive(Debug)]
pub(super) struct ManagerThread {
    runtime: Handle,
    calls: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl ManagerThread {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::Config(format!("the manager's thread cannot be started: {error}"))
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, mut stopped) = watch::channel(false);
        let drive = move || {
            // An error means that the sender was dropped, which ends the thread too.
            let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
        };
        std::thread::Builder::new()
            .name("api-keys".to_owned())
            .spawn(drive)
            .map_err(failed)?;
        Ok(Self {
            runtime: handle,
            calls: Arc::new(Semaphore::new(CALLS as usize)),
            stop,
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Runs `work` on the thread, to its end even if the caller is dropped.
    pub(super) async fn run<F, T>(&self, work: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let calls = Arc::clone(&self.calls);
        self.spawn(async move {
            let _call = calls.acquire().await.map_err(|_closed| Error::ShutDown)?;
            work.await
        })
        .await
    }

    /// Waits for the calls in progress, runs `last`, and ends the thread.
    pub(super) async fn finish<F>(&self, last: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let calls = Arc::clone(&self.calls);
        let stop = self.stop.clone();
        self.spawn(async move {
            let all = calls
                .acquire_many(CALLS)
                .await
                .map_err(|_closed| Error::ShutDown)?;
            calls.close();
            drop(all);
            last.await;
            stop.send_replace(true);
            Ok(())
        })
        .await
    }

    async fn spawn<F, T>(&self, work: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        match self.runtime.spawn(work).await {
            Ok(outcome) => outcome,
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::ShutDown),
            },
        }
    }
}
