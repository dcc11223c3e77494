//! The one choke point where a decision is made.
//!
//! What comes in is a text that claims to be a key, what the route demands, and who calls; what
//! comes out is the key or a refusal. No other module compares digests, looks at a key's state or
//! at its scopes.

mod attempts;
mod evaluate;
mod limits;
mod record;
mod request;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use crate::api_key::ApiKey;
use crate::cache::{Answer, Asked, CachedKey, ReadFault, Reader};
use crate::clock::ClockReading;
use crate::cluster::Feed;
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::events::Teller;
use crate::failed_attempts::FailedAttempts;
use crate::key::{ParsedDigest, ParsedKey};
use crate::limiter::{Ahead, Local, Plan};
use crate::policy::{Caller, KeyLocation, Policy};
use crate::usage::Usage;
use evaluate::{Compared, Standing};
use request::Memory;

pub(crate) use limits::standings;
pub(crate) use record::deny_unmanaged;
pub(crate) use request::{Admitted, Claim, Now, Proof, Question, Why, nothing_known};
pub(crate) use under_way::UnderWay;

/// How often a read that came too late to be believed is repeated before the answer is 503.
const READS: usize = 3;

/// All that a decision needs, shared by the manager's thread and its callers.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) config: Config,
    pub(crate) reader: Arc<Reader>,
    pub(crate) feed: Feed,
    pub(crate) teller: Teller,
    pub(crate) usage: Usage,
    /// Whose address has shown how many keys that are none; `None` where that is not counted.
    pub(crate) attempts: Option<FailedAttempts>,
    /// What this process counts by itself.
    pub(crate) local: Local,
    /// What it took ahead of limits that the store counts.
    pub(crate) ahead: Arc<Ahead>,
    /// Decisions that wait for the store.
    pub(crate) under_way: Arc<UnderWay>,
    /// The limits of keys that have none of their own.
    pub(crate) default_plan: Option<Plan>,
    /// The digest of no key: compared on a miss, so that a miss takes as long as a wrong secret.
    pub(crate) dummy: ParsedDigest,
}

impl Verifier {
    /// Reads a presented text as a key that this route could accept: no I/O, no hashing.
    pub(crate) fn screen<'a>(
        &self,
        text: &'a [u8],
        policy: &Policy,
    ) -> Result<ParsedKey<'a>, Denied> {
        match ParsedKey::parse(text) {
            Some(key) if self.accepts_prefix(key.prefix(), policy) => Ok(key),
            Some(key) => {
                tracing::debug!(key_id = %key.id().to_id(), "refused: a prefix that is not accepted here");
                Err(self.deny(DenyReason::InvalidKey, policy, || Some(key.id().to_id())))
            }
            None => {
                tracing::debug!("refused: not the form of a key, or a wrong checksum");
                Err(self.deny(DenyReason::InvalidKey, policy, || None))
            }
        }
    }

    /// Whether a key with this prefix could pass the route.
    pub(crate) fn accepts_prefix(&self, prefix: &str, policy: &Policy) -> bool {
        self.config.accepts_prefix(prefix) && policy.prefix.is_none_or(|only| only == prefix)
    }

    /// Decides from memory, where memory can: no await, no store, no copy.
    pub(crate) fn decide_now<C: Caller>(&self, question: &Question<'_, C>) -> Now {
        if question.policy.fresh {
            return Now::Ask(Why::Unknown);
        }
        let begun = self.reader.metrics.begin_check();
        let now = match self.judge_memory(question) {
            Now::Decided(Ok(admitted)) => self.settle_now(question, admitted),
            other => other,
        };
        if matches!(now, Now::Decided(_)) {
            self.reader.cache.counters.count_hit();
            self.reader.metrics.decided_from_memory(begun);
        }
        now
    }

    fn judge_memory<C: Caller>(&self, question: &Question<'_, C>) -> Now {
        match self.remember(question) {
            Memory::Allow(key, at) => Now::Decided(Ok(Admitted::of(key, None, at))),
            // Revoked is for good, and a route that is set up wrongly stays so; any other refusal a
            // newer record could turn.
            Memory::Refuse(reason @ (DenyReason::Revoked | DenyReason::Misconfigured)) => {
                Now::Decided(Err(self.refuse(question, reason)))
            }
            Memory::Refuse(_) => Now::Ask(Why::Refused),
            Memory::Nothing => Now::Ask(Why::Unknown),
        }
    }

    /// Decides with the store's help.
    pub(crate) async fn decide_late<C: Caller>(
        &self,
        question: &Question<'_, C>,
        why: Why,
    ) -> Result<Admitted, Denied> {
        let Some(_under_way) = self.under_way.begin() else {
            return Err(self.refuse(question, DenyReason::StoreUnavailable));
        };
        let begun = self.reader.metrics.begin_late();
        let decision = self.conclude(question, why).await;
        self.reader.metrics.decided_by_store(begun);
        decision
    }

    async fn conclude<C: Caller>(
        &self,
        question: &Question<'_, C>,
        why: Why,
    ) -> Result<Admitted, Denied> {
        let refused = match why {
            Why::Charge(admitted) => {
                self.reader.cache.counters.count_hit();
                return self.settle_late(question, *admitted).await;
            }
            Why::Refused => true,
            Why::Unknown => false,
        };
        self.reader.cache.counters.count_miss();
        let known = (question.known)(question.caller);
        self.turn_away(question)?;
        let judged = self.judge_late(question, refused, known.as_ref()).await;
        self.note_failure(question, &judged);
        match self.settle_now(question, judged?) {
            Now::Decided(decision) => decision,
            Now::Ask(Why::Charge(admitted)) => self.settle_late(question, *admitted).await,
            // Settling asks for nothing else.
            Now::Ask(_) => Err(self.refuse(question, DenyReason::Misconfigured)),
        }
    }

    /// `refused` is whether memory refuses the key; `known` what the store said earlier in the same
    /// request.
    async fn judge_late<C: Caller>(
        &self,
        question: &Question<'_, C>,
        refused: bool,
        known: Option<&Admitted>,
    ) -> Result<Admitted, Denied> {
        if refused {
            // A rotated secret, a new scope, a key switched on again: ask what changed before
            // refusing.
            let learned = self.feed.ask().await;
            match self.remember(question) {
                Memory::Allow(key, at) => return Ok(Admitted::of(key, None, at)),
                // A key's time is over, whether or not the store says so.
                Memory::Refuse(reason @ (DenyReason::Expired | DenyReason::NotYetValid)) => {
                    return Err(self.refuse(question, reason));
                }
                Memory::Refuse(reason) if learned => return Err(self.refuse(question, reason)),
                // What changed is not known: a key that is live by now is not told otherwise.
                Memory::Refuse(_) | Memory::Nothing => {}
            }
        }
        if let Some(decision) = known.and_then(|known| self.judge_known(question, known)) {
            return decision;
        }
        for _ in 0..READS {
            // Without a lease nobody waits for this node: only a read of one's own, which began
            // after the check, tells of all that was confirmed before it.
            let now = self.reader.clock.read();
            let alone = question.policy.fresh || !self.reader.cache.lease.holds(now);
            match self.reader.read(&question.claim.id().to_id(), alone).await {
                Err(ReadFault) => break,
                Ok(answer) => {
                    if let Some(decision) = self.judge_answer(question, &answer) {
                        return decision;
                    }
                }
            }
        }
        Err(self.refuse(question, DenyReason::StoreUnavailable))
    }

    fn remember<C: Caller>(&self, question: &Question<'_, C>) -> Memory {
        let cache = &self.reader.cache;
        let seen = cache.peek(question.claim.id(), |entry| {
            let judged = self.compare(question, entry);
            // The clock is read after the entry and after all that takes time, so an entry that is
            // believed now was under the lease when its facts were used.
            let now = self.reader.clock.read();
            if !cache.lease.holds(now) || entry.is_stale() {
                return Memory::Nothing;
            }
            match judged.at(now) {
                Ok(()) => Memory::Allow(ApiKey::new(Arc::clone(entry)), now),
                Err(reason) => Memory::Refuse(reason),
            }
        });
        match seen {
            Some(memory) => memory,
            None if cache.knows_unknown(&question.claim.id().to_id(), self.reader.clock.read()) => {
                self.compare_nothing(question);
                Memory::Refuse(DenyReason::InvalidKey)
            }
            None => Memory::Nothing,
        }
    }

    /// `None` where what is known is of another key, was overtaken by a change, or may not serve.
    fn judge_known<C: Caller>(
        &self,
        question: &Question<'_, C>,
        known: &Admitted,
    ) -> Option<Result<Admitted, Denied>> {
        let (facts, asked) = (known.key.facts(), known.read?);
        let own = asked.own || !question.policy.fresh;
        let serves = facts.id.as_text() == question.claim.id()
            && own
            && self.is_recent(asked)
            && self.reader.is_current(&facts.id, asked);
        let answer = Answer {
            asked,
            found: Some(Arc::clone(facts)),
        };
        serves
            .then(|| self.judge_answer(question, &answer))
            .flatten()
    }

    /// Whether a read that was made earlier may serve: under a lease, as what is in memory may.
    fn is_recent(&self, asked: Asked) -> bool {
        let (now, lease) = (self.reader.clock.read(), &self.reader.cache.lease);
        let good_for = match lease.length() {
            Some(length) if lease.holds(now) => length,
            Some(_) => Duration::ZERO,
            None => self.reader.deadline,
        };
        passed(asked.sent, now) < good_for
    }

    /// `None` where the answer is too old to be believed.
    fn judge_answer<C: Caller>(
        &self,
        question: &Question<'_, C>,
        answer: &Answer,
    ) -> Option<Result<Admitted, Denied>> {
        let judged = answer
            .found
            .as_ref()
            .map(|found| (found, self.compare(question, found)));
        if judged.is_none() {
            self.compare_nothing(question);
        }
        let now = self.reader.clock.read();
        let age = passed(answer.asked.sent, now);
        #[cfg(apikey_faults)]
        let age = crate::faults::age(age);
        let lease = self.reader.cache.lease.length();
        if age >= lease.unwrap_or(self.reader.deadline) {
            return None;
        }
        let decision = match judged {
            None => Err(DenyReason::InvalidKey),
            Some((found, judged)) => judged.at(now).map(|()| {
                let key = ApiKey::new(Arc::clone(found));
                Admitted::of(key, Some(answer.asked), now)
            }),
        };
        Some(decision.map_err(|reason| self.refuse(question, reason)))
    }

    /// All that can be said of a claim and a record before the time is known.
    fn compare<'k, C: Caller>(
        &self,
        question: &Question<'_, C>,
        key: &'k CachedKey,
    ) -> Compared<'k> {
        let proves = |digest: &ParsedDigest| match question.claim {
            Claim::Text(presented) => self.reader.hasher.verify(presented.text(), digest),
            Claim::Proven(proof) => proof.digest.is(digest),
        };
        Compared {
            key,
            current: proves(&key.digest),
            previous: key
                .previous
                .as_ref()
                .filter(|previous| proves(&previous.0))
                .map(|previous| previous.1),
            standing: Standing::of(key, question.policy, question.caller),
        }
    }

    /// As much work as a wrong secret makes.
    fn compare_nothing<C: Caller>(&self, question: &Question<'_, C>) {
        if let Claim::Text(presented) = question.claim {
            std::hint::black_box(self.reader.hasher.verify(presented.text(), &self.dummy));
        }
    }

    /// What is left of a key that `admitted` was let through with, once its text is gone.
    pub(crate) fn proof(
        &self,
        presented: &ParsedKey<'_>,
        place: Option<KeyLocation<'static>>,
        admitted: &ApiKey,
    ) -> Proof {
        let facts = admitted.facts();
        let previous = facts.previous.as_ref().map(|previous| &previous.0);
        let by_previous =
            previous.filter(|digest| self.reader.hasher.verify(presented.text(), digest));
        Proof {
            id: presented.id().to_id(),
            prefix: presented.prefix().into(),
            digest: by_previous.unwrap_or(&facts.digest).clone(),
            place,
        }
    }
}

/// The time between two readings, by the clock that counted more of it.
fn passed(from: ClockReading, to: ClockReading) -> Duration {
    let uptime = Duration::from_nanos(to.uptime_nanos.saturating_sub(from.uptime_nanos));
    let wall = to.wall.as_millis().saturating_sub(from.wall.as_millis());
    uptime.max(Duration::from_millis(u64::try_from(wall).unwrap_or(0)))
}

/// The decision about a key that a test acts as: all but the secret is judged.
#[cfg(feature = "test-util")]
pub(crate) fn judge_acting(
    key: ApiKey,
    policy: &Policy,
    caller: &dyn Caller,
) -> Result<Admitted, Denied> {
    let now = crate::clock::Clock::read(&crate::clock::SystemClock::new());
    match Standing::of(key.facts(), policy, caller).at(key.facts(), now) {
        Ok(()) => Ok(Admitted::of(key, None, now)),
        Err(reason) => Err(record::denied(reason, policy)),
    }
}
