//! The audit of one pattern.

use actix_http::Request;
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::introspection::IntrospectionNode;

use super::guards::GuardHeaders;
use super::place::Place;
use super::probe::{Probe, Sent, send};
use super::report::OpenRoute;
use super::{OpenNames, sample};

/// The methods that each route is asked for, beside those that its guards name.
pub(super) const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// A method that only a route for every method takes.
const ANY_METHOD: &str = "AUDIT-ROUTES";

/// What the requests of one method found.
struct MethodAudit {
    method: Method,
    /// Whether a guard of this crate refused one that reached the route.
    is_refused: bool,
    /// The first answer that was not a refusal.
    open: Option<String>,
    /// Whether the route has handlers for other methods only.
    is_not_allowed: bool,
    /// The last answer from elsewhere.
    elsewhere: Option<String>,
}

/// Audits all routes of one pattern.
pub(super) async fn audit_route<S, B>(
    app: &S,
    place: &Place<'_>,
    open: &mut OpenNames,
    found: &mut Vec<OpenRoute>,
) where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let node = place.node;
    let pattern = &node.full_path;
    let paths = sample::paths(pattern);
    if paths.is_empty() {
        let problem = "could not be checked, since the audit knows no path that fits its pattern";
        return found.push(OpenRoute::new(pattern, problem));
    }
    let guards = GuardHeaders::of(&place.guards());
    let (mut audits, mut is_before_routing) = (Vec::new(), place.is_before_routing_certain());
    for method in methods(node) {
        if open.have(&method, pattern) {
            continue;
        }
        let mut audit = MethodAudit::new(method);
        for headers in guards.of_method(&audit.method) {
            let (mut paths, mut next) = (paths.clone(), 0);
            while let Some(path) = paths.get(next).cloned() {
                next += 1;
                let probe = Probe::new(audit.method.clone(), path.clone(), headers.clone());
                let sent = send(app, &probe).await;
                is_before_routing &= sent.is_refused && sent.is_before_routing();
                if audit.add(&sent, place, &path) {
                    break;
                }
                // Middleware may leave some paths of the route open.
                for open in sent.open.patterns() {
                    for path in sample::shared(pattern, open) {
                        if !paths.contains(&path) {
                            paths.push(path);
                        }
                    }
                }
            }
        }
        audits.push(audit);
    }
    found.extend(open_methods(node, &audits));
    match guards.unknown.first() {
        Some(guard) if !is_before_routing => {
            found.push(OpenRoute::new(pattern, unknown_guard(guard)));
        }
        _ => found.extend(unreached(node, &audits)),
    }
}

/// Returns the methods to try: all that are known, those of the guards, and one that is not known.
fn methods(node: &IntrospectionNode) -> Vec<Method> {
    let any = Method::from_bytes(ANY_METHOD.as_bytes()).ok();
    let mut methods: Vec<Method> = METHODS.into_iter().chain(any).collect();
    for method in &node.methods {
        if !methods.contains(method) {
            methods.push(method.clone());
        }
    }
    methods
}

impl MethodAudit {
    fn new(method: Method) -> Self {
        Self {
            method,
            is_refused: false,
            open: None,
            is_not_allowed: false,
            elsewhere: None,
        }
    }

    /// Adds an answer. Returns whether the request reached the route, so that other paths need not be
    /// tried.
    fn add(&mut self, sent: &Sent, place: &Place<'_>, path: &str) -> bool {
        let node = place.node;
        let is_here = if sent.has_matched() {
            is_at(sent, place)
        } else {
            sent.is_refused && is_around(sent, node, path)
        };
        if !is_here {
            self.elsewhere = Some(sent.answer());
            return false;
        }
        if sent.is_refused {
            self.is_refused = true;
            // Middleware may let another path pass.
            return sent.has_matched() && sent.open.is_empty();
        }
        let is_listed = node.methods.contains(&self.method);
        // The whole path of a scope is matched also if its default service answers.
        let may_be_default = node.patterns.iter().any(String::is_empty);
        match sent.status {
            Some(StatusCode::METHOD_NOT_ALLOWED) if !is_listed => self.is_not_allowed = true,
            Some(StatusCode::NOT_FOUND) if !is_listed && may_be_default => {
                self.is_not_allowed = true;
            }
            _ => {
                let answer = sent.answer();
                self.open.get_or_insert(answer);
            }
        }
        true
    }
}

/// Returns whether an answer came from a route of this pattern.
fn is_at(sent: &Sent, place: &Place<'_>) -> bool {
    let Some(pattern) = &sent.pattern else {
        return true;
    };
    let node = place.node;
    // A path without parameters is refused, whichever route takes it.
    if *pattern == node.full_path || (sent.is_refused && !node.full_path.contains('{')) {
        return true;
    }
    // A resource of several patterns has the name of its first.
    let has_this_end = |end: &String| !end.is_empty() && pattern.ends_with(end.as_str());
    let is_of_several = node.patterns.len() > 1 && node.patterns.iter().any(has_this_end);
    is_of_several || !place.has_route(pattern)
}

/// Returns whether middleware around the app, or around a scope that this pattern is in, answered.
fn is_around(sent: &Sent, node: &IntrospectionNode, path: &str) -> bool {
    let full = node.full_path.as_str();
    if sent.is_before_routing() || !full.contains('{') {
        return true;
    }
    let Some((_, matched)) = sent.unmatched else {
        return false;
    };
    let path = sample::decode(path);
    let scopes = full.match_indices('/').map(|(at, _)| &full[..at]);
    scopes.into_iter().any(|scope| {
        if !scope.contains('{') {
            // Whichever scope took this part takes it from every path of the pattern.
            return matched == scope.len();
        }
        let takes = |pattern: &String| {
            let rest = pattern.strip_prefix(scope);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        sent.pattern.as_ref().is_some_and(takes)
            && sample::matched_prefix(scope, &path) == Some(matched)
    })
}

fn open_methods(node: &IntrospectionNode, audits: &[MethodAudit]) -> Vec<OpenRoute> {
    let open = |audit: &MethodAudit| {
        let name = format!("{} {}", audit.method, node.full_path);
        audit
            .open
            .as_ref()
            .map(|answer| OpenRoute::new(name, answer))
    };
    let any = audits.iter().find(|audit| audit.method == ANY_METHOD);
    match any.and_then(|any| any.open.as_ref()) {
        Some(answer) => vec![OpenRoute::new(&node.full_path, answer)],
        None => audits.iter().filter_map(open).collect(),
    }
}

/// Returns the listed methods that no request reached the route with.
fn unreached(node: &IntrospectionNode, audits: &[MethodAudit]) -> Vec<OpenRoute> {
    let is_reached = |audit: &MethodAudit| audit.is_refused || audit.open.is_some();
    let problem = |audit: &MethodAudit| {
        let answer = audit.elsewhere.as_deref().unwrap_or("answered 405");
        format!("could not be checked, since no request reached it; something else {answer}")
    };
    if node.methods.is_empty() {
        let has_no_route =
            node.guards.is_empty() && audits.iter().all(|audit| audit.is_not_allowed);
        return match audits.first() {
            Some(first) if !has_no_route && !audits.iter().any(is_reached) => {
                vec![OpenRoute::new(&node.full_path, problem(first))]
            }
            _ => Vec::new(),
        };
    }
    let listed = audits
        .iter()
        .filter(|audit| node.methods.contains(&audit.method) && !is_reached(audit));
    let route = |audit: &MethodAudit| {
        let name = format!("{} {}", audit.method, node.full_path);
        OpenRoute::new(name, problem(audit))
    };
    listed.map(route).collect()
}

pub(super) fn unknown_guard(guard: &str) -> String {
    format!("could not be checked, since the audit cannot meet its guard: {guard}")
}
