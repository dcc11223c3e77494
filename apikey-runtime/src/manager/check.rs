//! Checks a key by the facts of a request that reached another program.

use super::ApiKeyManager;
use super::verify::decide;
use crate::api_key::ApiKey;
use crate::denied::{Denied, DenyReason};
use crate::key::ParsedKey;
use crate::limit::LimitStatus;
use crate::policy::{Policy, RequestFacts, RequestInfo};
use crate::verify::{Allowed, CheckRequest, Credential, limit_statuses};

/// A key that [`ApiKeyManager::check`] allowed, with what the answer may say of it.
#[derive(Debug, Clone)]
pub struct CheckedKey {
    manager: ApiKeyManager,
    key: ApiKey,
    allowed: Allowed,
}

impl ApiKeyManager {
    /// Checks a key by the facts of a request, for a caller that is not a route: a gateway's
    /// authorization endpoint, or another framework.
    ///
    /// The check is that of a guarded route: the key's own networks and methods, the policy with its
    /// methods, `require_https`, scopes and rate, the key's limits, and failed attempts by address.
    /// They are counted together with those of routes, and so is usage, under the route's pattern.
    /// Without a fact, each key and each rule that depends on it is denied. The policy's
    /// [locations](Policy::locations) and whether a key is [optional](Policy::optional) are not
    /// considered: the caller found the key.
    ///
    /// ```
    /// use apikey_runtime::manager::RequestFacts;
    /// use apikey_runtime::{ApiKeyManager, MemoryStore, Policy, ScopeExpr};
    ///
    /// const ORDERS: Policy = Policy::new().scopes(ScopeExpr::One("orders:read"));
    ///
    /// # actix_web::rt::System::new().block_on(async {
    /// # let manager = ApiKeyManager::builder().store(MemoryStore::new()).start().await?;
    /// let key = manager.create("ci").scopes(["orders:read"]).networks(["192.0.2.0/24".parse()?]).await?;
    /// let facts = RequestFacts::new().with_method("GET").with_route("/orders/{id}");
    /// let known = facts.with_address("192.0.2.7".parse()?);
    /// let checked = manager.check(key.expose_secret(), &ORDERS, &known).await?;
    /// assert_eq!(checked.key().label(), "ci");
    /// // From an unknown address.
    /// assert!(manager.check(key.expose_secret(), &ORDERS, &facts).await.is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the reason for the denial. [`Denied::headers`] returns the headers of an answer to it.
    pub async fn check(
        &self,
        key: &str,
        policy: &Policy,
        facts: &RequestFacts<'_>,
    ) -> Result<CheckedKey, Denied> {
        self.check_presented(key.as_bytes(), policy, facts).await
    }

    /// Checks a credential that need not be text.
    pub(crate) async fn check_presented(
        &self,
        key: &[u8],
        policy: &Policy,
        facts: &RequestFacts<'_>,
    ) -> Result<CheckedKey, Denied> {
        let verifier = self.verifier();
        if policy.require_https && !facts.is_encrypted() {
            // The event names the key: it was readable on the way, and has to be replaced.
            let id = || ParsedKey::parse(key).map(|key| key.id().to_id());
            return Err(verifier.record_denial(DenyReason::HttpsRequired, policy, id));
        }
        if policy.rate.is_some() && policy.name.is_none() && !facts.has_route() {
            tracing::error!(
                "a check has a rate, and no route to count it by; \
                 write `RequestFacts::with_route`, or give the policy a name"
            );
            return Err(verifier.record_denial(DenyReason::Misconfigured, policy, || None));
        }
        let request = CheckRequest {
            credential: Credential::Presented(verifier.parse_for_lookup(key, policy)?),
            policy,
            info: facts,
            earlier: None,
        };
        let allowed = decide(verifier, &request).await?;
        let key = allowed.key.clone();
        Ok(CheckedKey {
            manager: self.clone(),
            key: key.into_api_key(Some(verifier.watchers_id()), policy.scopes),
            allowed,
        })
    }
}

impl CheckedKey {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &ApiKey {
        &self.key
    }

    /// Returns the status of the limits that the check was charged against: those of the key and of
    /// the policy.
    #[must_use]
    pub fn limit_status(&self) -> Vec<LimitStatus> {
        limit_statuses(&self.allowed)
    }

    pub(crate) fn manager(&self) -> &ApiKeyManager {
        &self.manager
    }

    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }
}
