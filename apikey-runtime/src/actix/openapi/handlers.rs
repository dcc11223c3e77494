//! Which handler an operation of a document is.
//!
//! A document has neither types nor modules: an operation is known by its id, which is a function's
//! name unless the application sets it, by its path, and by what else the handler's own
//! `#[utoipa::path]` says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::path::Operation;
use utoipa::openapi::{HttpMethod, OpenApi, PathItem};

use super::guard_entry::{Author, DocumentedPath, GuardEntry};
use super::security::Demand;
use crate::policy::KeyLocation;

/// A handler with its guards.
pub(super) struct GuardedHandler {
    module: &'static str,
    function: &'static str,
    /// What its `#[utoipa::path]` says, if the attribute saw it.
    own: Option<DocumentedPath>,
    pub(super) guards: Vec<(Author, Demand)>,
    /// Whether an error handler of a route makes the responses.
    pub(super) is_custom: bool,
}

/// An operation of the document.
pub(super) struct OperationPlace<'d> {
    pub(super) path: &'d str,
    method: Option<HttpMethod>,
    operation: &'d Operation,
}

/// How well a handler fits an operation; the greatest is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    is_same: bool,
    has_tag: bool,
    path_length: usize,
}

/// The handlers of a document's operations.
#[derive(Default)]
pub(super) struct Matches {
    /// The handler of each operation, by their numbers.
    pub(super) of_operation: BTreeMap<usize, usize>,
    /// The operations that may belong to several handlers, or to one of several.
    pub(super) ambiguous: BTreeMap<usize, Vec<usize>>,
}

impl GuardedHandler {
    /// Returns the handlers of the program, in the order of their names.
    pub(super) fn all(default: &KeyLocation<'_>) -> Vec<Self> {
        let mut entries = GuardEntry::all();
        // Those that know their path come first, so that the others of the same handler join them, and
        // the topmost one before those below it.
        entries.sort_by_key(|entry| {
            let is_unknown = entry.documented.is_none();
            (
                entry.module,
                entry.function,
                is_unknown,
                Reverse(entry.below),
            )
        });
        let mut handlers: Vec<Self> = Vec::new();
        for entry in entries {
            let rules = (entry.rules)();
            let guard = (entry.author, Demand::of(&rules.policy, default));
            let is_custom = rules.on_error.is_some();
            match handlers.iter_mut().find(|handler| handler.is_of(&entry)) {
                Some(handler) => {
                    handler.guards.push(guard);
                    handler.is_custom |= is_custom;
                }
                None => handlers.push(Self {
                    module: entry.module,
                    function: entry.function,
                    own: entry.documented.map(|documented| documented()),
                    guards: vec![guard],
                    is_custom,
                }),
            }
        }
        handlers
    }

    pub(super) fn name(&self) -> String {
        format!("{}::{}", self.module, self.function)
    }

    fn is_of(&self, entry: &GuardEntry) -> bool {
        let is_same_name = self.module == entry.module && self.function == entry.function;
        let is_same_type = match (&self.own, entry.documented) {
            (Some(own), Some(documented)) => own.id == documented().id,
            _ => true,
        };
        is_same_name && is_same_type
    }

    /// Returns whether the document has what the attribute wrote.
    pub(super) fn is_written(&self) -> bool {
        self.guards
            .iter()
            .any(|(author, _)| *author == Author::Attribute)
    }

    /// Returns whether the document does not have what one of the guards demands.
    fn is_unwritten(&self) -> bool {
        let mut guards = self.guards.iter();
        guards.any(|(author, _)| *author == Author::Missing)
    }

    /// Returns whether the handler can be the operation, and how well it fits.
    fn fit(&self, place: &OperationPlace<'_>) -> Option<Fit> {
        let id = place.operation.operation_id.as_deref()?;
        // The attribute writes a requirement into the document, unless the key is in the body.
        let has_security = place.operation.security.is_some();
        let tags = place.operation.tags.iter().flatten();
        let has_tag = || {
            let module = format!("::{}", self.module);
            tags.map(|tag| format!("::{tag}"))
                .any(|tag| module.ends_with(&tag))
        };
        let Some(own) = &self.own else {
            return (id == self.function).then(|| Fit {
                is_same: false,
                has_tag: has_tag(),
                path_length: 0,
            });
        };
        let is_named = own.operation.operation_id.as_deref() == Some(id);
        let is_routed = place.path.ends_with(&own.path)
            && place
                .method
                .as_ref()
                .is_some_and(|method| own.methods.contains(method));
        let is_as_secured = has_security || own.operation.security.is_none();
        (is_named && is_routed && is_as_secured).then(|| Fit {
            is_same: own.is(place.operation),
            has_tag: has_tag(),
            path_length: own.path.len(),
        })
    }
}

impl DocumentedPath {
    /// Returns whether an operation is this one, apart from its tags, which a document adds.
    fn is(&self, operation: &Operation) -> bool {
        let mut operation = operation.clone();
        operation.tags.clone_from(&self.operation.tags);
        operation == self.operation
    }
}

impl Matches {
    pub(super) fn of(places: &[OperationPlace<'_>], handlers: &[GuardedHandler]) -> Self {
        let all: Vec<_> = places
            .iter()
            .map(|place| Candidates::of(place, handlers))
            .collect();
        let mut matches = Self::default();
        for (number, candidates) in all.iter().enumerate() {
            let found = match candidates.handlers.as_slice() {
                [] => Match::Other,
                [handler] => match_of_one(*handler, number, places, &all),
                _ => match_of_several(number, handlers, &all),
            };
            match found {
                Match::Handler(handler) => {
                    matches.of_operation.insert(number, handler);
                }
                Match::Ambiguous => {
                    let candidates = candidates.handlers.clone();
                    matches.ambiguous.insert(number, candidates);
                }
                Match::Other => {}
            }
        }
        matches
    }

    /// Returns the handlers with a guard below `#[utoipa::path]` that are not in the document, in modules
    /// of which it has others. One whose `#[utoipa::path]` the attribute did not see counts, in any
    /// module, only if an operation is left for it.
    pub(super) fn absent<'h>(
        &self,
        places: &[OperationPlace<'_>],
        handlers: &'h [GuardedHandler],
    ) -> Vec<&'h GuardedHandler> {
        let ambiguous = self.ambiguous.values().flatten();
        let present = self.of_operation.values().chain(ambiguous).copied();
        let present: BTreeSet<usize> = present.collect();
        let modules = present.iter().map(|number| handlers[*number].module);
        let modules: BTreeSet<_> = modules.collect();
        let mut places = places.iter().enumerate();
        let has_open = places.any(|(number, place)| {
            place.operation.security.is_none() && !self.of_operation.contains_key(&number)
        });
        let absent = handlers.iter().enumerate().filter(|(number, handler)| {
            let may_be_meant = match handler.own {
                Some(_) => modules.contains(handler.module),
                None => has_open,
            };
            may_be_meant && handler.is_unwritten() && !present.contains(number)
        });
        absent.map(|(_, handler)| handler).collect()
    }
}

/// The handlers that fit an operation best.
struct Candidates {
    handlers: Vec<usize>,
    fit: Option<Fit>,
}

/// Whose operation it is.
enum Match {
    Handler(usize),
    /// Not to a guarded handler.
    Other,
    Ambiguous,
}

impl Candidates {
    fn of(place: &OperationPlace<'_>, handlers: &[GuardedHandler]) -> Self {
        let fits: Vec<_> = handlers.iter().map(|handler| handler.fit(place)).collect();
        let fit = fits.iter().flatten().max().copied();
        let is_best = |number: &usize| fit.is_some() && fits[*number] == fit;
        Self {
            handlers: (0..fits.len()).filter(is_best).collect(),
            fit,
        }
    }
}

/// Returns the match of an operation that one handler fits best: the handler, unless it fits the
/// operation of another path as well, or better. A handler can have several methods of a path.
fn match_of_one(
    handler: usize,
    number: usize,
    places: &[OperationPlace<'_>],
    all: &[Candidates],
) -> Match {
    let fit = all[number].fit;
    let rivals = all.iter().zip(places).filter(|(rival, place)| {
        rival.handlers.contains(&handler) && place.path != places[number].path
    });
    match rivals.map(|(rival, _)| rival.fit).max() {
        Some(rival) if rival > fit => Match::Other,
        Some(rival) if rival == fit => Match::Ambiguous,
        _ => Match::Handler(handler),
    }
}

/// Returns the match of an operation that several handlers fit alike: one of them, if it does not
/// matter which.
fn match_of_several(number: usize, handlers: &[GuardedHandler], all: &[Candidates]) -> Match {
    let candidates = &all[number].handlers;
    let alike = |rivals: &[Candidates]| {
        let rivals = rivals.iter();
        rivals.filter(|rival| rival.handlers == *candidates).count()
    };
    let mut guards = candidates.iter().map(|handler| {
        let handler = &handlers[*handler];
        (&handler.guards, handler.is_custom)
    });
    let first = guards.next();
    let is_same = guards.all(|other| Some(other) == first);
    match candidates.get(alike(&all[..number])) {
        Some(handler) if is_same && alike(all) == candidates.len() => Match::Handler(*handler),
        _ => Match::Ambiguous,
    }
}

/// Returns the operations of a document, always in the same order.
pub(super) fn places(document: &OpenApi) -> Vec<OperationPlace<'_>> {
    let items = document.paths.paths.iter();
    items
        .flat_map(|(path, item)| {
            operations(item)
                .into_iter()
                .map(move |(method, operation)| OperationPlace {
                    path,
                    method,
                    operation,
                })
        })
        .collect()
}

fn operations(item: &PathItem) -> Vec<(Option<HttpMethod>, &Operation)> {
    let known = [
        (HttpMethod::Get, &item.get),
        (HttpMethod::Put, &item.put),
        (HttpMethod::Post, &item.post),
        (HttpMethod::Delete, &item.delete),
        (HttpMethod::Options, &item.options),
        (HttpMethod::Head, &item.head),
        (HttpMethod::Patch, &item.patch),
        (HttpMethod::Trace, &item.trace),
    ];
    let known = known
        .into_iter()
        .filter_map(|(method, operation)| Some((Some(method), operation.as_ref()?)));
    let others = item.query.iter().chain(item.additional_operations.values());
    known
        .chain(others.map(|operation| (None, operation)))
        .collect()
}

/// Returns the operations in the order of [`places`], to be changed.
pub(super) fn operations_mut(
    document: &mut OpenApi,
) -> impl Iterator<Item = (&str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let known = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.options,
            &mut item.head,
            &mut item.patch,
            &mut item.trace,
            &mut item.query,
        ];
        let others = item.additional_operations.values_mut();
        known
            .into_iter()
            .flatten()
            .chain(others)
            .map(move |operation| (path.as_str(), operation))
    })
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::{OperationBuilder, PathsBuilder};
    use utoipa::openapi::security::SecurityRequirement;
    use utoipa::openapi::{Info, Paths};

    use super::*;
    use crate::policy::Policy;

    /// A handler whose `#[utoipa::path]` the attribute did not see.
    fn untyped(module: &'static str, function: &'static str, author: Author) -> GuardedHandler {
        let demand = Demand::of(&Policy::new(), &KeyLocation::BEARER);
        GuardedHandler {
            module,
            function,
            own: None,
            guards: vec![(author, demand)],
            is_custom: false,
        }
    }

    fn paths(id: &str, security: Option<SecurityRequirement>) -> Paths {
        let operation = OperationBuilder::new()
            .operation_id(Some(id))
            .securities(security.map(|one| [one]));
        let item = PathItem::new(HttpMethod::Get, operation);
        PathsBuilder::new().path("/", item).build()
    }

    #[test]
    fn a_handler_alone_in_its_module_is_missed_if_an_operation_is_open() {
        let missed_of = |author, id: &str, security| {
            let handlers = [untyped("a", "list", author)];
            let document = OpenApi::new(Info::new("", ""), paths(id, security));
            let places = places(&document);
            let matches = Matches::of(&places, &handlers);
            matches.absent(&places, &handlers).len()
        };
        let missed = |id: &str, security| missed_of(Author::Missing, id, security);
        assert_eq!(missed("renamed", None), 1);
        // It says itself what it demands, once it is in a document.
        assert_eq!(missed_of(Author::Attribute, "renamed", None), 0);
        assert_eq!(missed("list", None), 0);
        let secured = SecurityRequirement::new("mine", [""; 0]);
        assert_eq!(missed("renamed", Some(secured)), 0);
    }
}
