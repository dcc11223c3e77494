-- When a key was last enabled, and notices before the end of keys. Nothing here takes longer with more keys.
--
-- The order of locks of 0103 and 0104 still holds. The row of a notice comes after that of its key: the transaction that changes an
-- expiry locks both. Claiming notices passes over rows that are locked, and finishing them waits for one only while it holds no other:
-- neither holds a lock while it waits. The backfill passes over keys that are locked, and holds those that it adds notices for.

-- By the clock of the node that enabled the key. If a statement by hand enables a key and leaves this as it is, a trigger sets it.
ALTER TABLE api_keys ADD COLUMN enabled_at bigint;

-- As before, with that column.
CREATE OR REPLACE FUNCTION api_key_changed_fields(before api_keys, after api_keys) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(json_object_agg(one.name, json_build_array(one.before, one.after)), '{}') FROM (VALUES
        ('created_at', before.created_at::text, after.created_at::text),
        ('created_by', before.created_by, after.created_by),
        ('description', before.description, after.description),
        ('enabled', before.enabled::text, after.enabled::text),
        ('enabled_at', before.enabled_at::text, after.enabled_at::text),
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

-- As before. A key that was enabled already is enabled again by a change of `enabled_at` alone.
CREATE OR REPLACE FUNCTION api_key_audit_key(before api_keys, after api_keys) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fields CONSTANT json := api_key_changed_fields(before, after);
    changed CONSTANT text[] := ARRAY(SELECT json_object_keys(fields));
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
    ELSIF after.enabled AND changed <@ ARRAY['enabled', 'enabled_at'] AND changed <> '{}' THEN
        action := 'enabled';
    ELSIF NOT after.enabled AND changed = ARRAY['enabled'] THEN
        action := 'disabled';
    END IF;
    PERFORM api_key_audit_add(action, after.id, after.owner, before.owner, fields);
END
$$;

-- As before; and sets when a key was enabled.
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

-- For each key that expires, when the next notice of its end is due. Triggers keep it up to date, and nodes claim notices. It is
-- neither a change of a key nor audited.
CREATE TABLE api_key_expiry_notices (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    -- The `expires_at` of the key.
    expires bigint NOT NULL,
    -- When that was set, in milliseconds since 1970-01-01T00:00:00Z.
    since bigint NOT NULL,
    -- When the notice is due. The least number: it is not planned yet. NULL: the key gets no notice until its expiry changes. Such a row
    -- stays, so that the backfill does not add the notice again.
    planned bigint DEFAULT -9223372036854775808,
    -- The node that has claimed the notice.
    claimed_by text COLLATE "C",
    CHECK (claimed_by IS NULL OR planned IS NOT NULL)
);

-- A claim reads the beginning of those that no node has claimed, and of those of each node whose claims have ended. So what others
-- have claimed hides nothing.
CREATE INDEX api_key_expiry_notices_due ON api_key_expiry_notices (planned, key)
    WHERE claimed_by IS NULL AND planned IS NOT NULL;
CREATE INDEX api_key_expiry_notices_claimed ON api_key_expiry_notices (claimed_by, planned, key) WHERE claimed_by IS NOT NULL;

-- The end and the id up to which keys from before this migration have got their notices, in the order of `api_keys_expires`. Claims
-- add the next ones, step by step, and remove the row after the last. Keys that had ended before get no notice.
CREATE TABLE api_key_notice_backfill (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    expires bigint NOT NULL,
    key text COLLATE "C" NOT NULL
);

INSERT INTO api_key_notice_backfill (only_row, expires, key)
    SELECT 1, clock.now, '' FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock
    WHERE EXISTS (SELECT FROM api_keys);

CREATE FUNCTION api_keys_follow_expiry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM api_key_expiry_notices AS notice WHERE notice.key = OLD.id;
    ELSIF NEW.expires_at IS NULL THEN
        DELETE FROM api_key_expiry_notices AS notice WHERE notice.key = NEW.id;
    ELSE
        INSERT INTO api_key_expiry_notices (key, expires, since)
            VALUES (NEW.id, NEW.expires_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
            ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, since = excluded.since, planned = excluded.planned,
                claimed_by = NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_expiry_set AFTER INSERT ON api_keys
    FOR EACH ROW WHEN (NEW.expires_at IS NOT NULL) EXECUTE FUNCTION api_keys_follow_expiry();
CREATE TRIGGER api_keys_expiry_changed AFTER UPDATE ON api_keys
    FOR EACH ROW WHEN (NEW.expires_at IS DISTINCT FROM OLD.expires_at) EXECUTE FUNCTION api_keys_follow_expiry();
CREATE TRIGGER api_keys_expiry_removed AFTER DELETE ON api_keys
    FOR EACH ROW WHEN (OLD.expires_at IS NOT NULL) EXECUTE FUNCTION api_keys_follow_expiry();

CREATE FUNCTION api_keys_remove_notices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM api_key_expiry_notices;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_expiries_removed AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_remove_notices();

-- Claims what is due, and returns it. Claims of the node itself, and of nodes that are not members, do not count.
CREATE FUNCTION api_key_claim_notices(claimer text, clock bigint, step bigint) RETURNS SETOF api_key_expiry_notices
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    holder text;
    chosen text[];
BEGIN
    chosen := ARRAY(SELECT notice.key FROM api_key_expiry_notices AS notice
        WHERE notice.claimed_by IS NULL AND notice.planned <= clock
        ORDER BY notice.planned, notice.key LIMIT step FOR UPDATE SKIP LOCKED);
    FOR holder IN
        -- The nodes that have claims, one by one: their claims are not read.
        WITH RECURSIVE holders(id) AS (
            SELECT min(notice.claimed_by) FROM api_key_expiry_notices AS notice
            UNION ALL SELECT (SELECT min(notice.claimed_by) FROM api_key_expiry_notices AS notice
                WHERE notice.claimed_by > holders.id) FROM holders WHERE holders.id IS NOT NULL)
        SELECT holders.id FROM holders WHERE holders.id = claimer
            OR NOT EXISTS (SELECT FROM api_key_nodes AS node WHERE node.id = holders.id) AND holders.id IS NOT NULL
    LOOP
        chosen := chosen || ARRAY(SELECT notice.key FROM api_key_expiry_notices AS notice
            WHERE notice.claimed_by = holder AND notice.planned <= clock
            ORDER BY notice.planned, notice.key LIMIT step FOR UPDATE SKIP LOCKED);
    END LOOP;
    chosen := (SELECT array_agg(notice.key ORDER BY notice.planned, notice.key) FROM api_key_expiry_notices AS notice
        WHERE notice.key = ANY (chosen));
    chosen := chosen[1:step];
    UPDATE api_key_expiry_notices AS notice SET claimed_by = claimer
        WHERE notice.key = ANY (chosen) AND notice.claimed_by IS DISTINCT FROM claimer;
    RETURN QUERY SELECT notice.* FROM api_key_expiry_notices AS notice WHERE notice.key = ANY (chosen);
END
$$;

-- Ends claims, and plans each notice. Passes over rows that other transactions have locked, and returns the keys of those that the
-- node had claimed at that moment. If such a transaction is undone, they are still to be finished.
CREATE FUNCTION api_key_finish_notices(claimer text, keys text[], ends bigint[], plans bigint[]) RETURNS SETOF text
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    held CONSTANT text[] := ARRAY(SELECT notice.key FROM api_key_expiry_notices AS notice
        WHERE notice.key = ANY (keys) AND notice.claimed_by = claimer FOR UPDATE SKIP LOCKED);
BEGIN
    UPDATE api_key_expiry_notices AS notice SET planned = given.planned, claimed_by = NULL
        FROM unnest(keys, ends, plans) AS given(key, expires, planned)
        WHERE notice.key = ANY (held) AND notice.key = given.key AND notice.expires = given.expires;
    RETURN QUERY SELECT notice.key FROM unnest(keys, ends) AS given(key, expires)
        JOIN api_key_expiry_notices AS notice ON notice.key = given.key AND notice.expires = given.expires
        WHERE notice.claimed_by = claimer;
END
$$;

-- Adds notices for the next keys from before this migration, and returns whether it did. One node at a time. A key that another
-- transaction has locked is left to a later call, and so are the ones after it.
CREATE FUNCTION api_key_backfill_notices(step bigint) RETURNS boolean LANGUAGE plpgsql
    SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    reached api_key_notice_backfill;
    ids text[];
    ends bigint[];
    held text[];
    free bigint;
BEGIN
    SELECT one.* INTO reached FROM api_key_notice_backfill AS one WHERE one.only_row = 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    SELECT coalesce(array_agg(page.id ORDER BY page.expires_at, page.id), '{}'),
        coalesce(array_agg(page.expires_at ORDER BY page.expires_at, page.id), '{}') INTO ids, ends
        FROM (SELECT key.id, key.expires_at FROM api_keys AS key
            WHERE key.expires_at IS NOT NULL AND (key.expires_at, key.id) > (reached.expires, reached.key)
            ORDER BY key.expires_at, key.id LIMIT step) AS page;
    -- Until the commit, none of these is changed or removed.
    held := ARRAY(SELECT key.id FROM api_keys AS key WHERE key.id = ANY (ids) FOR SHARE SKIP LOCKED);
    -- How many come before the first that is locked. One that is gone by now does not count.
    SELECT coalesce(min(page.place) - 1, cardinality(ids)) INTO free
        FROM unnest(ids) WITH ORDINALITY AS page(id, place) JOIN api_keys AS key ON key.id = page.id
        WHERE page.id <> ALL (held);
    -- One array: with two, the server would try each pair of them, or read all keys.
    held := ARRAY(SELECT unnest(held) INTERSECT SELECT unnest(ids[1:free]));
    INSERT INTO api_key_expiry_notices (key, expires, since)
        SELECT key.id, key.expires_at, key.created_at FROM api_keys AS key
        WHERE key.id = ANY (held) AND key.expires_at IS NOT NULL
            AND NOT EXISTS (SELECT FROM api_key_expiry_notices AS notice WHERE notice.key = key.id)
        ON CONFLICT (key) DO NOTHING;
    IF free < step AND free = cardinality(ids) THEN
        DELETE FROM api_key_notice_backfill WHERE only_row = 1;
    ELSIF free > 0 THEN
        UPDATE api_key_notice_backfill SET expires = ends[free], key = ids[free] WHERE only_row = 1;
    END IF;
    RETURN free > 0;
END
$$;

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_expiry_set;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_expiry_changed;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_expiry_removed;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_expiries_removed;

-- What runs with the rights of the owner of these tables is called by triggers, or by its roles.
REVOKE EXECUTE ON FUNCTION api_keys_follow_expiry(), api_keys_remove_notices(), api_key_claim_notices(text, bigint, bigint),
    api_key_finish_notices(text, text[], bigint[], bigint[]), api_key_backfill_notices(bigint) FROM PUBLIC;
