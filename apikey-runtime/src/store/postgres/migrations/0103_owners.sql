-- Owners: what is true of all keys of an owner is one row, so that a change of it does not visit the keys.
--
-- The order of locks, of which a transaction of the store skips some and never goes back:
--   1. The turn of an owner (api_key_owner_turn): shared by an insert, exclusive for a change of the owner.
--   2. The row of a key that changes.
--   3. Rows of owners in the order of their names: FOR SHARE by an insert and by a change of a key's owner, which do not
--      wait for one another, and exclusive for a change of the owner. Such a change locks no key.
--   4. The position in the log (api_key_meta), at the commit, after which no other lock is taken.
-- An insert waits for another transaction with the same id after 3: that one is an insert too, or holds 2 and takes no owner
-- exclusively. Marking takes the turn of all marking, then rows of keys in the order of their ids, and neither 1, 3 nor 4: it
-- logs nothing. Transactions by hand, and a purge, may lock keys in another order. If two of them wait for each other, the
-- server undoes one, which a call of the store then repeats.

-- Holds writers off, not readers: they wait from ALTER TABLE below until the commit only.
LOCK TABLE api_keys IN SHARE MODE;

CREATE TABLE api_key_owners (
    -- Has no check: a row from before the bound of 256 bytes can still be changed.
    owner text COLLATE "C" NOT NULL PRIMARY KEY,
    -- The number of changes of this row, plus 1.
    version bigint NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- How many times all keys of the owner were revoked.
    revocations bigint NOT NULL DEFAULT 0 CHECK (revocations >= 0),
    suspended boolean NOT NULL DEFAULT FALSE
);

DO $$
BEGIN
    -- Others were written by hand. An entry of the index holds 2,700 bytes.
    IF EXISTS (SELECT FROM api_keys WHERE octet_length(owner) > 2600) THEN
        RAISE EXCEPTION 'api_keys has an owner of more than 2600 bytes; shorten it before the upgrade';
    END IF;
END
$$;

-- In the order of the index: a million owners take 5 to 10 seconds.
INSERT INTO api_key_owners (owner) SELECT DISTINCT owner FROM api_keys WHERE owner IS NOT NULL ORDER BY owner;

-- When, why and by whom all keys of an owner were revoked, until their rows are marked with it. A key whose
-- `owner_revocations` is lower than its owner's `revocations` is revoked by the next number after its own.
CREATE TABLE api_key_owner_revocations (
    owner text COLLATE "C" NOT NULL,
    -- The owner's `revocations` after it.
    number bigint NOT NULL CHECK (number >= 1),
    -- Milliseconds since 1970-01-01T00:00:00Z.
    at bigint NOT NULL,
    reason text COLLATE "C",
    actor text COLLATE "C",
    -- The id up to which marking has come; empty before it begins.
    marked_to text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (owner, number)
);

-- The owner's `revocations` when the key was inserted, or came to this owner. Triggers set it, whatever is written.
ALTER TABLE api_keys ADD COLUMN owner_revocations bigint NOT NULL DEFAULT 0;

-- The version of the protocol that a node speaks. An older build does not write it.
-- Before the log: a heartbeat locks the tables in this order.
ALTER TABLE api_key_nodes ADD COLUMN protocol integer NOT NULL DEFAULT 1;

-- The owner, if an entry's kind is `owner`: all of its keys were revoked, suspended or resumed.
ALTER TABLE api_key_changes ADD COLUMN owner text COLLATE "C";
ALTER TABLE api_key_pending_changes ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'key',
    ADD COLUMN owner text COLLATE "C";

UPDATE api_key_meta SET required_protocol = 2;

-- The next four are called by functions that set the search path.

-- Returns the lock under which an owner is changed. A row lock alone is not fair: inserts at once share it one after
-- another, and a change of the owner would wait for as long as they come.
CREATE FUNCTION api_key_owner_turn(name text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended(name, 'api_key_owners'::regclass::oid::bigint)
$$;

-- Returns the number of a key that comes to the owner, whose row is created with the first one. The lock excludes a change
-- of the owner until the commit, and not another insert. With an old snapshot (REPEATABLE READ, SERIALIZABLE) it is a
-- serialization failure if the row has changed since.
CREATE FUNCTION api_key_admit(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    IF name IS NULL THEN
        RETURN 0;
    END IF;
    SELECT known.revocations INTO number FROM api_key_owners AS known WHERE known.owner = name FOR SHARE;
    IF NOT FOUND THEN
        INSERT INTO api_key_owners (owner) VALUES (name) ON CONFLICT DO NOTHING;
        SELECT known.revocations INTO STRICT number FROM api_key_owners AS known WHERE known.owner = name FOR SHARE;
    END IF;
    RETURN number;
END
$$;

-- Returns whether an update of a key writes nothing but what a read derives already.
CREATE FUNCTION api_key_only_marks(before api_keys, after api_keys) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    unmarked api_keys := after;
BEGIN
    unmarked.revoked_at := NULL;
    unmarked.revoked_reason := NULL;
    RETURN before.revoked_at IS NULL AND after.revoked_at IS NOT NULL AND before *= unmarked AND EXISTS (
        SELECT FROM api_key_owners AS known JOIN api_key_owner_revocations AS revocation ON revocation.owner = known.owner
        WHERE known.owner = before.owner AND revocation.number = before.owner_revocations + 1
            AND revocation.number <= known.revocations
            AND revocation.at = after.revoked_at AND revocation.reason IS NOT DISTINCT FROM after.revoked_reason);
END
$$;

-- Takes down a change, which is numbered at the commit.
CREATE FUNCTION api_key_append_pending(changed text, changed_kind text, changed_owner text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO api_key_pending_changes (xact, number, key_id, kind, owner)
        VALUES (pg_current_xact_id(), 0, changed, changed_kind, changed_owner) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        INSERT INTO api_key_pending_changes (xact, number, key_id, kind, owner) VALUES (pg_current_xact_id(),
            nextval('api_key_pending_changes_number'), changed, changed_kind, changed_owner);
    END IF;
END
$$;

-- Only a transaction that has not yet written takes the turn: it holds no lock for which the one before it could wait, and
-- it takes one turn at most, however many keys it adds.
CREATE FUNCTION api_keys_check_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF NEW.owner IS NOT NULL AND pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM pg_advisory_xact_lock_shared(api_key_owner_turn(NEW.owner));
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        -- A subscription copies a key that was revoked before, and has not been marked yet, with its lower number.
        NEW.owner_revocations := least(NEW.owner_revocations, api_key_admit(NEW.owner));
    ELSE
        NEW.owner_revocations := api_key_admit(NEW.owner);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_keys_insert_checked BEFORE INSERT ON api_keys
    FOR EACH ROW EXECUTE FUNCTION api_keys_check_insert();

-- Also sets the number of a key that comes to another owner. A key that its owner's state revokes stays with its owner: if
-- it is not marked yet, this very statement revokes it.
CREATE OR REPLACE FUNCTION api_keys_check_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    present bigint;
BEGIN
    IF NEW.id IS DISTINCT FROM OLD.id THEN
        RAISE EXCEPTION 'the id of a key does not change; create a new key';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL THEN
        RAISE EXCEPTION 'a revoked key stays revoked; create a new key';
    END IF;
    IF NEW.owner IS DISTINCT FROM OLD.owner THEN
        PERFORM FROM api_key_owners AS known WHERE known.owner IN (OLD.owner, NEW.owner) ORDER BY known.owner FOR SHARE;
        SELECT known.revocations INTO present FROM api_key_owners AS known WHERE known.owner = OLD.owner;
        IF OLD.owner_revocations < present THEN
            IF OLD.revoked_at IS NULL THEN
                SELECT revocation.at, revocation.reason INTO NEW.revoked_at, NEW.revoked_reason
                    FROM api_key_owner_revocations AS revocation
                    WHERE revocation.owner = OLD.owner AND revocation.number = OLD.owner_revocations + 1;
                NEW.revoked_at := coalesce(NEW.revoked_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
            END IF;
            NEW.owner := OLD.owner;
            NEW.owner_revocations := OLD.owner_revocations;
        ELSE
            NEW.owner_revocations := api_key_admit(NEW.owner);
        END IF;
    ELSIF NEW.owner_revocations IS DISTINCT FROM OLD.owner_revocations THEN
        -- What a subscription applies has the number of its publisher.
        IF current_setting('session_replication_role') <> 'replica' THEN
            RAISE EXCEPTION 'the `owner_revocations` of a key do not change; create a new key';
        END IF;
        NEW.owner_revocations := OLD.owner_revocations;
    END IF;
    IF NEW.version <= OLD.version AND OLD.version < 9223372036854775807 AND NOT api_key_only_marks(OLD, NEW) THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_append_pending(OLD.id, 'key', NULL);
    ELSIF TG_OP = 'INSERT' OR NEW.version <> OLD.version OR NOT api_key_only_marks(OLD, NEW) THEN
        PERFORM api_key_append_pending(NEW.id, 'key', NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION api_key_owners_check() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF octet_length(NEW.owner) > 256 THEN
            RAISE EXCEPTION 'an owner has at most 256 bytes; write a shorter one' USING ERRCODE = 'check_violation';
        END IF;
        IF (NEW.revocations > 1000 OR NEW.version > 1001)
            AND current_setting('session_replication_role') <> 'replica' THEN
            RAISE EXCEPTION 'the revocations of a new owner are 1000 at most; leave them and the version out';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.owner IS DISTINCT FROM OLD.owner THEN
        RAISE EXCEPTION 'the name of an owner does not change; change the owner of its keys';
    END IF;
    IF NEW.revocations < OLD.revocations OR NEW.version < OLD.version THEN
        RAISE EXCEPTION 'the revocations and the version of an owner do not decrease; create new keys';
    END IF;
    -- A number near the largest would leave no room for the changes after it.
    IF NEW.revocations > OLD.revocations + 1000 OR NEW.version > OLD.version + 1000 THEN
        RAISE EXCEPTION 'the revocations and the version of an owner rise by 1000 at most; add 1 to `revocations`';
    END IF;
    IF NEW.version = OLD.version THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_key_owners_checked BEFORE INSERT OR UPDATE ON api_key_owners
    FOR EACH ROW EXECUTE FUNCTION api_key_owners_check();

-- Logs a change of an owner, and keeps the time of a revocation that came without it. After a removal, versions start
-- over: nodes drop their cache.
CREATE FUNCTION api_key_owners_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_append_pending('', 'all', NULL);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO api_key_owner_revocations (owner, number, at)
            SELECT NEW.owner, one, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
            FROM generate_series(OLD.revocations + 1, NEW.revocations) AS one
            ON CONFLICT (owner, number) DO NOTHING;
    END IF;
    PERFORM api_key_append_pending('', 'owner', NEW.owner);
    RETURN NULL;
END
$$;

CREATE TRIGGER api_key_owners_changed AFTER UPDATE OR DELETE ON api_key_owners
    FOR EACH ROW EXECUTE FUNCTION api_key_owners_log_change();
-- The row that comes with the first key says nothing new.
CREATE TRIGGER api_key_owners_inserted AFTER INSERT ON api_key_owners
    FOR EACH ROW WHEN (NEW.suspended OR NEW.revocations > 0) EXECUTE FUNCTION api_key_owners_log_change();

CREATE FUNCTION api_key_owners_check_removal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    is_named boolean;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        is_named := EXISTS (SELECT FROM api_keys AS key WHERE left(key.owner, 100) IS NOT NULL);
        DELETE FROM api_key_owner_revocations;
    ELSE
        is_named := EXISTS (SELECT FROM api_keys AS key
            WHERE left(key.owner, 100) = left(OLD.owner, 100) AND key.owner = OLD.owner);
        DELETE FROM api_key_owner_revocations AS revocation WHERE revocation.owner = OLD.owner;
    END IF;
    IF is_named THEN
        RAISE EXCEPTION 'an owner is not removed while it has keys; delete its keys first';
    END IF;
    RETURN OLD;
END
$$;

CREATE TRIGGER api_key_owners_removal_checked BEFORE DELETE ON api_key_owners
    FOR EACH ROW EXECUTE FUNCTION api_key_owners_check_removal();
CREATE TRIGGER api_key_owners_truncation_checked BEFORE TRUNCATE ON api_key_owners
    FOR EACH STATEMENT EXECUTE FUNCTION api_key_owners_check_removal();
CREATE TRIGGER api_key_owners_truncated AFTER TRUNCATE ON api_key_owners
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_log_truncation();

-- As before, with the kind and the owner of each change.
CREATE OR REPLACE FUNCTION api_key_number_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    push_to text;
    last bigint;
    changed text[];
    kinds text[];
    owners text[];
    logged bigint;
BEGIN
    SELECT meta.channel INTO STRICT push_to FROM api_key_meta AS meta WHERE meta.only_row = 1 FOR UPDATE;
    SELECT coalesce(max(log.epoch), 0) INTO last FROM api_key_changes AS log;
    WITH pending AS (
        DELETE FROM api_key_pending_changes AS change WHERE change.xact = pg_current_xact_id()
            RETURNING change.number, change.key_id, change.kind, change.owner
    )
    SELECT array_agg(pending.key_id ORDER BY pending.number), array_agg(pending.kind ORDER BY pending.number),
        array_agg(pending.owner ORDER BY pending.number) INTO changed, kinds, owners FROM pending;
    INSERT INTO api_key_changes (epoch, key_id, kind, owner)
        SELECT last + one.place, one.id, one.kind, one.owner
        FROM unnest(changed, kinds, owners) WITH ORDINALITY AS one(id, kind, owner, place)
        ON CONFLICT (epoch) DO NOTHING;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged < cardinality(changed) THEN
        RAISE EXCEPTION 'another transaction took the epoch; try again' USING ERRCODE = 'serialization_failure';
    END IF;
    PERFORM pg_notify(push_to, '');
    IF last / 1000 < (last + logged) / 1000 THEN
        UPDATE api_key_meta SET removals = removals + 1
            WHERE EXISTS (SELECT FROM api_key_changes AS log WHERE log.epoch <= last + logged - 1000000);
        DELETE FROM api_key_changes AS log WHERE log.epoch <= last + logged - 1000000;
    END IF;
    RETURN NULL;
END
$$;

-- Marks the next keys of the first owner with an unmarked revocation, and returns whether more is left. A walk over an
-- owner's keys marks those of each revocation that was there when it began. One node marks at a time: the next continues
-- from the position that is committed with the marks.
--
-- A walk meets each key that is to be marked: no key gets an old number any more, and a key never changes its id.
CREATE FUNCTION api_key_mark_revoked(step bigint) RETURNS boolean LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    walk api_key_owner_revocations;
    page text[];
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('', 'api_key_owner_revocations'::regclass::oid::bigint));
    SELECT one.* INTO walk FROM api_key_owner_revocations AS one
        WHERE one.owner = (SELECT min(first.owner) FROM api_key_owner_revocations AS first)
        ORDER BY one.marked_to <> '' DESC, one.number DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    page := ARRAY(SELECT key.id FROM api_keys AS key
        WHERE (left(key.owner, 100), key.id) > (left(walk.owner, 100), walk.marked_to)
            AND left(key.owner, 100) <= left(walk.owner, 100)
        ORDER BY left(key.owner, 100), key.id LIMIT step);
    PERFORM FROM api_keys AS key WHERE key.id = ANY (page) AND key.owner = walk.owner AND key.revoked_at IS NULL
        ORDER BY key.id FOR NO KEY UPDATE;
    -- A row that is ahead of its owner, which was written by hand, revokes nothing.
    UPDATE api_keys AS key SET revoked_at = revocation.at, revoked_reason = revocation.reason
        FROM api_key_owner_revocations AS revocation, api_key_owners AS known
        WHERE key.id = ANY (page) AND key.owner = walk.owner AND key.revoked_at IS NULL
            AND revocation.owner = walk.owner AND revocation.number = key.owner_revocations + 1
            AND known.owner = walk.owner AND revocation.number <= known.revocations;
    IF cardinality(page) < step THEN
        DELETE FROM api_key_owner_revocations AS done WHERE done.owner = walk.owner AND done.number <= walk.number;
    ELSE
        UPDATE api_key_owner_revocations AS one SET marked_to = page[step]
            WHERE one.owner = walk.owner AND one.number = walk.number;
    END IF;
    RETURN EXISTS (SELECT FROM api_key_owner_revocations);
END
$$;

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_insert_checked;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_checked;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_changed;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_inserted;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_removal_checked;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_truncation_checked;
ALTER TABLE api_key_owners ENABLE ALWAYS TRIGGER api_key_owners_truncated;

-- What runs with the rights of the owner of these tables is called by triggers, or by its roles.
REVOKE EXECUTE ON FUNCTION api_key_append_pending(text, text, text), api_key_admit(text), api_key_mark_revoked(bigint),
    api_keys_check_insert(), api_keys_check_update(), api_key_owners_log_change(), api_key_owners_check_removal()
    FROM PUBLIC;
