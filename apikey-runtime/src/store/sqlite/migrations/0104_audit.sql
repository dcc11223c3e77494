-- The life of a key: what people say of it, the order of lists, and the audit log.

ALTER TABLE api_keys ADD COLUMN description TEXT;
-- The actors that created the key, and that changed it last.
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
ALTER TABLE api_keys ADD COLUMN updated_by TEXT;
-- How many times the digest was replaced. The triggers count.
ALTER TABLE api_keys ADD COLUMN rotations INTEGER NOT NULL DEFAULT 0 CHECK (rotations >= 0);
-- The first 64 characters of the label in lower case, by which keys are found and sorted. Of a label that was written by
-- hand, only ASCII is in lower case. NULL only in the middle of a statement.
ALTER TABLE api_keys ADD COLUMN label_key TEXT;

DROP TRIGGER api_keys_inserted;
DROP TRIGGER api_keys_owner_changed;
DROP TRIGGER api_keys_updated;
DROP TRIGGER api_keys_deleted;
DROP TRIGGER api_key_owners_changed;
DROP TRIGGER api_key_owners_deleted;

UPDATE api_keys SET label_key = lower(substr(label, 1, 64));

CREATE INDEX api_keys_created ON api_keys (created_at, id);
CREATE INDEX api_keys_owner_created ON api_keys (owner, created_at, id);
CREATE INDEX api_keys_label ON api_keys (label_key, id);
CREATE INDEX api_keys_expires ON api_keys (expires_at, id) WHERE expires_at IS NOT NULL;
-- Those of an owner that are neither revoked nor expired at a time are a range.
CREATE INDEX api_keys_live ON api_keys (owner, owner_revocations, coalesce(expires_at, 9223372036854775807))
    WHERE owner IS NOT NULL AND revoked_at IS NULL;

-- Where the changes of this transaction come from. Inserted before them and deleted in the same transaction, so that no
-- other one sees it.
CREATE TABLE api_key_origin (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    actor TEXT,
    channel TEXT NOT NULL DEFAULT 'sql',
    address TEXT,
    request_id TEXT,
    reason TEXT,
    -- The time of the changes, in milliseconds since 1970. By default, that of the statement.
    at INTEGER,
    -- Whether the statements set `version`, `rotations`, `updated_by` and `label_key` by themselves.
    is_library INTEGER NOT NULL DEFAULT 0 CHECK (is_library IN (0, 1)),
    -- Entries of the audit log from before this time may be deleted.
    prunes_before INTEGER
) STRICT;

-- The audit log: a row for each change of a key or an owner. Only triggers write it.
CREATE TABLE api_key_audit (
    -- The bound leaves room for the entries after one that was written by hand.
    position INTEGER PRIMARY KEY AUTOINCREMENT CHECK (position BETWEEN 1 AND 4611686018427387904),
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    key TEXT,
    owner TEXT,
    -- If the change gave the key to another owner.
    former_owner TEXT,
    actor TEXT,
    channel TEXT NOT NULL,
    address TEXT,
    request_id TEXT,
    reason TEXT,
    -- Names of columns, each with its value before and after the change. Never a digest.
    fields TEXT NOT NULL
) STRICT;

-- The position is part of each index. A row of which the first column is NULL is not read by it.
CREATE INDEX api_key_audit_at ON api_key_audit (at);
CREATE INDEX api_key_audit_key ON api_key_audit (key, at) WHERE key IS NOT NULL;
CREATE INDEX api_key_audit_owner ON api_key_audit (owner, at) WHERE owner IS NOT NULL;
CREATE INDEX api_key_audit_former_owner ON api_key_audit (former_owner, at) WHERE former_owner IS NOT NULL;
CREATE INDEX api_key_audit_actor ON api_key_audit (actor, at) WHERE actor IS NOT NULL;

CREATE TRIGGER api_key_audit_kept BEFORE UPDATE ON api_key_audit BEGIN
    SELECT RAISE(ABORT, 'an entry of the audit log does not change; a new change is a new entry');
END;

CREATE TRIGGER api_key_audit_not_deleted BEFORE DELETE ON api_key_audit
WHEN NOT EXISTS (SELECT 1 FROM api_key_origin WHERE OLD.at < prunes_before) BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are removed by their age only; set how long they are kept');
END;

-- INSERT OR REPLACE deletes a row without running any other trigger.
CREATE TRIGGER api_key_audit_not_replaced BEFORE INSERT ON api_key_audit
WHEN EXISTS (SELECT 1 FROM api_key_audit WHERE position = NEW.position) BEGIN
    SELECT RAISE(ABORT, 'an entry of the audit log does not change; leave the position out');
END;

-- The key that a statement replaces, if it is an INSERT OR REPLACE: it deletes the row without running any other trigger.
-- What another statement left is deleted before the next insert of a key.
CREATE TABLE api_key_replaced (
    key TEXT NOT NULL PRIMARY KEY,
    owner TEXT,
    rotations INTEGER NOT NULL,
    -- As in the audit log. NULL if a trigger has written that entry.
    fields TEXT
) STRICT, WITHOUT ROWID;

CREATE TRIGGER api_keys_replaced BEFORE INSERT ON api_keys
WHEN EXISTS (SELECT 1 FROM api_keys WHERE id = NEW.id) OR EXISTS (SELECT 1 FROM api_key_replaced) BEGIN
    DELETE FROM api_key_replaced;
    INSERT INTO api_key_replaced (key, owner, rotations, fields)
        SELECT key.id, key.owner,
            min(key.rotations, 9223372036854775806) + (key.digest <> NEW.digest),
            (SELECT json_group_object(name, json_array(before, NULL)) FROM (
                SELECT 'created_at' AS name, key.created_at AS before
                UNION ALL SELECT 'created_by', key.created_by
                UNION ALL SELECT 'description', key.description
                UNION ALL SELECT 'enabled', key.enabled
                UNION ALL SELECT 'environment', key.environment
                UNION ALL SELECT 'expires_at', key.expires_at
                UNION ALL SELECT 'label', key.label
                UNION ALL SELECT 'limits', key.limits
                UNION ALL SELECT 'metadata', key.metadata
                UNION ALL SELECT 'methods', key.methods
                UNION ALL SELECT 'networks', key.networks
                UNION ALL SELECT 'not_before', key.not_before
                UNION ALL SELECT 'owner', key.owner
                UNION ALL SELECT 'prefix', key.prefix
                UNION ALL SELECT 'previous_until', key.previous_until
                UNION ALL SELECT 'revoked_at', key.revoked_at
                UNION ALL SELECT 'revoked_reason', key.revoked_reason
                UNION ALL SELECT 'scopes', key.scopes
            ) WHERE before IS NOT NULL)
        FROM api_keys AS key WHERE key.id = NEW.id;
END;

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN
    INSERT INTO api_key_owners (owner) SELECT NEW.owner
        WHERE NEW.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_owners WHERE owner = NEW.owner);
    INSERT INTO api_key_numbering (key) SELECT NEW.id
        WHERE NEW.owner_revocations <> coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0)
        OR NEW.label_key IS NULL OR EXISTS (SELECT 1 FROM api_key_replaced WHERE key = NEW.id);
    UPDATE api_keys SET owner_revocations = coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0),
        label_key = coalesce(NEW.label_key, lower(substr(NEW.label, 1, 64))),
        rotations = max(NEW.rotations, coalesce((SELECT rotations FROM api_key_replaced WHERE key = NEW.id), 0))
        WHERE id = (SELECT key FROM api_key_numbering);
    DELETE FROM api_key_numbering;
    INSERT INTO api_key_audit (at, action, key, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 'purged',
            replaced.key, replaced.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id,
            origin.reason, replaced.fields
        FROM api_key_replaced AS replaced LEFT JOIN api_key_origin AS origin
        WHERE replaced.key = NEW.id AND replaced.fields IS NOT NULL;
    INSERT INTO api_key_audit (at, action, key, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 'created',
            NEW.id, NEW.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id,
            origin.reason, changed.fields
        FROM (SELECT json_group_object(name, json_array(NULL, after)) AS fields FROM (
                SELECT 'created_at' AS name, NEW.created_at AS after
                UNION ALL SELECT 'created_by', NEW.created_by
                UNION ALL SELECT 'description', NEW.description
                UNION ALL SELECT 'enabled', NEW.enabled
                UNION ALL SELECT 'environment', NEW.environment
                UNION ALL SELECT 'expires_at', NEW.expires_at
                UNION ALL SELECT 'label', NEW.label
                UNION ALL SELECT 'limits', NEW.limits
                UNION ALL SELECT 'metadata', NEW.metadata
                UNION ALL SELECT 'methods', NEW.methods
                UNION ALL SELECT 'networks', NEW.networks
                UNION ALL SELECT 'not_before', NEW.not_before
                UNION ALL SELECT 'owner', NEW.owner
                UNION ALL SELECT 'prefix', NEW.prefix
                UNION ALL SELECT 'previous_until', NEW.previous_until
                UNION ALL SELECT 'revoked_at', NEW.revoked_at
                UNION ALL SELECT 'revoked_reason', NEW.revoked_reason
                UNION ALL SELECT 'scopes', NEW.scopes
            ) WHERE after IS NOT NULL) AS changed LEFT JOIN api_key_origin AS origin;
    DELETE FROM api_key_replaced;
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

-- An update that only marks a key writes what every reader sees already: it is not a change. A migration that adds a column
-- to `api_keys` adds it here. One trigger, since the order of several is not defined: the entry of the audit log shows the
-- row after all of it. While `api_key_numbering` has a row, an update is part of another change.
CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM api_key_numbering) AND NOT (
    OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
    AND (NEW.id, NEW.prefix, NEW.label, NEW.owner, NEW.digest, NEW.previous_digest, NEW.previous_until, NEW.scopes,
         NEW.metadata, NEW.environment, NEW.networks, NEW.methods, NEW.limits, NEW.created_at, NEW.expires_at,
         NEW.not_before, NEW.enabled, NEW.version, NEW.owner_revocations, NEW.description, NEW.created_by, NEW.updated_by,
         NEW.rotations, NEW.label_key)
     IS (OLD.id, OLD.prefix, OLD.label, OLD.owner, OLD.digest, OLD.previous_digest, OLD.previous_until, OLD.scopes,
         OLD.metadata, OLD.environment, OLD.networks, OLD.methods, OLD.limits, OLD.created_at, OLD.expires_at,
         OLD.not_before, OLD.enabled, OLD.version, OLD.owner_revocations, OLD.description, OLD.created_by, OLD.updated_by,
         OLD.rotations, OLD.label_key)
    AND OLD.owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner)
    AND (NEW.revoked_at, NEW.revoked_reason) IS (SELECT at, reason FROM api_key_owner_revocations
        WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1)
) BEGIN
    INSERT INTO api_key_numbering (key) SELECT NEW.id
        WHERE NEW.owner IS NOT OLD.owner OR NOT EXISTS (SELECT 1 FROM api_key_origin WHERE is_library);
    -- A key that its owner's row revokes stays with that owner, and is marked if it is not yet. Any other takes the number
    -- of the new owner.
    UPDATE api_keys SET owner = OLD.owner, owner_revocations = OLD.owner_revocations,
        revoked_at = iif(OLD.revoked_at IS NOT NULL, NEW.revoked_at, coalesce((SELECT at FROM api_key_owner_revocations
            WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1), created_at)),
        revoked_reason = iif(OLD.revoked_at IS NOT NULL, NEW.revoked_reason, (SELECT reason FROM api_key_owner_revocations
            WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1))
        WHERE id = NEW.id AND NEW.owner IS NOT OLD.owner
        AND OLD.owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner);
    INSERT INTO api_key_owners (owner) SELECT owner FROM api_keys AS key
        WHERE id = NEW.id AND NEW.owner IS NOT OLD.owner
        AND owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_owners WHERE owner = key.owner);
    UPDATE api_keys SET owner_revocations = coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0)
        WHERE id = NEW.id AND NEW.owner IS NOT OLD.owner AND owner IS NEW.owner;
    -- What a statement by hand does not set.
    UPDATE api_keys SET
        version = iif(NEW.version <= OLD.version AND OLD.version < 9223372036854775807, OLD.version + 1, NEW.version),
        rotations = max(NEW.rotations, min(OLD.rotations, 9223372036854775806) + (NEW.digest <> OLD.digest)),
        updated_by = iif(NEW.updated_by IS OLD.updated_by, (SELECT actor FROM api_key_origin), NEW.updated_by),
        label_key = iif(NEW.label_key IS NULL OR NEW.label <> OLD.label AND NEW.label_key IS OLD.label_key,
            lower(substr(NEW.label, 1, 64)), NEW.label_key)
        WHERE id = NEW.id AND NOT EXISTS (SELECT 1 FROM api_key_origin WHERE is_library);
    DELETE FROM api_key_numbering;
    INSERT INTO api_key_audit (at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
            CASE
                WHEN OLD.revoked_at IS NULL AND key.revoked_at IS NOT NULL THEN 'revoked'
                WHEN key.digest <> OLD.digest THEN 'rotated'
                WHEN changed.count = 1 AND key.enabled <> OLD.enabled THEN iif(key.enabled, 'enabled', 'disabled')
                ELSE 'updated'
            END,
            key.id, key.owner, iif(key.owner IS NOT OLD.owner, OLD.owner, NULL), origin.actor,
            coalesce(origin.channel, 'sql'), origin.address, origin.request_id, origin.reason, changed.fields
        FROM (SELECT json_group_object(name, json_array(before, after)) AS fields, count(*) AS count FROM (
                SELECT 'created_at' AS name, OLD.created_at AS before, NEW.created_at AS after
                UNION ALL SELECT 'created_by', OLD.created_by, NEW.created_by
                UNION ALL SELECT 'description', OLD.description, NEW.description
                UNION ALL SELECT 'enabled', OLD.enabled, NEW.enabled
                UNION ALL SELECT 'environment', OLD.environment, NEW.environment
                UNION ALL SELECT 'expires_at', OLD.expires_at, NEW.expires_at
                UNION ALL SELECT 'label', OLD.label, NEW.label
                UNION ALL SELECT 'limits', OLD.limits, NEW.limits
                UNION ALL SELECT 'metadata', OLD.metadata, NEW.metadata
                UNION ALL SELECT 'methods', OLD.methods, NEW.methods
                UNION ALL SELECT 'networks', OLD.networks, NEW.networks
                UNION ALL SELECT 'not_before', OLD.not_before, NEW.not_before
                UNION ALL SELECT 'owner', OLD.owner, (SELECT owner FROM api_keys WHERE id = NEW.id)
                UNION ALL SELECT 'prefix', OLD.prefix, NEW.prefix
                UNION ALL SELECT 'previous_until', OLD.previous_until, NEW.previous_until
                UNION ALL SELECT 'revoked_at', OLD.revoked_at, (SELECT revoked_at FROM api_keys WHERE id = NEW.id)
                UNION ALL SELECT 'revoked_reason', OLD.revoked_reason, (SELECT revoked_reason FROM api_keys WHERE id = NEW.id)
                UNION ALL SELECT 'scopes', OLD.scopes, NEW.scopes
            ) WHERE before IS NOT after) AS changed
        JOIN api_keys AS key ON key.id = NEW.id LEFT JOIN api_key_origin AS origin;
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

-- The limit counters of a key and its last use are deleted with it; its usage is kept until it is pruned.
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
    UPDATE api_key_replaced SET fields = NULL WHERE key = OLD.id;
    INSERT INTO api_key_audit (at, action, key, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 'purged',
            OLD.id, OLD.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id,
            origin.reason, changed.fields
        FROM (SELECT json_group_object(name, json_array(before, NULL)) AS fields FROM (
                SELECT 'created_at' AS name, OLD.created_at AS before
                UNION ALL SELECT 'created_by', OLD.created_by
                UNION ALL SELECT 'description', OLD.description
                UNION ALL SELECT 'enabled', OLD.enabled
                UNION ALL SELECT 'environment', OLD.environment
                UNION ALL SELECT 'expires_at', OLD.expires_at
                UNION ALL SELECT 'label', OLD.label
                UNION ALL SELECT 'limits', OLD.limits
                UNION ALL SELECT 'metadata', OLD.metadata
                UNION ALL SELECT 'methods', OLD.methods
                UNION ALL SELECT 'networks', OLD.networks
                UNION ALL SELECT 'not_before', OLD.not_before
                UNION ALL SELECT 'owner', OLD.owner
                UNION ALL SELECT 'prefix', OLD.prefix
                UNION ALL SELECT 'previous_until', OLD.previous_until
                UNION ALL SELECT 'revoked_at', OLD.revoked_at
                UNION ALL SELECT 'revoked_reason', OLD.revoked_reason
                UNION ALL SELECT 'scopes', OLD.scopes
            ) WHERE before IS NOT NULL) AS changed LEFT JOIN api_key_origin AS origin;
    INSERT INTO api_key_changes (key_id) VALUES (OLD.id);
    DELETE FROM api_key_limit_counters WHERE key = OLD.id;
    DELETE FROM api_key_last_used WHERE key = OLD.id;
END;

CREATE TRIGGER api_key_owners_changed AFTER UPDATE ON api_key_owners
WHEN NEW.revocations > OLD.revocations OR NEW.suspended <> OLD.suspended BEGIN
    UPDATE api_key_owners SET version = OLD.version + 1 WHERE owner = NEW.owner AND NEW.version <= OLD.version;
    -- Milliseconds since 1970, in each release of SQLite.
    INSERT INTO api_key_owner_revocations (owner, number, at)
        SELECT NEW.owner, NEW.revocations, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
        WHERE NEW.revocations > OLD.revocations AND NOT EXISTS (
            SELECT 1 FROM api_key_owner_revocations WHERE owner = NEW.owner AND number = NEW.revocations);
    INSERT INTO api_key_audit (at, action, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
            CASE
                WHEN NEW.revocations > OLD.revocations THEN 'owner_revoked'
                WHEN NEW.suspended THEN 'owner_suspended'
                ELSE 'owner_resumed'
            END,
            NEW.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id, origin.reason,
            changed.fields
        FROM (SELECT json_group_object(name, json_array(before, after)) AS fields FROM (
                SELECT 'revocations' AS name, OLD.revocations AS before, NEW.revocations AS after
                UNION ALL SELECT 'suspended', OLD.suspended, NEW.suspended
            ) WHERE before IS NOT after) AS changed LEFT JOIN api_key_origin AS origin;
    INSERT INTO api_key_changes (key_id, kind, owner) VALUES ('', 'owner', NEW.owner);
END;

-- The row that comes with an owner's first key is not suspended; another one was inserted by hand.
CREATE TRIGGER api_key_owners_inserted AFTER INSERT ON api_key_owners WHEN NEW.suspended BEGIN
    INSERT INTO api_key_audit (at, action, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 'owner_suspended',
            NEW.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id, origin.reason,
            json_object('suspended', json_array(NULL, NEW.suspended))
        FROM (SELECT 1) LEFT JOIN api_key_origin AS origin;
END;

-- An owner of this name begins again with version 1, so nodes forget what they know.
CREATE TRIGGER api_key_owners_deleted AFTER DELETE ON api_key_owners BEGIN
    DELETE FROM api_key_owner_revocations WHERE owner = OLD.owner;
    INSERT INTO api_key_audit (at, action, owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)), 'purged',
            OLD.owner, origin.actor, coalesce(origin.channel, 'sql'), origin.address, origin.request_id, origin.reason,
            json_object('revocations', json_array(OLD.revocations, NULL), 'suspended', json_array(OLD.suspended, NULL))
        FROM (SELECT 1) LEFT JOIN api_key_origin AS origin;
    INSERT INTO api_key_changes (key_id, kind) VALUES ('', 'all');
END;
