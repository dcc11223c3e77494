//! The attribute parses a rate as the runtime's `Rate` does.

use apikey_runtime::Rate;

use super::parse;

/// Returns the amount, milliseconds and burst that the attribute and the runtime parse from `text`.
fn readings(text: &str) -> [Option<(u32, u128, u32)>; 2] {
    let attribute = parse(text).ok().map(|rate| {
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

/// Combines pieces of the grammar, most of them in a valid order, so that many of the texts are
/// rates and many are almost rates.
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
        // xorshift64* with a fixed seed, so that failures are reproducible.
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
