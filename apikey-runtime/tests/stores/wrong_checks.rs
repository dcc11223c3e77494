//! Runs checks of the suite against incorrect stores.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use apikey_runtime::{KeyStore, conformance};
use apikey_test_support::store::{Forward, Forwarding};

/// Checks that a store with each fault fails the check beside it, and that the store without a fault
/// passes them all.
pub(crate) async fn ensure_detected<T, F>(none: T, cases: &[(T, &'static str)], make: fn(T) -> F)
where
    T: Debug + Copy + Send + Sync + 'static,
    F: Forward,
{
    let run = async |fault: T, check: &'static str| {
        let store = move || {
            let store: Arc<dyn KeyStore> = Arc::new(Forwarding(make(fault)));
            std::future::ready(store)
        };
        let run = tokio::spawn(async move { assert!(conformance::check(check, store).await) });
        let panic = run.await.err()?.into_panic();
        let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let formatted = panic.downcast_ref::<String>().cloned();
        Some(formatted.or(literal).unwrap_or_default())
    };
    let mut wrong = Vec::new();
    for (fault, check) in cases {
        let said = run(*fault, check).await;
        if !said
            .as_ref()
            .is_some_and(|said| said.contains("the store fails the check"))
        {
            wrong.push(format!("{fault:?} passes {check}: {said:?}"));
        }
    }
    let checks: BTreeSet<_> = cases.iter().map(|(_, check)| *check).collect();
    for check in checks {
        if let Some(said) = run(none, check).await {
            wrong.push(format!("the wrapper alone fails {check}: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
