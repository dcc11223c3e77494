//! `apikey keys usage`.

use apikey_runtime::Timestamp;
use apikey_runtime::usage::UsageCounts;
use serde_json::Value;

use crate::args::{UsageArguments, UsageUnit};
use crate::duration::Moment;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Cell, Column, Row};
use crate::session::Session;

const BY_TIME: &[Column] = &[
    Column::shown("start"),
    Column::shown("requests"),
    Column::shown("cost"),
    Column::shown("denied"),
    Column::detail("denied_reasons"),
];

const BY_ROUTE: &[Column] = &[
    Column::shown("route"),
    Column::shown("requests"),
    Column::shown("cost"),
    Column::shown("denied"),
    Column::detail("denied_reasons"),
];

/// The default span.
const SPAN: Moment = Moment::Span(std::time::Duration::from_secs(30 * 86_400));

pub(super) async fn run(session: &Session, arguments: &UsageArguments) -> Result<(), Failure> {
    // A key without usage, and one that does not exist, would look the same.
    session.manager.get(arguments.id).await?;
    let now = session.now();
    let from = arguments.from.unwrap_or(SPAN).before(now);
    let to = match arguments.to {
        Some(to) => to.before(now),
        // The hour that has begun.
        None => Timestamp::from_millis(now.as_millis().saturating_add(1)),
    };
    if from >= to {
        let cause = format!("`--from` ({from}) is not before `--to` ({to})");
        return Err(Failure::usage(cause).remedy("write an earlier `--from`, or a later `--to`"));
    }
    let report = session
        .manager
        .usage(arguments.id)
        .between(from, to)
        .await?;
    let (columns, rows) = match arguments.by {
        UsageUnit::Hour | UsageUnit::Day => {
            let intervals = match arguments.by {
                UsageUnit::Hour => report.by_hour(),
                _ => report.by_day(),
            };
            let rows = intervals.into_iter().map(|interval| {
                row(
                    interval.start.to_string(),
                    interval.start.into(),
                    &interval.counts,
                )
            });
            (BY_TIME, rows.collect::<Vec<_>>())
        }
        UsageUnit::Route => {
            let rows = report
                .by_route()
                .into_iter()
                .map(|usage| row(usage.route.clone(), usage.route.into(), &usage.counts));
            (BY_ROUTE, rows.collect())
        }
    };
    let is_empty = rows.is_empty();
    let mut writer = session.output.rows(columns);
    for row in rows {
        writer.write(row)?;
    }
    writer.finish()?;
    if is_empty {
        let interval = session.manager.config().usage_flush_interval();
        notice::note(&format!(
            "the store has no usage of the key in this time; a server holds usage in memory for about {interval:?} \
             (`usage_flush_interval_ms`) before it writes it"
        ));
    }
    Ok(())
}

fn row(id: String, first: Cell, counts: &UsageCounts) -> Row {
    let reasons = counts
        .denied
        .iter()
        .map(|(reason, count)| (reason.code().to_owned(), Value::from(*count)));
    let cells = vec![
        first,
        counts.requests.into(),
        counts.cost.into(),
        counts.denials().into(),
        Cell::Json(Value::Object(reasons.collect())),
    ];
    Row::new(id, cells)
}
