//! A policy and a handler to the code that guards it. Nothing can fail here.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{ext::IdentExt, token};

use crate::{
    handler::{Argument, Handler},
    limits::{LimiterFallback, Limits, Rate},
    locations::Location,
    scopes::ScopeExpr,
    validate::Policy,
};

/// The handler with its guard, and the type of its policy where it needs one.
pub(crate) fn expand(policy: &Policy, handler: &Handler, fingerprint: u64) -> TokenStream {
    let krate = &policy.krate;
    if policy.is_plain() {
        // No type of its own, so that the plain attribute can stand inside an `impl` too.
        return guarded_handler(policy, handler, &quote!(#krate::__private::DefaultPolicy));
    }
    let name = policy_name(handler, fingerprint);
    let policy_type = policy_type(policy, handler, &name);
    let guarded = guarded_handler(policy, handler, &quote!(#name));
    quote! {
        #policy_type
        #guarded
    }
}

/// A name for the policy's type that no other policy of the same handler has.
///
/// A routing attribute between two guards moves the inner one into a function body, where a type of
/// the same name would shadow the outer one, and the outer guard would enforce the inner policy. The
/// number of guards below tells two of them apart; the fingerprint does where one goes by another
/// name (`use api_key_required as admin`).
fn policy_name(handler: &Handler, fingerprint: u64) -> Ident {
    let function = handler.name.unraw();
    let below = handler.guards_below;
    format_ident!(
        "__apikey_{function}_{below}_{fingerprint:016x}",
        span = Span::mixed_site()
    )
}

/// A short name for the tokens of an attribute and how many attributes follow it: FNV-1a of 64 bits.
///
/// The standard library's hashers may change between two compilers; this one cannot.
pub(crate) fn fingerprint(arguments: &TokenStream, attributes_below: usize) -> u64 {
    let text = format!("{attributes_below} {arguments}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The policy's type, and what it carries.
fn policy_type(policy: &Policy, handler: &Handler, name: &Ident) -> TokenStream {
    let Policy { krate, .. } = policy;
    let Handler {
        cfgs, visibility, ..
    } = handler;
    let builders = policy_builders(policy, handler);
    let on_error = policy.on_error.as_ref().map(|path| {
        let (denied, request) = (
            quote!(&#krate::__private::Denied),
            quote!(&#krate::__private::HttpRequest),
        );
        let function = quote!(fn(#denied, #request) -> #krate::__private::HttpResponse);
        constant(krate, quote!(ON_ERROR), &function, path)
    });
    let manager = policy.manager.as_ref().map(|path| {
        let found = quote!(#krate::__private::Option<#krate::__private::ApiKeyManager>);
        let function = quote!(fn(&#krate::__private::HttpRequest) -> #found);
        constant(krate, quote!(MANAGER), &function, path)
    });
    // rustc evaluates the const of a trait only where it is used, which `cargo check` never comes to:
    // a wrong scope in a const of the user's would only be found by `cargo build`.
    let judged_later =
        policy.limits.have_const() || policy.scopes.as_ref().is_some_and(ScopeExpr::has_const);
    let evaluation = judged_later.then(|| {
        quote! {
            #(#cfgs)*
            const _: #krate::__private::Policy = <#name as #krate::__private::RoutePolicy>::POLICY;
        }
    });
    quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[non_exhaustive]
        #visibility struct #name;

        #(#cfgs)*
        impl #krate::__private::RoutePolicy for #name {
            const POLICY: #krate::__private::Policy = #krate::__private::Policy::new() #builders;
            #on_error
            #manager
        }

        #evaluation
    }
}

/// `const NAME: Option<function> = Some(path);`
fn constant(
    krate: &TokenStream,
    name: TokenStream,
    function: &TokenStream,
    path: &syn::ExprPath,
) -> TokenStream {
    quote! {
        const #name: #krate::__private::Option<#function> = #krate::__private::Option::Some(#path);
    }
}

/// The calls that make the policy out of an empty one.
fn policy_builders(policy: &Policy, handler: &Handler) -> TokenStream {
    let krate = &policy.krate;
    let scopes = policy.scopes.as_ref().map(|scopes| {
        let scopes = scope_expr(krate, scopes);
        quote!(.scopes(#scopes))
    });
    let locations = (!policy.locations.is_empty()).then(|| {
        let locations = policy
            .locations
            .iter()
            .map(|location| self::location(krate, location));
        quote!(.locations(&[#(#locations),*]))
    });
    let methods = (!policy.methods.is_empty()).then(|| {
        let methods = &policy.methods;
        quote!(.methods(&[#(#methods),*]))
    });
    let optional = policy.optional.then(|| quote!(.optional()));
    let fresh = policy.fresh.then(|| quote!(.fresh()));
    let require_https = policy.require_https.then(|| quote!(.require_https()));
    let limits = limits(krate, &policy.limits, handler);
    let prefix = policy.prefix.iter();
    let environment = policy.environment.iter();
    quote! {
        #scopes #locations #methods #optional #fresh #require_https #limits
        #(.prefix(#prefix))*
        #(.environment(#environment))*
    }
}

/// The calls for the route's limits. Its name is where its rate is counted.
fn limits(krate: &TokenStream, limits: &Limits, handler: &Handler) -> TokenStream {
    let Limits {
        rate,
        burst,
        cost,
        down,
    } = limits;
    let rate = rate.as_ref().map(|rate| {
        let name = route_name(handler);
        let rate = self::rate(krate, rate, *burst);
        quote!(.name(#name).rate_limit(#rate))
    });
    let cost = cost.iter();
    let down = down.iter().map(|down| match down {
        LimiterFallback::Deny => quote!(#krate::__private::LimiterFallback::Deny),
        LimiterFallback::Local => quote!(#krate::__private::LimiterFallback::Local),
    });
    quote!(#rate #(.cost(#cost))* #(.on_limiter_down(#down))*)
}

/// The handler's path. A guard above another one of the same handler has a rate of its own, and so a
/// name of its own.
fn route_name(handler: &Handler) -> TokenStream {
    let function = match handler.guards_below {
        0 => handler.name.unraw().to_string(),
        below => format!("{}#{}", handler.name.unraw(), below + 1),
    };
    quote!(::core::concat!(::core::module_path!(), "::", #function))
}

fn rate(krate: &TokenStream, rate: &Rate, burst: Option<u32>) -> TokenStream {
    let rate = match rate {
        Rate::Text { amount, millis } => {
            let window = quote!(#krate::__private::Duration::from_millis(#millis));
            quote!(#krate::__private::Rate::new(#amount, #window))
        }
        Rate::Const(path) => quote!(#path),
    };
    match burst {
        // Called by its path: where the const is no rate, the error is that it is none.
        Some(burst) => quote!(#krate::__private::Rate::with_burst(#rate, #burst)),
        None => rate,
    }
}

fn scope_expr(krate: &TokenStream, scopes: &ScopeExpr) -> TokenStream {
    let several = |scopes: &[ScopeExpr]| {
        let scopes = scopes.iter().map(|scope| scope_expr(krate, scope));
        quote!(&[#(#scopes),*])
    };
    let variant = match scopes {
        ScopeExpr::Text(text) => {
            let text = text.as_str();
            quote!(One(#text))
        }
        ScopeExpr::Const(path) => quote!(One(#path)),
        ScopeExpr::All(all) => {
            let all = several(all);
            quote!(All(#all))
        }
        ScopeExpr::Any(any) => {
            let any = several(any);
            quote!(Any(#any))
        }
        ScopeExpr::Not(not) => {
            let not = scope_expr(krate, not);
            quote!(Not(&#not))
        }
    };
    quote!(#krate::__private::ScopeExpr::#variant)
}

fn location(krate: &TokenStream, location: &Location) -> TokenStream {
    let variant = match location {
        Location::Header { name, scheme } => {
            let scheme = match scheme {
                Some(scheme) => quote!(Some(#scheme)),
                None => quote!(None),
            };
            quote!(Header { name: #name, scheme: #krate::__private::Option::#scheme })
        }
        Location::Basic => quote!(Basic),
        Location::Query { name } => quote!(Query { name: #name }),
        Location::Cookie { name } => quote!(Cookie { name: #name }),
        Location::Json { name } => quote!(Json { name: #name }),
        Location::Form { name } => quote!(Form { name: #name }),
    };
    quote!(#krate::__private::KeyLocation::#variant)
}

/// The handler, with the guard as its only argument.
fn guarded_handler(policy: &Policy, handler: &Handler, policy_type: &TokenStream) -> TokenStream {
    let Handler {
        attributes,
        visibility,
        asyncness,
        fn_token,
        name,
        generics,
        arguments,
        output,
        ..
    } = handler;
    let where_clause = &generics.where_clause;
    let krate = &policy.krate;
    let extractors = arguments.iter().map(|argument| &argument.extractor);
    let patterns = arguments.iter().enumerate().map(|(index, argument)| {
        if argument.lints.is_empty() {
            let pattern = &argument.pattern;
            quote!(#pattern)
        } else {
            let held = held_argument(index);
            quote!(#held)
        }
    });
    let body = body(handler);
    quote! {
        #(#attributes)*
        #visibility #asyncness #fn_token #name #generics (
            #krate::__private::Guarded((#(#patterns,)*), ..):
                #krate::__private::Guarded<#policy_type, (#(#extractors,)*)>
        ) #output #where_clause #body
    }
}

/// The body as written, behind the arguments that have lint attributes.
///
/// Attributes cannot stand inside a tuple's pattern, but on a `let` they can. The body is then a block
/// of its own: the temporaries of its last expression have to go before the arguments do, which is
/// how they go in any function.
fn body(handler: &Handler) -> TokenStream {
    let crate::function::Body {
        braces,
        inner_attributes,
        rest,
    } = &handler.body;
    let mut lets = handler
        .arguments
        .iter()
        .enumerate()
        .filter(|(_, argument)| !argument.lints.is_empty())
        .map(|(index, argument)| unpack(index, argument))
        .peekable();
    if lets.peek().is_none() {
        return braced(*braces, quote!(#(#inner_attributes)* #rest));
    }
    let rest = braced(*braces, quote!(#rest));
    quote!({ #(#inner_attributes)* #(#lets)* #rest })
}

fn unpack(index: usize, argument: &Argument) -> TokenStream {
    let Argument { lints, pattern, .. } = argument;
    let held = held_argument(index);
    quote!(#(#lints)* let #pattern = #held;)
}

/// The name that an argument has before its pattern takes it apart; hygienic, so that no body sees it.
fn held_argument(index: usize) -> Ident {
    format_ident!("__apikey_argument_{index}", span = Span::mixed_site())
}

fn braced(braces: token::Brace, content: TokenStream) -> TokenStream {
    let mut tokens = TokenStream::new();
    braces.surround(&mut tokens, |inside| inside.extend(content));
    tokens
}
