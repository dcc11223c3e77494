//! What of the audit log a person may read.

use apikey_runtime::audit::{AuditAction, AuditEntry, FieldChange};

use crate::may::owns;
use crate::person::{Person, Role};

/// What is told of an owner whom the reader may not know.
const NOT_YOURS: &str = "not yours";

/// Removes the entries that are not the person's, and what others tell of other owners.
///
/// The entry by which a key came from another owner, or was given to one, says that it did, and nothing of the other
/// owner.
pub(crate) fn redact(person: &Person, entries: &mut Vec<AuditEntry>) {
    if person.role == Role::Admin {
        return;
    }
    let owns = |owner: &Option<String>| owns(person, owner.as_deref());
    entries.retain(|entry| owns(&entry.owner) || owns(&entry.former_owner));
    for entry in entries {
        if !is_transfer(entry) || owns(&entry.owner) && owns(&entry.former_owner) {
            continue;
        }
        // One side of each field is of another owner, and the reason may name them.
        let told = |owner: &Option<String>| match owner {
            Some(owner) => Some(owner.clone().into()),
            None => Some(NOT_YOURS.into()),
        };
        for owner in [&mut entry.owner, &mut entry.former_owner] {
            *owner = owner.take().filter(|owner| person.owners.contains(owner));
        }
        let (before, after) = (told(&entry.former_owner), told(&entry.owner));
        entry.fields = vec![FieldChange::new("owner", before, after)];
        entry.origin.reason = None;
    }
}

/// Returns whether a change gave a key to another owner.
fn is_transfer(entry: &AuditEntry) -> bool {
    let is_new_or_gone = matches!(entry.action, AuditAction::Created | AuditAction::Purged);
    let changes_owner = || entry.fields.iter().any(|change| change.field == "owner");
    entry.former_owner.is_some() || !is_new_or_gone && changes_owner()
}
