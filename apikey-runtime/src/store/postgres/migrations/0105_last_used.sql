-- When each of the two latest secrets of a key was last used, and from which networks a key was last used. A release
-- before this one writes to `api_key_last_used`, as does nothing else any more: uses of the first secret, which reads
-- include. Nothing is moved, so that an upgrade takes no time.
CREATE TABLE api_key_secret_uses (
    key text COLLATE "C" NOT NULL,
    -- The number of rotations that created the secret.
    rotations bigint NOT NULL,
    -- Milliseconds since 1970-01-01T00:00:00Z.
    at bigint NOT NULL,
    -- Of the client, as in 192.0.2.0/24, if networks are recorded.
    network text COLLATE "C",
    PRIMARY KEY (key, rotations)
) WITH (fillfactor = 80);

-- The latest networks of each key.
CREATE TABLE api_key_networks (
    key text COLLATE "C" NOT NULL,
    network text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    -- The day of `at`, since 1970. An index of `at` would have to change with each use, and this one once a day.
    day bigint NOT NULL,
    PRIMARY KEY (key, network)
) WITH (fillfactor = 80);

-- For pruning.
CREATE INDEX api_key_networks_day ON api_key_networks (day);

-- Adds a batch of usage, unless it was added before. Rows are locked in the order of their keys, after those of usage:
-- two batches at once cannot wait for each other. What is superfluous after it is removed, except rows that another
-- session changes at this moment: reads leave superfluous rows out, and the next batch removes them.
CREATE FUNCTION api_key_add_usage(
    added_by text, batch bigint,
    keys text[], hours bigint[], routes text[], outcomes text[], added_requests bigint[], added_costs bigint[],
    used_keys text[], used_rotations bigint[], used_at bigint[], used_from text[],
    network_keys text[], networks text[], network_at bigint[]
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
    INSERT INTO api_key_secret_uses AS kept (key, rotations, at, network)
        SELECT one.* FROM unnest(used_keys, used_rotations, used_at, used_from) AS one(key, rotations, at, network)
        WHERE EXISTS (SELECT FROM api_keys WHERE id = one.key)
        ORDER BY one.key COLLATE "C", one.rotations
        ON CONFLICT (key, rotations) DO UPDATE SET at = excluded.at, network = excluded.network
        WHERE kept.at < excluded.at;
    -- Only the third secret can make one superfluous.
    IF 1 < ANY (used_rotations) THEN
        DELETE FROM api_key_secret_uses WHERE ctid = ANY (ARRAY(
            SELECT kept.ctid FROM api_key_secret_uses AS kept WHERE kept.key = ANY (used_keys) AND 1 < (
                SELECT count(*) FROM api_key_secret_uses AS later
                WHERE later.key = kept.key AND later.rotations > kept.rotations)
            FOR UPDATE OF kept SKIP LOCKED));
    END IF;
    IF cardinality(network_keys) > 0 THEN
        INSERT INTO api_key_networks AS kept (key, network, at, day)
            SELECT one.key, one.network, one.at, floor(one.at / 86400000.0)
            FROM unnest(network_keys, networks, network_at) AS one(key, network, at)
            WHERE EXISTS (SELECT FROM api_keys WHERE id = one.key)
            ORDER BY one.key COLLATE "C", one.network COLLATE "C"
            ON CONFLICT (key, network) DO UPDATE SET at = excluded.at, day = excluded.day WHERE kept.at < excluded.at;
        DELETE FROM api_key_networks WHERE ctid = ANY (ARRAY(
            SELECT kept.ctid FROM api_key_networks AS kept JOIN (
                SELECT one.key, one.network, row_number() OVER (PARTITION BY one.key ORDER BY one.at DESC, one.network)
                    AS place
                FROM api_key_networks AS one WHERE one.key = ANY (network_keys)
            ) AS ranked ON ranked.key = kept.key AND ranked.network = kept.network
            WHERE ranked.place > 20 FOR UPDATE OF kept SKIP LOCKED));
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_add_usage(
    text, bigint, text[], bigint[], text[], text[], bigint[], bigint[], text[], bigint[], bigint[], text[], text[], text[],
    bigint[]) FROM PUBLIC;

-- The uses of a key are deleted with it. Rows are locked in the order in which `api_key_add_usage` locks them.
CREATE FUNCTION api_keys_delete_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_secret_uses AS used JOIN gone ON gone.id = used.key
        ORDER BY used.key, used.rotations FOR UPDATE OF used;
    DELETE FROM api_key_secret_uses AS used USING gone WHERE used.key = gone.id;
    PERFORM FROM api_key_networks AS used JOIN gone ON gone.id = used.key
        ORDER BY used.key, used.network FOR UPDATE OF used;
    DELETE FROM api_key_networks AS used USING gone WHERE used.key = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_deleted_uses AFTER DELETE ON api_keys REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_delete_uses();

CREATE FUNCTION api_keys_delete_all_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_secret_uses ORDER BY key, rotations FOR UPDATE;
    DELETE FROM api_key_secret_uses;
    PERFORM FROM api_key_networks ORDER BY key, network FOR UPDATE;
    DELETE FROM api_key_networks;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_all_deleted_uses AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_delete_all_uses();

-- Also for what a subscription applies and what runs with session_replication_role = replica.
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_deleted_uses;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_all_deleted_uses;

-- These functions run with the rights of the owner: a role that can create tables must not make them triggers of its own.
REVOKE EXECUTE ON FUNCTION api_keys_delete_uses(), api_keys_delete_all_uses() FROM PUBLIC;
