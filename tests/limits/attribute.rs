//! Limits of the attribute: the policy has what the options say.

use actix_web::get;
use apikey_runtime::{Guarded, LimiterFallback, Policy, Rate, RoutePolicy, api_key_required};

/// Returns the policy of a handler.
fn policy_of<P: RoutePolicy, T, F, R>(_: F) -> Policy
where
    F: Fn(Guarded<P, T>) -> R,
{
    P::POLICY
}

const SEARCH: Rate = Rate::per_minute(100);

#[api_key_required(
    rate_limit = "100/minute",
    burst = 20,
    cost = 5,
    on_limiter_down = "local"
)]
async fn written() -> &'static str {
    "written"
}

#[api_key_required(rate_limit = SEARCH, burst = 20)]
async fn by_const() -> &'static str {
    "const"
}

#[api_key_required(rate_limit = "3/2h burst 9")]
async fn r#type() -> &'static str {
    "type"
}

#[api_key_required(cost = 0, on_limiter_down = "deny")]
async fn unlimited() -> &'static str {
    "unlimited"
}

#[api_key_required(rate_limit = "5/second")]
#[api_key_required(rate_limit = "100/hour")]
async fn twice() -> &'static str {
    "twice"
}

mod inside {
    use super::{api_key_required, get};

    #[api_key_required(rate_limit = "5/second")]
    pub(super) async fn handler() -> &'static str {
        "inside"
    }

    #[get("/routed")]
    #[api_key_required(rate_limit = "5/second")]
    pub(super) async fn routed() -> &'static str {
        "routed"
    }
}

#[test]
fn what_is_written_is_what_the_route_demands() {
    let rate = |text: &str| text.parse::<Rate>().unwrap();
    assert_eq!(
        policy_of(written),
        Policy::new()
            .name("limits::attribute::written")
            .rate_limit(rate("100/minute burst 20"))
            .cost(5)
            .on_limiter_down(LimiterFallback::Local)
    );
    assert_eq!(
        policy_of(by_const),
        Policy::new()
            .name("limits::attribute::by_const")
            .rate_limit(SEARCH.with_burst(20))
    );
    assert_eq!(
        policy_of(r#type),
        Policy::new()
            .name("limits::attribute::type")
            .rate_limit(rate("3/7200s burst 9"))
    );
    // Without a rate there is nothing to name.
    assert_eq!(policy_of(unlimited), Policy::new().cost(0));
    assert_eq!(
        policy_of(inside::handler),
        Policy::new()
            .name("limits::attribute::inside::handler")
            .rate_limit(Rate::per_second(5))
    );
}

/// Two rates of one handler are counted separately.
#[test]
fn m12_two_guards_have_two_names() {
    /// Returns the policies of the lower guard and of the one above it.
    fn policies_of<P: RoutePolicy, Q: RoutePolicy, F, R>(_: F) -> [Policy; 2]
    where
        F: Fn(Guarded<P, (Guarded<Q, ()>,)>) -> R,
    {
        [P::POLICY, Q::POLICY]
    }
    assert_eq!(
        policies_of(twice),
        [
            Policy::new()
                .name("limits::attribute::twice")
                .rate_limit(Rate::per_hour(100)),
            Policy::new()
                .name("limits::attribute::twice#2")
                .rate_limit(Rate::per_second(5)),
        ]
    );
    let _ = inside::routed;
}

/// A request that can never pass is rejected when the route is built.
#[test]
#[should_panic(expected = "write a larger burst, or a smaller cost")]
fn a_cost_above_the_burst_is_refused() {
    let _ = Policy::new().cost(21).rate_limit(SEARCH.with_burst(20));
}
