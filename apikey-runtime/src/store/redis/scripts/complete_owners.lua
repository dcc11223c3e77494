-- One step: the owners of records, which an older release has indexed without adding the owner. KEYS: those of record_keys.lua, and
-- the records. ARGV: after those of change_log.lua, where the next step continues, and the ids of the records.
for i = 4, #ARGV do
    -- A key of another type is not a record.
    local owner = redis.pcall('HGET', KEYS[i + 3], 'owner')
    if type(owner) == 'string' then
        if redis.call('HEXISTS', owners, owner) == 0 then
            redis.call('HSET', owners, owner, '1 0 0')
        end
        redis.call('ZADD', index, 0, 'p' .. owner)
    end
end
redis.call('HSET', meta, 'owners', ARGV[3])
return { 'done' }
