//! A gate that calls stop at.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::soon;

/// Stops calls until the test opens it.
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
        // An error means that the gate is open permanently.
        if let Ok(permit) = self.open.acquire().await {
            permit.forget();
        }
    }

    /// Waits until one more call has stopped here.
    pub async fn arrived(&self) {
        soon(self.arrived.acquire()).await.unwrap().forget();
    }

    /// Lets one call pass.
    pub fn pass_one(&self) {
        self.open.add_permits(1);
    }

    /// Lets all calls pass, later ones too.
    pub fn open(&self) {
        self.open.close();
    }
}
