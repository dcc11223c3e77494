//! A change that waits until every node has followed it.

use std::future::IntoFuture;

use super::ApiKeyManager;
use super::create::Work;
use crate::cluster::Propagation;
use crate::error::Error;

/// A change that is to be confirmed by every node; see [`RevokeKey::confirmed`]. Await it.
///
/// [`RevokeKey::confirmed`]: super::RevokeKey::confirmed
#[derive(Debug)]
#[must_use = "nothing is changed until this is awaited"]
pub struct ConfirmedCall<C> {
    manager: ApiKeyManager,
    change: C,
}

impl<C> ConfirmedCall<C> {
    pub(super) fn new(manager: ApiKeyManager, change: C) -> Self {
        Self { manager, change }
    }
}

impl<C, T> IntoFuture for ConfirmedCall<C>
where
    C: IntoFuture<Output = Result<T, Error>, IntoFuture = Work<T>> + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<Confirmed<T>, Error>;
    type IntoFuture = Work<Confirmed<T>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let value = self.change.await?;
            let propagation = self
                .manager
                .on_thread(|core| async move { core.poller.confirm().await })
                .await?;
            Ok(Confirmed { value, propagation })
        })
    }
}

/// A change that no check contradicts which starts from now on, on any node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed<T> {
    /// What the change itself returns.
    pub value: T,
    /// How the other nodes learned of it.
    pub propagation: Propagation,
}
