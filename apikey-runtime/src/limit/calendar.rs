//! Periods of the UTC calendar.

use super::quota::QuotaPeriod;
use crate::clock::calendar::{first_day_of, month_of};

/// Returns the number of the period that contains `millis`.
pub(super) fn period_of(period: QuotaPeriod, millis: i64) -> i64 {
    match period {
        QuotaPeriod::Day => millis.div_euclid(86_400_000),
        QuotaPeriod::Month => month_of(millis.div_euclid(86_400_000)),
        QuotaPeriod::Rolling(_) | QuotaPeriod::Lifetime => 0,
    }
}

/// Returns the end of the period that contains `millis`.
pub(super) fn end_of(period: QuotaPeriod, millis: i64) -> Option<i64> {
    let day = millis.div_euclid(86_400_000);
    let first_day = match period {
        QuotaPeriod::Day => day + 1,
        QuotaPeriod::Month => first_day_of(month_of(day) + 1),
        QuotaPeriod::Rolling(_) | QuotaPeriod::Lifetime => return None,
    };
    first_day.checked_mul(86_400_000)
}
