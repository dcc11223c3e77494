//! A credential, borrowed from its request or owned.

use std::rc::Rc;

use crate::key::{OwnedKey, ParsedKey};
use crate::verify::VerifiedCredential;

/// The credential of a request: a key that it presents, or what remains of one.
pub(in crate::actix) enum GuardCredential<K> {
    Presented(K),
    AlreadyVerified(Rc<VerifiedCredential>),
}

/// A credential that crosses an await.
pub(in crate::actix) type OwnedCredential = GuardCredential<OwnedKey>;

impl GuardCredential<ParsedKey<'_>> {
    pub(in crate::actix) fn into_owned(self) -> OwnedCredential {
        match self {
            Self::Presented(key) => GuardCredential::Presented(key.into()),
            Self::AlreadyVerified(credential) => GuardCredential::AlreadyVerified(credential),
        }
    }
}

/// A key that lends its parts.
pub(in crate::actix) trait LendKey {
    fn lend(&self) -> ParsedKey<'_>;
}

impl LendKey for ParsedKey<'_> {
    fn lend(&self) -> ParsedKey<'_> {
        *self
    }
}

impl LendKey for OwnedKey {
    fn lend(&self) -> ParsedKey<'_> {
        self.as_parsed()
    }
}
