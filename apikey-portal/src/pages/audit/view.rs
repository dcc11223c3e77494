//! Which entries of the audit log a person may read, and what of them.

use apikey_runtime::ApiKeyManager;
use apikey_runtime::audit::AuditEntry;
use apikey_runtime::manager::AuditRequest;

use super::filter::{AskedEntries, AuditFilter};
use crate::error::PageError;
use crate::may::owns;
use crate::pages::NO_OWNER;
use crate::pages::pasted::{cleaned, id_in};
use crate::pages::text::ID_LEN;
use crate::person::{Person, Role};
use crate::redact::redact;
use crate::visit::Visit;

/// The entries that a person may read, and chose to.
///
/// A person who is not an admin reads the entries of one of their owners: of the time in which a key was the
/// owner's. The entry by which it came from another owner, or was given to one, says that it did, and nothing of
/// the other owner.
#[derive(Debug, Clone)]
pub(super) struct AuditView {
    person: Person,
    owner: Option<String>,
}

impl AuditView {
    /// Decides what the person reads. `owner` is the one that the address names; empty if it does not.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::NotFound`] for an owner that is not the person's, as for one that does not exist.
    pub(super) fn of(person: &Person, owner: &str) -> Result<Self, PageError> {
        let owner = match (Some(owner).filter(|owner| !owner.is_empty()), person.role) {
            (owner, Role::Admin) => owner.map(str::to_owned),
            (Some(owner), _) if owns(person, Some(owner)) => Some(owner.to_owned()),
            (Some(_), _) => return Err(PageError::NotFound),
            (None, _) => match person.owners.first() {
                Some(owner) => Some(owner.clone()),
                None => {
                    return Err(PageError::Forbidden(NO_OWNER));
                }
            },
        };
        Ok(Self {
            person: person.clone(),
            owner,
        })
    }

    /// Returns the owners that the person chooses from; empty for an admin.
    pub(super) fn choices(&self) -> &[String] {
        match self.person.role {
            Role::Admin => &[],
            _ => &self.person.owners,
        }
    }

    /// Puts the id of a key in the place of what was copied from a page: the key, or its beginning if one key of the
    /// view begins so.
    ///
    /// # Errors
    ///
    /// Returns [`PageError::Unavailable`] if the store does not answer.
    pub(super) async fn with_whole_key(
        &self,
        visit: &Visit,
        mut filter: AuditFilter,
    ) -> Result<AuditFilter, PageError> {
        filter.key = cleaned(visit, &filter.key).to_owned();
        let Some(id) = id_in(visit, &filter.key) else {
            return Ok(filter);
        };
        if id.len() == ID_LEN {
            filter.key = id.to_owned();
            return Ok(filter);
        }
        let mut list = visit.state.manager.list().id_prefix(id).page_size(2);
        if let Some(owner) = &self.owner {
            list = list.owner(owner.clone());
        }
        if let [only] = &list.await?.keys[..] {
            filter.key = only.id.to_string();
        }
        Ok(filter)
    }

    /// Returns the call that reads the entries.
    pub(super) fn request(&self, manager: &ApiKeyManager, asked: &AskedEntries) -> AuditRequest {
        let mut request = manager.audit().before(asked.before.clone());
        if let Some(owner) = &self.owner {
            request = request.owner(owner.clone());
        }
        if let Some(key) = asked.key {
            request = request.key(key);
        }
        if let Some(actor) = &asked.actor {
            request = request.actor(actor.clone());
        }
        if let Some((from, to)) = asked.span {
            request = request.between(from, to);
        }
        request
    }

    /// Removes what the person may not read.
    pub(super) fn redact(&self, entries: &mut Vec<AuditEntry>) {
        redact(&self.person, entries);
    }
}
