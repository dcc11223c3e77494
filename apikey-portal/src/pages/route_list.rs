//! The guarded handlers of the program.

use actix_web::web;

/// Adds the route of this page, if the program lists its guarded handlers.
pub(crate) fn routes(app: &mut web::ServiceConfig) {
    #[cfg(feature = "routes")]
    app.service(super::resource::shown("/routes", listed::show));
    #[cfg(not(feature = "routes"))]
    let _ = app;
}

#[cfg(feature = "routes")]
mod listed {
    use actix_web::HttpResponse;
    use actix_web::http::StatusCode;
    use apikey_runtime::LimiterFallback;
    use apikey_runtime::routes::{GuardedRoute, RouteDemands};
    use askama::Template;

    use crate::error::{PageError, html};
    use crate::may::may_administer;
    use crate::pages::frame::Frame;
    use crate::visit::Visit;

    #[derive(Template)]
    #[template(path = "routes.html")]
    struct RouteListPage<'a> {
        frame: Frame<'a>,
        rows: Vec<RouteRow>,
    }

    struct RouteRow {
        handler: String,
        place: String,
        /// Methods and patterns.
        patterns: Vec<(&'static str, &'static str)>,
        /// What each guard demands, in words.
        demands: Vec<Vec<String>>,
    }

    /// Shows the handlers, with their files: for admins alone.
    pub(super) async fn show(visit: Visit) -> Result<HttpResponse, PageError> {
        may_administer(&visit.person)?;
        let page = RouteListPage {
            frame: Frame::new(&visit.state, Some(&visit.person)),
            rows: apikey_runtime::routes()
                .into_iter()
                .map(RouteRow::of)
                .collect(),
        };
        Ok(html(StatusCode::OK, &page))
    }

    impl RouteRow {
        fn of(route: GuardedRoute) -> Self {
            let patterns = route.patterns.iter();
            Self {
                patterns: patterns.map(|one| (one.method, one.pattern)).collect(),
                demands: route.demands.iter().map(words).collect(),
                place: format!("{}:{}", route.file, route.line),
                handler: route.handler,
            }
        }
    }

    /// Returns what a guard demands, in words.
    fn words(demands: &RouteDemands) -> Vec<String> {
        let mut words = vec![match &demands.scopes {
            Some(scopes) => format!("scopes: {scopes}"),
            None => "any key".to_owned(),
        }];
        let list = |name: &str, items: &[&str]| {
            (!items.is_empty()).then(|| format!("{name}: {}", items.join(", ")))
        };
        let flag = |is_set: bool, text: &str| is_set.then(|| text.to_owned());
        let locations: Vec<_> = demands.locations.iter().map(String::as_str).collect();
        let others = [
            flag(demands.optional, "also without a key"),
            list("key in", &locations),
            list("methods", demands.methods),
            flag(demands.require_https, "only with TLS"),
            demands.prefix.map(|prefix| format!("prefix: {prefix}")),
            demands
                .environment
                .map(|name| format!("environment: {name}")),
            demands.rate_limit.map(|rate| format!("rate: {rate}")),
            (demands.cost != 1).then(|| format!("cost: {}", demands.cost)),
            flag(demands.fresh, "reads the store for each request"),
            flag(
                demands.on_limiter_down == LimiterFallback::Local,
                "counts limits by itself if they cannot be counted together",
            ),
        ];
        words.extend(others.into_iter().flatten());
        words
    }
}
