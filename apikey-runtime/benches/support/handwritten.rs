//! What a competent user writes by hand: a header, a map, SHA-256, a constant-time comparison.

use std::collections::HashMap;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, RwLock};

use actix_web::dev::Payload;
use actix_web::error::{ErrorInternalServerError, ErrorUnauthorized};
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The client's identity.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
}

/// Identities and digests by the id in a key.
#[derive(Default)]
pub(crate) struct Keys(RwLock<HashMap<String, Record>>);

type Record = (Arc<Identity>, [u8; 32]);

impl Keys {
    /// Adds a key.
    pub(crate) fn add(&self, key: &str) {
        let (Some(id), Ok(mut keys)) = (id(key), self.0.write()) else {
            return;
        };
        let identity = Arc::new(Identity {
            name: "MY_FIRST_KEY".to_owned(),
        });
        keys.insert(id.to_owned(), (identity, Sha256::digest(key).into()));
    }

    fn check(&self, key: &str) -> Option<Arc<Identity>> {
        let keys = self.0.read().ok()?;
        let (identity, digest) = keys.get(id(key)?)?;
        let same: bool = Sha256::digest(key).as_slice().ct_eq(digest).into();
        same.then(|| Arc::clone(identity))
    }
}

fn id(key: &str) -> Option<&str> {
    key.rsplit_once('_')?.0.rsplit_once('_').map(|(_, id)| id)
}

fn check(request: &HttpRequest) -> Result<Arc<Identity>, actix_web::Error> {
    let keys = request.app_data::<web::Data<Keys>>();
    let keys = keys.ok_or_else(|| ErrorInternalServerError("no keys"))?;
    let value = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let key = value.and_then(|value| value.strip_prefix("Bearer "));
    key.and_then(|key| keys.check(key))
        .ok_or_else(|| ErrorUnauthorized("no"))
}

/// The leanest form: no box, and only the handler gets the identity.
pub(crate) struct Lean(pub(crate) Arc<Identity>);

impl FromRequest for Lean {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(check(request).map(Lean))
    }
}

/// The common form: an `async` block in a box, and the identity in the request's extensions,
/// available to others.
pub(crate) struct Shared(pub(crate) Arc<Identity>);

impl FromRequest for Shared {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let identity = check(&request)?;
            request.extensions_mut().insert(Arc::clone(&identity));
            Ok(Self(identity))
        })
    }
}
