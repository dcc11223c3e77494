//! The query of `/verify`: what a gateway's configuration demands.

use actix_web::web::Query;
use apikey_runtime::Scopes;

/// The largest cost of a request.
const MAX_COST: u32 = 1_000_000;

/// What a gateway demands of a request, and how it wants the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Demands {
    /// The scopes, of which the key needs each.
    pub(super) scopes: Scopes,
    pub(super) cost: u32,
    /// Whether the answer has only statuses that nginx passes on.
    pub(super) for_nginx: bool,
}

impl Demands {
    /// Parses a query.
    ///
    /// # Errors
    ///
    /// Returns the fault, with what to write. It does not repeat anything of the query, which may have a key.
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_malformed| "the query cannot be decoded; write `name=value` pairs")?;
        let (mut scopes, mut cost, mut target) = (None, None, None);
        for (name, value) in pairs.into_inner() {
            let parameter = match name.as_str() {
                "scope" => &mut scopes,
                "cost" => &mut cost,
                "for" => &mut target,
                _ => {
                    return Err(
                        "a parameter is not known; write `scope`, `cost` and `for` only, and do not pass on the client's query",
                    );
                }
            };
            if parameter.replace(value).is_some() {
                return Err("a parameter stands twice; write it once");
            }
        }
        let for_nginx = match target.as_deref() {
            None => false,
            Some("nginx") => true,
            Some(_) => return Err("`for` is not known; write `for=nginx`, or leave it out"),
        };
        Ok(Self {
            scopes: scopes.map_or(Ok(Scopes::none()), |text| parse_scopes(&text))?,
            cost: cost.map_or(Ok(1), |text| parse_cost(&text))?,
            for_nginx,
        })
    }
}

fn parse_scopes(text: &str) -> Result<Scopes, &'static str> {
    let fault = "`scope` is not a list of scopes; write them with a space (`%20`) between two, such as `orders:read%20orders:write`";
    // An empty list would demand nothing.
    match Scopes::from_text(text) {
        Ok(scopes) if !scopes.is_empty() => Ok(scopes),
        _ => Err(fault),
    }
}

fn parse_cost(text: &str) -> Result<u32, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cost = text
        .parse()
        .ok()
        .filter(|cost| is_number && *cost <= MAX_COST);
    cost.ok_or("`cost` is not a number of 0 to 1,000,000; write one, such as `cost=5`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(scopes: &[&str], cost: u32, for_nginx: bool) -> Demands {
        let scopes = Scopes::new(scopes).unwrap();
        Demands {
            scopes,
            cost,
            for_nginx,
        }
    }

    #[test]
    fn demands_are_read_from_the_query() {
        for (query, expected) in [
            ("", demands(&[], 1, false)),
            ("scope=a:b", demands(&["a:b"], 1, false)),
            ("scope=a%3Ab", demands(&["a:b"], 1, false)),
            ("scope=b+a&cost=0", demands(&["a", "b"], 0, false)),
            ("scope=b%20a", demands(&["a", "b"], 1, false)),
            ("cost=1000000&for=nginx", demands(&[], 1_000_000, true)),
        ] {
            assert_eq!(Demands::parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn everything_else_is_a_fault() {
        for query in [
            "cost=1&cost=0",
            "cost=1&c%6Fst=0",
            "scope=a&scope=b",
            "for=nginx&for=nginx",
            "path=/x",
            "Cost=1",
            "cost",
            "cost=",
            "cost=-1",
            "cost=+1",
            "cost=%2B1",
            "cost=1.5",
            "cost=1000001",
            "cost=99999999999999999999",
            "scope=",
            "scope=a++b",
            "scope=*",
            "scope={id}",
            "scope=a,b",
            "for=",
            "for=envoy",
            "=1",
        ] {
            assert!(Demands::parse(query).is_err(), "{query}");
        }
    }
}
