//! The options `rate_limit`, `burst`, `cost` and `on_limiter_down`: their syntax and their bounds.

mod rate;

use std::ops::RangeInclusive;

use syn::{ExprPath, Ident, LitInt, LitStr, Token, parse::ParseStream, token};

use self::rate::{ParseRateError, ParsedRate, UNITS, WINDOWS};
use crate::{
    diagnostics::{Errors, unknown},
    values::{self, WrittenOption},
};

/// The bursts that the runtime accepts.
const BURSTS: RangeInclusive<u32> = 1..=1_000_000;

/// The costs that the runtime accepts.
const COSTS: RangeInclusive<u32> = 0..=1_000_000;

/// The remedy in errors about a rate.
const EXAMPLE: &str = r#"write a rate such as `"100/minute"`"#;

/// The limits as written, not yet validated.
#[derive(Default)]
pub(crate) struct LimitsSyntax {
    /// `rate_limit = ..`
    pub(crate) rate: Option<RateSyntax>,
    /// `burst = 20`
    pub(crate) burst: Option<LitInt>,
    /// `cost = 5`
    pub(crate) cost: Option<LitInt>,
    /// `on_limiter_down = ".."`
    pub(crate) on_limiter_down: Option<LitStr>,
}

/// A rate as written, not yet validated.
pub(crate) enum RateSyntax {
    /// `"100/minute"`
    Text(LitStr),
    /// `rates::SEARCH`
    Const(ExprPath),
}

/// Validated limits, which the runtime accepts.
pub(crate) struct Limits {
    /// The rate of each key on the route.
    pub(crate) rate: Option<RateExpr>,
    /// The burst, from the option or the rate's text; `None` for the rate's default.
    pub(crate) burst: Option<u32>,
    /// The units that each request is charged.
    pub(crate) cost: Option<u32>,
    /// The fallback while the store cannot count.
    pub(crate) fallback: Option<LimiterFallback>,
}

/// A validated rate.
pub(crate) enum RateExpr {
    /// A rate written as text.
    Text {
        /// The units per window.
        amount: u32,
        /// The window, in milliseconds.
        millis: u64,
    },
    /// A const, which rustc evaluates.
    Const(ExprPath),
}

/// The fallback for requests while the store cannot count their limits.
#[derive(Clone, Copy)]
pub(crate) enum LimiterFallback {
    /// Denies the request.
    Deny,
    /// Counts in the process.
    Local,
}

impl Limits {
    /// Returns whether no option about limits was written.
    pub(crate) fn is_default(&self) -> bool {
        let Self {
            rate,
            burst,
            cost,
            fallback,
        } = self;
        rate.is_none() && burst.is_none() && cost.is_none() && fallback.is_none()
    }

    /// Returns whether rustc must evaluate a const to validate the limits.
    pub(crate) fn has_const(&self) -> bool {
        matches!(self.rate, Some(RateExpr::Const(_)))
    }
}

/// Parses the value of `rate_limit`.
///
/// # Errors
///
/// Returns an error if the value is neither a string nor a path.
pub(crate) fn parse_rate(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<RateSyntax> {
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
        let remedy = "move it into a `const` and write the path of that `const`";
        return Err(input.error(format!("a {what} is not supported here; {remedy}")));
    }
    Ok(RateSyntax::Const(path))
}

/// Parses a whole number without validating its bounds.
///
/// # Errors
///
/// Returns an error if the value is anything else, or a number with a type suffix.
pub(crate) fn parse_number(
    written: &WrittenOption<'_>,
    input: ParseStream<'_>,
) -> syn::Result<LitInt> {
    let expected = |error| values::expected(written, "a whole number", error);
    let number: LitInt = input.parse().map_err(expected)?;
    if number.suffix().is_empty() {
        return Ok(number);
    }
    let (key, digits) = (written.key, number.base10_digits());
    let problem = format!("`{key}` takes a number without a type suffix; write `{key} = {digits}`");
    Err(syn::Error::new(number.span(), problem))
}

/// Validates every limit and their combination.
///
/// `given` contains the names of all options as written, including those with invalid values.
pub(crate) fn check(limits: &LimitsSyntax, given: &[Ident], errors: &mut Errors) -> Limits {
    let mut text = None;
    let mut rate = None;
    match &limits.rate {
        Some(RateSyntax::Text(literal)) => text = check_rate(literal, errors),
        Some(RateSyntax::Const(path)) => rate = Some(RateExpr::Const(path.clone())),
        None => {}
    }
    if let Some(ParsedRate { amount, millis, .. }) = text {
        rate = Some(RateExpr::Text { amount, millis });
    }
    let burst = limits.burst.as_ref();
    let burst = burst.and_then(|burst| check_number(burst, ("burst", "20"), BURSTS, errors));
    let cost = limits.cost.as_ref();
    let cost = cost.and_then(|cost| check_number(cost, ("cost", "5"), COSTS, errors));
    if let (Some(text), Some(literal), Some(burst)) = (text, &limits.burst, burst) {
        check_burst_duration(text, literal, burst, errors);
    }
    let in_text = text.and_then(|text| text.burst);
    check_burst_placement(in_text, given, errors);
    let burst = burst.or(in_text);
    let most = burst.or(text.map(|text| text.amount));
    if let (Some(literal), Some(cost), Some(most)) = (&limits.cost, cost, most) {
        check_cost(literal, cost, most, errors);
    }
    Limits {
        rate,
        burst,
        cost,
        fallback: limits
            .on_limiter_down
            .as_ref()
            .and_then(|literal| check_fallback(literal, errors)),
    }
}

fn check_rate(literal: &LitStr, errors: &mut Errors) -> Option<ParsedRate> {
    let text = literal.value();
    match rate::parse(&text) {
        Ok(rate) => Some(rate),
        Err(error) => {
            let tight: String = text.split(' ').collect();
            errors.on(
                literal,
                match rate::parse(&tight) {
                    Ok(_) => format!("unexpected spaces in the rate; write `{tight:?}`"),
                    Err(_) => rate_problem(error),
                },
            );
            None
        }
    }
}

fn rate_problem(error: ParseRateError<'_>) -> String {
    match error {
        ParseRateError::MissingSlash => {
            format!("a rate is an amount and a window separated by `/`; {EXAMPLE}")
        }
        ParseRateError::InvalidAmount => {
            format!("the amount of a rate must be a whole number from 1 to 1,000,000; {EXAMPLE}")
        }
        ParseRateError::UnknownWindow(window) => window_problem(window),
        ParseRateError::WindowOutOfRange => {
            format!("the window of a rate must be from 1 ms to 366 days; {EXAMPLE}")
        }
        ParseRateError::TooFast => {
            format!("a rate cannot exceed one unit per microsecond; {EXAMPLE}")
        }
        ParseRateError::InvalidBurst => {
            let example = r#"write a rate such as `"100/minute burst 20"`"#;
            let problem = "the burst of a rate must be from 1 to 1,000,000";
            format!("{problem}, and at most what the rate allows in 100 years; {example}")
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
    format!(r#"{problem}, or a number of `ms`, `s`, `m`, `h` or `d`; write it as in `"5/10s"`"#)
}

fn check_number(
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
            format!(
                "`{what}` must be from {least} to 1,000,000; write it as in `{what} = {example}`"
            ),
        );
    }
    number
}

/// Enforces the runtime's bound, above which its integers would overflow.
fn check_burst_duration(rate: ParsedRate, literal: &LitInt, burst: u32, errors: &mut Errors) {
    if !rate.allows_burst(burst) {
        let problem = format!("a burst of {burst} is more than this rate allows in 100 years");
        errors.on(literal, format!("{problem}; write a smaller burst"));
    }
}

/// Rejects a `burst` without a rate, and one whose rate contains a burst already.
fn check_burst_placement(in_text: Option<u32>, given: &[Ident], errors: &mut Errors) {
    let Some(key) = given.iter().rfind(|key| *key == "burst") else {
        return;
    };
    if in_text.is_some() {
        errors.on(
            key,
            "`rate_limit` contains a burst already; remove one of them",
        );
    }
    if given.iter().all(|other| other != "rate_limit") {
        let remedy = r#"add one, such as `rate_limit = "100/minute"`, or remove `burst`"#;
        errors.on(key, format!("`burst` requires `rate_limit`; {remedy}"));
    }
}

fn check_cost(literal: &LitInt, cost: u32, most: u32, errors: &mut Errors) {
    if cost > most {
        let problem = format!("a cost of {cost} exceeds the burst of {most}");
        let remedy = format!("write `burst = {cost}`, or a cost of at most {most}");
        errors.on(
            literal,
            format!("{problem}, so every request would be denied; {remedy}"),
        );
    }
}

fn check_fallback(literal: &LitStr, errors: &mut Errors) -> Option<LimiterFallback> {
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
            ("", "separated by `/`"),
            ("100", "separated by `/`"),
            ("0/minute", "the amount"),
            ("1_000/minute", "the amount"),
            ("1000001/minute", "the amount"),
            ("100 /minute", "the amount"),
            ("100/ minute", "unknown window"),
            ("100/minutes", "did you mean `minute`?"),
            (
                "100/month",
                "known windows: `second`, `minute`, `hour`, `day`",
            ),
            ("100/0s", "from 1 ms to 366 days"),
            ("100/367d", "from 1 ms to 366 days"),
            ("1001/1ms", "one unit per microsecond"),
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
