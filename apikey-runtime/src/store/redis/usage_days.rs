//! The days that have usage.

use std::ops::RangeInclusive;
use std::str::FromStr;

use redis::Value;

use super::connection::LONG_DEADLINE;
use super::read::read_value;
use super::server::Server;
use crate::error::StoreError;

/// The days among `wanted` on which anything was used, and whose usage has not expired.
pub(super) async fn days(
    server: &Server,
    doing: &str,
    wanted: RangeInclusive<i64>,
) -> Result<Vec<i64>, StoreError> {
    let mut list = redis::cmd("ZRANGE");
    list.arg(server.names.usage_days()).arg(0).arg(-1);
    list.arg("WITHSCORES");
    let commands = [redis::cmd("TIME"), list];
    let answers = server.calls.call(doing, commands, LONG_DEADLINE).await?;
    let mut values = answers.values.into_iter();
    let mut next = || values.next().unwrap_or(Value::Nil);
    let (seconds, _): (f64, f64) = read_value(doing, next())?;
    let days: Vec<(Vec<u8>, f64)> = read_value(doing, next())?;
    let kept = days.iter().filter(|(_, ends)| *ends > seconds * 1_000.0);
    let days = kept.filter_map(|(day, _)| parsed(day));
    Ok(days.filter(|day| wanted.contains(day)).collect())
}

pub(super) fn parsed<N: FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
