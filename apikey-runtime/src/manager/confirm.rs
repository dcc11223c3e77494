//! Calls that wait until a change has reached all nodes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::ApiKeyManager;
use super::call::StartedCall;
use crate::cluster::Propagation;
use crate::error::Error;

impl ApiKeyManager {
    /// Waits until all changes of this manager whose calls have returned have reached all nodes, as a call with
    /// [`confirmed`](super::RotateKey::confirmed) does for its own change. What a change returned, such as a new secret, can
    /// thus be kept before the wait, which a process that ends meanwhile would lose.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// # let id = manager.create("ci").await?.id();
    /// let rotated = manager.rotate(id).await?;
    /// // Keep the new secret here.
    /// let propagation = manager.confirm().await?;
    /// assert!(propagation.waited_out.is_empty());
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::ShutDown`] if the manager was shut down before, or is during the wait.
    pub async fn confirm(&self) -> Result<Propagation, Error> {
        self.on_thread(|core| async move { core.poller.confirm().await })
            .await
    }
}

/// A change to be confirmed by all nodes; see [`RevokeKey::confirmed`]. Await it.
///
/// [`RevokeKey::confirmed`]: super::RevokeKey::confirmed
#[derive(Debug)]
#[must_use = "nothing is changed until this is awaited"]
pub struct ConfirmedCall<C: Future> {
    manager: ApiKeyManager,
    change: C,
    /// The result of the change, once it is made.
    made: Option<C::Output>,
    /// The wait for the nodes, once the change is made.
    started: StartedCall<Propagation>,
}

impl<C: Future> ConfirmedCall<C> {
    pub(super) fn new(manager: ApiKeyManager, change: C) -> Self {
        Self {
            manager,
            change,
            made: None,
            started: StartedCall::none(),
        }
    }
}

/// As for all calls, a future and not `IntoFuture`, since the compiler suggests a forgotten
/// `.await` for futures only.
impl<C, T> Future for ConfirmedCall<C>
where
    C: Future<Output = Result<T, Error>> + Unpin,
    T: Unpin,
{
    type Output = Result<Confirmed<T>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.made.is_none() {
            let value = ready!(Pin::new(&mut this.change).poll(context))?;
            this.made = Some(Ok(value));
            let manager = this.manager.clone();
            this.started.0 = Some(Box::pin(async move { manager.confirm().await }));
        }
        let Some(started) = &mut this.started.0 else {
            return Poll::Pending;
        };
        let propagation = ready!(started.as_mut().poll(context))?;
        let Some(Ok(value)) = this.made.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Ok(Confirmed { value, propagation }))
    }
}

/// A change that all checks observe that start from now on, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed<T> {
    /// The result of the change itself.
    pub value: T,
    /// How the change reached the other nodes.
    pub propagation: Propagation,
}
