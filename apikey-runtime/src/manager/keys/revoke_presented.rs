//! Revokes keys by possession: the caller presents the whole key.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::TRIES;
use super::revoke::revocation;
use crate::denied::DenyReason;
use crate::error::{Error, ErrorChain, StoreError};
use crate::key::{KeyId, OwnedKey, ParsedKey};
use crate::manager::ApiKeyManager;
use crate::manager::call::{StartedCall, impl_call, origin_setters};
use crate::manager::confirm::ConfirmedCall;
use crate::manager::core::ManagerCore;
use crate::manager::validate::check_origin;
use crate::policy::Policy;
use crate::record::{KeyRecord, KeyState, Revocation};
use crate::store::WriteOptions;
use crate::verify::Possession;

/// What [`ApiKeyManager::revoke_presented`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PresentedRevocation {
    /// The key was revoked.
    Revoked(KeyId),
    /// The secret was superseded by a rotation, and its grace was ended. The key's new secret is
    /// still valid.
    GraceEnded(KeyId),
    /// The key was revoked before.
    AlreadyRevoked(KeyId),
    /// Nothing was changed: the text is not a key with a right secret. A secret whose grace has ended
    /// is not right any more.
    Unknown,
    /// Nothing was read or changed: the client that the call is [counted
    /// for](RevokePresented::counted_for) made too many failed attempts.
    Blocked {
        /// How long the client has to wait.
        retry_after: Duration,
    },
}

/// A call that revokes a key that is presented; see [`ApiKeyManager::revoke_presented`]. Resolves to
/// what it did.
#[must_use = "nothing is revoked until this is awaited"]
pub struct RevokePresented {
    manager: ApiKeyManager,
    /// `None` if the text does not have the form of a key.
    presented: Option<OwnedKey>,
    reason: Option<String>,
    /// The client that the call is counted for; its address may be unknown.
    client: Option<Option<IpAddr>>,
    options: WriteOptions,
    started: StartedCall<PresentedRevocation>,
}

impl RevokePresented {
    pub(in crate::manager) fn new(manager: ApiKeyManager, text: &str) -> Self {
        Self {
            manager,
            presented: ParsedKey::parse(text.as_bytes()).map(OwnedKey::from),
            reason: None,
            client: None,
            options: WriteOptions::new(),
            started: StartedCall::none(),
        }
    }

    /// Sets the reason, which the record and the audit log keep: 1 to 256 bytes. By default, no reason
    /// is kept.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Counts the call for the client at this address, as checks are: the failed attempt of a wrong
    /// secret or an unknown id, together with those of checks. A right secret is not a guess, also if its key was
    /// revoked before: one address may report many keys that leaked. While the address has too many of them, the call
    /// resolves to [`PresentedRevocation::Blocked`] and does not read the store. Clients whose
    /// address is not known share one count. By default, the call is not counted.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, Error};
    /// use actix_web::HttpRequest;
    /// use apikey_runtime::audit::ChangeOrigin;
    ///
    /// async fn revoke(request: HttpRequest, key: &str, manager: &ApiKeyManager) -> Result<(), Error> {
    ///     let origin = ChangeOrigin::of_request(&request);
    ///     let call = manager.revoke_presented(key).counted_for(origin.address);
    ///     call.origin(origin).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn counted_for(mut self, address: Option<IpAddr>) -> Self {
        self.client = Some(address);
        self
    }

    origin_setters!();

    /// Waits until the change has reached all nodes that use the store: no check that *starts* later,
    /// on any node, accepts the presented secret. See
    /// [`RevokeKey::confirmed`](super::RevokeKey::confirmed).
    pub fn confirmed(self) -> ConfirmedCall<Self> {
        ConfirmedCall::new(self.manager.clone(), self)
    }

    async fn carry_out(self) -> Result<PresentedRevocation, Error> {
        let revocation = revocation(&self.manager, self.reason)?;
        let mut options = self.options;
        if options.origin.reason.is_none() {
            options.origin.reason.clone_from(&revocation.reason);
        }
        check_origin(&options.origin)?;
        let Some(presented) = self.presented else {
            return Ok(PresentedRevocation::Unknown);
        };
        let client = self.client;
        let verifier = self.manager.verifier();
        if let Some(retry_after) =
            client.and_then(|address| verifier.blocked_for(address, verifier.shared.now()))
        {
            let id = || Some(presented.as_parsed().id().to_id());
            verifier.record_denial(DenyReason::TooManyFailedAttempts, &Policy::new(), id);
            return Ok(PresentedRevocation::Blocked { retry_after });
        }
        let revoke = move |core: Arc<ManagerCore>| async move {
            let outcome = core.revoke_presented(&presented, &revocation, options);
            let outcome = outcome.await?;
            let Some(address) = client else {
                return Ok(outcome);
            };
            if outcome == PresentedRevocation::Unknown {
                let now = core.verifier.shared.now();
                core.verifier.count_failure(address, now);
                let id = || Some(presented.as_parsed().id().to_id());
                core.verifier
                    .record_denial(DenyReason::InvalidKey, &Policy::new(), id);
            }
            Ok(outcome)
        };
        self.manager.on_thread(revoke).await
    }
}

impl_call!(
    RevokePresented => PresentedRevocation,
    |call| Self::new(call.manager.clone(), ""),
    Self::carry_out
);

impl fmt::Debug for RevokePresented {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevokePresented")
            .field("manager", &self.manager)
            .field("reason", &self.reason)
            .field("client", &self.client)
            .field("options", &self.options)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

impl ManagerCore {
    /// Decides by the record as it was read, and changes it only if it did not change since: a
    /// secret that a rotation supersedes meanwhile must not revoke the key.
    async fn revoke_presented(
        &self,
        presented: &OwnedKey,
        revocation: &Revocation,
        mut options: WriteOptions,
    ) -> Result<PresentedRevocation, Error> {
        let id = presented.as_parsed().id().to_id();
        for _ in 0..TRIES {
            let record = match self.shared.find(&id).await {
                // An error would tell a caller without the secret that the key exists.
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(key_id = %id, error = %ErrorChain(&error), "the presented key is not revoked: its record cannot be read");
                    None
                }
                found => found?,
            };
            let proof = self
                .verifier
                .prove_possession(&presented.as_parsed(), record.as_ref());
            let Some((record, proof)) = record.zip(proof) else {
                return Ok(PresentedRevocation::Unknown);
            };
            options.expected_version = Some(record.version);
            match self.end(&record, proof, revocation, &options).await {
                Err(Error::Conflict(_)) => {}
                // It was purged meanwhile.
                Err(Error::NotFound(_)) => return Ok(PresentedRevocation::Unknown),
                outcome => return outcome,
            }
        }
        Err(Error::Conflict(id))
    }

    /// Ends what was proven: the key, or the grace of a superseded secret and nothing else.
    async fn end(
        &self,
        record: &KeyRecord,
        proof: Possession,
        revocation: &Revocation,
        options: &WriteOptions,
    ) -> Result<PresentedRevocation, Error> {
        let id = record.id;
        if proof.state == KeyState::Revoked {
            return Ok(PresentedRevocation::AlreadyRevoked(id));
        }
        if proof.superseded.is_none() {
            let revoked = self.revoke(id, revocation.clone(), options).await?;
            return Ok(match revoked {
                true => PresentedRevocation::Revoked(id),
                false => PresentedRevocation::AlreadyRevoked(id),
            });
        }
        let reason = revocation.reason.clone();
        self.forget_previous(id, reason, options).await?;
        Ok(PresentedRevocation::GraceEnded(id))
    }
}
