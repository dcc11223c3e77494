//! The fields of a form that a person sent.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::error::UrlencodedError;
use actix_web::{FromRequest, HttpRequest, web};
use apikey_runtime::Config;
use serde::de::DeserializeOwned;

use crate::error::PageError;
use crate::pages::text::{HAS_KEY, encode, has_key, without_secrets};
use crate::state::PortalState;

/// The limit of forms, in bytes.
const MAX_FORM: usize = 32 * 1_024;

/// The fields of a form, or why they cannot be read: a handler first decides whether the person may do it.
pub(crate) struct SentForm(Result<FormFields, PageError>);

/// What the address of a page asks for: a handler reads it when the person is known.
pub(crate) struct SentQuery(String);

/// The fields of a form, in their order.
#[derive(Debug, Default)]
pub(crate) struct FormFields(Vec<(String, String)>);

impl SentForm {
    /// Returns the fields.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::BadForm`] if they cannot be read, and [`PageError::LongForm`] if there are too many.
    pub(crate) fn read(self) -> Result<FormFields, PageError> {
        self.0
    }
}

impl SentQuery {
    /// Returns what the address asks for, without the secrets of keys that were pasted into it: neither a page nor
    /// its links repeat them.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::BadForm`] if it cannot be read.
    pub(crate) fn read<T: DeserializeOwned>(self, config: &Config) -> Result<T, PageError> {
        let texts = parse::<Vec<(String, String)>>(&self.0)?;
        let texts = texts.into_iter().map(|(name, value)| {
            let value = without_secrets(config, &value);
            format!("{}={}", encode(&name), encode(&value))
        });
        parse(&texts.collect::<Vec<_>>().join("&"))
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, PageError> {
    let parsed = web::Query::from_query(query);
    parsed.map(web::Query::into_inner).map_err(|error| {
        PageError::BadForm(format!("The address of this page cannot be read: {error}."))
    })
}

impl FromRequest for SentQuery {
    type Error = PageError;
    type Future = Ready<Result<Self, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.query_string().to_owned())))
    }
}

impl FormFields {
    /// Returns the text of a field without blanks around it; empty if the form does not have it. If it is there
    /// more than once, the last one counts, as a browser shows it.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.exact(name).trim()
    }

    /// Returns the text of a field as [`text`](Self::text) does, with the blanks around it: they belong to an owner.
    pub(crate) fn exact(&self, name: &str) -> &str {
        let mut values = self.0.iter().rev();
        let found = values.find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the texts of all fields with this name, such as those of ticked boxes.
    pub(crate) fn texts<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        let named = self.0.iter().filter(move |(field, _)| field == name);
        named.map(|(_, value)| value.trim())
    }

    /// Returns whether a box is ticked.
    pub(crate) fn is_ticked(&self, name: &str) -> bool {
        !self.text(name).is_empty()
    }
}

/// Returns the settings of the portal's forms.
pub(crate) fn form_config() -> web::FormConfig {
    web::FormConfig::default().limit(MAX_FORM)
}

/// Returns why a form cannot be read.
fn unread(error: &actix_web::Error) -> PageError {
    match error.as_error::<UrlencodedError>() {
        Some(UrlencodedError::Overflow { .. }) => PageError::LongForm(format!(
            "A form has at most {} KiB. Write less, and send it again.",
            MAX_FORM / 1_024
        )),
        _ => {
            let cause = error.to_string();
            let cause = cause.trim_end_matches('.');
            PageError::BadForm(format!("The form cannot be read: {cause}."))
        }
    }
}

impl FromRequest for SentForm {
    type Error = PageError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, PageError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let form = web::Form::<Vec<(String, String)>>::from_request(request, payload);
        let state = request.app_data::<Arc<PortalState>>().map(Arc::clone);
        Box::pin(async move {
            let fields = form.await.map(|form| FormFields(form.into_inner()));
            let fields = fields.map_err(|error| unread(&error));
            let has_key = |fields: &FormFields| {
                let config = state.as_ref().map(|state| state.manager.config());
                config.is_some_and(|config| fields.0.iter().any(|(_, text)| has_key(config, text)))
            };
            Ok(Self(match fields {
                // The page does not repeat the key.
                Ok(fields) if has_key(&fields) => Err(PageError::BadForm(HAS_KEY.to_owned())),
                fields => fields,
            }))
        })
    }
}
