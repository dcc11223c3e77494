-- The longest lease that a node may still hold: what a lowered `lease_ms` was before, until that has been waited out.
ALTER TABLE api_key_meta ADD COLUMN longest_lease_ms INTEGER NOT NULL DEFAULT 0;
-- Counts the changes of `lease_ms`, so that who waits for one notices the next.
ALTER TABLE api_key_meta ADD COLUMN lease_version INTEGER NOT NULL DEFAULT 0;
UPDATE api_key_meta SET longest_lease_ms = lease_ms;

CREATE TRIGGER api_key_meta_lease_changed AFTER UPDATE OF lease_ms ON api_key_meta
WHEN NEW.lease_ms IS NOT OLD.lease_ms BEGIN
    UPDATE api_key_meta SET longest_lease_ms = max(OLD.longest_lease_ms, NEW.lease_ms), lease_version = OLD.lease_version + 1;
END;

-- The managers that may hold a lease. A row is removed by its owner, or by another that suspected it and then waited for its
-- lease to end.
CREATE TABLE api_key_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    -- The epoch up to which the node has dropped from its memory what changed.
    acknowledged INTEGER NOT NULL,
    -- Moves while the node lives.
    beat INTEGER NOT NULL,
    suspected INTEGER NOT NULL CHECK (suspected IN (0, 1))
) STRICT, WITHOUT ROWID;
