//! `apikey store`.

mod changed;
mod check;
mod copy;
mod left;
mod migrate;
mod servers;
mod verify;

use crate::args::{Common, StoreCommand};
use crate::failure::Failure;
use crate::store_address::StoreAddress;

/// The items of a page.
const PAGE: u32 = 500;

/// How many names of a kind are reported, in each section.
const NAMES: usize = 10;

pub(crate) async fn run(common: Common, command: StoreCommand) -> Result<(), Failure> {
    let done = match command {
        StoreCommand::Check => check::run(&common).await,
        StoreCommand::Migrate(arguments) => migrate::run(&common, &arguments).await,
        StoreCommand::Copy(arguments) => return copy::run(&common, &arguments).await,
    };
    done.map_err(|failure| {
        let Ok(address) = StoreAddress::of(&common) else {
            return failure;
        };
        let failure = address.explained(failure);
        failure.patient(&common, address.has_timeout(false))
    })
}
