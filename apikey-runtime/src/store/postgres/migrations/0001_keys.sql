-- Run with a search_path of the tables' schema and nothing else. Each function keeps it (SET search_path FROM
-- CURRENT), so that whoever changes a key by hand, from wherever, writes to these tables.

-- One row: what all processes that use the tables share. Its lock is the counter's: see api_key_log.
CREATE TABLE api_key_meta (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    -- How many migrations have run.
    schema_version integer NOT NULL,
    lease_ms bigint NOT NULL CHECK (lease_ms BETWEEN 20 AND 60000),
    -- The longest lease that a node may still hold: longer for a while after the lease was lowered.
    longest_lease_ms bigint NOT NULL CHECK (longest_lease_ms BETWEEN lease_ms AND 60000),
    -- Counts the changes of the lease.
    lease_version bigint NOT NULL DEFAULT 1,
    -- What the push is sent on; random, so that two sets of tables in one database do not wake each other.
    channel text NOT NULL DEFAULT 'apikey_' || gen_random_uuid()
);

INSERT INTO api_key_meta (only_row, schema_version, lease_ms, longest_lease_ms) VALUES (1, 0, 2000, 2000);

-- A longer lease holds at once, and a shorter one leaves the longest as it is.
CREATE FUNCTION api_key_meta_keep_longest_lease() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.longest_lease_ms := greatest(NEW.longest_lease_ms, NEW.lease_ms);
    NEW.lease_version := OLD.lease_version + (NEW.lease_ms <> OLD.lease_ms)::integer;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_key_meta_longest_lease BEFORE UPDATE ON api_key_meta
    FOR EACH ROW EXECUTE FUNCTION api_key_meta_keep_longest_lease();

-- Times are milliseconds since 1970-01-01T00:00:00Z. The checks refuse what an UPDATE by hand gets wrong. All texts
-- are compared by their bytes, whatever the database's own rules are.
CREATE TABLE api_keys (
    id text COLLATE "C" NOT NULL PRIMARY KEY
        CHECK (id ~ '^[0-9A-Za-z]{22}$' AND id <= '7n42DGM5Tflk9n8mt7Fhc7'),
    prefix text COLLATE "C" NOT NULL,
    label text COLLATE "C" NOT NULL,
    owner text COLLATE "C",
    digest text COLLATE "C" NOT NULL,
    previous_digest text COLLATE "C",
    previous_until bigint,
    -- Separated by single spaces.
    scopes text COLLATE "C" NOT NULL,
    -- A JSON object. As text: `jsonb` would refuse U+0000 in it.
    metadata text COLLATE "C" NOT NULL CHECK (json_typeof(metadata::json) = 'object'),
    environment text COLLATE "C",
    -- Networks (10.0.0.0/8 2001:db8::/32) and methods (GET POST), separated by single spaces; none is all.
    networks text COLLATE "C" NOT NULL DEFAULT '',
    methods text COLLATE "C" NOT NULL DEFAULT '',
    created_at bigint NOT NULL,
    expires_at bigint,
    not_before bigint,
    -- Any value revokes the key, and for good.
    revoked_at bigint,
    revoked_reason text COLLATE "C" CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    enabled boolean NOT NULL,
    -- Has no check: a row with a broken version can still be revoked.
    version bigint NOT NULL,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
);

-- By hash, since an entry of a tree holds 2,700 bytes at most, and an owner is as long as its application likes.
CREATE INDEX api_keys_owner ON api_keys USING hash (owner);

-- One row for every change, numbered in the order of the commits, without a gap.
CREATE TABLE api_key_changes (
    epoch bigint PRIMARY KEY,
    -- Empty where it is no key's change.
    key_id text COLLATE "C" NOT NULL,
    -- Tells this history from that of a copy which went another way.
    tag bytea NOT NULL DEFAULT uuid_send(gen_random_uuid())
);

-- The beginning, which is no key's.
INSERT INTO api_key_changes (epoch, key_id) VALUES (1, '');

-- Managers that may hold a lease. Not for hands: a row too few, and a revocation is confirmed too early.
CREATE TABLE api_key_nodes (
    id text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[0-9A-Za-z]{22}$'),
    -- Starts anywhere: one that leaves and comes back has no beat that was seen before.
    beat bigint NOT NULL DEFAULT (random() * 4611686018427387904)::bigint,
    suspected boolean NOT NULL DEFAULT FALSE,
    -- The change up to which the node has followed, and its mark: it counts for as long as the log has that very one.
    acknowledged bigint NOT NULL DEFAULT 0,
    mark bytea
);

-- Takes the next epoch. A sequence would not do: a lower number may commit later, and whoever has seen the higher one
-- then never hears of it. The lock on the one row is held until the commit, so epochs are in the order of the commits,
-- and the number after the highest is read after the lock, in a snapshot of its own. The row is locked and not changed:
-- a transaction of a hundred thousand changes would leave as many versions of it.
CREATE FUNCTION api_key_log(changed text) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    push_to text;
    next bigint;
BEGIN
    SELECT meta.channel INTO STRICT push_to FROM api_key_meta AS meta FOR UPDATE;
    SELECT coalesce(max(log.epoch), 0) + 1 INTO next FROM api_key_changes AS log;
    -- In REPEATABLE READ and SERIALIZABLE, `next` may be of an old snapshot. With ON CONFLICT that is the usual
    -- "could not serialize access" (40001), and not a broken key.
    INSERT INTO api_key_changes (epoch, key_id) VALUES (next, changed) ON CONFLICT (epoch) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another transaction took the epoch; try again' USING ERRCODE = 'serialization_failure';
    END IF;
    IF next % 1000 = 0 THEN
        DELETE FROM api_key_changes AS log WHERE log.epoch <= next - 10000;
    END IF;
    -- Sent at the commit, and once for all changes of a transaction.
    PERFORM pg_notify(push_to, '');
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_log(text) FROM PUBLIC;

-- SECURITY DEFINER: who may change a key need not be allowed to write the log.
CREATE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_log(OLD.id);
    ELSE
        PERFORM api_key_log(NEW.id);
    END IF;
    RETURN NULL;
END
$$;

-- Deferred: it runs at the commit, so that a transaction that stays open does not hold the lock, and one that rolls
-- back logs nothing.
CREATE CONSTRAINT TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION api_keys_log_change();

-- TRUNCATE names no rows, so nobody's cursor is good any more. It takes the lock at once: it locks out all writers
-- anyway.
CREATE FUNCTION api_keys_log_truncation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM api_key_log('');
    DELETE FROM api_key_changes AS log WHERE log.epoch < (SELECT max(epoch) FROM api_key_changes);
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_truncated AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_log_truncation();

CREATE FUNCTION api_keys_guard() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.id IS DISTINCT FROM OLD.id THEN
        RAISE EXCEPTION 'the id of a key does not change; create a new key';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL THEN
        RAISE EXCEPTION 'a revoked key stays revoked; create a new key';
    END IF;
    IF NEW.version <= OLD.version AND OLD.version < 9223372036854775807 THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_keys_guarded BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION api_keys_guard();

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_changed;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_truncated;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_guarded;
