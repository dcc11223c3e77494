-- Copying from another store.

-- Whether this transaction writes records and owners as they are in another store. Such a change is not audited, since the log is
-- copied too. In place of its entries, the change log gets one after which each node reads everything again.
ALTER TABLE api_key_origin ADD COLUMN is_copy INTEGER NOT NULL DEFAULT 0 CHECK (is_copy IN (0, 1));

-- Skips the statement of another trigger that adds the entry. That trigger continues.
CREATE TRIGGER api_key_audit_copied BEFORE INSERT ON api_key_audit
WHEN EXISTS (SELECT 1 FROM api_key_origin WHERE is_copy) BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TRIGGER api_key_changes_copied BEFORE INSERT ON api_key_changes
WHEN NEW.kind <> 'all' AND EXISTS (SELECT 1 FROM api_key_origin WHERE is_copy) BEGIN
    SELECT RAISE(IGNORE);
END;

-- As before, and a copy may have any number.
DROP TRIGGER api_key_owners_room;
CREATE TRIGGER api_key_owners_room BEFORE UPDATE ON api_key_owners
WHEN (NEW.version > OLD.version + 1000 OR NEW.revocations > OLD.revocations + 1000)
AND NOT EXISTS (SELECT 1 FROM api_key_origin WHERE is_copy) BEGIN
    SELECT RAISE(ABORT, 'the revocations and the version of an owner rise by 1000 at most; add 1 to `revocations`');
END;

DROP TRIGGER api_key_owners_room_at_first;
CREATE TRIGGER api_key_owners_room_at_first BEFORE INSERT ON api_key_owners
WHEN (NEW.version > 1001 OR NEW.revocations > 1000) AND NOT EXISTS (SELECT 1 FROM api_key_origin WHERE is_copy) BEGIN
    SELECT RAISE(ABORT, 'the revocations of a new owner are 1000 at most; leave them and the version out');
END;
