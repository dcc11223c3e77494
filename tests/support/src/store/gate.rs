//! A place where calls stop.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::soon;

/// Where a call stops until the test lets it go on.
#[derive(Debug)]
pub struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            arrived: Semaphore::new(0),
            open: Semaphore::new(0),
        })
    }

    pub(super) async fn pass(&self) {
        self.arrived.add_permits(1);
        // An error means that the gate stands open for good.
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
    }

    /// Waits until one more call stands here.
    pub async fn arrived(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets all go on, and those who come later too.
    pub fn open(&self) {
        self.open.close();
    }
}
