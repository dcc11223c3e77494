//! A record without its digests, which may leave the process.

use ipnet::IpNet;
use serde::Serialize;

use super::{KeyRecord, Metadata, Revocation};
use crate::clock::Timestamp;
use crate::key::KeyId;
use crate::limit::Limit;
use crate::scope::Scopes;

/// A key's record without the digests, for an application to show.
///
/// Unlike [`KeyRecord`], it implements [`Serialize`]. Its times are texts in RFC 3339's format. The
/// application decides which of the fields its users may see: `metadata` and `owner` are shown too.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct KeyView {
    /// See [`KeyRecord::id`].
    pub id: KeyId,
    /// See [`KeyRecord::prefix`].
    pub prefix: String,
    /// See [`KeyRecord::label`].
    pub label: String,
    /// See [`KeyRecord::description`].
    pub description: Option<String>,
    /// See [`KeyRecord::owner`].
    pub owner: Option<String>,
    /// See [`KeyRecord::scopes`]. Serialized as a list.
    pub scopes: Scopes,
    /// See [`KeyRecord::metadata`].
    pub metadata: Metadata,
    /// See [`KeyRecord::environment`].
    pub environment: Option<String>,
    /// See [`KeyRecord::networks`].
    pub networks: Vec<IpNet>,
    /// See [`KeyRecord::methods`].
    pub methods: Vec<String>,
    /// See [`KeyRecord::limits`].
    pub limits: Vec<Limit>,
    /// See [`KeyRecord::created`].
    pub created: Timestamp,
    /// See [`KeyRecord::created_by`].
    pub created_by: Option<String>,
    /// See [`KeyRecord::updated_by`].
    pub updated_by: Option<String>,
    /// See [`KeyRecord::expires`].
    pub expires: Option<Timestamp>,
    /// See [`KeyRecord::not_before`].
    pub not_before: Option<Timestamp>,
    /// See [`KeyRecord::revoked`].
    pub revoked: Option<Revocation>,
    /// See [`KeyRecord::enabled`].
    pub enabled: bool,
    /// Whether all keys of the owner are suspended. See [`KeyRecord::owner_state`].
    pub owner_suspended: bool,
    /// Expiry (exclusive) of the secret before the last rotation, if a grace time was given.
    pub previous_until: Option<Timestamp>,
    /// See [`KeyRecord::version`].
    pub version: u64,
}

impl KeyRecord {
    /// Returns the record without the digests, to be shown.
    ///
    /// The record itself does not implement [`Serialize`], so that a handler cannot send its digest
    /// by mistake.
    ///
    /// ```
    /// use actix_web::{Responder, web};
    /// use apikey_runtime::{ApiKeyManager, KeyId};
    /// use std::error::Error;
    ///
    /// async fn show(manager: web::Data<ApiKeyManager>, id: KeyId) -> Result<impl Responder, Box<dyn Error>> {
    ///     Ok(web::Json(manager.get(id).await?.view()))
    /// }
    /// ```
    ///
    /// The view does not include the key's state, since it depends on the time: see
    /// [`state_at`](Self::state_at), and [`state_of`](crate::ApiKeyManager::state_of) if keys become idle.
    #[must_use]
    pub fn view(&self) -> KeyView {
        KeyView {
            id: self.id,
            prefix: self.prefix.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            owner: self.owner.clone(),
            scopes: self.scopes.clone(),
            metadata: self.metadata.clone(),
            environment: self.environment.clone(),
            networks: self.networks.clone(),
            methods: self.methods.clone(),
            limits: self.limits.clone(),
            created: self.created,
            created_by: self.created_by.clone(),
            updated_by: self.updated_by.clone(),
            expires: self.expires,
            not_before: self.not_before,
            revoked: self.revoked.clone(),
            enabled: self.enabled,
            owner_suspended: self.owner_state.is_some_and(|state| state.suspended),
            previous_until: self.previous.as_ref().map(|previous| previous.until),
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{OwnerState, PreviousDigest};

    #[test]
    fn a_view_is_the_record_without_its_digests() {
        let at = Timestamp::from_millis;
        let mut record =
            KeyRecord::new(KeyId::from_u128(1), "my_api", "ci", "sha256$digest", at(0));
        record.owner = Some("42".to_owned());
        record.owner_state = Some(OwnerState::new().with_suspended(true));
        record.description = Some("nightly".to_owned());
        record.created_by = Some("anna".to_owned());
        record.scopes = Scopes::new(["b", "a"]).unwrap();
        record.metadata.insert("team".to_owned(), "x".into());
        record.networks = vec!["192.0.2.0/24".parse().unwrap()];
        record.previous = Some(PreviousDigest {
            digest: "sha256$previous".to_owned(),
            until: at(5),
        });
        record.revoked = Some(Revocation {
            at: at(7),
            reason: Some("lost".to_owned()),
        });
        let expected = json!({
            "id": record.id.as_str(), "prefix": "my_api", "label": "ci", "owner": "42",
            "description": "nightly", "created_by": "anna", "updated_by": null,
            "scopes": ["a", "b"], "metadata": { "team": "x" }, "environment": null,
            "networks": ["192.0.2.0/24"], "methods": [], "limits": [],
            "created": "1970-01-01T00:00:00.000Z", "expires": null, "not_before": null,
            "revoked": { "at": "1970-01-01T00:00:00.007Z", "reason": "lost" },
            "enabled": true, "owner_suspended": true, "previous_until": "1970-01-01T00:00:00.005Z",
            "version": 1,
        });
        assert_eq!(serde_json::to_value(record.view()).unwrap(), expected);
    }
}
