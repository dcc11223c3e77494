//! Lists of owners, and the entries by which they are found.

use std::ops::Bound;

use redis::{Cmd, Value, from_redis_value};

use super::connection::{DEADLINE, LONG_DEADLINE};
use super::error::RedisFailure;
use super::index::RecordPass;
use super::record_hash::owner_state;
use super::script::{self, ScriptCall};
use super::server::Server;
use crate::error::StoreError;
use crate::store::schema::UpgradeFlag;
use crate::store::{OwnerPage, OwnerQuery};

/// The first byte of an entry.
const KIND: &[u8] = b"p";

/// How many owners of an older release one command adds entries for.
const STEP: usize = 500;

/// See [`OwnerStore::list_owners`](crate::store::OwnerStore::list_owners).
pub(super) async fn list(server: &Server, listed: &OwnerQuery) -> Result<OwnerPage, StoreError> {
    let doing = "listing owners";
    let (bracket, start) = match listed.start() {
        Some(Bound::Included(start)) => (b"[", start),
        Some(Bound::Excluded(start)) => (b"(", start),
        _ => return Ok(OwnerPage::default()),
    };
    let size = listed.page_size();
    let run = ScriptCall::new(&script::LIST_OWNERS)
        .key(server.names.index())
        .key(server.names.owners())
        .argument([bracket, KIND, start.as_bytes()].concat())
        // No text has the byte 255.
        .argument([b"(", KIND, listed.starting_with.as_bytes(), b"\xff"].concat())
        // One more, which tells whether others follow.
        .argument(size + 1);
    let (value, _) = server.calls.run(doing, &run, DEADLINE).await?;
    let texts: Vec<Vec<u8>> = value
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(|error| RedisFailure::of(doing, error))?;
    let rows = texts.chunks_exact(2).map(|pair| {
        let state = str::from_utf8(&pair[1]).ok().and_then(owner_state);
        (pair[0].clone(), state)
    });
    OwnerPage::of_rows(rows.collect(), size)
}

/// Adds the owners of records that an older release has written, and the entries of owners that it has added, in steps.
pub(super) async fn complete(server: &Server, upgrade: &UpgradeFlag) -> Result<(), StoreError> {
    let pass = RecordPass {
        doing: "adding owners of records of an older release",
        kind: b'i',
        position: "owners",
        script: &script::COMPLETE_OWNERS,
    };
    pass.run(server, upgrade).await?;
    let doing = "indexing owners of an older release";
    let failed = |error| RedisFailure::of(doing, error);
    let (index, owners) = (server.names.index(), server.names.owners());
    let mut known = redis::cmd("HLEN");
    known.arg(&owners);
    let mut listed = redis::cmd("ZLEXCOUNT");
    listed.arg(&index).arg("[p").arg("(q");
    let answers = server.calls.call(doing, [known, listed], DEADLINE).await?;
    let (known, listed): (u64, u64) = Value::Array(answers.values)
        .extract_error()
        .and_then(|value| Ok(from_redis_value(value)?))
        .map_err(failed)?;
    if listed >= known {
        return Ok(());
    }
    let _upgrading = upgrade.raise();
    let mut cursor = b"0".to_vec();
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&owners).arg(&cursor).arg("COUNT").arg(STEP);
        let (value, _) = server.calls.call(doing, [scan], LONG_DEADLINE).await?.one();
        let (next, texts): (Vec<u8>, Vec<Vec<u8>>) = value
            .extract_error()
            .and_then(|value| Ok(from_redis_value(value)?))
            .map_err(failed)?;
        let names: Vec<_> = texts.iter().step_by(2).collect();
        for names in names.chunks(STEP) {
            let mut add: Cmd = redis::cmd("ZADD");
            add.arg(&index);
            for name in names {
                add.arg(0).arg([KIND, name].concat());
            }
            let (value, _) = server.calls.call(doing, [add], LONG_DEADLINE).await?.one();
            value.extract_error().map_err(failed)?;
        }
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}
