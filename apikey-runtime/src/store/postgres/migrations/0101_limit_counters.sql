-- A denied charge writes nothing, an arrival time is lowered only by a charge that is admitted, and a number that no charge
-- can have written is an error. See limit/gcra.rs.

-- Returns the arrival time from which a charge of a rate starts; `burst` and `cost` are microseconds. A time that is later
-- than `clock` plus the burst by more than this charge takes up is capped such that the charge is just admitted.
CREATE FUNCTION api_key_charge_start(tat bigint, burst bigint, cost bigint, clock bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN tat <= clock + burst + cost THEN greatest(tat, clock)
        WHEN cost <= burst THEN clock + burst - cost
        ELSE clock + burst
    END
$$;

-- Rejects a counter that no charge can have written: taking it for another would forget what was used. The bounds are
-- those of limit/state.rs.
CREATE FUNCTION api_key_check_counter(counter api_key_limit_counters) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    is_broken boolean := counter.tat NOT BETWEEN 0 AND 257905900427369496
        OR counter.period NOT BETWEEN 0 AND 2932896
        OR counter.used < 0
        OR cardinality(counter.parts) <> cardinality(counter.parts_used);
BEGIN
    IF NOT is_broken AND cardinality(counter.parts) > 0 THEN
        -- Arrays of one dimension, from 1 on.
        is_broken := array_upper(counter.parts, 1) IS DISTINCT FROM cardinality(counter.parts)
            OR array_upper(counter.parts_used, 1) IS DISTINCT FROM cardinality(counter.parts_used)
            OR (SELECT count(DISTINCT part.number) < count(*)
                    OR bool_or((part.number BETWEEN 0 AND 253402300799999 AND part.used >= 0) IS NOT TRUE)
                FROM unnest(counter.parts, counter.parts_used) AS part(number, used));
    END IF;
    IF is_broken IS NOT FALSE THEN
        RAISE EXCEPTION 'a limit counter is broken; delete its row' USING ERRCODE = 'data_exception';
    END IF;
    RETURN TRUE;
END
$$;

-- Charges all limits, or none, and returns their counters afterwards, in the same order. For a rate, `most` (its burst)
-- and `costs` are microseconds. `at` is for tests of this function: the time, in place of the server's clock.
--
-- First it reads without a lock: a charge that is denied then was to be denied at that moment, and a flood of them
-- neither waits nor writes. Otherwise it locks the rows, always in the order of their names, and reads again: the
-- counters, and the time after the last lock. A charge that is denied only then may leave a new row of zeros, which counts
-- as none.
CREATE OR REPLACE FUNCTION api_key_charge(
    charged text, names text[], kinds text[], most bigint[], costs bigint[], part_millis bigint[], at bigint
) RETURNS TABLE (
    now bigint, admitted boolean, tat bigint, period bigint, used bigint, parts bigint[], parts_used bigint[]
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    counter api_key_limit_counters;
    counters api_key_limit_counters[];
    is_missing boolean;
    is_whole boolean;
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
        is_missing := FALSE;
        FOR place IN 1..cardinality(names) LOOP
            counter := counters[place];
            IF counter.key IS NULL THEN
                counter := ROW(charged, names[place], 0, 0, 0, '{}', '{}');
                counters[place] := counter;
                is_missing := TRUE;
            ELSE
                is_whole := api_key_check_counter(counter);
            END IF;
            IF kinds[place] = 'rate' THEN
                counter.tat := api_key_charge_start(counter.tat, most[place], costs[place], now);
            END IF;
            admitted := admitted
                AND costs[place] <= api_key_remaining(counter, kinds[place], most[place], part_millis[place], now);
        END LOOP;
        EXIT WHEN pass = 2 OR NOT (admitted AND costs[1] > 0);
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
            IF kinds[place] = 'rate' THEN
                counter.tat := api_key_charge_start(counter.tat, most[place], costs[place], now);
            ELSE
                is_durable := TRUE;
            END IF;
            counter := api_key_add_cost(counter, kinds[place], costs[place], part_millis[place], now);
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

-- Gives back up to `amount` of what was used of a quota: of its newest part first, and of each as much as those after it
-- have left of the amount.
CREATE FUNCTION api_key_refill(refilled text, limit_name text, amount bigint) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    held api_key_limit_counters;
    is_whole boolean;
BEGIN
    SELECT * INTO held FROM api_key_limit_counters WHERE key = refilled AND name = limit_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    is_whole := api_key_check_counter(held);
    UPDATE api_key_limit_counters AS counter SET used = greatest(counter.used - amount, 0),
        (parts, parts_used) = (
            SELECT coalesce(array_agg(part.number ORDER BY part.number), '{}'),
                coalesce(array_agg(least(part.used, part.so_far - amount) ORDER BY part.number), '{}')
            FROM (SELECT one.number, one.used, (sum(one.used) OVER (ORDER BY one.number DESC))::bigint AS so_far
                FROM unnest(counter.parts, counter.parts_used) AS one(number, used)) AS part
            WHERE part.so_far > amount)
        WHERE counter.key = refilled AND counter.name = limit_name;
END
$$;

REVOKE EXECUTE ON FUNCTION api_key_refill(text, text, bigint) FROM PUBLIC;
