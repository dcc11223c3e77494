//! Tests of an application without real keys.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest};

use super::policy::RouteRules;
use super::request_info::ActixRequestInfo;
use super::verified::{ManagerIdentity, Verified};
use crate::api_key::ApiKey;
use crate::cache::CachedKey;
use crate::clock::Timestamp;
use crate::denied::Denied;
use crate::error::Error;
use crate::key::{KeyHasher, KeyId, Sha256Hasher};
use crate::limiter::Plans;
use crate::record::KeyRecord;
use crate::scope::Scopes;
use crate::verify::evaluate_acting;

/// A key that a test acts as: live, and in no store.
#[derive(Debug, Clone)]
pub struct ActingKey(KeyRecord);

impl ActingKey {
    /// A key with this label, no scope and no owner.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        let digest = Sha256Hasher::new().hash("acting").unwrap_or_default();
        Self(KeyRecord::new(
            KeyId::from_u128(1),
            "test",
            label,
            digest,
            Timestamp::from_millis(0),
        ))
    }

    /// The key's id. By default, that of the number 1.
    #[must_use]
    pub fn id(mut self, id: KeyId) -> Self {
        self.0.id = id;
        self
    }

    /// Whom the key belongs to.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.0.owner = Some(owner.into());
        self
    }

    /// What the key may do.
    ///
    /// # Errors
    ///
    /// As [`Scopes::new`].
    pub fn scopes<I>(mut self, scopes: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.0.scopes = Scopes::new(scopes)?;
        Ok(self)
    }

    /// The family of keys that this one belongs to.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.0.environment = Some(environment.into());
        self
    }

    /// One piece of the application's own data.
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

/// A test's word for who calls.
struct Acting(ApiKey);

/// Lets `request` pass as one that came with `key`: guarded handlers judge its scopes and
/// environment as ever, and look for no credential. For tests with `init_service`; no request from
/// outside can do this.
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
    if let Some(key) = CachedKey::of(key.0, &Sha256Hasher::new(), &Plans::default()) {
        request
            .extensions_mut()
            .insert(Acting(ApiKey::new(Arc::new(key))));
    }
}

/// Decides about a request that a test sent as a key.
pub(super) fn acting(
    request: &HttpRequest,
    rules: &RouteRules,
) -> Option<Result<Verified, Denied>> {
    let key = request.extensions().get::<Acting>()?.0.clone();
    let info = ActixRequestInfo {
        request,
        config: None,
    };
    let decision = evaluate_acting(key, &rules.policy, &info);
    Some(decision.map(|allowed| Verified {
        allowed,
        manager: ManagerIdentity::NONE,
        credential: None,
    }))
}
