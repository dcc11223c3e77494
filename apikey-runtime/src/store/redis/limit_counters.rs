//! What was used of limits: a hash for each key, with a field for each limit.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::connection::DEADLINE;
use super::script::{self, ScriptCall};
use super::server::{Server, answer};
use crate::error::StoreError;
use crate::key::KeyId;
use crate::limit::{CounterState, LimitRule, Quota, QuotaPeriod, Rate};
use crate::store::{Charge, ChargeOutcome, LimitCounter, LimitStore, LimitSupport};

#[async_trait]
impl LimitStore for RedisStore {
    fn support(&self) -> LimitSupport {
        LimitSupport::All
    }

    async fn charge(&self, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
        self::charge(&*self.server()?, charge).await
    }

    async fn refill(
        &self,
        key: &KeyId,
        counter: &LimitCounter,
        amount: u64,
    ) -> Result<(), StoreError> {
        self::refill(&*self.server()?, key, counter, amount).await
    }
}

async fn charge(server: &Server, charge: &Charge) -> Result<ChargeOutcome, StoreError> {
    if charge.counters.is_empty() {
        return Ok(ChargeOutcome::new(true, Vec::new()));
    }
    let doing = "charging limits";
    // Without a time, the script takes the server's.
    let run = ScriptCall::new(&script::CHARGE)
        .key(server.names.limit_counters(&charge.key))
        .argument("")
        .argument(charge.cost);
    let run = charge.counters.iter().fold(run, |run, counter| {
        let (kind, numbers) = described(counter.rule(), charge.cost);
        run.argument(counter.name())
            .argument(kind)
            .argument(numbers[0])
            .argument(numbers[1])
    });
    let answered = server.calls.run(doing, &run, DEADLINE).await;
    let answered = answered.map_err(|failure| failure.of_record(charge.key.as_str()))?;
    let answer = answer(doing, answered)?;
    let allowed = match answer.word.as_str() {
        "admitted" => true,
        "denied" => false,
        _ => return Err(broken(&charge.key)),
    };
    let [now, counts @ ..] = answer.rest.as_slice() else {
        return Err(broken(&charge.key));
    };
    let now = number(now).ok_or_else(|| broken(&charge.key))?;
    let counts = charge.counters.iter().zip(counts);
    let counts: Option<Vec<_>> = counts
        .map(|(counter, text)| count(counter.rule(), text))
        .collect();
    let counts = counts
        .filter(|counts| counts.len() == charge.counters.len())
        .ok_or_else(|| broken(&charge.key))?;
    Ok(charge.answer(allowed, &counts, now))
}

async fn refill(
    server: &Server,
    key: &KeyId,
    counter: &LimitCounter,
    amount: u64,
) -> Result<(), StoreError> {
    let doing = "giving back what was used of a limit";
    let (kind, _) = described(counter.rule(), 0);
    let run = ScriptCall::new(&script::REFILL)
        .key(server.names.limit_counters(key))
        .argument(counter.name())
        .argument(kind)
        // No more than that was ever used.
        .argument(amount.min(EXACT));
    let answered = server.calls.run(doing, &run, DEADLINE).await;
    let answered = answered.map_err(|failure| failure.of_record(key.as_str()))?;
    match answer(doing, answered)?.word.as_str() {
        "done" => Ok(()),
        _ => Err(broken(key)),
    }
}

/// The largest number that the scripts count with.
const EXACT: u64 = 1 << 53;

/// A rule's kind, and its numbers, as the script wants them.
fn described(rule: LimitRule, cost: u32) -> (&'static str, [i64; 2]) {
    match rule {
        LimitRule::Rate(rate) => {
            // One more than the burst is refused as all above it are, and is not too large a number.
            let cost = cost.min(rate.burst() + 1);
            ("rate", [rate.span(rate.burst()), rate.span(cost)])
        }
        LimitRule::Quota(quota) => {
            let period = quota.period();
            let kind = match period {
                QuotaPeriod::Day => "day",
                QuotaPeriod::Month => "month",
                QuotaPeriod::Rolling(_) => "rolling",
                QuotaPeriod::Lifetime => "lifetime",
            };
            let part = period.part_millis().unwrap_or(0);
            (kind, [quota.amount().cast_signed(), part.cast_signed()])
        }
    }
}

/// Returns the error for a counter that cannot be read. It does not name the limit, since the name may
/// contain a route.
fn broken(key: &KeyId) -> StoreError {
    StoreError::Corrupt {
        id: key.to_string(),
        reason: "a limit counter cannot be read; remove its field from the key's `limit_counters`"
            .to_owned(),
    }
}

/// Reads a limit counter; `scripts/limit_counter.lua` says how it is written.
fn count(rule: LimitRule, text: &[u8]) -> Option<CounterState> {
    let mut count = CounterState::default();
    if text.is_empty() {
        return Some(count);
    }
    match rule {
        LimitRule::Rate(_) => count.tat = number(text)?,
        LimitRule::Quota(quota) if quota.period().part_millis().is_some() => {
            let mut fields = text.splitn(3, |byte| *byte == b':');
            let (sum, oldest) = (number(fields.next()?)?, number(fields.next()?)?);
            count.parts = parts(fields.next()?)?;
            // What the script decided by has to be what its parts are.
            let used = count
                .parts
                .values()
                .try_fold(0_u64, |sum, used| sum.checked_add(*used));
            let first = count.parts.keys().next().copied();
            if (used, first) != (Some(sum), Some(oldest)) {
                return None;
            }
        }
        LimitRule::Quota(_) => {
            let middle = text.iter().position(|byte| *byte == b':')?;
            count.period = number(&text[..middle])?;
            count.used = number(&text[middle + 1..])?;
        }
    }
    count.is_in_range().then_some(count)
}

/// Reads a limit counter whose rule is not known: its form tells the kind.
pub(super) fn counter_of(text: &[u8]) -> Option<CounterState> {
    let colons = text.iter().filter(|byte| **byte == b':').count();
    let rule = match colons {
        0 => Rate::per_second(1).into(),
        1 => Quota::lifetime(1).into(),
        _ => Quota::rolling(1, Duration::from_secs(60)).into(),
    };
    count(rule, text).filter(|_| !text.is_empty())
}

/// Writes a limit counter as the scripts do. Returns `None` for one that is not used.
pub(super) fn counter_text(state: &CounterState) -> Option<String> {
    if *state == CounterState::default() {
        return None;
    }
    if state.parts.is_empty() {
        return Some(match state.tat {
            0 => format!("{}:{}", state.period, state.used.min(EXACT)),
            tat => tat.to_string(),
        });
    }
    let (oldest, _) = state.parts.first_key_value()?;
    let parts = state
        .parts
        .iter()
        .map(|(part, used)| (part, *used.min(&EXACT)));
    let sum = parts
        .clone()
        .fold(0_u64, |sum, (_, used)| sum.saturating_add(used));
    let newest_first = parts.rev().map(|(part, used)| format!("{part}={used},"));
    Some(format!(
        "{sum}:{oldest}:{}",
        newest_first.collect::<String>()
    ))
}

fn parts(text: &[u8]) -> Option<BTreeMap<i64, u64>> {
    let parts = text.split(|byte| *byte == b',');
    let parts = parts.filter(|part| !part.is_empty()).map(|part| {
        let middle = part.iter().position(|byte| *byte == b'=')?;
        Some((number(&part[..middle])?, number(&part[middle + 1..])?))
    });
    parts.collect()
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_count_is_not_taken_for_a_new_one() {
        let rate = LimitRule::from(Rate::per_minute(1));
        let month = LimitRule::from(Quota::per_month(1));
        let rolling = LimitRule::from(Quota::rolling(1, Duration::from_secs(60)));
        for rule in [rate, month, rolling] {
            assert_eq!(count(rule, b""), Some(CounterState::default()));
            let bad: [&[u8]; 8] = [
                b"a", b":", b"1:a", b"-", b"1=1,", b"1:-3", b"1:1:1=", b"\xff",
            ];
            for bad in bad {
                assert_eq!(count(rule, bad), None, "{rule}: {bad:?}");
            }
        }
        assert_eq!(count(rate, b"1700").unwrap().tat, 1_700);
        let read = count(month, b"2:3").unwrap();
        assert_eq!((read.period, read.used), (2, 3));
        let read = count(rolling, b"12:4:6=7,4=5,").unwrap();
        assert_eq!(read.parts, BTreeMap::from([(4, 5), (6, 7)]));
        assert_eq!(count(month, b"1:99999999999999999999"), None);
    }

    #[test]
    fn a_counter_is_written_as_it_was_read() {
        for text in ["1700", "2:3", "0:9", "12:4:6=7,4=5,"] {
            let state = counter_of(text.as_bytes()).unwrap();
            assert_eq!(counter_text(&state).as_deref(), Some(text));
        }
        assert_eq!(counter_text(&CounterState::default()), None);
        for broken in [&b""[..], b"a", b"1:a", b"1:2:3=4,", b"-1"] {
            assert_eq!(counter_of(broken), None, "{broken:?}");
        }
    }
}
