//! Tells the holder of a key what it may know of the key.

use ipnet::IpNet;
use serde::Serialize;

use super::ApiKeyManager;
use super::core::ManagerCore;
use super::keys::RevokePresented;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorChain, StoreError};
use crate::key::{KeyId, OwnedKey, ParsedKey};
use crate::record::{KeyRecord, KeyState};
use crate::scope::Scopes;
use crate::verify::Possession;

/// What the holder of a key may know of it; see [`ApiKeyManager::introspect`].
///
/// Serialized, it is one flat object, as the response of OAuth's token introspection (RFC 7662
/// section 2.2), with this library's names: `{"active":false}`, or `active`, `id`, `label` and so on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Introspection {
    /// Whether a check that only asks for a valid key accepts this one now.
    pub active: bool,
    /// The facts of an active key; `None` if it is not active.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFacts>,
}

/// The facts of a key that its holder may know. Times are serialized as RFC 3339 texts; `None` is
/// `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KeyFacts {
    /// See [`KeyRecord::id`].
    pub id: KeyId,
    /// See [`KeyRecord::label`].
    pub label: String,
    /// See [`KeyRecord::owner`].
    pub owner: Option<String>,
    /// See [`KeyRecord::scopes`]. Serialized as a list.
    pub scopes: Scopes,
    /// See [`KeyRecord::environment`].
    pub environment: Option<String>,
    /// See [`KeyRecord::networks`]. Serialized as a list of texts.
    pub networks: Vec<IpNet>,
    /// See [`KeyRecord::methods`].
    pub methods: Vec<String>,
    /// See [`KeyRecord::created`].
    pub created: Timestamp,
    /// See [`KeyRecord::expires`].
    pub expires: Option<Timestamp>,
    /// See [`KeyRecord::not_before`].
    pub not_before: Option<Timestamp>,
    /// Expiry (exclusive) of the presented secret, if a rotation superseded it. `None` for the key's
    /// present secret.
    pub superseded_until: Option<Timestamp>,
}

impl ApiKeyManager {
    /// Tells the holder of a key what it may know of the key. The whole key is the proof, as for
    /// [`revoke_presented`](Self::revoke_presented).
    ///
    /// The answer is that the key is not active, without a reason, if the text is not a key, if the
    /// secret is wrong or its grace has ended, if the prefix is not accepted, and if the key is
    /// revoked, suspended, disabled, expired, not valid yet or idle (RFC 7662 section 2.2). The key's
    /// networks and methods are told and not considered, since the request is not known.
    ///
    /// The record is read from the store. The call is not a use of the key, and neither limits nor
    /// failed attempts are counted: a route that calls it should have a rate of its own.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").scopes(["orders:read"]).await?;
    /// let facts = manager.introspect(key.expose_secret()).await?.key.unwrap();
    /// assert!(facts.scopes.contains("orders:read"));
    ///
    /// manager.disable(key.id()).await?;
    /// let answer = manager.introspect(key.expose_secret()).await?;
    /// assert_eq!(serde_json::to_string(&answer)?, r#"{"active":false}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Error::Store`] or [`Error::ShutDown`].
    pub async fn introspect(&self, key: &str) -> Result<Introspection, Error> {
        let presented = ParsedKey::parse(key.as_bytes());
        let accepted = |key: &ParsedKey<'_>| self.config().accepts_prefix(key.prefix());
        let Some(presented) = presented.filter(accepted).map(OwnedKey::from) else {
            return Ok(Introspection::of(None));
        };
        self.on_thread(move |core| async move { core.introspect(&presented).await })
            .await
    }

    /// Revokes the key that is presented. Possession is the proof: the whole key is compared with the
    /// store's record in constant time, and neither an id nor a wrong secret suffices.
    ///
    /// The holder of a key can so end it, and a report of leaked keys can. If a rotation superseded the
    /// presented secret, only the grace of this secret is ended: the key's new secret stays valid, and
    /// the event is [`GraceEnded`](crate::events::EventKind::GraceEnded). A key with a prefix that is
    /// not accepted any more is revoked too. Limits and usage are not counted, nor are failed attempts by
    /// default.
    ///
    /// ```
    /// # use apikey_runtime::{ApiKeyManager, MemoryStore};
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// use apikey_runtime::manager::PresentedRevocation;
    ///
    /// let key = manager.create("ci").await?;
    /// let leaked = key.expose_secret();
    /// let outcome = manager.revoke_presented(leaked).reason("found in a repository").await?;
    /// assert_eq!(outcome, PresentedRevocation::Revoked(key.id()));
    /// # Ok::<(), apikey_runtime::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// Its errors are [`Error::InvalidArgument`], [`Error::Store`], [`Error::ShutDown`], and
    /// [`Error::Conflict`] if other writers kept changing the key.
    ///
    /// [`counted_for`](RevokePresented::counted_for) is for callers that are not known.
    pub fn revoke_presented(&self, key: &str) -> RevokePresented {
        RevokePresented::new(self.clone(), key)
    }
}

impl ManagerCore {
    async fn introspect(&self, presented: &OwnedKey) -> Result<Introspection, Error> {
        let presented = presented.as_parsed();
        let id = presented.id().to_id();
        let record = match self.shared.find(&id).await {
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(key_id = %id, error = %ErrorChain(&error), "key not active: its record cannot be read");
                None
            }
            found => found?,
        };
        let proof = self.verifier.prove_possession(&presented, record.as_ref());
        let proven = record.zip(proof);
        let mut active = proven.filter(|(_, proof)| proof.state == KeyState::Active);
        if let Some((record, _)) = &active {
            let states = self.states_of(std::iter::once(record), self.shared.now().now);
            if states.await? != [KeyState::Active] {
                active = None;
            }
        }
        Ok(Introspection::of(active))
    }
}

impl Introspection {
    fn of(active: Option<(KeyRecord, Possession)>) -> Self {
        let facts = |(record, proof): (KeyRecord, Possession)| KeyFacts {
            id: record.id,
            label: record.label,
            owner: record.owner,
            scopes: record.scopes,
            environment: record.environment,
            networks: record.networks,
            methods: record.methods,
            created: record.created,
            expires: record.expires,
            not_before: record.not_before,
            superseded_until: proof.superseded,
        };
        Self {
            active: active.is_some(),
            key: active.map(facts),
        }
    }
}
