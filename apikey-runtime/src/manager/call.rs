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

/// Declares the setters of where a change comes from, of a call with a field `options`.
macro_rules! origin_setters {
    () => {
        /// Sets the actor, which the change's [events](crate::ApiKeyManager::events) and its entry in the
        /// [audit log](crate::ApiKeyManager::audit) name: 1 to 256 bytes. By default, they do not name one.
        pub fn actor(mut self, actor: impl Into<String>) -> Self {
            self.options.origin.actor = Some(actor.into());
            self
        }

        /// Sets where the change comes from, with the actor. By default, an origin that names nothing.
        pub fn origin(mut self, origin: $crate::audit::ChangeOrigin) -> Self {
            self.options.origin = origin;
            self
        }
    };
}

/// Declares the setters of what a change of a key depends on, of a call with a field `options`.
macro_rules! condition_setters {
    () => {
        /// Makes the change only if the key belongs to this owner. If not, the call returns
        /// [`Error::NotFound`](crate::Error::NotFound), as if such a key did not exist. By default, any
        /// owner's.
        pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
            self.options.expected_owner = Some(owner.into());
            self
        }

        /// Makes the change only if the record has this [version](crate::KeyRecord::version). If not, the
        /// call returns [`Error::Conflict`](crate::Error::Conflict). By default, any version's.
        pub fn if_version(mut self, version: u64) -> Self {
            self.options.expected_version = Some(version);
            self
        }
    };
}

/// Declares the setters of the rules that a call is judged by, of a call with a field `rules`.
macro_rules! rule_setters {
    () => {
        /// Replaces the [rules](crate::Config::issue_policy) for issuing keys of the configuration, all of
        /// them, for this call: for administrators. By default, the configuration's.
        pub fn policy(mut self, policy: $crate::policy::IssuePolicy) -> Self {
            self.rules.policy = Some(policy);
            self
        }

        /// Sets the scopes of the one who grants scopes to the key: the key gets only scopes that are
        /// among them. With another scope, the call returns [`Error::Policy`](crate::Error::Policy). By
        /// default, any scope may be granted.
        ///
        /// An update may keep the scopes that the key has, except if its expiry is moved to a later time
        /// or removed: then all scopes of the changed key must be among them.
        ///
        /// A scope does not imply another, so each must be held by its own name.
        pub fn granted_by(mut self, held: &Scopes) -> Self {
            self.rules.granted_by = Some(held.clone());
            self
        }
    };
}

/// Declares the setter of who asks for a call that makes a key usable as it is, of a call with a field
/// `granted_by`.
macro_rules! holder_setter {
    ($($condition:literal)?) => {
        /// Sets the scopes of the one who asks for this: all scopes of the key must be among them, those
        /// of the version that is changed. With another scope, the call returns
        /// [`Error::Policy`](crate::Error::Policy). By default, a key with any scopes is changed.
        $(#[doc = ""]
        #[doc = $condition])?
        ///
        /// A scope does not imply another, so each must be held by its own name.
        pub fn granted_by(mut self, held: &$crate::scope::Scopes) -> Self {
            self.granted_by = Some(held.clone());
            self
        }
    };
}

pub(super) use {condition_setters, holder_setter, impl_call, origin_setters, rule_setters};
