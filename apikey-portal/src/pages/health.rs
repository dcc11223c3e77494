//! The state of the manager and its store.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use apikey_runtime::manager::StoreHealth;
use apikey_runtime::store::Node;
use apikey_runtime::{Error, Health};
use askama::Template;

use super::frame::Frame;
use super::kept::keeps_usage;
use super::moment::Moment;
use super::resource::shown;
use super::text;
use crate::error::{Chain, PageError, html};
use crate::may::may_administer;
use crate::visit::Visit;

/// Adds the route of this page.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(shown("/health", show));
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage<'a> {
    frame: Frame<'a>,
    now: Moment,
    is_ready: bool,
    /// Whether all classes of calls work.
    is_whole: bool,
    calls: [StoreCalls; 5],
    lease: String,
    last_poll: String,
    protocol: Option<u32>,
    cached_keys: usize,
    cache_capacity: usize,
    hit_rate: String,
    checks: u64,
    nodes: Result<Vec<NodeRow>, &'static str>,
}

/// One class of calls of the store.
struct StoreCalls {
    name: &'static str,
    is_up: bool,
    state: String,
}

/// A node that uses the store.
struct NodeRow {
    id: String,
    state: &'static str,
    protocol: u32,
}

/// Shows the manager's health. A store that does not answer is what the page tells, not an error of it.
async fn show(visit: Visit) -> Result<HttpResponse, PageError> {
    may_administer(&visit.person)?;
    let manager = &visit.state.manager;
    let health = manager.health();
    let nodes = manager.members().await;
    let page = HealthPage::of(&visit, &health, nodes, keeps_usage(&visit).await);
    Ok(html(StatusCode::OK, &page))
}

impl<'a> HealthPage<'a> {
    fn of(
        visit: &'a Visit,
        health: &Health,
        nodes: Result<Vec<Node>, Error>,
        keeps_usage: bool,
    ) -> Self {
        let calls = [
            StoreCalls::of("Changes are followed", &health.store)
                .if_kept(health.lease_length.is_some()),
            StoreCalls::of("Keys are read", &health.reads),
            StoreCalls::of("Keys are changed", &health.writes),
            StoreCalls::of("Limits are counted", &health.charges),
            StoreCalls::of("Usage is written", &health.usage).if_kept(keeps_usage),
        ];
        Self {
            frame: Frame::new(&visit.state, Some(&visit.person)),
            now: Moment::exact(visit.now()),
            is_ready: health.is_ready(),
            is_whole: calls.iter().all(|calls| calls.is_up),
            calls,
            lease: lease(health),
            last_poll: match health.last_answer {
                Some(ago) => format!("answered {} ago", span(ago)),
                None => "not answered yet".to_owned(),
            },
            protocol: health.unsupported_protocol,
            cached_keys: health.cached_keys,
            cache_capacity: health.cache_capacity,
            hit_rate: match health.hit_rate() {
                Some(rate) => format!("{:.1} %", rate * 100.0),
                None => "not known before the first check".to_owned(),
            },
            checks: health.cache_hits.saturating_add(health.cache_misses),
            nodes: nodes
                .map(|nodes| nodes.iter().map(NodeRow::of).collect())
                .map_err(|error| match error {
                    Error::Unsupported(_) => "The store does not keep a list of nodes.",
                    error => {
                        tracing::warn!(error = %Chain(&error), "the page of the health shows no nodes");
                        "The list of nodes cannot be read at the moment."
                    }
                }),
        }
    }
}

impl StoreCalls {
    fn of(name: &'static str, health: &StoreHealth) -> Self {
        let state = match health {
            StoreHealth::Up => "yes".to_owned(),
            StoreHealth::Down { elapsed, reason } => {
                format!("no, for {}: {reason}", span(*elapsed))
            }
            StoreHealth::ShutDown => "no: the manager was shut down".to_owned(),
            // A state of a later release.
            _ => "not known".to_owned(),
        };
        Self {
            name,
            is_up: *health == StoreHealth::Up,
            state,
        }
    }

    /// Returns what is told of calls that are not made if the store does not keep what they are for.
    fn if_kept(mut self, is_kept: bool) -> Self {
        if !is_kept && self.is_up {
            self.state = "not kept by the store".to_owned();
        }
        self
    }
}

impl NodeRow {
    fn of(node: &Node) -> Self {
        Self {
            id: node.id.to_string(),
            state: match node.suspected {
                true => "does not answer the others",
                false => "alive",
            },
            protocol: node.protocol,
        }
    }
}

fn lease(health: &Health) -> String {
    match (health.lease_remaining, health.lease_length) {
        (Some(left), Some(length)) => format!(
            "The cache is trusted for another {} (of {}), and for longer with each answered poll.",
            span(left),
            span(length)
        ),
        (None, Some(length)) => format!(
            "The lease of {} has ended: the cache is not trusted, and each request asks the store.",
            span(length)
        ),
        _ => "The store does not keep a change log: each request asks the store.".to_owned(),
    }
}

/// Returns a span in one unit, rounded down.
fn span(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{} s", millis / 1_000),
        _ => text::span(i64::try_from(millis).unwrap_or(i64::MAX)),
    }
}
