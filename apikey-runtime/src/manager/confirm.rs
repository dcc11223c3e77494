//! Calls that wait until a change has reached all nodes.

use std::future::IntoFuture;

use super::{ApiKeyManager, BoxFuture};
use crate::cluster::Propagation;
use crate::error::Error;

/// A change to be confirmed by all nodes; see [`RevokeKey::confirmed`]. Await it.
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
    C: IntoFuture<Output = Result<T, Error>, IntoFuture = BoxFuture<T>> + Send + 'static,
    T: Send + 'static,
{
    type Output = Result<Confirmed<T>, Error>;
    type IntoFuture = BoxFuture<Confirmed<T>>;

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

/// A change that all checks observe that start from now on, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmed<T> {
    /// The result of the change itself.
    pub value: T,
    /// How the change reached the other nodes.
    pub propagation: Propagation,
}
