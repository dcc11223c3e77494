//! The grammar of a rate, as the runtime's `Rate` reads it from a text. A test compares the two.

#[cfg(test)]
mod tests;

/// The largest amount, and the largest burst.
const LARGEST: u64 = 1_000_000;

/// The longest window: 366 days.
const LONGEST_MILLIS: u64 = 366 * 24 * 3_600 * 1_000;

/// The longest that a burst may take to be worked off: 100 years, in microseconds.
const LONGEST_BURST: u64 = 100 * 366 * 24 * 3_600 * 1_000_000;

/// Windows that are words, in milliseconds.
pub(crate) const WINDOWS: [(&str, u64); 4] = [
    ("second", 1_000),
    ("minute", 60_000),
    ("hour", 3_600_000),
    ("day", 86_400_000),
];

/// The units of windows that are numbers, in milliseconds.
pub(crate) const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A rate that the runtime takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateText {
    /// The units in each window.
    pub(crate) amount: u32,
    /// The window, in milliseconds.
    pub(crate) millis: u64,
    /// The most units at once, where the text says.
    pub(crate) burst: Option<u32>,
}

/// Why a text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault<'a> {
    /// No `/` stands between the amount and the window.
    NoSlash,
    /// The amount is no whole number of 1 to 1,000,000.
    Amount,
    /// The window is no word and no number that is known.
    Window(&'a str),
    /// The window is not 1 ms to 366 days.
    WindowBounds,
    /// It is more than one in a microsecond.
    TooFast,
    /// The burst is no whole number of 1 to 1,000,000, or more than passes in 100 years.
    Burst,
}

impl RateText {
    /// Whether the rate lets through so many units in 100 years.
    pub(crate) fn can_have(self, burst: u32) -> bool {
        let step = (self.millis * 1_000).div_ceil(u64::from(self.amount));
        step.saturating_mul(u64::from(burst)) <= LONGEST_BURST
    }
}

/// Reads `100/minute`, `5/10s` or `100/minute burst 20`.
///
/// # Errors
///
/// The first part that is wrong, from the left.
pub(crate) fn parse(text: &str) -> Result<RateText, Fault<'_>> {
    let (pace, burst) = match text.split_once(" burst ") {
        Some((pace, burst)) => (pace, Some(burst)),
        None => (text, None),
    };
    let (amount, window) = pace.split_once('/').ok_or(Fault::NoSlash)?;
    let amount = units(amount).ok_or(Fault::Amount)?;
    let millis = window_millis(window).ok_or(Fault::Window(window))?;
    if !(1..=LONGEST_MILLIS).contains(&millis) {
        return Err(Fault::WindowBounds);
    }
    if millis * 1_000 < u64::from(amount) {
        return Err(Fault::TooFast);
    }
    let rate = RateText {
        amount,
        millis,
        burst: None,
    };
    let Some(burst) = burst else {
        return Ok(rate);
    };
    let burst = units(burst).filter(|burst| rate.can_have(*burst));
    Ok(RateText {
        burst: Some(burst.ok_or(Fault::Burst)?),
        ..rate
    })
}

fn units(text: &str) -> Option<u32> {
    let units = whole(text).filter(|units| (1..=LARGEST).contains(units))?;
    u32::try_from(units).ok()
}

/// A number written in digits alone.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn window_millis(text: &str) -> Option<u64> {
    let named = |(name, millis): &(&str, u64)| (*name == text).then_some(*millis);
    if let Some(millis) = WINDOWS.iter().find_map(named) {
        return Some(millis);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    whole(count)?.checked_mul(*millis)
}
