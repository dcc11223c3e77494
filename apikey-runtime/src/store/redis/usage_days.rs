//! The days that have usage.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::connection::LONG_DEADLINE;
use super::read::ids;
use super::server::Server;
use crate::error::StoreError;

/// The days among `wanted` on which anything was used.
pub(super) async fn days(
    server: &Server,
    doing: &str,
    wanted: RangeInclusive<i64>,
) -> Result<Vec<i64>, StoreError> {
    let mut list = redis::cmd("ZRANGE");
    list.arg(server.names.usage_days()).arg(0).arg(-1);
    let (value, _) = server.calls.call(doing, [list], LONG_DEADLINE).await?.one();
    let days = ids(doing, value)?;
    let days = days.iter().filter_map(|day| parsed(day));
    Ok(days.filter(|day| wanted.contains(day)).collect())
}

pub(super) fn parsed<N: FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
