-- Who used what. None of this is a change of a key: it takes no epoch. `requests` and `cost` are not indexed, so that
-- adding to them leaves the indexes alone.
CREATE TABLE api_key_usage (
    key text COLLATE "C" NOT NULL,
    -- Hours since 1970-01-01T00:00:00Z.
    hour bigint NOT NULL,
    -- The route's pattern.
    route text COLLATE "C" NOT NULL,
    -- `allowed`, or why it was refused.
    outcome text COLLATE "C" NOT NULL,
    requests bigint NOT NULL CHECK (requests >= 0),
    cost bigint NOT NULL CHECK (cost >= 0),
    PRIMARY KEY (key, hour, route, outcome)
) WITH (fillfactor = 80);

-- For the removal of what is old.
CREATE INDEX api_key_usage_hour ON api_key_usage (hour);

CREATE TABLE api_key_last_used (
    key text COLLATE "C" NOT NULL PRIMARY KEY,
    -- Milliseconds since 1970-01-01T00:00:00Z.
    at bigint NOT NULL,
    -- Of the client, as in 192.0.2.0/24, where it is to be kept.
    network text COLLATE "C"
) WITH (fillfactor = 80);

-- The last batch of counts that each node added, and when.
CREATE TABLE api_key_usage_batches (
    node text COLLATE "C" NOT NULL PRIMARY KEY,
    number bigint NOT NULL,
    at bigint NOT NULL
);

-- Adds a batch of counts, unless it was added before. Rows are locked in the order of their keys: two batches at once
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
    -- A sum that is too large for its column stays at the largest number: as an error, it would come back for ever.
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

-- Keys that are gone take with them what was counted of their limits, and when they were last used. Rows are locked in
-- the order in which others lock them.
CREATE FUNCTION api_keys_forget_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_counts AS count JOIN gone ON gone.id = count.key
        ORDER BY count.key, count.name FOR UPDATE OF count;
    DELETE FROM api_key_counts AS count USING gone WHERE count.key = gone.id;
    PERFORM FROM api_key_last_used AS used JOIN gone ON gone.id = used.key ORDER BY used.key FOR UPDATE OF used;
    DELETE FROM api_key_last_used AS used USING gone WHERE used.key = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_removed AFTER DELETE ON api_keys REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_forget_removed();

CREATE FUNCTION api_keys_forget_all() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM api_key_counts ORDER BY key, name FOR UPDATE;
    DELETE FROM api_key_counts;
    PERFORM FROM api_key_last_used ORDER BY key FOR UPDATE;
    DELETE FROM api_key_last_used;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_emptied AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_forget_all();

ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_removed;
ALTER TABLE api_keys ENABLE ALWAYS TRIGGER api_keys_emptied;
