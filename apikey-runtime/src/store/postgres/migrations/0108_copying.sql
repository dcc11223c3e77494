-- Copying from another store.
--
-- Records and owners are written as they are there. Such a statement says `is_copy` in its origin. It is not audited, since the log is
-- copied too, and in place of its changes the change log gets one entry after which each node reads everything again. It does not take
-- the turns of owners: it locks the rows of owners in the order of its keys. A deadlock with a change of owners is undone, and the
-- statement is run again.

-- Called by functions that set the search path and have the rights of the owner of the tables.
CREATE FUNCTION api_key_is_copy() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (api_key_origin() ->> 'is_copy') IS NOT NULL;
END
$$;

-- Takes down, once in a transaction, that any record may have changed.
CREATE FUNCTION api_key_append_resync() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO api_key_pending_changes (xact, number, key_id, kind)
        VALUES (pg_current_xact_id(), 0, '', 'all') ON CONFLICT DO NOTHING;
END
$$;

-- As before; and leaves the number of the owner's revocations as it is in a copy.
CREATE OR REPLACE FUNCTION api_keys_check_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    at_most CONSTANT bigint := api_key_origin() ->> 'max_live_keys';
BEGIN
    IF api_key_is_copy() THEN
        PERFORM api_key_admit(NEW.owner);
        RETURN NEW;
    END IF;
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

-- As before; and leaves all columns as they are in a copy.
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
    IF api_key_is_copy() THEN
        PERFORM api_key_admit(NEW.owner);
        RETURN NEW;
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
    -- A statement of the store writes what its caller says. One of an older release does not know the column.
    IF NEW.enabled AND NOT OLD.enabled AND NEW.enabled_at IS NOT DISTINCT FROM OLD.enabled_at AND NOT is_replica
        AND (origin ->> 'sets_enabled_at') IS NULL THEN
        NEW.enabled_at := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    END IF;
    IF at_most IS NOT NULL THEN
        PERFORM api_key_check_live(OLD, NEW, at_most);
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF api_key_is_copy() THEN
        PERFORM api_key_append_resync();
    ELSIF TG_OP = 'DELETE' THEN
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

-- As before; and a copy may have any numbers. Now with the rights of the owner of the tables, as whom alone it may ask for the origin.
CREATE OR REPLACE FUNCTION api_key_owners_check() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
DECLARE
    is_copy CONSTANT boolean := api_key_is_copy();
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF octet_length(NEW.owner) > 256 THEN
            RAISE EXCEPTION 'an owner has at most 256 bytes; write a shorter one' USING ERRCODE = 'check_violation';
        END IF;
        IF (NEW.revocations > 1000 OR NEW.version > 1001) AND NOT is_copy
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
    IF (NEW.revocations > OLD.revocations + 1000 OR NEW.version > OLD.version + 1000) AND NOT is_copy THEN
        RAISE EXCEPTION 'the revocations and the version of an owner rise by 1000 at most; add 1 to `revocations`';
    END IF;
    IF NEW.version = OLD.version THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
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
    IF api_key_is_copy() THEN
        PERFORM api_key_append_resync();
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

-- Refuses what is written neither by a trigger nor by the function after this one. It keeps off mistakes, and nobody who means it: any
-- session that may write to the table can set the parameter.
DROP TRIGGER api_key_audit_not_inserted ON api_key_audit;
CREATE TRIGGER api_key_audit_not_inserted BEFORE INSERT ON api_key_audit FOR EACH STATEMENT
    WHEN (pg_trigger_depth() = 0 AND current_setting('apikey.copies_audit', TRUE) IS DISTINCT FROM 'yes')
    EXECUTE FUNCTION api_key_audit_refuse();
ALTER TABLE api_key_audit ENABLE ALWAYS TRIGGER api_key_audit_not_inserted;

-- Adds entries from the log of another store, which are a JSON array of objects, in their order.
CREATE FUNCTION api_key_copy_audit(entries json) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Not a clause of the function: only a superuser may create one that sets a parameter of no extension.
    PERFORM set_config('apikey.copies_audit', 'yes', TRUE);
    INSERT INTO api_key_audit (at, action, key, owner, former_owner, actor, channel, address, request_id, reason, fields)
        SELECT (one.entry ->> 'at')::bigint, one.entry ->> 'action', one.entry ->> 'key', one.entry ->> 'owner',
            one.entry ->> 'former_owner', one.entry ->> 'actor', one.entry ->> 'channel', one.entry ->> 'address',
            one.entry ->> 'request_id', one.entry ->> 'reason', one.entry ->> 'fields'
        FROM json_array_elements(entries) WITH ORDINALITY AS one(entry, place) ORDER BY one.place;
    PERFORM set_config('apikey.copies_audit', '', TRUE);
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_append_resync(), api_key_owners_check(), api_key_copy_audit(json) FROM PUBLIC;
