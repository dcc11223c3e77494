-- One step: the notices of records that an older release has written. KEYS: those of record_keys.lua, and the records. ARGV: after
-- those of change_log.lua, where the next step continues, and the ids of the records.
for i = 4, #ARGV do
    local record = KEYS[i + 3]
    -- A key of another type is not a record.
    local fields = redis.pcall('HMGET', record, 'expires_at', 'notice', 'created_at')
    if not fields.err then
        complete_notice(record, ARGV[i], fields[1], fields[2], fields[3])
    end
end
redis.call('HSET', meta, 'notices', ARGV[3])
return { 'done' }
