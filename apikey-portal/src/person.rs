//! Who is signed in, and what they may do.

use std::error::Error;
use std::future::Future;

use actix_web::HttpRequest;
use apikey_runtime::Scopes;

/// Tells the portal who is signed in. The application implements it on its own sessions, tokens or proxy headers.
///
/// The portal calls it once for each request to its pages and its API. It calls it for requests with a key too, so that
/// a request with both is rejected. It never keeps a person longer than the request.
///
/// ```
/// use actix_web::HttpRequest;
/// use apikey_portal::{Grants, Person, PortalAuth};
///
/// struct Sessions;
///
/// impl PortalAuth for Sessions {
///     async fn person(&self, request: &HttpRequest) -> Result<Option<Person>, apikey_portal::BoxError> {
///         // In an application: the user of the session.
///         let name = request.headers().get("x-user").and_then(|name| name.to_str().ok());
///         Ok(name.map(|name| Person::new(name).with_owner(name).with_grants(Grants::All)))
///     }
/// }
/// ```
pub trait PortalAuth: Send + Sync + 'static {
    /// Returns the person who sent the request; `None` if nobody is signed in.
    ///
    /// # Errors
    ///
    /// Returns an error if that is not known, for example because the session store does not answer. The
    /// portal then answers 503 and logs the error with its causes.
    fn person(
        &self,
        request: &HttpRequest,
    ) -> impl Future<Output = Result<Option<Person>, BoxError>>;
}

/// An error of an application's own code.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A person who is signed in.
///
/// By default, a person sees and changes the keys of no owner, and grants no scope: add what they may do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Person {
    /// The person's id: the actor in events and in the audit log. It has 1 to 200 bytes, no control characters, and
    /// does not begin with `key:`, as the actor does that a key is. Otherwise, the portal answers 500 and logs an error.
    pub id: String,
    /// The name that pages show. By default, the id.
    pub name: String,
    /// The owners whose keys are this person's. The first one owns the keys that they create without naming
    /// an owner, if it is the only one.
    pub owners: Vec<String>,
    /// What the person may do.
    pub role: Role,
    /// The scopes that the person may give to a key.
    pub may_grant: Grants,
}

/// What a person may do with keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Sees the keys of their owners, and changes nothing.
    ReadOnly,
    /// Sees and changes the keys of their owners. The default.
    #[default]
    Own,
    /// Sees and changes all keys, those without an owner too.
    Admin,
}

/// The scopes that a person may give to a key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Grants {
    /// Each scope, except for those that begin with `apikeys:`, which have to be named.
    All,
    /// Each scope that [`All`](Self::All) has, and these: the ones that begin with `apikeys:`, with which a key manages
    /// keys.
    AllWith(Scopes),
    /// These scopes, and no others.
    Only(Scopes),
}

impl Person {
    /// Creates a person with the role [`Role::Own`], without owners, who grants no scope.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            owners: Vec::new(),
            role: Role::default(),
            may_grant: Grants::Only(Scopes::none()),
        }
    }

    /// Sets the name that pages show.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds an owner whose keys are this person's.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owners.push(owner.into());
        self
    }

    /// Sets what the person may do.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Sets the scopes that the person may give to a key.
    #[must_use]
    pub fn with_grants(mut self, grants: Grants) -> Self {
        self.may_grant = grants;
        self
    }
}

impl Person {
    /// Returns what is wrong with the id, and what to do.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !(1..=MAX_ID).contains(&self.id.len()) {
            Some("the id of `Person` does not have 1 to 200 bytes; give each person a short id")
        } else if self.id.chars().any(char::is_control) {
            Some("the id of `Person` has a control character; give each person an id without one")
        } else if self.id.starts_with(KEY_ACTOR) {
            Some(
                "the id of `Person` begins with `key:`, as that of a key; add another beginning, such as `user:`",
            )
        } else {
            None
        }
    }
}

impl Grants {
    /// Returns whether all of `scopes` may be given.
    #[must_use]
    pub fn allow(&self, scopes: &Scopes) -> bool {
        scopes.iter().all(|scope| self.allows(scope))
    }

    /// Returns whether the scope may be given.
    #[must_use]
    pub fn allows(&self, scope: &str) -> bool {
        match self {
            Self::All => !scope.starts_with(RESERVED),
            Self::AllWith(named) => !scope.starts_with(RESERVED) || named.contains(scope),
            Self::Only(scopes) => scopes.contains(scope),
        }
    }

    /// Returns the scopes by which the runtime checks a change; `None` if they are not a list.
    pub(crate) fn only(&self) -> Option<&Scopes> {
        match self {
            Self::All | Self::AllWith(_) => None,
            Self::Only(scopes) => Some(scopes),
        }
    }
}

/// The beginning of the scopes with which a key manages keys.
pub(crate) const RESERVED: &str = "apikeys:";

/// The beginning of the actor that a key is.
pub(crate) const KEY_ACTOR: &str = "key:";

/// The longest id of a person, in bytes.
const MAX_ID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_scopes_are_granted_by_name_alone() {
        let scopes = |texts: &[&str]| Scopes::new(texts.iter().copied()).unwrap();
        let read = scopes(&["apikeys:read"]);
        for (grants, ordinary, named, another) in [
            (Grants::All, true, false, false),
            (Grants::AllWith(read.clone()), true, true, false),
            (Grants::Only(read.clone()), false, true, false),
        ] {
            assert_eq!(grants.allows("orders:read"), ordinary, "{grants:?}");
            assert_eq!(grants.allows("apikeys:read"), named, "{grants:?}");
            assert_eq!(grants.allows("apikeys:manage"), another, "{grants:?}");
            let both = scopes(&["orders:read", "apikeys:read"]);
            assert_eq!(grants.allow(&both), ordinary && named, "{grants:?}");
        }
    }
}
