//! The one choke point where a decision is made.
//!
//! What comes in is a text that claims to be a key, what the route demands, and the values of its
//! path; what comes out is the key or a refusal. No other module compares digests, looks at a key's
//! state or at its scopes.

use std::sync::Arc;
use std::time::Duration;

use crate::api_key::ApiKey;
use crate::cache::{Answer, CachedKey, Feed, ReadFault, Reader};
use crate::clock::Reading;
use crate::config::Config;
use crate::denied::{Denied, DenyReason};
use crate::key::{ParsedKey, PreparedDigest};
use crate::policy::{PathValues, Policy, TemplateFault};
use crate::record::KeyState;

/// How often a read that came too late to be believed is repeated before the answer is 503.
const READS: usize = 3;

/// All that a decision needs, shared by the manager's thread and its callers.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) config: Config,
    pub(crate) reader: Arc<Reader>,
    pub(crate) feed: Feed,
    /// The digest of no key: compared on a miss, so that a miss takes as long as a wrong secret.
    pub(crate) dummy: PreparedDigest,
}

/// What one request asks.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) key: ParsedKey<'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) path: &'a dyn PathValues,
}

/// A decision that could be made at once, or not.
pub(crate) enum Now {
    Decided(Result<ApiKey, Denied>),
    /// The store has to be asked: [`Verifier::decide_late`].
    Ask,
}

/// What memory says of a key.
enum Memory {
    Allow(ApiKey),
    Refuse(DenyReason),
    Nothing,
}

impl Verifier {
    /// Reads a presented text as a key that this route could accept: no I/O, no hashing.
    pub(crate) fn screen<'a>(
        &self,
        text: &'a [u8],
        policy: &Policy,
    ) -> Result<ParsedKey<'a>, Denied> {
        let accepted = |prefix: &str| match policy.prefix {
            Some(only) => only == prefix,
            None => self.config.accepts_prefix(prefix),
        };
        match ParsedKey::parse(text) {
            Some(key) if accepted(key.prefix()) => Ok(key),
            Some(key) => {
                tracing::debug!(key_id = %key.id(), "refused: a prefix that is not accepted here");
                Err(Denied::new(DenyReason::InvalidKey))
            }
            None => {
                tracing::debug!("refused: not the form of a key, or a wrong checksum");
                Err(Denied::new(DenyReason::InvalidKey))
            }
        }
    }

    /// Decides from memory, where memory can: no await, no store, no copy.
    pub(crate) fn decide_now(&self, question: Question<'_>) -> Now {
        if question.policy.fresh {
            return Now::Ask;
        }
        match self.remember(question) {
            Memory::Allow(key) => Now::Decided(Ok(key)),
            // Revoked is for good, and a route that is set up wrongly stays so; any other refusal a
            // newer record could turn.
            Memory::Refuse(reason @ (DenyReason::Revoked | DenyReason::Misconfigured)) => {
                Now::Decided(Err(refuse(question, reason)))
            }
            Memory::Refuse(_) | Memory::Nothing => Now::Ask,
        }
    }

    /// Decides with the store's help.
    pub(crate) async fn decide_late(&self, question: Question<'_>) -> Result<ApiKey, Denied> {
        let started = self.reader.clock.read();
        if !question.policy.fresh && self.remembers_refusal(question, started) {
            // A rotated secret, a new scope, a key switched on again: ask what changed before
            // refusing.
            self.feed.ask(started.uptime_nanos).await;
            match self.remember(question) {
                Memory::Allow(key) => return Ok(key),
                Memory::Refuse(reason) => return Err(refuse(question, reason)),
                Memory::Nothing => {}
            }
        }
        for _ in 0..READS {
            let alone = question.policy.fresh || self.reader.cache.lease.length().is_none();
            match self.reader.read(question.key.id(), alone).await {
                Err(ReadFault) => break,
                Ok(answer) => {
                    if let Some(decision) = self.judge_answer(question, &answer) {
                        return decision.map_err(|reason| refuse(question, reason));
                    }
                }
            }
        }
        Err(refuse(question, DenyReason::StoreUnavailable))
    }

    fn remembers_refusal(&self, question: Question<'_>, now: Reading) -> bool {
        matches!(self.remember(question), Memory::Refuse(_))
            || self.reader.cache.knows_unknown(question.key.id(), now)
    }

    fn remember(&self, question: Question<'_>) -> Memory {
        let cache = &self.reader.cache;
        let seen = cache.peek(question.key.id(), |entry| {
            let judged = self.compare(question, entry);
            // The clock is read after the entry and after all that takes time, so an entry that is
            // believed now was under the lease when its facts were used.
            let now = self.reader.clock.read();
            if !cache.lease.holds(now) || entry.is_stale() {
                return Memory::Nothing;
            }
            match judged.at(now) {
                Ok(()) => Memory::Allow(ApiKey::new(Arc::clone(entry))),
                Err(reason) => Memory::Refuse(reason),
            }
        });
        match seen {
            Some(memory) => memory,
            None if cache.knows_unknown(question.key.id(), self.reader.clock.read()) => {
                self.compare_nothing(question);
                Memory::Refuse(DenyReason::InvalidKey)
            }
            None => Memory::Nothing,
        }
    }

    /// `None` where the answer is too old to be believed.
    fn judge_answer(
        &self,
        question: Question<'_>,
        answer: &Answer,
    ) -> Option<Result<ApiKey, DenyReason>> {
        let good_for = self
            .reader
            .cache
            .lease
            .length()
            .unwrap_or(self.reader.deadline);
        let judged = answer
            .found
            .as_ref()
            .map(|found| (found, self.compare(question, found)));
        if judged.is_none() {
            self.compare_nothing(question);
        }
        let now = self.reader.clock.read();
        let age = Duration::from_nanos(now.uptime_nanos.saturating_sub(answer.sent.uptime_nanos));
        if age >= good_for {
            return None;
        }
        Some(match judged {
            None => Err(DenyReason::InvalidKey),
            Some((found, judged)) => judged.at(now).map(|()| ApiKey::new(Arc::clone(found))),
        })
    }

    /// All that can be said of a presented key and a record before the time is known.
    fn compare<'k>(&self, question: Question<'_>, key: &'k CachedKey) -> Compared<'k> {
        let text = question.key.text();
        let current = self.reader.hasher.verify(text, &key.digest);
        let previous = key
            .previous
            .as_ref()
            .is_some_and(|previous| self.reader.hasher.verify(text, &previous.0));
        let policy = question.policy;
        let family = policy
            .environment
            .is_none_or(|only| key.environment() == Some(only));
        let scopes = match policy.scopes {
            None => Ok(true),
            Some(scopes) => scopes.met(&|scope| key.scopes.contains(scope), question.path),
        };
        Compared {
            key,
            current,
            previous,
            family,
            scopes,
        }
    }

    /// As much work as a wrong secret makes.
    fn compare_nothing(&self, question: Question<'_>) {
        std::hint::black_box(self.reader.hasher.verify(question.key.text(), &self.dummy));
    }
}

/// A presented key against a record.
struct Compared<'k> {
    key: &'k CachedKey,
    current: bool,
    previous: bool,
    family: bool,
    scopes: Result<bool, TemplateFault>,
}

impl Compared<'_> {
    /// The decision at `now`. The order is that of the answers: who has not the right secret learns
    /// nothing else.
    fn at(&self, now: Reading) -> Result<(), DenyReason> {
        let in_grace = self
            .key
            .previous
            .as_ref()
            .is_some_and(|previous| now.now < previous.1);
        let right = self.current | (self.previous & in_grace);
        if !right || !self.family {
            return Err(DenyReason::InvalidKey);
        }
        match self.key.validity.state(now.now) {
            KeyState::Active => {}
            KeyState::Revoked => return Err(DenyReason::Revoked),
            KeyState::Disabled => return Err(DenyReason::Disabled),
            KeyState::Expired => return Err(DenyReason::Expired),
            KeyState::NotYetValid => return Err(DenyReason::NotYetValid),
        }
        match self.scopes {
            Ok(true) => Ok(()),
            Ok(false) | Err(TemplateFault::NotASegment) => Err(DenyReason::InsufficientScope),
            Err(TemplateFault::NoSuchName(name)) => {
                tracing::error!(
                    name,
                    "a scope's template names a part that the route's path lacks; write a name of the path between its braces"
                );
                Err(DenyReason::Misconfigured)
            }
        }
    }
}

fn refuse(question: Question<'_>, reason: DenyReason) -> Denied {
    tracing::debug!(key_id = %question.key.id(), reason = reason.code(), "refused");
    let wanted = (reason == DenyReason::InsufficientScope)
        .then_some(question.policy.scopes)
        .flatten();
    Denied::new(reason).wanting(wanted)
}

/// The decision about a key that a test acts as: all but the secret is judged.
#[cfg(feature = "test-util")]
pub(crate) fn judge_acting(
    key: ApiKey,
    policy: &Policy,
    path: &dyn PathValues,
) -> Result<ApiKey, Denied> {
    let family = policy
        .environment
        .is_none_or(|only| key.environment() == Some(only));
    let scopes = policy.scopes.map_or(Ok(true), |scopes| {
        scopes.met(&|scope| key.has_scope(scope), path)
    });
    let compared = Compared {
        key: key.facts(),
        current: true,
        previous: false,
        family,
        scopes,
    };
    let now = crate::clock::Clock::read(&crate::clock::SystemClock::new());
    match compared.at(now) {
        Ok(()) => Ok(key),
        Err(reason) => {
            let wanted = (reason == DenyReason::InsufficientScope)
                .then_some(policy.scopes)
                .flatten();
            Err(Denied::new(reason).wanting(wanted))
        }
    }
}
