-- Run with a search_path of the tables' schema and nothing else. Each function keeps it (SET search_path FROM
-- CURRENT), so that a change of a key by hand writes to these tables, whatever the session's own path is.

-- One row: what all processes that use the tables share. Its lock is the counter's: see api_key_append_change.
CREATE TABLE api_key_meta (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    -- The version of the last migration that ran.
    schema_version bigint NOT NULL,
    lease_ms bigint NOT NULL CHECK (lease_ms BETWEEN 20 AND 60000),
    -- The longest lease that a node may still hold: longer for a while after the lease was lowered.
    longest_lease_ms bigint NOT NULL CHECK (longest_lease_ms BETWEEN lease_ms AND 60000),
    -- Counts the changes of the lease.
    lease_version bigint NOT NULL DEFAULT 1,
    -- The channel of the push; random, so that two sets of tables in one database do not wake each other.
    channel text NOT NULL DEFAULT 'apikey_' || gen_random_uuid()
);

INSERT INTO api_key_meta (only_row, schema_version, lease_ms, longest_lease_ms) VALUES (1, 100, 2000, 2000);

-- A longer lease takes effect at once, and a shorter one leaves the longest as it is.
CREATE FUNCTION api_key_meta_keep_longest_lease() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    NEW.longest_lease_ms := greatest(NEW.longest_lease_ms, NEW.lease_ms);
    NEW.lease_version := OLD.lease_version + (NEW.lease_ms <> OLD.lease_ms)::integer;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_key_meta_longest_lease BEFORE UPDATE ON api_key_meta
    FOR EACH ROW EXECUTE FUNCTION api_key_meta_keep_longest_lease();

-- Times are milliseconds since 1970-01-01T00:00:00Z. The checks reject mistakes of an UPDATE by hand. All texts are
-- compared by their bytes, whatever the database's own rules are.
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
    -- A JSON object. As text: `jsonb` would reject U+0000 in it.
    metadata text COLLATE "C" NOT NULL CHECK (json_typeof(metadata::json) = 'object'),
    environment text COLLATE "C",
    -- Networks (10.0.0.0/8 2001:db8::/32) and methods (GET POST), separated by single spaces; empty means all.
    networks text COLLATE "C" NOT NULL DEFAULT '',
    methods text COLLATE "C" NOT NULL DEFAULT '',
    -- A JSON array as in [{"name":"daily","quota":"1000/day"},{"name":"m","rate":"10/minute"}].
    limits text COLLATE "C" NOT NULL DEFAULT '[]' CHECK (json_typeof(limits::json) = 'array'),
    created_at bigint NOT NULL,
    expires_at bigint,
    not_before bigint,
    -- Any value revokes the key permanently.
    revoked_at bigint,
    revoked_reason text COLLATE "C" CHECK (revoked_reason IS NULL OR revoked_at IS NOT NULL),
    enabled boolean NOT NULL,
    -- Has no check: a row with a broken version can still be revoked.
    version bigint NOT NULL,
    CHECK ((previous_digest IS NULL) = (previous_until IS NULL))
);

-- By hash, since an entry of a tree holds 2,700 bytes at most, and the length of an owner has no bound here.
CREATE INDEX api_keys_owner ON api_keys USING hash (owner);

-- The change log: one row per change, numbered in the order of the commits, without a gap.
CREATE TABLE api_key_changes (
    epoch bigint PRIMARY KEY,
    -- Empty if the change is not one of a key.
    key_id text COLLATE "C" NOT NULL,
    -- Distinguishes this history from that of a copy which took another course.
    tag bytea NOT NULL DEFAULT uuid_send(gen_random_uuid())
);

-- The beginning of the history.
INSERT INTO api_key_changes (epoch, key_id) VALUES (1, '');

-- The nodes that may hold a lease. Do not change it by hand: if a row is missing, a revocation is confirmed too early.
CREATE TABLE api_key_nodes (
    id text COLLATE "C" NOT NULL PRIMARY KEY CHECK (id ~ '^[0-9A-Za-z]{22}$'),
    -- Starts at a random number: a node that leaves and comes back does not repeat a heartbeat that was seen before.
    heartbeat bigint NOT NULL DEFAULT (random() * 4611686018427387904)::bigint,
    suspected boolean NOT NULL DEFAULT FALSE,
    -- The change up to which the node has followed, and its cursor's tag: valid as long as the log has that very change.
    acknowledged bigint NOT NULL DEFAULT 0,
    acknowledged_tag bytea
);

-- Takes the next epoch. A sequence would not do: a lower number may commit later, and a reader that has seen the higher
-- one then never learns of it. The lock on the one row is held until the commit, so epochs are in the order of the
-- commits, and the number after the highest is read after the lock, in a snapshot of its own. The row is locked and not
-- changed: a transaction of a hundred thousand changes would leave as many versions of it.
CREATE FUNCTION api_key_append_change(changed text) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

REVOKE EXECUTE ON FUNCTION api_key_append_change(text) FROM PUBLIC;

-- SECURITY DEFINER: a role that may change keys needs no right to write the log.
CREATE FUNCTION api_keys_log_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM api_key_append_change(OLD.id);
    ELSE
        PERFORM api_key_append_change(NEW.id);
    END IF;
    RETURN NULL;
END
$$;

-- Deferred: it runs at the commit, so that a transaction that stays open does not hold the lock, and one that rolls
-- back logs nothing.
CREATE CONSTRAINT TRIGGER api_keys_changed AFTER INSERT OR UPDATE OR DELETE ON api_keys
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION api_keys_log_change();

-- TRUNCATE names no rows, so it invalidates every cursor. It takes the lock at once: it locks out all writers anyway.
CREATE FUNCTION api_keys_log_truncation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM api_key_append_change('');
    DELETE FROM api_key_changes AS log WHERE log.epoch < (SELECT max(epoch) FROM api_key_changes);
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_truncated AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_log_truncation();

CREATE FUNCTION api_keys_check_update() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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

CREATE TRIGGER api_keys_update_checked BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION api_keys_check_update();

-- What was used of each limit of a key. Not a change of the key: it takes no epoch. A row changes with every request, so
-- its page has room for the next version of it, and only the primary key is indexed: no index then has to follow.
CREATE TABLE api_key_limit_counters (
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Of a rate: the theoretical arrival time of GCRA, in microseconds since 1970.
    tat bigint NOT NULL DEFAULT 0,
    -- Of a quota: the day or month that is counted, since January 1970, and what was used in it.
    period bigint NOT NULL DEFAULT 0,
    used bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    -- Of a rolling window: the numbers of its parts since 1970, ascending, and what was used in each.
    parts bigint[] NOT NULL DEFAULT '{}',
    parts_used bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (key, name)
) WITH (fillfactor = 50);

-- The next three are called by api_key_charge alone, and so on its search_path. `kind` is `rate`, `day`, `month`,
-- `lifetime` or `rolling`, and `clock` microseconds since 1970.

-- Returns the number of the day, month, or part of a rolling window, since January 1970.
CREATE FUNCTION api_key_current_period(kind text, part_millis bigint, clock bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'day' THEN clock / 86400000000
        WHEN 'month' THEN (extract(year FROM date '1970-01-01' + (clock / 86400000000)::integer) * 12
            + extract(month FROM date '1970-01-01' + (clock / 86400000000)::integer))::bigint - 23641
        WHEN 'rolling' THEN clock / 1000 / part_millis
        ELSE 0
    END
$$;

-- Returns what remains of `most`; for a rate both are microseconds, and `most` is its burst.
CREATE FUNCTION api_key_remaining(
    counter api_key_limit_counters, kind text, most bigint, part_millis bigint, clock bigint
) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    present CONSTANT bigint := api_key_current_period(kind, part_millis, clock);
    taken bigint;
BEGIN
    IF kind = 'rate' THEN
        taken := counter.tat - clock;
    ELSIF kind = 'rolling' THEN
        taken := (SELECT sum(part.used) FROM unnest(counter.parts, counter.parts_used) AS part(number, used)
            WHERE part.number >= present - 60);
    ELSIF present <= counter.period THEN
        -- A period that is over does not count. A future one does: it is found only after the clock was set back.
        taken := counter.used;
    END IF;
    RETURN greatest(most - greatest(taken, 0), 0);
END
$$;

-- Returns the counter after `cost`, which was admitted.
CREATE FUNCTION api_key_add_cost(
    counter api_key_limit_counters, kind text, cost bigint, part_millis bigint, clock bigint
) RETURNS api_key_limit_counters LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    present CONSTANT bigint := api_key_current_period(kind, part_millis, clock);
    latest integer;
BEGIN
    IF kind = 'rate' THEN
        counter.tat := greatest(counter.tat, clock) + cost;
    ELSIF kind = 'rolling' THEN
        SELECT coalesce(array_agg(part.number ORDER BY part.number), '{}'),
            coalesce(array_agg(part.used ORDER BY part.number), '{}')
        INTO counter.parts, counter.parts_used
        FROM unnest(counter.parts, counter.parts_used) AS part(number, used) WHERE part.number >= present - 60;
        latest := cardinality(counter.parts);
        -- After the clock was set back, the latest part that was used is counted on.
        IF latest = 0 OR counter.parts[latest] < present THEN
            latest := latest + 1;
            counter.parts := counter.parts || present;
            counter.parts_used := counter.parts_used || 0::bigint;
        END IF;
        counter.parts_used[latest] := counter.parts_used[latest] + cost;
    ELSE
        IF present > counter.period THEN
            counter.period := present;
            counter.used := 0;
        END IF;
        counter.used := counter.used + cost;
    END IF;
    RETURN counter;
END
$$;

-- Charges all limits, or none, and returns their counters afterwards, in the same order. For a rate, `most` (its burst)
-- and `costs` are microseconds. `at` is for tests of this function: the time, in place of the server's clock.
--
-- First it reads without a lock: a charge that is denied then was to be denied at that moment, and a flood of them
-- neither waits nor writes. Otherwise it locks the rows, always in the order of their names, and reads again: the
-- counters, and the time after the last lock.
CREATE FUNCTION api_key_charge(
    charged text, names text[], kinds text[], most bigint[], costs bigint[], part_millis bigint[], at bigint
) RETURNS TABLE (
    now bigint, admitted boolean, tat bigint, period bigint, used bigint, parts bigint[], parts_used bigint[]
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    counter api_key_limit_counters;
    counters api_key_limit_counters[];
    is_missing boolean;
    changes boolean;
    is_durable boolean := FALSE;
BEGIN
    FOR pass IN 1..2 LOOP
        counters := '{}';
        IF pass = 1 THEN
            FOR counter IN SELECT * FROM api_key_limit_counters WHERE key = charged AND name = ANY (names) LOOP
                counters[array_position(names, counter.name)] := counter;
            END LOOP;
        ELSE
            FOR counter IN SELECT * FROM api_key_limit_counters WHERE key = charged AND name = ANY (names)
                ORDER BY name FOR UPDATE
            LOOP
                counters[array_position(names, counter.name)] := counter;
            END LOOP;
        END IF;
        -- Read after the rows: none of them is of a later time.
        now := coalesce(at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
        admitted := TRUE;
        changes := FALSE;
        is_missing := FALSE;
        FOR place IN 1..cardinality(names) LOOP
            counter := counters[place];
            IF counter.key IS NULL THEN
                counter := ROW(charged, names[place], 0, 0, 0, '{}', '{}');
                is_missing := TRUE;
            ELSIF kinds[place] = 'rate' AND counter.tat > now + most[place] THEN
                -- At most a whole burst ahead: after the clock was set back it would stay further ahead.
                counter.tat := now + most[place];
                changes := TRUE;
            END IF;
            counters[place] := counter;
            admitted := admitted
                AND costs[place] <= api_key_remaining(counter, kinds[place], most[place], part_millis[place], now);
        END LOOP;
        EXIT WHEN pass = 2 OR NOT (changes OR admitted AND costs[1] > 0);
        IF is_missing THEN
            -- The lock holds off the deletion of the key, which deletes its counters, so that no counter is left
            -- behind. It is taken before that of any counter, as there.
            WITH held AS MATERIALIZED (SELECT id FROM api_keys WHERE id = charged FOR KEY SHARE)
                INSERT INTO api_key_limit_counters (key, name)
                SELECT held.id, one.name FROM held, unnest(names) AS one(name) ORDER BY one.name COLLATE "C"
                ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    FOR place IN 1..cardinality(names) LOOP
        counter := counters[place];
        IF admitted AND costs[place] > 0 THEN
            counter := api_key_add_cost(counter, kinds[place], costs[place], part_millis[place], now);
            is_durable := is_durable OR kinds[place] <> 'rate';
            changes := TRUE;
        END IF;
        IF changes THEN
            UPDATE api_key_limit_counters SET tat = counter.tat, period = counter.period, used = counter.used,
                parts = counter.parts, parts_used = counter.parts_used WHERE key = charged AND name = counter.name;
        END IF;
        tat := counter.tat;
        period := counter.period;
        used := counter.used;
        parts := counter.parts;
        parts_used := counter.parts_used;
        RETURN NEXT;
    END LOOP;
    -- If a quota was charged, the commit waits for the disk. What a crash can take from a rate alone is of its last
    -- moments, and not worth that wait.
    IF NOT is_durable THEN
        PERFORM set_config('synchronous_commit', 'off', TRUE);
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_charge(text, text[], text[], bigint[], bigint[], bigint[], bigint) FROM PUBLIC;

-- Usage by key, hour, route and outcome. Not a change of a key: it takes no epoch. `requests` and `cost` are not
-- indexed, so that adding to them leaves the indexes alone.
CREATE TABLE api_key_usage (
    key text COLLATE "C" NOT NULL,
    -- Hours since 1970-01-01T00:00:00Z.
    hour bigint NOT NULL,
    -- The route's pattern.
    route text COLLATE "C" NOT NULL,
    -- `allowed`, or the code of the denial.
    outcome text COLLATE "C" NOT NULL,
    requests bigint NOT NULL CHECK (requests >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (key, hour, route, outcome)
) WITH (fillfactor = 80);

-- For pruning.
CREATE INDEX api_key_usage_hour ON api_key_usage (hour);

CREATE TABLE api_key_last_used (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    -- Milliseconds since 1970-01-01T00:00:00Z.
    at bigint NOT NULL,
    -- Of the client, as in 192.0.2.0/24, if networks are recorded.
    network text COLLATE "C"
) WITH (fillfactor = 80);

-- The last batch of usage that each node added, and when.
CREATE TABLE api_key_usage_batches (
    node text COLLATE "C" NOT NULL PRIMARY KEY,
    number bigint NOT NULL,
    at bigint NOT NULL
);

-- Adds a batch of usage, unless it was added before. Rows are locked in the order of their keys: two batches at once
-- cannot wait for each other.
CREATE FUNCTION api_key_add_usage(
    added_by text, batch bigint,
    keys text[], hours bigint[], routes text[], outcomes text[], added_requests bigint[], added_costs bigint[],
    used_keys text[], used_at bigint[], used_from text[]
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO api_key_usage_batches AS batches (node, number, at)
        VALUES (added_by, batch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
        ON CONFLICT (node) DO UPDATE SET number = excluded.number, at = excluded.at
        WHERE batches.number < excluded.number;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- A sum that is too large for its column stays at the largest number: an error would come back with every attempt.
    INSERT INTO api_key_usage AS kept (key, hour, route, outcome, requests, cost)
        SELECT one.* FROM unnest(keys, hours, routes, outcomes, added_requests, added_costs)
            AS one(key, hour, route, outcome, requests, cost)
        ORDER BY one.key COLLATE "C", one.hour, one.route COLLATE "C", one.outcome COLLATE "C"
        ON CONFLICT (key, hour, route, outcome) DO UPDATE SET
            requests = least(kept.requests::numeric + excluded.requests, 9223372036854775807)::bigint,
            cost = least(kept.cost::numeric + excluded.cost, 9223372036854775807)::bigint;
    INSERT INTO api_key_last_used AS kept (key, at, network)
        SELECT one.* FROM unnest(used_keys, used_at, used_from) AS one(key, at, network)
        WHERE EXISTS (SELECT FROM api_keys WHERE id = one.key)
        ORDER BY one.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET at = excluded.at, network = excluded.network WHERE kept.at < excluded.at;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_add_usage(
    text, bigint, text[], bigint[], text[], text[], bigint[], bigint[], text[], bigint[], text[]) FROM PUBLIC;

-- The limit counters of a key and its last use are deleted with it; its usage is kept until it is pruned. Rows are locked
-- in the order in which other statements lock them.
CREATE FUNCTION api_keys_delete_counters() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_limit_counters AS counter JOIN gone ON gone.id = counter.key
        ORDER BY counter.key, counter.name FOR UPDATE OF counter;
    DELETE FROM api_key_limit_counters AS counter USING gone WHERE counter.key = gone.id;
    PERFORM FROM api_key_last_used AS used JOIN gone ON gone.id = used.key ORDER BY used.key FOR UPDATE OF used;
    DELETE FROM api_key_last_used AS used USING gone WHERE used.key = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_delete_counters();

CREATE FUNCTION api_keys_delete_all_counters() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_limit_counters ORDER BY key, name FOR UPDATE;
    DELETE FROM api_key_limit_counters;
    PERFORM FROM api_key_last_used ORDER BY key FOR UPDATE;
    DELETE FROM api_key_last_used;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_all_deleted AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_delete_all_counters();

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_changed;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_truncated;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_update_checked;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_deleted;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_all_deleted;
