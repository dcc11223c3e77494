//! The guards of the program, as the attribute registers them.

use std::any::TypeId;

use utoipa::openapi::HttpMethod;
use utoipa::openapi::path::Operation;

use crate::actix::policy::{RoutePolicy, RouteRules};

inventory::collect!(GuardEntry);

/// A guard of a handler.
#[derive(Clone, Copy)]
pub struct GuardEntry {
    pub(super) module: &'static str,
    pub(super) function: &'static str,
    /// The number of attributes below it.
    pub(super) below: usize,
    pub(super) rules: fn() -> RouteRules,
    pub(super) author: Author,
    pub(super) documented: Option<fn() -> DocumentedPath>,
}

/// Who wrote what the handler's `#[utoipa::path]` says about the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// It does not say anything: the guard stands below it.
    Missing,
    /// The attribute.
    Attribute,
    /// The application, which wrote the security of the operation.
    Application,
}

/// What the type that `#[utoipa::path]` makes for a handler says.
pub struct DocumentedPath {
    pub(super) id: TypeId,
    pub(super) path: String,
    pub(super) methods: Vec<HttpMethod>,
    pub(super) operation: Operation,
}

impl DocumentedPath {
    /// Reads it.
    #[must_use]
    pub fn of<T: utoipa::Path + 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            path: T::path(),
            methods: T::methods(),
            operation: T::operation(),
        }
    }
}

impl std::fmt::Debug for DocumentedPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut path = f.debug_struct("DocumentedPath");
        path.field("path", &self.path).finish_non_exhaustive()
    }
}

impl GuardEntry {
    /// Creates the entry of a guard with the policy `P`. One call, since rustc evaluates it for each
    /// handler.
    #[must_use]
    pub const fn of<P: RoutePolicy>(
        module: &'static str,
        function: &'static str,
        below: usize,
        author: Author,
        documented: Option<fn() -> DocumentedPath>,
    ) -> Self {
        Self {
            module,
            function,
            below,
            rules: RouteRules::of::<P>,
            author,
            documented,
        }
    }
}

impl std::fmt::Debug for GuardEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardEntry")
            .field("module", &self.module)
            .field("function", &self.function)
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}
