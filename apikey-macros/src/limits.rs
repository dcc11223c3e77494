//! What a route limits keys to, and what a request costs: how it is written, and its bounds.

mod rate;

use std::ops::RangeInclusive;

use syn::{ExprPath, Ident, LitInt, LitStr, Token, parse::ParseStream, token};

use self::rate::{Fault, RateText, UNITS, WINDOWS};
use crate::{
    diagnostics::{Errors, unknown},
    options::Written,
    values,
};

/// The bursts that the runtime takes.
const BURSTS: RangeInclusive<u32> = 1..=1_000_000;

/// The costs that the runtime takes.
const COSTS: RangeInclusive<u32> = 0..=1_000_000;

/// What errors show of a rate.
const EXAMPLE: &str = r#"write one as in `"100/minute"`"#;

/// Limits as written.
#[derive(Default)]
pub(crate) struct LimitsSyntax {
    /// `rate_limit = ..`
    pub(crate) rate: Option<RateSyntax>,
    /// `burst = 20`
    pub(crate) burst: Option<LitInt>,
    /// `cost = 5`
    pub(crate) cost: Option<LitInt>,
    /// `on_limiter_down = ".."`
    pub(crate) down: Option<LitStr>,
}

/// A rate as written.
pub(crate) enum RateSyntax {
    /// `"100/minute"`
    Text(LitStr),
    /// `rates::SEARCH`
    Const(ExprPath),
}

/// Limits that the runtime takes.
pub(crate) struct Limits {
    /// How fast a key may use the route.
    pub(crate) rate: Option<Rate>,
    /// The most units at once, where that is not the rate's own.
    pub(crate) burst: Option<u32>,
    /// The units that a request takes.
    pub(crate) cost: Option<u32>,
    /// What becomes of requests that cannot be counted.
    pub(crate) down: Option<LimiterFallback>,
}

/// A rate.
pub(crate) enum Rate {
    /// In full.
    Text {
        /// The units in each window.
        amount: u32,
        /// The window, in milliseconds.
        millis: u64,
    },
    /// A const, which the compiler evaluates.
    Const(ExprPath),
}

/// What becomes of a request whose limits cannot be counted.
#[derive(Clone, Copy)]
pub(crate) enum LimiterFallback {
    /// It is refused.
    Deny,
    /// It is counted in the process.
    Local,
}

impl Limits {
    /// Whether nothing is said of limits.
    pub(crate) fn are_plain(&self) -> bool {
        let Self {
            rate,
            burst,
            cost,
            down,
        } = self;
        rate.is_none() && burst.is_none() && cost.is_none() && down.is_none()
    }

    /// Whether only the compiler can judge all of them.
    pub(crate) fn have_const(&self) -> bool {
        matches!(self.rate, Some(Rate::Const(_)))
    }
}

/// Reads what stands behind `rate_limit =`.
///
/// # Errors
///
/// It is no string and no path.
pub(crate) fn read_rate(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<RateSyntax> {
    if input.peek(LitStr) {
        return input.parse().map(RateSyntax::Text);
    }
    let path = input
        .parse()
        .map_err(|error| values::expected(written, "a string or the path of a `const`", error))?;
    if input.peek(Token![!]) || input.peek(token::Paren) {
        let what = if input.peek(Token![!]) {
            "macro"
        } else {
            "call"
        };
        let remedy = "put it into a `const` and write its path";
        return Err(input.error(format!("a {what} cannot stand here; {remedy}")));
    }
    Ok(RateSyntax::Const(path))
}

/// Reads a whole number, its bounds not yet judged.
///
/// # Errors
///
/// Anything else stands there.
pub(crate) fn read_number(written: &Written<'_>, input: ParseStream<'_>) -> syn::Result<LitInt> {
    let expected = |error| values::expected(written, "a whole number", error);
    let number: LitInt = input.parse().map_err(expected)?;
    if number.suffix().is_empty() {
        return Ok(number);
    }
    let (key, digits) = (written.key, number.base10_digits());
    let problem = format!("`{key}` takes a number without a type; write `{key} = {digits}`");
    Err(syn::Error::new(number.span(), problem))
}

/// Judges every limit, and which of them stand together. `given` are the options that were written,
/// those that could not be read too.
pub(crate) fn check(limits: &LimitsSyntax, given: &[Ident], errors: &mut Errors) -> Limits {
    let mut text = None;
    let mut rate = None;
    match &limits.rate {
        Some(RateSyntax::Text(literal)) => text = check_rate(literal, errors),
        Some(RateSyntax::Const(path)) => rate = Some(Rate::Const(path.clone())),
        None => {}
    }
    if let Some(RateText { amount, millis, .. }) = text {
        rate = Some(Rate::Text { amount, millis });
    }
    let burst = limits.burst.as_ref();
    let burst = burst.and_then(|burst| number(burst, ("burst", "20"), BURSTS, errors));
    let cost = limits.cost.as_ref();
    let cost = cost.and_then(|cost| number(cost, ("cost", "5"), COSTS, errors));
    if let (Some(text), Some(literal), Some(burst)) = (text, &limits.burst, burst) {
        check_years(text, literal, burst, errors);
    }
    let in_text = text.and_then(|text| text.burst);
    check_burst(in_text, given, errors);
    let burst = burst.or(in_text);
    let most = burst.or(text.map(|text| text.amount));
    if let (Some(literal), Some(cost), Some(most)) = (&limits.cost, cost, most) {
        check_cost(literal, cost, most, errors);
    }
    Limits {
        rate,
        burst,
        cost,
        down: limits
            .down
            .as_ref()
            .and_then(|down| check_down(down, errors)),
    }
}

fn check_rate(literal: &LitStr, errors: &mut Errors) -> Option<RateText> {
    let text = literal.value();
    match rate::parse(&text) {
        Ok(rate) => Some(rate),
        Err(fault) => {
            let tight: String = text.split(' ').collect();
            errors.on(
                literal,
                match rate::parse(&tight) {
                    Ok(_) => format!("a rate is written without spaces; write `{tight:?}`"),
                    Err(_) => rate_problem(fault),
                },
            );
            None
        }
    }
}

fn rate_problem(fault: Fault<'_>) -> String {
    match fault {
        Fault::NoSlash => {
            format!("a rate is an amount and a window, with `/` between them; {EXAMPLE}")
        }
        Fault::Amount => {
            format!("the amount of a rate is a whole number, 1 to 1,000,000; {EXAMPLE}")
        }
        Fault::Window(window) => window_problem(window),
        Fault::WindowBounds => format!("the window of a rate is 1 ms to 366 days; {EXAMPLE}"),
        Fault::TooFast => format!("a rate is one in a microsecond at most; {EXAMPLE}"),
        Fault::Burst => {
            let example = r#"write one as in `"100/minute burst 20"`"#;
            format!(
                "the burst of a rate is 1 to 1,000,000, and no more than passes in 100 years; {example}"
            )
        }
    }
}

fn window_problem(window: &str) -> String {
    if UNITS.iter().any(|(unit, _)| *unit == window) {
        return format!("the window `{window}` has no number; write `1{window}`");
    }
    let words = WINDOWS.iter().map(|(word, _)| *word);
    let problem = unknown("window", window.escape_debug(), words);
    if problem.ends_with('?') {
        return problem;
    }
    format!(r#"{problem}, or a number of `ms`, `s`, `m`, `h` or `d`; write one as in `"5/10s"`"#)
}

fn number(
    literal: &LitInt,
    (what, example): (&str, &str),
    bounds: RangeInclusive<u32>,
    errors: &mut Errors,
) -> Option<u32> {
    let number = literal.base10_parse().ok();
    let number = number.filter(|number| bounds.contains(number));
    if number.is_none() {
        let least = bounds.start();
        errors.on(
            literal,
            format!("a {what} is {least} to 1,000,000; write one as in `{what} = {example}`"),
        );
    }
    number
}

/// The runtime's own bound, past which its numbers could not hold it.
fn check_years(rate: RateText, literal: &LitInt, burst: u32, errors: &mut Errors) {
    if !rate.can_have(burst) {
        let problem =
            format!("a burst of {burst} is more than this rate lets through in 100 years");
        errors.on(literal, format!("{problem}; write a smaller one"));
    }
}

/// A burst is one of a rate, and stands in one place.
fn check_burst(in_text: Option<u32>, given: &[Ident], errors: &mut Errors) {
    let Some(key) = given.iter().rfind(|key| *key == "burst") else {
        return;
    };
    if in_text.is_some() {
        errors.on(key, "`burst` stands in `rate_limit` too; keep one");
    }
    if given.iter().all(|other| other != "rate_limit") {
        let remedy = r#"write one as in `rate_limit = "100/minute"`, or leave `burst` out"#;
        errors.on(
            key,
            format!("`burst` is one of a rate, and none is here; {remedy}"),
        );
    }
}

fn check_cost(literal: &LitInt, cost: u32, most: u32, errors: &mut Errors) {
    if cost > most {
        let problem = format!("a cost of {cost} is more than the burst of {most}");
        let remedy = format!("write `burst = {cost}`, or a cost that is no more than {most}");
        errors.on(
            literal,
            format!("{problem}: no request would pass; {remedy}"),
        );
    }
}

fn check_down(literal: &LitStr, errors: &mut Errors) -> Option<LimiterFallback> {
    match literal.value().as_str() {
        "deny" => Some(LimiterFallback::Deny),
        "local" => Some(LimiterFallback::Local),
        other => {
            let known = ["deny", "local"].into_iter();
            errors.on(literal, unknown("value", other.escape_debug(), known));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<String> {
        rate::parse(text).err().map(rate_problem)
    }

    #[test]
    fn rates() {
        let read = |text| rate::parse(text).map(|rate| (rate.amount, rate.millis, rate.burst));
        assert_eq!(read("100/minute"), Ok((100, 60_000, None)));
        assert_eq!(read("5/10s"), Ok((5, 10_000, None)));
        assert_eq!(read("1000000/1s burst 1"), Ok((1_000_000, 1_000, Some(1))));
        assert_eq!(read("1/366d burst 100"), Ok((1, 31_622_400_000, Some(100))));
        assert_eq!(read("1000/1ms"), Ok((1_000, 1, None)));
    }

    #[test]
    fn what_is_no_rate_says_what_to_write() {
        for (text, said) in [
            ("", "`/` between"),
            ("100", "`/` between"),
            ("0/minute", "the amount"),
            ("1_000/minute", "the amount"),
            ("1000001/minute", "the amount"),
            ("100 /minute", "the amount"),
            ("100/ minute", "unknown window"),
            ("100/minutes", "did you mean `minute`?"),
            ("100/month", "known: `second`, `minute`, `hour`, `day`"),
            ("100/0s", "1 ms to 366 days"),
            ("100/367d", "1 ms to 366 days"),
            ("1001/1ms", "one in a microsecond"),
            ("100/minute burst 0", "the burst"),
            ("1/366d burst 101", "100 years"),
            ("100/minute burst", "unknown window"),
            ("100/s", "write `1s`"),
        ] {
            let problem = problem(text).unwrap();
            assert!(problem.contains(said), "{text}: {problem}");
            let helps = problem.contains("write") || problem.contains("did you mean");
            assert!(helps, "{text}: {problem}");
        }
    }
}
