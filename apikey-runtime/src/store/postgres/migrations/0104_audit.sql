-- The audit log, ranges of keys, and how many keys of an owner are live.
--
-- The order of locks of 0103 still holds, with one more holder of the first: a write of the store that counts the live keys
-- of an owner takes this owner's turn exclusively, before the row of the key. So such writes come one after another, and none
-- of them waits for a lock that it holds in another mode. The row of the owner is locked FOR SHARE as before.

-- Holds writers off at once, and not readers: a statement that locks a key and then changes it would otherwise wait for this
-- transaction, which waits for it.
LOCK TABLE api_keys IN EXCLUSIVE MODE;

-- Before all else: until the table changes, keys can still be read. An owner in use has 256 bytes at most, so these indexes
-- hold all of it; for a longer one, of an older release, each statement compares the owner itself too.
CREATE INDEX api_keys_created ON api_keys (created_at, id);
CREATE INDEX api_keys_owner_created ON api_keys (left(owner, 256), created_at, id);
CREATE INDEX api_keys_expires ON api_keys (expires_at, id) WHERE expires_at IS NOT NULL;
-- The keys of an owner that are not revoked, by the owner's revocations that they have seen, and by their end. The condition
-- follows from no other one: statements on keys that are not revoked would read this index from its beginning to its end.
CREATE INDEX api_keys_live ON api_keys (left(owner, 256), owner_revocations,
        (CASE WHEN revoked_at IS NULL THEN coalesce(expires_at, 9223372036854775807) END))
    WHERE CASE WHEN revoked_at IS NULL THEN coalesce(expires_at, 9223372036854775807) END IS NOT NULL;

-- One row for each change of a key or an owner, written by triggers of the same transaction, and by nothing else.
CREATE TABLE api_key_audit (
    -- When the change was made, in milliseconds since 1970-01-01T00:00:00Z. Entries are in the order of `at` and `number`.
    -- A transaction may commit later than one with a higher number.
    at bigint NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    action text COLLATE "C" NOT NULL,
    -- NULL if all keys of an owner were changed, or all keys removed.
    key text COLLATE "C",
    -- The owner after the change.
    owner text COLLATE "C",
    -- The owner before it, if that is another.
    former_owner text COLLATE "C",
    actor text COLLATE "C",
    channel text COLLATE "C" NOT NULL,
    address text COLLATE "C",
    request_id text COLLATE "C",
    reason text COLLATE "C",
    -- The columns that were changed, each with its value before and after, as in {"label":["a","b"]}.
    fields text COLLATE "C" NOT NULL,
    PRIMARY KEY (at, number)
);

CREATE INDEX api_key_audit_key ON api_key_audit (key, at, number) WHERE key IS NOT NULL;
CREATE INDEX api_key_audit_owner ON api_key_audit (left(owner, 256), at, number) WHERE owner IS NOT NULL;
CREATE INDEX api_key_audit_former_owner ON api_key_audit (left(former_owner, 256), at, number)
    WHERE former_owner IS NOT NULL;
CREATE INDEX api_key_audit_actor ON api_key_audit (left(actor, 256), at, number) WHERE actor IS NOT NULL;

-- What is not written by a trigger is refused. The function that removes old entries switches the setting on for itself.
CREATE FUNCTION api_key_audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is written by triggers only; call api_key_prune_audit to remove old entries';
END
$$;

CREATE TRIGGER api_key_audit_not_inserted BEFORE INSERT ON api_key_audit
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION api_key_audit_refuse();
CREATE TRIGGER api_key_audit_not_changed BEFORE UPDATE OR TRUNCATE ON api_key_audit
    FOR EACH STATEMENT EXECUTE FUNCTION api_key_audit_refuse();
CREATE TRIGGER api_key_audit_not_removed BEFORE DELETE ON api_key_audit
    FOR EACH STATEMENT WHEN (current_setting('apikey.prunes_audit', TRUE) IS DISTINCT FROM 'yes')
    EXECUTE FUNCTION api_key_audit_refuse();
ALTER TABLE api_key_audit ENABLE ALWAYS TRIGGER api_key_audit_not_inserted;
ALTER TABLE api_key_audit ENABLE ALWAYS TRIGGER api_key_audit_not_changed;
ALTER TABLE api_key_audit ENABLE ALWAYS TRIGGER api_key_audit_not_removed;

-- Removes entries from before `before`, the oldest first, and returns whether more may be left. Several nodes at once do not
-- wait for one another.
CREATE FUNCTION api_key_prune_audit(before bigint, step bigint) RETURNS boolean LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
    removed bigint;
BEGIN
    -- Not a clause of the function: only a superuser may create one that sets a parameter of no extension.
    PERFORM set_config('apikey.prunes_audit', 'yes', TRUE);
    DELETE FROM api_key_audit AS entry WHERE entry.ctid = ANY (ARRAY(
        SELECT old.ctid FROM api_key_audit AS old WHERE old.at < before
        ORDER BY old.at, old.number LIMIT step FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS removed = ROW_COUNT;
    PERFORM set_config('apikey.prunes_audit', '', TRUE);
    RETURN removed = step;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_prune_audit(bigint, bigint) FROM PUBLIC;

-- Readers wait from here on, until the commit: with a million keys, for about two seconds.
ALTER TABLE api_keys
    ADD COLUMN description text COLLATE "C",
    ADD COLUMN created_by text COLLATE "C",
    -- Who changed the key last. A trigger sets it.
    ADD COLUMN updated_by text COLLATE "C",
    -- How many times the digest was changed. A trigger counts.
    ADD COLUMN rotations bigint NOT NULL DEFAULT 0,
    -- The beginning of the label in lower case, as the library folds it. If it is NULL, the label was written by hand or by
    -- an older release, and lower(left(label, 64)) takes its place: that maps ASCII letters only.
    ADD COLUMN label_key text COLLATE "C" CHECK (char_length(label_key) <= 64);

CREATE INDEX api_keys_label ON api_keys (coalesce(label_key, lower(left(label, 64))), id);

-- The next functions are called by functions that set the search path and have the rights of the owner of the tables.

-- Returns where a change comes from: what a statement of the store has set for its transaction, or NULL. A role that is not a
-- member of the owner of the tables cannot set it.
CREATE FUNCTION api_key_origin() RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    setting CONSTANT text := current_setting('apikey.origin', TRUE);
BEGIN
    -- After a transaction that has set it, it is empty.
    IF setting <> '' AND pg_has_role(session_user, current_user, 'MEMBER') THEN
        RETURN setting;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION api_key_audit_add(
    action text, key text, owner text, former_owner text, fields json
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    origin CONSTANT json := api_key_origin();
BEGIN
    INSERT INTO api_key_audit
        (at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields)
        VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint, action, key, owner,
            CASE WHEN former_owner IS DISTINCT FROM owner THEN former_owner END,
            CASE WHEN origin IS NULL THEN session_user ELSE origin ->> 'actor' END,
            coalesce(origin ->> 'channel', 'sql'), origin ->> 'address', origin ->> 'request_id', origin ->> 'reason',
            fields);
END
$$;

-- Returns the columns that differ between two states of a key, either of which may be missing. Not among them: digests, and
-- what follows from something else.
CREATE FUNCTION api_key_changed_fields(before api_keys, after api_keys) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(json_object_agg(one.name, json_build_array(one.before, one.after)), '{}') FROM (VALUES
        ('created_at', before.created_at::text, after.created_at::text),
        ('created_by', before.created_by, after.created_by),
        ('description', before.description, after.description),
        ('enabled', before.enabled::text, after.enabled::text),
        ('environment', before.environment, after.environment),
        ('expires_at', before.expires_at::text, after.expires_at::text),
        ('label', before.label, after.label),
        ('limits', before.limits, after.limits),
        ('metadata', before.metadata, after.metadata),
        ('methods', before.methods, after.methods),
        ('networks', before.networks, after.networks),
        ('not_before', before.not_before::text, after.not_before::text),
        ('owner', before.owner, after.owner),
        ('prefix', before.prefix, after.prefix),
        ('previous_until', before.previous_until::text, after.previous_until::text),
        ('revoked_at', before.revoked_at::text, after.revoked_at::text),
        ('revoked_reason', before.revoked_reason, after.revoked_reason),
        ('scopes', before.scopes, after.scopes)
    ) AS one(name, before, after) WHERE one.before COLLATE "C" IS DISTINCT FROM one.after COLLATE "C");
END
$$;

-- Writes a change of a key down.
CREATE FUNCTION api_key_audit_key(before api_keys, after api_keys) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fields CONSTANT json := api_key_changed_fields(before, after);
    action text := 'updated';
BEGIN
    IF before.id IS NULL THEN
        action := 'created';
    ELSIF after.id IS NULL THEN
        action := 'purged';
        after := before;
    ELSIF before.revoked_at IS NULL AND after.revoked_at IS NOT NULL THEN
        action := 'revoked';
    ELSIF before.digest IS DISTINCT FROM after.digest THEN
        action := 'rotated';
    ELSIF ARRAY(SELECT json_object_keys(fields)) = ARRAY['enabled'] THEN
        action := CASE WHEN after.enabled THEN 'enabled' ELSE 'disabled' END;
    END IF;
    PERFORM api_key_audit_add(action, after.id, after.owner, before.owner, fields);
END
$$;

-- Writes a change of an owner down.
CREATE FUNCTION api_key_audit_owner(before api_key_owners, after api_key_owners) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    action text;
BEGIN
    IF after.owner IS NULL THEN
        action := 'purged';
    ELSIF after.revocations > coalesce(before.revocations, 0) THEN
        action := 'owner_revoked';
    ELSIF after.suspended AND NOT coalesce(before.suspended, FALSE) THEN
        action := 'owner_suspended';
    ELSIF before.suspended AND NOT after.suspended THEN
        action := 'owner_resumed';
    ELSE
        action := 'updated';
    END IF;
    PERFORM api_key_audit_add(action, NULL, coalesce(after.owner, before.owner), NULL, (
        SELECT coalesce(json_object_agg(one.name, json_build_array(one.before, one.after)), '{}') FROM (VALUES
            ('revocations', before.revocations::text, after.revocations::text),
            ('suspended', before.suspended::text, after.suspended::text)
        ) AS one(name, before, after) WHERE one.before IS DISTINCT FROM one.after));
END
$$;

-- Returns how many live keys the owner has, counted up to `at_most`. In order: no plan then reads all of them.
CREATE FUNCTION api_key_live_keys(name text, number bigint, other_than text, clock bigint, at_most bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT count(*) FROM (
        SELECT FROM api_keys AS key
        WHERE left(key.owner, 256) = left(name, 256) AND key.owner = name AND key.owner_revocations = number
            AND CASE WHEN key.revoked_at IS NULL THEN coalesce(key.expires_at, 9223372036854775807) END > clock
            AND key.id <> other_than
        ORDER BY CASE WHEN key.revoked_at IS NULL THEN coalesce(key.expires_at, 9223372036854775807) END
        LIMIT at_most) AS live);
END
$$;

-- Rejects a write that makes a key live for an owner that has as many live keys as `at_most`. Each statement of this function
-- sees what was committed before it.
CREATE FUNCTION api_key_check_live(before api_keys, after api_keys, at_most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    clock CONSTANT bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    number bigint;
BEGIN
    IF after.owner IS NULL OR after.revoked_at IS NOT NULL OR after.expires_at <= clock THEN
        RETURN;
    END IF;
    SELECT known.revocations INTO number FROM api_key_owners AS known WHERE known.owner = after.owner;
    IF after.owner_revocations < number THEN
        RETURN;
    END IF;
    IF before.owner = after.owner AND before.revoked_at IS NULL AND coalesce(before.expires_at > clock, TRUE) THEN
        RETURN;
    END IF;
    -- The transaction has the turn, unless another one has given the key to another owner since the statement looked. It does
    -- not wait for the turn here: it has a lock on the key.
    IF NOT pg_try_advisory_xact_lock(api_key_owner_turn(after.owner)) THEN
        RAISE EXCEPTION 'another transaction has given the key to another owner; try again'
            USING ERRCODE = 'serialization_failure';
    END IF;
    IF api_key_live_keys(after.owner, number, after.id, clock, at_most) >= at_most
        -- A key that exists is a conflict.
        AND (before.id IS NOT NULL OR NOT EXISTS (SELECT FROM api_keys AS key WHERE key.id = after.id)) THEN
        RAISE EXCEPTION 'the owner has % live keys, as many as it may have', at_most USING ERRCODE = 'KEY01';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION api_keys_check_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    at_most CONSTANT bigint := api_key_origin() ->> 'max_live_keys';
BEGIN
    IF NEW.owner IS NOT NULL AND at_most IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(api_key_owner_turn(NEW.owner));
    ELSIF NEW.owner IS NOT NULL AND pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM pg_advisory_xact_lock_shared(api_key_owner_turn(NEW.owner));
    END IF;
    IF current_setting('session_replication_role') = 'replica' THEN
        -- A subscription copies a key that was revoked before, and has not been marked yet, with its lower number.
        NEW.owner_revocations := least(NEW.owner_revocations, api_key_admit(NEW.owner));
    ELSE
        NEW.owner_revocations := api_key_admit(NEW.owner);
    END IF;
    IF at_most IS NOT NULL THEN
        PERFORM api_key_check_live(NULL, NEW, at_most);
    END IF;
    RETURN NEW;
END
$$;

-- As before; and sets who changed the key, counts rotations, and drops the folded form of a label that is no longer there.
CREATE OR REPLACE FUNCTION api_keys_check_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    origin CONSTANT json := api_key_origin();
    at_most CONSTANT bigint := origin ->> 'max_live_keys';
    is_replica CONSTANT boolean := current_setting('session_replication_role') = 'replica';
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
        IF NOT is_replica THEN
            RAISE EXCEPTION 'the `owner_revocations` of a key do not change; create a new key';
        END IF;
        NEW.owner_revocations := OLD.owner_revocations;
    END IF;
    -- A statement of the store writes both.
    IF NEW.label IS DISTINCT FROM OLD.label AND NEW.label_key IS NOT DISTINCT FROM OLD.label_key AND origin IS NULL THEN
        NEW.label_key := NULL;
    END IF;
    NEW.rotations := OLD.rotations
        + (NEW.digest IS DISTINCT FROM OLD.digest AND OLD.rotations < 9223372036854775807)::integer;
    IF NOT api_key_only_marks(OLD, NEW) THEN
        IF NEW.version <= OLD.version AND OLD.version < 9223372036854775807 THEN
            NEW.version := OLD.version + 1;
        END IF;
        IF origin IS NOT NULL THEN
            NEW.updated_by := origin ->> 'actor';
        ELSIF NOT is_replica THEN
            NEW.updated_by := session_user;
        END IF;
    END IF;
    IF at_most IS NOT NULL THEN
        PERFORM api_key_check_live(OLD, NEW, at_most);
    END IF;
    RETURN NEW;
END
$$;

-- The row of the audit log is written where the change is taken down: marking writes neither.
CREATE OR REPLACE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_append_pending(OLD.id, 'key', NULL);
        PERFORM api_key_audit_key(OLD, NULL);
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM api_key_append_pending(NEW.id, 'key', NULL);
        PERFORM api_key_audit_key(NULL, NEW);
    ELSIF NEW.version <> OLD.version OR NOT api_key_only_marks(OLD, NEW) THEN
        PERFORM api_key_append_pending(NEW.id, 'key', NULL);
        PERFORM api_key_audit_key(OLD, NEW);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION api_key_owners_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_append_pending('', 'all', NULL);
        PERFORM api_key_audit_owner(OLD, NULL);
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO api_key_owner_revocations (owner, number, at)
            SELECT NEW.owner, one, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
            FROM generate_series(OLD.revocations + 1, NEW.revocations) AS one
            ON CONFLICT (owner, number) DO NOTHING;
        PERFORM api_key_audit_owner(OLD, NEW);
    ELSE
        PERFORM api_key_audit_owner(NULL, NEW);
    END IF;
    PERFORM api_key_append_pending('', 'owner', NEW.owner);
    RETURN NULL;
END
$$;

-- TRUNCATE names no keys and no owners: one row says that all were removed.
CREATE OR REPLACE FUNCTION api_keys_log_truncation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM api_key_audit_add('purged', NULL, NULL, NULL, '{}');
    PERFORM api_key_append_change('', 'all');
    UPDATE api_key_meta SET removals = removals + 1;
    DELETE FROM api_key_changes AS log WHERE log.epoch < (SELECT max(epoch) FROM api_key_changes);
    RETURN NULL;
END
$$;
