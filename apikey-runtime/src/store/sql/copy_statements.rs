//! Statements on the sections of a copy, which are those of both databases. Rows are passed as a JSON array of arrays.

/// A statement that reads a section after the position that begins with `$2`. It tells whether the key has a record.
macro_rules! copy_read {
    ($columns:expr, $table:literal, $position:literal, $start:literal) => {
        copy_read!($columns, $table, $position, $start, "")
    };
    ($columns:expr, $table:literal, $position:literal, $start:literal, $and_is_kept:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", EXISTS (SELECT 1 FROM api_keys AS record WHERE record.id = copied.key)",
            $and_is_kept,
            " AS is_kept FROM ",
            $table,
            " AS copied WHERE (",
            $position,
            ") > (",
            $start,
            ") ORDER BY ",
            $position,
            " LIMIT $1"
        )
    };
}
pub(in crate::store) use copy_read;

pub(in crate::store) const READ_SECRETS: &str = "SELECT name, secret, TRUE AS is_kept FROM api_key_shared_secrets WHERE name > $2 ORDER BY name LIMIT $1";

pub(in crate::store) const READ_USAGE: &str = copy_read!(
    "key, hour, route, outcome, requests, cost",
    "api_key_usage",
    "key, hour, route, outcome",
    "$2, $3, $4, $5"
);

/// As in other reads, the 20 latest networks of a key count: in PostgreSQL, two batches at once may leave more.
pub(in crate::store) const READ_NETWORKS: &str = copy_read!(
    "key, network, at",
    "api_key_networks",
    "key, network",
    "$2, $3",
    " AND 20 > (SELECT count(*) FROM api_key_networks AS later WHERE later.key = copied.key \
     AND (later.at > copied.at OR later.at = copied.at AND later.network < copied.network))"
);

/// The second table has what an older release wrote: uses of the first secret. As in other reads, the two latest secrets of a key
/// count: a row of a former one may be left.
pub(in crate::store) const READ_USES: &str = "\
    SELECT key, rotations, at, network, EXISTS (SELECT 1 FROM api_keys AS record WHERE record.id = copied.key) \
        AND 2 > (SELECT count(*) FROM api_key_secret_uses AS later \
            WHERE later.key = copied.key AND later.rotations > copied.rotations) AS is_kept \
    FROM (SELECT * FROM (SELECT key, rotations, at, network FROM api_key_secret_uses \
            WHERE (key, rotations) > ($2, $3) ORDER BY key, rotations LIMIT $1) AS present \
        UNION ALL SELECT * FROM (SELECT key, CAST(0 AS bigint) AS rotations, at, network FROM api_key_last_used \
            WHERE key >= $2 AND (key > $2 OR 0 > $3) ORDER BY key LIMIT $1) AS former) AS copied \
    ORDER BY key, rotations, at DESC LIMIT $1";

/// The statements on rows of the first parameter, which a macro of the database reads: each is the `value` of `asked`. The last three
/// say in which order rows are written.
macro_rules! copy_statements {
    ($rows:ident, $usage:literal, $uses:literal, $networks:literal) => {
        /// Reads the counts that are there already.
        pub(super) const FIND_USAGE: &str = concat!(
            "SELECT copied.key, hour, route, outcome, requests, cost FROM ",
            $rows!(),
            " JOIN api_key_usage AS copied ON copied.key = asked.value ->> 0 AND hour = CAST(asked.value ->> 1 AS bigint) \
             AND route = asked.value ->> 2 AND outcome = asked.value ->> 3"
        );
        pub(super) const WRITE_USAGE: &str = concat!(
            "INSERT INTO api_key_usage (key, hour, route, outcome, requests, cost) \
             SELECT asked.value ->> 0, CAST(asked.value ->> 1 AS bigint), asked.value ->> 2, asked.value ->> 3, \
             CAST(asked.value ->> 4 AS bigint), CAST(asked.value ->> 5 AS bigint) FROM ",
            $rows!(),
            " WHERE TRUE ",
            $usage,
            " ON CONFLICT (key, hour, route, outcome) DO UPDATE SET requests = excluded.requests, cost = excluded.cost"
        );
        /// Reads all uses of the keys: the latest of them are kept.
        pub(super) const FIND_USES: &str = concat!(
            "SELECT copied.key, rotations, at, network FROM api_key_secret_uses AS copied WHERE copied.key IN (SELECT asked.value ->> 0 FROM ",
            $rows!(),
            ")"
        );
        /// A key that was removed in the meantime gets no row, which would never be deleted.
        pub(super) const WRITE_USES: &str = concat!(
            "INSERT INTO api_key_secret_uses (key, rotations, at, network) \
             SELECT asked.value ->> 0, CAST(asked.value ->> 1 AS bigint), CAST(asked.value ->> 2 AS bigint), asked.value ->> 3 FROM ",
            $rows!(),
            " WHERE EXISTS (SELECT 1 FROM api_keys AS record WHERE record.id = asked.value ->> 0) ",
            $uses,
            " ON CONFLICT (key, rotations) DO UPDATE SET at = excluded.at, network = excluded.network"
        );
        pub(super) const FIND_NETWORKS: &str = concat!(
            "SELECT copied.key, network, at FROM api_key_networks AS copied WHERE copied.key IN (SELECT asked.value ->> 0 FROM ",
            $rows!(),
            ")"
        );
        pub(super) const WRITE_NETWORKS: &str = concat!(
            "INSERT INTO api_key_networks (key, network, at, day) \
             SELECT asked.value ->> 0, asked.value ->> 1, CAST(asked.value ->> 2 AS bigint), CAST(asked.value ->> 3 AS bigint) FROM ",
            $rows!(),
            " WHERE EXISTS (SELECT 1 FROM api_keys AS record WHERE record.id = asked.value ->> 0) ",
            $networks,
            " ON CONFLICT (key, network) DO UPDATE SET at = excluded.at, day = excluded.day"
        );
    };
}
pub(in crate::store) use copy_statements;
