-- What a key is limited to: a JSON array as in [{"name":"daily","quota":"1000/day"},{"name":"m","rate":"10/minute"}].
ALTER TABLE api_keys ADD COLUMN limits text COLLATE "C" NOT NULL DEFAULT '[]'
    CHECK (json_typeof(limits::json) = 'array');

-- What was used of each limit. No change of a key: it takes no epoch. A row changes with every request, so that its page
-- has room for the next version of it, and nothing but the primary key is indexed: no index then has to follow.
CREATE TABLE api_key_counts (
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- Of a rate: when all that has passed is worked off, in microseconds since 1970.
    arrival bigint NOT NULL DEFAULT 0,
    -- Of a quota: which day or month this counts, since January 1970, and what was used in it.
    period bigint NOT NULL DEFAULT 0,
    used bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    -- Of a rolling window: the numbers of its parts since 1970, upward, and what was used in each.
    parts bigint[] NOT NULL DEFAULT '{}',
    parts_used bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (key, name)
) WITH (fillfactor = 50);

-- These three are called by api_key_charge alone, and so on its search_path. `kind` is `rate`, `day`, `month`, `lifetime`
-- or `rolling`, and `clock` microseconds since 1970.

-- Which day, month, or part of a rolling window it is, since January 1970.
CREATE FUNCTION api_key_present(kind text, part_millis bigint, clock bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'day' THEN clock / 86400000000
        WHEN 'month' THEN (extract(year FROM date '1970-01-01' + (clock / 86400000000)::integer) * 12
            + extract(month FROM date '1970-01-01' + (clock / 86400000000)::integer))::bigint - 23641
        WHEN 'rolling' THEN clock / 1000 / part_millis
        ELSE 0
    END
$$;

-- What may pass yet of `most`; of a rate both are microseconds, and `most` is its burst.
CREATE FUNCTION api_key_remaining(kept api_key_counts, kind text, most bigint, part_millis bigint, clock bigint)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    present CONSTANT bigint := api_key_present(kind, part_millis, clock);
    taken bigint;
BEGIN
    IF kind = 'rate' THEN
        taken := kept.arrival - clock;
    ELSIF kind = 'rolling' THEN
        taken := (SELECT sum(part.used) FROM unnest(kept.parts, kept.parts_used) AS part(number, used)
            WHERE part.number >= present - 60);
    ELSIF present <= kept.period THEN
        -- A period that is over counts no more. One that has not come does: only a clock that was set back finds it.
        taken := kept.used;
    END IF;
    RETURN greatest(most - greatest(taken, 0), 0);
END
$$;

-- The count after `cost`, which was admitted.
CREATE FUNCTION api_key_counted(kept api_key_counts, kind text, cost bigint, part_millis bigint, clock bigint)
RETURNS api_key_counts LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    present CONSTANT bigint := api_key_present(kind, part_millis, clock);
    latest integer;
BEGIN
    IF kind = 'rate' THEN
        kept.arrival := greatest(kept.arrival, clock) + cost;
    ELSIF kind = 'rolling' THEN
        SELECT coalesce(array_agg(part.number ORDER BY part.number), '{}'),
            coalesce(array_agg(part.used ORDER BY part.number), '{}')
        INTO kept.parts, kept.parts_used
        FROM unnest(kept.parts, kept.parts_used) AS part(number, used) WHERE part.number >= present - 60;
        latest := cardinality(kept.parts);
        -- A clock that was set back counts into the latest part that was used.
        IF latest = 0 OR kept.parts[latest] < present THEN
            latest := latest + 1;
            kept.parts := kept.parts || present;
            kept.parts_used := kept.parts_used || 0::bigint;
        END IF;
        kept.parts_used[latest] := kept.parts_used[latest] + cost;
    ELSE
        IF present > kept.period THEN
            kept.period := present;
            kept.used := 0;
        END IF;
        kept.used := kept.used + cost;
    END IF;
    RETURN kept;
END
$$;

-- Charges all limits, or none, and returns how they stand then, in their order. Of a rate, `most` (its burst) and `costs`
-- are microseconds. `at` is for tests of this function: the time, in place of the server's clock.
--
-- First it looks without a lock: what is refused then was to be refused at that moment, and a flood of it neither waits
-- nor writes. Else it locks the rows, always in the order of their names, and looks again, at what there is and at the
-- time that it is after the last lock.
CREATE FUNCTION api_key_charge(
    charged text, names text[], kinds text[], most bigint[], costs bigint[], part_millis bigint[], at bigint
) RETURNS TABLE (
    now bigint, admitted boolean, arrival bigint, period bigint, used bigint, parts bigint[], parts_used bigint[]
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    kept api_key_counts;
    counts api_key_counts[];
    is_missing boolean;
    changes boolean;
    is_durable boolean := FALSE;
BEGIN
    FOR look IN 1..2 LOOP
        counts := '{}';
        IF look = 1 THEN
            FOR kept IN SELECT * FROM api_key_counts WHERE key = charged AND name = ANY (names) LOOP
                counts[array_position(names, kept.name)] := kept;
            END LOOP;
        ELSE
            FOR kept IN SELECT * FROM api_key_counts WHERE key = charged AND name = ANY (names)
                ORDER BY name FOR UPDATE
            LOOP
                counts[array_position(names, kept.name)] := kept;
            END LOOP;
        END IF;
        -- Read after the rows: none of them is of a later time.
        now := coalesce(at, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
        admitted := TRUE;
        changes := FALSE;
        is_missing := FALSE;
        FOR place IN 1..cardinality(names) LOOP
            kept := counts[place];
            IF kept.key IS NULL THEN
                kept := ROW(charged, names[place], 0, 0, 0, '{}', '{}');
                is_missing := TRUE;
            ELSIF kinds[place] = 'rate' AND kept.arrival > now + most[place] THEN
                -- No further ahead than a whole burst: there a clock that was set back would leave it.
                kept.arrival := now + most[place];
                changes := TRUE;
            END IF;
            counts[place] := kept;
            admitted := admitted
                AND costs[place] <= api_key_remaining(kept, kinds[place], most[place], part_millis[place], now);
        END LOOP;
        EXIT WHEN look = 2 OR NOT (changes OR admitted AND costs[1] > 0);
        IF is_missing THEN
            -- The lock holds off the removal of the key, which removes its counts: none is made behind it. It is had
            -- before any of a count, as there.
            WITH held AS MATERIALIZED (SELECT id FROM api_keys WHERE id = charged FOR KEY SHARE)
                INSERT INTO api_key_counts (key, name)
                SELECT held.id, one.name FROM held, unnest(names) AS one(name) ORDER BY one.name COLLATE "C"
                ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    FOR place IN 1..cardinality(names) LOOP
        kept := counts[place];
        IF admitted AND costs[place] > 0 THEN
            kept := api_key_counted(kept, kinds[place], costs[place], part_millis[place], now);
            is_durable := is_durable OR kinds[place] <> 'rate';
            changes := TRUE;
        END IF;
        IF changes THEN
            UPDATE api_key_counts SET arrival = kept.arrival, period = kept.period, used = kept.used,
                parts = kept.parts, parts_used = kept.parts_used WHERE key = charged AND name = kept.name;
        END IF;
        arrival := kept.arrival;
        period := kept.period;
        used := kept.used;
        parts := kept.parts;
        parts_used := kept.parts_used;
        RETURN NEXT;
    END LOOP;
    -- For a quota that was charged the commit waits for the disk. What a crash can take from a rate alone is of its last
    -- moments, and not worth that wait.
    IF NOT is_durable THEN
        PERFORM set_config('synchronous_commit', 'off', TRUE);
    END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_charge(text, text[], text[], bigint[], bigint[], bigint[], bigint) FROM PUBLIC;
