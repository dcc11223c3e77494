//! Lists of owners, on every store.

use std::sync::Arc;

use apikey_runtime::manager::ListOwners;
use apikey_runtime::store::{ListedOwner, OwnerPage, OwnerQuery, OwnerState, StoreError};
use apikey_runtime::{Error, KeyStore, MemoryStore};
use apikey_test_support::store::{Forward, Forwarding, RecordsOnly};
use apikey_test_support::{manager, manager_on};

use crate::managers;

/// Reads all pages.
async fn all(list: impl Fn() -> ListOwners) -> Result<Vec<ListedOwner>, Error> {
    let (mut owners, mut next) = (Vec::new(), None);
    loop {
        let page = list().after(next).await?;
        owners.extend(page.owners);
        next = page.next;
        if next.is_none() {
            return Ok(owners);
        }
    }
}

#[actix_web::test]
async fn owners_are_listed_page_by_page_and_found_by_a_beginning() {
    for (fleet, manager) in managers().await {
        let name = |number: u32| format!("team {number:03}");
        for number in (0..60).rev() {
            let key = manager.create("a").owner(name(number));
            key.await.unwrap();
        }
        manager.create("a").owner("zoo").await.unwrap();
        manager.suspend_owner(name(7)).await.unwrap();
        manager.revoke_all(name(8)).await.unwrap();

        let first = manager.owners().await.unwrap();
        assert_eq!(first.owners.len(), 50, "{}", fleet.name);
        assert_eq!(first.next, Some(name(49)), "{}", fleet.name);
        let listed = all(|| manager.owners()).await.unwrap();
        let names: Vec<_> = listed.iter().map(|owner| owner.name.clone()).collect();
        let expected: Vec<_> = (0..60).map(name).chain(["zoo".to_owned()]).collect();
        assert_eq!(names, expected, "{}", fleet.name);
        for owner in &listed {
            let state = manager.owner_state(&owner.name).await.unwrap();
            assert_eq!(state, Some(owner.state), "{}: {}", fleet.name, owner.name);
        }
        assert!(listed[7].state.suspended, "{}", fleet.name);
        assert_eq!(listed[8].state.revocations, 1, "{}", fleet.name);

        let some = || manager.owners().starting_with("team 01").page_size(3);
        let some = all(some).await.unwrap();
        let names: Vec<_> = some.into_iter().map(|owner| owner.name).collect();
        assert_eq!(
            names,
            (10..20).map(name).collect::<Vec<_>>(),
            "{}",
            fleet.name
        );
        let none = manager.owners().starting_with("Team").await.unwrap();
        assert_eq!(none, OwnerPage::default(), "{}", fleet.name);
    }
}

#[actix_web::test]
async fn a_page_size_is_checked_and_a_store_without_owners_is_told() {
    let manager = manager().await;
    for size in [1, 1_000] {
        assert!(manager.owners().page_size(size).await.is_ok());
    }
    for size in [0, 1_001] {
        let refused = manager.owners().page_size(size).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{size}");
    }
    let poor = manager_on(Arc::new(RecordsOnly::default())).await;
    let refused = poor.owners().await;
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

/// Answers each question with the same owners.
#[derive(Debug, Default)]
struct Deaf(MemoryStore);

impl Forward for Deaf {
    fn inner(&self) -> &dyn KeyStore {
        &self.0
    }

    async fn list_owners(&self, _query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        let owners = ["a", "b"].map(|name| ListedOwner::new(name, OwnerState::new()));
        Ok(OwnerPage::new(owners.into(), Some("b".to_owned())))
    }
}

#[actix_web::test]
async fn an_answer_that_does_not_fit_its_question_is_an_error() {
    let manager = manager_on(Arc::new(Forwarding(Deaf::default()))).await;
    assert!(manager.owners().await.is_ok(), "the first page fits");
    let wrong = [
        manager.owners().starting_with("a"),
        manager.owners().page_size(1),
        manager.owners().after("b".to_owned()),
    ];
    for wrong in wrong {
        let answer = wrong.await;
        assert!(
            matches!(answer, Err(Error::Store(StoreError::Corrupt { .. }))),
            "{answer:?}"
        );
    }
}
