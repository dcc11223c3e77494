//! An API with a free and a paid plan: rate limits, quotas, usage, and a page of metrics.
//!
//! ```sh
//! cargo run -p metered                       # creates a key of each plan at the first start, and serves
//! cargo run -p metered -- new-key free       # creates another key of a plan and prints it
//! ```
//!
//! Requests to try:
//!
//! ```sh
//! curl -i -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/work      # or /heavy, which costs 5 units
//! curl    -H "Authorization: Bearer $KEY" http://127.0.0.1:8080/usage     # or /usage.svg?api_key=.. in a browser
//! curl http://127.0.0.1:8080/metrics                                      # for Prometheus
//! ```
//!
//! `free` allows 10 requests a minute (10 at once, then one every 6 seconds) and 100 a day; `paid`
//! allows 1000 a minute. Reading the usage is free. Usage and the daily quota are kept in the file
//! across restarts. On SQLite each process counts rates by itself, so a restart resets them.
//! `/metrics` is open here; expose it only to your internal network.
//!
//! Optional variables: `PORT` (8080 by default, 0 for a free port) and `APIKEYS_DB` (`apikeys.db`
//! by default).

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use actix_web::error::ErrorInternalServerError;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Responder, get, web};
use apikey_runtime::usage::UsageInterval;
use apikey_runtime::{
    ApiKey, ApiKeyExt, ApiKeyManager, Config, KeyHeaders, Limit, Quota, Rate, SqliteStore,
    Timestamp, api_key_required,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;

const HOUR_MILLIS: i64 = 3_600_000;

/// Number of hours in the chart.
const HOURS: i64 = 24;

/// Returns the limits of a plan, or `None` if the plan does not exist.
fn plan(name: &str) -> Option<Vec<Limit>> {
    match name {
        "free" => Some(vec![
            Limit::new("minute", Rate::per_minute(10)),
            Limit::new("daily", Quota::per_day(100)),
        ]),
        "paid" => Some(vec![Limit::new("minute", Rate::per_minute(1_000))]),
        _ => None,
    }
}

#[get("/work")]
#[api_key_required]
async fn work(key: ApiKey) -> impl Responder {
    format!("work done for {}\n", key.label())
}

#[get("/heavy")]
#[api_key_required(cost = 5)]
async fn heavy(key: ApiKey) -> impl Responder {
    format!("heavy work done for {}\n", key.label())
}

#[get("/usage")]
#[api_key_required(cost = 0)]
async fn own_usage(
    key: ApiKey,
    manager: web::Data<ApiKeyManager>,
    request: HttpRequest,
) -> actix_web::Result<impl Responder> {
    let usage = manager.usage(key.id()).await?;
    Ok(web::Json(json!({
        "key": key.id(),
        "plan": key.label(),
        "limits": request.limit_status(),
        "last_30_days": usage.total(),
        "by_hour": usage.by_hour(),
        "by_day": usage.by_day(),
        "by_route": usage.by_route(),
    })))
}

// A browser cannot send the header when it loads an image, so the query string is accepted too.
#[get("/usage.svg")]
#[api_key_required(cost = 0, locations = [bearer, query("api_key")])]
async fn usage_chart(
    key: ApiKey,
    manager: web::Data<ApiKeyManager>,
) -> actix_web::Result<impl Responder> {
    let now = Timestamp::from(std::time::SystemTime::now()).as_millis();
    let first = now.div_euclid(HOUR_MILLIS) + 1 - HOURS;
    let from = Timestamp::from_millis(first * HOUR_MILLIS);
    let to = Timestamp::from_millis((first + HOURS) * HOUR_MILLIS);
    let usage = manager.usage(key.id()).between(from, to).await?;
    Ok(HttpResponse::Ok()
        .content_type("image/svg+xml")
        .body(chart(first, &usage.by_hour()).map_err(ErrorInternalServerError)?))
}

#[get("/metrics")]
async fn metrics(recorder: web::Data<PrometheusHandle>) -> impl Responder {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body(recorder.render())
}

/// Draws one bar for each hour: allowed requests, and denied requests above them. All inserted values
/// are numbers, so nothing needs to be escaped.
fn chart(first: i64, hours: &[UsageInterval]) -> Result<String, std::fmt::Error> {
    let mut bars = vec![(0, 0); 24];
    for hour in hours {
        let place = hour.start.as_millis().div_euclid(HOUR_MILLIS) - first;
        if let Some(bar) = usize::try_from(place)
            .ok()
            .and_then(|place| bars.get_mut(place))
        {
            let denied = hour
                .counts
                .denied
                .iter()
                .map(|(_, count)| count)
                .sum::<u64>();
            *bar = (hour.counts.requests, denied);
        }
    }
    let highest = bars
        .iter()
        .map(|(passed, denied)| passed + denied)
        .max()
        .unwrap_or(0)
        .max(1);
    let height = |count: u64| count as f64 * 100.0 / highest as f64;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 510 150\" font-family=\"sans-serif\" font-size=\"11\">\
         <title>Requests of the last 24 hours</title>",
    );
    for (place, (passed, denied)) in bars.into_iter().enumerate() {
        let (x, top) = (place * 20 + 20, 120.0 - height(passed));
        let hour = (first + place as i64).rem_euclid(24);
        write!(
            svg,
            "<g><title>{hour}:00 UTC: {passed} allowed, {denied} denied</title>\
             <rect x=\"{x}\" y=\"{top:.1}\" width=\"16\" height=\"{:.1}\" fill=\"#2b6cb0\"/>\
             <rect x=\"{x}\" y=\"{:.1}\" width=\"16\" height=\"{:.1}\" fill=\"#c05621\"/></g>",
            height(passed),
            top - height(denied),
            height(denied),
        )?;
        if hour % 6 == 0 {
            write!(svg, "<text x=\"{x}\" y=\"135\">{hour}:00</text>")?;
        }
    }
    write!(
        svg,
        "<text x=\"20\" y=\"12\">scale: {highest} an hour; \
         <tspan fill=\"#2b6cb0\">allowed</tspan>, <tspan fill=\"#c05621\">denied</tspan></text></svg>"
    )?;
    Ok(svg)
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Install the recorder before the manager, which registers its metrics when it starts.
    let recorder = PrometheusBuilder::new().install_recorder()?;
    let upkeep = recorder.clone();
    actix_web::rt::spawn(async move {
        loop {
            actix_web::rt::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    let path = std::env::var("APIKEYS_DB").unwrap_or_else(|_| "apikeys.db".to_owned());
    let manager = ApiKeyManager::builder()
        .config(Config::from_env()?)
        .store(SqliteStore::new(&path))
        .start()
        .await?;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["new-key", name @ ("free" | "paid")] => {
            make_key(&manager, name).await?;
            return Ok(manager.shutdown().await?);
        }
        _ => return Err("usage: metered [new-key free|paid]".into()),
    }
    for name in ["free", "paid"] {
        let made = manager.list().label(name).page_size(1).await?.keys;
        if made.is_empty() {
            make_key(&manager, name).await?;
        } else {
            println!(
                "A key of the plan {name} exists in {path}; its secret cannot be shown again."
            );
            println!("Create another key: cargo run -p metered -- new-key {name}");
        }
    }

    let app = manager.clone();
    let server = HttpServer::new(move || {
        App::new()
            .wrap(KeyHeaders)
            .configure(|config| app.init_app(config))
            .app_data(web::Data::new(recorder.clone()))
            .service((work, heavy, own_usage, usage_chart, metrics))
    })
    .bind(("127.0.0.1", port()?))?;
    let address = server
        .addrs()
        .first()
        .copied()
        .ok_or("no address was bound")?;
    println!("listening on http://{address}");
    server.run().await?;
    // Writes the usage that is still in memory.
    manager.shutdown().await?;
    Ok(())
}

async fn make_key(manager: &ApiKeyManager, name: &str) -> Result<(), Box<dyn Error>> {
    let limits = plan(name).ok_or("unknown plan; choose `free` or `paid`")?;
    let key = manager.create(name).limits(limits).await?;
    println!("{name}: {}", key.expose_secret());
    Ok(())
}

fn port() -> Result<u16, Box<dyn Error>> {
    match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| format!("PORT is `{port}`; write a number from 0 to 65535").into()),
        Err(_) => Ok(8080),
    }
}
