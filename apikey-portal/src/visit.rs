//! A request to a page, with the person who sent it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use apikey_runtime::audit::{ChangeChannel, ChangeOrigin};
use apikey_runtime::{KeyId, KeyRecord, Timestamp};
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::error::{self, PageError};
use crate::fields::FormFields;
use crate::form_token::{FormKey, FormPurpose};
use crate::may::{Action, may};
use crate::person::{Person, Role};
use crate::request_id;
use crate::state::PortalState;

/// A request to a page, with the person who sent it.
pub(crate) struct Visit {
    pub(crate) state: Arc<PortalState>,
    pub(crate) person: Person,
    /// What changes of this request are logged with.
    pub(crate) origin: ChangeOrigin,
}

impl Visit {
    /// Returns the time by which states are judged.
    pub(crate) fn now(&self) -> Timestamp {
        self.state.now()
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.person.role == Role::Admin
    }

    /// Returns the key with this id, if the person may see it. A key that does not exist, one that is not the
    /// person's and a text that is not an id have the same answer.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::NotFound`], or [`PageError::Unavailable`] if the store does not answer.
    pub(crate) async fn key(&self, id: &str) -> Result<KeyRecord, PageError> {
        let id: KeyId = id.parse().map_err(|_not_an_id| PageError::NotFound)?;
        let record = self.state.manager.get(id).await?;
        may(&self.person, &Action::See, &record)?;
        Ok(record)
    }

    /// Makes the token of a form for an action with a record (empty for a form that creates).
    ///
    /// # Errors
    ///
    /// Returns [`PageError::Unavailable`] if the key of tokens cannot be read.
    pub(crate) async fn token(&self, action: &str, record: &str) -> Result<String, PageError> {
        let key = self.state.form_key().await?;
        let purpose = self.purpose(action, record);
        Ok(key.token(&purpose, self.now(), random()?))
    }

    /// Checks the token that a form brings in its field `token`.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::FormExpired`] if it is for something else, or too old.
    pub(crate) async fn check_token(
        &self,
        fields: &FormFields,
        action: &str,
        record: &str,
    ) -> Result<FormKey, PageError> {
        let key = self.state.form_key().await?;
        let purpose = self.purpose(action, record);
        match key.accepts(&purpose, fields.text("token"), self.now()) {
            true => Ok(key),
            false => Err(PageError::FormExpired),
        }
    }

    fn purpose<'a>(&'a self, action: &'a str, record: &'a str) -> FormPurpose<'a> {
        FormPurpose {
            person: &self.person.id,
            action,
            record,
        }
    }
}

/// Asks the application who is signed in.
///
/// # Errors
///
/// Returns [`PageError::Unavailable`] if that is not known, and [`PageError::Misconfigured`] if the person cannot be
/// used. The log has the cause.
pub(crate) async fn signed_in(
    state: &PortalState,
    request: &HttpRequest,
) -> Result<Option<Person>, PageError> {
    let person = state.auth.person(request).await.map_err(|error| {
        tracing::error!(error = %error::Chain(&*error), "the portal cannot tell who is signed in");
        PageError::PersonUnknown
    })?;
    match person.as_ref().and_then(Person::fault) {
        None => Ok(person),
        Some(fault) => {
            tracing::error!("the portal cannot serve the person who is signed in: {fault}");
            Err(PageError::Misconfigured)
        }
    }
}

/// Returns a nonce, so that two forms of one purpose create two keys.
fn random() -> Result<u64, PageError> {
    let mut bytes = [0; 8];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system does not give random bytes");
        PageError::Unavailable
    })?;
    Ok(u64::from_be_bytes(bytes))
}

impl FromRequest for Visit {
    type Error = PageError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, PageError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request.app_data::<Arc<PortalState>>();
            let state = Arc::clone(state.ok_or(PageError::Misconfigured)?);
            let person = signed_in(&state, &request).await?;
            let person = person.ok_or(PageError::SignedOut)?;
            let signed_in = error::SignedIn(person.clone());
            request.extensions_mut().insert(signed_in);
            let origin = ChangeOrigin::of_request(&request)
                .with_channel(ChangeChannel::Page)
                .with_request_id(request_id::of(&request))
                .with_actor(person.id.clone());
            Ok(Self {
                state,
                person,
                origin,
            })
        })
    }
}
