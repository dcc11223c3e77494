//! Checks of rates that change, and of denied charges.

use std::sync::Arc;
use std::time::Duration;

use super::charges::{alike, charge, counting, model_time};
use super::records::add;
use super::samples::{id, plain};
use super::{CheckResult, CheckVerdict, ensure};
use crate::limit::{CounterState, Quota, Rate};
use crate::store::{Charge, KeyStore, LimitCounter, LimitSupport};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A rate of five units, at once or in this many days.
fn five_in(days: u32) -> Rate {
    Rate::new(5, DAY * days)
}

/// A key's own rate can change while the key is in use. The arrival time carries on, and only an
/// allowed charge changes it.
pub(super) async fn a_changed_rate_carries_on_and_a_denied_charge_changes_nothing(
    store: Arc<dyn KeyStore>,
) -> CheckResult {
    let store = &*store;
    let limits = counting!(store);
    add(store, &plain(1)).await?;
    if limits.support() != LimitSupport::All {
        return Ok(CheckVerdict::Passed);
    }
    let empty = LimitCounter::new("empty", Quota::lifetime(1));
    charge(limits, id(1), 1, &[&empty]).await?;
    let (slow, shorter, fast) = (five_in(300), five_in(260), five_in(100));
    let mut model = [CounterState::default(), CounterState::default()];
    model[1].used = 1;
    for (rate, cost, beside_empty, why) in [
        (slow, 5, false, "an unused rate allows its burst"),
        (slow, 1, false, "a rate that is used up denies"),
        (
            shorter,
            1,
            false,
            "what exceeds the burst by less than the charge takes up passes by itself",
        ),
        (fast, 6, false, "a charge above the burst is denied"),
        (slow, 0, false, "a denied charge changes nothing"),
        (fast, 1, true, "another limit denies"),
        (
            slow,
            0,
            false,
            "a charge that another limit denies changes nothing",
        ),
        (
            fast,
            1,
            false,
            "what exceeds the burst by more allows one charge",
        ),
        (fast, 1, false, "and after it the rate is used up"),
        (
            slow,
            0,
            false,
            "an allowed charge lowers the arrival time to its burst",
        ),
        (slow, 3, false, "a slower rate carries on"),
        (slow, 1, false, "and is used up again"),
    ] {
        let mut counters = vec![LimitCounter::new("changed", rate)];
        if beside_empty {
            counters.push(empty.clone());
        }
        let references: Vec<_> = counters.iter().collect();
        let said = charge(limits, id(1), cost, &references).await?;
        let one = Charge::new(id(1), cost, counters);
        let expected = one.apply(&mut model, model_time());
        ensure!(
            alike(&said, &expected),
            "{why}: a charge of {cost} to `{rate}` must return {expected:?}; got {said:?}"
        );
    }
    Ok(CheckVerdict::Passed)
}
