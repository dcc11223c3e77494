//! The suite detects stores whose lists of owners are incorrect: each of these breaks one rule, and fails the
//! check of that rule.

use apikey_runtime::store::{OwnerPage, OwnerQuery, OwnerState, StoreError};
use apikey_runtime::{KeyStore, MemoryStore};
use apikey_test_support::store::Forward;

use crate::wrong_checks::ensure_detected;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    SortsWithoutCase,
    SortsAsUtf16,
    HasPagesOfAnySize,
    EndsAfterAFullPage,
    HasAnEmptyPageForALimitOfZero,
    ListsEachAsNew,
    ListsNoSuspension,
    IgnoresTheBeginning,
    FoldsTheBeginning,
    TakesTheBeginningForAPattern,
    StartsWithTheCursor,
    LooksForTheOwnerOfTheCursor,
    IgnoresACursorOutside,
}

#[derive(Debug, Default)]
struct Wrong {
    right: MemoryStore,
    fault: Fault,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        Self {
            fault,
            ..Self::default()
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn begins(&self, name: &str, beginning: &str) -> bool {
        match self.fault {
            Fault::IgnoresTheBeginning => true,
            Fault::FoldsTheBeginning => name.to_lowercase().starts_with(&beginning.to_lowercase()),
            Fault::TakesTheBeginningForAPattern => {
                let mut found = name.chars();
                let matches = |wanted| match wanted {
                    '%' => true,
                    '_' => found.next().is_some(),
                    other => found.next() == Some(other),
                };
                beginning.chars().all(matches)
            }
            _ => name.starts_with(beginning),
        }
    }
}

impl Forward for Wrong {
    fn inner(&self) -> &dyn KeyStore {
        &self.right
    }

    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        let all = self.right.owners().unwrap();
        let mut owners = all.list_owners(&OwnerQuery::first(1_000)).await?.owners;
        match self.fault {
            Fault::SortsWithoutCase => owners.sort_by_key(|owner| owner.name.to_lowercase()),
            Fault::SortsAsUtf16 => {
                owners.sort_by_key(|owner| owner.name.encode_utf16().collect::<Vec<_>>());
            }
            _ => {}
        }
        let mut start = 0;
        if let Some(after) = &query.after {
            let position = owners.iter().position(|owner| owner.name == *after);
            start = match (self.fault, position) {
                (Fault::StartsWithTheCursor, Some(position)) => position,
                (Fault::LooksForTheOwnerOfTheCursor, None) => 0,
                (Fault::IgnoresACursorOutside, _) if !after.starts_with(&query.starting_with) => 0,
                (_, Some(position)) => position + 1,
                (_, None) => owners.iter().filter(|owner| owner.name < *after).count(),
            };
        }
        owners.drain(..start);
        owners.retain(|owner| self.begins(&owner.name, &query.starting_with));
        let limit = query.limit.clamp(1, 1_000) as usize;
        let limit = match self.fault {
            Fault::HasPagesOfAnySize => 1_000,
            Fault::HasAnEmptyPageForALimitOfZero => query.limit as usize,
            _ => limit,
        };
        let has_next = owners.len() > limit && !self.is(Fault::EndsAfterAFullPage);
        owners.truncate(limit);
        for owner in &mut owners {
            match self.fault {
                Fault::ListsEachAsNew => owner.state = OwnerState::new(),
                Fault::ListsNoSuspension => owner.state = owner.state.with_suspended(false),
                _ => {}
            }
        }
        let next = owners.last().filter(|_| has_next);
        let next = next.map(|owner| owner.name.clone());
        Ok(OwnerPage::new(owners, next))
    }
}

#[tokio::test]
async fn the_suite_detects_wrong_lists_of_owners() {
    const ORDER: &str = "owners_are_listed_in_the_order_of_their_names";
    const STATE: &str = "a_listed_owner_has_its_state";
    const BEGINNING: &str = "owners_are_found_by_the_beginning_of_their_names";
    const CURSOR: &str = "a_page_of_owners_starts_after_any_name";
    let cases = [
        (Fault::SortsWithoutCase, ORDER),
        (Fault::SortsAsUtf16, ORDER),
        (Fault::HasPagesOfAnySize, ORDER),
        (Fault::EndsAfterAFullPage, ORDER),
        (Fault::HasAnEmptyPageForALimitOfZero, ORDER),
        (Fault::ListsEachAsNew, STATE),
        (Fault::ListsNoSuspension, STATE),
        (Fault::IgnoresTheBeginning, BEGINNING),
        (Fault::FoldsTheBeginning, BEGINNING),
        (Fault::TakesTheBeginningForAPattern, BEGINNING),
        (Fault::StartsWithTheCursor, CURSOR),
        (Fault::LooksForTheOwnerOfTheCursor, CURSOR),
        (Fault::IgnoresACursorOutside, CURSOR),
    ];
    ensure_detected(Fault::None, &cases, Wrong::new).await;
}
