-- One row: what all processes that use the file share.
CREATE TABLE api_key_meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- The version of the last migration that ran. Not `PRAGMA user_version`, which belongs to the whole file, and so to
    -- an application that keeps tables of its own in it.
    schema_version INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL CHECK (lease_ms BETWEEN 20 AND 60000),
    -- The longest lease that a node may still hold: the former `lease_ms`, if that was longer, until it has run out.
    longest_lease_ms INTEGER NOT NULL,
    -- Counts the changes of `lease_ms`, so that a process that waits for one to take effect notices the next.
    lease_version INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO api_key_meta (only_row, schema_version, lease_ms, longest_lease_ms) VALUES (1, 100, 200, 200);

CREATE TRIGGER api_key_meta_lease_changed AFTER UPDATE OF lease_ms ON api_key_meta
WHEN NEW.lease_ms IS NOT OLD.lease_ms BEGIN
    UPDATE api_key_meta SET longest_lease_ms = max(OLD.longest_lease_ms, NEW.lease_ms), lease_version = OLD.lease_version + 1;
END;

-- Times are milliseconds since 1970-01-01T00:00:00Z. The checks reject mistakes of an UPDATE by hand.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY
        CHECK (length(id) = 22 AND id NOT GLOB '*[^0-9A-Za-z]*' AND id <= '7n42DGM5Tflk9n8mt7Fhc7'),
    prefix TEXT NOT NULL,
    label TEXT NOT NULL,
    owner TEXT,
    digest TEXT NOT NULL,
    previous_digest TEXT,
    previous_until INTEGER,
    -- Separated by single spaces.
    scopes TEXT NOT NULL,
    -- A JSON object.
    metadata TEXT NOT NULL CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    environment TEXT,
    -- Networks (10.0.0.0/8 2001:db8::/32) and methods (GET POST), separated by single spaces; empty means all.
    networks TEXT NOT NULL DEFAULT '',
    methods TEXT NOT NULL DEFAULT '',
    -- A JSON array as in [{"name":"daily","quota":"1000/day"},{"name":"m","rate":"10/minute"}].
    limits TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(limits) AND json_type(limits) = 'array'),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    not_before INTEGER,
    -- Any value revokes the key permanently.
    revoked_at INTEGER,
    revoked_reason TEXT CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    -- Has no check: a row with a broken version can still be revoked.
    version INTEGER NOT NULL,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
) STRICT;

CREATE INDEX api_keys_owner ON api_keys (owner, id);

-- The change log: one row per change, numbered in the order of the commits. SQLite lets one transaction write at a time,
-- and AUTOINCREMENT's counter is a row of that transaction, so that it neither skips ahead nor comes back.
CREATE TABLE api_key_changes (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Empty if the change is not one of a key.
    key_id TEXT NOT NULL,
    -- Distinguishes this history from that of a copy which took another course.
    tag BLOB NOT NULL DEFAULT (randomblob(16))
) STRICT;

-- The beginning of the history.
INSERT INTO api_key_changes (key_id) VALUES ('');

CREATE TRIGGER api_key_changes_trimmed AFTER INSERT ON api_key_changes BEGIN
    DELETE FROM api_key_changes WHERE epoch <= NEW.epoch - 10000;
END;

-- Triggers, so that a change made by hand counts like any other.
CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys BEGIN
    UPDATE api_keys SET version = OLD.version + 1
        WHERE id = NEW.id AND NEW.version <= OLD.version AND OLD.version < 9223372036854775807;
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

-- The limit counters of a key and its last use are deleted with it; its usage is kept until it is pruned.
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
    INSERT INTO api_key_changes (key_id) VALUES (OLD.id);
    DELETE FROM api_key_limit_counters WHERE key = OLD.id;
    DELETE FROM api_key_last_used WHERE key = OLD.id;
END;

CREATE TRIGGER api_keys_id_immutable BEFORE UPDATE ON api_keys WHEN NEW.id IS NOT OLD.id BEGIN
    SELECT RAISE(ABORT, 'the id of a key does not change; create a new key');
END;

CREATE TRIGGER api_keys_revocation_final BEFORE UPDATE ON api_keys
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked; create a new key');
END;

-- INSERT OR REPLACE deletes the revoked row without running any other trigger.
CREATE TRIGGER api_keys_revoked_not_replaced BEFORE INSERT ON api_keys
WHEN EXISTS (SELECT 1 FROM api_keys WHERE id = NEW.id AND revoked_at IS NOT NULL) BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked; create a new key');
END;

-- The nodes that may hold a lease. A row is deleted by its own node, or by another that suspected it and then waited for
-- its lease to end.
CREATE TABLE api_key_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    -- The epoch up to which the node has dropped changed records from its memory.
    acknowledged INTEGER NOT NULL,
    -- Increases while the node is alive.
    heartbeat INTEGER NOT NULL,
    suspected INTEGER NOT NULL CHECK (suspected IN (0, 1))
) STRICT, WITHOUT ROWID;

-- What was used of each limit of a key. Written without waiting for the disk.
CREATE TABLE api_key_limit_counters (
    key TEXT NOT NULL,
    -- The limit's name, and its kind.
    name TEXT NOT NULL,
    -- Of a rate: the theoretical arrival time of GCRA, in microseconds since 1970.
    tat INTEGER NOT NULL,
    -- Of a quota: the day or month that is counted, in days or months since January 1970; otherwise 0.
    period INTEGER NOT NULL,
    used INTEGER NOT NULL CHECK (used >= 0),
    -- Of a rolling window: what was used in each part of it, as a JSON object.
    parts TEXT NOT NULL CHECK (json_valid(parts) AND json_type(parts) = 'object'),
    PRIMARY KEY (key, name)
) STRICT, WITHOUT ROWID;

-- How often each key was used on a route in an hour (since 1970), by outcome.
CREATE TABLE api_key_usage (
    key TEXT NOT NULL,
    route TEXT NOT NULL,
    hour INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    cost INTEGER NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (key, hour, route, outcome)
) STRICT, WITHOUT ROWID;

-- Pruning must not scan all rows.
CREATE INDEX api_key_usage_hour ON api_key_usage (hour);

CREATE TABLE api_key_last_used (
    key TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    network TEXT
) STRICT, WITHOUT ROWID;

-- The last batch of usage that each node added, and when: a batch that is offered again is not added again.
CREATE TABLE api_key_usage_batches (
    node TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
