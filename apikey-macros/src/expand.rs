//! Generates the guarded handler from a policy and a handler. This step is infallible.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{ext::IdentExt, spanned::Spanned, token};

use crate::{
    handler::{Handler, HandlerArgument},
    limits::{LimiterFallback, Limits, RateExpr},
    locations::KeyLocation,
    scopes::ScopeExpr,
    validate::Policy,
};

/// Returns the handler with its guard, and the policy type if the attribute has options.
pub(crate) fn expand(policy: &Policy, handler: &Handler, fingerprint: u64) -> TokenStream {
    let guarded = guarded_handler(policy, handler, &policy_path(policy, handler, fingerprint));
    if policy.is_default() {
        return guarded;
    }
    let policy_type = policy_type(policy, handler, &policy_name(handler, fingerprint));
    quote! {
        #policy_type
        #guarded
    }
}

/// Returns the path of the policy type.
pub(crate) fn policy_path(policy: &Policy, handler: &Handler, fingerprint: u64) -> TokenStream {
    let krate = &policy.krate;
    if policy.is_default() {
        // Without a generated type, the attribute works inside an `impl` too.
        return quote!(#krate::__private::DefaultPolicy);
    }
    let name = policy_name(handler, fingerprint);
    quote!(#name)
}

/// Returns a name for the policy type that is unique among the policies of the same handler.
///
/// A routing attribute between two guards moves the inner one into a function body. A type with the
/// same name would shadow the outer one there, and the outer guard would enforce the inner policy.
/// The number of guards below distinguishes the two. The fingerprint distinguishes them if the
/// attribute is imported under another name (`use api_key_required as admin`).
fn policy_name(handler: &Handler, fingerprint: u64) -> Ident {
    let function = handler.name.unraw();
    let below = handler.guards_below;
    format_ident!(
        "__apikey_{function}_{below}_{fingerprint:016x}",
        span = Span::mixed_site()
    )
}

/// Hashes the tokens of an attribute and the number of attributes below it with 64-bit FNV-1a.
///
/// The standard library's hashers may change between compiler versions, but FNV-1a is stable.
pub(crate) fn fingerprint(arguments: &TokenStream, attributes_below: usize) -> u64 {
    let text = format!("{attributes_below} {arguments}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Returns the policy type and its `RoutePolicy` implementation.
fn policy_type(policy: &Policy, handler: &Handler, name: &Ident) -> TokenStream {
    let Policy { krate, .. } = policy;
    let Handler {
        cfgs, visibility, ..
    } = handler;
    let builders = policy_builders(policy, handler);
    let on_error = policy.on_error.as_ref().map(|path| on_error(krate, path));
    let manager = policy.manager.as_ref().map(|path| manager(krate, path));
    // rustc evaluates an associated const only when it is used, which never happens in `cargo check`.
    // Without this item, only `cargo build` would report an invalid scope in a user's const.
    let has_const =
        policy.limits.has_const() || policy.scopes.as_ref().is_some_and(ScopeExpr::has_const);
    let evaluation = has_const.then(|| {
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

/// Returns the constant of `on_error = path`.
///
/// The path is an argument of a function, so that rustc names the type that it must have.
fn on_error(krate: &TokenStream, path: &syn::ExprPath) -> TokenStream {
    let private = quote!(#krate::__private);
    let function = quote_spanned!(path.span()=> on_error(#path));
    quote! {
        const ON_ERROR: #private::Option<
            fn(&#private::Denied, &#private::HttpRequest) -> #private::HttpResponse
        > = #private::Option::Some(#private::#function);
    }
}

/// Returns the constant of `manager = path`, an argument of a function as in [`on_error`].
fn manager(krate: &TokenStream, path: &syn::ExprPath) -> TokenStream {
    let private = quote!(#krate::__private);
    let function = quote_spanned!(path.span()=> manager(#path));
    quote! {
        const MANAGER: #private::Option<
            fn(&#private::HttpRequest) -> #private::Option<#private::ApiKeyManager>
        > = #private::Option::Some(#private::#function);
    }
}

/// Returns a name that a path of the user cannot mean.
fn hygienic(name: &str) -> Ident {
    format_ident!("__apikey_{name}", span = Span::mixed_site())
}

/// Returns the builder calls that set the policy.
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

/// Returns the builder calls for the route's limits. A rate is counted under the route's name.
fn limits(krate: &TokenStream, limits: &Limits, handler: &Handler) -> TokenStream {
    let Limits {
        rate,
        burst,
        cost,
        fallback,
    } = limits;
    let rate = rate.as_ref().map(|rate| {
        let name = route_name(handler);
        let rate = self::rate(krate, rate, *burst);
        quote!(.name(#name).rate_limit(#rate))
    });
    let cost = cost.iter();
    let fallback = fallback.iter().map(|fallback| match fallback {
        LimiterFallback::Deny => quote!(#krate::__private::LimiterFallback::Deny),
        LimiterFallback::Local => quote!(#krate::__private::LimiterFallback::Local),
    });
    quote!(#rate #(.cost(#cost))* #(.on_limiter_down(#fallback))*)
}

/// Returns the name under which a rate is counted: the handler's path.
///
/// A guard above another one gets a different name, because the two rates are counted separately.
fn route_name(handler: &Handler) -> TokenStream {
    let function = match handler.guards_below {
        0 => handler.name.unraw().to_string(),
        below => format!("{}#{}", handler.name.unraw(), below + 1),
    };
    quote!(::core::concat!(::core::module_path!(), "::", #function))
}

fn rate(krate: &TokenStream, rate: &RateExpr, burst: Option<u32>) -> TokenStream {
    let rate = match rate {
        RateExpr::Text { amount, millis } => {
            let window = quote!(#krate::__private::Duration::from_millis(#millis));
            quote!(#krate::__private::Rate::new(#amount, #window))
        }
        RateExpr::Const(path) => quote!(#path),
    };
    match burst {
        // Called by its path, so that rustc reports mismatched types if the const is not a rate.
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

fn location(krate: &TokenStream, location: &KeyLocation) -> TokenStream {
    let variant = match location {
        KeyLocation::Header { name, scheme } => {
            let scheme = match scheme {
                Some(scheme) => quote!(Some(#scheme)),
                None => quote!(None),
            };
            quote!(Header { name: #name, scheme: #krate::__private::Option::#scheme })
        }
        KeyLocation::Basic => quote!(Basic),
        KeyLocation::WebSocket => quote!(WebSocket),
        KeyLocation::Query { name } => quote!(Query { name: #name }),
        KeyLocation::Cookie { name } => quote!(Cookie { name: #name }),
        KeyLocation::Json { name } => quote!(Json { name: #name }),
        KeyLocation::Form { name } => quote!(Form { name: #name }),
    };
    quote!(#krate::__private::KeyLocation::#variant)
}

/// Returns the handler with the guard as its only argument.
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
            let binding = argument_binding(index);
            quote!(#binding)
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

/// Returns the body as written, after a `let` for each argument that has lint attributes.
///
/// Rust allows attributes on a `let`, but not inside a tuple pattern. After a `let`, the body
/// becomes a nested block: the temporaries of its last expression must be dropped before the
/// arguments, as in any function.
fn body(handler: &Handler) -> TokenStream {
    let crate::function::FunctionBody {
        braces,
        inner_attributes,
        rest,
    } = &handler.body;
    let mut lets = handler
        .arguments
        .iter()
        .enumerate()
        .filter(|(_, argument)| !argument.lints.is_empty())
        .map(|(index, argument)| destructure(index, argument))
        .peekable();
    if lets.peek().is_none() {
        return braced(*braces, quote!(#(#inner_attributes)* #rest));
    }
    let rest = braced(*braces, quote!(#rest));
    quote!({ #(#inner_attributes)* #(#lets)* #rest })
}

fn destructure(index: usize, argument: &HandlerArgument) -> TokenStream {
    let HandlerArgument { lints, pattern, .. } = argument;
    let binding = argument_binding(index);
    quote!(#(#lints)* let #pattern = #binding;)
}

/// Returns the name of an argument before it is destructured.
///
/// The name is hygienic, so the body cannot see it.
fn argument_binding(index: usize) -> Ident {
    hygienic(&format!("argument_{index}"))
}

fn braced(braces: token::Brace, content: TokenStream) -> TokenStream {
    let mut tokens = TokenStream::new();
    braces.surround(&mut tokens, |inside| inside.extend(content));
    tokens
}
