//! The rules that a call for one key is judged by.

use crate::clock::Timestamp;
use crate::error::{Error, PolicyViolation};
use crate::manager::ApiKeyManager;
use crate::policy::{IssuePolicy, is_later, judge_grant};
use crate::record::{KeyPatch, KeyRecord};
use crate::scope::Scopes;
use crate::store::WriteOptions;

/// What a call sets of its rules.
#[derive(Debug, Clone, Default)]
pub(super) struct CallRules {
    /// Replaces the policy of the configuration.
    pub(super) policy: Option<IssuePolicy>,
    /// The scopes of the one who grants scopes.
    pub(super) granted_by: Option<Scopes>,
}

impl CallRules {
    /// Checks the policy of the call, or takes that of the configuration.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidArgument`], and [`Error::Unsupported`] if the store cannot count live keys.
    pub(super) fn resolve(self, manager: &ApiKeyManager) -> Result<IssueRules, Error> {
        let policy = match self.policy {
            Some(policy) => {
                policy.check()?;
                manager.0.core.check_countable(&policy)?;
                policy
            }
            None => manager.config().issue_policy().clone(),
        };
        Ok(IssueRules {
            policy,
            granted_by: self.granted_by,
        })
    }
}

/// The rules that a call is judged by.
#[derive(Debug)]
pub(super) struct IssueRules {
    pub(super) policy: IssuePolicy,
    granted_by: Option<Scopes>,
}

impl IssueRules {
    /// Judges a new key.
    pub(super) fn judge_new(
        &self,
        now: Timestamp,
        scopes: &Scopes,
        expires: Option<Timestamp>,
    ) -> Result<(), PolicyViolation> {
        let policy = &self.policy;
        policy.judge_expiry(now, Some(Timestamp::MIN), expires)?;
        self.judge_scopes(&Scopes::none(), scopes)
    }

    /// Judges a change of `record`.
    pub(super) fn judge_change(
        &self,
        now: Timestamp,
        record: &KeyRecord,
        patch: &KeyPatch,
    ) -> Result<(), PolicyViolation> {
        if let Some(expires) = patch.expires {
            self.policy.judge_expiry(now, record.expires, expires)?;
        }
        if let Some(scopes) = &patch.scopes {
            self.judge_scopes(&record.scopes, scopes)?;
        }
        let is_prolonged = patch
            .expires
            .is_some_and(|expires| is_later(record.expires, expires));
        let held = self.granted_by.as_ref().filter(|_| is_prolonged);
        judge_holder(held, patch.scopes.as_ref().unwrap_or(&record.scopes))
    }

    /// Returns the options of a change, with the maximum of live keys if the change may make the key
    /// live for an owner.
    pub(super) fn bound_change(
        &self,
        options: WriteOptions,
        record: &KeyRecord,
        patch: &KeyPatch,
    ) -> WriteOptions {
        let is_given = matches!(patch.owner, Some(Some(_)));
        let is_prolonged = patch
            .expires
            .is_some_and(|expires| is_later(record.expires, expires));
        let max = self.policy.max_live_keys;
        options.with_max_live_keys(max.filter(|_| is_given || is_prolonged))
    }

    /// Returns whether the scopes that a key gets are judged by those that it has.
    pub(super) fn restricts_scopes(&self) -> bool {
        self.policy.allowed_scopes.is_some() || self.granted_by.is_some()
    }

    fn judge_scopes(&self, before: &Scopes, after: &Scopes) -> Result<(), PolicyViolation> {
        self.policy.judge_scopes(before, after)?;
        match &self.granted_by {
            Some(held) => judge_grant(held, before, after),
            None => Ok(()),
        }
    }
}

/// Judges a call that gives out or prolongs a key with these scopes by those of the one who asks for it;
/// `None` may all.
pub(super) fn judge_holder(held: Option<&Scopes>, scopes: &Scopes) -> Result<(), PolicyViolation> {
    match held {
        Some(held) => judge_grant(held, &Scopes::none(), scopes),
        None => Ok(()),
    }
}
