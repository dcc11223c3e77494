-- Revokes and lists the keys of an owner step by step, in the order of their ids. An entry of a tree holds 2,700 bytes at
-- most, so it has the beginning of the owner, and each statement compares the owner itself too. Before all else: until
-- the other tables change, keys can still be read.
CREATE INDEX api_keys_owner_id ON api_keys (left(owner, 100), id);
DROP INDEX api_keys_owner;

-- The least version of the protocol that a reader of the change log must speak.
ALTER TABLE api_key_meta ADD COLUMN required_protocol integer NOT NULL DEFAULT 1;

-- Counts removals from the change log. A transaction with an older snapshot, which does not see that entries are gone,
-- would take their numbers again: since the row has changed, its lock on it is a serialization failure. So whatever
-- removes entries first updates this column. That is not a change of the lease.
ALTER TABLE api_key_meta ADD COLUMN removals bigint NOT NULL DEFAULT 0;
DROP TRIGGER api_key_meta_longest_lease ON api_key_meta;
CREATE TRIGGER api_key_meta_longest_lease BEFORE UPDATE OF lease_ms, longest_lease_ms, lease_version ON api_key_meta
    FOR EACH ROW EXECUTE FUNCTION api_key_meta_keep_longest_lease();

-- What an entry says: `key` (that one changed), `member` (a node joined, no record changed), or `all` (anything may have
-- changed). Has no check: a reader takes a kind that it does not know for `all`.
ALTER TABLE api_key_changes ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'key';

-- The beginning of a history and TRUNCATE left no entry before their own; all others without a key are joins.
UPDATE api_key_changes SET kind = 'member' WHERE key_id = '';
UPDATE api_key_changes SET kind = 'all'
    WHERE key_id = '' AND epoch = (SELECT min(epoch) FROM api_key_changes);

-- Takes the next epoch at once, and holds the lock until the commit: for changes that are not of a key. A node of an
-- older release, which may run on for a while, passes no kind, and only joins.
DROP FUNCTION api_key_append_change(text);
CREATE FUNCTION api_key_append_change(changed text, changed_kind text DEFAULT 'member') RETURNS void LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
DECLARE
    push_to text;
    next bigint;
BEGIN
    SELECT meta.channel INTO STRICT push_to FROM api_key_meta AS meta WHERE meta.only_row = 1 FOR UPDATE;
    SELECT coalesce(max(log.epoch), 0) + 1 INTO next FROM api_key_changes AS log;
    -- In REPEATABLE READ and SERIALIZABLE, `next` may be of an old snapshot. With ON CONFLICT that is the usual
    -- "could not serialize access" (40001), and not a broken key. If the entry has been removed, the lock above is.
    INSERT INTO api_key_changes (epoch, key_id, kind) VALUES (next, changed, changed_kind)
        ON CONFLICT (epoch) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another transaction took the epoch; try again' USING ERRCODE = 'serialization_failure';
    END IF;
    -- Sent at the commit, and once for all changes of a transaction.
    PERFORM pg_notify(push_to, '');
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_append_change(text, text) FROM PUBLIC;

-- The changes of transactions that are still open, each visible to its own transaction only: a savepoint that is rolled
-- back takes its changes with it. They are numbered and removed at the commit, so a crash loses nothing here.
CREATE UNLOGGED TABLE api_key_pending_changes (
    xact xid8 NOT NULL,
    -- Ascends within a transaction; 0 is the first. What would undo the first undoes all after it too.
    number bigint NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (xact, number)
);

-- A session takes a thousand at a time, and only the order within a transaction counts.
CREATE SEQUENCE api_key_pending_changes_number CACHE 1000;

-- Runs for each row, and takes no lock for which another transaction would wait. SECURITY DEFINER: a role that may change
-- keys needs no right to write the log.
CREATE OR REPLACE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
DECLARE
    changed text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD.id;
    ELSE
        changed := NEW.id;
    END IF;
    INSERT INTO api_key_pending_changes (xact, number, key_id) VALUES (pg_current_xact_id(), 0, changed)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        INSERT INTO api_key_pending_changes (xact, number, key_id)
            VALUES (pg_current_xact_id(), nextval('api_key_pending_changes_number'), changed);
    END IF;
    RETURN NULL;
END
$$;

-- Numbers all changes of a transaction at once, in their order. A sequence would not do: a lower number may commit later,
-- and a reader that has seen the higher one then never learns of it. The lock on the one row is held until the commit, so
-- epochs are in the order of the commits, and the highest is read after the lock, in a snapshot of its own. Without
-- sequential scans: a plan that was made while the tables were small is kept.
CREATE FUNCTION api_key_number_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    push_to text;
    last bigint;
    changed text[];
    logged bigint;
BEGIN
    SELECT meta.channel INTO STRICT push_to FROM api_key_meta AS meta WHERE meta.only_row = 1 FOR UPDATE;
    SELECT coalesce(max(log.epoch), 0) INTO last FROM api_key_changes AS log;
    -- In REPEATABLE READ and SERIALIZABLE, `last` may be of an old snapshot: see api_key_append_change.
    WITH pending AS (
        DELETE FROM api_key_pending_changes AS change WHERE change.xact = pg_current_xact_id()
            RETURNING change.number, change.key_id
    )
    SELECT array_agg(pending.key_id ORDER BY pending.number) INTO changed FROM pending;
    INSERT INTO api_key_changes (epoch, key_id)
        SELECT last + one.place, one.id FROM unnest(changed) WITH ORDINALITY AS one(id, place)
        ON CONFLICT (epoch) DO NOTHING;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged < cardinality(changed) THEN
        RAISE EXCEPTION 'another transaction took the epoch; try again' USING ERRCODE = 'serialization_failure';
    END IF;
    PERFORM pg_notify(push_to, '');
    -- Nodes trim the log. Whatever they do, it keeps no more than a million entries, and a thousand.
    IF last / 1000 < (last + logged) / 1000 THEN
        UPDATE api_key_meta SET removals = removals + 1
            WHERE EXISTS (SELECT FROM api_key_changes AS log WHERE log.epoch <= last + logged - 1000000);
        DELETE FROM api_key_changes AS log WHERE log.epoch <= last + logged - 1000000;
    END IF;
    RETURN NULL;
END
$$;

-- One event for each transaction. Deferred: it runs at the commit, so that a transaction that stays open does not hold
-- the lock, and one that rolls back logs nothing. Changes that come later in the commit, by other triggers, find no
-- first change any more, and make an event of their own.
CREATE CONSTRAINT TRIGGER api_key_pending_changes_first AFTER INSERT ON api_key_pending_changes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.number = 0) EXECUTE FUNCTION api_key_number_changes();

CREATE OR REPLACE FUNCTION api_keys_log_truncation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM api_key_append_change('', 'all');
    UPDATE api_key_meta SET removals = removals + 1;
    DELETE FROM api_key_changes AS log WHERE log.epoch < (SELECT max(epoch) FROM api_key_changes);
    RETURN NULL;
END
$$;

-- For each row, and not for each statement: what a subscription applies fires no triggers of statements.
DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION api_keys_log_change();

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_changed;
ALTER TABLE api_key_pending_changes ENABLE ALWAYS TRIGGER api_key_pending_changes_first;

-- These functions run with the rights of the owner: a role that can create tables must not make them triggers of its own.
REVOKE EXECUTE ON FUNCTION api_keys_log_change(), api_key_number_changes(), api_keys_log_truncation(),
    api_keys_delete_counters(), api_keys_delete_all_counters() FROM PUBLIC;
