//! The rules for issuing keys.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, PolicyViolation};
use crate::scope::{MAX_SCOPES, Scopes, check_scope};
use crate::util::text::quote;

/// The largest maximum of an owner's live keys. A store counts up to it in the transaction of a write.
pub(crate) const MAX_LIVE_KEYS: u32 = 100_000;

/// The rules for issuing keys: what [`create`](crate::ApiKeyManager::create) and
/// [`update`](crate::ApiKeyManager::update) may make of a key.
///
/// The [configuration](crate::Config::issue_policy) has the rules of all calls. An administrator's call
/// replaces them: see [`CreateKey::policy`](crate::manager::CreateKey::policy). A call that would break a
/// rule returns [`Error::Policy`], and nothing is changed.
///
/// - An expiry is judged against the time of the call, when a key is created and when its expiry is
///   moved to a later time or removed. An earlier expiry is always permitted.
/// - Scopes are judged when a key gets them. An update may keep those that the key has.
/// - Live keys are counted when a key is created, given to an owner, or brought back by a later expiry.
/// - A rotation is not judged.
///
/// Those rules hold for all. What one person may do is judged by the scopes that they hold, with
/// `granted_by` on the calls that create, rotate, enable and update a key.
///
/// ```
/// # use apikey_runtime::{ApiKeyManager, Config, Error, MemoryStore};
/// use apikey_runtime::manager::{IssuePolicy, PolicyViolation};
/// # use std::time::Duration;
/// # actix_web::rt::System::new().block_on(async {
/// let day = Duration::from_secs(24 * 3600);
/// let config = Config::builder().max_lifetime(30 * day).max_keys_per_owner(2).build()?;
/// let manager = ApiKeyManager::builder().config(config).store(MemoryStore::new()).start().await?;
///
/// let refused = manager.create("ci").owner("acme").expires_in(31 * day).await.unwrap_err();
/// assert_eq!(refused.to_string(), "a key may live for at most 30 days; choose an earlier expiry");
///
/// // An administrator's call.
/// let policy = IssuePolicy::unrestricted().with_max_live_keys(10);
/// manager.create("ci").owner("acme").policy(policy).await?;
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuePolicy {
    /// The longest lifetime. A key that never expires breaks the rule too. `None` permits any.
    pub max_lifetime: Option<Duration>,
    /// The lifetime of a new key whose call does not set one. With `None`, it never expires.
    pub default_lifetime: Option<Duration>,
    /// Whether a key must expire.
    pub lifetime_required: bool,
    /// The maximum number of [live](crate::KeyRecord::is_live) keys of an owner, 1 to 100,000. Keys
    /// without an owner are not counted. `None` permits any.
    pub max_live_keys: Option<u32>,
    /// The scopes that keys may have. A segment `{name}` stands for any one segment, as in
    /// `project:{id}:read`. `None` permits all, an empty list permits none.
    pub allowed_scopes: Option<Vec<String>>,
}

impl IssuePolicy {
    /// Creates a policy that permits everything.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self::default()
    }

    /// Sets the [longest lifetime](Self::max_lifetime). By default, any.
    #[must_use]
    pub fn with_max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// Sets the [default lifetime](Self::default_lifetime). By default, a new key never expires.
    #[must_use]
    pub fn with_default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = Some(lifetime);
        self
    }

    /// Sets whether a key [must expire](Self::lifetime_required). By default, it need not.
    #[must_use]
    pub fn with_lifetime_required(mut self, required: bool) -> Self {
        self.lifetime_required = required;
        self
    }

    /// Sets the [maximum number of live keys](Self::max_live_keys) of an owner. By default, any.
    #[must_use]
    pub fn with_max_live_keys(mut self, keys: u32) -> Self {
        self.max_live_keys = Some(keys);
        self
    }

    /// Sets the [scopes](Self::allowed_scopes) that keys may have. By default, all.
    #[must_use]
    pub fn with_allowed_scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.allowed_scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Checks the policy of a call.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidArgument`] if the policy cannot be kept.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::InvalidArgument(message));
        if [self.max_lifetime, self.default_lifetime].contains(&Some(Duration::ZERO)) {
            return refuse(
                "a lifetime of the policy is zero; write a longer one, or leave it out".to_owned(),
            );
        }
        if let (Some(default), Some(max)) = (self.default_lifetime, self.max_lifetime)
            && default > max
        {
            return refuse(format!(
                "the policy's default lifetime ({default:?}) is above its longest lifetime ({max:?}); write a shorter one"
            ));
        }
        if let Some(max) = self.max_live_keys
            && !(1..=MAX_LIVE_KEYS).contains(&max)
        {
            return refuse(format!(
                "the policy's maximum of live keys is {max}; write 1 to {MAX_LIVE_KEYS}, or leave it out"
            ));
        }
        let scopes = self.allowed_scopes.as_deref().unwrap_or_default();
        check_allowed_scopes(scopes)
            .map_err(|why| Error::InvalidArgument(format!("the policy's allowed scopes: {why}")))
    }

    /// Judges an expiry that replaces another, or [`Timestamp::MIN`] of a new key.
    pub(crate) fn judge_expiry(
        &self,
        now: Timestamp,
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    ) -> Result<(), PolicyViolation> {
        if !is_later(before, after) {
            return Ok(());
        }
        let max = self.max_lifetime;
        match (after, max) {
            (None, None) if !self.lifetime_required => Ok(()),
            (None, max) => Err(PolicyViolation::LifetimeRequired { max }),
            (Some(end), Some(max)) if now.checked_add(max).is_some_and(|last| last < end) => {
                Err(PolicyViolation::LifetimeTooLong { max })
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Judges the scopes that a key gets, except for those that it has.
    pub(crate) fn judge_scopes(
        &self,
        before: &Scopes,
        after: &Scopes,
    ) -> Result<(), PolicyViolation> {
        let Some(allowed) = &self.allowed_scopes else {
            return Ok(());
        };
        let permits = |scope: &str| allowed.iter().any(|allowed| covers(allowed, scope));
        match added(before, after, permits) {
            scopes if scopes.is_empty() => Ok(()),
            scopes => Err(PolicyViolation::ScopesNotAllowed { scopes }),
        }
    }
}

/// Judges the scopes that a key gets, except for those that it has, by those of the one who grants them.
pub(crate) fn judge_grant(
    held: &Scopes,
    before: &Scopes,
    after: &Scopes,
) -> Result<(), PolicyViolation> {
    match added(before, after, |scope| held.contains(scope)) {
        scopes if scopes.is_empty() => Ok(()),
        scopes => Err(PolicyViolation::ScopesNotHeld { scopes }),
    }
}

/// Returns whether the expiry `after` is later than `before`. `None` is later than all.
pub(crate) fn is_later(before: Option<Timestamp>, after: Option<Timestamp>) -> bool {
    let [before, after] = [before, after].map(|end| end.unwrap_or(Timestamp::MAX));
    before < after
}

/// Checks a list of allowed scopes. The error says what to write.
pub(crate) fn check_allowed_scopes(scopes: &[String]) -> Result<(), String> {
    if scopes.len() > MAX_SCOPES {
        return Err(format!(
            "there are {}; write at most {MAX_SCOPES}",
            scopes.len()
        ));
    }
    let mut faults = scopes.iter().filter_map(|scope| {
        let fault = check_scope(scope, true).err()?;
        Some(format!(
            "{}; the scope is {}",
            fault.message(),
            quote(scope)
        ))
    });
    faults.next().map_or(Ok(()), Err)
}

/// Returns the scopes of `after` that are neither in `before` nor permitted.
fn added(before: &Scopes, after: &Scopes, permits: impl Fn(&str) -> bool) -> Vec<String> {
    let added = after.iter().filter(|scope| !before.contains(scope));
    let refused = added.filter(|scope| !permits(scope));
    refused.map(str::to_owned).collect()
}

/// Returns whether `allowed`, in which a segment may be a template, covers `scope`.
fn covers(allowed: &str, scope: &str) -> bool {
    let (mut allowed, mut scope) = (allowed.split(':'), scope.split(':'));
    loop {
        match (allowed.next(), scope.next()) {
            (None, None) => return true,
            (Some(template), Some(_)) if template.starts_with('{') => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(millis: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(millis))
    }

    fn scopes(text: &str) -> Scopes {
        Scopes::from_text(text).unwrap()
    }

    #[test]
    fn a_later_or_removed_expiry_is_judged_and_an_earlier_one_never() {
        let now = Timestamp::from_millis(0);
        let max = Duration::from_millis(100);
        let policy = IssuePolicy::unrestricted().with_max_lifetime(max);
        let long = Err(PolicyViolation::LifetimeTooLong { max });
        let required = Err(PolicyViolation::LifetimeRequired { max: Some(max) });
        let new = Some(Timestamp::MIN);
        for (before, after, expected) in [
            (new, at(100), Ok(())),
            (new, at(101), long.clone()),
            (new, None, required.clone()),
            (at(50), at(101), long),
            (at(50), None, required),
            (at(50), at(100), Ok(())),
            // Not later: neither earlier ones, nor the same.
            (at(200), at(150), Ok(())),
            (at(200), at(200), Ok(())),
            (None, at(200), Ok(())),
            (None, None, Ok(())),
        ] {
            let judged = policy.judge_expiry(now, before, after);
            assert_eq!(judged, expected, "{before:?} {after:?}");
        }
        // Control: without the rule, each is permitted.
        let free = IssuePolicy::unrestricted();
        assert_eq!(free.judge_expiry(now, new, None), Ok(()));
        let required = free.with_lifetime_required(true);
        let violation = PolicyViolation::LifetimeRequired { max: None };
        assert_eq!(required.judge_expiry(now, new, None), Err(violation));
        assert_eq!(required.judge_expiry(now, new, at(i64::MAX)), Ok(()));
    }

    #[test]
    fn added_scopes_are_judged_and_those_that_a_key_has_are_not() {
        let policy = IssuePolicy::unrestricted().with_allowed_scopes(["a:{id}:read", "b"]);
        for allowed in ["", "b", "a:7:read", "a:7:read a:8:read b"] {
            assert_eq!(
                policy.judge_scopes(&Scopes::none(), &scopes(allowed)),
                Ok(())
            );
        }
        for refused in ["a", "a:7", "a:7:write", "a:7:read:x", "a:read", "B", "bb"] {
            let violation = PolicyViolation::ScopesNotAllowed {
                scopes: vec![refused.to_owned()],
            };
            let wanted = scopes(&format!("{refused} b"));
            let judged = policy.judge_scopes(&Scopes::none(), &wanted);
            assert_eq!(judged, Err(violation));
            assert_eq!(policy.judge_scopes(&scopes(refused), &wanted), Ok(()));
        }
        let held = scopes("a b");
        assert_eq!(judge_grant(&held, &Scopes::none(), &scopes("a")), Ok(()));
        assert_eq!(judge_grant(&held, &scopes("c"), &scopes("a c")), Ok(()));
        let violation = PolicyViolation::ScopesNotHeld {
            scopes: vec!["c".to_owned()],
        };
        assert_eq!(
            judge_grant(&held, &scopes("d"), &scopes("a c")),
            Err(violation)
        );
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_an_error_that_says_what_to_write() {
        let free = IssuePolicy::unrestricted();
        for (policy, part) in [
            (free.clone().with_max_lifetime(Duration::ZERO), "zero"),
            (free.clone().with_default_lifetime(Duration::ZERO), "zero"),
            (
                free.clone()
                    .with_default_lifetime(2 * HOUR)
                    .with_max_lifetime(HOUR),
                "default lifetime",
            ),
            (free.clone().with_max_live_keys(0), "1 to 100000"),
            (free.clone().with_max_live_keys(100_001), "1 to 100000"),
            (free.clone().with_allowed_scopes(["a:*"]), "a:*"),
            (free.clone().with_allowed_scopes(vec!["a"; 257]), "257"),
        ] {
            let message = policy.check().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let bounds = free
            .with_default_lifetime(HOUR)
            .with_max_lifetime(HOUR)
            .with_max_live_keys(100_000)
            .with_allowed_scopes(Vec::<String>::new());
        assert!(bounds.check().is_ok());
    }
}
