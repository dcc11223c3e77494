-- When each of the two latest secrets of a key was last used, and from which networks a key was last used. A release
-- before this one writes to `api_key_last_used`, as does nothing else any more: uses of the first secret, which reads
-- include.
CREATE TABLE api_key_secret_uses (
    key TEXT NOT NULL,
    -- The number of rotations that created the secret.
    rotations INTEGER NOT NULL,
    -- Milliseconds since 1970-01-01T00:00:00Z.
    at INTEGER NOT NULL,
    -- Of the client, as in 192.0.2.0/24, if networks are recorded.
    network TEXT,
    PRIMARY KEY (key, rotations)
) STRICT, WITHOUT ROWID;

-- The latest networks of each key.
CREATE TABLE api_key_networks (
    key TEXT NOT NULL,
    network TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- The day of `at`, since 1970. Its index changes once a day, and not with each use.
    day INTEGER NOT NULL,
    PRIMARY KEY (key, network)
) STRICT, WITHOUT ROWID;

-- Pruning must not scan all rows.
CREATE INDEX api_key_networks_day ON api_key_networks (day);

CREATE TRIGGER api_keys_deleted_uses AFTER DELETE ON api_keys BEGIN
    DELETE FROM api_key_secret_uses WHERE key = OLD.id;
    DELETE FROM api_key_networks WHERE key = OLD.id;
END;
