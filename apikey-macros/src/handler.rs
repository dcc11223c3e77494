//! Validates a function as a handler that actix can call and the attribute can guard.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Generics, Ident, Pat, PatType, Path, ReturnType, Safety, Signature, Token,
    Type, TypeParamBound, Visibility,
};

use crate::{
    Features,
    attributes::{self, ArgumentAttribute},
    diagnostics::Errors,
    function::{FunctionBody, FunctionSyntax},
};

/// The maximum number of arguments, which is the size of actix's largest tuple of extractors.
const MAX_ARGUMENTS: usize = 16;

/// Response types that are known not to be futures.
///
/// The list contains unambiguous names only, because any other name may be an alias of a future.
const RESPONSE_TYPES: [&str; 14] = [
    "HttpResponse",
    "HttpResponseBuilder",
    "Result",
    "Option",
    "String",
    "Vec",
    "Bytes",
    "BytesMut",
    "Json",
    "Form",
    "Html",
    "Redirect",
    "NamedFile",
    "Cow",
];

/// A validated function that the attribute can guard.
pub(crate) struct Handler {
    /// All attributes, as written.
    pub(crate) attributes: Vec<Attribute>,
    /// The `cfg`s among them.
    pub(crate) cfgs: Vec<TokenStream>,
    /// The number of `#[api_key_required]` attributes below this one.
    pub(crate) guards_below: usize,
    /// The visibility.
    pub(crate) visibility: Visibility,
    /// `async`; `None` if the function returns a future.
    pub(crate) asyncness: Option<Token![async]>,
    /// The `fn` keyword.
    pub(crate) fn_token: Token![fn],
    /// The name.
    pub(crate) name: Ident,
    /// The generics, including the `where` clause.
    pub(crate) generics: Generics,
    /// The arguments, at most 16.
    pub(crate) arguments: Vec<HandlerArgument>,
    /// The return type.
    pub(crate) output: ReturnType,
    /// The body.
    pub(crate) body: FunctionBody,
}

/// An argument of a handler.
pub(crate) struct HandlerArgument {
    /// Its lint attributes.
    pub(crate) lints: Vec<Attribute>,
    /// Its pattern.
    pub(crate) pattern: Pat,
    /// Its type.
    pub(crate) extractor: Type,
}

/// Validates everything about the function that its tokens show.
pub(crate) fn check(
    function: FunctionSyntax,
    features: Features,
    errors: &mut Errors,
) -> Option<Handler> {
    let FunctionSyntax {
        attributes,
        visibility,
        signature,
        body,
    } = function;
    let callable = check_qualifiers(&signature, errors);
    let responds = check_output(&signature, errors);
    let ordered = check_order(&attributes, features, errors);
    let arguments = check_arguments(signature.inputs, errors);
    (callable && responds && ordered).then_some(())?;
    Some(Handler {
        cfgs: attributes::cfgs(&attributes),
        guards_below: count_guards(&attributes),
        attributes,
        visibility,
        asyncness: signature.asyncness,
        fn_token: signature.fn_token,
        name: signature.ident,
        generics: signature.generics,
        arguments: arguments?,
        output: signature.output,
        body,
    })
}

/// Rejects functions that actix cannot call. Returns whether the qualifiers are valid.
fn check_qualifiers(signature: &Signature, errors: &mut Errors) -> bool {
    let mut callable = true;
    let mut reject = |tokens: &dyn ToTokens, problem: &str| {
        errors.on(tokens.to_token_stream(), problem);
        callable = false;
    };
    if let Some(constness) = &signature.constness {
        reject(constness, "a handler cannot be `const`; remove the keyword");
    }
    match &signature.safety {
        Safety::Default => {}
        Safety::Unsafe(safety) => {
            reject(safety, "a handler cannot be `unsafe`; remove the keyword")
        }
        Safety::Safe(safety) => reject(safety, "a handler cannot be `safe`; remove the keyword"),
    }
    if let Some(abi) = &signature.abi {
        reject(abi, "a handler cannot be `extern`; remove the ABI");
    }
    if let Some(variadic) = &signature.variadic {
        let problem = "a handler cannot be variadic; replace `...` with arguments";
        reject(&variadic.dots, problem);
    }
    callable
}

/// Rejects a missing return type and, without `async`, one that is not a future.
fn check_output(signature: &Signature, errors: &mut Errors) -> bool {
    let name = &signature.ident;
    let async_fn = signature.asyncness.is_some();
    let problem = match &signature.output {
        ReturnType::Default if async_fn => {
            format!("`{name}` has no return type; add one, as in `-> impl Responder`")
        }
        ReturnType::Default => {
            format!("`{name}` has no return type; write `async fn {name}(..) -> impl Responder`")
        }
        ReturnType::Type(_, output) => match describe_non_future(output) {
            Some(output) if !async_fn => {
                format!(
                    "`{name}` is not `async`, and {output} is not a future; write `async fn {name}`"
                )
            }
            _ => return true,
        },
    };
    match &signature.output {
        ReturnType::Default => errors.on(name, problem),
        ReturnType::Type(..) => errors.on(signature.fn_token, problem),
    }
    false
}

/// Describes `output` if it is known not to be a future.
fn describe_non_future(output: &Type) -> Option<String> {
    match output {
        Type::Group(group) => describe_non_future(&group.elem),
        Type::Paren(paren) => describe_non_future(&paren.elem),
        Type::Reference(_) => Some("a reference".to_owned()),
        Type::Tuple(_) => Some("a tuple".to_owned()),
        Type::Array(_) | Type::Slice(_) => Some("an array".to_owned()),
        Type::ImplTrait(bounds) => bounds
            .bounds
            .iter()
            .all(is_responder)
            .then(|| "`impl Responder`".to_owned()),
        Type::Path(path) => {
            let word = path.path.segments.last()?.ident.to_string();
            RESPONSE_TYPES
                .contains(&word.as_str())
                .then(|| format!("`{word}`"))
        }
        _ => None,
    }
}

/// Returns whether a bound is `Responder` or a lifetime.
fn is_responder(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => is_named(&bound.path, "Responder"),
        TypeParamBound::Lifetime(_) => true,
        _ => false,
    }
}

/// Rejects attributes that would read or change the arguments outside the guard.
fn check_order(attributes: &[Attribute], features: Features, errors: &mut Errors) -> bool {
    let mut ordered = true;
    for attribute in attributes {
        for path in attributes::paths(&attribute.meta) {
            // The guard moves `#[utoipa::path]` above itself.
            let is_moved = features.openapi && attributes::is_utoipa_path(&path);
            if is_moved || !changes_arguments(&path) {
                continue;
            }
            let name = path.to_token_stream().to_string().replace(' ', "");
            let problem = format!("`#[{name}]` would read or change arguments outside the guard");
            let remedy = "move it above `#[api_key_required]`";
            errors.on(attribute.meta.path(), format!("{problem}; {remedy}"));
            ordered = false;
        }
    }
    ordered
}

/// Returns whether an attribute is known to add or read arguments.
///
/// `protect` of actix-web-grants adds an argument, which would be extracted before the key is
/// checked. `utoipa::path` documents the arguments that it sees, and would see only the guard.
fn changes_arguments(path: &Path) -> bool {
    is_named(path, "protect") || attributes::is_utoipa_path(path)
}

/// Counts the `#[api_key_required]` attributes.
fn count_guards(attributes: &[Attribute]) -> usize {
    attributes
        .iter()
        .flat_map(|attribute| attributes::paths(&attribute.meta))
        .filter(attributes::is_guard)
        .count()
}

fn is_named(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

/// Validates every argument and their number.
fn check_arguments(
    inputs: impl IntoIterator<Item = FnArg>,
    errors: &mut Errors,
) -> Option<Vec<HandlerArgument>> {
    let arguments: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| {
            if index == MAX_ARGUMENTS {
                let problem = format!("a handler takes at most {MAX_ARGUMENTS} arguments");
                let remedy = "combine two of them into a tuple, as in `(a, b): (A, B)`";
                errors.on(&input, format!("{problem}; {remedy}"));
            }
            let argument = check_argument(input, errors)?;
            (index < MAX_ARGUMENTS).then_some(argument)
        })
        .collect();
    arguments.into_iter().collect()
}

fn check_argument(input: FnArg, errors: &mut Errors) -> Option<HandlerArgument> {
    match input {
        FnArg::Receiver(receiver) => {
            let problem = "a handler cannot take `self`, because actix has no value to call it on";
            let remedy = "pass shared state as `web::Data<..>`";
            errors.on(receiver.self_token, format!("{problem}; {remedy}"));
            None
        }
        FnArg::Typed(PatType { attrs, pat, ty, .. }) => {
            // `count` visits every attribute, so that each invalid one is reported.
            let rejected = attrs
                .iter()
                .filter(|attribute| !check_argument_attribute(attribute, errors))
                .count();
            (rejected == 0).then_some(HandlerArgument {
                lints: attrs,
                pattern: *pat,
                extractor: *ty,
            })
        }
    }
}

/// Returns whether an attribute can stay on an argument.
fn check_argument_attribute(attribute: &Attribute, errors: &mut Errors) -> bool {
    let problem = match ArgumentAttribute::of(attribute) {
        ArgumentAttribute::Lint => return true,
        ArgumentAttribute::Cfg => {
            "`#[cfg]` cannot remove an argument of a guarded handler; \
             write two handlers, each with its own `#[cfg]`"
        }
        ArgumentAttribute::Doc => {
            "an argument cannot have a doc comment; move it above the handler"
        }
        ArgumentAttribute::Other => {
            "arguments of a guarded handler support only lint attributes; \
             move the macro that reads this attribute above `#[api_key_required]`"
        }
    };
    errors.on(attribute, problem);
    false
}
