//! The audit of a default service: of the app, or of a scope.

use actix_http::Request;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::Method;
use actix_web::introspection::ResourceType;

use super::guards::GuardHeaders;
use super::place::Place;
use super::probe::{Look, Probe, Sent, send};
use super::report::OpenRoute;
use super::routes::{METHODS, unknown_guard};
use super::{OpenNames, sample};

/// What follows the pattern of a scope, in the order of the attempts. A route with parameters takes paths
/// of its own depth only.
const ABSENT: [&str; 4] = [
    "/audit-routes-default",
    "/audit-routes-default/x/y/z",
    "/audit-routes-default/x/y/z/x/y/z/x/y",
    "/",
];

const HIDDEN: &str = "could not be checked, since no request reached it";

/// The answers of the default service of the app.
#[derive(Default)]
pub(super) struct AppDefault(Vec<(Method, Look)>);

/// Audits the default service of the scope that a place may be, or of the app.
pub(super) async fn audit_default<S, B>(
    app: &S,
    place: &Place<'_>,
    open: &mut OpenNames,
    of_app: &mut AppDefault,
    found: &mut Vec<OpenRoute>,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let pattern = place.default_pattern();
    let guards = GuardHeaders::of(&place.guards());
    let (mut answers, mut is_before_routing) = (Vec::new(), place.is_before_routing_certain());
    let prefixes = match place.is_app() {
        true => vec![String::new()],
        false => sample::paths(&place.node.full_path),
    };
    let may_have_default = place.may_be_scope() && !place.is_part();
    let is_left_with_nothing = !may_have_default || is_all_taken(place, &prefixes);
    for method in METHODS {
        let (mut answer, mut is_reached) = (None, is_left_with_nothing);
        for prefix in &prefixes {
            let length = sample::decode(prefix).len();
            for headers in &guards.combinations {
                let mut paths = ABSENT.map(|absent| below(prefix, absent)).to_vec();
                paths.reverse();
                let mut is_passed = false;
                while let Some(path) = paths.pop() {
                    let sent = send(app, &Probe::new(method.clone(), path, headers.clone())).await;
                    is_before_routing &= sent.is_refused && sent.is_before_routing();
                    if sent.is_open_default(length) && !of_app.is_that_of(place, &method, &sent) {
                        answer.get_or_insert(sent.answer());
                    }
                    if sent.has_passed_routes(length) && !is_passed {
                        is_passed = true;
                        paths = left_open(&sent, prefix);
                        of_app.add(place, &method, sent);
                    }
                }
                is_reached |= is_passed;
            }
        }
        if !is_reached {
            answer.get_or_insert(HIDDEN.to_owned());
        }
        let answer = answer.filter(|_| !open.have(&method, &pattern));
        answers.extend(answer.map(|answer| (method, answer)));
    }
    let is_scope = matches!(place.node.kind, ResourceType::Scope);
    let has_guard = is_scope && !place.node.guard_details.is_empty();
    if let (Some(guard), true, false) = (guards.unknown.first(), has_guard, is_before_routing) {
        if !open.has(&pattern) {
            found.push(OpenRoute::new(pattern, unknown_guard(guard)));
        }
        return;
    }
    report(pattern, answers, found);
}

/// Adds what a default service answered: one entry if it answered each method.
fn report(pattern: String, answers: Vec<(Method, String)>, found: &mut Vec<OpenRoute>) {
    match answers.first() {
        Some((_, answer)) if answers.len() == METHODS.len() => {
            found.push(OpenRoute::new(pattern, answer));
        }
        _ => found.extend(
            answers
                .into_iter()
                .map(|(method, answer)| OpenRoute::new(format!("{method} {pattern}"), answer)),
        ),
    }
}

impl AppDefault {
    fn add(&mut self, place: &Place<'_>, method: &Method, sent: Sent) {
        if let (true, Some(look)) = (place.is_app(), sent.look) {
            self.0.push((method.clone(), look));
        }
    }

    /// Returns whether an answer below a scope came from the default service of the app, which a
    /// scope without its own has. An answer without a body, or with a stream, does not show it.
    fn is_that_of(&self, place: &Place<'_>, method: &Method, sent: &Sent) -> bool {
        let is_same = |(known, look): &(Method, Look)| {
            known == method && !look.body.is_empty() && sent.look.as_ref() == Some(look)
        };
        !place.is_app() && self.0.iter().any(is_same)
    }
}

/// Returns the paths below a prefix that the middleware which refused a request leaves open.
fn left_open(sent: &Sent, prefix: &str) -> Vec<String> {
    let is_below = |path: &String| {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let paths = sent.open.patterns().flat_map(sample::paths);
    paths.filter(is_below).collect()
}

fn below(prefix: &str, absent: &str) -> String {
    format!("{}{absent}", prefix.trim_end_matches('/'))
}

/// Returns whether a route takes each path, as `/{tail}*` does, so that a default service is left with
/// nothing.
fn is_all_taken(place: &Place<'_>, prefixes: &[String]) -> bool {
    let mut deep = Vec::new();
    for prefix in prefixes {
        let absent = ABSENT.iter().filter(|absent| **absent != "/");
        deep.extend(absent.map(|absent| sample::decode(&below(prefix, absent))));
    }
    let takes = |route: &str| deep.iter().all(|path| sample::is_match(route, path));
    !deep.is_empty() && place.routes().into_iter().any(takes)
}
