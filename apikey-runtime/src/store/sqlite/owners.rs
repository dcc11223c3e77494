//! Owners: their rows, and marking the keys that they revoke.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{SqliteConnection, query, query_as};

use super::error::failed;
use super::records::{STEP, end_of_step_sql};
use super::transaction::{ChangeTransaction, WriteTransaction};
use super::{SqliteStore, live_keys, owner_list, to_its_end};
use crate::audit::ChangeOrigin;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::key::KeyId;
use crate::record::{OwnerRevocation, OwnerState};
use crate::store::{OwnerPage, OwnerQuery, OwnerStore, sql};
use crate::util::text::quote;

#[async_trait]
impl OwnerStore for SqliteStore {
    async fn find_owner(&self, owner: &str) -> Result<Option<OwnerState>, StoreError> {
        let found = query(FIND)
            .bind(owner)
            .fetch_optional(&self.pools().await?.reader)
            .await
            .map_err(|error| failed("reading an owner", error))?;
        found.as_ref().map(|row| state(owner, row)).transpose()
    }

    async fn revoke_owner_keys(
        &self,
        owner: &str,
        revocation: &OwnerRevocation,
        origin: &ChangeOrigin,
    ) -> Result<OwnerState, StoreError> {
        let pools = self.pools().await?;
        let (name, revocation) = (owner.to_owned(), revocation.clone());
        let (origin, clock) = (origin.clone(), Arc::clone(self.limit_clock()));
        let revoke =
            async move { revoke(&pools.writer, &name, &revocation, &origin, &*clock).await };
        let row = self.wrote(to_its_end(revoke).await).await?;
        state(owner, &row.ok_or(StoreError::NotFound)?)
    }

    async fn set_owner_suspended(
        &self,
        owner: &str,
        suspended: bool,
        origin: &ChangeOrigin,
    ) -> Result<(OwnerState, bool), StoreError> {
        let pools = self.pools().await?;
        let (name, origin) = (owner.to_owned(), origin.clone());
        let clock = Arc::clone(self.limit_clock());
        let change =
            async move { set_suspended(&pools.writer, &name, suspended, &origin, &*clock).await };
        let (row, is_changed) = self.wrote(to_its_end(change).await).await?;
        let row = row.ok_or(StoreError::NotFound)?;
        Ok((state(owner, &row)?, is_changed))
    }

    async fn count_live_keys(&self, owner: &str, max: u32) -> Result<u32, StoreError> {
        live_keys::count(&self.pools().await?.reader, owner, max, self.now()).await
    }

    async fn list_owners(&self, query: &OwnerQuery) -> Result<OwnerPage, StoreError> {
        owner_list::list(&self.pools().await?.reader, query).await
    }

    async fn mark_revoked_keys(&self) -> Result<bool, StoreError> {
        let pools = self.pools().await?;
        let marking_failed = |error| failed("marking revoked keys", error);
        // Usually nothing is left, and nothing is written.
        let left = query(UNMARKED).fetch_optional(&pools.reader).await;
        if left.map_err(marking_failed)?.is_none() {
            return Ok(false);
        }
        let more = mark(&pools.writer).await.map_err(marking_failed);
        self.kept(more).await
    }
}

macro_rules! state_columns {
    () => {
        "version AS owner_version, revocations AS owner_revoked, suspended AS owner_suspended"
    };
}
pub(super) use state_columns;

const FIND: &str = concat!(
    "SELECT ",
    state_columns!(),
    " FROM api_key_owners WHERE owner = ?"
);

fn state(owner: &str, row: &SqliteRow) -> Result<OwnerState, StoreError> {
    sql::state(row).map_err(|reason| StoreError::Corrupt {
        id: format!("the owner {}", quote(owner)),
        reason,
    })
}

const KEEP: &str = "INSERT INTO api_key_owner_revocations (owner, number, at, reason, actor) \
    SELECT owner, revocations + 1, $2, $3, $4 FROM api_key_owners WHERE owner = $1 \
    ON CONFLICT (owner, number) DO UPDATE SET at = excluded.at, reason = excluded.reason, actor = excluded.actor, marked_to = ''";
const REVOKE: &str = concat!(
    "UPDATE api_key_owners SET revocations = revocations + 1, version = version + 1 WHERE owner = ? RETURNING ",
    state_columns!()
);

/// The row of the revocation is there before the triggers look for it. One that was written by hand,
/// ahead of time, is replaced.
async fn revoke(
    pool: &SqlitePool,
    owner: &str,
    revocation: &OwnerRevocation,
    origin: &ChangeOrigin,
    clock: &dyn Clock,
) -> Result<Option<SqliteRow>, StoreError> {
    const DOING: &str = "revoking the keys of an owner";
    let mut change = ChangeTransaction::begin(pool, DOING, origin, clock).await?;
    let row = raise(change.connection(), owner, revocation).await;
    change.end(row.map_err(|error| failed(DOING, error))).await
}

async fn raise(
    connection: &mut SqliteConnection,
    owner: &str,
    revocation: &OwnerRevocation,
) -> Result<Option<SqliteRow>, sqlx::Error> {
    query(KEEP)
        .bind(owner)
        .bind(revocation.at.as_millis())
        .bind(&revocation.reason)
        .bind(&revocation.actor)
        .execute(&mut *connection)
        .await?;
    query(REVOKE).bind(owner).fetch_optional(connection).await
}

const SUSPEND: &str = concat!(
    "UPDATE api_key_owners SET suspended = $2, version = version + 1 WHERE owner = $1 AND suspended <> $2 RETURNING ",
    state_columns!()
);

/// Returns the owner's row, and whether it was changed.
async fn set_suspended(
    pool: &SqlitePool,
    owner: &str,
    suspended: bool,
    origin: &ChangeOrigin,
    clock: &dyn Clock,
) -> Result<(Option<SqliteRow>, bool), StoreError> {
    const DOING: &str = "suspending an owner";
    let mut change = ChangeTransaction::begin(pool, DOING, origin, clock).await?;
    let changed = suspend(change.connection(), owner, suspended).await;
    let changed = changed.map_err(|error| failed(DOING, error));
    change.end(changed).await
}

async fn suspend(
    connection: &mut SqliteConnection,
    owner: &str,
    suspended: bool,
) -> Result<(Option<SqliteRow>, bool), sqlx::Error> {
    let changed = query(SUSPEND)
        .bind(owner)
        .bind(suspended)
        .fetch_optional(&mut *connection)
        .await?;
    match changed {
        Some(row) => Ok((Some(row), true)),
        None => Ok((
            query(FIND).bind(owner).fetch_optional(connection).await?,
            false,
        )),
    }
}

/// The next revocation that is not marked: an owner's are marked in their order, so that each key gets
/// the first one after its number.
const UNMARKED: &str = "SELECT revocation.rowid, marked_to FROM api_key_owner_revocations AS revocation \
    JOIN api_key_owners AS state ON state.owner = revocation.owner AND state.revocations >= revocation.number \
    ORDER BY revocation.owner, revocation.number LIMIT 1";

/// A column of the revocation that is marked. Its owner stays in the file: a text that was written by
/// hand may not be UTF-8.
macro_rules! marked {
    ($column:literal) => {
        concat!(
            "(SELECT ",
            $column,
            " FROM api_key_owner_revocations WHERE rowid = $3)"
        )
    };
}

const END_OF_MARK_STEP: &str = end_of_step_sql!("owner = ", marked!("owner"), " AND ");

/// The trigger takes this for no change, since it writes what every reader sees already.
const MARK_STEP: &str = concat!(
    "UPDATE api_keys SET (revoked_at, revoked_reason) = ",
    marked!("at, reason"),
    " WHERE owner = ",
    marked!("owner"),
    " AND id > $1 AND id <= coalesce($2, x'') AND owner_revocations < ",
    marked!("number"),
    " AND revoked_at IS NULL"
);

/// Notes how far the keys are marked.
const MARKED: &str =
    "UPDATE api_key_owner_revocations SET marked_to = coalesce($2, '~') WHERE rowid = $1";
const FORGET: &str = "DELETE FROM api_key_owner_revocations WHERE rowid = $1 AND marked_to = '~'";

/// Marks the keys of one step, and returns whether more may be left.
async fn mark(pool: &SqlitePool) -> Result<bool, sqlx::Error> {
    let mut transaction = WriteTransaction::begin(pool).await?;
    let connection = transaction.connection();
    let next: Option<(i64, String)> = query_as(UNMARKED).fetch_optional(&mut *connection).await?;
    // Another process may have marked the last one meanwhile.
    let Some((revocation, after)) = next else {
        transaction.commit().await?;
        return Ok(false);
    };
    let end = query(END_OF_MARK_STEP)
        .bind(&after)
        .bind(STEP - 1)
        .bind(revocation)
        .fetch_optional(&mut *connection)
        .await?;
    let end = end.as_ref().and_then(sql::id);
    let end = end.as_ref().map(KeyId::as_str);
    query(MARK_STEP)
        .bind(&after)
        .bind(end)
        .bind(revocation)
        .execute(&mut *connection)
        .await?;
    query(MARKED)
        .bind(revocation)
        .bind(end)
        .execute(&mut *connection)
        .await?;
    query(FORGET)
        .bind(revocation)
        .execute(&mut *connection)
        .await?;
    let left = query(UNMARKED).fetch_optional(&mut *connection).await?;
    transaction.commit().await?;
    Ok(left.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::reads;
    use super::*;
    use crate::store::KeyStore;

    /// What a change of an owner and a step of marking do does not grow with the number of keys.
    #[tokio::test]
    async fn each_statement_on_an_owner_reads_a_range_of_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(folder.path().join("keys.db"));
        store.start().await.unwrap();
        let of_owner = "api_keys USING INDEX api_keys_owner (owner=? AND id>? AND id<?)";
        let to_end = "api_keys_owner (owner=? AND id>?)";
        let one = "api_key_owners USING PRIMARY KEY (owner=?)";
        let kept = "api_key_owner_revocations USING INTEGER PRIMARY KEY (rowid=?)";
        reads(&store, FIND, &[one]).await;
        reads(&store, KEEP, &[one]).await;
        reads(&store, REVOKE, &[one]).await;
        reads(&store, SUSPEND, &[one]).await;
        reads(&store, END_OF_MARK_STEP, &[to_end, kept]).await;
        reads(&store, MARK_STEP, &[of_owner, kept]).await;
        reads(&store, MARKED, &[kept]).await;
        reads(&store, FORGET, &[kept]).await;
        store.stop().await;
    }
}
