//! `apikey store check`.

use std::time::SystemTime;

use apikey_runtime::key::KeyHasher;
use apikey_runtime::store::{CopyItems, CopySection};
use apikey_runtime::{KeyRecord, KeyStore, Timestamp};

use super::{PAGE, servers};
use crate::args::Common;
use crate::exit;
use crate::failure::Failure;
use crate::notice;
use crate::output::{Column, Output, Row};
use crate::progress::Progress;
use crate::settings;
use crate::store_address::{Opening, StoreAddress};

const COLUMNS: &[Column] = &[
    Column::shown("store"),
    Column::shown("keys"),
    Column::shown("owners"),
    Column::shown("unreadable"),
    Column::shown("unknown_peppers"),
    Column::shown("servers"),
];

pub(super) async fn run(common: &Common) -> Result<(), Failure> {
    let address = StoreAddress::of(common)?;
    let hasher = settings::hasher(common)?;
    let store = address.store(Opening::AsIs)?;
    store.start().await?;
    let counted = count(common, &*store, &hasher).await;
    let servers = servers::count(&*store).await;
    store.stop().await;
    let (counted, servers) = (counted?, servers?);
    let cells = vec![
        address.kind().into(),
        counted.keys.into(),
        counted.owners.into(),
        counted.unreadable.into(),
        counted.unknown_peppers.into(),
        (servers as u64).into(),
    ];
    let written = Output::new(common).one(COLUMNS, Row::new(address.kind(), cells));
    match counted.unreadable + counted.unknown_peppers {
        0 => written,
        // The verdict matters more than an error of the output.
        _ => Err(Failure::with_code(
            exit::ERROR,
            "some keys of the store, or their secrets in a grace, are always denied",
        )
        .remedy("restore the records that cannot be read; add `--pepper-file` with all peppers of the servers")),
    }
}

/// What a store holds.
#[derive(Debug, Default)]
struct Counted {
    keys: u64,
    owners: u64,
    unreadable: u64,
    unknown_peppers: u64,
}

async fn count(
    common: &Common,
    store: &dyn KeyStore,
    hasher: &dyn KeyHasher,
) -> Result<Counted, Failure> {
    let mut counted = Counted::default();
    let now = Timestamp::from(SystemTime::now());
    let is_unknown = |key: &&KeyRecord| {
        let mut digests = settings::digests(key, now);
        key.is_live(now) && digests.any(|digest| hasher.parse(digest).is_none())
    };
    let copying = store
        .copying()
        .ok_or_else(|| Failure::new("all keys of the store cannot be read"))?;
    let mut progress = Progress::new(common, "keys and owners", None);
    for section in [CopySection::Owners, CopySection::Keys] {
        let mut after = None;
        loop {
            let page = copying.read_copy(section, after.as_deref(), PAGE).await?;
            for name in &page.unreadable {
                notice::warn(&format!("`{name}` cannot be read"));
            }
            counted.unreadable += page.unreadable.len() as u64;
            match &page.items {
                CopyItems::Keys(keys) => {
                    counted.keys += keys.len() as u64;
                    let unknown = keys.iter().filter(is_unknown).count();
                    counted.unknown_peppers += unknown as u64;
                }
                items => counted.owners += items.len() as u64,
            }
            progress.set(counted.keys + counted.owners);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(counted)
}
