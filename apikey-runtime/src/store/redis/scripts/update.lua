-- ARGV: the id, the expected version or nothing, how many of the rest are fields with values, those,
-- and fields to clear.
local id, expected, last, record = ARGV[3], ARGV[4], 5 + ARGV[5], KEYS[5]
if redis.call('EXISTS', record) == 0 then
    return { 'not_found' }
end
if expected ~= '' and redis.call('HGET', record, 'version') ~= expected then
    return { 'conflict' }
end
append_change(id, 'key')
unindex_record(record, id)
if last > 5 then
    redis.call('HSET', record, unpack(ARGV, 6, last))
end
if #ARGV > last then
    redis.call('HDEL', record, unpack(ARGV, last + 1))
end
increment_version(record)
index_record(record, id)
notify()
return { 'done' }
