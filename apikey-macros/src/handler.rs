//! The function to a handler: what actix can call and the attribute can guard.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, FnArg, Generics, Ident, Pat, PatType, Path, ReturnType, Safety, Signature, Token,
    Type, TypeParamBound, Visibility,
};

use crate::{
    attributes::{self, ArgumentAttribute},
    diagnostics::Errors,
    function::{Body, FunctionSyntax},
};

/// Most arguments of a handler: actix's tuples of extractors end there.
const MAX_ARGUMENTS: usize = 16;

/// Types that a handler answers with, and that are no future.
///
/// Only names that say so by themselves; any other may be an alias of a future.
const ANSWERS: [&str; 14] = [
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

/// A function that the attribute can guard.
pub(crate) struct Handler {
    /// All of its attributes, as written.
    pub(crate) attributes: Vec<Attribute>,
    /// Those of them that decide whether it is there at all.
    pub(crate) cfgs: Vec<TokenStream>,
    /// How many `#[api_key_required]` are still to be expanded below this one.
    pub(crate) guards_below: usize,
    /// Its visibility.
    pub(crate) visibility: Visibility,
    /// `async`, unless it returns a future by itself.
    pub(crate) asyncness: Option<Token![async]>,
    /// `fn`.
    pub(crate) fn_token: Token![fn],
    /// Its name.
    pub(crate) name: Ident,
    /// Its generics, with their where clause.
    pub(crate) generics: Generics,
    /// Its arguments, at most 16.
    pub(crate) arguments: Vec<Argument>,
    /// Its return type.
    pub(crate) output: ReturnType,
    /// Its body.
    pub(crate) body: Body,
}

/// An argument of a handler.
pub(crate) struct Argument {
    /// The lint attributes that it has of its own.
    pub(crate) lints: Vec<Attribute>,
    /// Its pattern.
    pub(crate) pattern: Pat,
    /// Its type.
    pub(crate) extractor: Type,
}

/// Judges everything about the function that its tokens can tell.
pub(crate) fn check(function: FunctionSyntax, errors: &mut Errors) -> Option<Handler> {
    let FunctionSyntax {
        attributes,
        visibility,
        signature,
        body,
    } = function;
    let plain = check_qualifiers(&signature, errors);
    let answers = check_output(&signature, errors);
    let ordered = check_order(&attributes, errors);
    let arguments = check_arguments(signature.inputs, errors);
    (plain && answers && ordered).then_some(())?;
    Some(Handler {
        cfgs: attributes::cfgs(&attributes),
        guards_below: guards(&attributes),
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

/// Refuses what actix cannot call.
fn check_qualifiers(signature: &Signature, errors: &mut Errors) -> bool {
    let mut plain = true;
    let mut refuse = |tokens: &dyn ToTokens, problem: &str| {
        errors.on(tokens.to_token_stream(), problem);
        plain = false;
    };
    if let Some(constness) = &signature.constness {
        refuse(constness, "a handler cannot be `const`; remove it");
    }
    match &signature.safety {
        Safety::Default => {}
        Safety::Unsafe(safety) => refuse(safety, "a handler cannot be `unsafe`; remove it"),
        Safety::Safe(safety) => refuse(safety, "a handler cannot be `safe`; remove it"),
    }
    if let Some(abi) = &signature.abi {
        refuse(abi, "a handler cannot be `extern`; remove it");
    }
    if let Some(variadic) = &signature.variadic {
        let problem = "a handler cannot take `...`; write each argument";
        refuse(&variadic.dots, problem);
    }
    plain
}

/// Refuses an answer that cannot be one: none, or one that is there at once without `async`.
fn check_output(signature: &Signature, errors: &mut Errors) -> bool {
    let name = &signature.ident;
    let async_fn = signature.asyncness.is_some();
    let problem = match &signature.output {
        ReturnType::Default if async_fn => {
            format!("`{name}` answers with nothing; add a return type, as in `-> impl Responder`")
        }
        ReturnType::Default => {
            format!("`{name}` answers with nothing; write `async fn {name}(..) -> impl Responder`")
        }
        ReturnType::Type(_, output) => match no_future(output) {
            Some(output) if !async_fn => {
                format!(
                    "`{name}` is not `async`, and {output} is no future; write `async fn {name}`"
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

/// What `output` is if it is plainly no future, in words.
fn no_future(output: &Type) -> Option<String> {
    match output {
        Type::Group(group) => no_future(&group.elem),
        Type::Paren(paren) => no_future(&paren.elem),
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
            ANSWERS
                .contains(&word.as_str())
                .then(|| format!("`{word}`"))
        }
        _ => None,
    }
}

/// Whether a bound is `Responder`, or a lifetime.
fn is_responder(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => is_named(&bound.path, "Responder"),
        TypeParamBound::Lifetime(_) => true,
        _ => false,
    }
}

/// Refuses attributes that would change the arguments after they were guarded.
fn check_order(attributes: &[Attribute], errors: &mut Errors) -> bool {
    let mut ordered = true;
    for attribute in attributes {
        for path in attributes::paths(&attribute.meta) {
            if !changes_arguments(&path) {
                continue;
            }
            let name = path.to_token_stream().to_string().replace(' ', "");
            let problem = format!("`#[{name}]` would change the arguments behind the guard");
            let remedy = "put it above `#[api_key_required]`";
            errors.on(attribute.meta.path(), format!("{problem}; {remedy}"));
            ordered = false;
        }
    }
    ordered
}

/// Whether an attribute of this name is known to add or read arguments: `protect` of actix-web-grants
/// adds one, which would be extracted before the key was checked, and `utoipa::path` documents those
/// that it sees.
fn changes_arguments(path: &Path) -> bool {
    let mut segments = path.segments.iter().rev().map(|segment| &segment.ident);
    match (segments.next(), segments.next()) {
        (Some(last), _) if last == "protect" => true,
        (Some(last), Some(before)) => last == "path" && before == "utoipa",
        _ => false,
    }
}

/// How many of `attributes` are the one this crate is about.
fn guards(attributes: &[Attribute]) -> usize {
    attributes
        .iter()
        .flat_map(|attribute| attributes::paths(&attribute.meta))
        .filter(|path| is_named(path, "api_key_required"))
        .count()
}

fn is_named(path: &Path, name: &str) -> bool {
    path.segments
        .last()
        .is_some_and(|segment| segment.ident == name)
}

/// Judges every argument, and their number.
fn check_arguments(
    inputs: impl IntoIterator<Item = FnArg>,
    errors: &mut Errors,
) -> Option<Vec<Argument>> {
    let arguments: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| {
            if index == MAX_ARGUMENTS {
                let problem = format!("a handler takes at most {MAX_ARGUMENTS} arguments");
                let remedy = "take two of them as one tuple, as in `(a, b): (A, B)`";
                errors.on(&input, format!("{problem}; {remedy}"));
            }
            let argument = check_argument(input, errors)?;
            (index < MAX_ARGUMENTS).then_some(argument)
        })
        .collect();
    arguments.into_iter().collect()
}

fn check_argument(input: FnArg, errors: &mut Errors) -> Option<Argument> {
    match input {
        FnArg::Receiver(receiver) => {
            let problem = "a handler takes no `self`: actix has no value to call it on";
            let remedy = "take what it needs as `web::Data<..>`";
            errors.on(receiver.self_token, format!("{problem}; {remedy}"));
            None
        }
        FnArg::Typed(PatType { attrs, pat, ty, .. }) => {
            // Counted to the end: every wrong one is to be reported.
            let refused = attrs
                .iter()
                .filter(|attribute| !check_lint(attribute, errors))
                .count();
            (refused == 0).then_some(Argument {
                lints: attrs,
                pattern: *pat,
                extractor: *ty,
            })
        }
    }
}

/// Whether an attribute of an argument can be kept.
fn check_lint(attribute: &Attribute, errors: &mut Errors) -> bool {
    let problem = match ArgumentAttribute::of(attribute) {
        ArgumentAttribute::Lint => return true,
        ArgumentAttribute::Cfg => {
            "`#[cfg]` cannot take away an argument of a guarded handler; \
             write the handler twice, each with its own `#[cfg]`"
        }
        ArgumentAttribute::Doc => "an argument has no doc comment; write it above the handler",
        ArgumentAttribute::Other => {
            "only lint attributes can stand on an argument of a guarded handler; \
             put the macro that reads this one above `#[api_key_required]`"
        }
    };
    errors.on(attribute, problem);
    false
}
