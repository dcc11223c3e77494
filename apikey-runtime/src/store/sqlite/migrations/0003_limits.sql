-- What the key is limited to: a JSON array as in [{"name":"daily","quota":"1000/day"},{"name":"m","rate":"10/minute"}].
ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '[]'
    CHECK (json_valid(limits) AND json_type(limits) = 'array');

-- What keys used of their limits. Written without waiting for the disk.
CREATE TABLE api_key_counts (
    key TEXT NOT NULL,
    -- The limit's name, and its kind.
    name TEXT NOT NULL,
    -- When all that passed a rate is worked off, in microseconds since 1970.
    arrival INTEGER NOT NULL,
    -- The day or month that is counted, in days or months since January 1970; 0 where there is none.
    period INTEGER NOT NULL,
    used INTEGER NOT NULL CHECK (used >= 0),
    -- What was used in each part of a rolling window: a JSON object.
    parts TEXT NOT NULL CHECK (json_valid(parts) AND json_type(parts) = 'object'),
    PRIMARY KEY (key, name)
) STRICT, WITHOUT ROWID;

-- How often each key was used on a route in an hour (since 1970), and what came of it.
CREATE TABLE api_key_usage (
    key TEXT NOT NULL,
    route TEXT NOT NULL,
    hour INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    cost INTEGER NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (key, hour, route, outcome)
) STRICT, WITHOUT ROWID;

-- Forgetting what is old must not look at all that is kept.
CREATE INDEX api_key_usage_hours ON api_key_usage (hour);

CREATE TABLE api_key_last_used (
    key TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    network TEXT
) STRICT, WITHOUT ROWID;

-- The last batch of usage that each node added, and when: one that is offered again is not added again.
CREATE TABLE api_key_usage_batches (
    node TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is counted of a key goes with it; its usage stays until its time is over.
CREATE TRIGGER api_keys_deleted_counts AFTER DELETE ON api_keys BEGIN
    DELETE FROM api_key_counts WHERE key = OLD.id;
    DELETE FROM api_key_last_used WHERE key = OLD.id;
END;
