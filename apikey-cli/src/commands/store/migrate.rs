//! `apikey store migrate`.

use apikey_runtime::KeyStore;
use apikey_runtime::store::{FoundSchema, StoreError};

use super::servers;
use crate::args::{Common, MigrateArguments};
use crate::confirm;
use crate::failure::Failure;
use crate::notice;
use crate::store_address::{Opening, StoreAddress};

pub(super) async fn run(common: &Common, arguments: &MigrateArguments) -> Result<(), Failure> {
    let address = StoreAddress::of(common)?;
    let store = address.store(Opening::AsIs)?;
    let started = store.start().await;
    store.stop().await;
    let found = match started {
        Ok(()) => {
            notice::note("the store has the schema of this release; there is nothing to do");
            return Ok(());
        }
        Err(StoreError::Schema { found, reason }) => (found, reason),
        Err(error) => return Err(error.into()),
    };
    let opening = match found {
        (FoundSchema::Older(version), _) => {
            let question = format!(
                "The store has version {version}, and an older release cannot use it any more afterwards. Are all servers stopped, and \
                 is there a copy?"
            );
            if arguments.dry_run {
                return would_migrate(&*store, version).await;
            }
            confirm::ask(common, &question)?;
            if !arguments.force {
                servers::refuse_migration(&*store).await?;
            }
            Opening::Migrating
        }
        (FoundSchema::Missing, _) if arguments.create => {
            if arguments.dry_run {
                notice::note("the store does not exist, and would be created");
                return Ok(());
            }
            Opening::Creating
        }
        (found, reason) => return Err(StoreError::Schema { found, reason }.into()),
    };
    let store = address.store(opening)?;
    let started = store.start().await;
    store.stop().await;
    started?;
    notice::note(match opening {
        Opening::Creating => "the store was created",
        _ => "the store was migrated",
    });
    Ok(())
}

async fn would_migrate(store: &dyn KeyStore, version: i64) -> Result<(), Failure> {
    let number = servers::count_before_start(store).await?;
    if number > 0 {
        notice::warn(&format!(
            "{}; it would be migrated only after they stopped, or with `--force`",
            servers::use_the_store(number)
        ));
    }
    notice::note(&format!(
        "the store has version {version}, and would be migrated"
    ));
    Ok(())
}
