//! Checks a key without a request.

use std::borrow::Cow;
use std::net::IpAddr;

use super::ApiKeyManager;
use crate::api_key::ApiKey;
use crate::denied::{Denied, DenyReason};
use crate::policy::{CountedClient, PathValues, Policy, RequestInfo, TemplateFault};
use crate::verify::{Allowed, CheckRequest, Credential, FastPath, Verifier};

impl ApiKeyManager {
    /// Checks a key with the manager's defaults, as a route without options does.
    ///
    /// # Errors
    ///
    /// Returns the reason for the denial.
    pub async fn verify(&self, key: &str) -> Result<ApiKey, Denied> {
        self.verify_for(key, &Policy::new()).await
    }

    /// Checks a key against the policy of a route.
    ///
    /// Without a request, the path, the client's address and the method are not known. A check that
    /// depends on them is denied: a scope with a path parameter, for example. Failed attempts are
    /// not counted, since the manager cannot tell the clients of the application apart. If the caller
    /// knows these facts, it calls [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// Returns the reason for the denial.
    pub async fn verify_for(&self, key: &str, policy: &Policy) -> Result<ApiKey, Denied> {
        let verifier = self.verifier();
        let credential = Credential::Presented(verifier.parse_for_lookup(key.as_bytes(), policy)?);
        let request = CheckRequest {
            credential,
            policy,
            info: &NoRequest,
            earlier: None,
        };
        let allowed = decide(verifier, &request).await?;
        Ok(allowed
            .key
            .into_api_key(Some(verifier.watchers_id()), policy.scopes))
    }
}

/// Decides at once if possible, and otherwise with the store's help.
pub(super) async fn decide<I: RequestInfo>(
    verifier: &Verifier,
    request: &CheckRequest<'_, I>,
) -> Result<Allowed, Denied> {
    match verifier.try_check(request) {
        FastPath::Decided(decision) => decision,
        // Boxed, so that the future of a check that does not wait is small: callers move it.
        FastPath::Deferred(reason) => Box::pin(verifier.check(request, reason)).await,
    }
}

/// The absence of a request.
struct NoRequest;

impl PathValues for NoRequest {
    fn value(&self, name: &'static str) -> Result<Cow<'_, str>, TemplateFault> {
        Err(TemplateFault::NoSuchName(name))
    }
}

impl RequestInfo for NoRequest {
    fn address(&self) -> Option<IpAddr> {
        None
    }

    fn counted_client(&self) -> CountedClient {
        CountedClient::Application
    }

    fn method(&self) -> Option<&str> {
        None
    }

    fn is_encrypted(&self) -> bool {
        false
    }

    fn write_route(&self, _write: &mut dyn FnMut(&str)) {}
}

/// A denial without a route.
impl From<DenyReason> for Denied {
    fn from(reason: DenyReason) -> Self {
        Self::new(reason)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use apikey_test_support::forge;

    use super::*;
    use crate::key::COMPARISONS;
    use crate::store::MemoryStore;

    const LONG: Duration = Duration::from_secs(60);

    /// Returns `key` with a slip at its end, which its checksum shows.
    fn with_slip(key: &str) -> String {
        let last = if key.ends_with('a') { 'b' } else { 'a' };
        format!("{}{last}", &key[..key.len() - 1])
    }

    /// The time that a text with a wrong checksum takes does not tell whether its id is known.
    #[tokio::test]
    async fn a_slip_in_a_key_is_compared_once_whether_the_id_is_known_or_not() {
        let store = MemoryStore::new().with_lease(LONG);
        let manager = ApiKeyManager::builder().store(store).start().await.unwrap();
        let key = manager.create("a").await.unwrap();
        let (known, unknown) = (key.expose_secret().to_owned(), forge::unknown());
        let cost = async |text: &str| {
            COMPARISONS.set(0);
            let denied = manager.verify(text).await.unwrap_err();
            assert_eq!(denied.reason(), DenyReason::InvalidKey);
            COMPARISONS.get()
        };
        assert!(manager.verify(&known).await.is_ok());
        assert_eq!(cost(&with_slip(&known)).await, 1, "in memory");
        assert_eq!(cost(&with_slip(&unknown)).await, 1, "not in memory");
        assert!(manager.verify(&unknown).await.is_err());
        assert_eq!(cost(&with_slip(&unknown)).await, 1, "remembered as unknown");
        // Control: a text without the form of a key is not compared.
        assert_eq!(cost("my_api").await, 0);
    }
}
