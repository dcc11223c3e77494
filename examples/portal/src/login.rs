//! The pages that sign users in and out.

use std::time::{Duration, Instant};

use actix_web::cookie::Cookie;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentType, LOCATION, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, web};
use apikey_portal::{BoxError, SameOriginOnly, is_own_path};
use apikey_runtime::audit::ChangeOrigin;
use askama::Template;
use serde::Deserialize;

use crate::PORTAL;
use crate::attempts::{Attempts, client_at};
use crate::sessions::Sessions;
use crate::users::{Users, Verdict};

/// The limit of a form, in bytes.
const MAX_FORM: usize = 8 * 1024;

#[derive(Template, Default)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    name: &'a str,
    next: &'a str,
    message: Option<&'a str>,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Adds the routes. Forms of other sites are rejected: one could sign a visitor in as somebody else.
pub fn routes(app: &mut web::ServiceConfig, same_origin: &SameOriginOnly) {
    let login = web::resource("/login")
        .app_data(web::FormConfig::default().limit(MAX_FORM))
        .wrap(same_origin.clone())
        .route(web::get().to(show))
        .route(web::post().to(sign_in));
    let logout = web::resource("/logout")
        .wrap(same_origin.clone())
        .route(web::post().to(sign_out));
    app.service(login)
        .service(logout)
        .route("/login.css", web::get().to(style))
        .route("/login.svg", web::get().to(icon));
}

/// Returns the headers of each answer that does not set them itself.
pub fn headers(is_https: bool) -> DefaultHeaders {
    let headers = match is_https {
        // Browsers come by TLS for a year.
        true => DefaultHeaders::new().add((STRICT_TRANSPORT_SECURITY, "max-age=31536000")),
        false => DefaultHeaders::new(),
    };
    headers
        .add((
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ))
        .add((X_FRAME_OPTIONS, "DENY"))
        .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((REFERRER_POLICY, "same-origin"))
        .add((CACHE_CONTROL, "private, no-store"))
}

async fn show(wanted: web::Query<Wanted>) -> HttpResponse {
    let login = LoginPage {
        next: page_after(&wanted.next),
        ..LoginPage::default()
    };
    page(StatusCode::OK, &login)
}

/// Why a user is not signed in.
enum Refused {
    /// The name is unknown, or the password is wrong: the answer does not say which.
    Wrong,
    TooManyAttempts {
        wait: Duration,
    },
    Busy,
    Unavailable(BoxError),
}

async fn sign_in(
    request: HttpRequest,
    form: web::Form<Credentials>,
    users: web::Data<Users>,
    sessions: web::Data<Sessions>,
    attempts: web::Data<Attempts>,
) -> HttpResponse {
    let sent = form.into_inner();
    let next = page_after(&sent.next);
    let verified = verify(&request, &users, &attempts, &sent.name, sent.password).await;
    let started = match verified {
        Ok(hash) => renew(&sessions, &request, &sent.name, &hash).await,
        Err(refused) => Err(refused),
    };
    match started {
        Ok(cookie) => HttpResponse::SeeOther()
            .insert_header((LOCATION, next))
            .cookie(cookie)
            .finish(),
        Err(refused) => refused.answer(&sent.name, next),
    }
}

/// Returns the hash of the password.
async fn verify(
    request: &HttpRequest,
    users: &Users,
    attempts: &Attempts,
    name: &str,
    password: String,
) -> Result<String, Refused> {
    // The client's address, as trusted proxies name it.
    let client = ChangeOrigin::of_request(request).address.map(client_at);
    let attempt = attempts
        .count(name, client, Instant::now())
        .map_err(|wait| Refused::TooManyAttempts { wait })?;
    let verdict = users.verify(name, password, client).await;
    if !matches!(verdict, Ok(Verdict::Wrong)) {
        attempts.take_back(&attempt);
    }
    match verdict.map_err(Refused::Unavailable)? {
        Verdict::Right(hash) => Ok(hash),
        Verdict::Wrong => Err(Refused::Wrong),
        Verdict::Busy => Err(Refused::Busy),
    }
}

/// Ends the session that the browser had, and starts another.
async fn renew(
    sessions: &Sessions,
    request: &HttpRequest,
    name: &str,
    hash: &str,
) -> Result<Cookie<'static>, Refused> {
    sessions.end(request).await.map_err(Refused::Unavailable)?;
    let started = sessions.start(name, hash).await;
    started.map_err(Refused::Unavailable)?.ok_or(Refused::Wrong)
}

/// Ends the session on the server. A cookie that somebody copied does not work any more.
async fn sign_out(request: HttpRequest, sessions: web::Data<Sessions>) -> HttpResponse {
    match sessions.end(&request).await {
        Ok(()) => HttpResponse::SeeOther()
            .insert_header((LOCATION, "/login"))
            .cookie(sessions.removal())
            .finish(),
        Err(error) => Refused::Unavailable(error).answer("", PORTAL),
    }
}

impl Refused {
    fn answer(self, name: &str, next: &str) -> HttpResponse {
        let (status, wait, message) = match self {
            // Not 401, which requires a challenge: a form does not have a scheme.
            Self::Wrong => (
                StatusCode::FORBIDDEN,
                None,
                "The name or the password is wrong.",
            ),
            Self::TooManyAttempts { wait } => (
                StatusCode::TOO_MANY_REQUESTS,
                Some(wait),
                "There were too many attempts. Wait a minute, and try again.",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                Some(Duration::from_secs(2)),
                "Too many people sign in at the moment. Try again in a few seconds.",
            ),
            Self::Unavailable(error) => {
                tracing::error!(%error, "the table of users or of sessions cannot be used");
                let message = "Signing in and out does not work at the moment. Try again soon.";
                (StatusCode::SERVICE_UNAVAILABLE, None, message)
            }
        };
        let message = Some(message);
        let mut answer = page(
            status,
            &LoginPage {
                name,
                next,
                message,
            },
        );
        if let Some(wait) = wait {
            // Whole seconds, rounded up.
            let seconds = wait.as_millis().div_ceil(1000).to_string();
            if let Ok(seconds) = seconds.try_into() {
                answer.headers_mut().insert(RETRY_AFTER, seconds);
            }
        }
        answer
    }
}

/// Returns the page that a user wanted, if it is on this origin; the portal otherwise. The pages for signing in and
/// out are not pages to come back to.
fn page_after(next: &str) -> &str {
    let path = next.split(['?', '#']).next().unwrap_or(next);
    let is_of_session = ["/login", "/logout"].contains(&path);
    match is_own_path(next) && !is_of_session {
        true => next,
        false => PORTAL,
    }
}

fn page(status: StatusCode, page: &LoginPage<'_>) -> HttpResponse {
    match page.render() {
        Ok(text) => HttpResponse::build(status)
            .content_type(ContentType::html())
            .body(text),
        Err(error) => {
            tracing::error!(%error, "the page for signing in cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(include_str!("../templates/login.css"))
}

async fn icon() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("image/svg+xml")
        .body(include_str!("../templates/login.svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_back_to_a_page_that_can_be_read() {
        for page in [
            PORTAL,
            "/",
            "/account/api-keys/keys/1?a=/logout#b",
            "/logins",
        ] {
            assert_eq!(page_after(page), page);
        }
        for other in [
            "",
            "//evil.example",
            "/logout",
            "/logout?x",
            "/logout#x",
            "/login",
            "/login?next=/login",
        ] {
            assert_eq!(page_after(other), PORTAL, "{other}");
        }
    }
}
