//! The headers that meet the guards of routes.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::introspection::{GuardDetailReport, GuardReport};

/// The largest number of combinations of headers that are sent to one route.
const MAX_COMBINATIONS: usize = 256;

/// What makes a request of `OPTIONS` a preflight, which a guard may allow.
const PREFLIGHT: [(HeaderName, &str); 2] = [
    (header::ORIGIN, "https://audit-routes.example"),
    (header::ACCESS_CONTROL_REQUEST_METHOD, "GET"),
];

/// Headers of a request.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

/// How the guards of a pattern are met.
pub(super) struct GuardHeaders {
    /// Each combination of the headers that guards look at, also without each of them.
    pub(super) combinations: Vec<Headers>,
    /// The guards that the audit does not know.
    pub(super) unknown: Vec<String>,
}

impl GuardHeaders {
    pub(super) fn of(guards: &[GuardReport]) -> Self {
        let mut known: Vec<(HeaderName, Vec<HeaderValue>)> = Vec::new();
        let mut unknown = Vec::new();
        for guard in guards {
            match headers(guard) {
                Some(headers) => headers
                    .into_iter()
                    .for_each(|header| add(&mut known, header)),
                None => unknown.push(guard.name.clone()),
            }
        }
        let count = known.iter().map(|(_, values)| values.len() + 1);
        let count = count.fold(1, usize::saturating_mul);
        if count > MAX_COMBINATIONS {
            unknown.push(format!("{count} combinations of headers"));
            known.clear();
        }
        Self {
            combinations: combinations(&known),
            unknown,
        }
    }

    /// Returns the combinations for a method: for `OPTIONS`, also those of a CORS preflight.
    pub(super) fn of_method(&self, method: &Method) -> Vec<Headers> {
        let mut all = self.combinations.clone();
        if *method == Method::OPTIONS {
            all.extend(self.combinations.iter().map(|headers| {
                let mut headers = headers.clone();
                for (name, value) in PREFLIGHT {
                    headers.push((name, HeaderValue::from_static(value)));
                }
                headers
            }));
        }
        all
    }
}

fn add(known: &mut Vec<(HeaderName, Vec<HeaderValue>)>, (name, value): (HeaderName, HeaderValue)) {
    match known.iter_mut().find(|(one, _)| *one == name) {
        Some((_, values)) if values.contains(&value) => {}
        Some((_, values)) => values.push(value),
        None => known.push((name, vec![value])),
    }
}

/// Returns the headers that decide about a guard; `None` if it is not known.
fn headers(guard: &GuardReport) -> Option<Headers> {
    // The name of an application's guard is the path of its type, also inside `Any`, `All` and `Not`.
    if guard.details.is_empty() || guard.name.contains("::") {
        return None;
    }
    let mut headers = Vec::new();
    for detail in &guard.details {
        match detail {
            GuardDetailReport::HttpMethods { .. } => {}
            GuardDetailReport::Headers { headers: listed } => {
                for listed in listed {
                    headers.push(header(&listed.name, &listed.value)?);
                }
            }
            GuardDetailReport::Generic { value } => headers.extend(generic(value)?),
            _ => return None,
        }
    }
    Some(headers)
}

/// Returns the header of a detail that is only text; `Some(None)` if it does not need one.
fn generic(detail: &str) -> Option<Option<(HeaderName, HeaderValue)>> {
    if let Some(mime) = detail.strip_prefix("mime=") {
        return header("accept", mime).map(Some);
    }
    if detail == "match_star_star=true" || detail.starts_with("scheme=") {
        return Some(None);
    }
    let inside = detail.strip_prefix("Not(")?.strip_suffix(')')?;
    let argument = |kind: &str| inside.strip_prefix(kind)?.strip_suffix(')');
    if let Some((name, value)) = argument("Header(").and_then(|pair| pair.split_once(", ")) {
        return header(name, value).map(Some);
    }
    if let Some(host) = argument("Host(").filter(|host| !host.contains(',')) {
        return header("host", host).map(Some);
    }
    // Every method is tried anyway.
    inside.parse::<Method>().is_ok().then_some(None)
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn combinations(known: &[(HeaderName, Vec<HeaderValue>)]) -> Vec<Headers> {
    let Some(((name, values), others)) = known.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for other in combinations(others) {
        for value in values {
            let mut headers = vec![(name.clone(), value.clone())];
            headers.extend(other.iter().cloned());
            all.push(headers);
        }
        all.push(other);
    }
    all
}
