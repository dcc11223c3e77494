//! The demands of queries that were parsed before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::query::Demands;

/// The largest number of queries that are remembered. The gateways of an application have a few.
const MAX_QUERIES: usize = 64;

/// The longest query that is remembered, in bytes.
const MAX_LENGTH: usize = 1_024;

/// The demands of queries that were parsed before, by the text of the query. Each worker has its own, so that it does not
/// wait for others.
#[derive(Default)]
pub(super) struct DemandsCache(RefCell<HashMap<Box<str>, Rc<Demands>>>);

impl DemandsCache {
    /// Returns the demands of a query.
    ///
    /// # Errors
    ///
    /// Returns the fault of [`Demands::parse`].
    pub(super) fn get(&self, query: &str) -> Result<Rc<Demands>, &'static str> {
        if let Some(known) = self.0.borrow().get(query) {
            return Ok(Rc::clone(known));
        }
        let demands = Rc::new(Demands::parse(query)?);
        if query.len() <= MAX_LENGTH {
            let mut known = self.0.borrow_mut();
            // A caller that changes its query takes the others' place, but not more memory.
            if known.len() >= MAX_QUERIES {
                known.clear();
            }
            known.insert(query.into(), Rc::clone(&demands));
        }
        Ok(demands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "scope=orders:read&for=nginx";

    #[test]
    fn a_query_is_parsed_once() {
        let cache = DemandsCache::default();
        let first = cache.get(QUERY).unwrap();
        assert_eq!(Ok(&*first), Demands::parse(QUERY).as_ref());
        assert!(Rc::ptr_eq(&first, &cache.get(QUERY).unwrap()));
        // The text counts, and not what it means.
        let other = cache.get("for=nginx&scope=orders:read").unwrap();
        assert!(first == other && !Rc::ptr_eq(&first, &other));
    }

    #[test]
    fn a_hundred_thousand_queries_take_the_place_of_a_few() {
        let cache = DemandsCache::default();
        for number in 0..100_000 {
            let query = format!("scope=a:s{number}&cost={number}");
            assert_eq!(
                cache.get(&query).as_deref(),
                Demands::parse(&query).as_ref()
            );
            assert!(cache.0.borrow().len() <= MAX_QUERIES);
        }
        // It still learns.
        let first = cache.get(QUERY).unwrap();
        assert!(Rc::ptr_eq(&first, &cache.get(QUERY).unwrap()));
    }

    #[test]
    fn neither_faults_nor_long_queries_are_remembered() {
        let cache = DemandsCache::default();
        for number in 0..1_000 {
            assert!(cache.get(&format!("cost=a{number}")).is_err());
        }
        let long = format!("scope={}", "a+".repeat(MAX_LENGTH / 2) + "b");
        assert_eq!(cache.get(&long).as_deref(), Demands::parse(&long).as_ref());
        assert_eq!(cache.0.borrow().len(), 0);
    }
}
