-- One row: what all processes that use the file share.
CREATE TABLE api_key_meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- How many migrations have run. Not `PRAGMA user_version`, which belongs to the whole file, and so to an
    -- application that keeps tables of its own in it.
    schema_version INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL CHECK (lease_ms BETWEEN 20 AND 60000)
) STRICT;

INSERT INTO api_key_meta (only_row, schema_version, lease_ms) VALUES (1, 0, 200);

-- Times are milliseconds since 1970-01-01T00:00:00Z. The checks refuse what an UPDATE by hand gets wrong.
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
    -- Networks (10.0.0.0/8 2001:db8::/32) and methods (GET POST), separated by single spaces; none is all.
    networks TEXT NOT NULL DEFAULT '',
    methods TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    not_before INTEGER,
    -- Any value revokes the key, and for good.
    revoked_at INTEGER,
    revoked_reason TEXT CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    -- Has no check: a row with a broken version can still be revoked.
    version INTEGER NOT NULL,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
) STRICT;

CREATE INDEX api_keys_owner ON api_keys (owner, id);

-- One row for every change, numbered in the order of the commits: SQLite lets one transaction write at a time, and
-- AUTOINCREMENT's counter is a row of that transaction, so that it neither skips ahead nor comes back.
CREATE TABLE api_key_changes (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL,
    -- Tells this history from that of a copy which went another way.
    tag BLOB NOT NULL DEFAULT (randomblob(16))
) STRICT;

-- The beginning, which is no key's.
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

CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
    INSERT INTO api_key_changes (key_id) VALUES (OLD.id);
END;

CREATE TRIGGER api_keys_id_stays BEFORE UPDATE ON api_keys WHEN NEW.id IS NOT OLD.id BEGIN
    SELECT RAISE(ABORT, 'the id of a key does not change; create a new key');
END;

CREATE TRIGGER api_keys_revoked_stays BEFORE UPDATE ON api_keys
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked; create a new key');
END;

-- INSERT OR REPLACE would remove the revoked row with no other trigger being asked.
CREATE TRIGGER api_keys_revoked_is_not_replaced BEFORE INSERT ON api_keys
WHEN EXISTS (SELECT 1 FROM api_keys WHERE id = NEW.id AND revoked_at IS NOT NULL) BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked; create a new key');
END;
