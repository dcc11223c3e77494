//! The one decision whether a person may do something: pages and the API ask it.

use apikey_runtime::{KeyRecord, Scopes};

use crate::person::{Person, Role};

/// What a person wants to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action<'a> {
    /// See a key, its usage and its audit entries.
    See,
    /// Change the fields of a key that its owner may change. It may keep scopes that the person may not give.
    Edit { added_scopes: &'a Scopes },
    /// Change what belongs to admins: the owner, limits, metadata, the environment.
    EditReserved,
    /// Make a key last longer or work again: rotate, enable, a later end, removing the end.
    Prolong,
    /// Revoke or disable a key.
    End,
}

/// Why a person may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The key is not the person's: the answer is the same as if it did not exist.
    NotFound,
    /// The person may see the key, and not do this.
    Forbidden,
    /// The person does not have all scopes of the key.
    Scopes,
}

/// Decides whether a person may do something with a key.
pub(crate) fn may(person: &Person, action: &Action<'_>, record: &KeyRecord) -> Result<(), Refusal> {
    if !owns(person, record.owner.as_deref()) {
        return Err(Refusal::NotFound);
    }
    match (action, person.role) {
        (Action::See, _) => Ok(()),
        (_, Role::ReadOnly) => Err(Refusal::Forbidden),
        (Action::End, Role::Own | Role::Admin) => Ok(()),
        (Action::EditReserved, Role::Own) => Err(Refusal::Forbidden),
        (Action::EditReserved, Role::Admin) => Ok(()),
        (Action::Edit { added_scopes }, Role::Own | Role::Admin) => grants(person, added_scopes),
        (Action::Prolong, Role::Own | Role::Admin) => grants(person, &record.scopes),
    }
}

/// Decides whether a person may create a key with these scopes for an owner.
pub(crate) fn may_create(
    person: &Person,
    owner: Option<&str>,
    scopes: &Scopes,
) -> Result<(), Refusal> {
    if !owns(person, owner) {
        return Err(Refusal::NotFound);
    }
    match person.role {
        Role::Own | Role::Admin => grants(person, scopes),
        _ => Err(Refusal::Forbidden),
    }
}

/// Decides whether a person may see and do what is for all owners: owners, guarded routes, the manager's health.
/// For others, it does not exist.
pub(crate) fn may_administer(person: &Person) -> Result<(), Refusal> {
    match person.role {
        Role::Admin => Ok(()),
        _ => Err(Refusal::NotFound),
    }
}

/// Returns whether keys of this owner are the person's. A key without an owner belongs to admins.
pub(crate) fn owns(person: &Person, owner: Option<&str>) -> bool {
    person.role == Role::Admin
        || owner.is_some_and(|owner| person.owners.iter().any(|own| own == owner))
}

fn grants(person: &Person, scopes: &Scopes) -> Result<(), Refusal> {
    match person.may_grant.allow(scopes) {
        true => Ok(()),
        false => Err(Refusal::Scopes),
    }
}
