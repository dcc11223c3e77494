-- Owners: what is true of all keys of an owner is one row, so that a change of it does not visit the keys.

-- The `revocations` of the owner when the key was inserted, or came to this owner. The key is revoked if its owner's are
-- higher now. The triggers set it, whatever a statement writes.
ALTER TABLE api_keys ADD COLUMN owner_revocations INTEGER NOT NULL DEFAULT 0;

-- The owner of an entry of the kind `owner`: its row changed.
ALTER TABLE api_key_changes ADD COLUMN owner TEXT;

-- The protocol version that a node speaks. A node of an older build does not write it.
ALTER TABLE api_key_nodes ADD COLUMN protocol INTEGER NOT NULL DEFAULT 1;

-- Protocol 2 is the first that knows the kind `owner`.
UPDATE api_key_meta SET required_protocol = 2;

-- A row for each owner, created with the owner's first key. Texts are compared byte for byte.
CREATE TABLE api_key_owners (
    owner TEXT NOT NULL PRIMARY KEY,
    -- Increases with each change of the row.
    version INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- How many times all keys of the owner were revoked.
    revocations INTEGER NOT NULL DEFAULT 0 CHECK (revocations >= 0),
    suspended INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1))
) STRICT, WITHOUT ROWID;

INSERT INTO api_key_owners (owner) SELECT DISTINCT owner FROM api_keys WHERE owner IS NOT NULL;

-- When, why and by whom all keys of an owner were revoked, until each of their rows is marked with it. That of a key is the
-- first one with a higher number than the key's `owner_revocations`.
CREATE TABLE api_key_owner_revocations (
    owner TEXT NOT NULL,
    -- The owner's `revocations` after it.
    number INTEGER NOT NULL CHECK (number >= 1),
    at INTEGER NOT NULL,
    reason TEXT,
    actor TEXT,
    -- The id up to which keys are marked; `~`, which is above each id, if all are.
    marked_to TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (owner, number)
) STRICT;

-- The key whose owner and number a trigger sets; empty after each statement. An update of that key is part of another change.
CREATE TABLE api_key_numbering (
    key TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- An INSERT OR REPLACE makes every INSERT in its triggers a REPLACE, which would reset the owner's row: so NOT EXISTS, and
-- not OR IGNORE.
DROP TRIGGER api_keys_inserted;
CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN
    INSERT INTO api_key_owners (owner) SELECT NEW.owner
        WHERE NEW.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_owners WHERE owner = NEW.owner);
    INSERT INTO api_key_numbering (key) SELECT NEW.id
        WHERE NEW.owner_revocations <> coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0);
    UPDATE api_keys SET owner_revocations = coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0)
        WHERE id = (SELECT key FROM api_key_numbering);
    DELETE FROM api_key_numbering;
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

-- A key that its owner's row revokes stays with that owner, and is marked if it is not yet. Any other takes the number of the
-- new owner.
CREATE TRIGGER api_keys_owner_changed AFTER UPDATE OF owner ON api_keys
WHEN NEW.owner IS NOT OLD.owner AND NOT EXISTS (SELECT 1 FROM api_key_numbering) BEGIN
    INSERT INTO api_key_numbering (key) VALUES (NEW.id);
    UPDATE api_keys SET owner = OLD.owner, owner_revocations = OLD.owner_revocations,
        revoked_at = iif(OLD.revoked_at IS NOT NULL, NEW.revoked_at, coalesce((SELECT at FROM api_key_owner_revocations
            WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1), created_at)),
        revoked_reason = iif(OLD.revoked_at IS NOT NULL, NEW.revoked_reason, (SELECT reason FROM api_key_owner_revocations
            WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1))
        WHERE id = NEW.id
        AND OLD.owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner);
    INSERT INTO api_key_owners (owner) SELECT owner FROM api_keys AS key
        WHERE id = NEW.id AND owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_key_owners WHERE owner = key.owner);
    UPDATE api_keys SET owner_revocations = coalesce((SELECT revocations FROM api_key_owners WHERE owner = NEW.owner), 0)
        WHERE id = NEW.id AND owner IS NEW.owner;
    DELETE FROM api_key_numbering;
END;

CREATE TRIGGER api_keys_number_kept BEFORE UPDATE OF owner_revocations ON api_keys
WHEN NEW.owner_revocations IS NOT OLD.owner_revocations AND NEW.owner IS OLD.owner
AND NOT EXISTS (SELECT 1 FROM api_key_numbering) BEGIN
    SELECT RAISE(ABORT, 'owner_revocations is set with the owner, and does not change; create a new key');
END;

-- An update that only marks a key writes what every reader sees already: it is not a change. A migration that adds a column
-- to `api_keys` adds it here.
DROP TRIGGER api_keys_updated;
CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys
WHEN NOT EXISTS (SELECT 1 FROM api_key_numbering) AND NOT (
    OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL
    AND (NEW.id, NEW.prefix, NEW.label, NEW.owner, NEW.digest, NEW.previous_digest, NEW.previous_until, NEW.scopes,
         NEW.metadata, NEW.environment, NEW.networks, NEW.methods, NEW.limits, NEW.created_at, NEW.expires_at,
         NEW.not_before, NEW.enabled, NEW.version, NEW.owner_revocations)
     IS (OLD.id, OLD.prefix, OLD.label, OLD.owner, OLD.digest, OLD.previous_digest, OLD.previous_until, OLD.scopes,
         OLD.metadata, OLD.environment, OLD.networks, OLD.methods, OLD.limits, OLD.created_at, OLD.expires_at,
         OLD.not_before, OLD.enabled, OLD.version, OLD.owner_revocations)
    AND OLD.owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner)
    AND (NEW.revoked_at, NEW.revoked_reason) IS (SELECT at, reason FROM api_key_owner_revocations
        WHERE owner = OLD.owner AND number > OLD.owner_revocations ORDER BY number LIMIT 1)
) BEGIN
    UPDATE api_keys SET version = OLD.version + 1
        WHERE id = NEW.id AND NEW.version <= OLD.version AND OLD.version < 9223372036854775807;
    INSERT INTO api_key_changes (key_id) VALUES (NEW.id);
END;

DROP TRIGGER api_keys_revoked_not_replaced;
CREATE TRIGGER api_keys_revoked_not_replaced BEFORE INSERT ON api_keys
WHEN EXISTS (SELECT 1 FROM api_keys AS key WHERE id = NEW.id AND (revoked_at IS NOT NULL
    OR owner_revocations < (SELECT revocations FROM api_key_owners WHERE owner = key.owner))) BEGIN
    SELECT RAISE(ABORT, 'a revoked key stays revoked; create a new key');
END;

-- Bytes of UTF-8. In a file of UTF-16, a text has twice as many at most.
CREATE TRIGGER api_key_owners_bounded BEFORE INSERT ON api_key_owners
WHEN length(CAST(NEW.owner AS BLOB)) > 256 * length(CAST('a' AS BLOB)) BEGIN
    SELECT RAISE(ABORT, 'an owner has at most 256 bytes; take a shorter one');
END;

-- INSERT OR REPLACE deletes a row without running any other trigger.
CREATE TRIGGER api_key_owners_not_replaced BEFORE INSERT ON api_key_owners
WHEN EXISTS (SELECT 1 FROM api_key_owners WHERE owner = NEW.owner) BEGIN
    SELECT RAISE(ABORT, 'this owner has a row; update it');
END;

CREATE TRIGGER api_key_owners_kept BEFORE UPDATE ON api_key_owners
WHEN NEW.owner IS NOT OLD.owner OR NEW.version < OLD.version OR NEW.revocations < OLD.revocations BEGIN
    SELECT RAISE(ABORT, 'an owner keeps its name, and its version and revocations do not decrease; create new keys');
END;

-- A number near the largest would leave no room for the changes after it.
CREATE TRIGGER api_key_owners_room BEFORE UPDATE ON api_key_owners
WHEN NEW.version > OLD.version + 1000 OR NEW.revocations > OLD.revocations + 1000 BEGIN
    SELECT RAISE(ABORT, 'the revocations and the version of an owner rise by 1000 at most; add 1 to `revocations`');
END;

CREATE TRIGGER api_key_owners_room_at_first BEFORE INSERT ON api_key_owners
WHEN NEW.version > 1001 OR NEW.revocations > 1000 BEGIN
    SELECT RAISE(ABORT, 'the revocations of a new owner are 1000 at most; leave them and the version out');
END;

CREATE TRIGGER api_key_owners_changed AFTER UPDATE ON api_key_owners
WHEN NEW.revocations > OLD.revocations OR NEW.suspended <> OLD.suspended BEGIN
    UPDATE api_key_owners SET version = OLD.version + 1 WHERE owner = NEW.owner AND NEW.version <= OLD.version;
    -- Milliseconds since 1970, in each release of SQLite.
    INSERT INTO api_key_owner_revocations (owner, number, at)
        SELECT NEW.owner, NEW.revocations, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
        WHERE NEW.revocations > OLD.revocations AND NOT EXISTS (
            SELECT 1 FROM api_key_owner_revocations WHERE owner = NEW.owner AND number = NEW.revocations);
    INSERT INTO api_key_changes (key_id, kind, owner) VALUES ('', 'owner', NEW.owner);
END;

CREATE TRIGGER api_key_owners_named BEFORE DELETE ON api_key_owners
WHEN EXISTS (SELECT 1 FROM api_keys WHERE owner = OLD.owner) BEGIN
    SELECT RAISE(ABORT, 'keys name this owner; delete them first');
END;

-- An owner of this name begins again with version 1, so nodes forget what they know.
CREATE TRIGGER api_key_owners_deleted AFTER DELETE ON api_key_owners BEGIN
    DELETE FROM api_key_owner_revocations WHERE owner = OLD.owner;
    INSERT INTO api_key_changes (key_id, kind) VALUES ('', 'all');
END;

CREATE TRIGGER api_key_owner_revocations_needed BEFORE DELETE ON api_key_owner_revocations
WHEN OLD.marked_to <> '~' AND OLD.number <= (SELECT revocations FROM api_key_owners WHERE owner = OLD.owner) BEGIN
    SELECT RAISE(ABORT, 'keys are still to be marked with this revocation; a store deletes it after that');
END;
