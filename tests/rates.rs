//! The attribute's limits: a rate reads in the attribute as it does anywhere else, and what was
//! written is what the route demands.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use actix_web::get;
use apikey_runtime::{Guarded, LimiterFallback, Policy, Rate, RoutePolicy, api_key_required};

/// The attribute's own reading of a rate.
#[path = "../apikey-macros/src/limits/rate.rs"]
mod grammar;

/// What both readings make of `text`: amount, milliseconds and burst.
fn readings(text: &str) -> [Option<(u32, u128, u32)>; 2] {
    let attribute = grammar::parse(text).ok().map(|rate| {
        let burst = rate.burst.unwrap_or(rate.amount);
        (rate.amount, u128::from(rate.millis), burst)
    });
    let runtime = text.parse::<Rate>().ok();
    let runtime = runtime.map(|rate| (rate.amount(), rate.window().as_millis(), rate.burst()));
    [attribute, runtime]
}

#[test]
fn the_attribute_takes_the_rates_that_the_runtime_takes() {
    for text in [
        "100/minute",
        "1/second",
        "5/hour",
        "7/day",
        "5/10s",
        "20/500ms",
        "3/15m",
        "4/2h",
        "1/366d",
        "1/8784h",
        "1000000/second",
        "1000/1ms",
        "007/010s",
        "1/second burst 30",
        "100/minute burst 1000000",
        "9/1s burst 09",
        "1/366d burst 100",
    ] {
        let [attribute, runtime] = readings(text);
        assert!(attribute.is_some(), "{text}");
        assert_eq!(attribute, runtime, "{text}");
    }
}

#[test]
fn the_attribute_refuses_the_rates_that_the_runtime_refuses() {
    for text in [
        "",
        "/",
        "100",
        "100/",
        "/minute",
        "0/minute",
        "00/minute",
        "1000001/day",
        "4294967296/day",
        "99999999999999999999/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "1_000/s",
        "1/s/s",
        "100/Minute",
        "100/minutes",
        "100/fortnight",
        "100/s",
        "100/1",
        "100/ 1s",
        "100/1 s",
        "100/1S",
        "100/-1s",
        "100/+1s",
        "100/0s",
        "100/0ms",
        "1001/1ms",
        "1/367d",
        "1/31622400001ms",
        "1/99999999999999999999h",
        "1/18446744073709551615d",
        "2/1µs",
        "٣/minute",
        " 100/minute",
        "100/minute ",
        "100 / minute",
        "100/minute\n",
        "100/minute\0",
        "100/minute burst",
        "100/minute burst ",
        "100/minute burst 0",
        "100/minute burst -1",
        "100/minute burst 1000001",
        "100/minute  burst 1",
        "100/minute burst  1",
        "100/minute burst 1 ",
        "100/minute burst 1 burst 2",
        "100/minute Burst 1",
        " burst 1",
        "1/366d burst 101",
    ] {
        assert_eq!(readings(text), [None, None], "{text:?}");
    }
}

/// Texts of the grammar's own pieces, most of them in the right order: many are rates, and many
/// nearly so.
#[test]
fn no_text_is_a_rate_to_one_of_them_alone() {
    const NUMBERS: [&str; 10] = [
        "1", "0", "20", "999", "1000000", "366", "86400", "007", "", "-1",
    ];
    const UNITS: [&str; 12] = [
        "second", "minute", "hour", "day", "ms", "s", "m", "h", "d", "", "ä", "min",
    ];
    const BETWEEN: [&str; 6] = ["/", "/", "/", "/", "//", " / "];
    const BURSTS: [&str; 4] = ["", " burst ", " burst ", " burst  "];
    let mut state = 0x7261_7465_7261_7465_u64;
    let mut pick = |from: &[&'static str]| {
        // xorshift64*: a failure is found again with the same seed.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let number = usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap();
        from[number % from.len()]
    };
    let (mut rates, mut others) = (0, 0);
    for _ in 0..100_000 {
        let (amount, between, count) = (pick(&NUMBERS), pick(&BETWEEN), pick(&NUMBERS));
        let (unit, burst, units) = (pick(&UNITS), pick(&BURSTS), pick(&NUMBERS));
        let units = if burst.is_empty() { "" } else { units };
        let text = format!("{amount}{between}{count}{unit}{burst}{units}");
        let [attribute, runtime] = readings(&text);
        assert_eq!(attribute, runtime, "{text:?}");
        *if runtime.is_some() {
            &mut rates
        } else {
            &mut others
        } += 1;
    }
    assert!(rates > 1_000 && others > 1_000, "{rates} {others}");
}

/// The policy of a handler.
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
            .name("rates::written")
            .rate_limit(rate("100/minute burst 20"))
            .cost(5)
            .on_limiter_down(LimiterFallback::Local)
    );
    assert_eq!(
        policy_of(by_const),
        Policy::new()
            .name("rates::by_const")
            .rate_limit(SEARCH.with_burst(20))
    );
    assert_eq!(
        policy_of(r#type),
        Policy::new()
            .name("rates::type")
            .rate_limit(rate("3/7200s burst 9"))
    );
    // Without a rate there is nothing to count under a name of its own.
    assert_eq!(policy_of(unlimited), Policy::new().cost(0));
    assert_eq!(
        policy_of(inside::handler),
        Policy::new()
            .name("rates::inside::handler")
            .rate_limit(Rate::per_second(5))
    );
}

/// Two rates of one handler are counted apart.
#[test]
fn m12_two_guards_have_two_names() {
    /// The policies of the lower guard and of the one above it.
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
                .name("rates::twice")
                .rate_limit(Rate::per_hour(100)),
            Policy::new()
                .name("rates::twice#2")
                .rate_limit(Rate::per_second(5)),
        ]
    );
    let _ = inside::routed;
}

/// A request that can never pass is found where the route is made.
#[test]
#[should_panic(expected = "write a larger burst, or a smaller cost")]
fn a_cost_above_the_burst_is_refused() {
    let _ = Policy::new().cost(21).rate_limit(SEARCH.with_burst(20));
}
