//! Pages that say why a request failed, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use apikey_runtime::Error;
use askama::Template;

use crate::forgery::is_safe;
use crate::may::Refusal;
use crate::pages::NO_OWNER;
use crate::pages::frame::Frame;
use crate::pages::text;
use crate::person::Person;
use crate::state::PortalState;

/// Why a page is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageError {
    /// Nobody is signed in.
    SignedOut,
    /// The page or the key does not exist, or the person may not see it.
    NotFound,
    /// The person may see it, and not do this.
    Forbidden(&'static str),
    /// A form of another site.
    Forged,
    /// A form that was shown too long ago, or to someone else.
    FormExpired,
    /// The form's text cannot be read.
    BadForm(String),
    /// The form is longer than the limit.
    LongForm(String),
    /// The page does not have this method; it has those.
    MethodNotAllowed(&'static str),
    /// Somebody else changed the key since the form was shown.
    Conflict,
    /// A wrong setting of the portal; the log has it.
    Misconfigured,
    /// The application's store cannot do this.
    Unsupported(String),
    /// The store failed during a change. The text says what is known, and what to do.
    Unfinished(String),
    /// Too much of this kind is done now. The text says what to do.
    Busy(&'static str),
    /// The application cannot tell who is signed in; the log has the cause.
    PersonUnknown,
    /// The store does not answer; the log has the cause.
    Unavailable,
}

/// The person who sent a request, once it is known: pages of errors have the person's links.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn(pub(crate) Person);

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame<'a>,
    status: u16,
    /// The page for signing in, if that may help.
    sign_in: Option<&'a str>,
    /// Whether the list may help.
    has_way_back: bool,
    title: &'a str,
    message: &'a str,
}

impl PageError {
    /// Returns the status, the title and what to do.
    fn parts(&self) -> (StatusCode, &'static str, &str) {
        match self {
            // Not 401, which requires a challenge (RFC 9110 section 15.5.2): sessions do not have a scheme.
            Self::SignedOut => (
                StatusCode::FORBIDDEN,
                "Please sign in",
                "Sign in, and open this page again.",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "Not found",
                "This page does not exist, or it is not yours to see.",
            ),
            Self::Forbidden(what) => (StatusCode::FORBIDDEN, "Not allowed", what),
            Self::Forged => (
                StatusCode::FORBIDDEN,
                "Rejected",
                "This form came from another site. Open the page here, and send the form again.",
            ),
            Self::FormExpired => (
                StatusCode::FORBIDDEN,
                "Form expired",
                "This form was shown too long ago, or to somebody else. Open the page again.",
            ),
            Self::BadForm(why) => (StatusCode::BAD_REQUEST, "Not understood", why),
            Self::LongForm(why) => (StatusCode::PAYLOAD_TOO_LARGE, "Too long", why),
            Self::MethodNotAllowed(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "Not shown again",
                "The answer to a form is shown once, and not by its address. Nothing was changed now.",
            ),
            Self::Conflict => (
                StatusCode::CONFLICT,
                "Changed meanwhile",
                "Somebody changed this key since the form was shown. Open the page again, and look at what it says now.",
            ),
            Self::Misconfigured => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Misconfigured",
                "The portal is misconfigured. Its operator finds the reason in the log.",
            ),
            Self::Unsupported(why) => (StatusCode::NOT_IMPLEMENTED, "Not supported", why),
            Self::Unfinished(what) => (StatusCode::SERVICE_UNAVAILABLE, "Not finished", what),
            Self::PersonUnknown => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available",
                "Who is signed in cannot be told at the moment. Nothing was changed. Try again soon.",
            ),
            Self::Busy(what) => (StatusCode::SERVICE_UNAVAILABLE, "Busy", what),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available",
                "The keys cannot be read at the moment. Try again soon.",
            ),
        }
    }

    /// Returns the answer as a page, or a redirection to the application's page for signing in if a page was read. A form
    /// gets a link to that page: browsers apply `form-action` to redirections of forms.
    pub(crate) fn response(&self, request: &HttpRequest) -> HttpResponse {
        let (status, title, message) = self.parts();
        let Some(state) = request.app_data::<Arc<PortalState>>() else {
            return HttpResponse::build(status).body(message.to_owned());
        };
        let sign_in = state.sign_in.as_deref();
        let sign_in = sign_in.filter(|_| *self == Self::SignedOut);
        if let Some(path) = sign_in.filter(|_| is_safe(request.method())) {
            return redirect(path, state, request);
        }
        let signed_in = request.extensions().get::<SignedIn>().cloned();
        let person = signed_in.as_ref().map(|SignedIn(person)| person);
        let page = ErrorPage {
            frame: Frame::new(state, person),
            status: status.as_u16(),
            sign_in,
            has_way_back: !matches!(
                self,
                Self::SignedOut | Self::Misconfigured | Self::Forbidden(NO_OWNER)
            ),
            title,
            message,
        };
        let mut answer = html(status, &page);
        let header = match self {
            Self::Busy(_) => Some((RETRY_AFTER, "10")),
            Self::MethodNotAllowed(allowed) => Some((ALLOW, *allowed)),
            _ => None,
        };
        if let Some((name, value)) = header {
            let headers = answer.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// Redirects to the page for signing in, which may come back to the page that was read.
fn redirect(path: &str, state: &PortalState, request: &HttpRequest) -> HttpResponse {
    let mark = if path.contains('?') { '&' } else { '?' };
    let next = text::encode(&wanted(state, request));
    let target = format!("{path}{mark}next={next}");
    HttpResponse::SeeOther()
        .insert_header((LOCATION, target))
        .finish()
}

/// Returns the page that a person wanted; the list if the address has the secret of a key, which is not sent on.
fn wanted(state: &PortalState, request: &HttpRequest) -> String {
    let seen = state.location.seen_by_visitors(request);
    // Reads the path too: escapes mean the same in both.
    let texts = web::Query::<Vec<(String, String)>>::from_query(&seen);
    let config = state.manager.config();
    let is_clean = |text: &String| text::without_secrets(config, text) == *text;
    match texts {
        Ok(texts)
            if texts
                .iter()
                .all(|(name, value)| is_clean(name) && is_clean(value)) =>
        {
            seen
        }
        _ => state.location.list().to_owned(),
    }
}

/// Answers with a page.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => HttpResponse::build(status)
            .content_type("text/html; charset=utf-8")
            .body(text),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "a page of the portal cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.parts().1)
    }
}

impl ResponseError for PageError {
    fn status_code(&self) -> StatusCode {
        self.parts().0
    }
}

impl From<Refusal> for PageError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Forbidden => {
                Self::Forbidden("Your role does not allow this. An administrator can do it.")
            }
            Refusal::Scopes => Self::Forbidden(
                "This key has scopes that you may not give. Somebody who may give all of them can do it.",
            ),
        }
    }
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(_) => Self::NotFound,
            Error::Conflict(_) => Self::Conflict,
            Error::InvalidArgument(why) => Self::BadForm(why),
            Error::Policy(violation) => Self::BadForm(violation.to_string()),
            Error::Unsupported(_) => {
                tracing::warn!(error = %Chain(&error), "the store cannot do what a page asks for");
                Self::Unsupported("The key store of this application cannot do this.".to_owned())
            }
            other => {
                tracing::error!(error = %Chain(&other), "a page of the portal cannot be shown");
                Self::Unavailable
            }
        }
    }
}

/// Returns whether a change failed by an error after which it is not known whether the change was made.
pub(crate) fn is_unfinished(error: &Error) -> bool {
    let may_be_made = matches!(error, Error::Store(_) | Error::ShutDown);
    if may_be_made {
        tracing::error!(error = %Chain(error), "it is not known whether a change by a page was made");
    }
    may_be_made
}

/// Returns `None` if the store does not keep what was asked for.
pub(crate) fn if_kept<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shows an error with its causes.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
