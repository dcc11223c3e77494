//! The grammar of a rate, which is that of the runtime's `Rate`. A test compares the two.

#[cfg(test)]
mod tests;

/// The largest amount and the largest burst.
const LARGEST: u64 = 1_000_000;

/// The longest window: 366 days.
const MAX_MILLIS: u64 = 366 * 24 * 3_600 * 1_000;

/// The longest time that a full burst may take to drain: 100 years, in microseconds.
const MAX_BURST: u64 = 100 * 366 * 24 * 3_600 * 1_000_000;

/// Named windows, in milliseconds.
pub(crate) const WINDOWS: [(&str, u64); 4] = [
    ("second", 1_000),
    ("minute", 60_000),
    ("hour", 3_600_000),
    ("day", 86_400_000),
];

/// The units of numeric windows, in milliseconds.
pub(crate) const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A rate that the runtime accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParsedRate {
    /// The units per window.
    pub(crate) amount: u32,
    /// The window, in milliseconds.
    pub(crate) millis: u64,
    /// The burst, if the text contains one.
    pub(crate) burst: Option<u32>,
}

/// The reason why a text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseRateError<'a> {
    /// The amount and the window are not separated by `/`.
    MissingSlash,
    /// The amount is not a whole number from 1 to 1,000,000.
    InvalidAmount,
    /// The window is neither a known word nor a number with a known unit.
    UnknownWindow(&'a str),
    /// The window is not from 1 ms to 366 days.
    WindowOutOfRange,
    /// The rate exceeds one unit per microsecond.
    TooFast,
    /// The burst is not a whole number from 1 to 1,000,000, or exceeds what the rate allows in 100
    /// years.
    InvalidBurst,
}

impl ParsedRate {
    /// Returns whether the rate allows `burst` units within 100 years.
    pub(crate) fn allows_burst(self, burst: u32) -> bool {
        let step = (self.millis * 1_000).div_ceil(u64::from(self.amount));
        step.saturating_mul(u64::from(burst)) <= MAX_BURST
    }
}

/// Parses `100/minute`, `5/10s` or `100/minute burst 20`.
///
/// # Errors
///
/// Returns a [`ParseRateError`] for the first invalid part, from the left.
pub(crate) fn parse(text: &str) -> Result<ParsedRate, ParseRateError<'_>> {
    let (base, burst) = match text.split_once(" burst ") {
        Some((base, burst)) => (base, Some(burst)),
        None => (text, None),
    };
    let (amount, window) = base.split_once('/').ok_or(ParseRateError::MissingSlash)?;
    let amount = parse_units(amount).ok_or(ParseRateError::InvalidAmount)?;
    let millis = parse_window(window).ok_or(ParseRateError::UnknownWindow(window))?;
    if !(1..=MAX_MILLIS).contains(&millis) {
        return Err(ParseRateError::WindowOutOfRange);
    }
    if millis * 1_000 < u64::from(amount) {
        return Err(ParseRateError::TooFast);
    }
    let rate = ParsedRate {
        amount,
        millis,
        burst: None,
    };
    let Some(burst) = burst else {
        return Ok(rate);
    };
    let burst = parse_units(burst).filter(|burst| rate.allows_burst(*burst));
    Ok(ParsedRate {
        burst: Some(burst.ok_or(ParseRateError::InvalidBurst)?),
        ..rate
    })
}

fn parse_units(text: &str) -> Option<u32> {
    let units = parse_digits(text).filter(|units| (1..=LARGEST).contains(units))?;
    u32::try_from(units).ok()
}

/// Parses a number that consists of digits only.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn parse_window(text: &str) -> Option<u64> {
    let named = |(name, millis): &(&str, u64)| (*name == text).then_some(*millis);
    if let Some(millis) = WINDOWS.iter().find_map(named) {
        return Some(millis);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    parse_digits(count)?.checked_mul(*millis)
}
