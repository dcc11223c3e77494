-- Batches of usage lock the first hours of days after all other hours, as the roll-up does, which adds the other hours of a day to the
-- first one: a late batch and a roll-up of its day cannot wait for each other. This changes the function of each release.
DO $$
DECLARE
    definition text;
    sorted text;
BEGIN
    FOR definition IN SELECT pg_get_functiondef(added.oid) FROM pg_proc AS added
        JOIN pg_class AS counted ON counted.relnamespace = added.pronamespace
        WHERE added.proname = 'api_key_add_usage' AND counted.oid = 'api_key_usage'::regclass LOOP
        sorted := replace(definition, 'ORDER BY one.key COLLATE "C", one.hour,',
            'ORDER BY one.hour % 24 = 0, one.key COLLATE "C", one.hour,');
        IF sorted = definition THEN
            RAISE EXCEPTION 'the function api_key_add_usage is not that of an earlier release';
        END IF;
        EXECUTE sorted;
    END LOOP;
END
$$;
