-- When a key was last enabled, and notices before the end of keys. Nothing here takes longer with more keys.

-- By the clock of the node that enabled the key. If a statement by hand, or of an older release, enables a key and leaves this as it
-- is, a trigger sets it.
ALTER TABLE api_keys ADD COLUMN enabled_at INTEGER;

-- Whether the statements of a library set `enabled_at` by themselves. Those of an older release do not know the column.
ALTER TABLE api_key_origin ADD COLUMN sets_enabled_at INTEGER NOT NULL DEFAULT 0 CHECK (sets_enabled_at IN (0, 1));

-- The next four are as before, and know that column.
DROP TRIGGER api_keys_replaced;
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
                UNION ALL SELECT 'enabled_at', key.enabled_at
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

DROP TRIGGER api_keys_inserted;
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
                UNION ALL SELECT 'enabled_at', NEW.enabled_at
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

-- A migration that adds a column to `api_keys` adds it here.
DROP TRIGGER api_keys_updated;
CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM api_key_numbering) AND NOT (
    OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
    AND (NEW.id, NEW.prefix, NEW.label, NEW.owner, NEW.digest, NEW.previous_digest, NEW.previous_until, NEW.scopes,
         NEW.metadata, NEW.environment, NEW.networks, NEW.methods, NEW.limits, NEW.created_at, NEW.expires_at,
         NEW.not_before, NEW.enabled, NEW.version, NEW.owner_revocations, NEW.description, NEW.created_by, NEW.updated_by,
         NEW.rotations, NEW.label_key, NEW.enabled_at)
     IS (OLD.id, OLD.prefix, OLD.label, OLD.owner, OLD.digest, OLD.previous_digest, OLD.previous_until, OLD.scopes,
         OLD.metadata, OLD.environment, OLD.networks, OLD.methods, OLD.limits, OLD.created_at, OLD.expires_at,
         OLD.not_before, OLD.enabled, OLD.version, OLD.owner_revocations, OLD.description, OLD.created_by, OLD.updated_by,
         OLD.rotations, OLD.label_key, OLD.enabled_at)
    AND OLD.owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner)
    AND (NEW.revoked_at, NEW.revoked_reason) IS (SELECT at, reason FROM api_key_owner_revocations
        WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1)
) BEGIN
    INSERT INTO api_key_numbering (key) SELECT NEW.id
        WHERE NEW.owner IS NOT OLD.owner OR NOT EXISTS (SELECT 1 FROM api_key_origin WHERE is_library AND sets_enabled_at);
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
    UPDATE api_keys SET
        enabled_at = coalesce((SELECT at FROM api_key_origin), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE id = NEW.id AND NEW.enabled > OLD.enabled AND NEW.enabled_at IS OLD.enabled_at
        AND NOT EXISTS (SELECT 1 FROM api_key_origin WHERE sets_enabled_at);
    DELETE FROM api_key_numbering;
    INSERT INTO api_key_audit (at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields)
        SELECT coalesce(origin.at, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
            CASE
                WHEN OLD.revoked_at IS NULL AND key.revoked_at IS NOT NULL THEN 'revoked'
                WHEN key.digest <> OLD.digest THEN 'rotated'
                WHEN key.enabled AND changed.count > 0
                    AND changed.count = (key.enabled > OLD.enabled) + (key.enabled_at IS NOT OLD.enabled_at) THEN 'enabled'
                WHEN key.enabled < OLD.enabled AND changed.count = 1 THEN 'disabled'
                ELSE 'updated'
            END,
            key.id, key.owner, iif(key.owner IS NOT OLD.owner, OLD.owner, NULL), origin.actor,
            coalesce(origin.channel, 'sql'), origin.address, origin.request_id, origin.reason, changed.fields
        FROM (SELECT json_group_object(name, json_array(before, after)) AS fields, count(*) AS count FROM (
                SELECT 'created_at' AS name, OLD.created_at AS before, NEW.created_at AS after
                UNION ALL SELECT 'created_by', OLD.created_by, NEW.created_by
                UNION ALL SELECT 'description', OLD.description, NEW.description
                UNION ALL SELECT 'enabled', OLD.enabled, NEW.enabled
                UNION ALL SELECT 'enabled_at', OLD.enabled_at, (SELECT enabled_at FROM api_keys WHERE id = NEW.id)
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

DROP TRIGGER api_keys_deleted;
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
                UNION ALL SELECT 'enabled_at', OLD.enabled_at
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

-- For each key that expires, when the next notice of its end is due. Triggers keep it up to date, and nodes claim notices. It is
-- neither a change of a key nor audited.
CREATE TABLE api_key_expiry_notices (
    key TEXT NOT NULL PRIMARY KEY,
    -- The `expires_at` of the key.
    expires INTEGER NOT NULL,
    -- When that was set, in milliseconds since 1970-01-01T00:00:00Z.
    since INTEGER NOT NULL,
    -- When the notice is due. The least number: it is not planned yet. NULL: the key gets no notice until its expiry changes. Such a row
    -- stays, so that the backfill does not add the notice again.
    planned INTEGER DEFAULT -9223372036854775808,
    -- The node that has claimed the notice.
    claimed_by TEXT,
    CHECK (claimed_by IS NULL OR planned IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- A claim reads the beginning of those that no node has claimed, and of those of each node whose claims have ended. So what others
-- have claimed hides nothing.
CREATE INDEX api_key_expiry_notices_due ON api_key_expiry_notices (planned, key)
    WHERE claimed_by IS NULL AND planned IS NOT NULL;
CREATE INDEX api_key_expiry_notices_claimed ON api_key_expiry_notices (claimed_by, planned, key) WHERE claimed_by IS NOT NULL;

-- The end and the id up to which keys from before this migration have got their notices, in the order of `api_keys_expires`. Claims
-- add the next ones, step by step, and remove the row after the last. Keys that had ended before get no notice.
CREATE TABLE api_key_notice_backfill (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    expires INTEGER NOT NULL,
    key TEXT NOT NULL
) STRICT;

INSERT INTO api_key_notice_backfill (only_row, expires, key)
    SELECT 1, now, '' FROM (SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS now)
    WHERE EXISTS (SELECT 1 FROM api_keys WHERE expires_at > now);

-- An INSERT OR REPLACE deletes a key without running the trigger of a deletion.
CREATE TRIGGER api_keys_expiry_set AFTER INSERT ON api_keys
WHEN NEW.expires_at IS NOT NULL OR EXISTS (SELECT 1 FROM api_key_expiry_notices WHERE key = NEW.id) BEGIN
    DELETE FROM api_key_expiry_notices WHERE key = NEW.id;
    INSERT INTO api_key_expiry_notices (key, expires, since)
        SELECT NEW.id, NEW.expires_at,
            coalesce((SELECT at FROM api_key_origin), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE NEW.expires_at IS NOT NULL;
END;

CREATE TRIGGER api_keys_expiry_changed AFTER UPDATE OF expires_at ON api_keys
WHEN NEW.expires_at IS NOT OLD.expires_at BEGIN
    DELETE FROM api_key_expiry_notices WHERE key = NEW.id;
    INSERT INTO api_key_expiry_notices (key, expires, since)
        SELECT NEW.id, NEW.expires_at,
            coalesce((SELECT at FROM api_key_origin), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
        WHERE NEW.expires_at IS NOT NULL;
END;

CREATE TRIGGER api_keys_expiry_removed AFTER DELETE ON api_keys WHEN OLD.expires_at IS NOT NULL BEGIN
    DELETE FROM api_key_expiry_notices WHERE key = OLD.id;
END;
