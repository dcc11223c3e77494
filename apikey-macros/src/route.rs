//! The patterns of the handler's routes, compared with the scope's templates.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Expr, Lit, LitStr, Meta, MetaNameValue, Token,
    parse::{ParseStream, Parser},
};

use crate::{
    diagnostics::{Errors, listed},
    scopes::ScopeExpr,
};

/// The routing attributes of actix-web that take a pattern. `#[routes]` stands above several.
const ROUTING: [&str; 10] = [
    "get", "post", "put", "delete", "head", "connect", "options", "trace", "patch", "route",
];

/// Those of them whose names are also names of other crates' attributes, as in `#[trace("name")]`.
const AMBIGUOUS: [&str; 3] = ["connect", "options", "trace"];

/// The routes of a handler.
pub(crate) struct Routes {
    /// With the patterns of `#[scope("..")]` around the handler.
    patterns: Vec<String>,
    /// The methods of each pattern.
    methods: Vec<Vec<String>>,
}

impl Routes {
    /// Reads the routes from the attributes above and below a guard, and from those of the modules around it.
    pub(crate) fn of(above: &[Attribute], below: &[Attribute], modules: &[Attribute]) -> Self {
        let scope = |attribute| literal(attribute, &["scope"]);
        let scopes: String = modules.iter().filter_map(scope).collect();
        let routed = |attribute: &Attribute| Some((pattern(attribute)?, methods(attribute)));
        let above = above.iter().filter_map(routed);
        let above = above.map(|(pattern, methods)| (format!("{scopes}{pattern}"), methods));
        // `#[scope]` has changed those below. Those above are read from the file.
        let below = below.iter().filter_map(routed);
        let (patterns, methods) = above.chain(below).unzip();
        Self { patterns, methods }
    }

    /// Returns each method with its pattern.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        for (pattern, methods) in self.patterns.iter().zip(&self.methods) {
            let methods = methods.iter().map(String::as_str);
            pairs.extend(methods.map(|method| (method, pattern.as_str())));
        }
        pairs
    }

    /// Rejects a template whose parameter is missing in one of the patterns, or stands in it more than
    /// once.
    pub(crate) fn check_templates(&self, scopes: Option<&ScopeExpr>, errors: &mut Errors) {
        let mut templates = Vec::new();
        if let Some(scopes) = scopes {
            scopes.templates(&mut templates);
        }
        for (name, span) in templates {
            let times = |pattern: &str| {
                let parameters = parameters(pattern);
                parameters.iter().filter(|known| **known == name).count()
            };
            if let Some(pattern) = self.patterns.iter().find(|pattern| times(pattern) == 0) {
                errors.at(span, problem(&name, pattern, &parameters(pattern)));
            } else if self.patterns.iter().any(|pattern| times(pattern) > 1) {
                let problem = format!("the route's path has the parameter `{name}` more than once");
                errors.at(span, format!("{problem}; give each a name of its own"));
            }
        }
    }
}

fn problem(name: &str, pattern: &str, known: &[&str]) -> String {
    let remedy = match known {
        [] => format!(
            "add it, as in `{}/{{{name}}}`",
            pattern.trim_end_matches('/')
        ),
        _ => format!("the route has {}", listed(known.iter().copied())),
    };
    format!(
        "the route `{pattern}` does not have the parameter `{name}`; {remedy}. \
         If a `web::scope` around the route has it, move the text into a `const` and write its path"
    )
}

/// Returns the pattern of a routing attribute, if it is written as a string.
fn pattern(attribute: &Attribute) -> Option<String> {
    let pattern = literal(attribute, &ROUTING)?;
    let is_pattern = pattern.is_empty() || pattern.starts_with(['/', '{']);
    let is_ambiguous = literal(attribute, &AMBIGUOUS).is_some();
    (is_pattern || !is_ambiguous).then_some(pattern)
}

/// Returns the methods of a routing attribute: its own name, or those of `#[route(.., method = "..")]`.
fn methods(attribute: &Attribute) -> Vec<String> {
    let path = attribute.path().segments.last();
    let name = path.map(|last| last.ident.to_string()).unwrap_or_default();
    if name != "route" {
        return vec![name.to_ascii_uppercase()];
    }
    let arguments = |input: ParseStream<'_>| {
        input.parse::<LitStr>()?;
        let mut methods = Vec::new();
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let option: MetaNameValue = input.parse()?;
            if let (true, Expr::Lit(value)) = (option.path.is_ident("method"), &option.value)
                && let Lit::Str(method) = &value.lit
            {
                methods.push(method.value());
            }
        }
        Ok(methods)
    };
    let parsed = attribute.parse_args_with(arguments);
    parsed.unwrap_or_default()
}

/// Returns the first argument of an attribute of actix-web with one of these names, if it is
/// written as a string.
fn literal(attribute: &Attribute, names: &[&str]) -> Option<String> {
    let Meta::List(list) = &attribute.meta else {
        return None;
    };
    let segments = &list.path.segments;
    let is_of_actix = segments.len() == 1 || segments.first()?.ident == "actix_web";
    let is_named = names
        .iter()
        .any(|name| segments.last().is_some_and(|last| last.ident == name));
    (is_of_actix && is_named).then_some(())?;
    let first = |input: ParseStream<'_>| {
        let pattern: LitStr = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(pattern.value())
    };
    first.parse2(list.tokens.clone()).ok()
}

/// Returns the names of the parameters of a pattern, such as `id` and `tail` of
/// `/{id:\d{2}}/{tail}*`.
fn parameters(pattern: &str) -> Vec<&str> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, letter) in pattern.char_indices() {
        match letter {
            '{' => {
                depth += 1;
                if depth == 1 {
                    start = at + 1;
                }
            }
            '}' => {
                if depth == 1 {
                    names.extend(pattern[start..at].split(':').next());
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_a_pattern() {
        for (pattern, expected) in [
            ("/orders", &[][..]),
            ("/orders/{id}", &["id"]),
            ("/{a}-{b}/c", &["a", "b"]),
            ("/{id:\\d{2,3}}/{tail}*", &["id", "tail"]),
            ("/{tail:.*}", &["tail"]),
            ("/a}b{", &[]),
        ] {
            assert_eq!(parameters(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn only_routing_attributes_have_a_pattern() {
        let attribute = |text| Attribute::parse_outer.parse_str(text).unwrap().remove(0);
        let pattern = |text| pattern(&attribute(text));
        assert_eq!(pattern("#[get(\"/{a}\")]").as_deref(), Some("/{a}"));
        let guarded = "#[actix_web::route(r\"/{a}\", method = \"GET\", guard = \"g\")]";
        assert_eq!(pattern(guarded).as_deref(), Some("/{a}"));
        for other in [
            "#[routes]",
            "#[get(PATH)]",
            "#[doc = \"/{a}\"]",
            "#[path(\"/{a}\")]",
            "#[minitrace::trace(\"name\")]",
            "#[minitrace::trace(\"/name\")]",
            "#[rest::get(\"/{a}\")]",
            "#[trace(\"checkout\")]",
            "#[connect(\"database\")]",
            "#[options(\"strict\")]",
        ] {
            assert_eq!(pattern(other), None, "{other}");
        }
        for (text, expected) in [
            ("#[trace(\"\")]", ""),
            ("#[trace(\"/a\")]", "/a"),
            ("#[actix_web::trace(\"{tail}*\")]", "{tail}*"),
            ("#[::actix_web::get(\"a\")]", "a"),
            ("#[get(\"a\")]", "a"),
        ] {
            assert_eq!(pattern(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn scopes_around_the_handler_add_parameters() {
        let attributes = |text| Attribute::parse_outer.parse_str(text).unwrap();
        let (get, other) = (
            attributes("#[get(\"/{id}\")]"),
            attributes("#[get(\"/{project}/a\")]"),
        );
        let modules = attributes(
            "#[scope(\"/{project}\")] #[actix_web::scope(\"/a\")] #[a::scope(\"/{b}\")]",
        );
        let routes = Routes::of(&get, &[], &modules);
        assert_eq!(routes.pairs(), [("GET", "/{project}/a/{id}")]);
        // `#[scope]` has changed an attribute below a guard, and a pattern may begin as the scope does.
        let routes = Routes::of(&other, &other, &modules);
        let expected = [("GET", "/{project}/a/{project}/a"), ("GET", "/{project}/a")];
        assert_eq!(routes.pairs(), expected);
    }

    #[test]
    fn the_methods_of_a_route() {
        let attributes = |text| Attribute::parse_outer.parse_str(text).unwrap();
        let handler = attributes(
            "#[routes] #[get(\"/a\")] #[actix_web::post(\"/b\", name = \"c\")] #[get(PATH)] \
             #[route(\"/d\", method = \"PUT\", guard = \"g\", method = \"REPORT\",)]",
        );
        let routes = Routes::of(&[], &handler, &[]);
        let pairs = routes.pairs();
        let expected = [
            ("GET", "/a"),
            ("POST", "/b"),
            ("PUT", "/d"),
            ("REPORT", "/d"),
        ];
        assert_eq!(pairs, expected);
    }
}
