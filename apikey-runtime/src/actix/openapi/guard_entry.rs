//! The guards of the program, as the attribute registers them.

use std::any::{TypeId, type_name};
use std::collections::BTreeMap;

use parking_lot::Mutex;

use utoipa::openapi::HttpMethod;
use utoipa::openapi::path::Operation;

use crate::actix::policy::{RoutePolicy, RouteRules};

inventory::collect!(GuardEntry);

/// The guards that [`GuardEntry::add`] added, by the type of their handler's `#[utoipa::path]`.
static ADDED: Mutex<BTreeMap<TypeId, GuardEntry>> = Mutex::new(BTreeMap::new());

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

    /// Adds the guard with the policy `P` above the `#[utoipa::path]` that made the type `D`, when the
    /// operation is made. So rustc does not evaluate anything for it.
    pub(super) fn add<P: RoutePolicy, D: utoipa::Path + 'static>() {
        // `module::__path_function`.
        let name = type_name::<D>();
        let (module, name) = name.rsplit_once("::").unwrap_or(("", name));
        let function = name.strip_prefix("__path_").unwrap_or(name);
        let documented = DocumentedPath::of::<D>;
        let entry = Self::of::<P>(module, function, 0, Author::Attribute, Some(documented));
        ADDED.lock().insert(TypeId::of::<D>(), entry);
    }

    /// Returns the guards of the program that are known so far: those that registered themselves, and
    /// those of the operations that were made.
    pub(super) fn all() -> Vec<Self> {
        let registered = inventory::iter::<Self>.into_iter().copied();
        let added = ADDED.lock();
        registered.chain(added.values().copied()).collect()
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
