//! Negative controls: stores that charge incorrectly are detected.

use super::{LEASE, On, credits, hourly, judged, nodes};
use crate::harness::control::in_turn;
use crate::harness::node::Charging;
use crate::harness::settings::Settings;
use crate::harness::spending::Plan;
use crate::harness::spending::judge::Broken;

/// Returns a violation in the result of `plan`, on a store that charges like this.
async fn careless(charging: Charging, plan: &Plan) -> Option<Vec<Broken>> {
    let settings = Settings {
        charging,
        ..Settings::calm(plan.nodes, LEASE)
    };
    let cluster = nodes(On::Sqlite, "", settings).await?;
    Some(judged(&cluster, plan).await.1)
}

/// Panics unless `sign` shows in a store that charges like this, and not in a sound one.
fn is_found_out(charging: Charging, plan: &Plan, sign: impl Fn(&Broken) -> bool) {
    in_turn(async {
        let Some(sound) = careless(Charging::Soundly, plan).await else {
            return;
        };
        assert_eq!(sound, [], "a sound store");
        let broken = careless(charging, plan).await.unwrap();
        assert!(
            broken.iter().any(sign),
            "{charging:?} is not detected; the only violations are: {broken:?}"
        );
    });
}

#[test]
fn a_quota_that_is_looked_at_and_then_charged_is_found_out() {
    for quota in [1, 100] {
        let plan = Plan::of(3, [credits(quota)]);
        is_found_out(Charging::AfterALook, &plan, |broken| {
            matches!(broken, Broken::TooMany { .. })
        });
    }
}

#[test]
fn limits_that_are_charged_one_by_one_are_found_out() {
    let plan = Plan::of(3, [credits(100), hourly(60)]);
    is_found_out(Charging::OneByOne, &plan, |broken| {
        matches!(broken, Broken::Unlike { .. })
    });
}
