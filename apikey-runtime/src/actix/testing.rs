//! Keys for an application's tests.

use actix_web::{HttpMessage, HttpRequest};

use super::policy::RouteRules;
use super::request_info::ActixRequestInfo;
use super::vary::GuardLocations;
use super::verified::{ManagerIdentity, Verified};
use crate::api_key::ApiKey;
use crate::cache::CachedKey;
use crate::clock::Timestamp;
use crate::denied::Denied;
use crate::error::Error;
use crate::key::{KeyId, ParsedDigest};
use crate::limiter::Plans;
use crate::record::KeyRecord;
use crate::scope::Scopes;
use crate::verify::evaluate_acting;

/// A key for tests: valid, and not in any store.
#[derive(Debug, Clone)]
pub struct ActingKey(KeyRecord);

impl ActingKey {
    /// Creates a key with this label, and without scopes and owner.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self(KeyRecord::new(
            KeyId::from_u128(1),
            "test",
            label,
            "",
            Timestamp::from_millis(0),
        ))
    }

    /// Sets the key's id. By default, the id of the number 1.
    #[must_use]
    pub fn id(mut self, id: KeyId) -> Self {
        self.0.id = id;
        self
    }

    /// Sets the key's owner.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.0.owner = Some(owner.into());
        self
    }

    /// Sets the key's scopes.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Scopes::new`].
    pub fn scopes<I>(mut self, scopes: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.0.scopes = Scopes::new(scopes)?;
        Ok(self)
    }

    /// Sets the key's environment.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.0.environment = Some(environment.into());
        self
    }

    /// Adds a piece of the application's own data.
    #[must_use]
    pub fn metadata(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.0.metadata.insert(name.into(), value.into());
        self
    }
}

/// Makes the key that a handler gets, for a direct call of it. Policies are not evaluated then.
///
/// ```
/// use apikey_runtime::testing::ActingKey;
/// use apikey_runtime::{ApiKey, Guarded, api_key_required};
///
/// #[api_key_required]
/// async fn hello(key: ApiKey) -> String {
///     format!("hello, {}", key.label())
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// let key = ApiKey::from(ActingKey::new("ci"));
/// assert_eq!(hello(Guarded::for_test((key,))).await, "hello, ci");
/// # });
/// ```
impl From<ActingKey> for ApiKey {
    fn from(key: ActingKey) -> Self {
        // No check compares the digest, since the key has no secret.
        let digest = ParsedDigest::text("");
        let key = CachedKey::with_digests(key.0, digest, None, &Plans::default());
        Self::acting(key)
    }
}

/// The key that a test attached to a request.
struct Acting(ApiKey);

/// Makes `request` act as if it came with `key`: guarded handlers evaluate its scopes and
/// environment as usual, and do not look for a credential.
///
/// This is for tests with `init_service`. A request from a client cannot do it.
///
/// ```
/// use actix_web::{App, http::StatusCode, test, web};
/// use apikey_runtime::{ApiKey, api_key_required};
/// use apikey_runtime::testing::{ActingKey, acting_as};
///
/// #[api_key_required(scope = "orders:read")]
/// async fn orders(key: ApiKey) -> String {
///     key.label().to_owned()
/// }
///
/// # actix_web::rt::System::new().block_on(async {
/// let app = test::init_service(App::new().route("/orders", web::get().to(orders))).await;
/// let request = test::TestRequest::get().uri("/orders").to_request();
/// acting_as(&request, ActingKey::new("reader").scopes(["orders:read"])?);
/// assert_eq!(test::call_service(&app, request).await.status(), StatusCode::OK);
/// # Ok::<(), apikey_runtime::Error>(())
/// # }).unwrap();
/// ```
pub fn acting_as(request: &impl HttpMessage, key: ActingKey) {
    request.extensions_mut().insert(Acting(key.into()));
}

/// Checks a request to which a test attached a key.
pub(super) fn acting(
    request: &HttpRequest,
    rules: &RouteRules,
) -> Option<Result<Verified, Denied>> {
    let key = request.extensions().get::<Acting>()?.0.clone();
    let info = ActixRequestInfo {
        request,
        config: None,
    };
    let decision = evaluate_acting(key.record(), &rules.policy, &info);
    Some(decision.map(|allowed| Verified {
        allowed,
        scopes: rules.policy.scopes,
        manager: ManagerIdentity::NONE,
        credential: None,
        passed: Verified::passed(request, GuardLocations::of(&rules.policy, None), None),
        notice: None,
    }))
}
