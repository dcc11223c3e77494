//! Calls as futures: settings until the first poll, and the work from then on.

use std::fmt;

use super::BoxFuture;

/// The work of a call that was started; empty before.
pub(super) struct StartedCall<T>(pub(super) Option<BoxFuture<T>>);

impl<T> StartedCall<T> {
    pub(super) const fn none() -> Self {
        Self(None)
    }
}

/// A copy of a call that was started is not started.
impl<T> Clone for StartedCall<T> {
    fn clone(&self) -> Self {
        Self::none()
    }
}

impl<T> fmt::Debug for StartedCall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StartedCall")
            .field(&self.0.is_some())
            .finish()
    }
}

/// Implements `Future` for a call with a field `started`, by a function that starts it.
///
/// `IntoFuture` would do for `.await`, but the compiler suggests a forgotten `.await` for futures
/// only. The second argument makes the call that is left behind when the settings are taken.
macro_rules! impl_call {
    ($call:ty => $value:ty, |$this:ident| $left:expr, $start:expr) => {
        impl ::std::future::Future for $call {
            type Output = Result<$value, $crate::error::Error>;

            fn poll(
                self: ::std::pin::Pin<&mut Self>,
                context: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Self::Output> {
                let $this = self.get_mut();
                if $this.started.0.is_none() {
                    let left = $left;
                    let call = ::std::mem::replace($this, left);
                    $this.started.0 = Some(Box::pin($start(call)));
                }
                match &mut $this.started.0 {
                    Some(started) => started.as_mut().poll(context),
                    None => ::std::task::Poll::Pending,
                }
            }
        }
    };
}

pub(super) use impl_call;
